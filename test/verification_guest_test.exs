defmodule EventSeal.VerificationGuestTest do
  # A verification beside a host's own work: it keeps to its budget, and ends when it is not wanted any more. Where it
  # must end, its budget is so small that it would go on for hours.
  use ExUnit.Case, async: true

  alias EventSeal.{Chain, Error, Event, Native, Store, Verdict}

  @hours {1, :events}

  setup do
    name = :"guest_#{System.unique_integer([:positive])}"
    start_supervised!({EventSeal, name: name, store: Store.Memory, pool_window: 0})
    events = for n <- 1..16, flow <- 1..50, do: {"patient/#{flow}", %{when: n, kind: "vital", body: "37.2 °C"}}
    {:ok, _} = EventSeal.append_many(name, events)
    for flow <- 1..50//2, do: {:ok, _} = EventSeal.close(name, "patient/#{flow}")
    %{name: name}
  end

  test "a budget of events holds over all flows, threads and native calls", %{name: name} do
    test = self()
    calls = fn counts -> send(test, {:call, counts.flows}) end
    {took, verdict} = timed(name, max_rate: {2_000, :events}, threads: 4, progress: calls)
    assert %Verdict{flows: 50, events: 825, fault_count: 0} = verdict
    assert took >= 825 / 2_000
    assert_received {:call, flows} when flows in 1..49
  end

  test "a budget of bytes holds over all flows, threads and native calls", %{name: name} do
    {:ok, %{bytes: bytes} = whole} = EventSeal.verify(name)
    {took, verdict} = timed(name, max_rate: {4 * bytes, :bytes}, threads: 4)
    assert took >= 1 / 4
    assert %{verdict | microseconds: 0} == %{whole | microseconds: 0}
  end

  test "under a budget, time that is given still ends between two flows, and the rest is gone on with", %{name: name} do
    {:ok, %Verdict{next: next, flows: flows}} = EventSeal.verify(name, max_rate: {500, :events}, for: 1)
    assert next != nil and flows < 50
    assert {:ok, %Verdict{next: nil, flows: rest}} = EventSeal.verify(name, after: next)
    assert flows + rest == 50
  end

  test "a budget is one of events or of bytes", %{name: name} do
    for wrong <- [0, 20_000, {0, :events}, {1.5, :events}, {1, :flows}, {Integer.pow(2, 53), :bytes}, {:events, 1}] do
      error = assert_raise ArgumentError, fn -> EventSeal.verify(name, max_rate: wrong) end
      assert error.message =~ "option :max_rate must be {count, :events} or {count, :bytes}"
    end
  end

  test "progress that says so cancels at once, and no message comes later", %{name: name} do
    assert {:error, %Error{reason: :cancelled}} =
             EventSeal.verify(name, max_rate: @hours, progress: fn _ -> :cancel end)

    assert {:error, %Error{reason: :cancelled}} = EventSeal.verify(name, progress: fn _ -> :cancel end)
    refute_received _
    assert {:ok, %Verdict{fault_count: 0}} = EventSeal.verify(name)
  end

  test "progress that raises ends the verification, and no message comes later", %{name: name} do
    assert_raise RuntimeError, "enough", fn ->
      EventSeal.verify(name, max_rate: @hours, progress: fn _ -> raise "enough" end)
    end

    refute_received _
  end

  test "a caller that dies leaves its threads free" do
    pool = Native.pool(1, @hours)
    test = self()
    {pid, monitor} = spawn_monitor(fn -> send(test, {:worked, worked(verify(pool))}) && Process.sleep(:infinity) end)
    assert_receive {:worked, 4_000 = _events}, 10_000
    # The one thread rests for an hour: this is answered when it is free again.
    job = Native.verify(pool, [], {false, 1}, nil, :second)
    refute_received {:second, _, _, _, _}
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    assert_receive {:second, :done, _, _, _}, 10_000
    assert Native.progress(job) == {0, 0}
  end

  test "a job that is cancelled rests no longer" do
    pool = Native.pool(1, @hours)
    job = verify(pool)
    assert :ok = Native.cancel(job)
    assert_receive {:first, :failed, :cancelled}, 10_000
  end

  defp timed(name, opts) do
    started = System.monotonic_time(:microsecond)
    {:ok, verdict} = EventSeal.verify(name, opts)
    {(System.monotonic_time(:microsecond) - started) / 1_000_000, verdict}
  end

  defp worked(job) do
    with {0, 0} <- Native.progress(job), do: worked(job), else: ({events, _bytes} -> events)
  end

  defp verify(pool) do
    {:ok, chain} = Chain.open("patient/1", created_at: 0)

    drafts =
      for n <- 1..4_003 do
        {:ok, draft} = Event.draft(%{when: n, kind: "vital", body: "body"}, euid: <<n::128>>)
        Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
      end

    {:ok, frames} = Chain.frames(:sha256, drafts)
    {:ok, chain, _} = Chain.settle(chain, frames)
    {:ok, block, _chain} = Chain.seal(chain, sealed_at: 5_000, max_events: 4_000)
    Native.verify(pool, [{"patient/1", [block], nil, {nil, nil, nil}, true, false}], {true, 1}, nil, :first)
  end
end
