defmodule EventSeal.BatchSinglesTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Batch, Chain, Event, Flow, Store}
  alias EventSeal.Chain.Run
  alias EventSeal.Batch.Singles

  @name __MODULE__.Store

  setup do
    start_supervised!(Store.Memory.child_spec({@name, []}))
    block = %{max_events: 4, max_bytes: 1_000_000, max_age: :infinity}
    ctx = %{at: 1_000, tick: 0, window: 0, block: block, suite: :sha256, epoch: 1}
    {:ok, ctx: Map.put(ctx, :store, Store.handle(Store.Memory, @name))}
  end

  defp append(flow, at, opts \\ []) do
    {:ok, draft} = Event.draft(%{when: at, kind: "vital", body: "37.2"}, Keyword.take(opts, [:euid]))
    {{flow, at}, {:append, flow, draft, opts[:expect]}}
  end

  # The flows as they are in memory after so many batches of one event each.
  defp flows(names, events, ctx) do
    Enum.reduce(1..events//1, %{}, fn at, flows ->
      {:ok, batch} = Batch.run(flows, Enum.map(names, &append(&1, at)), ctx)
      Map.new(batch.flows, fn {id, flow} -> {id, Flow.committed(flow)} end)
    end)
  end

  # All but what is drawn, and what follows from it.
  defp shape(batch) do
    {Enum.map(batch.replies, fn {from, {:ok, receipt}} -> {from, %{receipt | euid: nil}} end),
     batch.ops |> Enum.map(&shape_of/1) |> Enum.sort(),
     Map.new(batch.flows, fn {id, flow} ->
       {id,
        {Map.drop(flow, [:chain, :step]), Map.delete(flow.step, :drafts) |> Map.drop([:blocks, :fixed]),
         {flow.chain.n, flow.chain.fixed, Enum.map(flow.chain.open, &{&1.n, &1.count, Run.bytes(&1)})}}}
     end)}
  end

  defp shape_of({:put, flow, seq, stage, meta, data}), do: {:put, flow, seq, stage, byte_size(meta), byte_size(data)}
  defp shape_of({:block, flow, info, _block}), do: {:block, flow, %{info | euids: nil}}
  defp shape_of({:leaf, _}), do: :leaf
  defp shape_of(other), do: other

  # Something that is due takes a batch on the long way, and changes nothing.
  defp long(requests, [flow | _]), do: requests ++ [{nil, {:due, flow}}]

  test "the short way ends where the long one does, with blocks that are full and without", %{ctx: ctx} do
    names = ["a", "b", "c"]

    for events <- 1..12 do
      flows = flows(names, events, ctx)
      requests = Enum.map(names, &append(&1, 100))
      assert {:ok, _flows, _replies} = Singles.run(flows, requests, ctx)
      assert :other = Singles.run(flows, long(requests, names), ctx)
      {:ok, short} = Batch.run(flows, requests, ctx)
      {:ok, long} = Batch.run(flows, long(requests, names), ctx)
      assert shape(short) == shape(long)
    end
  end

  test "so it does where some flows are asked several times", %{ctx: ctx} do
    names = ["a", "b", "c"]

    for events <- 1..6, times <- [[2, 1, 1], [1, 5, 2], [9, 0, 4]] do
      flows = flows(names, events, ctx)

      requests = for at <- 1..9, {name, count} <- Enum.zip(names, times), at <= count, do: append(name, 100 + at)

      assert {:ok, _flows, _replies} = Singles.run(flows, requests, ctx)
      {:ok, short} = Batch.run(flows, requests, ctx)
      {:ok, long} = Batch.run(flows, long(requests, names), ctx)
      asked = for {name, count} <- Enum.zip(names, times), count > 0, do: name
      assert shape(short) == shape(%{long | flows: Map.take(long.flows, asked)})
    end
  end

  test "what it settles is the chain that the store would take up again", %{ctx: ctx} do
    flows = flows(["a"], 3, ctx)
    {:ok, batch} = Batch.run(flows, [append("a", 4)], ctx)
    %{chain: chain} = batch.flows["a"]
    assert {:ok, restored} = Chain.restore(chain.genesis, nil, nil, Enum.reverse(chain.open))
    assert {restored.n, restored.links, restored.ids} == {chain.n, chain.links, chain.ids}
  end

  test "whatever is asked besides goes the long way", %{ctx: ctx} do
    flows = flows(["a", "b"], 2, ctx)
    {_, {:append, "a", draft, nil}} = append("a", 3)

    for requests <- [
          [append("a", 3), append("new", 1), append("a", 4)],
          [append("a", 3, euid: <<1::128>>)],
          [append("a", 3, expect: 2)],
          [append("a", 3), {:x, {:seal, "b"}}],
          [{:x, {:many, [{"a", draft, nil}]}}],
          []
        ] do
      assert Singles.run(flows, requests, ctx) == :other
    end

    assert Singles.run(flows, [append("a", 3)], %{ctx | window: 1}) == :other
    assert Singles.run(flows, [append("a", 3)], Map.put(ctx, :signs, true)) == :other
  end

  test "of a closed flow all are asked again on the long way, which says who is refused", %{ctx: ctx} do
    flows = flows(["a", "b"], 2, ctx)
    {:ok, draft} = Event.draft(%{when: 3, kind: "$close"}, library: true)
    {:ok, batch} = Batch.run(flows, [{:x, {:close, "a", draft, nil}}], ctx)
    flows = %{flows | "a" => Flow.committed(batch.flows["a"])}
    requests = [append("a", 4), append("b", 3)]
    assert Singles.run(flows, requests, ctx) == :other
    {:ok, batch} = Batch.run(flows, requests, ctx)
    assert [{{"b", 3}, {:ok, _}}, {{"a", 4}, {:error, %{reason: :closed}}}] = batch.replies
  end
end
