defmodule EventSeal.Faults.Host do
  @moduledoc false
  # The machine on which EventSeal.Faults.Machine has its store: the store is opened and stopped on it, and it may stop itself
  # at any moment, with or without its power. A state here is EventSeal.Faults.Machine's.
  alias EventSeal.{FaultyFiles, FlowModel, Instance}
  alias EventSeal.Faults.{Commands, Tree}

  @live EventSeal.Faults.Live
  @minute 60_000

  def live, do: @live

  def strikes, do: FaultyFiles.strikes() |> Map.values() |> Enum.sum()

  @doc "Whether a fault has struck since this command began. One that stops the machine may have struck a little before."
  def struck?(state), do: state.real? or strikes() > state.before

  # A writer that has answered has begun, and has done what the clock had set going; a store that has, has rotated if it
  # was time to.
  defp ask_all(store), do: [empty_commit(store) | ask_writers(@live)]

  @doc "Asks every writer for something that is not there."
  def ask_writers(name), do: for(flow <- Commands.flows(), do: FlowModel.perform(name, :retract, [flow, 0, nil]))

  defp empty_commit({module, _opts}) do
    with :ok <- module.commit(Instance.store_name(@live), []), do: :not_found
  catch
    :exit, _ -> :unknown
  else
    :not_found -> :not_found
    {:error, error} -> {:refused, Exception.message(error)}
  end

  @doc "A tree that is gone, or does not write any more, is opened again; one that is just starting is waited for."
  def settled_down(state, tries \\ 100_000, last \\ nil)
  def settled_down(_state, tries, last) when tries <= 0, do: wrong({:false_fault, {:never_settled, last}})

  def settled_down(state, tries, _last) do
    {[answers], state} = perform(state, [fn -> ask_all(state.ground.store(state.place)) end])
    answer = if is_list(answers), do: Enum.find(answers, &(&1 != :not_found)), else: answers

    cond do
      Process.whereis(@live) == nil -> state |> open() |> settled_down(tries - 1)
      answer == nil -> state
      answer == :unknown -> wait(state, tries)
      match?({:refused, _}, answer) and struck?(state) -> refused(state, tries, answer)
      true -> wrong({:answer, {:writers, answer}})
    end
  end

  defp wait(state, tries) do
    Process.sleep(1)
    settled_down(state, tries - 1)
  end

  # A store that is to go on by itself is only asked again.
  defp refused(state, tries, answer) do
    if state.ground.reopened?() do
      state |> stopped() |> open() |> settled_down(tries - 10_000, answer)
    else
      Process.sleep(20)
      settled_down(state, tries - 100, answer)
    end
  end

  defp stopped(state) do
    {_answer, state} = perform(state, [fn -> Tree.stop(@live) end])
    state
  end

  @doc "Opens the store. An error may only come of a fault; without any, it opens."
  def open(state, healed? \\ false) do
    Tree.kill(@live)

    case perform(state, [fn -> Tree.start(opts(@live, state.ground.store(state.place), state.clock)) end]) do
      {[:ok], state} ->
        state

      {[:unknown], state} ->
        open(state, healed?)

      {[{:error, reason}], state} ->
        if(struck?(state) and not healed?, do: open_healed(state), else: wrong({:false_fault, reason}))
    end
  end

  defp open_healed(state) do
    FaultyFiles.heal()
    state.ground.release(state.place)
    open(state, true)
  end

  def opts(name, store, clock) do
    [
      name: name,
      store: store,
      clock: clock,
      pool_window: @minute,
      writers: 2,
      block: [max_age: :infinity, max_events: 4]
    ]
  end

  @doc """
  Runs these at once, each in a process of its own. When the machine stops meanwhile, all of the tree is killed, what had no
  answer is `:unknown`, and the disk is what its power left.
  """
  def perform(state, funs) do
    me = self()
    ref = make_ref()
    pids = for {fun, index} <- Enum.with_index(funs), do: spawn_link(fn -> send(me, {ref, index, fun.()}) end)
    await(state, ref, pids, %{})
  end

  defp await(state, _ref, pids, answers) when map_size(answers) == length(pids) do
    {Enum.map(0..(length(pids) - 1), &answers[&1]), state}
  end

  defp await(state, ref, pids, answers) do
    receive do
      {^ref, index, answer} -> await(state, ref, pids, Map.put(answers, index, answer))
      {:halted, disk} -> halted(state, disk, ref, pids, answers)
    after
      5 * @minute -> wrong({:answer, :never})
    end
  end

  defp halted(state, disk, ref, pids, answers) do
    answers = answered(ref, answers)

    for pid <- pids do
      Process.unlink(pid)
      Process.exit(pid, :kill)
    end

    Tree.kill(@live)
    state.ground.release(state.place)
    state.ground.stopped(state.place, disk)
    FaultyFiles.boot()
    state = %{state | before: -1}
    {for(index <- 0..(length(pids) - 1), do: Map.get(answers, index, :unknown)), state}
  end

  defp answered(ref, answers) do
    receive do
      {^ref, index, answer} -> answered(ref, Map.put(answers, index, answer))
    after
      0 -> answers
    end
  end

  @spec wrong({atom, term}) :: no_return
  def wrong(difference), do: throw({:wrong, difference})
end
