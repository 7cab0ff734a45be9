defmodule EventSeal.ProvenFlows do
  @moduledoc false
  # Real stores with a bit of everything in their events, and proofs of all that is sealed there.

  alias EventSeal.{NoteKey, Signer, Store}

  @origin "clinic.example/log"
  @latest 9_007_199_254_740_991

  @doc """
  A store of this suite whose blocks hold at most so many events: its log's key, and all proofs, those under an older
  checkpoint too.
  """
  def make!(dir, suite, block_size) do
    name = :"proven_#{System.unique_integer([:positive])}"
    path = Path.join(dir, "#{name}.key")
    {:ok, key} = Signer.File.generate(path, @origin)
    start!(name, path, suite, block_size)
    older = proofs(name, fill!(name, ["patient/1", "ward/Ångström/☃"]))
    newer = proofs(name, fill!(name, ["patient/2", String.duplicate("f", 512)]) ++ ["patient/1"])
    %{suite: suite, block_size: block_size, key: key, secret: NoteKey.read!(path), older: older, newer: newer}
  end

  defp start!(name, path, suite, block_size) do
    opts = [
      name: name,
      store: Store.Memory,
      suite: suite,
      writers: 1,
      pool_window: 3_600_000,
      block: [max_events: block_size, max_age: :infinity],
      checkpoints: [signer: {Signer.File, path}, every: :infinity]
    ]

    ExUnit.Callbacks.start_supervised!({EventSeal, opts}, id: name)
  end

  # Open flows of everything, and closed ones of all small lengths.
  defp fill!(name, flows) do
    for flow <- flows, do: append!(name, flow, events())

    closed =
      for count <- [1, 2, 3, 4, 7] do
        flow = "closed/#{length(flows)}/#{hd(flows)}/#{count}"
        append!(name, flow, Enum.take(events(), count))
        {:ok, _} = EventSeal.close(name, flow, who: "practitioner/åsa-7", when: 3_000_000, body: "the end")
        flow
      end

    {:ok, _} = EventSeal.checkpoint(name)
    flows ++ closed
  end

  defp append!(name, flow, events) do
    {:ok, receipts} = EventSeal.append_many(name, for(event <- events, do: {flow, event}))
    {:ok, _} = EventSeal.amend(name, flow, hd(receipts).euid, %{version: 2})
    {:ok, _} = EventSeal.settle(name, flow)
    {:ok, _} = EventSeal.seal(name, flow)
  end

  defp events do
    [
      %{when: 1_000_000, kind: "vital", body: "36.6"},
      %{
        when: -1_893_456_001_000_000,
        kind: "lab.result",
        body: "",
        where: {:place, "mimic/icu/Médical ICU"},
        who: "practitioner/åsa-7"
      },
      %{when: 0, kind: "k", body: <<0, 255, 10, 13>>, where: {:geo, 90.0, -180.0}, version: 65_535},
      %{when: 2_000_000, kind: "k", body: String.duplicate("long", 1000), where: {:geo, -52.5200066, 13.404954}},
      %{when: @latest, kind: String.duplicate("k", 255), body: "é", who: String.duplicate("w", 512), version: 0},
      %{when: 2_000_001, kind: "🩺 e\u0301", body: "é", where: {:place, String.duplicate("𝔭", 256)}, who: "e\u0301 é"},
      %{when: -@latest, kind: " ", body: "b", where: {:place, " a  b "}, who: "\u2028"},
      %{when: 1, kind: "true", body: "\n\n", where: {:geo, 0.0, 0.0}, who: "0"},
      %{when: 1, kind: "a", body: "a"},
      %{when: 2, kind: "b", body: "b"},
      %{when: 3, kind: "c", body: "c"}
    ]
  end

  defp proofs(name, flows) do
    for flow <- flows,
        n <- 1..12,
        disclose <- [true, false],
        {:ok, proof} <- [EventSeal.prove(name, flow, n, disclose: disclose)],
        do: proof
  end
end
