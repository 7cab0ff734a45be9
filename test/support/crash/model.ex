defmodule EventSeal.Crash.Model do
  @moduledoc false
  # What a store must hold, told by the logs of those who wrote: each flow as its accepted events in order. An operation
  # that was cut off may have happened or not; what is found in the store then decides, whole or not at all.

  alias EventSeal.Crash.Load

  defstruct flows: %{}, doubts: [], acknowledged: 0

  @ranks %{pool: 0, sandbox: 1, fixed: 2}

  @doc "A round begins: what is in the pool waits no longer than this round's window."
  def begin(model, window) when window >= 60_000, do: model

  def begin(model, _window),
    do: Enum.reduce(Map.keys(model.flows), model, &events(&2, &1, fn event -> %{event | hold: 0} end))

  @doc "Takes in one worker's log of a round whose pool window was `window` ms."
  def replay(model, log, window) do
    Enum.reduce(log, model, fn
      {op, :in_doubt}, model -> %{model | doubts: [op | model.doubts]} |> unhold(op)
      {op, result}, model -> apply_op(%{model | acknowledged: model.acknowledged + 1}, op, result, window)
    end)
  end

  @doc "Settles the doubts by what is found: `found` maps each flow to `{head, events}`. Then lists all that differs."
  def check(model, found, window) do
    model = Enum.reduce(model.doubts, %{model | doubts: []}, &decide(&2, &1, found, window))
    now = System.os_time(:microsecond)
    strange = Map.keys(found) -- Map.keys(model.flows)
    wrong = for({flow, kept} <- model.flows, fault <- flow_faults(kept, found[flow], now), do: {flow, fault})
    {model, Enum.map(strange, &{&1, :unknown_flow}) ++ wrong}
  end

  @doc "The flows a worker may go on with, as `EventSeal.Crash.Load` holds them."
  def open_flows(model, worker) do
    for {"worker" <> _ = flow, %{closed: false} = kept} <- model.flows, String.starts_with?(flow, "worker#{worker}/") do
      in_reach =
        for %{stage: :pool} = event <- Enum.take(kept.events, 8), do: {event.serial, event.euid, event.revision}

      {flow, kept.next, in_reach}
    end
  end

  # Events newest first; `hold` is the time before which an event cannot have left the pool by itself.
  defp new_flow, do: %{events: [], next: 1, closed: false, retracted: []}

  defp apply_op(model, {:append, flow, serial, given}, {:ok, {euid, recorded_at}}, window) do
    true = given in [nil, euid]
    accept(model, flow, serial, euid, recorded_at, window)
  end

  defp apply_op(model, {:many, items}, {:ok, receipts}, window) do
    items
    |> Enum.zip(receipts)
    |> Enum.reduce(model, fn {{flow, serial}, {euid, at}}, model -> accept(model, flow, serial, euid, at, window) end)
  end

  defp apply_op(model, {:amend, flow, serial, revision}, :ok, _), do: amended(model, flow, serial, revision)

  defp apply_op(model, {:amend, _, _, _}, {:error, :settled}, _), do: model
  defp apply_op(model, {:retract, flow, serial, euid}, :ok, _), do: retracted(model, flow, serial, euid)
  defp apply_op(model, {:retract, _, _, _}, {:error, :settled}, _), do: model
  defp apply_op(model, {:settle, flow}, :ok, _), do: events(model, flow, &at_least(%{&1 | hold: 0}, :sandbox))
  defp apply_op(model, {:seal, flow}, :ok, _), do: sealed(model, flow)

  defp apply_op(model, {:close, flow}, :ok, _) do
    model |> events(flow, &at_least(%{&1 | hold: 0}, :fixed)) |> flow(flow, &%{&1 | closed: true})
  end

  defp apply_op(model, {:look, flow, serial}, look, _) do
    event(model, flow, serial, fn event ->
      seen = for {key, value} <- look, value != nil, key != :stage, key != :revision, into: event.seen, do: {key, value}
      at_least(%{event | seen: seen}, look.stage)
    end)
  end

  # `seal/2` fixes all settled events that have three behind them.
  defp sealed(model, flow) do
    flow(model, flow, fn kept ->
      {pool, settled} = Enum.split_while(kept.events, &(&1.stage == :pool))
      {last, fixed} = Enum.split(settled, 3)
      %{kept | events: pool ++ last ++ Enum.map(fixed, &at_least(&1, :fixed))}
    end)
  end

  defp accept(model, flow, serial, euid, recorded_at, window) do
    hold = if window >= 60_000, do: recorded_at + window * 1000, else: 0
    event = %{serial: serial, euid: euid, recorded_at: recorded_at, revision: 0, stage: :pool, hold: hold, seen: %{}}
    flow(model, flow, &%{&1 | events: [event | &1.events], next: serial + 1})
  end

  # With its body an amended event gets a new salt.
  defp amended(model, flow, serial, revision),
    do: event(model, flow, serial, &%{&1 | revision: revision, seen: Map.delete(&1.seen, :salt)})

  defp retracted(model, flow, serial, euid) do
    flow(model, flow, fn kept ->
      %{kept | events: Enum.reject(kept.events, &(&1.serial == serial)), retracted: [{serial, euid} | kept.retracted]}
    end)
  end

  defp flow(model, flow, fun),
    do: %{model | flows: Map.put(model.flows, flow, fun.(Map.get(model.flows, flow, new_flow())))}

  defp events(model, flow, fun), do: flow(model, flow, &%{&1 | events: Enum.map(&1.events, fun)})

  defp event(model, flow, serial, fun),
    do: events(model, flow, fn event -> if event.serial == serial, do: fun.(event), else: event end)

  defp at_least(event, stage), do: if(@ranks[stage] > @ranks[event.stage], do: %{event | stage: stage}, else: event)

  # A settling that was cut off may have emptied the pool.
  defp unhold(model, {op, flow}) when op in [:settle, :close], do: events(model, flow, &%{&1 | hold: 0})
  defp unhold(model, _op), do: model

  defp decide(model, {:append, flow, serial, _}, found, window) do
    case find(found, flow, serial) do
      nil -> model
      event -> accept(model, flow, serial, event.euid, event.recorded_at, window)
    end
  end

  # All or nothing: one that was found lets all be expected.
  defp decide(model, {:many, items}, found, window) do
    events =
      for {flow, serial} <- items,
          event = find(found, flow, serial),
          do: {{flow, serial}, {event.euid, event.recorded_at}}

    case events do
      [] ->
        model

      found when length(found) == length(items) ->
        apply_op(model, {:many, items}, {:ok, Enum.map(found, &elem(&1, 1))}, window)

      _some ->
        flow(model, elem(hd(items), 0), &Map.put(&1, :torn, items))
    end
  end

  defp decide(model, {:amend, flow, serial, revision}, found, _window) do
    case find(found, flow, serial) do
      %{revision: ^revision} -> amended(model, flow, serial, revision)
      _ -> model
    end
  end

  defp decide(model, {:retract, flow, serial, euid}, found, _window),
    do: if(find(found, flow, serial), do: model, else: retracted(model, flow, serial, euid))

  defp decide(model, {:close, flow}, found, window) do
    case found[flow] do
      {%{closed: true}, _} -> apply_op(model, {:close, flow}, :ok, window)
      _ -> model
    end
  end

  defp decide(model, {op, _}, _found, _window) when op in [:settle, :seal], do: model
  defp decide(model, {:look, _, _}, _found, _window), do: model

  defp find(found, flow, serial) do
    {_head, events} = Map.get(found, flow, {nil, []})
    Enum.find(events, &(&1.kind == "load" and elem(Load.serial(&1.body), 0) == serial))
  end

  defp flow_faults(%{events: [], retracted: []}, nil, _now), do: []
  defp flow_faults(_kept, nil, _now), do: [:missing_flow]
  defp flow_faults(%{torn: items}, _found, _now), do: [{:torn, items}]

  defp flow_faults(kept, {head, events}, now) do
    {close, loads} = Enum.split_with(events, &(&1.kind == "$close"))
    expected = Enum.reverse(kept.events)
    order = Enum.map(loads, &elem(Load.serial(&1.body), 0))

    closing =
      if kept.closed == head.closed and length(close) == if(kept.closed, do: 1, else: 0),
        do: [],
        else: [{:closed, kept.closed}]

    if order == Enum.map(expected, & &1.serial),
      do: closing ++ positions(events) ++ Enum.flat_map(Enum.zip(expected, loads), &event_faults(&1, now)),
      else: [{:events, Enum.map(expected, & &1.serial), order}]
  end

  defp positions(events) do
    settled = Enum.take_while(events, &(&1.stage != :pool))
    ranks = Enum.map(events, &@ranks[&1.stage])
    in_order = Enum.map(settled, & &1.n) == Enum.to_list(1..length(settled)//1)
    if in_order and ranks == Enum.sort(ranks, :desc), do: [], else: [{:positions, Enum.map(events, &{&1.stage, &1.n})}]
  end

  defp event_faults({kept, event}, now) do
    checks = [
      euid: event.euid == kept.euid,
      recorded_at: event.recorded_at == kept.recorded_at,
      revision: event.revision == kept.revision,
      body: Load.serial(event.body) == {kept.serial, kept.revision},
      stage: @ranks[event.stage] >= @ranks[kept.stage],
      left_the_pool_early: now >= kept.hold or event.stage == :pool,
      seen: Enum.all?(kept.seen, fn {key, value} -> same?(key, value, event) end)
    ]

    for {name, false} <- checks, do: {name, kept, Map.take(event, [:stage, :n, :revision])}
  end

  # What was seen stays: a provisional id until the event is fixed, everything else for ever.
  defp same?(:provisional, value, event), do: event.stage == :fixed or event.provisional == value
  defp same?(key, value, event), do: Map.fetch!(event, key) == value
end
