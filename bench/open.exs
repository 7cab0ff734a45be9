# How long a store takes to open, and how much memory that leaves used, for a number of events:
#
#     mix run --no-start bench/open.exs [events [events a flow [folder]]]
#
# A folder that is there is only opened. Patients are admitted, get so many events each (100), a thousand of them at a
# time, and four of five are discharged at last. Time and memory are of a VM of its own; the files are in the page cache,
# as after a restart of the host's application.

defmodule Bench.Open do
  @body :binary.copy("b", 300)
  @active 1_000

  def run([]), do: run(["1000000"])
  def run([events]), do: run([events, "100"])
  def run(["open", dir]), do: open(dir)

  def run([events, each | dir]) do
    dir = List.first(dir) || Path.join(System.tmp_dir!(), "event_seal-open-#{System.unique_integer([:positive])}")

    unless File.exists?(dir), do: fill(dir, String.to_integer(events), String.to_integer(each))
    for _ <- 1..3, do: {_, 0} = System.cmd("mix", ["run", "--no-start", __ENV__.file, "open", dir], into: IO.stream())
  end

  defp fill(dir, events, each) do
    {:ok, tree} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir}, pool_window: 0)
    {microseconds, _} = :timer.tc(fn -> for ward <- 0..(div(events, @active * each) - 1), do: ward(ward, each) end)

    IO.puts(
      "#{events} events written in #{div(microseconds, 1_000_000)} s, #{div(events * 1_000_000, microseconds)} events/s"
    )

    Supervisor.stop(tree)
  end

  # A thousand patients side by side, from four callers.
  defp ward(ward, each) do
    1..4
    |> Enum.map(fn caller -> Task.async(fn -> stay(ward, each, caller) end) end)
    |> Enum.each(&Task.await(&1, :infinity))
  end

  defp stay(ward, each, caller) do
    flows = for n <- 1..@active//1, rem(n, 4) + 1 == caller, do: "patient/#{ward * @active + n}"

    for n <- 1..(each - 1)//4 do
      {:ok, _} =
        EventSeal.append_many(
          __MODULE__,
          for(flow <- flows, more <- 0..3, do: {flow, %{when: n + more, kind: "vital", body: @body}})
        )
    end

    for flow <- flows, :erlang.phash2(flow, 5) > 0, do: {:ok, _} = EventSeal.close(__MODULE__, flow)
  end

  defp open(dir) do
    {:ok, _} = Application.ensure_all_started(:event_seal)
    before = resident()
    started = System.monotonic_time(:millisecond)
    {:ok, _} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir}, pool_window: 0)
    {:error, %{reason: :not_found}} = EventSeal.retract(__MODULE__, "nobody", <<0::128>>)
    took = System.monotonic_time(:millisecond) - started
    peak = memory("VmHWM")
    :erlang.garbage_collect(Process.whereis(Module.concat(__MODULE__, "Store")))

    IO.puts(
      "open: #{took} ms; memory #{div(:erlang.memory(:total), 1_048_576)} MB, resident +#{resident() - before} MB, peak #{peak} MB"
    )
  end

  defp resident, do: memory("VmRSS")

  defp memory(what) do
    [_, kilobytes] = Regex.run(~r/#{what}:\s+(\d+) kB/, File.read!("/proc/self/status"))
    div(String.to_integer(kilobytes), 1024)
  end
end

Bench.Open.run(System.argv())
