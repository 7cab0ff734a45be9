defmodule EventSeal.Faults.Host do
  @moduledoc false
  # The machine on which EventSeal.Faults.Machine has its store: the store is opened and stopped on it, and it may stop itself
  # at any moment, with or without its power. A state here is EventSeal.Faults.Machine's.
  alias EventSeal.{FaultyFiles, FlowModel, Instance, Store}
  alias EventSeal.Faults.{Commands, Fault, Tree}
  alias EventSeal.FaultyFiles.Ledger

  @live EventSeal.Faults.Live
  @minute 60_000

  def live, do: @live

  def strikes, do: FaultyFiles.strikes() |> Map.values() |> Enum.sum()

  @doc "Whether a fault has struck since this command began. One that stops the machine may have struck a little before."
  def struck?(state), do: state.real? or strikes() > state.before

  # A writer that has answered has begun, and has done what the clock had set going; a store that has, has rotated if it
  # was time to.
  defp ask_all, do: [empty_commit() | ask_writers(@live)]

  @doc "Asks every writer for something that is not there."
  def ask_writers(name), do: for(flow <- Commands.flows(), do: FlowModel.perform(name, :retract, [flow, 0, nil]))

  defp empty_commit do
    with :ok <- Store.Disk.commit(Instance.store_name(@live), []), do: :not_found
  catch
    :exit, _ -> :unknown
  else
    :not_found -> :not_found
    {:error, error} -> {:refused, Exception.message(error)}
  end

  @doc "A tree that is gone, or does not write any more, is opened again; one that is just starting is waited for."
  def settled_down(state, tries \\ 100_000)
  def settled_down(_state, tries) when tries <= 0, do: wrong({:false_fault, :never_settled})

  def settled_down(state, tries) do
    {[answers], state} = perform(state, [&ask_all/0])
    answer = if is_list(answers), do: Enum.find(answers, &(&1 != :not_found)), else: answers

    cond do
      Process.whereis(@live) == nil -> state |> open() |> settled_down(tries - 1)
      answer == nil -> state
      answer == :unknown -> wait(state, tries)
      match?({:refused, _}, answer) and struck?(state) -> state |> stopped() |> open() |> settled_down(tries - 10_000)
      true -> wrong({:answer, {:writers, answer}})
    end
  end

  defp wait(state, tries) do
    Process.sleep(1)
    settled_down(state, tries - 1)
  end

  defp stopped(state) do
    {_answer, state} = perform(state, [fn -> Tree.stop(@live) end])
    state
  end

  @doc "Opens the store. An error may only come of a fault; without any, it opens."
  def open(state, healed? \\ false) do
    Tree.kill(@live)

    case perform(state, [fn -> Tree.start(opts(@live, state.dir, FaultyFiles, state.clock)) end]) do
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
    Fault.release()
    open(state, true)
  end

  def opts(name, dir, files, clock) do
    [
      name: name,
      store: {Store.Disk, dir: dir, files: files, journal_bytes: 4096, segment_bytes: 4096},
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
    Fault.release()
    if disk, do: lose_power(state, disk)
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

  defp lose_power(state, disk) do
    image = state.dir <> "-after"
    Ledger.image(state.dir, image, disk)
    File.rm_rf!(state.dir)
    if File.dir?(image), do: File.rename!(image, state.dir)
    Ledger.adopt(state.dir)
  end

  @spec wrong({atom, term}) :: no_return
  def wrong(difference), do: throw({:wrong, difference})
end
