defmodule EventSeal.FlowTest do
  # What a flow decides, as pure state: no process, no store.
  use ExUnit.Case, async: true
  doctest EventSeal.Writer.Agenda

  alias EventSeal.{Chain, Error, Event, Flow, Record}
  alias EventSeal.Flow.{Requests, Stages, Stored}

  @window 1_000
  @ctx %{
    at: 1_000_000,
    tick: 0,
    window: @window,
    suite: :sha256,
    epoch: 1,
    block: %{max_events: 100, max_bytes: 1_000_000, max_age: 500}
  }

  test "the first event opens the flow; a later one only adds" do
    {flow, ops} = batch(Flow.new("p/1"), [append(1)])
    assert [{:expect, "p/1", :none}, {:open, "p/1", _genesis}, {:put, "p/1", 1, :pool, meta, data}] = ops
    assert {1_001_000, 0, frame} = Record.decode_pool(meta)
    assert {_, 1, 1_000_000, 0, "vital", 1, nil, nil, _, "body 1"} = Record.draft(frame, data)
    assert {_, [{:put, "p/1", 2, :pool, _, _}, {:put, "p/1", 3, :pool, _, _}]} = batch(flow, [append(2), append(3)])
  end

  test "settling keeps what is stored already, and writes what is not" do
    {flow, _} = batch(Flow.new("p/1"), [append(1), append(2)])
    {flow, ops} = batch(flow, [amend(1), finish(:settle)])
    assert [{:put, "p/1", 1, :tail, first, <<_::binary>>}, {:put, "p/1", 2, :tail, second, :keep}] = ops
    assert {1, _, <<_::256>>, <<_::256>>} = Record.decode_tail(first)
    assert {2, _, <<_::256>>, <<_::256>>} = Record.decode_tail(second)
    assert Flow.size(flow) |> elem(0) == 2
  end

  test "what a block of the same commit takes up has no entry of its own" do
    ctx = %{@ctx | window: 0, block: %{@ctx.block | max_events: 2}}
    {flow, ops} = batch(Flow.new("p/1"), for(n <- 1..6, do: append(n)), ctx)

    assert [3, 4, 5, 6] == for({:put, _, seq, :tail, _, _} <- ops, do: seq)
    assert [{:block, "p/1", info, block}, {:leaf, _}] = Enum.take(ops, -2)
    assert %{height: 0, first: 1, count: 2, through: 2, when_max: 2, closes: false} = info
    assert info.euids == <<1::128, 2::128>>
    assert {:ok, [%{n: 1}, %{n: 2}]} = Chain.events(block)

    {_, ops} = batch(flow, [finish(:seal)], ctx)
    assert [{:expect, "p/1", 1}, {:block, "p/1", %{height: 1, first: 3, count: 1, through: 3}, _}, {:leaf, _}] = ops
  end

  test "a retraction drops its entry; the seq is not used again" do
    {flow, _} = batch(Flow.new("p/1"), [append(1), append(2)])
    {flow, ops} = batch(flow, [fn flow, _ -> Requests.retract(flow, <<1::128>>, nil) end, append(3)])
    assert [{:drop, "p/1", 1, <<1::128>>}, {:put, "p/1", 3, :pool, _, _}] = ops
    {_, ops} = batch(flow, [finish(:settle)])
    assert [{:put, _, 2, :tail, first, :keep}, {:put, _, 3, :tail, _, :keep}] = ops
    assert {1, _, _, _} = Record.decode_tail(first)
  end

  test "a request waits for a later batch if it depends on what this one has yet to compute" do
    {flow, _} = batch(Flow.new("p/1"), [append(1)])
    {:ok, asked, _} = append(2).(Flow.begin(flow, %{}), @ctx)
    assert append(2).(asked, @ctx) == :wait
    assert amend(2).(asked, @ctx) == :wait
    {:ok, amended, _} = amend(1).(asked, @ctx)
    assert amend(1).(amended, @ctx) == :wait
    assert append(1).(amended, @ctx) == :wait
    assert {:ok, _, _} = append(3).(amended, @ctx)
    {:ok, finished} = finish(:settle).(amended, @ctx)
    for request <- [append(4), amend(1), finish(:seal)], do: assert(request.(finished, @ctx) == :wait)
  end

  test "what is appended and retracted over and over does not pile up" do
    retract = fn n -> fn flow, _ -> Requests.retract(flow, <<n::128>>, nil) end end
    {flow, _} = batch(Flow.new("p/1"), [append(1)])

    flow =
      Enum.reduce(2..500, flow, fn n, flow ->
        {flow, _} = batch(flow, [append(n)])
        flow |> batch([retract.(n)]) |> elem(0)
      end)

    assert {1, true} = {flow.waiting, :queue.len(flow.pool) <= 102}
    assert {_, [{:put, _, 1, :tail, _, :keep}]} = batch(flow, [finish(:settle)])
  end

  test "a flow in which much is retracted asks the store, and does not keep it all" do
    retract = fn n -> fn flow, _ -> Requests.retract(flow, <<n::128>>, nil) end end
    {flow, _} = batch(Flow.new("p/1"), Enum.map(1..1_001, &append/1))
    {few, _} = batch(flow, Enum.map(1..1_000, retract))
    assert {1_000, []} = {map_size(few.spent), Flow.unknown(few, [<<1::128>>])}
    {many, _} = batch(few, [retract.(1_001)])
    assert {0, [<<1::128>>]} = {map_size(many.spent), Flow.unknown(many, [<<1::128>>])}
  end

  test "what is due settles first in, first out" do
    {flow, _} = batch(Flow.new("p/1"), [append(1)])
    # A shorter window from now on: the second event is due before the first, and waits for it.
    {flow, _} = batch(flow, [append(2)], %{@ctx | window: 10})
    assert Flow.due(flow, @ctx) == @window
    assert {flow, []} = batch(flow, [], %{@ctx | tick: 10})

    assert {flow, [{:put, _, 1, :tail, _, :keep}, {:put, _, 2, :tail, _, :keep}]} =
             batch(flow, [], %{@ctx | tick: @window})

    assert Flow.due(flow, @ctx) == :infinity
    assert Flow.idle?(flow)
  end

  test "a block is due max_age after the first event that could be fixed" do
    ctx = %{@ctx | window: 0}
    {flow, _} = batch(Flow.new("p/1"), for(n <- 1..4, do: append(n)), %{ctx | tick: 7})
    assert Flow.due(flow, ctx) == 507
    refute Flow.idle?(flow)
    {flow, _} = batch(flow, [append(5)], %{ctx | tick: 100})
    assert Flow.due(flow, ctx) == 507
    assert {flow, [_, {:block, _, %{count: 2}, _}, {:leaf, _}]} = batch(flow, [], %{ctx | tick: 507})
    assert Flow.due(flow, ctx) == :infinity
  end

  test "times never fall along a flow" do
    {flow, _} = batch(Flow.new("p/1"), [append(1)])
    {:ok, _, receipt} = append(2).(Flow.begin(flow, %{}), %{@ctx | at: 0})
    assert receipt.recorded_at == 1_000_000
  end

  test "a flow that is loaded goes on where it was, with what is left of its window" do
    {flow, ops} = batch(Flow.new("p/1"), for(n <- 1..2, do: append(n)))
    {:open, _, genesis} = List.keyfind(ops, :open, 0)
    {flow, settled} = batch(flow, [finish(:settle)])
    {flow, pooled} = batch(flow, [append(3)])
    data = for {:put, _, seq, _, _, <<data::binary>>} <- ops ++ pooled, into: %{}, do: {seq, data}
    entries = for {:put, _, seq, stage, meta, _} <- settled ++ pooled, do: {seq, stage, meta, data[seq]}
    head = %{flow: "p/1", genesis: genesis, last_block: nil, when_max: nil, turn: nil, next_seq: 4, entries: entries}

    later = %{@ctx | at: 1_000_400, tick: 9}
    assert {:ok, loaded} = Stored.load(head, later)
    assert {loaded.accepted, loaded.next_seq, Flow.due(loaded, later)} == {3, 4, 609}
    assert Flow.size(loaded) == Flow.size(flow)
    # However the time of day was set meanwhile, an event waits no longer than the window.
    {:ok, loaded} = Stored.load(head, %{@ctx | at: 0})
    assert Flow.due(loaded, @ctx) == @window

    [{1, :tail, <<head_bytes::binary-12, _, rest::binary>>, body} | others] = entries
    forged = %{head | entries: [{1, :tail, head_bytes <> <<255>> <> rest, body} | others]}
    assert {:error, %Error{reason: :corrupt}} = Stored.load(forged, later)
  end

  test "an euid that was sealed or spent is known from what was looked up" do
    {:ok, stored} = draft(1)
    stored = stored |> put_elem(2, 77) |> put_elem(3, 2)
    flow = Flow.begin(Flow.new("p/1"), %{<<1::128>> => {stored, nil}, <<2::128>> => :spent})
    assert {:same, %{recorded_at: 77, revision: 2}} = append(1).(flow, @ctx)
    assert {:error, %Error{reason: :retracted}} = append(2).(flow, @ctx)
    conflicting = Flow.begin(Flow.new("p/1"), %{<<1::128>> => {put_elem(stored, 9, "other"), nil}})
    assert {:error, %Error{reason: :conflict}} = append(1).(conflicting, @ctx)
    erased = Flow.begin(Flow.new("p/1"), %{<<1::128>> => {put_elem(stored, 9, nil), nil}})
    assert {:same, _} = append(1).(erased, @ctx)
    assert {:error, %Error{reason: :settled}} = amend(1).(flow, @ctx)
  end

  defp batch(flow, requests, ctx \\ @ctx) do
    flow = Enum.reduce(requests, Flow.begin(flow, %{}), &elem(&1.(&2, ctx), 1))
    {:ok, frames} = Chain.frames(:sha256, Stages.drafts(flow))
    {flow, ready} = flow |> Stages.framed(frames, ctx) |> Stages.ready(ctx)
    {:ok, flow} = if(ready == [], do: {:ok, flow}, else: settle(flow, ready, ctx))
    {:ok, flow} = Stages.seal(flow, ctx)
    {Flow.committed(flow), Stored.ops(flow)}
  end

  defp settle(flow, ready, ctx) do
    {:ok, [{chain, runs}]} = Chain.settle_many([{flow.chain, ready}])
    {:ok, Stages.settled(flow, chain, runs, ctx)}
  end

  defp append(n) do
    {:ok, draft} = draft(n)
    fn flow, ctx -> Requests.append(flow, draft, nil, :crypto.strong_rand_bytes(26), ctx) end
  end

  defp amend(n),
    do: fn flow, _ctx -> Requests.amend(flow, <<n::128>>, [{9, "amended"}], nil, :crypto.strong_rand_bytes(26)) end

  defp finish(what), do: fn flow, _ctx -> Requests.finish(flow, what) end
  defp draft(n), do: Event.draft(%{when: n, kind: "vital", body: "body #{n}"}, euid: <<n::128>>)
end
