defmodule EventSeal.PacketCommandTest do
  # Packets by the command, and files that a key must have signed.
  # Not beside other tests that run commands: a command's store has one name.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine
  alias EventSeal.{Archive, Signer, Store}

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    {:ok, key} = Signer.File.generate(Path.join(dir, "log.key"), "clinic.example/log")
    {:ok, other} = Signer.File.generate(Path.join(dir, "other.key"), "clinic.example/log")
    name = :"packets-#{System.unique_integer([:positive])}"
    store = Path.join(dir, "store")
    checkpoints = [signer: {Signer.File, Path.join(dir, "log.key")}, every: :infinity]
    block = [max_events: 4, max_age: :infinity]
    opts = [name: name, store: {Store.Disk, dir: store}, pool_window: 0, checkpoints: checkpoints, block: block]
    start_supervised!({EventSeal, opts})

    items = for n <- 1..15, do: {"patient/1", %{when: n * 1_000_000, kind: "vital", body: "body #{n}."}}
    {:ok, _} = EventSeal.append_many(name, items)
    {:ok, _} = EventSeal.seal(name, "patient/1")
    {:ok, _} = EventSeal.checkpoint(name)
    %{dir: dir, key: key, other: other, store: store, name: name}
  end

  defp packet(context, args) do
    out = Path.join(context.dir, "packet#{System.unique_integer([:positive])}")
    {status, text} = command(:packet, ["--dir", context.store, "--flow", "patient/1", "--out", out | args])
    {status, text, out}
  end

  # The positions whose bodies are in a file.
  defp bodies(path) do
    for [_, n] <- Regex.scan(~r/body (\d+)\./, File.read!(path)), do: String.to_integer(n)
  end

  test "a packet holds what was asked for, and no body that was not", context do
    assert {0, text, out} = packet(context, [])
    assert text =~ "no body in it"
    assert bodies(out) == []

    assert {:ok, %{through: 12, verdict: %{events: 15, bodies_not_shown: 15, fault_count: 0}}} =
             Archive.verify(out, key: context.key)

    assert {0, _, out} = packet(context, ["--disclose"])
    assert bodies(out) == Enum.to_list(1..15)
    assert {0, text, out} = packet(context, ["--show", "3", "--show", "14"])
    assert text =~ "2 bodies at most"
    assert bodies(out) == [3, 14]
    # Whole blocks: of four events each.
    assert {0, _, out} = packet(context, ["--range", "6-7", "--disclose"])
    assert bodies(out) == [5, 6, 7, 8]

    assert {0, _, out} =
             packet(context, ["--since", "1970-01-01T00:00:09Z", "--until", "1970-01-01T02:00:10+02:00", "--disclose"])

    assert bodies(out) == [9, 10, 11, 12]
  end

  test "it is as a host would have made it", context do
    assert {0, _, out} = packet(context, ["--range", "1-8", "--show", "2"])
    assert {:ok, packet} = EventSeal.packet(context.name, "patient/1", range: 1..8, disclose: [2])
    assert File.read!(out) == packet
  end

  test "what cannot be is said, and nothing is written", context do
    for args <- [
          ["--range", "7"],
          ["--range", "7-6"],
          ["--range", "0-6"],
          ["--since", "yesterday"],
          ["--show", "0"],
          ["--show", "x"],
          ["--show", "1", "--disclose"],
          ["stray"]
        ] do
      assert {2, "usage: event_seal.packet" <> _, out} = packet(context, args)
      refute File.exists?(out)
    end

    assert {2, text, _out} = packet(context, ["--range", "16-20"])
    assert text =~ "no such event is settled"
    assert {0, _, out} = packet(context, [])
    assert {2, text} = command(:packet, ["--dir", context.store, "--flow", "patient/1", "--out", out])
    assert text =~ "file already exists"
    assert {2, _} = command(:packet, ["--dir", context.store, "--flow", "patient/9", "--out", out <> "9"])
  end

  test "files verify under the key that has signed them, and under no other", context do
    {0, _, packet} = packet(context, ["--show", "3"])
    proof = Path.join(context.dir, "proof")
    prove = ["--dir", context.store, "--flow", "patient/1", "--n", "2", "--disclose", "--out", proof]
    assert {0, _} = command(:prove, prove)
    assert {0, text} = command(:verify, ["--file", packet, "--file", proof, "--key", context.key])
    assert text =~ "#{packet}: up to position 12 signed by #{context.key}"
    assert text =~ "#{proof}: the event at position 2 signed by #{context.key}"
    assert text =~ "16 events: 13 fixed, 3 provisional\n  2 bodies verified, 14 not shown"
    # One of those that the log had is enough.
    assert {0, _} = command(:verify, ["--file", packet, "--key", context.other, "--key", context.key])

    for file <- [packet, proof] do
      assert {2, text} = command(:verify, ["--file", file, "--key", context.other])
      assert text =~ "no key of the log has signed it"
    end

    assert {2, _} = command(:verify, ["--file", packet, "--key", "none"])
  end

  test "what no key has signed is not verified under one", context do
    vector = "test/vectors/sha256-4.jsonl"
    assert {0, _} = command(:verify, ["--file", vector])
    assert {2, text} = command(:verify, ["--file", vector, "--key", context.key])
    assert text =~ "nothing in it is signed"
    {:ok, _} = EventSeal.append(context.name, "patient/2", %{when: 1, kind: "vital"})
    unsigned = Path.join(context.dir, "unsigned")
    assert {0, _} = command(:packet, ["--dir", context.store, "--flow", "patient/2", "--out", unsigned])
    assert {0, _} = command(:verify, ["--file", unsigned])
    assert {2, text} = command(:verify, ["--file", unsigned, "--key", context.key])
    assert text =~ "nothing in it is signed"
  end

  test "a fault in a signed file is a fault", context do
    {0, _, packet} = packet(context, ["--disclose"])
    File.write!(packet, packet |> File.read!() |> String.replace("body 3.", "body X."))
    assert {1, text} = command(:verify, ["--file", packet, "--key", context.key])
    assert text =~ "position 3, block 0: commitment"
    refute text =~ "signed by"
  end
end
