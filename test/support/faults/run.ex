defmodule EventSeal.Faults.Run do
  @moduledoc false
  # bin/faults: runs of EventSeal.Faults.Machine until the time is over and every kind of fault has struck, or twice the time
  # is, and a table of what they came to. A run that goes wrong is made as short as it can be, and printed.
  alias EventSeal.FaultyFiles
  alias EventSeal.Faults.{Cable, Commands, Database, Disk, Fault, Machine, Operator}

  @switches [seconds: :integer, seed: :integer, store: :string, commands: :string] ++
              [dir: :string, ballast: :string, handles: :boolean, small: :boolean]
  @classes [:lost, :doubled, :reordered, :fork, :false_fault, :answer]
  @doc "The command line's; ends the VM, with 0 if nothing went wrong."
  def main(arguments) do
    {opts, []} = OptionParser.parse!(arguments, strict: @switches)
    {:ok, _} = Application.ensure_all_started(:event_seal)
    Logger.configure(level: :none)
    opts = Keyword.merge([seconds: 600, seed: :rand.uniform(1_000_000_000), store: "disk"], opts)
    System.halt(if run(opts[:store], opts), do: 0, else: 1)
  end

  defp run("disk", opts) do
    FaultyFiles.new()
    if opts[:ballast], do: Fault.ballast(Path.join(opts[:dir], opts[:ballast]))
    load_all()
    real = for {kind, what} <- [full: opts[:ballast], handles: opts[:handles]], what, do: kind
    run(opts, Disk, Path.join(opts[:dir], "store"), real)
  end

  # On a small volume, where there is one, is the server's data.
  defp run("postgres", opts) do
    FaultyFiles.new()
    {:ok, operator} = Operator.start_link()
    place = {operator, Cable.lay(Operator.server(operator).port)}
    ended_well? = run(opts, Database, place, if(opts[:small], do: [:full], else: []))
    Operator.stop(operator)
    ended_well?
  end

  defp run(opts, ground, place, real) do
    state = %{ground: ground, place: place, real: real, seed: opts[:seed], from: now(), counts: :counters.new(3, [])}
    if opts[:commands], do: again(opts, state), else: all(opts, state)
  end

  # Modules are loaded when they are first called, which takes file handles.
  defp load_all do
    for application <- [:kernel, :stdlib, :elixir, :proper, :event_seal] do
      {:ok, modules} = :application.get_key(application, :modules)
      :code.ensure_modules_loaded(modules)
    end
  end

  defp again(opts, state) do
    {commands, []} = Code.eval_string(opts[:commands])
    outcome = machine(commands, state, opts[:seed])
    IO.puts(inspect(outcome, pretty: true, limit: :infinity))
    match?({:ok, _}, outcome)
  end

  defp all(opts, state) do
    IO.puts("seed #{opts[:seed]}, #{opts[:seconds]} seconds")
    state = Map.put(state, :until, state.from + opts[:seconds])
    failure = runs(state, 0)
    IO.puts(table(state, failure))
    if failure, do: IO.puts(reproduction(failure, opts[:store]))
    failure == nil
  end

  defp now, do: System.monotonic_time(:second)
  # What is seldom drawn is waited for as long again.
  defp over?(state),
    do: now() >= state.until and (unstruck(state) == [] or now() >= 2 * state.until - state.from)

  defp unstruck(state), do: for({_name, kind} <- lines(state), had?(kind, state), struck(kind) == [], do: kind)
  defp lines(state), do: state.ground.lines(state.real)
  defp had?(kind, state), do: kind not in [:full, :handles] or kind in state.real

  defp struck(kind) do
    for {{found, at}, count} <- FaultyFiles.strikes(),
        found == kind or match?({^kind, _}, found),
        do: {found, at, count}
  end

  # Each run has a seed of its own, from which it is drawn.
  defp runs(state, number) do
    seed = :erlang.phash2({state.seed, number}, 1_000_000_000)

    cond do
      over?(state) -> nil
      failure = one(state, seed) -> failure
      true -> runs(state, number + 1)
    end
  end

  defp one(state, seed) do
    type = :proper_types.sized(fn _size -> seeded(seed, state) end)

    property =
      :proper.forall(type, fn commands ->
        shrunk?(state) || holds?(commands, seed, state)
      end)

    holds? =
      :proper.quickcheck(property, [:quiet, {:numtests, 1}, {:max_shrinks, 150}, {:start_size, 60}, {:max_size, 60}])

    outcomes = outcomes([])
    if holds?, do: count(state, outcomes), else: failure(seed, outcomes)
  end

  defp holds?(commands, seed, state) do
    outcome = machine(commands, state, seed)
    send(self(), {:outcome, commands, outcome})
    match?({:ok, _}, outcome) || said(state)
  end

  defp said(state) do
    if :counters.get(state.counts, 3) == 0 do
      :counters.put(state.counts, 3, now() - state.from + 1)
      IO.puts("A run went wrong after #{now() - state.from} seconds; it is made shorter now.")
    end

    false
  end

  # What is not short by then stays as it is.
  @shrinking 40
  defp shrunk?(state) do
    wrong = :counters.get(state.counts, 3)
    wrong > 0 and now() - state.from - wrong > @shrinking
  end

  defp seeded(seed, state) do
    :rand.seed(:exsss, seed)
    Commands.runs(state.ground.faults(state.real))
  end

  defp outcomes(outcomes) do
    receive do
      {:outcome, commands, outcome} -> outcomes([{commands, outcome} | outcomes])
    after
      0 -> outcomes
    end
  end

  defp count(state, [{_commands, {:ok, acknowledged}}]) do
    :counters.add(state.counts, 1, acknowledged)
    :counters.add(state.counts, 2, 1)
    nil
  end

  # The shortest that went wrong.
  defp failure(seed, outcomes) do
    wrong = Enum.reject(outcomes, fn {_commands, outcome} -> match?({:ok, _}, outcome) end)
    {commands, outcome} = Enum.min_by(wrong, fn {commands, _outcome} -> length(commands) end)
    %{seed: seed, commands: commands, class: elem(outcome, 1), outcome: outcome}
  end

  # What nobody foresaw is wrong as well; and PropEr cannot bear an exception.
  defp machine(commands, state, seed) do
    :rand.seed(:exsss, seed)
    Machine.run(commands, state.place, ground: state.ground)
  catch
    kind, reason -> {:wrong, :answer, {kind, reason, __STACKTRACE__}, nil}
  end

  defp table(state, failure) do
    wrong = for class <- @classes, do: {to_string(class), if(failure && failure.class == class, do: 1, else: 0)}

    figures = [
      {"runs", :counters.get(state.counts, 2)},
      {"acknowledged operations", :counters.get(state.counts, 1)}
      | wrong
    ]

    strikes =
      for {name, kind} <- lines(state), found = struck(kind) do
        {name, if(had?(kind, state), do: sum(found), else: "skipped: not to be had here")}
      end

    details =
      for {_name, kind} <- lines(state),
          {found, at, count} <- Enum.sort(struck(kind)),
          do: {"  #{name(found)} at #{at}", count}

    ["\n", for({name, value} <- figures ++ [{"faults struck", ""} | strikes] ++ details, do: line(name, value))]
  end

  defp sum(found), do: found |> Enum.map(&elem(&1, 2)) |> Enum.sum()
  defp name({kind, which}), do: "#{kind} #{which}"
  defp name(kind), do: kind
  defp line(name, value), do: [String.pad_trailing(name, 44), String.pad_leading(to_string(value), 9), "\n"]

  defp reproduction(failure, store) do
    commands = inspect(failure.commands, limit: :infinity, printable_limit: :infinity, width: 118, pretty: true)

    """
    #{inspect(failure.outcome, limit: :infinity, pretty: true, width: 118)}

    Again: bin/faults --store #{store} --seed #{failure.seed} --commands '#{commands}'
    """
  end
end
