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

  # Strikes at the first operation, the second, and so on, until the script has no more of them; how many there were. Of
  # what can be chosen, `faults` may take turns from one operation to the next.
  defp sweep(dir, faults, opts \\ []) do
    Stream.iterate(0, &(&1 + 1)) |> Stream.take_while(&struck?(faults.(&1), dir, opts)) |> Enum.count()
  end

  defp struck?(faults, dir, opts) do
    before = strikes()
    commands = for(fault <- List.wrap(faults), do: {:fault, fault}) ++ Commands.script()
    assert {^faults, {:ok, _}} = {faults, Machine.run(commands, dir, [until: :struck] ++ opts)}
    strikes() > before
  end

  defp strikes, do: FaultyFiles.strikes() |> Map.values() |> Enum.sum()
  defp turn(choices, at), do: Enum.at(choices, rem(at, length(choices)))

  for moment <- [:before, :half] do
    @moment moment
    test "killed at each operation, #{moment}", %{dir: dir} do
      assert sweep(dir, &{:kill, :store, &1, @moment}) > 150
    end
  end

  test "without power at each operation, whatever the disk made of what was not synced", %{dir: dir} do
    assert sweep(dir, &{:power, turn(Ledger.disks(), &1), :store, &1, :after}) > 150
  end

  for {sync, least} <- [datasync: 40, sync_dir: 15] do
    @sync sync
    test "each #{sync} fails in turn: nothing of it is acknowledged unless it is durable", %{dir: dir} do
      faults = &{:fail, @sync, :eio, &1, 1, turn([:before, :after], &1)}
      assert sweep(dir, faults, probes: Ledger.disks()) > unquote(least)
    end
  end

  for {operation, least} <- [pwrite: 50, rename: 5, delete: 5, create: 5] do
    @operation operation
    test "each #{operation} fails in turn", %{dir: dir} do
      faults = &{:fail, @operation, :enospc, &1, 1, turn([:before, :half, :after], &1)}
      assert sweep(dir, faults) > unquote(least)
    end
  end

  test "each write fails in turn, and what is to undo it", %{dir: dir} do
    seconds = [
      {:fail, :truncate, :eio, 0, 1, :before},
      {:fail, :datasync, :eio, 0, 1, :before},
      {:kill, :store, 1, :before},
      {:power, :torn, :store, 1, :after},
      {:power, :reordered, :store, 2, :before}
    ]

    faults = &[{:fail, :pwrite, :enospc, &1, 1, :half}, turn(seconds, &1)]
    assert sweep(dir, faults, probes: [:torn, :reordered]) > 50
  end

  for store <- ["disk", "postgres"], which <- [:fixed, :random] do
    @store store
    @which which
    test "half a minute of bin/faults over #{store}, with a #{which} seed", %{tmp_dir: tmp} do
      seed = if @which == :fixed, do: 20_260, else: :rand.uniform(1_000_000_000)
      arguments = ["--store", @store, "--seconds", "30", "--seed", "#{seed}"]
      # To a server's data its own user has to come through.
      env = if @store == "disk", do: [{"TMPDIR", tmp}], else: []
      {said, status} = System.cmd(Path.expand("bin/faults"), arguments, env: env, stderr_to_stdout: true)
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

  # A writer asks the store again at once, so through the facade this cannot be seen.
  test "a write that was refused does not come back with the power", %{dir: dir} do
    import EventSeal.StoreCase
    store = start!({Disk, [dir: dir, files: FaultyFiles]})
    :ok = Store.commit(store, [{:leaf, "kept"}])
    FaultyFiles.arm(%{on: [:pwrite], text: "journal", act: {:error, :enospc}, moment: :after})
    assert {:error, %{reason: :storage}} = Store.commit(store, [{:leaf, "refused"}])

    for n <- 1..40, disk <- Ledger.disks() do
      image = "#{dir}-#{disk}-#{n}"
      Ledger.image(dir, image, disk)
      power_gone = start!({Disk, [dir: image, files: Files]})
      assert {disk, {:ok, ["kept"]}} == {disk, Store.log(power_gone, {:leaves, 0, 9})}
      assert {disk, []} == {disk, Disk.report(power_gone.name)}
      stop!(power_gone)
      File.rm_rf!(image)
    end
  end
end
