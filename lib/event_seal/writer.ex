defmodule EventSeal.Writer do
  @moduledoc """
  The process that alone appends to a share of the flows: a queue, a timer and a commit around `EventSeal.Batch`.

  It gathers what its callers ask until its mailbox is empty, takes all of it through one batch and one commit, and only
  then answers. A refused commit leaves its state as it was. When it cannot know whether a commit was done, it forgets the
  flows concerned and reads them again from the store, behind an empty commit that waits for all before it.
  """
  use GenServer

  alias EventSeal.{Batch, Error, Flow, Instance, Store, Telemetry}
  alias EventSeal.Writer.{Agenda, Heap, Promises, Watches}

  @batch 4096
  # Flows with nothing to do stay for a while, since the next event of a flow often comes soon.
  @idle_flows 1024
  @idle_bytes 65_536
  @retry 1_000_000
  # So often others may be faster before a caller is told.
  @races 100
  # However long a wait is, the clock is looked at again after this.
  @longest_wait 60_000_000

  @doc false
  def child_spec({name, index}) do
    %{id: {__MODULE__, index}, start: {__MODULE__, :start_link, [name, index]}}
  end

  @doc false
  def start_link(name, index), do: GenServer.start_link(__MODULE__, {name, index}, spawn_opt: Heap.spawn_opt())

  @doc """
  Asks the writer of a flow (`EventSeal.Batch` has the requests); never exits.

  `:overloaded` at once if too much waits. If the writer dies or does not answer in time, whether the request was done is
  not known; with an euid of the caller's it can safely be asked again.
  """
  @spec ask(Instance.t(), String.t(), tuple) :: term
  def ask(instance, flow, body), do: call(instance, Instance.owner(instance, flow), body, cost(body))

  @doc "Appends to flows of one writer or of many, in one commit; receipts in the order of the items."
  @spec append_many(Instance.t(), [{String.t(), tuple, non_neg_integer | nil}]) :: {:ok, [struct]} | {:error, Error.t()}
  def append_many(instance, items) do
    placed = items |> Enum.with_index() |> Enum.group_by(fn {{flow, _, _}, _} -> Instance.owner(instance, flow) end)
    [{first, own} | others] = Enum.sort(placed)
    body = {:many, Enum.map(own, &elem(&1, 0))}

    request =
      if others == [],
        do: body,
        else: {:join, body, Enum.map(others, fn {index, items} -> {index, Enum.map(items, &elem(&1, 0))} end)}

    ask = fn -> call(instance, first, request, cost({:many, items})) end

    with {:ok, receipts} <- if(others == [], do: ask.(), else: insist(ask, @races)) do
      order = Enum.flat_map([{first, own} | others], fn {_, items} -> Enum.map(items, &elem(&1, 1)) end)
      {:ok, order |> Enum.zip(receipts) |> Enum.sort() |> Enum.map(&elem(&1, 1))}
    end
  end

  # Of several writers' flows one may have been changed by another tree: then nothing was done.
  defp insist(ask, races) do
    case ask.() do
      {:error, %Error{reason: :stale}} when races > 0 ->
        pause(@races - races)
        insist(ask, races - 1)

      outcome ->
        outcome
    end
  end

  # Not at once again and again, and not both at the same time.
  defp pause(lost), do: Process.sleep(:rand.uniform(min(lost, 20) + 1) - 1)

  @doc "Has the writer send `{ref, :left}` to the caller when the event leaves the pool and sandbox, fixed or retracted."
  @spec watch(pid, String.t(), binary, reference, timeout) :: :ok
  def watch(writer, flow, euid, ref, timeout), do: GenServer.call(writer, {:watch, flow, euid, ref}, timeout)

  @doc "Takes a watch back."
  @spec unwatch(pid, reference) :: :ok
  def unwatch(writer, ref), do: GenServer.cast(writer, {:unwatch, ref})

  defp call(instance, index, body, {events, bytes}) do
    with {:ok, pid, waiting} <- Instance.writer(instance, index),
         :ok <- Instance.admit(instance, waiting, events, bytes, grows?(body)) do
      GenServer.call(pid, body, instance.options[:timeout])
    end
  catch
    :exit, {:timeout, _} -> {:error, Error.new(:timeout, detail: "the writer did not answer; the outcome is not known")}
    :exit, _ -> {:error, Error.new(:storage, detail: "the writer stopped; the outcome is not known")}
  end

  # A full pool takes nothing more, but everything that may empty it.
  defp grows?(body), do: elem(body, 0) in [:append, :many, :join]

  # What a request counts for while it waits.
  defp cost({:append, _flow, draft, _expect}), do: {1, weight(draft)}
  defp cost({:many, items}), do: Enum.reduce(items, {0, 0}, &add_cost/2)
  defp cost({:join, body, others}), do: cost({:many, elem(body, 1) ++ Enum.flat_map(others, &elem(&1, 1))})
  defp cost(_body), do: {1, 256}

  defp add_cost({{_flow, draft, _expect}, _index}, {events, bytes}), do: {events + 1, bytes + weight(draft)}
  defp add_cost({_flow, draft, _expect}, {events, bytes}), do: {events + 1, bytes + weight(draft)}

  defp weight(draft), do: 256 + byte_size(elem(draft, 9))

  @impl true
  def init({name, index}) do
    # Bodies wait in the mailbox and lie in the state: they stay out of crash reports, traces and process_info.
    Process.flag(:sensitive, true)
    instance = Instance.fetch!(name)

    case Promises.open(instance) do
      {:ok, promises} -> begin(instance, index, promises)
      {:error, error} -> {:stop, error}
    end
  end

  defp begin(instance, index, promises) do
    state = %{
      instance: instance,
      index: index,
      store: instance.store,
      waiting: :counters.new(2, [:write_concurrency]),
      ctx: ctx_of(instance),
      promises: promises,
      refusal: nil,
      flows: %{},
      asked: [],
      size: 0,
      agenda: %Agenda{},
      timer: nil,
      idle: %{},
      sizes: %{},
      held: {0, 0},
      watches: %Watches{}
    }

    # Who asks from here on waits until every flow's timer stands again.
    Instance.enlist(instance, index, state.waiting)
    {:ok, state, {:continue, :recover}}
  end

  @impl true
  def handle_continue(:recover, %{instance: instance, index: index} = state) do
    shards = Instance.shards(instance, index)
    Instance.hold(instance, index, {0, 0})

    state =
      with {:ok, epoch} <- Store.lease(state.store, shards),
           %{refusal: nil} = state <- settle_outcomes(%{state | ctx: Map.put(state.ctx, :epoch, epoch)}) do
        recover(state, shards)
      else
        {:error, error} -> %{state | refusal: error}
        refusing -> refusing
      end

    next(state)
  end

  @impl true
  def handle_call({:watch, flow, euid, ref}, {pid, _}, state),
    do: answer(%{state | watches: Watches.put(state.watches, flow, euid, ref, pid)}, :ok)

  # The first writer has counted in what all of them take.
  def handle_call({:join, body, others} = request, _from, state) do
    {result, state} = state |> run_all() |> join(body, others, [])
    {result, state} = signed(result, state)
    {events, bytes} = cost(request)
    Instance.leave(state.waiting, events, bytes)
    answer(state, result)
  end

  def handle_call({:join, body, others, ops}, _from, state) do
    {result, state} = state |> run_all() |> join(body, others, ops)
    answer(state, result)
  end

  def handle_call(body, from, state) do
    state = %{state | asked: [{from, body} | state.asked], size: state.size + 1}
    if state.size >= @batch, do: next(run(state)), else: next(state)
  end

  @impl true
  def handle_cast({:unwatch, ref}, state), do: next(%{state | watches: Watches.drop(state.watches, ref)})

  @impl true
  # Who has just been answered may ask again, if only it gets to run: the batch is then twice as large.
  def handle_info(:timeout, state) do
    :erlang.yield()
    if Process.info(self(), :message_queue_len) == {:message_queue_len, 0}, do: next(run(state)), else: next(state)
  end

  def handle_info({:wake, due}, %{timer: {due, _}} = state), do: next(wake(%{state | timer: nil}))
  def handle_info({:DOWN, ref, :process, _, _}, state), do: next(%{state | watches: Watches.down(state.watches, ref)})
  def handle_info(_other, state), do: next(state)

  # Elixir names this callback of OTP 25 from 1.17 on.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %{index: index, flows: flows}} -> {:state, %{index: index, flows: map_size(flows)}}
      {:log, _} -> {:log, []}
      {key, _} when key in [:message, :state] -> {key, :not_shown}
      other -> other
    end)
  end

  defp recover(state, shards) do
    now = Instance.tick(state.instance)

    # Three events at a flow's end wait for what comes; nothing happens to them by itself.
    waiting = Enum.filter(Store.recover(state.store, shards).waiting, &(&1.pool > 0 or &1.tail > 3))
    waiting |> Enum.reduce(state, &schedule(&2, &1.flow, now)) |> wake() |> run_all()
  end

  defp answer(state, reply), do: state |> next() |> Tuple.insert_at(1, reply) |> put_elem(0, :reply)

  # A batch waits only until the mailbox is empty.
  defp next(%{size: 0} = state), do: {:noreply, state}
  defp next(state), do: {:noreply, state, 0}

  defp run_all(%{size: 0} = state), do: state
  defp run_all(state), do: state |> run() |> run_all()

  defp run(%{size: 0} = state), do: state

  defp run(state) do
    requests = Enum.reverse(state.asked)
    state = %{state | asked: [], size: 0}
    shielded(fn -> run(state, requests) end)
  end

  defp run(%{refusal: %Error{} = error} = state, requests), do: Enum.reduce(requests, state, &refuse(&2, [&1], error))

  defp run(state, requests), do: run(state, requests, @races)

  defp run(state, requests, races) do
    case Batch.run(state.flows, requests, ctx(state)) do
      {:ok, batch} -> state |> commit(batch) |> done(batch, requests, races)
      {:error, error} -> refuse(state, requests, error)
    end
  end

  defp done({{:stale, _flows}, state}, batch, requests, 0) do
    reply({Error.new(:stale), forget(state, Map.keys(batch.flows))}, batch, requests)
  end

  defp done({{:stale, flows}, state}, _batch, requests, races), do: again(state, flows, requests, races)
  defp done(outcome, batch, requests, _races), do: reply(outcome, batch, requests)

  # Another tree has changed these flows; nothing was done. What is asked of others does not wait for them.
  defp again(state, flows, requests, races) do
    {moved, others} =
      Enum.split_with(requests, fn {_from, body} -> Enum.any?(Batch.names(body), &(elem(&1, 0) in flows)) end)

    state = flows |> Enum.reduce(state, &drop(&2, &1)) |> run_some(others)
    pause(@races - races)
    run(state, moved, races - 1)
  end

  defp run_some(state, []), do: state
  defp run_some(state, requests), do: run(state, requests)

  # Something in these requests cannot be packed, settled or sealed. Each alone, so that only the one is refused.
  defp refuse(state, [{from, body}], error) do
    if from, do: GenServer.reply(from, {:error, error})
    leave(state, [{from, body}])
    if state.refusal, do: state, else: forget(state, Enum.map(Batch.names(body), &elem(&1, 0)))
  end

  defp refuse(state, requests, _error), do: Enum.reduce(requests, state, &run(&2, [&1]))

  defp commit(state, %Batch{ops: []} = batch), do: {:ok, adopt(state, batch)}

  defp commit(%{ctx: %{shared: shared}} = state, batch) do
    case Store.attempt(state.store, batch.ops) do
      :ok -> {:ok, adopt(state, batch)}
      {:stale, _flows} = stale -> {stale, state}
      {:error, %Error{reason: :stale}} when shared -> {{:stale, Map.keys(batch.flows)}, state}
      {:error, error} -> {error, forget(state, Map.keys(batch.flows))}
    end
  end

  defp reply({outcome, state}, batch, requests) do
    {promises, replies} =
      if outcome == :ok, do: Promises.replies(state.promises, batch), else: {state.promises, batch.replies}

    state = %{state | promises: promises}
    Enum.each(Enum.reverse(replies), fn {from, reply} -> GenServer.reply(from, answered(outcome, reply)) end)
    done = Enum.drop(requests, -length(batch.rest))
    leave(state, done)
    report(state, batch, done)
    %{state | asked: Enum.reverse(batch.rest) ++ state.asked, size: state.size + length(batch.rest)}
  end

  defp answered(:ok, reply), do: reply
  defp answered(_error, {:error, _} = refused), do: refused
  defp answered(error, _reply), do: {:error, error}

  defp leave(state, requests) do
    {events, bytes} =
      for {from, body} <- requests, from != nil, reduce: {0, 0} do
        {events, bytes} ->
          {more, heavier} = cost(body)
          {events + more, bytes + heavier}
      end

    Instance.leave(state.waiting, events, bytes)
  end

  defp report(state, batch, requests) do
    Telemetry.execute(
      [:event_seal, :writer, :batch],
      %{requests: length(requests), operations: length(batch.ops)},
      %{name: state.instance.name, writer: state.index}
    )
  end

  # append_many over several writers: each holds its part, in ascending order, until the last has committed all.
  defp join(state, body, others, ops) do
    shielded(fn ->
      with {:ok, batch} <- Batch.run(state.flows, [{:joined, body}], ctx(state)),
           {:ok, receipts} <- joined(batch) do
        join(state, batch, Promises.pending(state.promises, batch, receipts), others, ops ++ batch.ops)
      else
        {:error, error} -> {{:error, error}, state}
      end
    end)
  end

  defp join(state, batch, receipts, [], ops) do
    case Store.commit(state.store, ops) do
      :ok -> {{:ok, receipts}, adopt(state, batch)}
      {:error, error} -> {{:error, error}, forget(state, Map.keys(batch.flows))}
    end
  end

  defp join(state, batch, receipts, [{index, items} | others], ops) do
    with {:ok, pid, _waiting} <- Instance.writer(state.instance, index),
         {:ok, more} <- GenServer.call(pid, {:join, {:many, items}, others, ops}, :infinity) do
      {{:ok, receipts ++ more}, adopt(state, batch)}
    else
      {:error, error} -> {{:error, error}, forget(state, Map.keys(batch.flows))}
    end
  catch
    :exit, _ ->
      error = Error.new(:storage, detail: "a writer stopped; the outcome is not known")
      {{:error, error}, forget(state, Map.keys(batch.flows))}
  end

  # What all of them have committed is signed by the first.
  defp signed({:ok, receipts}, state) do
    {promises, receipts} = shielded(fn -> Promises.sign(state.promises, receipts) end)
    {{:ok, receipts}, %{state | promises: promises}}
  end

  defp signed(refused, state), do: {refused, state}

  defp joined(%Batch{replies: [{:joined, result}]}), do: result
  defp joined(%Batch{rest: [_]}), do: {:error, Error.new(:conflict)}

  defp adopt(state, batch) do
    later = Instance.tick(state.instance) + @retry
    state = Enum.reduce(batch.refused, state, fn {id, _error}, state -> schedule(state, :binary.copy(id), later) end)
    batch.flows |> Enum.reduce(state, &adopt_flow/2) |> hold() |> trim() |> arm()
  end

  # By the flow's own copy of its id: the caller's may be a part of something large, which would be kept with it.
  defp adopt_flow({_asked, %{id: id} = flow}, state) do
    state = %{state | watches: Watches.left(state.watches, id, Flow.left(flow))}
    if Flow.moved?(flow), do: Instance.note(state.instance, id)
    if Flow.sealed?(flow), do: Instance.note_sealed(state.instance, id)
    flow = Flow.committed(flow)
    {idle?, due, size} = {Flow.idle?(flow), Flow.due(flow, state.ctx), Flow.size(flow)}

    cond do
      flow.chain == nil -> state
      idle? and elem(size, 1) > @idle_bytes -> drop(state, id)
      idle? -> %{put(state, id, flow, {0, 0}, due) | idle: Map.put(state.idle, id, true)}
      true -> %{put(state, id, flow, size, due) | idle: Map.delete(state.idle, id)}
    end
  end

  defp put(state, id, flow, size, due) do
    %{resize(state, id, size) | flows: Map.put(state.flows, id, flow)} |> schedule(id, due)
  end

  defp drop(state, id) do
    state = state |> resize(id, {0, 0}) |> schedule(id, :infinity)
    %{state | flows: Map.delete(state.flows, id), idle: Map.delete(state.idle, id)}
  end

  defp resize(state, id, {events, bytes} = size) do
    {old_events, old_bytes} = Map.get(state.sizes, id, {0, 0})
    {held_events, held_bytes} = state.held
    sizes = if events == 0, do: Map.delete(state.sizes, id), else: Map.put(state.sizes, id, size)
    %{state | sizes: sizes, held: {held_events + events - old_events, held_bytes + bytes - old_bytes}}
  end

  defp hold(state) do
    Instance.hold(state.instance, state.index, state.held)
    Heap.fit(elem(state.held, 1))
    state
  end

  defp trim(%{idle: idle} = state) when map_size(idle) <= @idle_flows, do: state
  defp trim(state), do: Enum.reduce(Map.keys(state.idle), state, &drop(&2, &1))

  # What the store holds is the truth, once nothing is under way any more. Timers find the flows again a little later.
  defp forget(state, ids) do
    state = settle_outcomes(state)
    state = %{state | watches: Watches.unsure(state.watches, ids)}
    later = Instance.tick(state.instance) + @retry
    ids |> Enum.map(&:binary.copy/1) |> Enum.reduce(state, &forget(&2, &1, later)) |> hold() |> arm()
  end

  defp forget(state, id, later), do: state |> drop(id) |> schedule(id, later)

  # A store that cannot be written until it is opened again still serves readers; nothing is tried on it over and over.
  # After any other failure the next commit may well succeed.
  defp settle_outcomes(state) do
    case Store.commit(state.store, []) do
      {:error, %Error{reason: :read_only} = error} -> %{state | refusal: error}
      _ -> state
    end
  end

  defp schedule(state, id, due), do: %{state | agenda: Agenda.put(state.agenda, id, due)}

  # What is due is asked for like any other request.
  defp wake(state) do
    {ids, agenda} = Agenda.take(state.agenda, Instance.tick(state.instance))
    requests = Enum.map(ids, &{nil, {:due, &1}})
    arm(%{state | agenda: agenda, asked: requests ++ state.asked, size: state.size + length(ids)})
  end

  # One timer, for the earliest.
  defp arm(state) do
    case Agenda.next(state.agenda) do
      nil -> state
      due when state.timer != nil and elem(state.timer, 0) <= due -> state
      due -> rearm(state, due)
    end
  end

  defp rearm(%{instance: %{clock: {clock, argument}}} = state, due) do
    if state.timer, do: clock.cancel(argument, elem(state.timer, 1))
    wait = min(max(due - clock.monotonic(argument), 0), @longest_wait)
    %{state | timer: {due, clock.send_after(argument, self(), {:wake, due}, wait)}}
  end

  defp ctx(state), do: Map.merge(state.ctx, %{at: Instance.now(state.instance), tick: Instance.tick(state.instance)})

  defp ctx_of(%{options: options} = instance) do
    block = Map.new(options[:block])
    max_age = if block.max_age == :infinity, do: :infinity, else: block.max_age * 1000

    %{
      store: instance.store,
      epoch: 1,
      signs: options[:receipts] != nil,
      shared: Store.shared?(instance.store),
      suite: options[:suite],
      window: options[:pool_window] * 1000,
      block: %{block | max_age: max_age}
    }
  end

  # A stack trace names a failed call's arguments, and those hold bodies.
  defp shielded(fun) do
    fun.()
  catch
    kind, reason -> exit({:writer_failed, kind, name(reason), Enum.map(__STACKTRACE__, &without_arguments/1)})
  end

  defp name(%module{}), do: module
  defp name(reason) when is_atom(reason), do: reason
  defp name({reason, _}) when is_atom(reason), do: reason
  defp name(_), do: :other

  defp without_arguments({module, name, arguments, place}) when is_list(arguments),
    do: {module, name, length(arguments), place}

  defp without_arguments(item), do: item
end
