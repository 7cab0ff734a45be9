defmodule EventSeal.Faults.Tree do
  @moduledoc false
  # A running EventSeal that can be ended as `kill -9` ends it: all processes at once, and none of them has its say.
  alias EventSeal.Instance

  @doc "Starts a tree under a process of its own, which nobody is linked to."
  def start(opts) do
    me = self()
    ref = make_ref()

    host =
      spawn(fn ->
        Process.flag(:trap_exit, true)
        result = EventSeal.start_link(opts)
        send(me, {ref, result})
        with {:ok, tree} <- result, do: receive(do: ({:EXIT, ^tree, _reason} -> :ok))
      end)

    monitor = Process.monitor(host)

    receive do
      {^ref, {:ok, _tree}} -> :ok
      {^ref, {:error, reason}} -> {:error, reason}
      {:DOWN, ^monitor, _, _, reason} -> {:error, reason}
    end
  end

  @doc "Ends it in order."
  def stop(name) do
    with tree when tree != nil <- Process.whereis(name), do: Supervisor.stop(tree, :normal, :infinity)
    :ok
  catch
    :exit, _ -> :ok
  end

  @doc "Kills every process of it; what one of them starts meanwhile, too."
  def kill(name) do
    pids = processes(name)
    monitors = for pid <- pids, do: Process.monitor(pid)
    for pid <- pids, do: Process.exit(pid, :kill)
    for monitor <- monitors, do: receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))
    if pids == [], do: :ok, else: kill(name)
  end

  @doc "Kills one of its processes, counted round and round."
  def kill_one(name, index) do
    pids = processes(name)
    pids |> Enum.at(rem(index, length(pids))) |> Process.exit(:kill)
  end

  @doc "All processes of it, the supervisor and its host among them."
  def processes(name) do
    [name, Instance.store_name(name)] |> Enum.map(&Process.whereis/1) |> Enum.filter(&is_pid/1) |> linked([])
  end

  defp linked([], found), do: Enum.sort(found)

  defp linked([pid | pids], found) do
    with false <- pid in found, {:links, links} <- Process.info(pid, :links) do
      linked(Enum.filter(links, &is_pid/1) ++ pids, [pid | found])
    else
      _gone -> linked(pids, found)
    end
  end
end
