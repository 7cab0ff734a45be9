defmodule EventSeal.ExportArchiveTest do
  # Archives of flows: out of a store, checked, and back into an empty one.
  # Not beside other tests that run commands: a command's store has one name.
  use ExUnit.Case, async: false

  alias EventSeal.{Archive, Error, Export, Instance, Interchange, Restore, Signer, Store, Verdict}
  alias EventSeal.Log.Tree

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    {:ok, key} = Signer.File.generate(Path.join(dir, "log.key"), "clinic.example/log")
    %{key: key, out: Path.join(dir, "out")}
  end

  defp start(dir, name, opts) do
    checkpoints = if key = opts[:key], do: [signer: {Signer.File, key}, every: :infinity]
    block = [max_events: 4, max_bytes: 1_000_000, max_age: :infinity]
    options = [name: name, store: {Store.Disk, dir: Path.join(dir, "#{name}")}, pool_window: 0, block: block]
    options = if checkpoints, do: [checkpoints: checkpoints] ++ options, else: options
    start_supervised!({EventSeal, options}, id: name)
    Store.handle(Store.Disk, Instance.store_name(name))
  end

  # An open flow with a tail, a closed one, one of the tail alone, and one of which nothing is settled.
  defp filled(dir, opts \\ []) do
    name = :"archived-#{System.unique_integer([:positive])}"
    store = start(dir, name, opts)
    append(name, "patient/1", 11)
    {:ok, _} = EventSeal.seal(name, "patient/1")
    append(name, "patient/2", 6)
    {:ok, _} = EventSeal.close(name, "patient/2")
    append(name, "../3", 2)
    if opts[:key], do: {:ok, _} = EventSeal.checkpoint(name)
    {name, store}
  end

  defp signed(dir), do: filled(dir, key: Path.join(dir, "log.key"))

  defp append(name, flow, count) do
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..count, do: {flow, %{when: n, kind: "k", body: "body #{n}"}}))
    {:ok, _} = EventSeal.settle(name, flow)
  end

  defp export(store, out, format \\ :archive) do
    {:ok, report} = Export.run(store, out, format: format)
    {report, for(path <- Enum.sort(Path.wildcard(out <> "/*")), do: {Path.basename(path), File.read!(path)})}
  end

  defp empty(dir) do
    name = :"restored-#{System.unique_integer([:positive])}"
    store = Store.handle(Store.Disk, name)
    start_supervised!(Store.Disk.child_spec({name, dir: Path.join(dir, "#{name}"), mode: :write}), id: name)
    store
  end

  defp files(out) do
    for path <- Enum.sort(Path.wildcard(out <> "/*")) do
      {:ok, kind} = Restore.kind(path)
      {kind, path}
    end
  end

  test "each flow has an archive, signed as far as the checkpoint covers", %{tmp_dir: dir, key: key, out: out} do
    {_name, store} = signed(dir)
    assert {%{flows: 3, events: 20}, files} = export(store, out)

    assert Enum.map(files, &elem(&1, 0)) ==
             ~w(%2e%2e%2f3.archive log.leaves patient%2f1.archive patient%2f2.archive)

    path = Path.join(out, "patient%2f1.archive")
    assert {:ok, %{through: 8, origin: "clinic.example/log", key: ^key} = archive} = Archive.verify(path, key: key)
    assert %{events: 11, fixed: 8, provisional: 3, fault_count: 0} = archive.verdict
    assert {:ok, %{through: 8, key: nil}} = Archive.verify(path)
    assert {:ok, %Verdict{events: 11, fault_count: 0}} = Interchange.verify_files([path])
    assert {:ok, %{through: 7}} = Archive.verify(Path.join(out, "patient%2f2.archive"), key: key)
  end

  test "a wrong key, or an archive that has no proof, is untrusted", %{tmp_dir: dir, key: key, out: out} do
    {_name, store} = signed(dir)
    export(store, out)
    {:ok, other} = Signer.File.generate(Path.join(dir, "other.key"), "clinic.example/log")
    path = Path.join(out, "patient%2f1.archive")
    assert {:error, %Error{reason: :untrusted}} = Archive.verify(path, key: other)
    tail_alone = Path.join(out, "%2e%2e%2f3.archive")
    assert {:error, %Error{reason: :untrusted}} = Archive.verify(tail_alone, key: key)
    assert {:ok, %{through: nil, key: nil}} = Archive.verify(tail_alone)
  end

  test "without a checkpoint an archive has no proof", %{tmp_dir: dir, out: out} do
    {_name, store} = filled(dir)
    export(store, out)
    assert {:ok, %{through: nil, origin: nil}} = Archive.verify(Path.join(out, "patient%2f1.archive"))
  end

  test "a changed archive has faults, an unknown version fails with its number", %{tmp_dir: dir, out: out} do
    {_name, store} = signed(dir)
    export(store, out)
    path = Path.join(out, "patient%2f1.archive")
    bytes = File.read!(path)
    File.write!(path, String.replace(bytes, "body 5", "body 6"))

    assert {:ok, %{through: nil, verdict: %{faults: [%{position: 5, class: :commitment}]}}} = Archive.verify(path)
    assert {:ok, %{fault_count: 1}} = Interchange.verify_files([path])
    File.write!(path, binary_part(bytes, 0, 3_000))
    assert {:ok, %{fault_count: 1, faults: [%{class: :format}]}} = Interchange.verify_files([path])
    File.write!(path, String.replace(bytes, "EVSEALA1", "EVSEALA2"))
    assert {:error, %Error{reason: :malformed, detail: detail}} = Interchange.verify_files([path])
    assert detail =~ "version \"2\""
  end

  test "out, back into an empty store, and out again: every byte is the same, the log's root too", context do
    %{tmp_dir: dir, out: out, key: key} = context
    {_name, store} = signed(dir)
    {_report, before} = export(store, out)
    restored = empty(dir)
    # What no archive proves may be brought back where no key was asked for.
    assert {:ok, %{flows: 3, events: 20, there: 0, checkpoints: 1}} = Restore.run(restored, files(out))
    assert {_report, ^before} = export(restored, Path.join(dir, "again"))
    {:ok, one} = Tree.open(store)
    {:ok, other} = Tree.open(restored)
    assert Tree.head(one) == Tree.head(other)
    without = Enum.reject(files(out), fn {_kind, path} -> path =~ "patient%2f2" end)
    assert {:error, %Error{reason: :invalid, rule: rule}} = Restore.run(empty(dir), without)
    assert rule =~ "the log knows a block"
    proven = for {:archive, path} = file <- files(out), not (path =~ "%2e"), do: file
    assert {:ok, %{flows: 2}} = Restore.run(empty(dir), proven, key: key)
    assert {:error, %Error{reason: :untrusted}} = Restore.run(empty(dir), files(out), key: key)
  end

  test "a store that was brought back is a store to go on with", %{tmp_dir: dir, out: out} do
    {_name, store} = signed(dir)
    export(store, out)
    name = :going_on
    target = Path.join(dir, "going_on")
    spec = Store.Disk.child_spec({:filling, dir: target, mode: :write})
    start_supervised!(spec, id: :filling)
    {:ok, _} = Restore.run(Store.handle(Store.Disk, :filling), files(out))
    stop_supervised!(:filling)
    start(dir, name, key: Path.join(dir, "log.key"))
    append(name, "patient/1", 3)
    assert {:ok, 3} = EventSeal.seal(name, "patient/1")
    assert {:error, %Error{reason: :closed}} = EventSeal.append(name, "patient/2", %{when: 1, kind: "k"})
    assert {:ok, verdict} = EventSeal.verify(name)
    assert Verdict.ok?(verdict)
    # Six leaves were there; a block and a tail are new.
    assert {:ok, %{size: 8}} = EventSeal.checkpoint(name)
    assert {:ok, "old 6\n" <> _} = EventSeal.witness_request(name, 6)
  end

  test "interchange files come back with the same ids and block hashes", %{tmp_dir: dir, out: out} do
    {_name, store} = filled(dir)
    {_report, before} = export(store, out, :interchange)
    restored = empty(dir)
    assert {:ok, %{flows: 3, events: 20}} = Restore.run(restored, files(out))
    assert {_report, ^before} = export(restored, Path.join(dir, "again"), :interchange)
  end

  test "nothing is committed if one file is at fault, or the store has other events", %{tmp_dir: dir, out: out} do
    {name, store} = signed(dir)
    export(store, out)
    kept = for {kind, path} <- files(out), do: {kind, path, File.read!(path)}
    restored = empty(dir)

    for {kind, path, bytes} <- kept, at <- [80, byte_size(bytes) - 70] do
      <<head::binary-size(at), byte, rest::binary>> = bytes
      File.write!(path, <<head::binary, Bitwise.bxor(byte, 1), rest::binary>>)
      # The proof is only asked for with a key.
      unless kind == :archive and at > 80 and bytes =~ "tlog-proof" do
        assert {:error, %Error{}} = Restore.run(restored, files(out)), "#{path} #{at}"
      end

      File.write!(path, bytes)
    end

    assert {:ok, []} = Store.flows(restored, nil, 10)
    archives = Enum.filter(files(out), &match?({:archive, _}, &1))
    assert {:ok, %{flows: 3}} = Restore.run(restored, archives)
    assert {:ok, %{flows: 0, there: 3}} = Restore.run(restored, archives)
    append(name, "../3", 1)
    export(store, out)
    assert {:error, %Error{reason: :invalid, rule: rule}} = Restore.run(restored, archives)
    assert rule =~ "with other events"
  end

  test "a packet shows the bodies that are asked for, proves the rest, and is not brought back", context do
    %{tmp_dir: dir, key: key} = context
    {name, _store} = signed(dir)
    path = Path.join(dir, "packet")

    packet = fn opts ->
      with {:ok, bytes} <- EventSeal.packet(name, "patient/1", opts) do
        File.write!(path, bytes)
        {:ok, %{through: through, verdict: verdict}} = Archive.verify(path, key: key)
        {bytes, {through, verdict.events, verdict.bodies_verified, verdict.fault_count}}
      end
    end

    assert {bytes, {8, 11, 0, 0}} = packet.([])
    refute bytes =~ "body "
    assert {:error, %Error{reason: :invalid}} = Restore.run(empty(dir), [{:archive, path}])
    assert {bytes, {8, 11, 2, 0}} = packet.(disclose: [2, 9])
    assert bytes =~ "body 2" and bytes =~ "body 9" and not (bytes =~ "body 3")
    assert {_, {8, 11, 11, 0}} = packet.(disclose: true)
    assert {_, {8, 4, 4, 0}} = packet.(range: 5..6, disclose: true)
    assert {_, {4, 4, 0, 0}} = packet.(until: 3)
    assert {_, {8, 7, 0, 0}} = packet.(since: 6)
    assert {:error, %Error{reason: :not_found}} = packet.(range: 50..60)
    assert_raise ArgumentError, fn -> EventSeal.packet(name, "patient/1", disclose: [0]) end
  end

  test "the commands write archives and bring them back; files of two sorts do not go together", context do
    %{tmp_dir: dir, out: out} = context
    {name, _store} = signed(dir)
    new = Path.join(dir, "new")
    run = fn command, args -> ExUnit.CaptureIO.with_io(fn -> apply(EventSeal.Command, command, [args]) end) end
    assert {0, _text} = run.(:export, ["--dir", Path.join(dir, "#{name}"), "--out", out, "--format", "archive"])
    paths = Path.wildcard(out <> "/*")
    assert {0, text} = run.(:import, ["--dir", new | paths])
    assert text =~ "Brought 3 flows of 20 events back"
    assert {0, _text} = run.(:verify, ["--dir", new])
    assert {0, _text} = run.(:verify, ["--file", Path.join(out, "patient%2f1.archive")])
    line = Path.join(dir, "events.jsonl")
    File.write!(line, ~s({"flow":"f","when":1,"where":null,"kind":"k","body":""}\n))
    assert ExUnit.CaptureIO.capture_io(:stderr, fn -> run.(:import, ["--dir", new, line | paths]) end) =~ "to import"

    assert ExUnit.CaptureIO.capture_io(:stderr, fn -> run.(:export, ["--dir", new, "--out", out, "--format", "zip"]) end) =~
             "usage"
  end
end
