defmodule EventSeal.WriterTest do
  # What a writer does beside its answers: its timer, its counters, what it keeps.
  use ExUnit.Case, async: false

  alias EventSeal.{FaultyFiles, Instance, ManualClock, Store}
  alias EventSeal.Writer.Watches

  setup context do
    clock = ManualClock.start!()
    name = Module.concat(__MODULE__, "T#{System.unique_integer([:positive])}")
    opts = [name: name, store: Store.Memory, clock: clock, writers: 4] ++ Map.get(context, :options, [])
    start_supervised!({EventSeal, opts})
    %{name: name, clock: clock}
  end

  test "a retracted event at the pool's front leaves no timer that is for ever due", %{name: name, clock: clock} do
    %{euid: first} = EventSeal.append!(name, "p/1", vital(1))
    ManualClock.advance(clock, 1_000)
    EventSeal.append!(name, "p/1", vital(2))
    {:ok, _} = EventSeal.retract(name, "p/1", first)
    ManualClock.advance(clock, 299_000)
    assert {:ok, %{pool: 1}} = asked(name, "p/1")
    # The clock stands still: whoever asks to be woken now would be, over and over, by a clock that goes.
    assert ManualClock.waits(clock) == [1_000_000]
    ManualClock.advance(clock, 1_000)
    assert {:ok, %{pool: 0, settled: 1}} = asked(name, "p/1")
  end

  test "what an append_many over several writers counts in, it counts out, were it all there before", %{name: name} do
    items = for n <- 1..40, do: {"p/#{n}", vital(n), euid: <<n::128>>}
    for _ <- 1..3, do: assert({:ok, _} = EventSeal.append_many(name, items))
    assert {:error, %{reason: :conflict}} = EventSeal.append_many(name, [{"p/1", vital(9), euid: <<1::128>>} | items])
    assert waiting(name) == List.duplicate({0, 0}, 4)
  end

  test "a writer keeps no more of a caller's flow id than the id", %{name: name} do
    large = :binary.copy("x", 1_000_000)
    flow = binary_part(large, 100, 200)
    {:ok, _} = EventSeal.append(name, flow, vital(1))
    {:ok, _} = EventSeal.append(name, flow, vital(2))
    instance = Instance.fetch!(name)
    {:ok, writer, _waiting} = Instance.writer(instance, Instance.owner(instance, flow))
    :erlang.garbage_collect(writer)
    {:binary, binaries} = Process.info(writer, :binary)
    assert for({_, size, _} <- binaries, size >= byte_size(large), do: size) == []
  end

  test "waiting for an event takes no longer than its time-out, however busy the writer is", %{name: name} do
    %{euid: euid} = EventSeal.append!(name, "p/1", vital(1))
    {:ok, _} = EventSeal.close(name, "p/1")
    %{euid: open} = EventSeal.append!(name, "p/2", vital(1))
    for writer <- writers(name), do: :sys.suspend(writer)
    assert {:ok, %{stage: :fixed}} = EventSeal.await_fixed(name, "p/1", euid, timeout: 0)
    assert {:error, %{reason: :timeout}} = EventSeal.await_fixed(name, "p/2", open, timeout: 10)
    for writer <- writers(name), do: :sys.resume(writer)
    assert for(writer <- writers(name), do: map_size(:sys.get_state(writer).watches.by_ref)) == [0, 0, 0, 0]
  end

  test "who waits for an event looks again when it is not known what a commit did" do
    [one, other] = [make_ref(), make_ref()]
    watches = %Watches{} |> Watches.put("p/1", <<1::128>>, one, self()) |> Watches.put("p/2", <<2::128>>, other, self())
    assert %{by_ref: %{^other => _}} = Watches.unsure(watches, ["p/1", "p/3"])
    assert_received {^one, :left}
    refute_received {^other, :left}
  end

  test "who waits and dies is forgotten" do
    pids = for _ <- 1..3, do: spawn(fn -> Process.sleep(:infinity) end)
    watches = Enum.reduce(pids, %Watches{}, &Watches.put(&2, "p/1", <<1::128>>, make_ref(), &1))
    for pid <- pids, do: Process.exit(pid, :kill)

    watches =
      for _ <- pids, reduce: watches do
        watches ->
          assert_receive {:DOWN, monitor, :process, _, _}
          watches |> Watches.down(monitor) |> Watches.down(make_ref())
      end

    assert watches == %Watches{}
  end

  test "append_many raises for what is no list, and does not show it", %{name: name} do
    for items <- [%{body: "secret"}, [{"p/1", vital(1)} | %{body: "secret"}]] do
      error = assert_raise ArgumentError, fn -> EventSeal.append_many(name, items) end
      refute Exception.message(error) =~ "secret"
    end
  end

  @tag :tmp_dir
  @tag :capture_log
  test "a writer that begins while the disk is full goes on when it is not", %{tmp_dir: dir} do
    %{name: name} = on_disk(dir)
    EventSeal.append!(name, "p/1", vital(1))
    FaultyFiles.fail(:pwrite, "journal", :enospc, times: 8)

    for writer <- writers(name) do
      ref = Process.monitor(writer)
      Process.exit(writer, :kill)
      assert_receive {:DOWN, ^ref, _, _, _}
    end

    appended? = fn _ -> match?({:ok, _}, EventSeal.append(name, "p/1", vital(2))) or Process.sleep(10) != :ok end
    assert Enum.any?(1..200, appended?)
  end

  @tag :tmp_dir
  @tag :capture_log
  test "a store that is not written any more is not asked over and over", %{tmp_dir: dir} do
    %{name: name, clock: clock} = on_disk(dir)
    for n <- 1..9, do: EventSeal.append!(name, "p/#{n}", vital(n))
    FaultyFiles.fail(:datasync, "journal", :eio)
    FaultyFiles.fail(:create, "journal", :enospc)
    assert {:error, %{reason: :read_only}} = EventSeal.append(name, "p/1", vital(2))

    for _ <- 1..3 do
      ManualClock.advance(clock, 300_000)
      for n <- 1..9, do: assert({:error, %{reason: :read_only}} = EventSeal.append(name, "p/#{n}", vital(2)))
    end

    assert ManualClock.waits(clock) == []
    assert {:ok, %{pool: 1}} = EventSeal.head(name, "p/1")
  end

  defp on_disk(dir) do
    FaultyFiles.start()
    clock = ManualClock.start!()
    name = Module.concat(__MODULE__, "D#{System.unique_integer([:positive])}")
    store = {Store.Disk, dir: Path.join(dir, "store"), files: FaultyFiles}
    start_supervised!({EventSeal, name: name, store: store, clock: clock, writers: 4}, id: name)
    %{name: name, clock: clock}
  end

  defp vital(n), do: %{when: n, kind: "vital", body: "body #{n}"}

  # Once a writer has answered, it has done what the clock had set going before.
  defp asked(name, flow) do
    EventSeal.retract(name, flow, <<0::128>>)
    EventSeal.head(name, flow)
  end

  defp waiting(name) do
    for {:ok, _pid, waiting} <- enlisted(name), do: {:counters.get(waiting, 1), :counters.get(waiting, 2)}
  end

  defp writers(name), do: for({:ok, pid, _waiting} <- enlisted(name), do: pid)

  defp enlisted(name) do
    instance = Instance.fetch!(name)
    for index <- 0..(instance.writers - 1), do: Instance.writer(instance, index)
  end
end
