defmodule EventSeal.TelemetryTest do
  # A stub of six lines stands for the host's :telemetry; while it is there every test sends to it.
  use ExUnit.Case, async: false

  alias EventSeal.Store

  setup_all do
    Code.compile_string("""
    defmodule :telemetry do
      def execute(event, measurements, metadata), do: (for p <- :pg.get_members(__MODULE__, :all), do: send(p, {event, measurements, metadata})) && :ok
      def span(event, metadata, fun) do
        execute(event ++ [:start], %{system_time: 0}, metadata)
        {result, more} = fun.()
        execute(event ++ [:stop], %{duration: 0}, more)
        result
      end
    end
    """)

    {:ok, pg} = :pg.start(:telemetry)

    on_exit(fn ->
      Process.exit(pg, :kill)
      :code.purge(:telemetry)
      :code.delete(:telemetry)
    end)
  end

  test "every verb has its span, and the store its own" do
    :ok = :pg.join(:telemetry, :all, self())
    start_supervised!({EventSeal, name: Spans, store: Store.Memory})
    event = %{when: 1, kind: "vital", body: "secret"}
    {:ok, %{euid: euid}} = EventSeal.append(Spans, "p/1", event)
    assert_span(:append, :ok)
    assert_receive {[:event_seal, :store, :commit, :stop], %{duration: _}, %{result: :ok}}
    assert_receive {[:event_seal, :writer, :batch], %{requests: 1, operations: 3}, %{name: Spans, writer: _}}

    {:error, _} = EventSeal.append(Spans, "p/1", %{event | kind: ""})
    assert_span(:append, :invalid)

    for {verb, arguments, result} <- [
          {:append_many, [[{"p/1", event}]], :ok},
          {:amend, ["p/1", euid, %{body: "other"}], :ok},
          {:retract, ["p/1", <<0::128>>], :not_found},
          {:settle, ["p/1"], :ok},
          {:seal, ["p/2"], :not_found},
          {:close, ["p/1"], :ok},
          {:await_fixed, ["p/1", euid], :ok},
          {:event, ["p/1", euid], :ok},
          {:head, ["p/1"], :ok},
          {:stream, ["p/1"], :ok},
          {:flows, [], :ok},
          {:verify, [], :ok}
        ] do
      apply(EventSeal, verb, [Spans | arguments])
      assert_span(verb, result)
    end

    refute Enum.any?(received(), &(inspect(&1) =~ "secret"))
  end

  defp assert_span(verb, result) do
    assert_receive {[:event_seal, ^verb, :start], %{system_time: _}, %{name: Spans}}
    assert_receive {[:event_seal, ^verb, :stop], %{duration: _}, %{name: Spans, result: ^result}}
  end

  defp received do
    receive do
      message -> [message | received()]
    after
      0 -> []
    end
  end
end
