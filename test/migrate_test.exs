defmodule EventSeal.MigrateTest do
  # From a folder into a database and back: the same chain, and it goes on. The names that commands run under are fixed.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import EventSeal.StoreCase
  alias EventSeal.{Command, Error, Migrate, PostgresServer, Signer, Store}
  alias EventSeal.Crash.{Mover, Vm}

  @moduletag :tmp_dir
  @moduletag timeout: 240_000

  setup %{tmp_dir: dir} do
    {:ok, _} = Signer.File.generate(Path.join(dir, "log.key"), "ward.example/log")
    tree = tree({Store.Disk, dir: Path.join(dir, "disk")}, dir, pool_window: 3_600_000, block: [max_events: 4])
    start_supervised!(tree, id: :source)
    for {flow, count} <- [{"a", 30}, {"b", 3}, {"c", 9}, {"../é", 1}], do: append(flow, 1..count)
    retracted = for {flow, count} <- [{"a", 5}, {"c", 1}, {"only/retracted", 2}], _ <- 1..count, do: retract(flow)
    {:ok, _} = EventSeal.seal(Moving, "a")
    {:ok, _} = EventSeal.close(Moving, "c")
    {:ok, _} = EventSeal.append_many(Moving, for(n <- 31..33, do: {"a", event(n)}))
    # Behind a rotation, too.
    :ok = Store.Disk.rotate(EventSeal.Instance.store_name(Moving))
    retracted = [retract("a"), retract("b") | retracted]
    {:ok, _} = EventSeal.checkpoint(Moving)
    before = shown()
    stop_supervised!(:source)
    {:ok, before: before, retracted: retracted}
  end

  defp retract(flow) do
    {:ok, %{euid: euid}} = EventSeal.append(Moving, flow, event(1))
    {:ok, _} = EventSeal.retract(Moving, flow, euid)
    {flow, euid}
  end

  defp tree(store, dir, opts) do
    checkpoints = [signer: {Signer.File, Path.join(dir, "log.key")}, every: :infinity]
    {EventSeal, Keyword.merge([name: Moving, store: store, checkpoints: checkpoints], opts)}
  end

  defp event(n), do: %{when: n, kind: "vital", body: "body #{n}"}

  defp append(flow, range) do
    {:ok, _} = EventSeal.append_many(Moving, for(n <- range, do: {flow, event(n)}))
    {:ok, _} = EventSeal.settle(Moving, flow)
  end

  # All that can be seen of it.
  defp shown do
    store = EventSeal.Instance.fetch!(Moving).store
    {:ok, size} = Store.log(store, :size)
    {:ok, leaves} = Store.log(store, {:leaves, 0, size.leaves})
    {:ok, checkpoints} = Store.log(store, {:checkpoints, 0, size.checkpoints})

    {for(flow <- EventSeal.flows(Moving), do: {flow, Enum.to_list(EventSeal.stream(Moving, flow))}), leaves,
     checkpoints}
  end

  test "there and back again, with the same ids, blocks and log, and it goes on", context do
    %{tmp_dir: dir, before: before, retracted: retracted} = context
    opts = PostgresServer.store!(PostgresServer.shared())
    url = PostgresServer.url(opts)
    disk = Path.join(dir, "disk")
    back = Path.join(dir, "back")
    said = capture_io(fn -> assert Command.migrate(["--from", disk, "--to", url]) == 0 end)
    assert said =~ "of 5 flows"
    refute said =~ "writes"
    # Again: all is there.
    assert capture_io(fn -> assert Command.migrate(["--from", disk, "--to", url]) == 0 end) =~ "Moved 0 blocks"
    capture_io(fn -> assert Command.migrate(["--from", url, "--to", back]) == 0 end)

    for {store, id} <- [{{Store.Postgres, opts}, :database}, {{Store.Disk, dir: back}, :folder}] do
      start_supervised!(tree(store, dir, pool_window: 3_600_000, block: [max_events: 4]), id: id)
      assert shown() == before
      assert_spent(retracted)
      append("a", 34..50)
      {:ok, _} = EventSeal.seal(Moving, "a")
      {:ok, _} = EventSeal.close(Moving, "b")
      {:ok, _} = EventSeal.checkpoint(Moving)
      assert {:ok, %{fault_count: 0}} = EventSeal.verify(Moving)
      stop_supervised!(id)
    end
  end

  for {moment, n} <- [before: 3, after: 4] do
    @moment moment
    @passes n
    test "killed again and again, #{moment} what it was about to do, it comes to the end, there and back", context do
      %{tmp_dir: dir, before: before, retracted: retracted} = context
      opts = PostgresServer.store!(PostgresServer.shared())
      database = PostgresServer.written(opts)
      disk = {Store.Disk, dir: Path.join(dir, "disk"), mode: :read}
      back = Path.join(dir, "back")
      assert killed(disk, database, @passes, dir) > 2
      assert killed(database, {Store.Disk, dir: back}, 8 * @passes, dir) > 2

      for {store, id} <- [{{Store.Postgres, opts}, :database}, {{Store.Disk, dir: back}, :folder}] do
        start_supervised!(tree(store, dir, pool_window: 3_600_000), id: id)
        assert shown() == before
        assert_spent(retracted)
        stop_supervised!(id)
      end
    end
  end

  # How often it was killed before it came to the end.
  defp killed(from, to, passes, dir) do
    plan = %{from: from, to: to, passes: passes, moment: @moment}

    case Mover |> Vm.start(plan, Path.join(dir, "plan")) |> Vm.outcome() do
      :killed -> 1 + killed(from, to, passes, dir)
      :done -> 0
    end
  end

  defp assert_spent(retracted) do
    for {flow, euid} <- retracted,
        do: assert({:error, %Error{reason: :retracted}} = EventSeal.append(Moving, flow, event(1), euid: euid))
  end

  test "broken off anywhere, it goes on where it was", %{tmp_dir: dir} do
    from = start!({Store.Disk, dir: Path.join(dir, "disk"), mode: :read})
    to = start!({EventSeal.MigrateTest.Breaking, []})

    outcomes =
      for left <- 0..40 do
        EventSeal.MigrateTest.Breaking.break_after(left)
        Migrate.run(from, to)
      end

    assert Enum.count(outcomes, &match?({:error, %Error{reason: :storage}}, &1)) > 3
    assert {:ok, %{verdict: %{fault_count: 0, flows: 5}}} = List.last(outcomes)
  end

  test "another history is not written over", %{tmp_dir: dir} do
    from = start!({Store.Disk, dir: Path.join(dir, "disk"), mode: :read})
    to = start!({Store.Memory, []})
    :ok = Store.commit(to, [{:open, "a", "another genesis"}])
    assert {:error, %Error{reason: :invalid, field: :to}} = Migrate.run(from, to)
  end

  defmodule Breaking do
    # A store in memory that fails after so many commits.
    @behaviour EventSeal.Store

    defdelegate child_spec(given), to: Store.Memory
    defdelegate recover(name, shards), to: Store.Memory
    defdelegate head(name, flow, asked), to: Store.Memory
    defdelegate blocks(name, flow, positions), to: Store.Memory
    defdelegate flows(name, after_flow, limit, what), to: Store.Memory
    defdelegate log(name, query), to: Store.Memory
    defdelegate lease(name, shards), to: Store.Memory

    def break_after(left), do: Process.put(__MODULE__, left)

    def commit(name, ops) do
      case Process.get(__MODULE__) do
        0 ->
          {:error, Error.new(:storage)}

        left ->
          Process.put(__MODULE__, left - 1)
          Store.Memory.commit(name, ops)
      end
    end
  end
end
