defmodule EventSeal.Faults.Machine do
  @moduledoc false
  # Runs commands through the facade over a small store while faults strike, beside EventSeal.FlowModel, which knows
  # every acknowledgement. What the store stands on, and what can befall it there, is an EventSeal.Faults.Ground's. An answer that leaves the outcome open makes two worlds of one: done, and not done. What is found
  # then decides, whole or not at all. After every fault the store is opened anew, or what the loss of power would leave is.
  #
  # A run is `{verb, arguments}`, `{:burst, [{verb, arguments}]}` (at once, each of another flow), `{:tidy, []}`,
  # `{:verify, []}`, `{:reopen, [:stop | :kill]}`, `{:advance, [milliseconds]}`, `{:clock, [microseconds]}`, and faults, which
  # the ground arms for what comes behind them.
  import EventSeal.Faults.Host, except: [live: 0]

  alias EventSeal.{FaultyFiles, FlowModel, Instance, ManualClock}
  alias EventSeal.Faults.{Disk, Found, Host, Tree}

  @live Host.live()
  @probe EventSeal.Faults.Probe

  defstruct [:ground, :place, :clock, :worlds, seen: %{}, probes: nil, before: 0, real?: false]

  @doc """
  Runs the commands in a place, which is made anew; `{:ok, acknowledged}`, or `{:wrong, class, detail, command}`.

  `ground:` what the place is of, a folder unless given. `probes:` which disks (`EventSeal.FaultyFiles.Ledger.disks/0`) are
  looked at after each fault; two, drawn, unless given. `until: :struck` ends the run once a fault has struck and all was looked at.
  """
  def run(commands, place, opts \\ []) do
    ground = Keyword.get(opts, :ground, Disk)
    fresh(ground, place)
    clock = ManualClock.start_link()
    worlds = [FlowModel.initial_state()]
    state = %__MODULE__{ground: ground, place: place, clock: clock, worlds: worlds, probes: opts[:probes]}

    try do
      {faults, commands} = Enum.split_while(commands, &match?({:fault, _}, &1))
      run_all([{:begin, faults} | commands], state, opts[:until])
    after
      ground.release(place)
      Tree.kill(@live)
      Agent.stop(elem(clock, 1))
    end
  end

  defp fresh(ground, place) do
    FaultyFiles.heal()
    FaultyFiles.resume()
    FaultyFiles.boot()
    ground.fresh(place)
  end

  defp run_all(commands, state, until) do
    Enum.reduce_while(commands, {:ok, state, 0}, fn command, {:ok, state, acknowledged} ->
      before = strikes()

      try do
        {state, more} = step(state, command)
        ending = if until == :struck and strikes() > before, do: :halt, else: :cont
        {ending, {:ok, state, acknowledged + more}}
      catch
        {:wrong, {class, detail}} -> {:halt, {:wrong, class, detail, command}}
      end
    end)
    |> then(fn
      {:ok, _state, acknowledged} -> {:ok, acknowledged}
      wrong -> wrong
    end)
  end

  # Faults that stand first are there before the store is.
  defp step(state, {:begin, faults}) do
    state = %{state | before: strikes()}
    state = Enum.reduce(faults, state, fn fault, state -> state |> step(fault) |> elem(0) end)
    {state |> open() |> looked_at(), 0}
  end

  defp step(state, {:fault, fault}) do
    state.ground.arm(fault, state.place, self(), @live)
    {%{state | real?: state.real? or state.ground.real?(fault)}, 0}
  end

  defp step(state, {:clock, [microseconds]}) do
    ManualClock.set(state.clock, ManualClock.now(elem(state.clock, 1)) + microseconds)
    FaultyFiles.strike({:clock, :set})
    {state, 0}
  end

  defp step(state, {:burst, commands}), do: verbs(state, commands)
  defp step(state, command), do: verbs(state, [command])

  defp verbs(state, commands) do
    state = %{state | before: strikes()}
    {answers, state} = perform(state, Enum.map(commands, fn command -> fn -> run_verb(state, command) end end))
    struck? = struck?(state)
    worlds = commands |> Enum.zip(answers) |> Enum.reduce(state.worlds, &worlds(&1, &2, struck?))
    state = looked_at(%{state | worlds: worlds}, match?([{:verify, _}], commands))
    {state, Enum.count(answers, &acknowledged?/1)}
  end

  defp looked_at(state, verify? \\ false) do
    if struck?(state), do: state.ground.calm(state.place)
    state = settled_down(state)
    state = look(state, struck?(state) or verify?)
    if struck?(state), do: probe(state)
    %{state | real?: false}
  end

  defp acknowledged?(answer), do: answer == :ok or match?({:ok, _}, answer)

  defp run_verb(state, {:tidy, []}) do
    with {:error, error} <- state.ground.tidy(Instance.store_name(@live)), do: {:refused, Exception.message(error)}
  catch
    :exit, _ -> :unknown
  end

  defp run_verb(_state, {:verify, []}), do: Found.false_fault(@live) || :ok
  defp run_verb(_state, {:reopen, [how]}), do: if(how == :stop, do: Tree.stop(@live), else: Tree.kill(@live))

  defp run_verb(state, {:advance, [milliseconds]}) do
    ask_writers(@live)
    ManualClock.advance(state.clock, milliseconds)
    ask_writers(@live)
    :ok
  end

  defp run_verb(_state, {verb, arguments}), do: FlowModel.perform(@live, verb, arguments)

  # What the answer leaves of the worlds.
  defp worlds({{verb, _arguments} = command, answer}, worlds, struck?)
       when verb in [:tidy, :verify, :reopen, :advance] do
    if answer == :ok or struck?, do: worlds, else: wrong({:answer, {command, answer}})
  end

  defp worlds({{verb, arguments} = command, answer}, worlds, struck?) do
    left =
      Enum.flat_map(worlds, fn world ->
        {foretold, next} = FlowModel.step(world, verb, arguments)

        case answer do
          :unknown when struck? -> [world, next]
          {:refused, _message} when struck? -> [world]
          {:ok, _count} when is_tuple(foretold) -> [next]
          ^foretold -> [next]
          _other -> []
        end
      end)

    if left == [],
      do: wrong({:answer, {command, answer, Enum.map(worlds, &elem(FlowModel.step(&1, verb, arguments), 0))}})

    Enum.uniq(left)
  end

  # Compares all there is with the worlds. No fault strikes meanwhile; but one may just have, in a process of the tree.
  defp look(state, verify?, tries \\ 10) do
    {[found], state} = suspended(state, fn -> perform(state, [fn -> read(@live, verify?) end]) end)

    case found do
      {:ok, found} -> looked(state, found)
      {:wrong, difference} -> wrong(difference)
      failed when tries == 0 -> wrong({:false_fault, failed})
      _failed -> state |> settled_down() |> look(verify?, tries - 1)
    end
  end

  defp read(name, verify?) do
    found = Found.read(name)
    fault = verify? && Found.false_fault(name)
    if fault, do: {:wrong, fault}, else: {:ok, found}
  rescue
    error -> {:failed, error}
  catch
    :exit, reason -> {:failed, reason}
  end

  defp looked(state, found) do
    case Enum.filter(state.worlds, &(Found.difference(found, &1) == nil)) do
      [] -> wrong(Found.difference(found, hd(state.worlds)))
      worlds -> remember(%{state | worlds: worlds |> Enum.map(&Found.absorb(&1, found)) |> Enum.uniq()}, found)
    end
  end

  defp remember(state, found) do
    marks = Found.marks(found)
    if fork = Found.fork(marks, state.seen), do: wrong(fork)
    %{state | seen: Map.merge(state.seen, marks)}
  end

  defp suspended(state, fun) do
    FaultyFiles.suspend()
    state.ground.release(state.place)
    result = fun.()
    FaultyFiles.resume()
    result
  end

  # As others see it, who have nothing in memory: what would be there if the power went now, or from another node.
  defp probe(state) do
    state.ground.probe(state.place, state.probes, fn how, store ->
      if fault = probed(state, store), do: wrong(put_elem(fault, 1, {how, elem(fault, 1)}))
    end)
  end

  defp probed(state, store) do
    with :ok <- Tree.start(opts(@probe, store, state.clock)),
         _answers = ask_writers(@probe),
         {:ok, found} <- read(@probe, true) do
      state.worlds |> Enum.map(&Found.difference(found, &1)) |> Enum.min() ||
        Found.fork(Found.marks(found), state.seen) || Found.again(@probe, hd(state.worlds), found)
    else
      {:wrong, difference} -> difference
      {_failed, reason} -> {:false_fault, reason}
    end
  after
    Tree.kill(@probe)
  end
end
