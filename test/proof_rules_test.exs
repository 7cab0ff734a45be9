defmodule EventSeal.ProofRulesTest do
  use ExUnit.Case, async: true

  alias EventSeal.{ProofText, ProvenFlows, PythonCheck}

  @moduledoc false
  # A log that lies: it signs whatever the fields of a proof lead to. Nothing but the rules of FORMAT.md tells then that no
  # sealed block is so, and both verifiers know the same ones.

  @most 9_007_199_254_740_991
  @digest String.duplicate("07", 32)

  setup_all do
    dir = Path.join(System.tmp_dir!(), "proof_rules_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    %{stores: for(suite <- [:sha256, :blake3], do: ProvenFlows.make!(dir, suite, 3))}
  end

  setup do
    %{python: PythonCheck.start!()}
  end

  test "what keeps to the rules is proved", %{stores: stores, python: python} do
    for store <- stores do
      files = for proof <- store.newer, do: {"as it was", ProofText.logged(proof, store.secret)}
      assert PythonCheck.unlike(python, [store.key], files, :proved) == []
    end
  end

  test "times lie within their block", context do
    times = &[when: &1, when_min: &2, when_max: &3]

    inner(
      context,
      :proved,
      for([a, b, c] <- [[1, 0, 2], [1, 1, 1], [-@most, -@most, @most], [@most, 0, @most]], do: times.(a, b, c))
    )

    inner(
      context,
      :refused,
      for([a, b, c] <- [[0, 1, 2], [3, 1, 2], [1, 2, 0], [@most + 1, 0, @most + 1]], do: times.(a, b, c))
    )

    inner(
      context,
      :refused,
      for([a, b, c] <- [[0, 0, @most + 1], [0, -@most - 1, 0], [-@most - 1, -@most - 1, 0]], do: times.(a, b, c))
    )

    recorded = &[recorded_at: &1, sealed_at: &2]
    inner(context, :proved, [recorded.(5, 5), recorded.(-@most, @most), recorded.(@most, @most)])
    inner(context, :refused, [recorded.(6, 5), recorded.(5, @most + 1), recorded.(-@most - 1, 5)])
    inner(context, :proved, for(at <- [-@most, 0, @most], do: [created_at: at]))
    inner(context, :refused, for(at <- [-@most - 1, @most + 1], do: [created_at: at]))
  end

  test "the first event is never late", context do
    inner(context, :proved, [[late: true], [late: false]])
    first(context, :proved, [[late: false]])
    first(context, :refused, [[late: true]])
  end

  test "numbers have their ranges", context do
    inner(context, :proved, for(key <- [:version, :revision], n <- [0, 65_535], do: [{key, n}]))
    inner(context, :refused, for(key <- [:version, :revision], n <- [-1, 65_536, 65_537 * 65_536], do: [{key, n}]))
    inner(context, :proved, [[epoch: 0], [epoch: @most], [height: 1], [height: @most]])
    inner(context, :refused, [[epoch: -1], [epoch: @most + 1], [height: -1], [height: @most + 1]])
    geo = &[place: nil, geo: "#{&1} #{&2}"]
    inner(context, :proved, [geo.(900_000_000, -1_800_000_000), geo.(-900_000_000, 1_800_000_000), geo.(0, 0)])

    inner(
      context,
      :refused,
      for([a, b] <- [[900_000_001, 0], [-900_000_001, 0], [0, 1_800_000_001], [0, -1_800_000_001]], do: geo.(a, b))
    )

    inner(context, :refused, [[geo: "0 0", place: "a"], geo.(4_294_967_296, 0), geo.(0, 2_147_483_648)])
  end

  test "texts have their lengths and no control characters", context do
    for {key, most} <- [flow: 512, kind: 255, place: 1024, who: 512] do
      put = &((key == :place && [geo: nil, place: &1]) || [{key, &1}])

      inner(
        context,
        :proved,
        for(text <- [String.duplicate("x", most), " ", "\u200b\ufeff", "x\u2028y", "é$"], do: put.(text))
      )

      inner(
        context,
        :refused,
        for(text <- [String.duplicate("x", most + 1), String.duplicate("é", div(most, 2) + 1)], do: put.(text))
      )

      inner(
        context,
        :refused,
        for(c <- ["\0", "\t", "\r", "\e", "\u007f", "\u0080", "\u0085", "\u009f"], do: put.("a#{c}b"))
      )
    end
  end

  test "a body is shown or not", context do
    shown = [commitment: nil, salt: String.duplicate("07", 16)]
    inner(context, :proved, [shown, shown ++ [body: "AAAA"], [commitment: @digest]])
    inner(context, :refused, [[salt: String.duplicate("07", 16)], [body: "AAAA"]])
  end

  test "positions lie in their block, and blocks within their bounds", context do
    path = &List.duplicate(@digest, &1)

    inner(context, :proved, [
      [first: 5, count: 1, path: nil],
      [first: 5, count: 2, path: path.(1)],
      [first: 3, count: 3, path: path.(1)]
    ])

    inner(context, :refused, [
      [first: 6, path: path.(2)],
      [first: 2, count: 3, path: path.(1)],
      [count: 0, path: nil],
      [first: 0, path: path.(1)]
    ])

    inner(context, :proved, [[first: 4, count: 1_048_576, path: path.(20)]])

    inner(context, :refused, [
      [first: 4, count: 1_048_577, path: path.(21)],
      [first: 4, count: 4_294_967_299, path: path.(32)]
    ])

    last = &[n: @most - 2 + &1, first: @most - 3 + &1, count: 3]
    inner(context, :proved, [last.(1)])
    inner(context, :refused, [last.(2), last.(3)])
    inner(context, :refused, for(n <- [3, 7], do: [n: n]))
    first(context, :refused, [[n: 0]])
  end

  test "height 0 and position 1 come together, and nothing is before them", context do
    inner(context, :proved, [[height: 0, previous: nil, first: 1, count: 8, path: List.duplicate(@digest, 3)]])

    inner(context, :refused, [
      [first: 1, count: 8, path: List.duplicate(@digest, 3)],
      [height: 0, previous: nil],
      [height: 0],
      [previous: nil]
    ])

    first(context, :refused, [[height: 1, previous: @digest], [height: 0, previous: @digest], [height: 1]])
  end

  test "a closing block holds the flow's last three events, $close last", context do
    closed = &[closes: true, after: List.duplicate(@digest, &1)]
    inner(context, :proved, [closed.(1)])
    inner(context, :proved, [closed.(0) ++ [n: 6, kind: "$close", path: @digest]])
    inner(context, :refused, [closed.(0) ++ [n: 6, path: @digest], closed.(1) ++ [kind: "$close"], [kind: "$close"]])
    inner(context, :refused, for(kind <- ["$", "$closed", "$open", "$$close"], do: [kind: kind]))
    inner(context, :refused, [closed.(0), closed.(2), closed.(3), [after: [@digest, @digest]]])

    inner(context, :refused, [
      closed.(1) ++ [first: 5, count: 2, path: @digest],
      closed.(0) ++ [first: 5, count: 1, kind: "$close", path: nil]
    ])

    first(context, :proved, [
      closed.(0) ++ [count: 1, kind: "$close", path: nil],
      closed.(1) ++ [count: 2, path: @digest]
    ])

    first(context, :refused, [
      closed.(0) ++ [count: 1, path: nil],
      closed.(1) ++ [count: 2, path: @digest, kind: "$close"]
    ])
  end

  test "G stands for what does not exist, and nowhere else", context do
    for {key, count} <- [before: 3, after: 3, path: 2], at <- 0..(count - 1) do
      digests = List.duplicate(@digest, count)
      inner(context, :proved, [[{key, digests}]])
      inner(context, :refused, [[{key, List.replace_at(digests, at, :g)}]])
    end

    inner(context, :proved, [[previous: @digest], [commitment: @digest]])
    inner(context, :refused, [[previous: :g], [commitment: :g]])
  end

  # An event in the midst of a flow and of its block: n 5, first 4, count 3, height 1.
  defp inner(context, verdict, edits), do: edited(context, "5", verdict, edits)
  # The first event of the same flow.
  defp first(context, verdict, edits), do: edited(context, "1", verdict, edits)

  defp hidden(stores, n) do
    for store <- stores,
        proof <- store.newer,
        proof =~ "\nflow patient/2\n" and proof =~ "\nn #{n}\n" and proof =~ "\ncommitment ",
        do: {store, edit(proof, kind: "vital", when: 1, when_min: 0, when_max: 2)}
  end

  defp edited(%{stores: stores, python: python}, n, verdict, edits) do
    assert [_, _ | _] = proofs = hidden(stores, n)

    for {store, proof} <- proofs do
      files = for edit <- edits, do: {inspect(edit), proof |> edit(edit) |> ProofText.logged(store.secret)}
      assert PythonCheck.unlike(python, [store.key], files, verdict) == []
    end
  end

  defp edit(proof, edit) do
    Enum.reduce(edit, proof, fn {key, values}, proof ->
      ProofText.put(proof, Atom.to_string(key), for(value <- List.wrap(values), do: value(proof, value)))
    end)
  end

  defp value(proof, :g), do: ProofText.genesis(proof)
  defp value(_proof, value), do: to_string(value)
end
