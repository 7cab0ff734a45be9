defmodule EventSeal.ErlangFaceTest do
  use ExUnit.Case, async: true

  test "the Erlang face has every verb of the facade, with a spec" do
    verbs =
      for {name, _} <- EventSeal.__info__(:functions), name not in [:init, :append!, :stream], uniq: true, do: name

    exported = for {name, _} <- :event_seal.module_info(:exports), do: name
    assert verbs -- exported == []

    {:ok, specs} = Code.Typespec.fetch_specs(:event_seal)
    with_spec = for {name_arity, _} <- specs, do: name_arity
    assert (:event_seal.module_info(:exports) -- with_spec) -- [module_info: 0, module_info: 1] == []
  end

  test "a flow's life from Erlang" do
    start_supervised!(:event_seal.child_spec(name: ErlangHost, store: EventSeal.Store.Memory))
    event = %{when: 0, kind: "vital", body: "37.2"}
    assert {:ok, %{euid: euid}} = :event_seal.append(ErlangHost, "patient/1", event)
    assert {:ok, %{revision: 1}} = :event_seal.amend(ErlangHost, "patient/1", euid, %{body: "37.4"})
    assert {:ok, [%{euid: other}]} = :event_seal.append_many(ErlangHost, [{"patient/1", event}])
    assert {:ok, _} = :event_seal.retract(ErlangHost, "patient/1", other)
    assert {:ok, 1} = :event_seal.settle(ErlangHost, "patient/1")
    assert {:ok, 0} = :event_seal.seal(ErlangHost, "patient/1")
    assert {:error, %{reason: :settled}} = :event_seal.retract(ErlangHost, "patient/1", euid)
    assert {:ok, _} = :event_seal.close(ErlangHost, "patient/1", who: "dr/1")
    assert {:ok, %{id: <<_::256>>}} = :event_seal.await_fixed(ErlangHost, "patient/1", euid)
    assert {:ok, %{body: "37.4"}} = :event_seal.event(ErlangHost, "patient/1", 1)
    assert [%{n: 1}, %{kind: "$close"}] = :event_seal.events(ErlangHost, "patient/1")
    assert :event_seal.fold(fn event, sum -> sum + event.n end, 0, ErlangHost, "patient/1") == 3
    assert {:ok, %{closed: true}} = :event_seal.head(ErlangHost, "patient/1")
    assert :event_seal.flows(ErlangHost) == ["patient/1"]
    assert {:ok, %{fault_count: 0, fixed: 2, bodies_verified: 2}} = :event_seal.verify(ErlangHost, flow: "patient/1")
  end

  @tag :tmp_dir
  test "signing, proving and auditing from Erlang", %{tmp_dir: dir} do
    path = Path.join(dir, "log.key")
    {:ok, key} = EventSeal.Signer.File.generate(path, "clinic.example/log")
    checkpoints = [signer: {EventSeal.Signer.File, path}, every: 1_000_000]
    {:ok, receipts} = EventSeal.Signer.File.generate(path <> "2", "clinic.example/receipts", :receipts)
    signed = [receipts: [signer: {EventSeal.Signer.File, path <> "2"}]]
    opts = signed ++ [name: ErlangSigner, store: EventSeal.Store.Memory, pool_window: 0, checkpoints: checkpoints]
    start_supervised!(:event_seal.child_spec(opts ++ [audit: [file: Path.join(dir, "audit")]]))
    {:ok, %{text: receipt}} = :event_seal.append(ErlangSigner, "patient/1", %{when: 0, kind: "vital", body: "37.2"})
    {:ok, _} = :event_seal.close(ErlangSigner, "patient/1")
    assert {:ok, %{size: 2, key: ^key}} = :event_seal.checkpoint(ErlangSigner)
    assert {:ok, text} = :event_seal.prove(ErlangSigner, "patient/1", 1)
    assert {:ok, %{shown: false}} = EventSeal.Proof.verify(text, key: key)
    assert {:ok, %{standing: :settled}} = :event_seal.verify_receipt(receipt, receipts)
    assert {:ok, :kept} = :event_seal.kept(receipt, text, receipts: receipts, key: key)
    assert {:ok, text} = :event_seal.prove(ErlangSigner, "patient/1", 1, disclose: true)
    assert {:ok, %{event: %{body: "37.2"}}} = EventSeal.Proof.verify(text, key: key)
    assert {:ok, "old 0\n" <> _} = :event_seal.witness_request(ErlangSigner, 0)
    assert {:error, %{reason: :malformed}} = :event_seal.add_cosignatures(ErlangSigner, "none", witnesses: [key])
    assert {:ok, "EVSEALA1" <> _} = :event_seal.packet(ErlangSigner, "patient/1")
    assert {:ok, %{covered: 2}} = :event_seal.coverage(ErlangSigner, "patient/1")
    assert {:ok, %{error: nil}} = :event_seal.health(ErlangSigner)
  end
end
