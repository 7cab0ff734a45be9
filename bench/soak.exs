# A store with many open flows, some closed and others begun all the time: what its journal, its memory and a commit's
# latency do over time. Flat is what is wanted. The journal is a quarter of its usual size, so that it is rotated more often.
#
#     mix run --no-start bench/soak.exs [seconds [open flows]]

defmodule Bench.Soak do
  @body :binary.copy("b", 200)
  @batch 500
  @callers 4

  def run([]), do: run(["60"])
  def run([seconds]), do: run([seconds, "100000"])

  def run([seconds, flows]) do
    {seconds, flows} = {String.to_integer(seconds), String.to_integer(flows)}
    dir = Path.join(System.tmp_dir!(), "event_seal-soak-#{System.unique_integer([:positive])}")

    {:ok, tree} =
      EventSeal.start_link(
        name: __MODULE__,
        store: {EventSeal.Store.Disk, dir: dir, journal_bytes: 33_554_432},
        pool_window: 0
      )

    stop = System.monotonic_time(:millisecond) + seconds * 1000
    watcher = Task.async(fn -> watch(dir, System.monotonic_time(:millisecond), 0) end)

    times =
      1..@callers
      |> Enum.map(&Task.async(fn -> append(&1, div(flows, @callers), stop) end))
      |> Enum.flat_map(&Task.await(&1, :infinity))

    send(watcher.pid, :stop)
    journal = Task.await(watcher)
    sorted = List.to_tuple(Enum.sort(times))
    at = fn share -> elem(sorted, min(floor(tuple_size(sorted) * share), tuple_size(sorted) - 1)) / 1000 end

    IO.puts(
      "commits of #{@batch}: #{tuple_size(sorted)}; median #{at.(0.5)} ms, 99 % #{at.(0.99)} ms, longest #{at.(1)} ms; longest journal #{journal} MB"
    )

    {:ok, verdict} = EventSeal.verify(__MODULE__)
    IO.puts("#{verdict.events} events in #{verdict.flows} flows verified, #{verdict.fault_count} faults")
    Supervisor.stop(tree)
    File.rm_rf!(dir)
  end

  # The flows of a caller are numbers; one in two hundred that are touched is closed, and a new number takes its place.
  defp append(caller, flows, stop) do
    open = :ets.new(:open, [:set])
    :ets.insert(open, for(slot <- 1..flows, do: {slot, 0}))
    append(caller, {open, flows}, stop, [])
  end

  defp append(caller, {open, flows} = held, stop, times) do
    if System.monotonic_time(:millisecond) >= stop do
      times
    else
      slots = for _ <- 1..@batch, do: :rand.uniform(flows)
      events = for slot <- slots, do: {flow(caller, slot, open), %{when: 1, kind: "vital", body: @body}}
      {time, {:ok, _}} = :timer.tc(fn -> EventSeal.append_many(__MODULE__, events) end)

      for slot <- Enum.uniq(slots), :rand.uniform(200) == 1 do
        {:ok, _} = EventSeal.close(__MODULE__, flow(caller, slot, open))
        :ets.update_counter(open, slot, 1)
      end

      append(caller, held, stop, [time | times])
    end
  end

  defp flow(caller, slot, open), do: "patient/#{caller}.#{slot}.#{:ets.lookup_element(open, slot, 2)}"

  defp watch(dir, started, longest) do
    receive do
      :stop -> div(longest, 1_048_576)
    after
      100 -> watch(dir, started, max(longest, look(dir, started)))
    end
  end

  defp look(dir, started) do
    journal = dir |> Path.join("journal-*") |> Path.wildcard() |> Enum.map(&size/1) |> Enum.max(fn -> 0 end)
    elapsed = System.monotonic_time(:millisecond) - started

    if rem(div(elapsed, 100), 50) == 0 do
      segments = dir |> Path.join("segments/*.segment") |> Path.wildcard() |> Enum.map(&size/1) |> Enum.sum()

      IO.puts(
        "#{div(elapsed, 1000)} s: journal #{div(journal, 1_048_576)} MB, segments #{div(segments, 1_048_576)} MB, VM #{div(:erlang.memory(:total), 1_048_576)} MB"
      )
    end

    journal
  end

  defp size(path), do: with({:ok, %{size: size}} <- File.stat(path), do: size, else: (_gone -> 0))
end

Bench.Soak.run(System.argv())
