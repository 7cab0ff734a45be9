# A thousand callers that append as fast as they are answered, to a store whose disk is made slow: every sync takes so
# many ms more. Memory and latency stay bounded, the rest is refused at once; then the disk is well again.
#
#     mix run --no-start bench/overload.exs [seconds [ms a sync]]

defmodule Bench.Overload.SlowFiles do
  # EventSeal.Segments.Files, on a disk that is slow.
  alias EventSeal.Segments.Files

  for {name, arity} <- Files.behaviour_info(:callbacks), name != :datasync do
    arguments = Macro.generate_arguments(arity, __MODULE__)
    defdelegate unquote(name)(unquote_splicing(arguments)), to: Files
  end

  def datasync(fd) do
    Process.sleep(:persistent_term.get(__MODULE__))
    Files.datasync(fd)
  end
end

defmodule Bench.Overload do
  alias Bench.Overload.SlowFiles

  @callers 1_000
  @body :binary.copy("b", 300)

  def run([]), do: run(["10"])
  def run([seconds]), do: run([seconds, "50"])

  def run([seconds, slow]) do
    dir = Path.join(System.tmp_dir!(), "event_seal-overload-#{System.unique_integer([:positive])}")
    :persistent_term.put(SlowFiles, 0)
    options = [store: {EventSeal.Store.Disk, dir: dir, files: SlowFiles}, pool_window: 0, queue: [max_events: 100]]
    {:ok, tree} = EventSeal.start_link([name: __MODULE__] ++ options)
    calls = :ets.new(:calls, [:public, :bag, write_concurrency: true])
    before = :erlang.memory(:total)
    callers = for caller <- 1..@callers, do: spawn_link(fn -> append(caller, calls) end)
    part("before", calls, 2_000)
    :persistent_term.put(SlowFiles, String.to_integer(slow))
    part("slow", calls, String.to_integer(seconds) * 1000)
    IO.puts("  memory +#{div(:erlang.memory(:total) - before, 1_048_576)} MB, the callers and this table included")
    :persistent_term.put(SlowFiles, 0)
    for second <- 1..3, do: part("second #{second} of relief", calls, 1_000)
    for pid <- callers, do: Process.unlink(pid) && Process.exit(pid, :kill)
    Supervisor.stop(tree)
    File.rm_rf!(dir)
  end

  defp append(caller, calls) do
    started = System.monotonic_time(:microsecond)
    result = EventSeal.append(__MODULE__, "patient/#{caller}", %{when: 1, kind: "vital", body: @body})
    took = System.monotonic_time(:microsecond) - started

    case result do
      {:ok, _} -> :ets.insert(calls, {:accepted, took})
      {:error, %{reason: :overloaded}} -> :ets.insert(calls, {:refused, took}) && Process.sleep(20)
    end

    append(caller, calls)
  end

  defp part(name, calls, milliseconds) do
    :ets.delete_all_objects(calls)
    Process.sleep(milliseconds)

    for kind <- [:accepted, :refused] do
      times = Enum.sort(for {_, took} <- :ets.lookup(calls, kind), do: took)
      at = fn share -> Float.round((Enum.at(times, floor((length(times) - 1) * share)) || 0) / 1000, 2) end
      rate = div(length(times) * 1000, milliseconds)
      IO.puts("#{name}: #{kind} #{rate}/s, median #{at.(0.5)} ms, 99 % #{at.(0.99)} ms, longest #{at.(1)} ms")
    end
  end
end

Bench.Overload.run(System.argv())
