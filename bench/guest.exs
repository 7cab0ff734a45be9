# What a verification does to the VM that it runs in, at full speed and held to a budget: how long a ping between two
# processes takes, whether a scheduler was held for longer than 10 ms, how much memory is added, and how fast it ends when
# it is cancelled or its caller dies.
#
#     mix run --no-start bench/guest.exs [events]
#
# Events of 300 bytes in a thousand flows; what is measured runs in a VM of its own, over files in the page cache.

defmodule Bench.Guest do
  @body :binary.copy("b", 300)
  @flows 1_000

  def run([]), do: run(["1000000"])
  def run(["host", dir]), do: host(dir)

  def run([events]) do
    dir = Path.join(System.tmp_dir!(), "event_seal-guest-#{System.unique_integer([:positive])}")
    tree = start(dir)
    fill(div(String.to_integer(events), @flows * 20))
    Supervisor.stop(tree)
    {_, 0} = System.cmd("mix", ["run", "--no-start", __ENV__.file, "host", dir], into: IO.stream())
    File.rm_rf!(dir)
  end

  defp start(dir) do
    {:ok, _} = Application.ensure_all_started(:event_seal)
    {:ok, tree} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir}, pool_window: 0)
    tree
  end

  defp host(dir) do
    start(dir)
    measure("at rest", fn -> Process.sleep(2_000) end)
    verdict = measure("verifying", fn -> verify([]) end)
    rate = max(div(verdict.events, 5), 1)

    {microseconds, _} =
      :timer.tc(fn -> measure("verifying #{rate} events/s", fn -> verify(max_rate: {rate, :events}) end) end)

    IO.puts("  at #{div(verdict.events * 1_000_000, microseconds)} events/s")
    for opts <- [[], [max_rate: {100, :events}]], do: cancelled(opts)
    for wait <- [20, 50, 100], do: kill(wait)
  end

  defp verify(opts) do
    {:ok, %{fault_count: 0} = verdict} = EventSeal.verify(__MODULE__, opts)
    verdict
  end

  defp fill(rounds) do
    for round <- 1..rounds, flows <- Enum.chunk_every(1..@flows, 50) do
      events =
        for flow <- flows, n <- 1..20, do: {"patient/#{flow}", %{when: round * 20 + n, kind: "vital", body: @body}}

      {:ok, _} = EventSeal.append_many(__MODULE__, events)
    end

    for flow <- 1..@flows, do: {:ok, _} = EventSeal.close(__MODULE__, "patient/#{flow}")
  end

  defp measure(what, fun) do
    :erlang.system_monitor(self(), [{:long_schedule, 10}])
    pinger = Task.async(fn -> ping(echo(), []) end)
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    {before, peak} = {resident(), Task.async(fn -> peak(0) end)}
    {microseconds, result} = :timer.tc(fun)
    send(pinger.pid, :stop)
    send(peak.pid, :stop)
    times = Enum.sort(Task.await(pinger))
    :erlang.system_monitor(:undefined)
    at = fn share -> Enum.at(times, floor((length(times) - 1) * share)) end

    IO.puts(
      "#{what}: #{div(microseconds, 1000)} ms; #{length(times)} pings, median #{at.(0.5)} µs, 99 % #{at.(0.99)} µs, " <>
        "longest #{at.(1)} µs; #{long_schedules(0)} schedules over 10 ms; resident memory +#{Task.await(peak) - before} MB"
    )

    result
  end

  defp echo do
    spawn_link(fn -> Stream.repeatedly(fn -> receive do: ({from, ref} -> send(from, ref)) end) |> Stream.run() end)
  end

  defp ping(echo, times) do
    receive do
      :stop -> times
    after
      1 ->
        ref = make_ref()
        {time, _} = :timer.tc(fn -> send(echo, {self(), ref}) && receive(do: (^ref -> :ok)) end)
        ping(echo, [time | times])
    end
  end

  defp peak(highest) do
    receive do
      :stop -> highest
    after
      5 -> peak(max(highest, resident()))
    end
  end

  defp resident do
    [_, kilobytes] = Regex.run(~r/VmRSS:\s+(\d+) kB/, File.read!("/proc/self/status"))
    div(String.to_integer(kilobytes), 1024)
  end

  defp long_schedules(count) do
    receive do
      {:monitor, _pid, :long_schedule, _} -> long_schedules(count + 1)
    after
      0 -> count
    end
  end

  defp cancelled(opts) do
    times = Enum.sort(for _ <- 1..9, do: cancel(opts))
    IO.puts("cancelled, #{inspect(opts)}: answered #{Enum.at(times, 4)} µs later, at most #{List.last(times)} µs")
  end

  # From the word to the answer: no thread works on any more.
  defp cancel(opts) do
    test = self()
    progress = fn _ -> send(test, System.monotonic_time(:microsecond)) && :cancel end
    {:error, %{reason: :cancelled}} = EventSeal.verify(__MODULE__, [progress: progress] ++ opts)
    answered = System.monotonic_time(:microsecond)
    receive do: (at -> answered - at)
  end

  # The native threads are idle again when the processor time that they have used no longer grows: to 10 ms.
  defp kill(wait) do
    {pid, ref} = spawn_monitor(fn -> EventSeal.verify(__MODULE__) end)
    Process.sleep(wait)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
    started = System.monotonic_time(:microsecond)
    idle(ticks())
    took = div(System.monotonic_time(:microsecond) - started, 1000)
    IO.puts("caller killed after #{wait} ms: its threads were idle #{took} ms later")
  end

  # Ticks of 10 ms that the verification's threads have used.
  defp idle(before) do
    Process.sleep(10)
    now = ticks()
    if now > before, do: idle(now)
  end

  defp ticks do
    for task <- Path.wildcard("/proc/self/task/*"),
        {:ok, "event_seal" <> _} <- [File.read(task <> "/comm")],
        reduce: 0 do
      sum ->
        fields = (task <> "/stat") |> File.read!() |> String.split(") ") |> List.last() |> String.split(" ")
        sum + String.to_integer(Enum.at(fields, 11)) + String.to_integer(Enum.at(fields, 12))
    end
  end
end

Bench.Guest.run(System.argv())
