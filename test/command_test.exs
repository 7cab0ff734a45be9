defmodule EventSeal.CommandTest do
  # The commands as a user runs them: what they print, what they leave, and their exit status.
  use ExUnit.Case, async: true

  import EventSeal.CommandLine
  import ExUnit.CaptureIO

  alias EventSeal.Import
  alias EventSeal.Export.FileName
  alias EventSeal.Oracle.Json

  doctest EventSeal.Import

  @moduletag :tmp_dir
  @sample "samples/movements.jsonl"

  describe "keys, checkpoints and proofs" do
    test "a key is made, a checkpoint and a proof are written, and the key checks both", %{tmp_dir: dir} do
      [key, store, checkpoint, proof] = paths(dir, ~w(log.key store checkpoint proof))
      assert {0, text} = command(:keygen, ["--name", "clinic.example/log", "--out", key])
      verifier = text |> String.split("\n", trim: true) |> List.last()
      assert verifier =~ ~r"^clinic\.example/log\+[0-9a-f]{8}\+\S{44}$"
      refute File.read!(key) =~ verifier

      name = :"host_#{System.unique_integer([:positive])}"
      disk = {EventSeal.Store.Disk, dir: store}
      checkpoints = [signer: {EventSeal.Signer.File, key}, every: :infinity]
      {:ok, host} = EventSeal.start_link(name: name, store: disk, pool_window: 0, checkpoints: checkpoints)
      {:ok, _} = EventSeal.append_many(name, for(n <- 1..5, do: {"patient/1", %{when: n, kind: "vital", body: "37"}}))
      {:ok, 2} = EventSeal.seal(name, "patient/1")
      assert {2, text} = command(:checkpoint, ["--dir", store, "--out", checkpoint])
      assert text =~ "no checkpoint was signed yet"
      {:ok, %{note: note}} = EventSeal.checkpoint(name)

      # Beside the host, which goes on.
      assert {0, text} = command(:checkpoint, ["--dir", store, "--out", checkpoint])
      assert text =~ "2 leaves" and text =~ verifier
      assert File.read!(checkpoint) == note
      prove = ["--dir", store, "--flow", "patient/1", "--out", proof]
      assert {0, text} = command(:prove, prove ++ ["--n", "2", "--disclose"])
      assert text =~ "position 2, with its body"
      Supervisor.stop(host)

      assert {:ok, %{event: %{n: 2, body: "37"}}} = EventSeal.Proof.verify(File.read!(proof), key: verifier)
      assert {2, text} = command(:prove, prove ++ ["--n", "1"])
      assert text =~ "file already exists"
      assert {2, text} = command(:prove, ["--dir", store, "--flow", "patient/1", "--out", proof <> "3", "--n", "3"])
      assert text =~ "no event is fixed at this position"
      assert {2, text} = command(:keygen, ["--name", "clinic.example/log", "--out", key])
      assert text =~ "file already exists"
      assert {2, _usage} = command(:prove, ["--dir", store])
    end

    test "a key of receipts or of a witness is made for that alone", %{tmp_dir: dir} do
      for {switch, purpose} <- [{"--receipts", "\xffevent-seal/1 receipt"}, {"--witness", <<4>>}] do
        [key] = paths(dir, [switch])
        assert {0, text} = command(:keygen, ["--name", "clinic.example/x", switch, "--out", key])
        verifier = text |> String.split("\n", trim: true) |> List.last()
        [_name, _id, public] = String.split(verifier, "+", parts: 3)
        size = byte_size(purpose)
        assert <<^purpose::binary-size(size), _::binary-32>> = Base.decode64!(public)
      end

      both = ["--name", "x", "--witness", "--receipts", "--out", Path.join(dir, "both")]
      assert {2, _usage} = command(:keygen, both)
    end
  end

  describe "the sample hospital" do
    test "imports, verifies, exports and verifies again; nothing is lost, moved or doubled", %{tmp_dir: dir} do
      [store, out] = paths(dir, ~w(store out))
      assert {0, text} = command(:import, ["--dir", store, @sample])
      assert text =~ "Imported 2,636 events of 100 flows from 1 file"
      assert text =~ "2,636 added, 0 were there already"

      assert {0, text} = command(:verify, ["--dir", store])
      assert {0, _} = command(:verify, ["--dir", store, "--max-rate", "1000000"])
      assert text =~ "100 flows"
      assert text =~ "2,636 events: 2,336 fixed, 300 provisional"
      assert text =~ "2,636 bodies verified, 0 not shown"

      assert {0, text} = command(:export, ["--dir", store, "--out", out])
      assert text =~ "Exported 2,636 events of 100 flows"
      files = Path.wildcard(out <> "/*")
      assert length(files) == 100
      assert {0, text} = command(:verify, ["--file" | files])
      assert {0, _} = command(:verify, ["--max-rate", "500MB", "--file" | files])
      assert text =~ "2,636 events: 2,336 fixed, 300 provisional"

      for {flow, lines} <- Enum.group_by(lines(@sample), & &1["flow"]),
          do: assert(exported(out, flow) == Enum.map(lines, &what/1))
    end

    test "importing again adds nothing", %{tmp_dir: dir} do
      [store] = paths(dir, ~w(store))
      assert {0, _} = command(:import, ["--dir", store, @sample])
      assert {0, text} = command(:import, ["--dir", store, @sample])
      assert text =~ "0 added, 2,636 were there already"
      assert {0, text} = command(:verify, ["--dir", store])
      assert text =~ "2,636 events: 2,336 fixed, 300 provisional"
    end

    test "an import that was interrupted goes on, in order", %{tmp_dir: dir} do
      [store, out] = paths(dir, ~w(store out))
      name = :"import_#{System.unique_integer([:positive])}"
      {:ok, first} = EventSeal.start_link(name: name, store: {EventSeal.Store.Disk, dir: store}, pool_window: 0)

      # The first thousand events, as the interrupted run had them.
      batch =
        for {line, number} <- Enum.with_index(Enum.take(lines(@sample), 1_000), 1) do
          {"place", place} = Enum.at(line["where"] || %{"place" => nil}, 0)
          event = %{when: line["when"], where: place && {:place, place}, kind: line["kind"], body: line["body"]}
          {line["flow"], event, euid: Import.euid(digest(@sample), number)}
        end

      assert {:ok, _} = EventSeal.append_many(name, batch)
      Supervisor.stop(first)

      assert {0, text} = command(:import, ["--dir", store, @sample])
      assert text =~ "1,636 added, 1,000 were there already"
      assert {0, _} = command(:export, ["--dir", store, "--out", out])

      for {flow, lines} <- Enum.group_by(lines(@sample), & &1["flow"]),
          do: assert(exported(out, flow) == Enum.map(lines, &what/1))
    end

    test "what was retracted since stays retracted", %{tmp_dir: dir} do
      [file, store] = paths(dir, ~w(three.jsonl store))
      File.write!(file, for(n <- 1..3, do: ~s({"flow":"f","when":#{n},"where":null,"kind":"k","body":""}\n)))
      name = :"import_#{System.unique_integer([:positive])}"
      start_supervised!({EventSeal, name: name, store: {EventSeal.Store.Disk, dir: store}})

      for n <- 1..3,
          do: {:ok, _} = EventSeal.append(name, "f", %{when: n, kind: "k"}, euid: Import.euid(digest(file), n))

      {:ok, _} = EventSeal.retract(name, "f", Import.euid(digest(file), 3))
      assert {:ok, %{lines: 3, added: 0}} = Import.run(name, [file])
      assert [1, 2] = name |> EventSeal.stream("f") |> Enum.map(& &1.when)
    end

    test "both suites", %{tmp_dir: dir} do
      [store, out] = paths(dir, ~w(store out))
      assert {0, _} = command(:import, ["--dir", store, "--suite", "blake3", @sample])
      assert {0, _} = command(:export, ["--dir", store, "--out", out])
      [file | _] = files = Path.wildcard(out <> "/*")
      assert hd(lines(file))["suite"] == "blake3"
      assert {0, _} = command(:verify, ["--file" | files])
    end
  end

  describe "bad lines" do
    @good ~s({"flow":"f","when":1,"where":null,"kind":"k","body":"x"})
    @secret "Sesame 4711"

    test "are named by file, line, field and rule, never by value; nothing is kept", %{tmp_dir: dir} do
      [store, good, bad] = paths(dir, ~w(store good.jsonl bad.jsonl))
      File.write!(good, @good <> "\n")

      File.write!(bad, [
        @good,
        "\n\n",
        ~s({"flow":"f","when":"#{@secret}","where":null,"kind":"k","body":"x"}\n),
        ~s({"flow":"f","when":1,"where":null,"kind":"$close","body":"#{@secret}"}\n),
        ~s({"flow":"f","when":1,"where":null,"kind":"k","body":"x","#{@secret}":1}\n),
        ~s(#{@secret}\n),
        @good
      ])

      assert {1, text} = command(:import, ["--dir", store, good, bad])
      refute text =~ @secret
      assert text =~ "#{bad} line 3: when: "
      assert text =~ "#{bad} line 4: kind: must not begin with $"
      assert text =~ "#{bad} line 5: "
      assert text =~ "#{bad} line 6: "
      refute text =~ ~r/line [127]:/
      assert text =~ "4 bad lines in 2 files: nothing was imported."
      assert {0, text} = command(:verify, ["--dir", store])
      assert text =~ "nothing to verify"
    end

    test "are left out with --skip-bad, and the others keep their euids", %{tmp_dir: dir} do
      [store, file] = paths(dir, ~w(store some.jsonl))
      File.write!(file, [@good, "\nbad\n", @good, "\n"])
      assert {0, text} = command(:import, ["--dir", store, "--skip-bad", file])
      assert text =~ "1 bad line left out"
      assert text =~ "2 added"
      assert {0, text} = command(:import, ["--dir", store, "--skip-bad", file])
      assert text =~ "0 added, 2 were there already"
    end
  end

  describe "a fault" do
    test "in the store is named, and the status is 1", %{tmp_dir: dir} do
      [store] = paths(dir, ~w(store))
      assert {0, _} = command(:import, ["--dir", store, @sample])
      forge(store <> "/**/*.segment", ~s("procedure_code":"8696"), ~s("procedure_code":"8697"))
      assert {1, text} = command(:verify, ["--dir", store])
      assert text =~ "2,636 events: 2,336 fixed, 300 provisional"
      assert text =~ "1 FAULT:"

      assert text =~
               ~r"patient/10001725, position 1, block 0: commitment\n    recorded    [0-9a-f]{64}\n    recomputed  [0-9a-f]{64}\n"
    end

    test "in the journal is damage, and the status is 1", %{tmp_dir: dir} do
      [store] = paths(dir, ~w(store))
      assert {0, _} = command(:import, ["--dir", store, @sample])
      forge(store <> "/journal*", ~s("procedure_code":"8696"), ~s("procedure_code":"8697"))
      assert {1, text} = command(:verify, ["--dir", store])
      assert text =~ ~r/DAMAGE: \d+ damaged places? .*\n  journal.*, byte \d+: damaged_group/
    end

    test "in a file is named, and the status is 1", %{tmp_dir: dir} do
      vector = "test/vectors/sha256-12.jsonl"
      assert {0, _} = command(:verify, ["--file", vector])
      forged = Path.join(dir, "forged.jsonl")
      [header, first, second | rest] = vector |> File.read!() |> String.split("\n")

      File.write!(
        forged,
        Enum.join([header, first, String.replace(second, ~s("revision":), ~s("revision":1)) | rest], "\n")
      )

      assert {1, text} = command(:verify, ["--file", vector, forged])
      assert text =~ "position 2, block 0: event_hash"
    end
  end

  describe "status 2" do
    test "for what is not a command", %{tmp_dir: dir} do
      for {command, args} <- [
            import: [],
            import: ["--dir", dir],
            import: ["--dir", dir, "--suite", "md5", @sample],
            import: ["--dir", dir, "--no-such", @sample],
            export: ["--dir", dir],
            verify: [],
            verify: ["--dir", dir, "--file", @sample],
            verify: ["stray"],
            verify: ["--dir", dir, "--max-rate", "0"],
            verify: ["--dir", dir, "--max-rate", "20 knots"],
            verify: ["--dir", dir, "--max-rate", "1000000001MB"]
          ] do
        assert {2, text} = command(command, args)
        assert text =~ "usage: event_seal.#{command}"
      end
    end

    test "for what is not there, or not ours", %{tmp_dir: dir} do
      none = Path.join(dir, "none")
      assert {2, text} = command(:verify, ["--dir", none])
      assert text =~ "event_seal: "
      refute File.exists?(none)
      assert {2, text} = command(:verify, ["--file", none])
      assert text =~ none
      assert {2, text} = command(:import, ["--dir", Path.join(dir, "store"), none])
      assert text =~ none
      File.write!(Path.join(dir, "notes.txt"), "not a store")
      assert {2, _} = command(:export, ["--dir", dir, "--out", none])
    end

    test "for a store that another holds", %{tmp_dir: dir} do
      [store] = paths(dir, ~w(store))
      name = :"holder_#{System.unique_integer([:positive])}"
      start_supervised!({EventSeal, name: name, store: {EventSeal.Store.Disk, dir: store}})
      assert {2, text} = command(:import, ["--dir", store, @sample])
      assert text =~ "held by another"
      assert {:ok, _} = EventSeal.append(name, "f", %{when: 1, kind: "k"})
      assert {0, text} = command(:verify, ["--dir", store])
      assert text =~ "No fault" or text =~ "nothing to verify"
    end
  end

  test "a task's exit status is the command's", %{tmp_dir: dir} do
    verified = capture_io(fn -> Mix.Tasks.EventSeal.Verify.run(["--file", "test/vectors/sha256-4.jsonl"]) end)
    assert verified =~ "No fault"

    capture_io(:stderr, fn ->
      assert catch_exit(Mix.Tasks.EventSeal.Verify.run(["--dir", Path.join(dir, "none")])) == {:shutdown, 2}
    end)
  end

  defp digest(path), do: :crypto.hash(:sha256, File.read!(path))
  defp paths(dir, names), do: Enum.map(names, &Path.join(dir, &1))
  defp lines(path), do: path |> File.stream!() |> Enum.map(&Json.decode!/1)
  defp what(line), do: {line["when"], line["where"], line["kind"], line["body"]}

  defp exported(out, flow) do
    for %{"n" => _} = line <- lines(Path.join(out, FileName.of(flow))),
        do: {line["when"], line["where"], line["kind"], Base.decode64!(line["body"])}
  end

  defp forge(pattern, text, instead) do
    [{path, at} | _] =
      for path <- Path.wildcard(pattern), {at, _} <- :binary.matches(File.read!(path), text), do: {path, at}

    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, instead)
    :ok = :file.close(file)
  end
end
