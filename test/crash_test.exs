defmodule EventSeal.CrashTest do
  # A VM of its own is killed under load, at random moments and at operations on its files, from the first on. After each
  # restart every acknowledged event is there, in its stage and its order, and everything verifies. Nothing here depends on
  # how fast the machine is.
  use ExUnit.Case, async: false

  alias EventSeal.{Error, PostgresServer, Verdict}
  alias EventSeal.Crash.{Load, Model, Vm}

  @kills 20
  @operations 25
  @database_kills 8
  @workers 6
  @windows [0, 15, 60_000]
  @disks [[], [journal_bytes: 65_536, segment_bytes: 262_144]]

  @tag :tmp_dir
  @tag timeout: 600_000
  test "kill -9 under load loses nothing that was acknowledged", %{tmp_dir: dir} do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, 0, 0})
    IO.puts("\nkill -9 under load: #{@kills} kills, #{@operations} more at an operation, seed #{seed}")
    disk = fn round -> {EventSeal.Store.Disk, [dir: Path.join(dir, "store")] ++ Enum.at(@disks, rem(round, 2))} end
    model = Enum.reduce(1..(@kills + @operations), %Model{}, &round(plan(&1, &2, dir, seed, disk.(&1)), &2, dir))
    told(model, @kills)
  end

  @tag :tmp_dir
  @tag :capture_log
  @tag timeout: 600_000
  test "kill -9 under load loses nothing in a database that was acknowledged", %{tmp_dir: dir} do
    server = PostgresServer.start!()
    on_exit(fn -> PostgresServer.stop!(server) end)
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, 0, 1})
    IO.puts("\nkill -9 of a VM that writes to PostgreSQL: #{@database_kills} kills, seed #{seed}")
    database = server |> PostgresServer.store!() |> PostgresServer.written()

    model =
      Enum.reduce(1..@database_kills, %Model{}, fn round, model ->
        round(plan(round, model, dir, seed, database), model, dir, fn -> PostgresServer.wait_for_sessions!(server) end)
      end)

    told(model, @database_kills)
    PostgresServer.stop!(server)
  end

  defp told(model, kills) do
    IO.puts("  #{model.acknowledged} acknowledged operations, #{map_size(model.flows)} flows: all there")
    assert model.acknowledged > kills * @workers
  end

  defp round(%{round: round, seed: seed} = plan, model, dir, killed \\ fn -> :ok end) do
    path = Path.join(dir, "plan")
    if plan.kill_at, do: Vm.kill_itself(plan, path), else: Vm.kill_under_load(plan, path, rem(round, 5) == 0)
    killed.()
    model = Model.begin(model, plan.window)
    model = Enum.reduce(plan.workers, model, &Model.replay(&2, Load.read_log(&1.log), plan.window))
    {:ok, store} = Load.start(plan)
    {model, wrong} = Model.check(model, found(), plan.window)
    assert wrong == [], "seed #{seed}, round #{round}: #{inspect(Enum.take(wrong, 5), limit: 60)}"
    assert {:ok, verdict} = EventSeal.verify(Load.name())
    assert Verdict.ok?(verdict), "seed #{seed}, round #{round}: #{inspect(Enum.take(verdict.faults, 5))}"
    spent(model)
    Supervisor.stop(store)
    model
  end

  defp plan(round, model, dir, seed, store) do
    workers =
      for id <- 1..@workers do
        flows = Model.open_flows(model, id)
        new = for more <- 1..max(3 - length(flows), 0)//1, do: {"worker#{id}/flow#{round}.#{more}", 1, []}
        log = Path.join(dir, "log.#{round}.#{id}")
        File.touch!(log)
        %{id: id, flows: flows ++ new, next_flow: "#{round}.4", log: log}
      end

    %{
      store: store,
      kill_at: kill_at(round - @kills - 1),
      window: Enum.random(@windows),
      seed: seed,
      round: round,
      workers: workers
    }
  end

  defp kill_at(number) when number < 0, do: nil
  defp kill_at(number), do: {4 * number + :rand.uniform(4) - 1, Enum.random([:before, :half, :after])}

  defp found do
    for flow <- EventSeal.flows(Load.name()), into: %{} do
      events = Enum.to_list(EventSeal.stream(Load.name(), flow))
      {:ok, head} = EventSeal.head(Load.name(), flow)
      {flow, {head, events}}
    end
  end

  # A euid that was retracted stays spent.
  defp spent(model) do
    for {flow, %{closed: false, retracted: [{serial, euid} | _]}} <- Enum.take(model.flows, 20) do
      assert {:error, %Error{reason: :retracted}} =
               EventSeal.append(Load.name(), flow, Load.event(flow, serial, 0), euid: euid)
    end
  end
end
