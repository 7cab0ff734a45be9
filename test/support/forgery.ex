defmodule EventSeal.Forgery do
  @moduledoc false
  # A store taken apart, to be put together again as somebody would who may write everywhere: by the same functions that
  # seal and settle, so that whatever was changed, the chain holds.

  alias EventSeal.{BitRot, Chain, Event, Native, Reader, Store, Verifier}

  @doc "What a store holds: its flows by id, and its log."
  def read(dir) do
    BitRot.open(dir, :read, fn store ->
      flows = for flow <- Reader.flows(store, after: nil, page: 99), into: %{}, do: {flow, flow(store, flow)}
      {:ok, size} = Store.log(store, :size)
      {:ok, leaves} = Store.log(store, {:leaves, 0, size.leaves})
      {:ok, checkpoints} = Store.log(store, {:checkpoints, 0, size.checkpoints})
      %{flows: flows, leaves: leaves, checkpoints: checkpoints}
    end)
  end

  defp flow(store, flow) do
    {:ok, head} = Store.head(store, flow)
    {:ok, pieces} = Store.blocks(store, flow, {1, :infinity})
    headers = for piece <- pieces, {:ok, block} = Store.read(piece), do: elem(Chain.header(block), 1)
    events = store |> Reader.stream(flow, from: 1, to: :infinity, stages: [:fixed, :sandbox]) |> Enum.map(&draft/1)
    %{genesis: head.genesis, closed: head.closed, events: events, cuts: Enum.map(headers, &cut/1)}
  end

  defp cut(header), do: {header.count, [sealed_at: header.sealed_at, epoch: header.epoch]}

  defp draft(event) do
    fields = Map.take(event, [:when, :where, :who, :kind, :version, :body])
    {:ok, draft} = Event.draft(fields, library: true)
    Chain.stamp(draft, Keyword.new(Map.take(event, [:euid, :recorded_at, :revision, :salt])))
  end

  @doc "Writes it anew: every value is recomputed of the events."
  def write!(state, dir) do
    BitRot.open(dir, :write, fn store ->
      for {flow, parts} <- state.flows, do: :ok = Store.commit(store, ops(flow, sealed(parts)))
      :ok = Store.commit(store, for(leaf <- state.leaves, do: {:leaf, leaf}))
      :ok = Store.commit(store, for(checkpoint <- state.checkpoints, do: {:checkpoint, checkpoint}))
    end)
  end

  @doc "A flow's chain, its blocks and its tail's entries."
  def sealed(parts) do
    {:ok, chain} = Chain.restore(parts.genesis, nil, nil, [])
    {:ok, frames} = Chain.frames(chain.suite, parts.events)
    {open, closing} = if parts.closed, do: Enum.split(frames, -1), else: {frames, []}
    cuts = Enum.take(parts.cuts, length(parts.cuts) - length(closing))
    {chain, open, blocks} = Enum.reduce(cuts, {chain, open, []}, &seal/2)
    {:ok, chain, _entries} = Chain.settle(chain, open)
    close(chain, blocks, closing, List.last(parts.cuts))
  end

  # With no more behind it than it needs: a block is not sealed before anything that it knows of was recorded.
  defp seal({count, opts}, {chain, open, blocks}) do
    {now, later} = Enum.split(open, count + 3 - (chain.n - chain.fixed))
    {:ok, chain, _entries} = Chain.settle(chain, now)
    {:ok, block, chain} = Chain.seal(chain, [max_events: count] ++ opts)
    {chain, later, [block | blocks]}
  end

  defp close(chain, blocks, [], _cut),
    do: {chain, Enum.reverse(blocks), chain.open |> Enum.reverse() |> Enum.flat_map(&Chain.Run.entries/1)}

  defp close(chain, blocks, [frame], {_count, opts}) do
    {:ok, _entries, block, chain} = Chain.close(chain, frame, opts)
    {chain, Enum.reverse([block | blocks]), []}
  end

  defp ops(flow, {chain, blocks, entries}) do
    headers = for block <- blocks, do: elem(Chain.header(block), 1)

    [{:open, flow, chain.genesis}] ++
      for(n <- 1..chain.fixed//1, do: {:put, flow, n, :tail, "", ""}) ++
      Enum.zip_with(headers, blocks, &block/2) ++
      for(entry <- entries, do: {:put, flow, entry.n, :tail, meta(entry), entry.body})
  end

  defp meta(entry), do: EventSeal.Record.encode_tail(entry.n, entry.frame, entry.hash, entry.provisional)

  defp block(header, block) do
    {:ok, events} = Chain.events(block)
    info = Map.take(header, [:height, :first, :count, :when_max, :closes])
    through = header.first + header.count - 1
    {:block, header.flow, Map.merge(info, %{through: through, euids: Enum.map_join(events, & &1.euid)}), block}
  end

  @doc "The leaves of a flow as it is: its blocks', and that of its end."
  def leaves(parts) do
    {chain, blocks, entries} = sealed(parts)

    of_blocks =
      for block <- blocks do
        {:ok, header} = Chain.header(block)
        last = header.first + header.count - 1
        Native.block_leaf(chain.suite, chain.digest, header.height, last, header.hash)
      end

    of_blocks ++ [Native.tail_leaf(chain.suite, chain.digest, chain.n, provisional(blocks, entries))]
  end

  defp provisional(_blocks, [_ | _] = entries), do: List.last(entries).provisional
  defp provisional(blocks, []), do: blocks |> List.last() |> Chain.Provisional.of() |> elem(1) |> List.last()

  @doc "Changes a flow's parts."
  def put(state, flow, parts), do: %{state | flows: Map.update!(state.flows, flow, &Map.merge(&1, Map.new(parts)))}

  @doc "Changes one event's body, with all that hangs on it."
  def edit(state, flow, n, body),
    do: update_in(state.flows[flow].events, &List.update_at(&1, n - 1, fn draft -> put_elem(draft, 9, body) end))

  @doc "The faults of a store, as `{flow, position, class}`, or the error."
  def verify(dir, opts \\ []) do
    with {:ok, verdict} <- BitRot.open(dir, :read, &Verifier.run(&1, opts)),
         do: for(fault <- verdict.faults, do: {fault.flow, fault.position, fault.class})
  end
end
