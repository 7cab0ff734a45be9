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

  @tag :tmp_dir
  test "signing receipts is a span that says how many there are and how it ended", %{tmp_dir: dir} do
    [log, path] = for file <- ~w(log.key receipts.key), do: Path.join(dir, file)
    {:ok, _} = EventSeal.Signer.File.generate(log, "clinic.example/log")
    {:ok, _} = EventSeal.Signer.File.generate(path, "clinic.example/receipts", :receipts)
    signer = EventSeal.TokenSigner.start!(path)

    with_stub(fn ->
      opts = [store: Store.Memory, checkpoints: [signer: {EventSeal.Signer.File, log}], receipts: [signer: signer]]
      start_supervised!({EventSeal, [name: __MODULE__] ++ opts})
      items = for n <- 1..3, do: {"p/#{n}", %{when: n, kind: "vital"}}
      {:ok, _} = EventSeal.append_many(__MODULE__, items)
      assert_received {[:event_seal, :receipts], %{name: __MODULE__, receipts: 3}, %{result: :ok}}
      File.rm!(path)
      ExUnit.CaptureLog.capture_log(fn -> {:ok, _} = EventSeal.append_many(__MODULE__, items) end)
      assert_received {[:event_seal, :receipts], %{receipts: 3}, %{result: :storage}}
    end)
  end
end
