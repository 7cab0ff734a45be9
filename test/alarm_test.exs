defmodule EventSeal.AlarmTest do
  use ExUnit.Case, async: false

  alias EventSeal.{Store, Verdict}

  @moduletag :capture_log

  test "a verification that finds a fault sets an alarm; one of everything that finds none clears it" do
    {:ok, _} = Application.ensure_all_started(:sasl)
    start_supervised!({EventSeal, name: Alarmed, store: Store.Memory, pool_window: 0})
    for n <- 1..9, do: EventSeal.append!(Alarmed, "p/1", %{when: n, kind: "vital", body: "body #{n}"})
    {:ok, 6} = EventSeal.seal(Alarmed, "p/1")
    {:ok, verdict} = EventSeal.verify(Alarmed)
    assert Verdict.ok?(verdict)
    assert alarms() == []

    block = edit(fn block -> :binary.replace(block, "body 2", "body X") end)
    for _ <- 1..2, do: {:ok, _} = EventSeal.verify(Alarmed)
    assert [%{faults: 1, first: :commitment}] = alarms()
    {:ok, verdict} = EventSeal.verify(Alarmed, flow: "p/1", range: 2..2)
    assert [%{flow: "p/1", position: 2, class: :commitment}] = verdict.faults

    edit(fn _ -> block end)
    {:ok, _} = EventSeal.verify(Alarmed, flow: "p/1")
    assert [_] = alarms()
    {:ok, _} = EventSeal.verify(Alarmed)
    assert alarms() == []
  end

  test "an alarm that an earlier tree of this name has set is cleared all the same" do
    {:ok, _} = Application.ensure_all_started(:sasl)
    start_supervised!({EventSeal, name: Alarmed, store: Store.Memory, pool_window: 0})
    for n <- 1..9, do: EventSeal.append!(Alarmed, "p/1", %{when: n, kind: "vital", body: "body #{n}"})
    {:ok, 6} = EventSeal.seal(Alarmed, "p/1")
    edit(fn block -> :binary.replace(block, "body 2", "body X") end)
    {:ok, _} = EventSeal.verify(Alarmed)
    assert [_] = alarms()
    stop_supervised!({EventSeal, Alarmed})
    start_supervised!({EventSeal, name: Alarmed, store: Store.Memory})
    {:ok, _} = EventSeal.verify(Alarmed)
    assert alarms() == []
  end

  @tag :tmp_dir
  test "damage to the store's files is in the verdict and in the alarm, whatever was lost by it", %{tmp_dir: dir} do
    {:ok, _} = Application.ensure_all_started(:sasl)
    opts = [name: Alarmed, store: {Store.Disk, dir: dir}, pool_window: 0]
    start_supervised!({EventSeal, opts})
    for n <- 1..3, do: EventSeal.append!(Alarmed, "p/#{n}", %{when: n, kind: "vital", body: "body #{n}"})
    stop_supervised!({EventSeal, Alarmed})

    [journal] = Path.wildcard(dir <> "/journal*")
    File.write!(journal, :binary.replace(File.read!(journal), "body 2", "body X"))
    start_supervised!({EventSeal, opts})
    {:ok, verdict} = EventSeal.verify(Alarmed)
    refute Verdict.ok?(verdict)
    assert [%{what: :damaged_group}] = verdict.damage
    assert [%{damage: 1}] = alarms()
    stop_supervised!({EventSeal, Alarmed})
    :alarm_handler.clear_alarm({EventSeal, Alarmed})
  end

  test "verify checks its options" do
    start_supervised!({EventSeal, name: Alarmed, store: Store.Memory})
    assert_raise ArgumentError, ~r/:range needs the option :flow/, fn -> EventSeal.verify(Alarmed, range: 1..2) end

    for flow <- [7, nil],
        do: assert({:error, %{reason: :invalid, field: :flow}} = EventSeal.verify(Alarmed, flow: flow))

    assert {:error, %{reason: :not_found}} = EventSeal.verify(Alarmed, flow: "p/1")
  end

  defp alarms, do: for({{EventSeal, Alarmed}, what} <- :alarm_handler.get_alarms(), do: what)

  # Behind the library's back: in the store's own table, by the store's own process.
  defp edit(fun) do
    name = EventSeal.Instance.store_name(Alarmed)
    test = self()

    :sys.replace_state(name, fn state ->
      blocks = :ets.lookup_element(name, :blocks, 2)
      [{key, first, count, block}] = :ets.lookup(blocks, {"p/1", 0})
      :ets.insert(blocks, {key, first, count, fun.(block)})
      send(test, {:before, block})
      state
    end)

    receive do: ({:before, block} -> block)
  end
end
