defmodule EventSeal.Crash.Rival do
  @moduledoc false
  # What runs in one of several VMs that write to one database at once, to the same flows: workers that append, amend, retract,
  # settle and seal, each in its own events, and write down what they are about to do and what came of it
  # (`EventSeal.Crash.Load.read_log/1`).

  alias EventSeal.{Crash.Load, Error}

  @name EventSeal.Crash.RivalStore
  @weights [append: 50, many: 15, amend: 10, retract: 5, settle: 5, seal: 5, look: 10]

  @doc "The entry of the VM: `path` holds the plan as a term."
  def main(path) do
    plan = path |> File.read!() |> :erlang.binary_to_term()
    IO.puts("boot #{System.pid()}")
    {:ok, _} = Application.ensure_all_started(:event_seal)
    {:ok, tree} = start(@name, plan)
    plan.workers |> Enum.map(&Task.async(fn -> work(Map.merge(plan, &1)) end)) |> Task.await_many(:infinity)
    Supervisor.stop(tree)
  end

  @doc "A tree as each of the VMs has it."
  def start(name, %{store: store, window: window}) do
    EventSeal.start_link(
      name: name,
      store: Load.store(store),
      pool_window: window,
      writers: 2,
      block: [max_events: 16, max_age: 50]
    )
  end

  defp work(plan) do
    :rand.seed(:exsss, {plan.seed, plan.id, 0})
    {:ok, log} = :file.open(plan.log, [:raw, :binary, :append])

    Enum.reduce(1..plan.count, [], fn serial, own ->
      step(Load.pick(@weights), serial, own, Map.put(plan, :file, log))
    end)
  end

  # `own` are events that may still be amended or retracted, as {flow, euid, revision}.
  defp step(:append, serial, own, plan) do
    {flow, euid} = {Enum.random(plan.flows), euid(plan, serial, 0)}

    case run(plan, {:append, [{flow, euid}]}, fn -> EventSeal.append(@name, flow, event(euid, 0), euid: euid) end) do
      :ok -> [{flow, euid, 0} | own]
      _refused -> own
    end
  end

  defp step(:many, serial, own, plan) do
    items = for {flow, at} <- plan.flows |> Enum.take_random(3) |> Enum.with_index(), do: {flow, euid(plan, serial, at)}
    events = for {flow, euid} <- items, do: {flow, event(euid, 0), euid: euid}
    run(plan, {:append, items}, fn -> EventSeal.append_many(@name, events) end)
    own
  end

  defp step(what, serial, [], plan) when what in [:amend, :retract, :look], do: step(:append, serial, [], plan)

  defp step(:amend, _serial, own, plan) do
    {flow, euid, revision} = event = Enum.random(own)
    changed = event(euid, revision + 1)
    ask = fn -> EventSeal.amend(@name, flow, euid, changed, revision: revision) end

    case run(plan, {:amend, flow, euid, revision + 1}, ask) do
      :ok -> [{flow, euid, revision + 1} | List.delete(own, event)]
      _refused -> List.delete(own, event)
    end
  end

  defp step(:retract, _serial, own, plan) do
    {flow, euid, revision} = event = Enum.random(own)
    run(plan, {:retract, flow, euid}, fn -> EventSeal.retract(@name, flow, euid, revision: revision) end)
    List.delete(own, event)
  end

  # Any tree's events: what was seen of one must be so for ever.
  defp step(:look, _serial, own, plan) do
    {flow, euid, _revision} = Enum.random(own)

    run(plan, {:look, flow, euid}, fn ->
      with {:ok, event} <- EventSeal.event(@name, flow, euid), do: {:ok, seen(event)}
    end)

    own
  end

  defp step(what, _serial, own, plan) do
    flow = Enum.random(plan.flows)
    run(plan, {what, flow}, fn -> apply(EventSeal, what, [@name, flow]) end)
    own
  end

  defp seen(event),
    do: {:seen, for({key, mark} <- Map.take(event, [:n, :hash, :id, :recorded_at]), mark != nil, do: {key, mark})}

  defp euid(plan, serial, at), do: <<plan.id::32, at::32, serial::64>>
  def event(euid, revision), do: %{when: 7, kind: "load", who: "worker", body: euid <> <<revision>>}

  defp run(plan, op, fun) do
    Load.note(plan.file, {:try, op})
    result = outcome(fun.())
    Load.note(plan.file, {:done, result})
    result
  end

  defp outcome({:ok, {:seen, _} = seen}), do: seen
  defp outcome({:ok, _}), do: :ok
  defp outcome({:error, %Error{reason: reason, detail: detail}}), do: {:error, reason, detail}
end
