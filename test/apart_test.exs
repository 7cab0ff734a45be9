defmodule EventSeal.ApartTest do
  # What a verification store lacks is shown and brought over; whatever becomes of it, appends go on.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine

  alias EventSeal.{
    Apart,
    BitRot,
    Error,
    Fault,
    Instance,
    KeptStore,
    ManualClock,
    Rebuild,
    Signer,
    Store,
    Verdict
  }

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 60_000

  setup %{tmp_dir: tmp} do
    {:ok, _} = Application.ensure_all_started(:sasl)
    name = :"kept-#{System.unique_integer([:positive])}"
    on_exit(fn -> :alarm_handler.clear_alarm({Apart, name}) end)
    paths = Map.new([:store, :apart, :new, :key_file, :outside, :note], &{&1, Path.join(tmp, "#{&1}")})
    {:ok, key} = Signer.File.generate(paths.key_file, "clinic.example/log")
    Map.merge(paths, %{name: name, key: key})
  end

  defp start(context, opts \\ []) do
    tree = [name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0]
    defaults = [verification: {Store.Disk, dir: context.apart}, checkpoints: checkpoints(context)]
    start_supervised!({EventSeal, tree ++ Keyword.merge(defaults, opts)}, id: context.name)
    Instance.fetch!(context.name)
  end

  defp checkpoints(context), do: [signer: {Signer.File, context.key_file}, every: :infinity]

  defp fill(context, flows, events \\ 5) do
    items = for flow <- flows, n <- 1..events, do: {"patient/#{flow}", %{when: n, kind: "vital", body: "#{flow}.#{n}"}}
    {:ok, _} = EventSeal.append_many(context.name, items)
    for flow <- flows, do: {:ok, _} = EventSeal.seal(context.name, "patient/#{flow}")
  end

  defp kept(context), do: elem(EventSeal.health(context.name), 1).verification
  defp alarms(context), do: for({{Apart, name}, what} <- :alarm_handler.get_alarms(), name == context.name, do: what)

  defp wait(fun, tries \\ 1_000) do
    cond do
      found = fun.() -> found
      tries == 0 -> flunk("it did not come")
      true -> Process.sleep(10) && wait(fun, tries - 1)
    end
  end

  test "blocks, leaves and checkpoints come over by themselves, and all is compared", context do
    instance = start(context)
    fill(context, 1..20)
    wait(fn -> kept(context).leaves == 20 end)
    {:ok, _} = EventSeal.close(context.name, "patient/1")
    {:ok, %{size: size}} = EventSeal.checkpoint(context.name)
    # What a checkpoint covers is there before it is signed.
    assert %{leaves: leaves, error: nil} = kept(context)
    assert leaves >= size
    assert Apart.sync(instance) == :ok
    assert %{behind: 0, since: nil} = kept(context)
    assert {:ok, %Verdict{kept: 21, behind: 0, fault_count: 0}} = EventSeal.verify(context.name)
    assert {:ok, %Verdict{kept: 1, fault_count: 0}} = EventSeal.verify(context.name, flow: "patient/7")
    assert {:ok, %Verdict{kept: 2, fault_count: 0}} = EventSeal.verify(context.name, flow: "patient/1")
    assert {:ok, %Verdict{kept: 1, fault_count: 0}} = EventSeal.verify(context.name, flow: "patient/1", range: 3..5)
    assert {:ok, %{next: next, kept: some}} = EventSeal.verify(context.name, for: 0)
    assert next != nil and some < 21
    stop_supervised!(context.name)

    assert %{flows: flows, leaves: leaves, checkpoints: [_]} = KeptStore.read(context.apart)
    assert {map_size(flows), length(leaves)} == {20, size}
    assert {0, text} = command(:verify, ["--dir", context.store, "--verification", context.apart])
    assert text =~ "21 blocks compared with the verification store"
    assert {2, _text} = command(:verify, ["--dir", context.store, "--verification", context.apart <> "-nowhere"])
  end

  test "when the tree stops, nothing signs any more before the verification store gets the last", context do
    start(context)
    [log, apart] = for part <- ["Log", "Apart"], do: Process.monitor(Module.concat(context.name, part))
    stop_supervised!(context.name)
    assert_received {:DOWN, first, :process, _, _}
    assert_received {:DOWN, ^apart, :process, _, _}
    assert first == log
  end

  test "without one nothing of it shows", context do
    start(context, verification: {Store.Memory, []})
    stop_supervised!(context.name)
    start_supervised!({EventSeal, name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0})
    fill(context, 1..2)
    assert {:ok, %Verdict{kept: nil, behind: 0}} = EventSeal.verify(context.name)
    assert {:error, %Error{reason: :invalid, field: :audit}} = EventSeal.health(context.name)
  end

  test "a store on another adapter is filled anew at each start, as long as no checkpoint says that it lost something",
       context do
    opts = [verification: {Store.Memory, []}, checkpoints: nil] |> Keyword.delete(:checkpoints)
    tree = [name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0] ++ opts
    start_supervised!({EventSeal, tree}, id: context.name)
    fill(context, 1..3)
    assert Apart.sync(Instance.fetch!(context.name)) == :ok
    stop_supervised!(context.name)
    start_supervised!({EventSeal, tree}, id: context.name)
    assert Apart.sync(Instance.fetch!(context.name)) == :ok
    assert {:ok, %Verdict{kept: 3, behind: 0, fault_count: 0}} = EventSeal.verify(context.name)
    stop_supervised!(context.name)

    start(context, opts)
    {:ok, _} = EventSeal.checkpoint(context.name)
    assert {:ok, %Verdict{kept: 3, fault_count: 0}} = EventSeal.verify(context.name)
    stop_supervised!(context.name)
    start(context, opts)
    assert %Error{reason: :corrupt, detail: detail} = wait(fn -> kept(context).error end)
    assert detail =~ "it lacks what a checkpoint covers"
    assert {:ok, verdict} = EventSeal.verify(context.name)

    assert %{flow: "log", class: :missing, side: :verification} =
             List.keyfind(Enum.map(verdict.faults, &{&1.flow, &1}), "log", 0) |> elem(1)

    # Appends go on, and checkpoints are signed.
    fill(context, 4..4)
    assert {:ok, _} = EventSeal.checkpoint(context.name)
  end

  test "one that cannot be opened fails no append, sets an alarm, and is caught up when it can", context do
    clock = ManualClock.start!()
    {:ok, holder} = hold(context.apart)
    assert {:error, %Error{reason: :locked}} = Apart.sync(start(context, clock: clock))
    assert %Error{reason: :locked} = kept(context).error
    assert alarms(context) == [:locked]
    fill(context, 1..3)
    assert {:ok, _} = EventSeal.checkpoint(context.name)
    # What is not there is no fault of the events' store, but what a checkpoint covers is missing.
    assert {:ok, verdict} = EventSeal.verify(context.name)
    assert Enum.map(verdict.faults, &{&1.flow, &1.class, &1.side}) == [{"verification store", :read, :verification}]

    GenServer.stop(holder)
    ManualClock.advance(clock, 2_000)
    wait(fn -> kept(context).error == nil end)
    assert Apart.sync(Instance.fetch!(context.name)) == :ok
    assert alarms(context) == []
    assert {:ok, %Verdict{kept: 3, fault_count: 0}} = EventSeal.verify(context.name)
  end

  defp hold(dir) do
    %{start: {module, function, args}} =
      Store.Disk.child_spec({:"held_#{System.unique_integer([:positive])}", [dir: dir]})

    apply(module, function, args)
  end

  test "one that dies is opened again, and goes on where it was", context do
    instance = start(context)
    fill(context, 1..3)
    assert Apart.sync(instance) == :ok
    Process.exit(Process.whereis(instance.apart.name), :kill)
    fill(context, 4..6)
    wait(fn -> Apart.sync(instance) == :ok end)
    assert {:ok, %Verdict{kept: 6, behind: 0, fault_count: 0}} = EventSeal.verify(context.name)
    assert Process.alive?(Process.whereis(context.name))
  end

  test "a block that does not follow from what was kept is not taken, and keeps no other flow back", context do
    start(context)
    fill(context, 1..2)
    stop_supervised!(context.name)
    # Somebody writes the first flow's history anew, while nothing runs.
    forged = context.store |> EventSeal.Forgery.read() |> EventSeal.Forgery.edit("patient/1", 1, "forged")
    File.rm_rf!(context.store)
    EventSeal.Forgery.write!(forged, context.store)
    instance = start(context)
    fill(context, 1..3)
    assert {:error, %Error{reason: :corrupt, detail: detail}} = Apart.sync(instance)
    assert detail =~ "does not follow from what was kept"
    assert [:corrupt] = alarms(context)
    assert %{behind: 0} = kept(context)
    {:ok, verdict} = EventSeal.verify(context.name)

    faults =
      for %{flow: flow, position: n, class: class, side: side} when side != nil <- verdict.faults,
          do: {flow, n, class, side}

    assert Enum.sort(faults) == [{"patient/1", 1, :event_hash, :events}, {"patient/1", 3, :missing, :events}]
    stop_supervised!(context.name)
    assert %{flows: %{"patient/1" => [_], "patient/2" => [_, _], "patient/3" => [_]}} = KeptStore.read(context.apart)
  end

  test "one whose files fail is behind, and no append is", context do
    EventSeal.FaultyFiles.start()
    verification = {Store.Disk, dir: context.apart, files: EventSeal.FaultyFiles}
    clock = ManualClock.start!()
    instance = start(context, verification: verification, clock: clock)
    fill(context, 1..2)
    assert Apart.sync(instance) == :ok
    EventSeal.FaultyFiles.arm(%{on: [:pwrite], text: context.apart, times: 1_000_000, act: {:error, :enospc}})
    fill(context, 3..9)
    assert {:error, %Error{}} = Apart.sync(instance)
    assert %{leaves: 2, error: %Error{}, since: since} = kept(context)
    assert is_integer(since)
    assert [_] = alarms(context)
    assert {:ok, %Verdict{kept: 9, behind: behind, fault_count: 0}} = EventSeal.verify(context.name)
    assert behind == 14
    EventSeal.FaultyFiles.heal()
    stop_supervised!(context.name)
    start(context)
    assert Apart.sync(Instance.fetch!(context.name)) == :ok
    assert {:ok, %Verdict{kept: 9, behind: 0, fault_count: 0}} = EventSeal.verify(context.name)
  end

  test "verifications beside appends and checkpoints name nothing", context do
    start(context)

    writer =
      Task.async(fn ->
        for n <- 1..60 do
          fill(context, [rem(n, 20)])
          if rem(n, 10) == 0, do: {:ok, _} = EventSeal.checkpoint(context.name)
        end
      end)

    assert verified(context, writer, 0) > 1
    assert {0, _text} = command(:verify, ["--dir", context.store, "--verification", context.apart])
  end

  defp verified(context, writer, times) do
    assert {:ok, %{fault_count: 0, faults: []}} = EventSeal.verify(context.name)
    if Task.yield(writer, 0), do: times + 1, else: verified(context, writer, times + 1)
  end

  test "no flow shows in its process's state", context do
    instance = start(context)
    fill(context, 1..3)
    assert Apart.sync(instance) == :ok
    refute inspect(:sys.get_status(Module.concat(context.name, "Apart")), limit: :infinity) =~ "patient"
  end

  test "the auditor compares it, too, and health says both", context do
    start(context, audit: [file: context.note, pause: 10])
    fill(context, 1..5)
    assert Apart.sync(Instance.fetch!(context.name)) == :ok
    assert %{last: %{faults: 0}, verification: %{behind: 0}} = wait(fn -> audited(context, 5) end)
    stop_supervised!(context.name)

    edited = context.apart |> KeptStore.read() |> KeptStore.part("patient/3", 0, &KeptStore.flip(&1, :id, 1))

    edited =
      Map.update!(edited, :leaves, &List.update_at(&1, 0, fn leaf -> KeptStore.flip(leaf, byte_size(leaf) - 1) end))

    KeptStore.write!(edited, context.apart)
    start(context, audit: [file: context.note, pause: 10])

    for {flow, position, class} <- [{"patient/3", 2, :id}, {"log", 0, :log}] do
      named? = &match?(%Fault{flow: ^flow, position: ^position, class: ^class, side: :verification}, &1)
      assert wait(fn -> Enum.find(faults(context) || [], named?) end)
    end
  end

  defp audited(context, flows) do
    with {:ok, %{last: %{flows: ^flows}} = health} <- EventSeal.health(context.name), do: health, else: (_ -> nil)
  end

  defp faults(context) do
    with {:ok, %{faults: [_ | _] = faults}} <- EventSeal.health(context.name), do: faults, else: (_ -> nil)
  end

  test "a budget holds for comparing, and progress can cancel it", context do
    instance = start(context)
    fill(context, 1..30)
    assert Apart.sync(instance) == :ok
    cancel = fn counts -> if counts[:compared], do: :cancel, else: :ok end
    assert {:error, %Error{reason: :cancelled}} = EventSeal.verify(context.name, progress: cancel)
    begun = System.monotonic_time(:millisecond)
    assert {:ok, _} = EventSeal.verify(context.name, max_rate: {200, :events})
    # 60 sealed events to compare, and twice as many to verify.
    assert System.monotonic_time(:millisecond) - begun >= 600
  end

  describe "rebuilding a verification store that was lost" do
    setup context do
      start(context)
      fill(context, 1..4)
      {:ok, checkpoint} = EventSeal.checkpoint(context.name)
      stop_supervised!(context.name)
      File.write!(context.outside, checkpoint.note)
      File.rm_rf!(context.apart)
      :ok
    end

    test "it is not filled by itself, but from events that were verified, on record", context do
      start(context)
      assert %Error{reason: :corrupt} = wait(fn -> kept(context).error end)
      assert kept(context).leaves in [nil, 0]
      stop_supervised!(context.name)

      args = ["--dir", context.store, "--verification", context.new]
      assert {0, text} = command(:rebuild, args ++ ["--checkpoint", context.outside, "--key", context.key])
      assert text =~ "4 blocks of 4 flows, 12 leaves and 1 checkpoint of the log"
      report = File.read!(Path.join(context.new, "rebuild/report.txt"))
      assert ["event-seal-rebuild/1" | lines] = String.split(report, "\n", trim: true)
      assert length(lines) == 4
      assert Enum.all?(lines, &(&1 =~ ~r/^decision [0-9a-f]{64} 5 [0-9a-f]{32} the verification store was rebuilt/))

      # The log of both says so, and the two stores agree from here on.
      assert %{leaves: leaves} = KeptStore.read(context.new)
      assert Enum.count(leaves, &match?(<<5, _::binary>>, &1)) == 4
      assert {:ok, %Verdict{kept: 4, behind: 0, fault_count: 0}} = KeptStore.verdict(context.store, context.new)
      instance = start(%{context | apart: context.new})
      fill(context, 5..6)
      assert Apart.sync(instance) == :ok
      assert {:ok, _} = EventSeal.checkpoint(context.name)

      assert {:ok, %Verdict{kept: 6, fault_count: 0}} =
               EventSeal.verify(context.name, checkpoint: context.outside, key: context.key)

      stop_supervised!(context.name)
      assert {2, text} = command(:rebuild, args)
      assert text =~ "is there already"
    end

    test "nothing is copied of a store at fault, nor of one that is not what a checkpoint elsewhere says", context do
      %{flows: flows} = honest = EventSeal.Forgery.read(context.store)
      forged = EventSeal.Forgery.edit(honest, "patient/2", 1, "forged")
      leaves = for {_flow, parts} <- forged.flows, leaf <- EventSeal.Forgery.leaves(parts), do: leaf
      forged = %{forged | leaves: leaves, checkpoints: []}
      assert map_size(flows) == 4
      File.rm_rf!(context.store)
      EventSeal.Forgery.write!(forged, context.store)
      args = ["--dir", context.store, "--verification", context.new]
      assert {1, text} = command(:rebuild, args ++ ["--checkpoint", context.outside, "--key", context.key])
      assert text =~ "Nothing was copied"
      assert %{flows: flows, leaves: []} = KeptStore.read(context.new)
      assert flows == %{}
      assert {2, _text} = command(:rebuild, args ++ ["--checkpoint", context.outside])
      nowhere = context.new <> "-nowhere"
      assert {2, _text} = command(:rebuild, ["--dir", nowhere, "--verification", context.new <> "2"])
      refute File.exists?(nowhere)
    end

    test "nor into a store that holds anything", context do
      run = fn ->
        BitRot.open(context.store, :write, fn store ->
          BitRot.open(context.new, :write, fn new -> Rebuild.run(store, new) end)
        end)
      end

      assert {:ok, %Rebuild{flows: 4, blocks: 4}} = run.()
      assert {:error, %Error{reason: :invalid, field: :verification}} = run.()
    end
  end
end
