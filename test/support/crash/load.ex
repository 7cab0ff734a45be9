defmodule EventSeal.Crash.Load do
  @moduledoc false
  # What runs in the VM that is killed: workers that append, amend, retract, settle, seal and close as fast as they can.
  # Each writes to a file of its own what it is about to do and what came of it. A raw write is in the kernel's hands when
  # it returns, so a log outlives kill -9 with nothing missing.

  alias EventSeal.{Error, FaultyFiles}

  @name EventSeal.Crash.Store

  @doc "The entry of the VM: `path` holds the round's plan as a term."
  def main(path) do
    IO.puts("boot #{System.pid()}")
    spawn(&end_with_parent/0)
    plan = path |> File.read!() |> :erlang.binary_to_term() |> armed()
    {:ok, _} = start(plan)
    run_workers(plan)
  end

  # The VM kills itself at an operation on its files, if the plan names one.
  defp armed(%{kill_at: nil} = plan), do: plan

  defp armed(%{kill_at: {passes, moment}, store: {module, opts}} = plan) do
    FaultyFiles.new()
    kill = fn _operation -> System.cmd("kill", ["-9", System.pid()]) end
    FaultyFiles.arm(%{passes: passes, moment: moment, act: {:halt, kill}})
    %{plan | store: {module, [files: FaultyFiles] ++ opts}} |> apart()
  end

  defp apart(%{more: [_ | _] = more} = plan) do
    %{
      plan
      | more: Keyword.update!(more, :verification, fn {module, opts} -> {module, [files: FaultyFiles] ++ opts} end)
    }
  end

  defp apart(plan), do: plan

  @doc "Says `ready` once each worker has had its first acknowledgement."
  def run_workers(plan) do
    me = self()
    for worker <- plan.workers, do: spawn_link(fn -> work(Map.merge(plan, worker), me) end)
    for _ <- plan.workers, do: receive(do: (:first -> :ok))
    IO.puts("ready")
    Process.sleep(:infinity)
  end

  def start(plan) do
    {:ok, _} = Application.ensure_all_started(:event_seal)

    opts = [name: @name, store: store(plan.store), pool_window: plan.window]

    EventSeal.start_link(
      opts ++ [block: [max_events: 16, max_bytes: 1_000_000, max_age: 50]] ++ Map.get(plan, :more, [])
    )
  end

  @doc "A store as it is in a plan, in which no function can stand."
  def store({module, opts}) do
    if password = opts[:password], do: {module, Keyword.put(opts, :password, fn -> password end)}, else: {module, opts}
  end

  def name, do: @name

  @doc "An event is known by its body: flow, serial number and revision, and as many bytes more as the serial says."
  def event(flow, serial, revision) do
    filler = String.duplicate("x", rem(serial * 7919, 700) + if(rem(serial, 97) == 0, do: 100_000, else: 0))
    %{when: rem(serial * 37, 50), kind: "load", who: "worker", body: "#{flow}|#{serial}|#{revision}|#{filler}"}
  end

  def serial(body) do
    [_flow, serial, revision, _filler] = String.split(body, "|", parts: 4)
    {String.to_integer(serial), String.to_integer(revision)}
  end

  @doc "The entries of a worker's log: `{operation, result}`, the last without a result if it was cut off."
  def read_log(path) do
    path |> File.read!() |> String.split("\n") |> Enum.drop(-1) |> Enum.map(&decode/1) |> pair()
  end

  defp pair([{:try, op}, {:done, result} | rest]), do: [{op, result} | pair(rest)]
  defp pair([{:try, op}]), do: [{op, :in_doubt}]
  defp pair([]), do: []

  defp decode(line), do: line |> Base.decode64!() |> :erlang.binary_to_term()

  # The parent holds the other end of standard input: were it to die, nothing would be left running.
  defp end_with_parent do
    IO.read(:stdio, :line)
    System.halt(1)
  end

  defp work(plan, parent) do
    :rand.seed(:exsss, {plan.seed, plan.round, plan.id})
    {:ok, log} = :file.open(plan.log, [:raw, :binary, :append])
    state = %{log: log, id: plan.id, window: plan.window, flows: plan.flows, next_flow: plan.next_flow}
    state = Enum.reduce(0..2, state, &step({:append, &1}, &2))
    send(parent, :first)
    loop(state)
  end

  @weights [append: 45, many: 10, amend: 14, retract: 6, settle: 5, seal: 5, close: 2, look: 13]
  defp loop(state), do: {pick(@weights), :rand.uniform(3) - 1} |> step(state) |> loop()

  @doc "Draws one by its weight; the weights are 100 together."
  def pick(weights), do: weighted(:rand.uniform(100), weights)

  defp weighted(n, [{op, weight} | _]) when n <= weight, do: op
  defp weighted(n, [{_op, weight} | rest]), do: weighted(n - weight, rest)

  # A flow here is {id, next serial, the last events as {serial, euid, revision}}.
  defp step({:append, at}, state) do
    {flow, serial, _} = Enum.at(state.flows, at)
    euid = if rem(serial, 2) == 0, do: euid(flow, serial)
    result = run(state, {:append, flow, serial, euid}, fn -> append(flow, serial, euid) end)
    appended(state, at, [{serial, result}])
  end

  defp step({:many, _}, state) do
    items = for {flow, serial, _} <- state.flows, more <- 0..1, do: {flow, serial + more}

    {:ok, receipts} =
      run(state, {:many, items}, fn ->
        with {:ok, receipts} <-
               EventSeal.append_many(@name, for({flow, serial} <- items, do: {flow, event(flow, serial, 0)})),
             do: {:ok, Enum.map(receipts, &{&1.euid, &1.recorded_at})}
      end)

    Enum.zip(items, receipts)
    |> Enum.chunk_every(2)
    |> Enum.with_index()
    |> Enum.reduce(state, fn {pairs, at}, state ->
      appended(state, at, for({{_, serial}, r} <- pairs, do: {serial, {:ok, r}}))
    end)
  end

  defp step({op, at}, state) when op in [:amend, :retract, :look] do
    case Enum.at(state.flows, at) do
      {_flow, _next, []} -> state
      {flow, _next, events} -> one(op, at, flow, Enum.random(events), state)
    end
  end

  defp step({op, at}, state) when op in [:settle, :seal] do
    {flow, _, _} = Enum.at(state.flows, at)
    run(state, {op, flow}, fn -> plain(apply(EventSeal, op, [@name, flow])) end)
    state
  end

  defp step({:close, at}, state) do
    {flow, _, _} = Enum.at(state.flows, at)
    :ok = run(state, {:close, flow}, fn -> plain(EventSeal.close(@name, flow)) end)
    next = {"worker#{state.id}/flow#{state.next_flow}", 1, []}
    state = %{state | flows: List.replace_at(state.flows, at, next), next_flow: "#{state.next_flow}+"}
    step({:append, at}, state)
  end

  defp one(:amend, at, flow, {serial, euid, revision}, state) do
    result =
      run(state, {:amend, flow, serial, revision + 1}, fn ->
        plain(EventSeal.amend(@name, flow, euid, event(flow, serial, revision + 1), revision: revision))
      end)

    if result == :ok,
      do: update(state, at, &List.keyreplace(&1, serial, 0, {serial, euid, revision + 1})),
      else: update(state, at, &List.keydelete(&1, serial, 0))
  end

  defp one(:retract, at, flow, {serial, euid, _}, state) do
    run(state, {:retract, flow, serial, euid}, fn -> plain(EventSeal.retract(@name, flow, euid)) end)
    update(state, at, &List.keydelete(&1, serial, 0))
  end

  defp one(:look, _at, flow, {serial, euid, _}, state) do
    run(state, {:look, flow, serial}, fn ->
      {:ok, event} = EventSeal.event(@name, flow, euid)
      Map.take(event, [:stage, :n, :hash, :provisional, :id, :recorded_at, :salt, :revision])
    end)

    state
  end

  defp append(flow, serial, euid) do
    with {:ok, receipt} <- EventSeal.append(@name, flow, event(flow, serial, 0), euid: euid),
         do: {:ok, {receipt.euid, receipt.recorded_at}}
  end

  defp appended(state, at, results) do
    new = for {serial, {:ok, {euid, _}}} <- results, do: {serial, euid, 0}
    {flow, next, events} = Enum.at(state.flows, at)
    %{state | flows: List.replace_at(state.flows, at, {flow, next + length(results), Enum.take(new ++ events, 8)})}
  end

  defp update(state, at, fun) do
    {flow, next, events} = Enum.at(state.flows, at)
    %{state | flows: List.replace_at(state.flows, at, {flow, next, fun.(events)})}
  end

  defp run(%{log: log}, op, fun) do
    note(log, {:try, op})
    result = fun.()
    note(log, {:done, result})
    result
  end

  def note(log, term), do: :ok = :file.write(log, [Base.encode64(:erlang.term_to_binary(term)), "\n"])

  defp plain(:ok), do: :ok
  defp plain({:ok, _}), do: :ok
  defp plain({:error, %Error{reason: reason}}), do: {:error, reason}

  def euid(flow, serial), do: binary_part(:crypto.hash(:sha256, "#{flow}|#{serial}"), 0, 16)
end
