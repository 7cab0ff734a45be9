defmodule EventSeal.DoctorTest do
  # A damaged store is examined, and what can be saved is saved: all that was not hit is in the new store or in the files
  # beside it, the new store holds together and can be written, and the damaged one is as it was.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias EventSeal.{
    BitRot,
    Chain,
    Command,
    Doctor,
    Interchange,
    Reader,
    Record,
    SmallStore,
    Store,
    Verdict,
    Verifier
  }

  alias EventSeal.Oracle.Json
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 600_000
  @local [:commitment, :event_hash, :format, :late, :body_missing]

  setup %{tmp_dir: tmp} do
    dir = Path.join(tmp, "store")
    SmallStore.make!(dir)
    good = BitRot.open(dir, :read, &BitRot.shown/1)
    {:ok, dir: dir, files: BitRot.files(dir), good: good, out: Path.join(tmp, "new")}
  end

  defp blocks(%{flows: flows}) do
    for {_flow, {{:ok, _head}, blocks}} <- flows, {_height, {:ok, block}} <- blocks, do: block
  end

  # Each event by its euid, and where it stands: the block, or the entry.
  defp events(good) do
    sealed =
      for {flow, {_head, blocks}} <- good.flows,
          {height, {:ok, block}} <- blocks,
          {:ok, events} <- [Chain.events(block)] do
        for event <- events, do: {event.euid, {{:block, flow, height}, event.body}}
      end

    unsealed =
      for {flow, {{:ok, head}, _blocks}} <- good.flows, {seq, stage, meta, data} <- head.entries do
        frame = if stage == :pool, do: elem(Record.decode_pool(meta), 2), else: elem(Record.decode_tail(meta), 1)
        {Record.euid(frame), {{:entry, flow, seq}, Record.event(frame, data).body}}
      end

    Map.new(List.flatten(sealed) ++ unsealed)
  end

  defp saved(out) do
    BitRot.open(out, :read, fn store ->
      for flow <- Reader.flows(store, after: nil, page: 99),
          event <- Reader.stream(store, flow, from: 1, to: :infinity, stages: [:fixed, :sandbox, :pool]),
          do: {event.euid, event.body}
    end)
  end

  defp apart(out) do
    packed =
      for path <- Path.wildcard(out <> "/doctor/*.{blocks,damaged}"),
          container <- containers(File.read!(path)),
          {:ok, events} <- [Chain.events(container)],
          event <- events,
          do: {event.euid, event.body}

    lines =
      for path <- Path.wildcard(out <> "/doctor/*.jsonl"),
          %{"n" => _} = line <- path |> File.stream!() |> Enum.map(&Json.decode!/1),
          do: {Base.decode16!(line["euid"], case: :lower), Base.decode64!(line["body"])}

    packed ++ lines
  end

  defp containers(<<_::binary-16, length::64, _::binary>> = bytes) when length < byte_size(bytes) and length > 24 do
    <<container::binary-size(length), rest::binary>> = bytes
    [container | containers(rest)]
  end

  defp containers(bytes), do: [bytes]

  defp examine(dir, out) do
    BitRot.open(dir, :examine, fn store ->
      BitRot.open(out, :write, fn saved -> Doctor.run(store, {saved, Path.join(out, "doctor")}) end)
    end)
  end

  test "a healthy store is saved whole", %{dir: dir, out: out, good: good} do
    {:ok, found} = examine(dir, out)
    assert Doctor.healthy?(found)
    assert %{flows: 5, events: 195, pool: 5, lost: 0, apart: 0, leaves: 37, spent: 6, broken: []} = found
    assert Verdict.ok?(found.saved_verdict)
    shown = BitRot.open(out, :read, &BitRot.shown/1)
    assert Enum.sort(blocks(shown)) == Enum.sort(blocks(good))
    assert {shown.names, shown.leaves, shown.checkpoints} == {good.names, good.leaves, good.checkpoints}

    for {flow, {{:ok, head}, _blocks}} <- good.flows do
      {{:ok, saved}, _blocks} = shown.flows[flow]
      assert {flow, saved.genesis, saved.fixed, saved.closed} == {flow, head.genesis, head.fixed, head.closed}

      assert for({_seq, stage, meta, data} <- saved.entries, do: {stage, meta, data}) ==
               for({_seq, stage, meta, data} <- head.entries, do: {stage, meta, data})
    end

    assert spent(dir) == spent(out)
    assert File.ls!(Path.join(out, "segments")) != []
    refute File.exists?(Path.join(out, "doctor"))
  end

  defp spent(dir) do
    BitRot.open(dir, :read, fn store ->
      for {flow, euids} <- Disk.remains(store.name).spent, euid <- Enum.sort(Enum.uniq(euids)), into: %{} do
        {:ok, %{found: %{^euid => :spent}}} = Store.head(store, flow, [euid])
        {{flow, euid}, :spent}
      end
    end)
  end

  # Each record and each group of the journal in turn, in its front, in what it holds, and in the middle of that.
  test "whatever is hit, all that was not is saved or kept apart", context do
    %{dir: dir, files: files, good: good, tmp_dir: tmp} = context
    events = events(good)
    regions = for region <- BitRot.regions(dir, files), region.to > region.from, region.part != :derived, do: region

    for {region, number} <- Enum.with_index(regions) do
      at = region.from + rem(7 * number, region.to - region.from)
      BitRot.flip!(dir, region.file, at, files[region.file], 1)
      check(dir, Path.join(tmp, "new-#{number}"), events, good, region)
      BitRot.mend!(dir, files, [region.file])
    end
  end

  test "of a folder without one of its files, all that the others hold is saved or kept apart", context do
    %{dir: dir, files: files, good: good, tmp_dir: tmp} = context
    events = events(good)

    for {name, number} <- Enum.with_index(Map.keys(files) -- ["lock"]),
        Path.extname(name) not in [".euids", ".index"] do
      holds = for region <- BitRot.regions(dir, files), region.file == name, held <- region.holds, do: held
      BitRot.restore!(dir, Map.delete(files, name))
      check(dir, Path.join(tmp, "new-#{number}"), events, good, %{file: name, part: :all, holds: holds})
      BitRot.restore!(dir, files)
    end
  end

  defp check(dir, out, events, good, region) do
    before = BitRot.files(dir)
    assert {:ok, found} = examine(dir, out)
    assert BitRot.files(dir) == before
    kept = Map.new(saved(out) ++ apart(out))
    missing = for {euid, {place, body}} <- events, place not in region.holds, kept[euid] != body, do: place
    assert {region.file, region.part, missing} == {region.file, region.part, []}

    # Of a flow of which nothing was left the log alone still tells.
    faults = for fault <- found.saved_verdict.faults, not gone?(fault, out), do: fault
    assert Enum.all?(faults, &(&1.class in @local)), inspect({region, faults})
    assert found.saved_verdict.damage == []
    files = Path.wildcard(out <> "/doctor/*.blocks")
    {:ok, verdict} = Interchange.verify_files(files)
    # A block that is hit where only its neighbours tell is named with them.
    faults = for fault <- verdict.faults, {:block, fault.flow, fault.block} not in region.holds, do: fault.class
    assert {files, []} == {files, faults -- @local}
    # What was sealed is in the new store byte for byte, but for blocks that were opened again.
    known = MapSet.new(blocks(good))
    shown = BitRot.open(out, :read, &BitRot.shown/1)
    for block <- blocks(shown), found.saved_verdict.faults == [], do: assert(MapSet.member?(known, block))
  end

  defp gone?(%{class: :log, flow: "genesis " <> _digest}, _out), do: true

  defp gone?(%{class: :log, flow: flow}, out) do
    {:ok, head} = BitRot.open(out, :read, &Store.head(&1, flow))
    head.fixed == 0 and Record.settled(head.entries) == []
  end

  defp gone?(_fault, _out), do: false

  test "the new store goes on: behind a loss too, a flow's events are sealed anew", %{dir: dir, out: out, files: files} do
    hit = Enum.find(BitRot.regions(dir, files), &(&1.part == :front and &1.holds == [{:block, "ward/a", 5}]))
    BitRot.flip!(dir, hit.file, hit.from, files[hit.file], 1)
    {:ok, found} = examine(dir, out)
    assert %{lost: 6, broken: [%{known: 94, saved: 30, apart: 58, lost: [31..36]}]} = found
    # That it is shorter now is on record, and the new store's log holds it to that.
    assert [%{genesis: genesis, n: 30, salt: <<_::128>>}] = found.decisions
    assert Verdict.ok?(found.saved_verdict)
    leaves = BitRot.open(out, :read, &elem(Store.log(&1, {:leaves, 0, 99}), 1))

    assert [{:decision, :sha256, ^genesis, 30, _, _}] =
             for(leaf <- leaves, {:ok, leaf} = EventSeal.Native.read_leaf(leaf), elem(leaf, 0) == :decision, do: leaf)

    start_supervised!({EventSeal, name: __MODULE__, store: {Disk, dir: out}, pool_window: 0})
    {:ok, _} = EventSeal.append_many(__MODULE__, for(n <- 1..4, do: {"ward/a", %{when: n, kind: "k"}}))
    assert {:ok, _sealed} = EventSeal.seal(__MODULE__, "ward/a")
    assert {:ok, %{fixed: 31}} = EventSeal.head(__MODULE__, "ward/a")
    {:ok, verdict} = EventSeal.verify(__MODULE__)
    assert Verdict.ok?(verdict)
    [euid | _] = for {{"ward/p", euid}, :spent} <- spent(dir), do: euid
    assert {:error, %{reason: :retracted}} = EventSeal.append(__MODULE__, "ward/p", %{when: 1, kind: "k"}, euid: euid)
  end

  test "a byte that was changed in a block is found again, wherever it is", %{dir: dir, files: files, good: good} do
    [hit | _] =
      for region <- BitRot.regions(dir, files),
          region.holds == [{:block, "ward/b", 2}],
          region.part == :payload,
          do: region

    for at <- Enum.take_every(hit.from..(hit.to - 1), 53), pattern <- [1, 255] do
      BitRot.flip!(dir, hit.file, at, files[hit.file], pattern)
      {:ok, found} = BitRot.open(dir, :examine, &Doctor.run/1)

      assert {^at, %{mended: 1, events: 195, lost: 0, apart: 0}} =
               {at, Map.take(found, [:mended, :events, :lost, :apart])}

      refute Doctor.healthy?(found)
      BitRot.mend!(dir, files, [hit.file])
    end

    BitRot.flip!(dir, hit.file, hit.from + 999, files[hit.file], 7)
    out = dir <> "-mended"
    {:ok, %{saved_verdict: verdict}} = examine(dir, out)
    assert Verdict.ok?(verdict)
    assert Enum.sort(blocks(BitRot.open(out, :read, &BitRot.shown/1))) == Enum.sort(blocks(good))
  end

  test "a body of which more was hit stays in its block, and is named", %{dir: dir, out: out, files: files} do
    hit = Enum.find(BitRot.regions(dir, files), &(&1.part == :payload and &1.holds == [{:block, "ward/b", 2}]))
    # The seventeenth event's salt, in two places.
    for at <- [hit.to - 128, hit.to - 120], do: BitRot.flip!(dir, hit.file, at, files[hit.file], 1)
    {:ok, found} = examine(dir, out)
    assert [{genesis, %{class: :commitment, position: 17, block: 2}}] = found.faults
    assert byte_size(genesis) == 64
    assert %{events: 195, lost: 0, apart: 0, broken: [], mended: 0} = found
    assert [%{class: :commitment, position: 17}] = found.saved_verdict.faults
  end

  describe "the command" do
    test "says what is damaged and lost, saves it, and keeps the verdict; no flow, no body is in it", context do
      %{dir: dir, files: files, out: out} = context
      hit = Enum.find(BitRot.regions(dir, files), &(&1.part == :front and &1.holds == [{:block, "ward/a", 5}]))
      BitRot.flip!(dir, hit.file, hit.from, files[hit.file], 1)
      assert {1, text} = command(["--dir", dir])
      assert text =~ "DAMAGED"
      assert text =~ "damaged_record 00000001.segment #{hit.from}"
      assert text =~ "LOST: 6 events"
      assert text =~ "lost: 31-36"
      assert text =~ "--out NEW"
      assert {1, saved} = command(["--dir", dir, "--out", out])
      report = File.read!(Path.join(out, "doctor/report.txt"))
      assert String.starts_with?(report, "event-seal-doctor/1\nsource #{dir}\n")
      assert report =~ "\nverdict damaged\ndamage damaged_record 00000001.segment #{hit.from}\n"
      assert report =~ "\nlost 6\n"
      for said <- [text, saved, report], do: refute(said =~ "ward/")

      for path <- [out | Path.wildcard(out <> "/**")] do
        {:ok, stat} = File.lstat(path)
        assert {path, Bitwise.band(stat.mode, 0o777)} == {path, if(stat.type == :directory, do: 0o700, else: 0o600)}
        refute Path.relative_to(path, out) =~ "ward"
      end

      assert capture_io(fn -> assert Command.verify(["--dir", out]) == 0 end) =~ "No fault"
      blocks = Path.wildcard(out <> "/doctor/*.blocks")
      assert capture_io(fn -> assert Command.verify(["--file" | blocks]) == 0 end) =~ "58 fixed" or length(blocks) == 2
    end

    test "says that a healthy store is", %{dir: dir} do
      assert {0, text} = command(["--dir", dir])
      assert text =~ "is healthy"
      assert text =~ "Nothing is lost"
    end

    test "examines a store whose identity is hit, and one whose journal's header is", %{dir: dir, files: files} do
      for name <- ["identity", "journal-0000000000000003"] do
        BitRot.flip!(dir, name, 40, files[name], 4)
        assert {1, text} = command(["--dir", dir])
        assert text =~ "195 events settled, 5 events in the pool"
        BitRot.mend!(dir, files, [name])
      end
    end

    test "touches nothing that is there", %{dir: dir, tmp_dir: tmp, files: files} do
      full = Path.join(tmp, "full")
      File.mkdir_p!(full)
      File.write!(Path.join(full, "mine"), "")
      assert {2, text} = command(["--dir", dir, "--out", full])
      assert text =~ "there already"
      assert {2, _} = command(["--dir", dir, "--out", dir])
      assert {2, text} = command(["--dir", dir, "--out", Path.join(dir, "new")])
      assert text =~ "in the store itself"
      assert {2, _} = command(["--dir", Path.join(tmp, "none")])
      assert {2, _} = command(["--dir", full])
      assert {2, text} = command([])
      assert text =~ "usage: event_seal.doctor"
      assert File.ls!(full) == ["mine"]
      assert BitRot.files(dir) == files
    end

    test "is a task too", %{dir: dir} do
      assert capture_io(fn -> Mix.Tasks.EventSeal.Doctor.run(["--dir", dir]) end) =~ "healthy"
    end
  end

  defp command(args), do: EventSeal.CommandLine.command(:doctor, args)

  test "what verifies what is unknown to it raises nothing", %{dir: dir} do
    assert {:ok, %Verdict{}} = BitRot.open(dir, :examine, &Verifier.run(&1, []))
  end
end
