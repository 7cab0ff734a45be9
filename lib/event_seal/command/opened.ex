defmodule EventSeal.Command.Opened do
  @moduledoc false
  # Stores as commands need them: open while a function runs, and closed after it, whatever becomes of it.

  alias EventSeal.{Checkpoint, Store}
  alias EventSeal.Command.Place

  @tries 3

  @doc "A reader takes no lock: the host that holds the store goes on."
  def with_reader(disk, fun), do: with_store(disk, :read, fun)

  @doc "A verification store, by its folder or URL."
  def with_apart(named, fun), do: with_store(Place.at(named), :read, __MODULE__.Apart, fun)

  @doc "Opened in a mode of `EventSeal.Store.Disk`; under a name of its own where two are open at once."
  def with_store(disk, mode, fun),
    do: with_store(disk, mode, if(mode == :write, do: __MODULE__.Saved, else: __MODULE__.Reader), fun)

  def with_store(disk, mode, name, fun) do
    with {:ok, {module, opts}} <- Place.adapter(disk, mode: mode),
         do: with_child(module.child_spec({name, opts}), fn -> fun.(Store.handle(module, name)) end)
  end

  @doc "Under a supervisor of its own; what cannot start is an error."
  def with_child(child, fun) do
    trapping = Process.flag(:trap_exit, true)

    try do
      with {:ok, supervisor} <- Supervisor.start_link([child], strategy: :one_for_one) do
        try do
          fun.()
        after
          Supervisor.stop(supervisor)
        end
      end
    after
      Process.flag(:trap_exit, trapping)
    end
  end

  @doc """
  The verification store is opened first: whatever it shows is in the events' store then. A checkpoint that a host signs in
  between covers more than it shows: then both are opened again.
  """
  def with_both(disk, apart, tries \\ @tries, fun) do
    opened =
      with_apart(apart, fn apart ->
        with_reader(disk, fn store ->
          if tries == 1 or covered?(store, apart), do: fun.(store, apart), else: :again
        end)
      end)

    if opened == :again, do: with_both(disk, apart, tries - 1, fun), else: opened
  end

  defp covered?(store, apart) do
    with {:ok, %{size: size}} <- Checkpoint.last(store),
         {:ok, %{leaves: leaves}} when leaves < size <- Store.log(apart, :size),
         do: false,
         else: (_covered -> true)
  end
end
