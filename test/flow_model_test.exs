defmodule EventSeal.FlowModelTest do
  # The tree has a fixed name, since a state machine's commands know no other.
  use ExUnit.Case, async: false

  alias EventSeal.{FlowModel, ManualClock, Store, Verdict}

  @runs 150

  # A store in memory ends with its tree; only its writers can be killed.
  for {store, skipped} <- [{Store.Disk, []}, {Store.Memory, [:restart]}] do
    @tag :tmp_dir
    @tag timeout: 300_000
    test "over #{inspect(store)}, whatever is done to flows, they are what the model says", %{tmp_dir: dir} do
      property =
        :proper.forall(:proper_statem.more_commands(3, :proper_statem.commands(FlowModel)), fn commands ->
          commands |> Enum.reject(&skipped?(&1, unquote(skipped))) |> holds?(unquote(store), dir)
        end)

      unless :proper.quickcheck(property, [:quiet, {:numtests, @runs}]) do
        [commands] = :proper.counterexample()
        # PropEr cannot bear an exception: the shrunk run again shows it.
        commands = Enum.reject(commands, &skipped?(&1, unquote(skipped)))
        outcome = run(commands, unquote(store), dir)
        flunk("not as foretold: #{inspect({outcome, commands}, pretty: true, limit: :infinity)}")
      end
    end
  end

  defp skipped?({:set, _, {:call, _, command, _}}, skipped), do: command in skipped

  defp holds?(commands, store, dir) do
    run(commands, store, dir) == :ok
  catch
    _, _ -> false
  end

  defp run(commands, store, dir) do
    clock = ManualClock.start!()
    begin(store, dir, clock)

    try do
      with :ok <- FlowModel.run(commands) do
        {:ok, verdict} = EventSeal.verify(FlowModel.name())
        if Verdict.ok?(verdict), do: :ok, else: verdict
      end
    after
      FlowModel.stop()
    end
  end

  defp begin(store, dir, clock) do
    dir = Path.join(dir, "#{System.unique_integer([:positive])}")
    store = if store == Store.Disk, do: {store, dir: dir}, else: store
    opts = [store: store, clock: clock] ++ FlowModel.opts()
    :persistent_term.put(FlowModel, %{clock: clock, opts: opts})
    FlowModel.start()
  end
end
