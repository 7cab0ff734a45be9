defmodule Bench.Rows.Append do
  @moduledoc false
  # Durable appends: so many callers that append single events, and four that append a thousand at a time, each to a flow of
  # its own. Settling happens meanwhile, and what can be sealed is sealed within the time. Beside a bare group commit of the
  # same bytes (`file_…`), Mnesia with `sync_log`, PostgreSQL with a trigger that chains, and UmaDB.

  alias Bench.{Callers, Committer, Mnesia, Peers, Postgres, Samples, Store, Umadb}

  @bytes 300
  @body :binary.copy("b", @bytes)
  @batch 1_000
  @batch_callers 4

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for {row, file, callers, batch} <- [
          {"append_1_us", "file_1", 1, 1},
          {"append_16", "file_16", 16, 1},
          {"append_64", "file_64", 64, 1},
          {"append_256", "file_256", 256, 1},
          {"append_batch_1000", "file_batch", @batch_callers, @batch}
        ] do
      {[row, file], fn -> compare(row, file, callers, batch, options) end}
    end
  end

  defp compare(row, file, callers, batch, options) do
    Store.in_folder(fn dir ->
      Peers.run(options, peers(dir), fn peers ->
        append = fn module ->
          fn peer -> value(row, module.append(peer, callers, batch, options.seconds, @bytes)) end
        end

        Samples.take(
          [
            {[{row, "event_seal"}], fn -> value(row, ours(dir, callers, batch, options.seconds)) end},
            bare(row, file, fn -> bare(dir, callers, batch, options.seconds) end)
          ] ++
            Peers.contender(peers, :postgres, [{row, "postgresql"}], append.(Postgres)) ++
            Peers.contender(peers, :mnesia, [{row, "mnesia"}], append.(Mnesia)) ++
            Peers.contender(peers, :umadb, [{row, "umadb"}], append.(Umadb)),
          options.samples
        )
      end)
    end)
  end

  defp peers(dir) do
    [
      {:postgres, Postgres, fn -> Postgres.start(dir) end},
      {:mnesia, Mnesia, fn -> Mnesia.start(dir) end},
      {:umadb, Umadb, fn -> Umadb.start(dir) end}
    ]
  end

  defp value(row, [rate, median]), do: if(String.ends_with?(row, "_us"), do: median, else: rate)

  defp ours(dir, callers, batch, seconds) do
    fresh(dir, fn path ->
      Store.open(path, fn name ->
        [calls, median] = Callers.run(callers, seconds, &append(name, batch, &1, &2), &seal(name, &1))
        [calls * batch, median]
      end)
    end)
  end

  defp append(name, 1, caller, n) do
    {:ok, _} = EventSeal.append(name, "patient/#{caller}", Store.event(n, @body))
  end

  defp append(name, batch, caller, n) do
    {:ok, _} = EventSeal.append_many(name, for(at <- 1..batch, do: {"patient/#{caller}", Store.event(n + at, @body)}))
  end

  defp seal(name, caller), do: {:ok, _} = EventSeal.seal(name, "patient/#{caller}")

  # Where a row is a time, the limit is shown as one too.
  defp bare(row, file, measure) do
    if String.ends_with?(row, "_us"),
      do: {[{file, "file"}, {row, "file"}], measure},
      else: {[{file, "file"}], fn -> hd(measure.()) end}
  end

  defp bare(dir, callers, batch, seconds) do
    fresh(dir, fn path ->
      [calls, median] = Committer.append(path, callers, seconds, @bytes * batch)
      [calls * batch, median]
    end)
  end

  # Each sample has a store, or a file, of its own.
  defp fresh(dir, fun) do
    path = Path.join(dir, "fresh")

    try do
      fun.(path)
    after
      File.rm_rf!(path)
    end
  end
end
