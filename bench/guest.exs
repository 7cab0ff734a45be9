# What a verification at full speed does to the VM that it runs in: how long a ping between two processes takes, whether a
# scheduler was held for longer than 10 ms, how much memory is added, and how fast the run ends when its caller dies.
#
#     mix run --no-start bench/guest.exs [events]

defmodule Bench.Guest do
  @body :binary.copy("b", 300)
  @flows 1_000

  def run([]), do: run(["1000000"])

  def run([events]) do
    dir = Path.join(System.tmp_dir!(), "event_seal-guest-#{System.unique_integer([:positive])}")
    {:ok, tree} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir}, pool_window: 0)
    fill(div(String.to_integer(events), @flows * 20))
    measure("at rest", fn -> Process.sleep(2_000) end)
    measure("verifying", fn -> {:ok, %{fault_count: 0}} = EventSeal.verify(__MODULE__) end)
    cancel()
    Supervisor.stop(tree)
    File.rm_rf!(dir)
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
    {before, peak} = {resident(), Task.async(fn -> peak(0) end)}
    {microseconds, _} = :timer.tc(fun)
    send(pinger.pid, :stop)
    send(peak.pid, :stop)
    times = Enum.sort(Task.await(pinger))
    :erlang.system_monitor(:undefined)
    at = fn share -> Enum.at(times, floor((length(times) - 1) * share)) end

    IO.puts(
      "#{what}: #{div(microseconds, 1000)} ms; #{length(times)} pings, median #{at.(0.5)} µs, 99 % #{at.(0.99)} µs, " <>
        "longest #{at.(1)} µs; #{long_schedules(0)} schedules over 10 ms; resident memory +#{Task.await(peak) - before} MB"
    )
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
      20 -> peak(max(highest, resident()))
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

  # The native threads are idle again when the processor time of the whole VM no longer grows.
  defp cancel do
    for wait <- [20, 50, 100] do
      {pid, ref} = spawn_monitor(fn -> EventSeal.verify(__MODULE__) end)
      Process.sleep(wait)
      Process.exit(pid, :kill)
      receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
      started = System.monotonic_time(:microsecond)
      idle(ticks())

      IO.puts(
        "killed after #{wait} ms: its threads were idle #{div(System.monotonic_time(:microsecond) - started, 1000)} ms later"
      )
    end
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
