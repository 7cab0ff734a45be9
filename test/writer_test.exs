defmodule EventSeal.WriterTest do
  # What a writer does beside its answers: its timer, its counters, what it keeps.
  use ExUnit.Case, async: true

  alias EventSeal.{Instance, ManualClock, Store}

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

  defp vital(n), do: %{when: n, kind: "vital", body: "body #{n}"}

  # Once a writer has answered, it has done what the clock had set going before.
  defp asked(name, flow) do
    EventSeal.retract(name, flow, <<0::128>>)
    EventSeal.head(name, flow)
  end

  defp waiting(name) do
    instance = Instance.fetch!(name)

    for index <- 0..(instance.writers - 1) do
      {:ok, _pid, waiting} = Instance.writer(instance, index)
      {:counters.get(waiting, 1), :counters.get(waiting, 2)}
    end
  end
end
