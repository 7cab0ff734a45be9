defmodule EventSeal.RunsTest do
  # Events that come together and settle at once are stored together: whatever is done next, they are single events.
  use ExUnit.Case, async: true

  alias EventSeal.{Error, Store, Verdict}

  @moduletag :tmp_dir

  test "a store that is opened with smaller blocks seals a run that it has as a whole", %{tmp_dir: dir} do
    run(dir, [block: [max_age: :infinity]], fn name -> {:ok, _} = EventSeal.append_many(name, items(1..50)) end)

    run(dir, [block: [max_age: :infinity, max_events: 10]], fn name ->
      {:ok, _} = EventSeal.append(name, "p/1", event(51))
      assert {:ok, %{settled: 51, fixed: 47, blocks: 1}} = EventSeal.head(name, "p/1")
      {:ok, _} = EventSeal.append_many(name, items(52..90))
      assert {:ok, %{settled: 90, fixed: 87}} = EventSeal.head(name, "p/1")
    end)

    whole(dir, 90)
  end

  test "so it is with blocks of fewer bytes, and in many steps", %{tmp_dir: dir} do
    steps = [1..8, 9..9, 10..40, 41..43, 44..60]

    for {step, bytes} <- Enum.zip(steps, [1_000_000, 3_000, 1, 2_000, 500_000]) do
      run(dir, [block: [max_age: :infinity, max_bytes: bytes]], fn name ->
        {:ok, _} = EventSeal.append_many(name, items(step))
        if step.first == 10, do: {:ok, _} = EventSeal.seal(name, "p/1")
      end)

      whole(dir, step.last)
    end
  end

  test "a run goes through a rotation of the journal, and through many", %{tmp_dir: dir} do
    run(dir, [block: [max_age: :infinity]], fn name ->
      for step <- [1..20, 21..22, 23..40] do
        {:ok, _} = EventSeal.append_many(name, items(step))
        :ok = Store.Disk.rotate(Module.concat(name, "Store"))
        assert Enum.map(EventSeal.stream(name, "p/1"), & &1.n) == Enum.to_list(1..step.last)
      end
    end)

    whole(dir, 40)
    run(dir, [], fn name -> assert {:ok, 37} = EventSeal.seal(name, "p/1") end)
    whole(dir, 40)
  end

  test "an event of a run is known by its euid, and is not amended any more", %{tmp_dir: dir} do
    run(dir, [block: [max_age: :infinity, max_events: 30]], fn name ->
      {:ok, receipts} = EventSeal.append_many(name, items(1..20))

      again = fn ->
        for {%{euid: euid, recorded_at: at}, n} <- Enum.with_index(receipts, 1) do
          assert {:ok, %{recorded_at: ^at}} = EventSeal.append(name, "p/1", event(n), euid: euid)
          assert {:error, %Error{reason: :conflict}} = EventSeal.append(name, "p/1", event(0), euid: euid)
          assert {:error, %Error{reason: :settled}} = EventSeal.retract(name, "p/1", euid)
          assert {:ok, %{n: ^n}} = EventSeal.event(name, "p/1", euid)
        end
      end

      again.()
      {:ok, _} = EventSeal.append_many(name, items(21..50))
      again.()
      for n <- [51, 52], do: {:ok, _} = EventSeal.append(name, "p/1", event(n), euid: <<n::128>>)
      again.()
      assert {:ok, %{settled: 52}} = EventSeal.head(name, "p/1")
    end)

    whole(dir, 52)
  end

  test "a window that begins, or ends, with the next start leaves the order as it was", %{tmp_dir: dir} do
    for {window, step} <- [{0, 1..10}, {60_000, 11..12}, {60_000, 13..14}, {0, 15..30}, {60_000, 31..33}] do
      run(dir, [pool_window: window, block: [max_age: :infinity, max_events: 6]], fn name ->
        {:ok, _} = EventSeal.append_many(name, items(step))
        if step.first == 13, do: EventSeal.settle(name, "p/1")
      end)
    end

    run(dir, [], fn name -> {:ok, _} = EventSeal.settle(name, "p/1") end)
    whole(dir, 33)
  end

  # All events stand in their order, and the store verifies.
  defp whole(dir, last) do
    run(dir, [block: [max_age: :infinity]], fn name ->
      events = Enum.to_list(EventSeal.stream(name, "p/1"))
      assert Enum.map(events, & &1.n) == Enum.to_list(1..last)
      assert Enum.map(events, & &1.body) == Enum.map(1..last, &"body #{&1}")
      assert {:ok, %Verdict{} = verdict} = EventSeal.verify(name)
      assert Verdict.ok?(verdict), inspect(verdict)
      assert verdict.events == last
    end)
  end

  defp run(dir, opts, fun) do
    name = :"runs-#{System.unique_integer([:positive])}"
    opts = Keyword.merge([name: name, store: {Store.Disk, dir: Path.join(dir, "store")}, pool_window: 0], opts)
    start_supervised!({EventSeal, opts})
    fun.(name)
    stop_supervised!({EventSeal, name})
  end

  defp items(range), do: for(n <- range, do: {"p/1", event(n)})
  defp event(n), do: %{when: n, kind: "vital", body: "body #{n}"}
end
