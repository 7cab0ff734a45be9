defmodule EventSeal.FaultMachineTest do
  # What was acknowledged is there, once, in its order, whatever happens to the machine: see EventSeal.Faults.Machine. The
  # sweeps strike at every operation of a script in turn; bin/faults strikes at random, and in earnest where it can.
  use ExUnit.Case, async: false

  alias EventSeal.Faults.{Commands, Machine}
  alias EventSeal.FaultyFiles
  alias EventSeal.FaultyFiles.Ledger
  alias EventSeal.Segments.Files
  alias EventSeal.Store
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 1_200_000

  setup %{tmp_dir: tmp} do
    FaultyFiles.start()
    {:ok, dir: Path.join(tmp, "store")}
  end

  # The operations of the script, in order. Those of another process are not in it.
  defp operations(dir) do
    {:ok, seen} = Agent.start_link(fn -> [] end)

    FaultyFiles.watch(fn operation, path ->
      unless path =~ ".euids", do: Agent.update(seen, &[operation | &1])
    end)

    assert {:ok, _} = Machine.run(Commands.script(), dir)
    FaultyFiles.unwatch()
    operations = seen |> Agent.get(&Enum.reverse/1) |> Enum.with_index()

    for wanted <- [:create, :pwrite, :datasync, :truncate, :rename, :delete, :sync_dir],
        do: assert(wanted in Keyword.keys(operations))

    operations
  end

  defp strike(fault, dir, opts \\ []) do
    before = FaultyFiles.strikes() |> Map.values() |> Enum.sum()
    outcome = Machine.run([{:fault, fault} | Commands.script()], dir, [until: :struck] ++ opts)
    assert {fault, {:ok, _}} = {fault, outcome}
    assert {fault, true} == {fault, FaultyFiles.strikes() |> Map.values() |> Enum.sum() > before}
  end

  test "killed at each operation, before it, half-way and behind it", %{dir: dir} do
    for {_operation, at} <- operations(dir),
        moment <- [:before, :half, :after],
        do: strike({:kill, :store, at, moment}, dir)
  end

  test "without power at each operation, whatever the disk made of what was not synced", %{dir: dir} do
    for {_operation, at} <- operations(dir), disk <- Ledger.disks(), do: strike({:power, disk, :store, at, :after}, dir)
  end

  test "each sync fails in turn: nothing of it is acknowledged unless it is durable", %{dir: dir} do
    operations = Keyword.keys(operations(dir))

    for sync <- [:datasync, :sync_dir], passes <- 0..(Enum.count(operations, &(&1 == sync)) - 1) do
      strike({:fail, sync, :eio, passes, 1, :before}, dir, probes: Ledger.disks())
    end
  end

  test "each write, rename, removal, cut and creation fails in turn", %{dir: dir} do
    operations = Keyword.keys(operations(dir))

    for operation <- [:pwrite, :rename, :delete, :truncate, :create],
        passes <- 0..(Enum.count(operations, &(&1 == operation)) - 1),
        moment <- [:before, :half] do
      strike({:fail, operation, :enospc, passes, 1, moment}, dir, probes: [:dropped, :reordered])
    end
  end

  for which <- [:fixed, :random] do
    @which which
    test "half a minute of bin/faults, with a #{which} seed", %{tmp_dir: tmp} do
      seed = if @which == :fixed, do: 20_260, else: :rand.uniform(1_000_000_000)
      arguments = ["--seconds", "30", "--seed", "#{seed}"]
      {said, status} = System.cmd("bin/faults", arguments, env: [{"TMPDIR", tmp}], stderr_to_stdout: true)
      IO.puts("\n" <> said)
      assert status == 0
    end
  end

  test "after a first start that was killed, the folder's own name is synced before anything is answered", %{dir: dir} do
    import EventSeal.StoreCase
    File.mkdir_p!(dir)
    store = start!({Disk, [dir: dir, files: FaultyFiles]})
    :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1)])
    Ledger.image(dir, dir <> "-image", :dropped)
    stop!(store)
    store = start!({Disk, [dir: dir <> "-image", files: Files]})
    assert {:ok, %{entries: [{1, :pool, "meta 1", "data 1"}]}} = Store.head(store, "a")
  end
end
