defmodule EventSeal.Flow.Stored do
  @moduledoc """
  A flow and its store: the state from what is stored, and what a batch has the store keep.
  """

  alias EventSeal.{Chain, Error, Flow, Record}
  alias EventSeal.Chain.Run

  @doc "A flow as the store has it (`EventSeal.Store.Head`). What settled since its last block is recomputed."
  @spec load(map, Flow.ctx()) :: {:ok, Flow.t()} | {:error, Error.t()}
  def load(%{intact: false}, _ctx), do: {:error, Error.new(:corrupt, detail: "the flow's last block is damaged")}
  def load(%{whole: false}, _ctx), do: {:error, Error.new(:corrupt, detail: "events of the flow cannot be read")}

  def load(head, ctx) do
    {pooled, settled} = Enum.split_with(head.entries, fn {_seq, stage, _meta, _data} -> stage == :pool end)

    with {:ok, chain} <- Chain.restore(head.genesis, head.last_block, head.when_max, Record.runs(settled)) do
      flow = %Flow{
        id: head.flow,
        chain: chain,
        opened: true,
        complete: false,
        next_seq: head.next_seq,
        open: settled |> Enum.map(fn {seq, _, _, _} -> seq end) |> Enum.reverse(),
        open_bytes: Enum.reduce(chain.open, 0, &(Run.bytes(&1) + &2)),
        accepted: chain.n,
        last_at: chain.recorded_at,
        when_max: head.when_max,
        turn: head.turn,
        epoch: if(head.turn && chain.epoch > ctx.epoch, do: chain.epoch + 1)
      }

      {:ok, pooled |> Enum.reduce(flow, &repool(&1, &2, ctx)) |> Flow.ripen(ctx)}
    end
  end

  @doc "What the batch has the store keep, oldest first."
  @spec ops(Flow.t()) :: [tuple]
  def ops(%{step: step} = flow) do
    unchanged(flow) ++
      preconditions(flow) ++
      Enum.reverse(for({seq, euid} <- step.drops, do: {:drop, flow.id, seq, euid})) ++
      tail_ops(flow) ++ pool_ops(flow) ++ Enum.reverse(step.blocks)
  end

  # What is answered without a change rests upon it, too.
  defp unchanged(%{opened: true, turn: turn} = flow) when turn != nil, do: [{:expect, flow.id, {:turn, turn}}]
  defp unchanged(_alone), do: []

  defp preconditions(%{opened: false, step: %{drafts: []}}), do: []

  defp preconditions(%{opened: false} = flow),
    do: [{:expect, flow.id, :none}, {:open, flow.id, flow.chain.genesis}]

  defp preconditions(%{step: %{blocks: []}}), do: []
  defp preconditions(flow), do: [{:expect, flow.id, flow.step.height}]

  # What a block of the same commit takes up needs no entry of its own.
  defp tail_ops(%{chain: nil}), do: []

  defp tail_ops(%{step: step} = flow) do
    for {seq, run} <- Enum.reverse(new(flow.open, flow.chain.open, step.tail)) do
      {:put, flow.id, seq, :tail, run.record, if(step.tail[seq], do: run.bodies, else: :keep)}
    end
  end

  # The newest stand first.
  defp new([seq | open], [run | runs], tail) when is_map_key(tail, seq), do: [{seq, run} | new(open, runs, tail)]
  defp new(_open, _runs, _tail), do: []

  defp pool_ops(%{step: step} = flow) do
    for euid <- Enum.reverse(step.changed), {seq, _, deadline, frame, body, _} <- [Map.get(flow.held, euid)] do
      {:put, flow.id, seq, :pool, Record.encode_pool(deadline, frame), body}
    end
  end

  # Across a restart only the time of day says how much of the window is left: never more than the whole of it.
  defp repool({seq, :pool, meta, body}, flow, ctx) do
    {deadline, _revision, frame} = Record.decode_pool(meta)
    tick = ctx.tick + min(max(deadline - ctx.at, 0), ctx.window)
    euid = Record.euid(frame)

    %{
      flow
      | held: Map.put(flow.held, euid, {seq, tick, deadline, frame, body, 0}),
        pool: :queue.in({seq, euid, tick}, flow.pool),
        waiting: flow.waiting + 1,
        pool_bytes: flow.pool_bytes + byte_size(frame) + byte_size(body),
        accepted: flow.accepted + 1,
        last_at: Flow.latest(Record.recorded_at(frame), flow.last_at)
    }
  end
end
