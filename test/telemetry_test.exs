defmodule EventSeal.TelemetryTest do
  # The host's :telemetry is not a dependency: without it nothing is emitted and nothing breaks, with it the ecosystem's
  # contract holds. This stub stands in for it, for the length of a test.
  use ExUnit.Case, async: false

  import EventSeal.StoreCase
  alias EventSeal.{Store, Telemetry}

  @stub (quote do
           def span(event, metadata, fun) do
             {result, stop} = fun.()
             send(:telemetry_test, {event, metadata, stop})
             result
           end

           def execute(event, measurements, metadata), do: send(:telemetry_test, {event, measurements, metadata}) && :ok
         end)

  setup do
    Process.register(self(), :telemetry_test)
    :ok
  end

  defp with_stub(fun) do
    Module.create(:telemetry, @stub, Macro.Env.location(__ENV__))
    fun.()
  after
    :code.purge(:telemetry)
    :code.delete(:telemetry)
  end

  test "without :telemetry the function is called and nothing else" do
    refute Telemetry.load()
    assert Telemetry.span([:event_seal, :x], %{}, fn -> {:error, :whatever} end) == {:error, :whatever}
    assert Telemetry.execute([:event_seal, :x], %{}, %{}) == :ok
  end

  test "with it every callback of a store is a span that says how it ended" do
    with_stub(fn ->
      store = start!({Store.Memory, []})
      metadata = %{store: store.name, module: Store.Memory}
      :ok = Store.commit(store, [{:open, "a", "g"}])
      stop = Map.put(metadata, :result, :ok)
      assert_received {[:event_seal, :store, :commit], ^metadata, ^stop}
      {:error, _} = Store.head(store, "b")
      stop = Map.put(metadata, :result, :not_found)
      assert_received {[:event_seal, :store, :head], ^metadata, ^stop}
      Store.recover(store, [])
      Store.blocks(store, "a", {1, 1})
      Store.flows(store, nil, 1)
      Store.log(store, :size)
      Store.lease(store, [])

      for callback <- [:recover, :blocks, :flows, :log, :lease],
          do: assert_received({[:event_seal, :store, ^callback], _, _})

      Telemetry.execute([:event_seal, :x], %{count: 1}, %{})
      assert_received {[:event_seal, :x], %{count: 1}, %{}}
    end)
  end
end
