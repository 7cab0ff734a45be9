defmodule Bench.Store do
  @moduledoc false
  # EventSeal over `EventSeal.Store.Disk`, in folders that are gone afterwards, or over another store, and how they are filled.

  @callers 4
  @batch 1_000

  @doc "A temporary folder, for the time of a function."
  @spec in_folder((Path.t() -> result)) :: result when result: var
  def in_folder(fun) do
    dir = Path.join(System.tmp_dir!(), "event_seal-bench-#{System.pid()}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)

    try do
      fun.(dir)
    after
      File.rm_rf!(dir)
    end
  end

  @doc "A running tree over the folder, or over a store, for the time of a function of its name."
  @spec open(Path.t() | {module, keyword}, keyword, (atom -> result)) :: result when result: var
  def open(store, opts \\ [], fun)
  def open(dir, opts, fun) when is_binary(dir), do: open({EventSeal.Store.Disk, dir: dir}, opts, fun)

  def open(store, opts, fun) do
    name = :"bench-#{System.unique_integer([:positive])}"
    {:ok, tree} = EventSeal.start_link([name: name, store: store, pool_window: 0] ++ opts)

    try do
      fun.(name)
    after
      Supervisor.stop(tree, :normal, :infinity)
    end
  end

  @doc "A vital sign with a body of so many bytes."
  @spec event(integer, binary) :: map
  def event(n, body), do: %{when: n, kind: "vital", body: body}

  @spec body(pos_integer) :: binary
  def body(bytes), do: :binary.copy("b", bytes)

  @doc "So many events into one flow, which is closed by the last of them: all of them fixed."
  @spec one_flow(atom, pos_integer, pos_integer) :: :ok
  def one_flow(name, events, bytes) do
    body = body(bytes)
    batch = min(@batch, div(64_000_000, bytes))

    for positions <- Enum.chunk_every(1..(events - 1), batch) do
      {:ok, _} = EventSeal.append_many(name, for(n <- positions, do: {"patient/1", event(n, body)}))
    end

    {:ok, _} = EventSeal.close(name, "patient/1")
    :ok
  end

  @doc "These flows, of so many events each, a few of them at a time."
  @spec flows(atom, Range.t(), pos_integer) :: :ok
  def flows(name, flows, each) do
    body = body(300)

    flows
    |> Stream.chunk_every(max(div(@batch, each), 1))
    |> share(@callers, fn part ->
      for ns <- Enum.chunk_every(1..each, @batch) do
        {:ok, _} = EventSeal.append_many(name, for(flow <- part, n <- ns, do: {"patient/#{flow}", event(n, body)}))
      end
    end)
  end

  @doc "Closes flows: all of their events are fixed. From many callers, so that many closings share a sync."
  @spec close(atom, Enumerable.t()) :: :ok
  def close(name, flows), do: share(flows, 256, fn flow -> {:ok, _} = EventSeal.close(name, "patient/#{flow}") end)

  @doc "Seals what can be fixed of flows that stay open."
  @spec seal(atom, Enumerable.t()) :: :ok
  def seal(name, flows), do: share(flows, 256, fn flow -> {:ok, _} = EventSeal.seal(name, "patient/#{flow}") end)

  defp share(parts, callers, fun) do
    parts |> Task.async_stream(fun, max_concurrency: callers, timeout: :infinity, ordered: false) |> Stream.run()
  end

  @doc "Bytes in the folder's files."
  @spec bytes(Path.t()) :: non_neg_integer
  def bytes(dir) do
    for path <- Path.wildcard(Path.join(dir, "**"), match_dot: true), File.regular?(path), reduce: 0 do
      sum -> sum + File.stat!(path).size
    end
  end
end
