defmodule EventSeal.VerifierTest do
  # A whole store verified from what is stored in it. What a forger would do to the bytes is committed as it stands.
  use ExUnit.Case, async: true

  alias EventSeal.{Chain, Error, Event, Native, Record, Store, Verdict, Verifier}

  setup do
    name = :"verifier_#{System.unique_integer([:positive])}"
    start_supervised!({Store.Memory, {name, []}})
    %{store: Store.handle(Store.Memory, name)}
  end

  test "an empty store verifies, and an unknown flow is not found", %{store: store} do
    assert {:ok, %Verdict{flows: 0, events: 0, fault_count: 0}} = Verifier.run(store, [])
    assert {:error, %Error{reason: :not_found}} = Verifier.run(store, flow: "patient/1")
    assert {:error, %Error{reason: :not_found}} = Verifier.run(store, flow: "patient/1", range: 1..2)
  end

  test "blocks, tails and pools of many flows are counted", %{store: store} do
    for i <- 1..30, do: keep(store, "patient/#{i}", 8, 2)

    :ok =
      Store.commit(store, [{:open, "pool only", genesis("pool only")}, {:put, "pool only", 1, :pool, "meta", "data"}])

    assert {:ok, %Verdict{flows: 31, blocks: 90, events: 240, fixed: 150, provisional: 90, fault_count: 0} = verdict} =
             Verifier.run(store, [])

    assert verdict.bodies_verified == 240 and verdict.bodies_not_shown == 0
    assert {:ok, %Verdict{flows: 1, events: 8, fault_count: 0}} = Verifier.run(store, flow: "patient/7")
  end

  test "a range is checked alone", %{store: store} do
    keep(store, "patient/1", 12, 3)
    assert {:ok, %Verdict{blocks: 2, fixed: 6, provisional: 0, fault_count: 0}} = verify(store, 3..4)
    assert {:ok, %Verdict{blocks: 1, fixed: 3, provisional: 3, fault_count: 0}} = verify(store, 9..12)
    assert {:ok, %Verdict{blocks: 3, provisional: 0, fault_count: 0}} = verify(store, 1..9)
  end

  test "what came since a position is checked, and that the position still stands", %{store: store} do
    keep(store, "patient/1", 12, 3)
    since = fn n -> Verifier.run(store, flow: "patient/1", since: n) end
    assert {:ok, %Verdict{events: 12, fault_count: 0}} = since.(0)
    assert {:ok, %Verdict{blocks: 1, fixed: 3, provisional: 3, fault_count: 0}} = since.(9)
    assert {:ok, %Verdict{blocks: 0, fixed: 0, provisional: 3, fault_count: 0}} = since.(12)
    assert {:ok, %Verdict{faults: [%{class: :missing, position: 13, recorded: 14, recomputed: 12}]}} = since.(14)
  end

  test "a pass that stops when its time is over is gone on with, and counts each flow once", %{store: store} do
    for i <- 10..40, do: keep(store, "patient/#{i}", 8, 2)
    {:ok, %Verdict{flows: 1, next: "patient/10"}} = Verifier.run(store, for: 0)
    assert Enum.sum(for verdict <- passes(store, nil), do: verdict.flows) == 31
    assert [%Verdict{next: nil, flows: 31}] = [elem(Verifier.run(store, for: 60_000), 1)]
  end

  defp passes(store, cursor) do
    {:ok, verdict} = Verifier.run(store, after: cursor, for: 0)
    [verdict | if(verdict.next, do: passes(store, verdict.next), else: [])]
  end

  test "a flow too long for one native call is verified in parts, with the same verdict", %{store: store} do
    body = :binary.copy("b", 400_000)
    keep(store, "patient/1", 200, 5, body)
    assert {:ok, %Verdict{flows: 1, events: 200, fault_count: 0, bytes: bytes}} = Verifier.run(store, [])
    assert bytes > 2 * 33_554_432
  end

  test "a flow of very many blocks is looked up in stretches, with the same verdict", %{store: store} do
    body = fn n -> if n in [4_096, 4_097], do: "bodz", else: "body" end
    keep(store, "patient/1", 4_110, 1, body, &String.replace(&1, "bodz", "bodY"))
    assert {:ok, %Verdict{flows: 1, blocks: 4_107, events: 4_110, fault_count: 2} = verdict} = Verifier.run(store, [])

    assert [{4_096, :commitment}, {4_097, :commitment}] =
             for(fault <- verdict.faults, do: {fault.position, fault.class})

    assert {:ok, %Verdict{blocks: 15, fixed: 15, fault_count: 2}} = verify(store, 4_090..4_104)
  end

  test "progress grows up to what the verdict says", %{store: store} do
    keep(store, "patient/1", 9, 2)
    test = self()
    {:ok, verdict} = Verifier.run(store, progress: &send(test, {:progress, &1}))
    assert_received {:progress, %{flows: 1, events: 9, bytes: bytes}}
    assert bytes == verdict.bytes
  end

  test "an edited body is named where it lies, in whatever order flows are read", %{store: store} do
    keep(store, "patient/1", 8, 2)

    keep(store, "patient/2", 8, 2, "the body", fn block ->
      String.replace(block, "the body", "the bodY", global: false)
    end)

    assert {:ok, %Verdict{fault_count: 3, faults: [fault | _]}} = Verifier.run(store, [])

    assert %{flow: "patient/2", position: 1, block: 0, class: :commitment, recorded: <<a::256>>, recomputed: <<b::256>>} =
             fault

    assert a != b
  end

  test "a block that is none, or of another flow, is named", %{store: store} do
    keep(store, "patient/1", 8, 2, "b", fn _ -> "no block" end)
    assert {:ok, %Verdict{faults: [%{position: 1, class: :format} | _]}} = Verifier.run(store, flow: "patient/1")

    {_, [block | _], _} = chain("patient/2", 8, 2, "b")
    keep(store, "patient/3", 8, 2, "b", fn _ -> block end)

    assert {:ok, %Verdict{faults: [%{flow: "patient/3", position: 1, class: :genesis} | _]}} =
             Verifier.run(store, flow: "patient/3")
  end

  test "an edited tail is named", %{store: store} do
    {chain, [block], [a, b, c]} = chain("patient/1", 4, 4, "body")
    wrong = %{b | provisional: :crypto.hash(:sha256, "forged")}
    commit(store, chain, [block], [a, wrong, c])
    assert {:ok, %Verdict{fault_count: 1, faults: [%{position: 3, class: :provisional}]}} = Verifier.run(store, [])

    broken = %{b | frame: binary_part(b.frame, 0, 64)}
    {chain, blocks, _} = chain("patient/2", 4, 4, "body")
    commit(store, chain, blocks, [a, broken, c])
    assert {:ok, %Verdict{faults: faults}} = Verifier.run(store, flow: "patient/2")
    assert Enum.any?(faults, &(&1.class == :format and &1.position == 2))
  end

  test "a tail that was cut off is missing: a block says what stands behind it", %{store: store} do
    {chain, blocks, [a | _]} = chain("patient/1", 6, 3, "body")
    commit(store, chain, blocks, [a])
    assert {:ok, %Verdict{faults: [%{position: 5, class: :missing}]}} = Verifier.run(store, [])
  end

  test "a range in which no event stands is no sound one", %{store: store} do
    {chain, blocks, tail} = chain("patient/1", 6, 3, "body")
    commit(store, chain, blocks, tail)
    assert {:ok, %Verdict{fault_count: 0, events: events}} = verify(store, 6..9)
    assert events > 0
    assert {:error, %Error{reason: :not_found}} = verify(store, 7..9)
  end

  test "faults are capped, their number is not", %{store: store} do
    for i <- 1..5, do: keep(store, "patient/#{i}", 8, 2, "the body", &String.replace(&1, "the body", "the bodY"))
    assert {:ok, %Verdict{fault_count: 25, faults: faults}} = Verifier.run(store, max_faults: 7)
    assert length(faults) == 7
  end

  defp verify(store, range), do: Verifier.run(store, flow: "patient/1", range: range)

  # Keeps a flow of `total` events in blocks of `size`, each block's bytes as `forge` leaves them.
  defp keep(store, flow, total, size, body \\ "body", forge \\ & &1) do
    {chain, blocks, tail} = chain(flow, total, size, body)
    commit(store, chain, Enum.map(blocks, forge), tail, blocks)
  end

  defp commit(store, chain, blocks, tail, honest \\ nil) do
    puts = for n <- 1..chain.n, do: {:put, chain.flow, n, :tail, "", ""}
    headers = Enum.map(honest || blocks, &elem(Chain.header(&1), 1))
    sealed = Enum.zip_with(headers, blocks, &block/2)
    leaves = for header <- headers, do: leaf(chain, header)

    kept =
      for entry <- tail do
        {:put, chain.flow, entry.n, :tail, Record.encode_tail(entry.n, entry.frame, entry.hash, entry.provisional),
         entry.body}
      end

    puts = Enum.take(puts, chain.fixed)
    :ok = Store.commit(store, [{:open, chain.flow, chain.genesis}] ++ puts ++ sealed ++ leaves ++ kept)
  end

  defp leaf(chain, header) do
    last = header.first + header.count - 1
    {:leaf, Native.block_leaf(chain.suite, chain.digest, header.height, last, header.hash)}
  end

  defp block(header, bytes) do
    last = header.first + header.count - 1
    info = Map.take(header, [:height, :first, :count, :when_max, :closes])

    {:block, header.flow,
     Map.merge(info, %{through: last, euids: for(n <- header.first..last, into: <<>>, do: <<n::128>>)}), bytes}
  end

  defp genesis(flow) do
    {:ok, chain} = Chain.open(flow, created_at: 0)
    chain.genesis
  end

  defp chain(flow, total, size, body) do
    {:ok, chain} = Chain.open(flow, created_at: 0)

    drafts =
      for n <- 1..total do
        body = if is_function(body), do: body.(n), else: body
        {:ok, draft} = Event.draft(%{when: n, kind: "vital", body: body}, euid: <<n::128>>)
        Chain.stamp(draft, recorded_at: n, salt: :crypto.strong_rand_bytes(16))
      end

    {:ok, frames} = Chain.frames(:sha256, drafts)
    {:ok, chain, _} = Chain.settle(chain, frames)
    {chain, blocks} = seal(chain, size, [])
    {chain, blocks, chain.open |> Enum.reverse() |> Enum.flat_map(&Chain.Run.entries/1)}
  end

  defp seal(chain, size, blocks) do
    case Chain.seal(chain, sealed_at: 1_000, max_events: size) do
      {:ok, block, chain} -> seal(chain, size, [block | blocks])
      {:error, _} -> {chain, Enum.reverse(blocks)}
    end
  end
end
