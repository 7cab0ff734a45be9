defmodule EventSeal.Flow.Stages do
  @moduledoc """
  The way of a flow's events: into the pool, from there into the sandbox, from there into a block.
  """

  alias EventSeal.{Chain, Error, Event, Flow, Record}
  alias EventSeal.Chain.Run

  # So many events that come together make a block of their own: they are written once then, and not kept until more come.
  @useful 512

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

  @doc "Takes up what `EventSeal.Chain.settle_many/1` made of `ready/2`."
  @spec settled(Flow.t(), Chain.t(), [Run.t()], Flow.ctx()) :: Flow.t()
  def settled(flow, chain, runs, ctx) do
    flow.step.moving |> Enum.zip(runs) |> Enum.reduce(%{flow | chain: chain}, &settle/2) |> Flow.ripen(ctx)
  end

  @doc "Whether what is new in the flow need not enter the pool: nothing waits in it, and nothing would stay."
  @spec direct?(Flow.t(), Flow.ctx()) :: boolean
  def direct?(flow, ctx), do: ctx.window == 0 and flow.waiting == 0 and flow.step.finish != :close

  @doc "Takes up what `EventSeal.Chain.settle_drafts/1` made of `drafts/1`."
  @spec taken(Flow.t(), Chain.t(), [Run.t()], Flow.ctx()) :: Flow.t()
  def taken(flow, chain, runs, ctx) do
    runs |> Enum.reduce(%{flow | chain: chain}, &store(&2, &1, &2.next_seq, true)) |> Flow.ripen(ctx)
  end

  @doc "Whether `seal/2` has anything to do."
  @spec seal?(Flow.t(), Flow.ctx()) :: boolean
  def seal?(%{chain: nil}, _ctx), do: false
  def seal?(flow, ctx), do: flow.step.closing != nil or block?(flow, ctx)

  @doc "Seals what is due, or was asked for, in as many blocks as its size needs; and closes, if that was asked for."
  @spec seal(Flow.t(), Flow.ctx()) :: {:ok, Flow.t()} | {:error, Error.t()}
  def seal(flow, ctx) do
    cond do
      block?(flow, ctx) -> with {:ok, flow} <- seal_block(flow, ctx), do: seal(flow, ctx)
      flow.step.closing -> seal_close(flow, ctx)
      true -> {:ok, flow}
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

  defp settle({{seq, _tick, _deadline, frame, body, generation}, run}, flow) do
    flow = %{
      flow
      | held: Map.replace!(flow.held, Record.euid(frame), run.n),
        waiting: flow.waiting - 1,
        pool_bytes: flow.pool_bytes - byte_size(frame) - byte_size(body)
    }

    store(flow, run, seq, generation == flow.generation)
  end

  # `changed?`: the store has no such bodies under the seq yet.
  defp store(%{step: step} = flow, run, seq, changed?) do
    %{
      flow
      | next_seq: max(flow.next_seq, seq + 1),
        open: [seq | flow.open],
        open_bytes: flow.open_bytes + Run.bytes(run),
        step: %{step | tail: Map.put(step.tail, seq, changed?), settled: step.settled + run.count}
    }
  end

  defp block?(flow, ctx) do
    fixable = Chain.fixable(flow.chain)

    fixable > 0 and
      (flow.step.finish == :seal or fixable >= ctx.block.max_events or min(fixable, flow.step.settled) >= @useful or
         heavy?(flow, ctx) or
         Flow.seal_due(flow, ctx) <= ctx.tick)
  end

  defp heavy?(%{open_bytes: bytes}, %{block: %{max_bytes: max}}) when bytes < max, do: false

  # The last three wait for what comes: each is a run of its own.
  defp heavy?(flow, ctx) do
    last = for run <- Enum.take(flow.chain.open, 3), do: Run.bytes(run)
    flow.open_bytes - Enum.sum(last) >= ctx.block.max_bytes
  end

  # Runs that the store has already are not cut: what is left of one would need a place behind what came later.
  defp seal_block(flow, ctx) do
    limits = [max_events: ctx.block.max_events, max_bytes: ctx.block.max_bytes, whole: flow.step.stored]

    with {:ok, sealed, chain} <- Chain.seal_part(flow.chain, at(flow, ctx) ++ limits) do
      {kept, gone} = Enum.split(flow.open, length(chain.open))
      {:ok, fixed(%{flow | open: kept}, chain, sealed, through(flow.chain, chain, kept, gone), ctx)}
    end
  end

  defp at(flow, ctx), do: [sealed_at: Flow.recorded_at(flow, ctx), epoch: flow.epoch || ctx.epoch]

  # All up to the run that was taken last; of one that was cut all before it, since nothing older is left.
  defp through(before, chain, kept, gone) do
    case {Enum.at(before.open, length(kept) - 1), List.last(chain.open)} do
      {%{count: count}, %{count: left}} when left < count -> List.last(kept) - 1
      _whole -> hd(gone)
    end
  end

  defp seal_close(flow, ctx) do
    with {:ok, _runs, sealed, chain} <- Chain.close_part(flow.chain, flow.step.closing, at(flow, ctx)) do
      flow = fixed(%{flow | open: [], next_seq: flow.next_seq + 1}, chain, sealed, flow.next_seq, ctx)
      {:ok, put_in(flow.step.closing, nil)}
    end
  end

  defp fixed(%{step: step} = flow, chain, sealed, through, ctx) do
    when_max = Flow.latest(sealed.when_max, flow.when_max)

    info = %{
      height: chain.height - 1,
      first: flow.chain.fixed + 1,
      count: chain.fixed - flow.chain.fixed,
      through: through,
      when_max: when_max,
      euids: sealed.euids,
      closes: chain.closed
    }

    step = %{
      step
      | blocks: [{:leaf, Chain.leaf(chain)}, {:block, flow.id, info, sealed.block} | step.blocks],
        fixed: [step.fixed, sealed.euids]
    }

    aged? = Flow.seal_due(flow, ctx) <= ctx.tick
    ripe_since = if Chain.fixable(chain) > 0, do: if(aged?, do: flow.ripe_since, else: ctx.tick)
    open_bytes = Enum.reduce(chain.open, 0, &(Run.bytes(&1) + &2))
    flow = %{flow | chain: chain, when_max: when_max, held: without(flow.held, sealed.euids), step: step}
    %{flow | open_bytes: open_bytes, ripe_since: ripe_since}
  end

  defp without(held, _euids) when held == %{}, do: held
  defp without(held, euids), do: Map.drop(held, for(<<euid::binary-16 <- euids>>, do: euid))
end
