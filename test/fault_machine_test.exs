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

  # In memory, where that can be had: what a disk keeps is the ledger's, and its speed is not the matter here.
  setup %{tmp_dir: tmp} do
    FaultyFiles.start()
    base = if File.dir?("/dev/shm"), do: "/dev/shm/event-seal-#{System.pid()}", else: tmp
    File.mkdir_p!(base)
    on_exit(fn -> File.rm_rf!(base) end)
    {:ok, dir: Path.join(base, "store")}
  end

  # The operations of the script, in order. Those of another process are not in it.
  defp operations(dir) do
    {:ok, seen} = Agent.start_link(fn -> [] end)

    FaultyFiles.watch(fn operation, path ->
      unless path =~ ".euids", do: Agent.update(seen, &[operation | &1])
    end)

    assert {:ok, _} = Machine.run(Commands.script(), dir)
    FaultyFiles.unwatch()
    operations = Agent.get(seen, &Enum.reverse/1)

    for wanted <- [:create, :pwrite, :datasync, :rename, :delete, :sync_dir],
        do: assert(wanted in operations)

    operations
  end

  # The first of the faults strikes, and the others wherever it leads.
  defp strike(faults, dir, opts \\ []) do
    before = strikes()
    commands = for(fault <- List.wrap(faults), do: {:fault, fault}) ++ Commands.script()
    outcome = Machine.run(commands, dir, [until: :struck] ++ opts)
    assert {faults, {:ok, _}} = {faults, outcome}
    assert {faults, true} == {faults, strikes() > before}
  end

  defp strikes, do: FaultyFiles.strikes() |> Map.values() |> Enum.sum()

  defp turns(operations, which), do: operations |> Enum.filter(&(&1 == which)) |> turns()
  defp turns(operations), do: 0..(length(operations) - 1)
  defp turn(choices, at), do: Enum.at(choices, rem(at, length(choices)))

  test "killed at each operation, before it is done and half-way", %{dir: dir} do
    for {operation, at} <- Enum.with_index(operations(dir)),
        moment <- if(operation == :pwrite, do: [:before, :half], else: [:before]),
        do: strike({:kill, :store, at, moment}, dir)
  end

  # What can be chosen goes in turn from one operation to the next, so that this stays short.
  test "without power at each operation, whatever the disk made of what was not synced", %{dir: dir} do
    for at <- turns(operations(dir)), do: strike({:power, turn(Ledger.disks(), at), :store, at, :after}, dir)
  end

  test "each sync fails in turn: nothing of it is acknowledged unless it is durable", %{dir: dir} do
    operations = operations(dir)

    for sync <- [:datasync, :sync_dir],
        at <- turns(operations, sync),
        do: strike({:fail, sync, :eio, at, 1, turn([:before, :after], at)}, dir, probes: Ledger.disks())
  end

  test "each write, rename, removal and creation fails in turn", %{dir: dir} do
    operations = operations(dir)

    for operation <- [:pwrite, :rename, :delete, :create],
        at <- turns(operations, operation),
        do: strike({:fail, operation, :enospc, at, 1, turn([:before, :half, :after], at)}, dir)
  end

  test "each write fails in turn, and what is to undo it", %{dir: dir} do
    seconds = [
      {:fail, :truncate, :eio, 0, 1, :before},
      {:fail, :datasync, :eio, 0, 1, :before},
      {:kill, :store, 1, :before},
      {:power, :torn, :store, 1, :after},
      {:power, :reordered, :store, 2, :before}
    ]

    for at <- turns(operations(dir), :pwrite),
        do: strike([{:fail, :pwrite, :enospc, at, 1, :half}, turn(seconds, at)], dir, probes: [:torn, :reordered])
  end

  for which <- [:fixed, :random] do
    @which which
    test "half a minute of bin/faults, with a #{which} seed", %{tmp_dir: tmp} do
      seed = if @which == :fixed, do: 20_260, else: :rand.uniform(1_000_000_000)
      arguments = ["--seconds", "30", "--seed", "#{seed}"]
      {said, status} = System.cmd(Path.expand("bin/faults"), arguments, env: [{"TMPDIR", tmp}], stderr_to_stdout: true)
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
