defmodule Bench.Rows.Postgres do
  @moduledoc false
  # EventSeal over `EventSeal.Store.Postgres`, durable, on a server of the bench's own: batches beside a bare COPY of the same
  # bytes, single callers beside a trigger that chains (and the forks that it makes), a verification beside a window query that
  # recomputes the same events. What settles and is sealed counts in.

  alias Bench.{Callers, Database, Postgres, Rows, Samples, Store}

  @bytes 300
  @body :binary.copy("b", @bytes)
  @batch 1_000
  @batch_callers 4
  @callers 64
  # Several write of the same patient at once.
  @flows 16

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for {rows, contenders} <- [
          {["pg_append_batch_1000"], &batches/2},
          {["pg_append_64", "pg_forks"], &singles/2},
          {["pg_verify"], &verified/2}
        ] do
      {rows, fn -> served(rows, options, contenders) end}
    end
  end

  # Without a server nothing can be measured here, ours neither.
  defp served(rows, options, contenders) do
    Store.in_folder(fn dir ->
      case start(dir) do
        {:ok, postgres} ->
          try do
            contenders.(postgres, options)
          after
            Postgres.stop(postgres)
          end

        {:missing, _} = missing ->
          Samples.take([{Enum.map(rows, &{&1, "event_seal"}), missing}], 1)
      end
    end)
  end

  defp start(dir) do
    {:ok, Postgres.start(dir)}
  rescue
    error -> Samples.missing(error)
  end

  defp others(%{ours: true}, _contenders), do: []
  defp others(_options, contenders), do: contenders

  defp batches(postgres, %{seconds: seconds} = options) do
    ours = fn -> appended(postgres, @batch_callers, @batch_callers, @batch, seconds) |> hd() end
    copy = fn -> Database.copy(postgres, @batch_callers, @batch, seconds, @bytes) end

    Samples.take(
      [{[{"pg_append_batch_1000", "event_seal"}], ours}] ++
        others(options, [{[{"pg_append_batch_1000", "postgresql_copy"}], copy}]),
      options.samples
    )
  end

  defp singles(postgres, %{seconds: seconds} = options) do
    keys = fn who -> [{"pg_append_64", who}, {"pg_forks", who}] end
    ours = fn -> appended(postgres, @callers, @flows, 1, seconds) end
    naive = fn -> Database.naive(postgres, @callers, @flows, seconds, @bytes) end

    Samples.take([{keys.("event_seal"), ours}] ++ others(options, [{keys.("trigger_chain"), naive}]), options.samples)
  end

  # What can be fixed is sealed within the time.
  defp appended(postgres, callers, flows, batch, seconds) do
    Database.open(postgres, fn name, schema ->
      flow = &"patient/#{rem(&1, flows)}"
      seal = fn caller -> {:ok, _} = EventSeal.seal(name, flow.(caller)) end
      [calls, _median] = Callers.run(callers, seconds, &append(name, flow.(&1), batch, &2), seal)
      [calls * batch, Database.forks(postgres, schema)]
    end)
  end

  defp append(name, flow, 1, n), do: {:ok, _} = EventSeal.append(name, flow, Store.event(n, @body))

  defp append(name, flow, batch, n),
    do: {:ok, _} = EventSeal.append_many(name, for(at <- 1..batch, do: {flow, Store.event(n + at, @body)}))

  defp verified(postgres, %{events: events} = options) do
    Database.open(postgres, fn name, schema ->
      :ok = Store.one_flow(name, events, @bytes)
      {_, 0} = Postgres.psql(postgres, "VACUUM ANALYZE #{schema}.event")
      ours = fn -> Rows.Verify.verify(name, events, System.schedulers_online()) end
      window = fn -> Database.window(postgres, schema, events) end

      Samples.take(
        [{[{"pg_verify", "event_seal"}], ours}] ++
          others(options, [{[{"pg_verify", "postgresql_window"}], window}]),
        options.samples
      )
    end)
  end
end
