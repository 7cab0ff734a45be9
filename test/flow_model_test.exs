defmodule EventSeal.FlowModelTest do
  # The tree has a fixed name, since a state machine's commands know no other.
  use ExUnit.Case, async: false

  alias EventSeal.{FlowModel, ManualClock, PostgresServer, Store, Verdict}

  # A store in memory ends with its tree; only its writers can be killed.
  @stores [{Store.Disk, [], 150}, {Store.Memory, [:restart], 150}, {Store.Postgres, [], 40}]
  for {store, skipped, runs} <- @stores, pool? <- [true, false] do
    @tag :tmp_dir
    @tag timeout: 300_000
    test "over #{inspect(store)}#{unless pool?, do: " without a pool"}, whatever is done to flows, they are what the model says",
         %{tmp_dir: dir} do
      commands =
        if unquote(pool?),
          do: :proper_statem.commands(FlowModel),
          else: :proper_statem.commands(FlowModel, FlowModel.without_pool())

      property =
        :proper.forall(:proper_statem.more_commands(3, commands), fn commands ->
          commands |> Enum.reject(&skipped?(&1, unquote(skipped))) |> holds?(unquote(store), dir)
        end)

      unless :proper.quickcheck(property, [:quiet, {:numtests, unquote(runs)}]) do
        [commands] = :proper.counterexample()
        # PropEr cannot bear an exception: the shrunk run again shows it.
        commands = Enum.reject(commands, &skipped?(&1, unquote(skipped)))
        outcome = run(commands, unquote(store), dir)
        flunk("not as foretold: #{inspect({outcome, commands}, pretty: true, limit: :infinity)}")
      end
    end
  end

  defp skipped?({:set, _, {:call, _, command, _}}, skipped), do: command in skipped
  defp skipped?({:init, _state}, _skipped), do: false

  defp holds?(commands, store, dir) do
    run(commands, store, dir) == :ok
  catch
    _, _ -> false
  end

  defp run(commands, store, dir) do
    clock = ManualClock.start!()
    opts = if match?([{:init, _} | _], commands), do: FlowModel.opts_without_pool(), else: FlowModel.opts()
    begin(store, dir, clock, opts)

    try do
      with :ok <- FlowModel.run(commands) do
        {:ok, verdict} = EventSeal.verify(FlowModel.name())
        if Verdict.ok?(verdict), do: :ok, else: verdict
      end
    after
      FlowModel.stop()
    end
  end

  defp begin(store, dir, clock, opts) do
    store = store(store, Path.join(dir, "#{System.unique_integer([:positive])}"))
    opts = [store: store, clock: clock] ++ opts
    :persistent_term.put(FlowModel, %{clock: clock, opts: opts})
    FlowModel.start()
  end

  defp store(Store.Disk, dir), do: {Store.Disk, dir: dir}
  defp store(Store.Memory, _dir), do: Store.Memory
  defp store(Store.Postgres, _dir), do: {Store.Postgres, PostgresServer.store!(PostgresServer.shared(), sweep: 20)}
end
