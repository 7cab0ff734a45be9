defmodule EventSeal.FlowModel do
  @moduledoc false
  # The whole life of flows as PropEr's state machine: what a flow is, in a few lists, beside the running tree. Every
  # command's answer is foretold, and after every command each event of the flow is compared.
  @behaviour :proper_statem

  import :proper_types, only: [integer: 2, oneof: 1, frequency: 1, vector: 2]

  alias EventSeal.{Error, ManualClock, Store}

  @name EventSeal.FlowModel.Tree
  @window 1_000
  @writers 2
  @flows ["a", "b"]

  defstruct flows: %{}, now: 0, amended: 0, window: @window

  @flow %{pool: [], settled: [], spent: [], closed: false, fixed: 0}

  def name, do: @name
  def opts, do: [name: @name, pool_window: @window, writers: @writers, block: [max_age: :infinity, max_events: 1000]]

  @doc "The flows of a store without a pool, whose blocks are small: what comes together settles at once, together."
  def without_pool, do: %__MODULE__{window: 0}
  def opts_without_pool, do: Keyword.merge(opts(), pool_window: 0, block: [max_age: :infinity, max_events: 10])

  @impl true
  def initial_state, do: %__MODULE__{}

  @impl true
  def command(state) do
    flow = oneof(@flows)
    euid = integer(1, 9)
    many = if state.window == 0, do: vector(20, {oneof(@flows), integer(11, 400), 1}), else: items(3)

    frequency([
      {10, {:call, __MODULE__, :append, [flow, euid, integer(1, 2), oneof([nil, nil, nil, integer(0, 3)])]}},
      {3, {:call, __MODULE__, :append_many, [many]}},
      {4, {:call, __MODULE__, :amend, [flow, euid, integer(1, 2), oneof([nil, 0, 1])]}},
      {3, {:call, __MODULE__, :retract, [flow, euid, oneof([nil, nil, 0])]}},
      {2, {:call, __MODULE__, :settle, [flow]}},
      {3, {:call, __MODULE__, :seal, [flow]}},
      {1, {:call, __MODULE__, :close, [flow, integer(8, 10)]}},
      {4, {:call, __MODULE__, :advance, [oneof([1, div(@window, 2), @window])]}},
      {2, {:call, __MODULE__, :kill_writers, []}},
      {2, {:call, __MODULE__, :restart, []}}
    ])
  end

  defp items(count), do: vector(count, {oneof(@flows), integer(1, 9), integer(1, 2)})

  @impl true
  def precondition(_state, _call), do: true

  @impl true
  def next_state(state, _result, {:call, _, command, arguments}), do: state |> step(command, arguments) |> elem(1)

  @impl true
  def postcondition(_state, _call, _result), do: true

  @doc "Runs the commands; `:ok`, or the first that did not do what was foretold. Without PropEr, which hides exceptions."
  def run([{:init, state} | commands]), do: run(commands, state)
  def run(commands), do: run(commands, initial_state())

  defp run(commands, state) do
    Enum.reduce_while(commands, state, fn {:set, _, {:call, _, command, arguments}}, state ->
      {expected, next} = step(state, command, arguments)
      result = perform(@name, command, arguments)

      wrong =
        for flow <- @flows,
            stored(@name, flow) != foretold(next, flow),
            do: {flow, stored(@name, flow), foretold(next, flow)}

      if result == expected and wrong == [],
        do: {:cont, next},
        else: {:halt, {:wrong, command, arguments, expected: expected, result: result, flows: wrong}}
    end)
    |> then(&if(is_struct(&1), do: :ok, else: &1))
  end

  # The commands, as they are run.

  @doc "What a running tree answers to a command: what `step/3` foretells, or `:unknown`, or `{:refused, reason}`."
  def perform(name, :append, [flow, euid, body, expect]) do
    opts = [euid: <<euid::128>>] ++ if(expect, do: [expect: expect], else: [])
    outcome(EventSeal.append(name, flow, event(body), opts))
  end

  def perform(name, :append_many, [items]) do
    items = for {flow, euid, body} <- items, do: {flow, event(body), euid: <<euid::128>>}
    outcome(EventSeal.append_many(name, items))
  end

  def perform(name, :amend, [flow, euid, body, guard]),
    do: outcome(EventSeal.amend(name, flow, <<euid::128>>, %{body: body(body)}, guard(guard)))

  def perform(name, :retract, [flow, euid, guard]),
    do: outcome(EventSeal.retract(name, flow, <<euid::128>>, guard(guard)))

  def perform(name, :settle, [flow]), do: outcome(EventSeal.settle(name, flow))
  def perform(name, :seal, [flow]), do: outcome(EventSeal.seal(name, flow))
  def perform(name, :close, [flow, euid]), do: outcome(EventSeal.close(name, flow, euid: <<euid::128>>))
  def perform(_name, command, arguments), do: apply(__MODULE__, command, arguments)

  # Once a writer has answered, it has done what the clock had set going before; and has begun, if it is new: it must not
  # read the time of day on one side of the step and the monotonic time on the other.
  def advance(milliseconds) do
    ask_writers()
    ManualClock.advance(:persistent_term.get(__MODULE__).clock, milliseconds)
    ask_writers()
  end

  defp ask_writers, do: Enum.each(@flows, &EventSeal.retract(@name, &1, <<0::128>>))

  def kill_writers do
    {_, supervisor, _, _} = List.keyfind(Supervisor.which_children(@name), EventSeal.Writer, 0)

    for {_, writer, _, _} <- Supervisor.which_children(supervisor), is_pid(writer) do
      ref = Process.monitor(writer)
      Process.exit(writer, :kill)
      receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
    end

    # The supervisor has started them anew when it answers.
    _ = Supervisor.count_children(supervisor)
    :ok
  end

  def restart do
    stop()
    start()
  end

  def start do
    {:ok, _} = EventSeal.start_link(:persistent_term.get(__MODULE__).opts)
    :ok
  end

  def stop, do: Supervisor.stop(@name)

  # The model: what each command answers, and the state after it.

  @doc "What a command is answered, and the state after it."
  def step(state, :append, [flow, euid, body, expect]) do
    case appended(at(state, flow), euid, body, expect, state) do
      {:ok, changed} -> {:ok, put(state, flow, changed |> settle_due(state.now) |> sealed(state))}
      error -> {error, state}
    end
  end

  def step(state, :append_many, [items]) do
    items = Enum.uniq(items)

    if length(Enum.uniq_by(items, fn {flow, euid, _} -> {flow, euid} end)) < length(items),
      do: {:conflict, state},
      else: all_or_none(state, items)
  end

  def step(state, :amend, [flow, euid, body, guard]) do
    change(state, flow, euid, guard, fn changed, {_, _, _, revision} = entry ->
      amended = entry |> put_elem(1, body(body)) |> put_elem(3, revision + 1)
      %{changed | pool: Enum.map(changed.pool, &if(&1 == entry, do: amended, else: &1))}
    end)
  end

  def step(state, :retract, [flow, euid, guard]) do
    change(state, flow, euid, guard, fn changed, entry ->
      %{changed | pool: changed.pool -- [entry], spent: [euid | changed.spent]}
    end)
  end

  def step(state, :settle, [flow]) do
    with %{} = found <- Map.get(state.flows, flow, :not_found) do
      {{:ok, length(found.pool)}, put(state, flow, settle_all(found))}
    else
      error -> {error, state}
    end
  end

  def step(state, :seal, [flow]) do
    with %{} = found <- Map.get(state.flows, flow, :not_found) do
      fixed = max(found.fixed, length(found.settled) - 3)
      {{:ok, fixed - found.fixed}, put(state, flow, %{found | fixed: fixed})}
    else
      error -> {error, state}
    end
  end

  def step(state, :close, [flow, euid]) do
    found = at(state, flow)

    case known(found, euid) do
      # Its `when` is the stored one, but its kind is its own.
      {_, :close, _, _} -> {:ok, state}
      {_, _, _, _} -> {:conflict, state}
      :retracted -> {:retracted, state}
      nil when found.closed -> {:closed, state}
      nil when not is_map_key(state.flows, flow) -> {:not_found, state}
      nil -> {:ok, put(state, flow, closed(found, euid))}
    end
  end

  def step(state, :advance, [milliseconds]) do
    now = state.now + milliseconds
    {:ok, %{state | now: now, flows: Map.new(state.flows, fn {id, flow} -> {id, settle_due(flow, now)} end)}}
  end

  def step(state, command, []) when command in [:kill_writers, :restart], do: {:ok, state}

  defp all_or_none(state, items) do
    Enum.reduce_while(by_writer(items), {:ok, state}, fn {flow, euid, body}, {:ok, changed} ->
      case step(changed, :append, [flow, euid, body, nil]) do
        {:ok, changed} -> {:cont, {:ok, changed}}
        {error, _} -> {:halt, {error, state}}
      end
    end)
  end

  # Writers are asked in their order, so it says which of several errors is met first.
  defp by_writer(items), do: Enum.sort_by(items, fn {flow, _, _} -> rem(Store.shard(flow), @writers) end)

  defp change(state, flow, euid, guard, fun) do
    found = at(state, flow)

    case {known(found, euid), Enum.find(found.pool, &(elem(&1, 0) == euid))} do
      {nil, _} -> {:not_found, state}
      {:retracted, _} -> {:retracted, state}
      {_, nil} -> {:settled, state}
      {_, {_, _, _, revision}} when guard not in [nil, revision] -> {:revision, state}
      {_, entry} -> {:ok, put(state, flow, fun.(found, entry))}
    end
  end

  # Without a pool blocks of ten are sealed as soon as they are full.
  defp sealed(flow, %{window: 0}) do
    known = length(flow.settled) - flow.fixed - 3
    %{flow | fixed: flow.fixed + if(known < 10, do: 0, else: known - rem(known, 10))}
  end

  defp sealed(flow, _state), do: flow

  defp appended(flow, euid, body, expect, %{now: now, window: window}) do
    body = body(body)

    case known(flow, euid) do
      {_, ^body, _, _} -> {:ok, flow}
      {_, _, _, _} -> :conflict
      :retracted -> :retracted
      nil when flow.closed -> :closed
      nil when expect not in [nil, length(flow.pool) + length(flow.settled)] -> :count
      nil -> {:ok, %{flow | pool: flow.pool ++ [{euid, body, now + window, 0}]}}
    end
    |> then(fn
      {:ok, ^flow} when flow == @flow -> {:ok, flow}
      other -> other
    end)
  end

  defp known(flow, euid) do
    if euid in flow.spent,
      do: :retracted,
      else: Enum.find(flow.pool ++ flow.settled, &(elem(&1, 0) == euid))
  end

  defp settle_all(flow), do: %{flow | settled: flow.settled ++ flow.pool, pool: []}

  defp settle_due(flow, now) do
    {due, pool} = Enum.split_while(flow.pool, fn {_, _, deadline, _} -> deadline <= now end)
    %{flow | settled: flow.settled ++ due, pool: pool}
  end

  defp closed(flow, euid) do
    flow = settle_all(flow)
    settled = flow.settled ++ [{euid, :close, nil, 0}]
    %{flow | settled: settled, fixed: length(settled), closed: true}
  end

  defp at(state, flow), do: Map.get(state.flows, flow, @flow)
  defp put(state, flow, changed), do: %{state | flows: Map.put(state.flows, flow, changed)}

  @doc "The events of a flow: `{euid, body, revision, n, stage}`."
  def foretold(state, flow) do
    case state.flows do
      %{^flow => found} ->
        settled =
          Enum.with_index(found.settled, fn {euid, body, _, revision}, index ->
            {euid, body, revision, index + 1, if(index < found.fixed, do: :fixed, else: :sandbox)}
          end)

        settled ++ for({euid, body, _, revision} <- found.pool, do: {euid, body, revision, nil, :pool})

      _ ->
        :not_found
    end
  end

  defp stored(name, flow) do
    name |> EventSeal.stream(flow) |> Enum.map(&told/1)
  rescue
    error in Error -> error.reason
  end

  @doc "A stored event, as `foretold/2` tells of it."
  def told(event) do
    <<euid::128>> = event.euid
    {euid, if(event.kind == "$close", do: :close, else: event.body), event.revision, event.n, event.stage}
  end

  # Of many lengths, so that the files of a small store are full soon.
  defp body(number), do: :binary.copy(<<number>>, 1 + rem(number * 97, 900))

  defp event(body), do: %{when: 7, kind: "vital", body: body(body)}
  defp guard(nil), do: []
  defp guard(revision), do: [revision: revision]

  defp outcome({:ok, count}) when is_integer(count), do: {:ok, count}
  defp outcome({:ok, _}), do: :ok

  defp outcome({:error, %Error{reason: reason} = error}) when reason in [:storage, :read_only, :timeout] do
    if Error.message(error) =~ ~r/not known|unknown/, do: :unknown, else: {:refused, Error.message(error)}
  end

  defp outcome({:error, %Error{reason: reason}}), do: reason
end
