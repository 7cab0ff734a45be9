# Opens a store, once, when it is asked by a line: answers how many microseconds that took, writers and all, and by how many
# bytes the VM has grown.

defmodule Bench.Peers.Open do
  def run([dir]) do
    {:ok, _} = Application.ensure_all_started(:event_seal)
    _ = IO.gets("")
    before = resident()
    {microseconds, _} = :timer.tc(fn -> open(dir) end)
    :erlang.garbage_collect(Process.whereis(Module.concat(__MODULE__, "Store")))
    IO.puts("#{microseconds} #{resident() - before}")
    _ = IO.gets("")
  end

  # An answer comes only when a writer has read what is its.
  defp open(dir) do
    {:ok, _} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir})
    {:error, %{reason: :not_found}} = EventSeal.retract(__MODULE__, "nobody", <<0::128>>)
  end

  defp resident do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    String.to_integer(kilobytes) * 1024
  end
end

Bench.Peers.Open.run(System.argv())
