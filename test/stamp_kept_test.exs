defmodule EventSeal.StampKeptTest do
  # Stamps in a store, as a host and as the commands have them.
  # Not beside other tests that run commands: a command's store has one name.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine
  import EventSeal.Forgery, only: [edit: 4, leaves: 1, read: 1, write!: 2]
  alias EventSeal.{Checkpoint, Error, Export, Native, Proof, Signer, Stamp, Store, TimeStamper, Verdict}

  @moduletag :tmp_dir

  setup %{tmp_dir: tmp} do
    root = TimeStamper.certificate!(Path.join(tmp, "authority"), "Root", :ecdsa, nil, extensions: :ca)
    tsa = TimeStamper.certificate!(Path.join(tmp, "authority"), "Stamps", :ecdsa, root)
    other = TimeStamper.certificate!(Path.join(tmp, "other"), "Root", :ecdsa, nil, extensions: :ca)
    key_file = Path.join(tmp, "log.key")
    {:ok, key} = Signer.File.generate(key_file, "clinic.example/log")
    name = :"stamped-#{System.unique_integer([:positive])}"

    context = %{
      root: root,
      tsa: tsa,
      other: other,
      key: key,
      key_file: key_file,
      name: name,
      store: Path.join(tmp, "store")
    }

    start(context)
    append(context, "patient/1", 1..7)
    {:ok, _} = EventSeal.checkpoint(name)
    context
  end

  defp start(context, opts \\ []) do
    checkpoints = [signer: {Signer.File, context.key_file}, every: :infinity]

    opts =
      [name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0, checkpoints: checkpoints] ++ opts

    start_supervised!({EventSeal, opts}, id: context.name)
  end

  defp append(context, flow, numbers) do
    {:ok, _} =
      EventSeal.append_many(context.name, for(n <- numbers, do: {flow, %{when: n, kind: "vital", body: "#{n}"}}))

    {:ok, _} = EventSeal.seal(context.name, flow)
  end

  defp stamp!(context, opts \\ []) do
    {:ok, request} = EventSeal.stamp_request(context.name, opts)

    {:ok, stamp} =
      EventSeal.add_stamp(context.name, request, TimeStamper.reply!(context.tsa, request), anchors: context.root.cert)

    stamp
  end

  test "a stamp is kept with its checkpoint, and a verification shows it, now and after a restart", context do
    assert {:ok, %{stamp: nil}} = EventSeal.verify(context.name)
    stamp = stamp!(context)
    assert %Stamp{size: 2, authority: "CN=Stamps, O=Clinic", anchor: "CN=Root, O=Clinic"} = stamp
    assert {:ok, %{stamp: ^stamp} = verdict} = EventSeal.verify(context.name, anchors: context.root.cert)
    assert Verdict.ok?(verdict)
    assert {:ok, %{stamp: %{anchor: nil, size: 2}}} = EventSeal.verify(context.name)

    stop_supervised!(context.name)
    start(context)
    assert {:ok, %{stamp: ^stamp}} = EventSeal.verify(context.name, anchors: context.root.cert)
    # It goes where the checkpoint goes, and hinders nobody there.
    assert {:ok, %{note: note}} = EventSeal.checkpoint(context.name)
    assert {:ok, [^stamp]} = Stamp.verify(note, context.root.cert)
    assert {:ok, _} = Checkpoint.open(note, key: context.key)
    {:ok, proof} = EventSeal.prove(context.name, "patient/1", 1)
    assert {:ok, %{size: 2}} = Proof.verify(proof, key: context.key)
    # Nothing has changed, so nothing is signed anew; two may stamp it.
    assert %{serial: 2} = stamp!(context)
    assert {:ok, %{note: note}} = EventSeal.checkpoint(context.name)
    assert [_, _] = Stamp.tokens(note)
  end

  test "the word of an authority must be there for whoever asks for it", context do
    other = [anchors: context.other.cert]
    assert {:error, %Error{reason: :untrusted}} = EventSeal.verify(context.name, other)
    stamp!(context)
    assert {:error, %Error{reason: :untrusted}} = EventSeal.verify(context.name, other)
    assert {:error, %Error{reason: :storage}} = EventSeal.verify(context.name, anchors: "none")

    assert_raise ArgumentError, ~r/do not go together/, fn ->
      EventSeal.verify(context.name, [flow: "patient/1"] ++ other)
    end
  end

  test "an answer that does not hold is not kept", context do
    {:ok, request} = EventSeal.stamp_request(context.name)
    response = TimeStamper.reply!(context.tsa, request)
    {:ok, again} = EventSeal.stamp_request(context.name)
    add = &EventSeal.add_stamp(context.name, &1, &2, anchors: &3)
    assert {:error, %Error{reason: :untrusted}} = add.(again, response, context.root.cert)
    assert {:error, %Error{reason: :untrusted}} = add.(request, response, context.other.cert)
    assert {:error, %Error{reason: :malformed}} = add.(request, request, context.root.cert)
    assert {:error, %Error{reason: :malformed}} = add.(response, response, context.root.cert)
    {:ok, elsewhere} = Stamp.request("elsewhere.example/log\n5\nAAAA\n", nil)
    assert {:error, %Error{reason: :not_found}} = add.(elsewhere, response, context.root.cert)
    assert {:ok, %{stamp: nil}} = EventSeal.verify(context.name)
    assert {:error, %Error{reason: :not_found}} = EventSeal.stamp_request(context.name, size: 3)
    assert {:error, %Error{reason: :invalid}} = EventSeal.stamp_request(context.name, policy: "mine")
    assert_raise ArgumentError, ~r/required/, fn -> EventSeal.add_stamp(context.name, request, response, []) end
  end

  test "an earlier checkpoint may be stamped; the last one stays the last", context do
    {:ok, request} = EventSeal.stamp_request(context.name)
    append(context, "patient/2", 1..5)
    {:ok, last} = EventSeal.checkpoint(context.name)
    response = TimeStamper.reply!(context.tsa, request)
    assert {:ok, %{size: 2}} = EventSeal.add_stamp(context.name, request, response, anchors: context.root.cert)
    assert {:ok, ^last} = EventSeal.checkpoint(context.name)
    assert {:ok, %{checkpoint: 4, stamp: %{size: 2}}} = EventSeal.verify(context.name)
    assert %{size: 2} = stamp!(context, size: 2)
    assert %{size: 4} = stamp!(context)
    assert {:ok, %{stamp: %{size: 4}}} = EventSeal.verify(context.name)
    # What is signed later leaves it where it is.
    append(context, "patient/2", 6..9)
    {:ok, _} = EventSeal.checkpoint(context.name)
    assert {:ok, %{checkpoint: 6, stamp: %{size: 4}}} = EventSeal.verify(context.name, anchors: context.root.cert)
  end

  test "a log that was written anew behind a stamp is found by it, whatever is signed now", context do
    stamp!(context)
    stop_supervised!(context.name)
    honest = read(context.store)
    forged = edit(honest, "patient/1", 2, "forged")
    leaves = Enum.flat_map(forged.flows, fn {_flow, parts} -> leaves(parts) end)
    {size, root} = Native.ledger_learn(Native.ledger(), leaves)
    {:ok, signer} = Signer.open(Signer.File, context.key_file)
    {:ok, signed} = Signer.checkpoint(signer, size, root)
    # The stamped one was left in, since the stamp was wanted.
    forged = %{forged | leaves: leaves, checkpoints: honest.checkpoints ++ [Checkpoint.pack(signed)]}
    dir = context.store <> "-forged"
    write!(forged, dir)
    args = ["--dir", dir, "--anchors", context.root.cert]
    assert {1, text} = command(:verify, args)
    assert text =~ "log, position 2: log"
    refute text =~ "existed before"
    # Without it there is none.
    write!(%{forged | checkpoints: [Checkpoint.pack(signed)]}, dir <> "2")
    assert {2, text} = command(:verify, ["--dir", dir <> "2", "--anchors", context.root.cert])
    assert text =~ "no checkpoint has a time stamp"
  end

  test "health shows the newest stamp, under the anchors of the audit", context do
    stamp = stamp!(context)
    stop_supervised!(context.name)
    audit = [file: context.store <> ".audit", pause: 3_600_000]
    start(context, audit: audit)
    assert {:ok, %{stamp: %{size: 2, anchor: nil}}} = EventSeal.health(context.name)

    for {anchors, shown} <- [{context.root.cert, stamp}, {context.other.cert, nil}] do
      stop_supervised!(context.name)
      start(context, audit: audit ++ [anchors: anchors])
      assert {:ok, %{stamp: ^shown}} = EventSeal.health(context.name)
    end
  end

  test "it goes out with the log and comes back with it", context do
    stamp = stamp!(context)
    out = context.store <> "-out"
    handle = Store.handle(Store.Disk, EventSeal.Instance.store_name(context.name))
    {:ok, _} = Export.run(handle, out, format: :archive)
    stop_supervised!(context.name)
    back = context.store <> "-back"
    assert {0, _} = command(:import, ["--dir", back | Path.wildcard(out <> "/*")])
    assert {0, text} = command(:verify, ["--dir", back, "--anchors", context.root.cert])
    assert text =~ Stamp.to_line(stamp)
  end

  test "the commands ask, keep and show", context do
    [request, response, page] = for end_ <- ~w(.tsq .tsr .html), do: context.store <> end_
    ask = ["--dir", context.store, "--out", request]
    assert {0, text} = command(:stamp, ask ++ ["--policy", "1.2.3.4.5"])
    assert text =~ "is to be asked"
    assert {2, _exists} = command(:stamp, ask)
    File.write!(response, TimeStamper.reply!(context.tsa, File.read!(request)))
    keep = ["--dir", context.store, "--request", request, "--response", response, "--anchors"]
    # A host holds the store.
    assert {2, text} = command(:stamp, keep ++ [context.root.cert])
    assert text =~ "held by another"
    stop_supervised!(context.name)
    assert {2, text} = command(:stamp, keep ++ [context.other.cert])
    assert text =~ "leads to none that is trusted"
    assert {0, text} = command(:stamp, keep ++ [context.root.cert])

    assert text =~
             ~r/the checkpoint of size 2 existed before 20\d\d-.* UTC, says CN=Stamps, O=Clinic under CN=Root, O=Clinic\./

    assert {0, text} = command(:verify, ["--dir", context.store, "--anchors", context.root.cert])
    assert text =~ "says CN=Stamps, O=Clinic under CN=Root, O=Clinic"
    assert {0, text} = command(:verify, ["--dir", context.store])
    assert text =~ "says CN=Stamps, O=Clinic, whose certificate was not checked"
    assert {2, _} = command(:verify, ["--dir", context.store, "--anchors", context.other.cert])

    report = ["--dir", context.store, "--out", page]
    assert {0, _} = command(:report, report ++ ["--anchors", context.root.cert])
    assert File.read!(page) =~ "says CN=Stamps, O=Clinic under CN=Root, O=Clinic"
    File.rm!(page)
    assert {0, _} = command(:report, report ++ ["--flow", "patient/1"])
    assert File.read!(page) =~ "whose certificate was not checked"
    File.rm!(page)
    assert {2, _} = command(:report, report ++ ["--anchors", context.other.cert])

    for args <- [[], ["--dir", "d"], keep ++ ["a", "--out", "o"], ["--out", "o"]],
        do: assert({2, "usage" <> _} = command(:stamp, args))
  end

  test "an Erlang host has its checkpoints stamped", context do
    {:ok, request} = :event_seal.stamp_request(context.name)
    response = TimeStamper.reply!(context.tsa, request)
    {:ok, anchors} = Stamp.trusted(context.root.cert)
    anchors = Enum.map(anchors, & &1.der)
    assert {:ok, %{size: 2}} = :event_seal.add_stamp(context.name, request, response, anchors: anchors)
    assert {:ok, %{stamp: %{anchor: "CN=Root, O=Clinic"}}} = :event_seal.verify(context.name, anchors: anchors)
  end
end
