defmodule EventSeal.Flow.Stages do
  @moduledoc """
  The way of a flow's events: into the pool, from there into the sandbox, from there into a block.
  """

  alias EventSeal.{Chain, Error, Event, Flow, Record}

  @doc "The events that this batch took on, in order, to be packed."
  @spec drafts(Flow.t()) :: [Event.draft()]
  def drafts(%{step: %{drafts: asked}}), do: asked |> Enum.reverse() |> Enum.map(&elem(&1, 1))

  @doc "Puts the packed events of `drafts/1` into the pool."
  @spec framed(Flow.t(), [Chain.frame()], Flow.ctx()) :: Flow.t()
  def framed(flow, frames, ctx) do
    flow.step.drafts |> Enum.reverse() |> Enum.zip(frames) |> Enum.reduce(flow, &pool(&1, &2, ctx))
  end

  @doc "Takes out of the pool what is due, oldest first, or all of it if that was asked for."
  @spec ready(Flow.t(), Flow.ctx()) :: {Flow.t(), [Chain.frame()]}
  def ready(%{waiting: 0} = flow, _ctx), do: {flow, []}

  def ready(flow, ctx) do
    until = if flow.step.finish in [:settle, :close], do: :infinity, else: ctx.tick
    {moving, pool} = pop(flow.pool, until, flow.held, [])
    frames = Enum.map(moving, fn {_seq, _tick, _deadline, frame, body, _generation} -> {frame, body} end)
    {%{flow | pool: pool, step: %{flow.step | moving: moving}}, frames}
  end

  @doc "Takes up what `EventSeal.Chain.settle/2` made of `ready/2`."
  @spec settled(Flow.t(), Chain.t(), [Chain.Entry.t()], Flow.ctx()) :: Flow.t()
  def settled(flow, chain, entries, ctx) do
    flow.step.moving |> Enum.zip(entries) |> Enum.reduce(%{flow | chain: chain}, &settle/2) |> Flow.ripen(ctx)
  end

  @doc "Seals what is due, or was asked for, in as many blocks as its size needs; and closes, if that was asked for."
  @spec seal(Flow.t(), Flow.ctx()) :: {:ok, Flow.t()} | {:error, Error.t()}
  def seal(%{chain: nil} = flow, _ctx), do: {:ok, flow}

  def seal(flow, ctx) do
    cond do
      seal?(flow, ctx) -> with {:ok, flow} <- seal_block(flow, ctx), do: seal(flow, ctx)
      flow.step.closing -> seal_close(flow, ctx)
      true -> {:ok, Flow.ripen(flow, ctx)}
    end
  end

  defp pool({{:append, _draft}, {frame, body}}, flow, ctx) do
    # The key is cut loose from what the caller's euid may be a part of.
    <<euid::binary-16, _::binary>> = frame
    euid = :binary.copy(euid)
    seq = flow.next_seq
    tick = ctx.tick + ctx.window
    pooled = {seq, tick, Record.recorded_at(frame) + ctx.window, frame, body, flow.generation}

    %{
      flow
      | next_seq: seq + 1,
        held: Map.put(flow.held, euid, pooled),
        pool: :queue.in({seq, euid, tick}, flow.pool),
        waiting: flow.waiting + 1,
        pool_bytes: flow.pool_bytes + byte_size(frame) + byte_size(body),
        step: %{flow.step | changed: [euid | flow.step.changed]}
    }
  end

  defp pool({{:amend, draft}, {frame, body}}, flow, _ctx) do
    {seq, tick, deadline, old_frame, old_body, _} = Map.fetch!(flow.held, elem(draft, 0))
    euid = Record.euid(old_frame)
    grown = byte_size(frame) + byte_size(body) - byte_size(old_frame) - byte_size(old_body)

    %{
      flow
      | held: Map.replace!(flow.held, euid, {seq, tick, deadline, frame, body, flow.generation}),
        pool_bytes: flow.pool_bytes + grown,
        step: %{flow.step | changed: [euid | flow.step.changed]}
    }
  end

  defp pool({{:close, _draft}, frame}, flow, _ctx), do: put_in(flow.step.closing, frame)

  # First in, first out: an event whose time has come waits for the one before it. What was retracted is skipped.
  defp pop(queue, until, held, taken) do
    case :queue.peek(queue) do
      {:value, {seq, euid, tick}} when tick <= until ->
        pop(:queue.drop(queue), until, held, still_pooled(held, euid, seq) ++ taken)

      _ ->
        {Enum.reverse(taken), queue}
    end
  end

  defp still_pooled(held, euid, seq) do
    case held do
      %{^euid => {^seq, _, _, _, _, _} = pooled} -> [pooled]
      _ -> []
    end
  end

  defp settle({{seq, _tick, _deadline, frame, body, generation}, entry}, flow) do
    <<_::binary-16, at::signed-64, _::binary>> = frame
    bytes = byte_size(frame) + byte_size(body)
    euid = entry.euid
    kept = {seq, entry, generation == flow.generation}
    step = flow.step

    %{
      flow
      | held: Map.replace!(flow.held, euid, entry.n),
        waiting: flow.waiting - 1,
        pool_bytes: flow.pool_bytes - bytes,
        open: :queue.in({seq, euid, bytes, at}, flow.open),
        open_bytes: flow.open_bytes + bytes,
        step: %{step | tail: [kept | step.tail], settled: step.settled + 1}
    }
  end

  defp seal?(flow, ctx) do
    fixable = Chain.fixable(flow.chain)

    fixable > 0 and
      (flow.step.finish == :seal or fixable >= ctx.block.max_events or heavy?(flow, ctx) or
         Flow.seal_due(flow, ctx) <= ctx.tick)
  end

  defp heavy?(%{open_bytes: bytes}, %{block: %{max_bytes: max}}) when bytes < max, do: false

  # The last three wait for what comes.
  defp heavy?(flow, ctx) do
    last = for item <- last(flow.open, 3), do: elem(item, 2)
    flow.open_bytes - Enum.sum(last) >= ctx.block.max_bytes
  end

  defp last(_queue, 0), do: []

  defp last(queue, count) do
    case :queue.out_r(queue) do
      {{:value, item}, queue} -> [item | last(queue, count - 1)]
      {:empty, _} -> []
    end
  end

  defp seal_block(flow, ctx) do
    most = min(Chain.fixable(flow.chain), ctx.block.max_events)
    {taken, open, bytes} = take(flow.open, most, ctx.block.max_bytes, [], 0)
    opts = [sealed_at: Flow.recorded_at(flow, ctx), epoch: ctx.epoch, max_events: length(taken)]

    with {:ok, block, chain} <- Chain.seal(flow.chain, opts) do
      {:ok, fixed(%{flow | open: open, open_bytes: flow.open_bytes - bytes}, chain, Enum.reverse(taken), block, ctx)}
    end
  end

  # At least one event, however long.
  defp take(queue, 0, _room, taken, bytes), do: {taken, queue, bytes}
  defp take(queue, _left, room, taken, bytes) when bytes >= room, do: {taken, queue, bytes}

  defp take(queue, left, room, taken, bytes) do
    {{:value, {_seq, _euid, size, _when} = item}, queue} = :queue.out(queue)
    take(queue, left - 1, room, [item | taken], bytes + size)
  end

  defp seal_close(flow, ctx) do
    with {:ok, entries, block, chain} <-
           Chain.close(flow.chain, flow.step.closing, sealed_at: Flow.recorded_at(flow, ctx), epoch: ctx.epoch) do
      [%{euid: euid, frame: frame}] = entries
      sealed = :queue.to_list(:queue.in({flow.next_seq, euid, 0, elem(Record.draft(frame, nil), 1)}, flow.open))
      flow = %{flow | next_seq: flow.next_seq + 1, open: :queue.new(), open_bytes: 0}
      flow = fixed(flow, chain, sealed, block, ctx)
      {:ok, put_in(flow.step.closing, nil)}
    end
  end

  defp fixed(%{step: step} = flow, chain, sealed, block, ctx) do
    euids = Enum.map(sealed, &elem(&1, 1))
    {through, _, _, _} = List.last(sealed)
    when_max = sealed |> Enum.map(&elem(&1, 3)) |> Enum.max() |> Flow.latest(flow.when_max)

    info = %{
      height: chain.height - 1,
      first: chain.fixed - length(sealed) + 1,
      count: length(sealed),
      through: through,
      when_max: when_max,
      euids: IO.iodata_to_binary(euids),
      closes: chain.closed
    }

    step = %{
      step
      | blocks: [{:leaf, Chain.leaf(chain)}, {:block, flow.id, info, block} | step.blocks],
        through: through,
        fixed: euids ++ step.fixed
    }

    aged? = Flow.seal_due(flow, ctx) <= ctx.tick
    ripe_since = if Chain.fixable(chain) > 0, do: if(aged?, do: flow.ripe_since, else: ctx.tick)
    held = Map.drop(flow.held, euids)
    %{flow | chain: chain, when_max: when_max, held: held, step: step, ripe_since: ripe_since}
  end
end
