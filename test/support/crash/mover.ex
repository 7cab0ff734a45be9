defmodule EventSeal.Crash.Mover do
  @moduledoc false
  # What runs in a VM that moves a store to another and kills itself once so many operations on the new one have passed.

  alias EventSeal.{FaultyFiles, Migrate, Store}
  alias EventSeal.Crash.Load
  alias EventSeal.Faults.Seam

  @operations [:create, :pwrite, :datasync, :truncate, :rename, :delete, :make_dir, :sync_dir, :commit]

  @doc "The entry of the VM: `path` holds the plan as a term."
  def main(path) do
    plan = path |> File.read!() |> :erlang.binary_to_term()
    IO.puts("boot #{System.pid()}")
    {:ok, _} = Application.ensure_all_started(:event_seal)
    FaultyFiles.new()
    kill = fn _operation -> System.cmd("kill", ["-9", System.pid()]) end
    FaultyFiles.arm(%{on: @operations, passes: plan.passes, moment: plan.moment, act: {:halt, kill}})
    {:ok, _moved} = Migrate.run(start(:from, plan.from), start(:to, faulty(plan.to)))
  end

  defp faulty({Store.Disk, opts}), do: {Store.Disk, [files: FaultyFiles] ++ opts}
  defp faulty({Store.Postgres, opts}), do: {Store.Postgres, [client: Seam, sweep: :infinity] ++ opts}

  defp start(name, store) do
    {adapter, opts} = Load.store(store)
    {:ok, _} = Supervisor.start_link([adapter.child_spec({name, opts})], strategy: :one_for_one)
    Store.handle(adapter, name)
  end
end
