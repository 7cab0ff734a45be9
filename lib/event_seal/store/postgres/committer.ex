defmodule EventSeal.Store.Postgres.Committer do
  @moduledoc false
  # The process that commits: it gathers what waits, lays it out as rows on top of the flows as it knows them, and inserts all
  # of it in one round trip. That nobody else has moved a flow meanwhile, the tables' keys say: then the flows are read
  # again, and the commits judged anew.
  #
  # Two groups of commits may be under way at once, if they have no flow in common: while the server syncs one, it is sent the
  # next. Whatever goes wrong is looked into when nothing else is under way.
  #
  # When the connection breaks, nobody knows whether the commit was done. So each leaves a mark of its own; whoever makes it
  # first, the commit or the question after it, has decided.

  use GenServer

  require Logger
  alias EventSeal.{Error, Postgres}
  alias EventSeal.Store.Postgres.{Client, Draft, Loading, Migration, Rows}

  @group_commits 1_000
  @group_bytes 33_554_432
  @group_numbers 100
  # Flows that are known: all are forgotten when there are more.
  @most_flows 100_000
  @under_way 2
  @tries 10
  @pause 200
  @settle "SELECT settle($1)"
  @take "SELECT take($1, $2)"
  # Somebody else had the key, or the two waited for each other.
  @conflicts ["23505", "40001", "40P01"]

  # So often others are faster before we knock.
  @losses 3
  @knock "SELECT knock($1)"

  # `lost`: how often others were faster in a flow since we changed it last.
  defstruct [:name, :client, :holder, marks: 0, flows: %{}, numbers: [], lost: %{}, waiting: [], under_way: %{}]

  @doc false
  def start_link(name, client, schema), do: GenServer.start_link(__MODULE__, {name, client, schema}, name: name)

  @impl true
  def init({name, client, schema}) do
    # Bodies come in messages and lie in the state: they stay out of crash reports, traces and process_info.
    Process.flag(:sensitive, true)

    case applied(client, schema, @tries) do
      {:ok, version} ->
        if version == Migration.known(),
          do: {:ok, %__MODULE__{name: name, client: client, holder: :crypto.strong_rand_bytes(16)}},
          else:
            {:stop,
             Error.new(:foreign,
               detail:
                 "schema #{schema} has version #{version} of the tables, not #{Migration.known()}: mix event_seal.setup"
             )}

      {:error, error} ->
        {:stop, Client.storage(error)}
    end
  end

  # A question may be asked again.
  defp applied(client, schema, tries) do
    case Migration.applied(client.module, client.name, schema) do
      {:error, %{code: "08007"}} when tries > 0 -> applied(client, schema, tries - 1)
      answer -> answer
    end
  end

  @impl true
  def handle_call({:commit, ops, size}, from, state), do: {:noreply, go_on(wait(state, from, ops, size))}

  def handle_call({:lease, shards}, _from, state) do
    case patiently(state, [{@take, [{[:int2], shards}, {:bytea, state.holder}]}]) do
      {:ok, [%{rows: [[epoch]]}]} -> {:reply, {:ok, epoch}, state}
      {:error, error} -> {:reply, {:error, Client.storage(error)}, state}
    end
  end

  # Elixir names this callback of OTP 25 from 1.17 on.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %{name: name, flows: flows}} -> {:state, %{name: name, flows: map_size(flows)}}
      {:log, _} -> {:log, []}
      {key, _} when key in [:message, :state] -> {key, :not_shown}
      other -> other
    end)
  end

  @impl true
  def handle_info({:inserted, ref, result}, state) when is_map_key(state.under_way, ref) do
    {commits, under_way} = Map.pop!(state.under_way, ref)
    {:noreply, go_on(inserted(%{state | under_way: under_way}, commits, result))}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # All that has come by now waits together.
  defp wait(state, from, ops, size) do
    state = %{state | waiting: state.waiting ++ [{{from, ops}, size}]}

    receive do
      {:"$gen_call", from, {:commit, ops, size}} -> wait(state, from, ops, size)
    after
      0 -> state
    end
  end

  defp go_on(%{waiting: []} = state), do: state
  defp go_on(state) when map_size(state.under_way) == @under_way, do: state

  defp go_on(state) do
    case state.under_way |> Map.values() |> Enum.concat() |> gather(state.waiting) do
      {[], _waiting} -> state
      {commits, waiting} -> %{state | waiting: waiting} |> begin(commits) |> go_on()
    end
  end

  defp gather(under_way, [{{_from, ops} = commit, _size} | rest] = waiting) do
    alone? = Enum.any?(under_way, fn {_from, ops} -> names(ops) == [] end)

    cond do
      names(ops) == [] and under_way == [] -> {[commit], rest}
      alone? -> {[], waiting}
      true -> gather(waiting, Map.new(names_of(under_way), &{&1, true}), {[], 0, 0}, [])
    end
  end

  # What names a flow that is busy waits, and so does what came behind it for the same flows. What names none waits for all
  # before it, and all behind it for that.
  defp gather([{{_from, ops} = commit, size} = first | rest] = waiting, busy, {taken, count, bytes}, left) do
    named = names(ops)

    cond do
      count >= @group_commits or bytes >= @group_bytes or named == [] ->
        gathered(taken, left, waiting)

      Enum.any?(named, &is_map_key(busy, &1)) ->
        gather(rest, Map.merge(busy, Map.new(named, &{&1, true})), {taken, count, bytes}, [first | left])

      true ->
        gather(rest, busy, {[commit | taken], count + 1, bytes + size}, left)
    end
  end

  defp gather([], _busy, {taken, _count, _bytes}, left), do: gathered(taken, left, [])

  defp gathered(taken, left, waiting), do: {Enum.reverse(taken), Enum.reverse(left, waiting)}

  # What nothing speaks against is inserted while this process goes on.
  defp begin(state, commits) do
    with {:ok, state} <- current(state, expected(commits)),
         {:ok, state, _fresh} <- know(state, names_of(commits)),
         {:ok, state} <- number(state, commits),
         {draft, _accepted, []} <- judge(Draft.new(state.flows, state.numbers), commits) do
      send_off(%{state | flows: draft.flows, numbers: draft.numbers}, %{draft | flows: %{}, numbers: []}, commits)
    else
      {:error, error} -> refuse(state, commits, Client.storage(error))
      {_draft, _accepted, _refused} -> state |> settled() |> commit(commits)
    end
  end

  defp send_off(state, draft, commits) do
    if empty?(draft) do
      reply(state, commits)
    else
      {mark, state} = mark(state)
      {committer, ref, asking} = {self(), make_ref(), %{state | flows: %{}, waiting: [], under_way: %{}}}
      # If it cannot say what became of the commit, this process ends with it.
      spawn_link(fn ->
        Process.flag(:sensitive, true)
        send(committer, {:inserted, ref, insert(asking, draft, mark)})
      end)

      %{state | under_way: Map.put(state.under_way, ref, commits)}
    end
  end

  defp inserted(state, commits, :ok), do: reply(state, commits)

  defp inserted(state, commits, {:error, error}),
    do: state |> forget(commits) |> settled() |> failed(commits, error, @tries)

  # With nothing under way any more.
  defp settled(state) do
    results =
      for {ref, commits} <- state.under_way do
        receive(do: ({:inserted, ^ref, result} -> {commits, result}))
      end

    Enum.reduce(results, %{state | under_way: %{}}, fn {commits, result}, state -> inserted(state, commits, result) end)
  end

  # What is refused on flows as they were known is judged once more on flows as they are.
  defp commit(state, commits, tries \\ @tries) do
    with {:ok, state} <- current(state, expected(commits)),
         {:ok, state, fresh} <- know(state, names_of(commits)),
         {:ok, state} <- number(state, commits) do
      {draft, accepted, refused} = judge(Draft.new(state.flows, state.numbers), commits)

      {again, refused} =
        Enum.split_with(refused, fn {{_from, ops}, _reason} -> Enum.any?(names(ops), &(&1 not in fresh)) end)

      again = Enum.map(again, &elem(&1, 0))
      moved = Enum.map(refused, fn {{_from, ops}, reason} -> if(reason == :stale, do: moved(state, ops), else: []) end)
      state = write(state, draft, accepted, tries)
      refused |> Enum.zip(moved) |> Enum.reduce(state, &refuse/2) |> forget(again) |> again(again)
    else
      {:error, error} -> refuse(state, commits, Client.storage(error))
    end
  end

  defp refuse({{{from, _ops}, reason}, []}, state) do
    GenServer.reply(from, {:error, Error.new(reason)})
    state
  end

  defp refuse({{{from, _ops}, :stale}, moved}, state) do
    state = Enum.reduce(moved, state, &lost/2)
    GenServer.reply(from, {:stale, Enum.map(moved, &elem(&1, 0))})
    state
  end

  # The flows that somebody else has changed, and their numbers.
  defp moved(%{flows: flows}, ops) do
    for {:expect, id, expected} <- ops,
        found = flows[id],
        expected == :none or moved?(found, expected),
        uniq: true,
        do: {id, found.number}
  end

  defp moved?(%{turn: turn}, {:turn, expected}), do: turn != expected
  defp moved?(_found, _height), do: false

  defp lost({id, number}, state) do
    losses = Map.get(state.lost, id, 0) + 1
    if rem(losses, @losses) == 0, do: Client.run(state.client, [{@knock, [int8: number]}], [])
    others = if map_size(state.lost) < @most_flows, do: state.lost, else: %{}
    %{state | lost: Map.put(others, id, losses), flows: Map.delete(state.flows, id)}
  end

  defp again(state, []), do: state
  defp again(state, commits), do: commit(state, commits)

  defp judge(draft, commits) do
    {draft, accepted, refused} =
      Enum.reduce(commits, {draft, [], []}, fn {_from, ops} = commit, {draft, accepted, refused} ->
        case Draft.add(draft, ops) do
          {:ok, draft} -> {draft, [commit | accepted], refused}
          {:error, reason} -> {draft, accepted, [{commit, reason} | refused]}
        end
      end)

    {draft, Enum.reverse(accepted), Enum.reverse(refused)}
  end

  defp names_of(commits), do: commits |> Enum.flat_map(fn {_from, ops} -> names(ops) end) |> Enum.uniq()

  defp names(ops), do: for(op <- ops, elem(op, 0) not in [:leaf, :checkpoint], do: elem(op, 1))

  # What a commit expects of a flow that it does not change, no key will say: the database is asked for that flow's turn.
  defp expected(commits),
    do: Enum.flat_map(commits, fn {_from, ops} -> ops |> Enum.reduce(%{}, &expected/2) |> Map.keys() end)

  defp expected({:expect, id, _}, expected), do: Map.put(expected, id, true)
  defp expected(_op, expected) when expected == %{}, do: expected
  defp expected(op, expected), do: Map.delete(expected, elem(op, 1))

  # Of these flows, what is known of those that have moved is forgotten.
  defp current(state, ids) do
    case Enum.filter(ids, &is_map_key(state.flows, &1)) do
      [] ->
        {:ok, state}

      known ->
        with {:ok, turns} <- Loading.turns(state.client, known),
             do:
               {:ok, %{state | flows: Map.drop(state.flows, Enum.reject(known, &(turns[&1] == turn(state.flows[&1]))))}}
    end
  end

  defp turn(nil), do: nil
  defp turn(flow), do: flow.turn

  # Those that were read just now are returned beside.
  defp know(state, named) do
    case Enum.reject(named, &is_map_key(state.flows, &1)) do
      [] ->
        {:ok, state, []}

      unknown ->
        with {:ok, flows} <- Loading.flows(state.client, unknown),
             do: {:ok, %{state | flows: Map.merge(room(state.flows, named), flows)}, unknown}
    end
  end

  defp room(flows, _named) when map_size(flows) < @most_flows, do: flows
  defp room(flows, named), do: Map.take(flows, named)

  defp number(state, commits) do
    opened = for {_from, ops} <- commits, {:open, _id, _genesis} <- ops, reduce: 0, do: (count -> count + 1)

    if length(state.numbers) >= opened do
      {:ok, state}
    else
      with {:ok, numbers} <- Loading.numbers(state.client, opened + @group_numbers),
           do: {:ok, %{state | numbers: state.numbers ++ numbers}}
    end
  end

  defp write(state, _draft, [], _tries), do: state

  defp write(state, draft, accepted, tries) do
    {mark, state} = mark(state)

    case if(empty?(draft), do: :ok, else: insert(state, draft, mark)) do
      :ok ->
        reply(%{state | flows: draft.flows, numbers: draft.numbers}, accepted)

      {:error, error} ->
        failed(forget(%{state | numbers: draft.numbers}, accepted), accepted, error, tries)
    end
  end

  defp mark(state), do: {<<state.holder::binary, state.marks::64>>, %{state | marks: state.marks + 1}}

  defp reply(state, commits) do
    for {from, _ops} <- commits, do: GenServer.reply(from, :ok)
    won = for {_from, ops} <- commits, state.lost != %{}, id <- names(ops), do: id
    %{state | lost: Map.drop(state.lost, won)}
  end

  defp empty?(draft), do: Enum.all?(draft.rows, fn {_table, rows} -> rows == [] end)

  defp insert(state, draft, mark) do
    case Client.run(state.client, Rows.statements(draft, mark), []) do
      {:ok, _results} -> :ok
      {:error, error} -> if Postgres.Error.undone?(error), do: {:error, error}, else: settle(state, mark, error)
    end
  end

  defp settle(state, mark, error) do
    case patiently(state, [{@settle, [bytea: mark]}]) do
      {:ok, [%{rows: [[true]]}]} -> :ok
      {:ok, [%{rows: [[false]]}]} -> {:error, %{error | code: "08006"}}
      {:error, _other} -> exit({:outcome_unknown, error.code})
    end
  end

  # A server that is gone for a while is waited for.
  defp patiently(state, statements) do
    case Client.run(state.client, statements, []) do
      {:error, error} = failed ->
        if Client.passing?(error) do
          Process.sleep(@pause)
          patiently(state, statements)
        else
          failed
        end

      done ->
        done
    end
  end

  defp failed(state, commits, %{code: code}, tries) when code in @conflicts and tries > 0,
    do: commit(state, commits, tries - 1)

  # One of them is to blame; alone, the others pass.
  defp failed(state, [_, _ | _] = commits, %{code: code} = error, _tries) do
    if String.starts_with?(code, ["08", "53", "57"]),
      do: refuse(state, commits, Client.storage(error)),
      else: Enum.reduce(commits, state, &commit(&2, [&1]))
  end

  defp failed(state, commits, %{code: code}, _tries) when code in @conflicts,
    do: refuse(state, commits, Error.new(:stale))

  defp failed(state, commits, error, _tries), do: refuse(state, commits, Client.storage(error))

  defp refuse(state, commits, error) do
    for {from, _ops} <- commits, do: GenServer.reply(from, {:error, error})
    state
  end

  defp forget(state, commits) do
    %{state | flows: Map.drop(state.flows, Enum.flat_map(commits, fn {_from, ops} -> names(ops) end))}
  end
end
