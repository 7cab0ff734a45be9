defmodule EventSeal.Faults.Found do
  @moduledoc false
  # What a store holds, held against what the model says it must: nothing acknowledged is lost, doubled or out of order,
  # and nothing that was ever shown has become another.
  alias EventSeal.{Error, FlowModel, Verdict}

  @ranks %{pool: 0, sandbox: 1, fixed: 2}

  @doc "All flows of a running tree: `%{flow => {head, events}}`."
  def read(name) do
    for flow <- EventSeal.flows(name), into: %{} do
      events = Enum.to_list(EventSeal.stream(name, flow))
      {:ok, head} = EventSeal.head(name, flow)
      {flow, {head, events}}
    end
  end

  @doc "The first way in which it differs from a world, as `{class, detail}`; or nil."
  def difference(found, world) do
    strange = Map.keys(found) -- Map.keys(world.flows)

    if strange == [],
      do: Enum.find_value(Map.keys(world.flows), &flow_difference(&1, found[&1], FlowModel.foretold(world, &1), world)),
      else: {:doubled, {:unknown_flows, strange}}
  end

  defp flow_difference(flow, nil, _foretold, _world), do: {:lost, {:flow, flow}}

  defp flow_difference(flow, {head, events}, foretold, world) do
    told = Enum.map(events, &FlowModel.told/1)
    class = class(told, foretold) || if(head.closed != world.flows[flow].closed, do: :lost)
    if class, do: {class, {flow, found: short(told), foretold: short(foretold), head: head}}
  end

  defp class(told, foretold) do
    {euids, wanted} = {Enum.map(told, &elem(&1, 0)), Enum.map(foretold, &elem(&1, 0))}

    cond do
      wanted -- euids != [] -> :lost
      euids -- wanted != [] -> :doubled
      euids != wanted -> :reordered
      Enum.any?(Enum.zip(told, foretold), fn {one, other} -> contents(one) != contents(other) end) -> :lost
      Enum.any?(Enum.zip(told, foretold), fn {one, other} -> rank(one) < rank(other) end) -> :lost
      not positions?(told) -> :reordered
      true -> nil
    end
  end

  defp contents({euid, body, revision, _n, _stage}), do: {euid, body, revision}
  defp rank({_, _, _, _, stage}), do: @ranks[stage]

  defp positions?(told) do
    settled = Enum.reject(told, &(rank(&1) == 0))
    ranks = Enum.map(told, &rank/1)
    ranks == Enum.sort(ranks, :desc) and Enum.map(settled, &elem(&1, 3)) == Enum.to_list(1..length(settled)//1)
  end

  defp short(told), do: for({euid, _body, revision, n, stage} <- told, do: {euid, revision, n, stage})

  @doc "The world with the stages that were found: events go on by themselves when their time has come."
  def absorb(world, found) do
    flows =
      Map.new(world.flows, fn {id, flow} ->
        {_head, events} = Map.fetch!(found, id)
        {pool, settled} = Enum.split_with(events, &(&1.stage == :pool))
        {moved, rest} = Enum.split(flow.pool, length(flow.pool) - length(pool))
        fixed = Enum.count(settled, &(&1.stage == :fixed))
        {id, %{flow | pool: rest, settled: flow.settled ++ moved, fixed: fixed}}
      end)

    %{world | flows: flows}
  end

  @doc """
  What must never change, by what it is the mark of: an event's time and salt, the hashes and ids at a position, the hash of
  a block.
  """
  def marks(found) do
    for {flow, {head, events}} <- found, mark <- flow_marks(flow, head, events), into: %{}, do: mark
  end

  defp flow_marks(flow, head, events) do
    genesis = {{flow, :genesis}, head.genesis}
    block = if head.blocks > 0, do: [{{flow, :block, head.blocks}, head.block_hash}], else: []
    [genesis | block ++ Enum.flat_map(events, &event_marks(flow, &1))]
  end

  defp event_marks(flow, event) do
    times = [{{flow, event.euid}, event.recorded_at}, {{flow, event.euid, event.revision}, event.salt}]

    ids =
      for what <- [:euid, :hash, :provisional, :id], mark = Map.fetch!(event, what), do: {{flow, event.n, what}, mark}

    if event.stage == :pool, do: times, else: times ++ ids
  end

  @doc "The first mark that is another one than was seen before, as `{:fork, detail}`; or nil."
  def fork(marks, seen) do
    Enum.find_value(marks, fn {key, mark} ->
      if Map.get(seen, key, mark) != mark, do: {:fork, {key, seen: seen[key], found: mark}}
    end)
  end

  @doc "A fault where none can be: in a verification, or damage found at opening."
  def false_fault(name) do
    case EventSeal.verify(name) do
      {:ok, verdict} -> unless Verdict.ok?(verdict), do: {:false_fault, {verdict.faults, verdict.damage}}
      {:error, error} -> {:false_fault, error}
    end
  end

  @doc """
  Asks again for all that was ever acknowledged: each event is told as the one that is there, each euid that was retracted
  is refused, each event is found by its euid. The first that is not, as `{:doubled | :lost, detail}`; or nil.
  """
  def again(name, world, found) do
    Enum.find_value(world.flows, fn {flow, kept} ->
      {_head, events} = Map.fetch!(found, flow)
      Enum.find_value(events, &event_again(name, flow, &1)) || Enum.find_value(kept.spent, &spent_again(name, flow, &1))
    end)
  end

  defp event_again(name, flow, event) do
    %{euid: euid, recorded_at: at, n: n} = event

    case {append_again(name, flow, event), EventSeal.event(name, flow, euid)} do
      {{:ok, %{euid: ^euid, recorded_at: ^at}}, {:ok, %{euid: ^euid, recorded_at: ^at, n: now}}}
      when now == n or n == nil ->
        nil

      other ->
        {:doubled, {flow, :asked_again, euid, other}}
    end
  end

  defp append_again(name, flow, %{kind: "$close", euid: euid}), do: EventSeal.close(name, flow, euid: euid)

  defp append_again(name, flow, event) do
    EventSeal.append(name, flow, Map.take(event, [:when, :kind, :body]), euid: event.euid)
  end

  defp spent_again(name, flow, euid) do
    case EventSeal.append(name, flow, %{when: 7, kind: "vital"}, euid: <<euid::128>>) do
      {:error, %Error{reason: :retracted}} -> nil
      other -> {:lost, {flow, :retraction, euid, other}}
    end
  end
end
