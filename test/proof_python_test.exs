defmodule EventSeal.ProofPythonTest do
  use ExUnit.Case, async: true

  alias EventSeal.{NoteKey, Proof, ProofChanges, ProofText, ProvenFlows, PythonCheck}

  @moduledoc false
  # FORMAT.md is enough to check a proof: a Python script that knows nothing else comes to the verdict of EventSeal.Proof
  # on every honest file and on every other one.

  @moduletag timeout: 600_000
  @block_sizes [1, 2, 3, 100]

  setup_all do
    dir = Path.join(System.tmp_dir!(), "proof_python_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    stores = for suite <- [:sha256, :blake3], size <- @block_sizes, do: ProvenFlows.make!(dir, suite, size)
    %{stores: stores}
  end

  setup do
    %{python: PythonCheck.start!()}
  end

  describe "honest files:" do
    test "each is accepted by both, which read the same in it", %{stores: stores, python: python} do
      for store <- stores do
        proofs = store.older ++ store.newer
        verdicts = PythonCheck.verdicts(python, [store.key], proofs)

        for {proof, verdict} <- Enum.zip(proofs, verdicts) do
          assert {:ok, %{event: event, shown: shown}} = Proof.verify(proof, key: store.key)
          body = if shown, do: "shown", else: "not shown"
          assert verdict == {:proved, "event #{event.n} of #{event.flow}, its body #{body}, in block #{event.block}"}
        end
      end
    end

    test "there are all kinds of them", %{stores: stores} do
      fields = for store <- stores, proof <- store.newer, do: Map.new(ProofText.split(proof).fields)
      values = fn key -> fields |> Enum.map(& &1[key]) |> Enum.uniq() end
      for key <- ~w(late closes), do: assert(Enum.sort(values.(key)) == ["false", "true"])

      for key <- ~w(place geo who salt body commitment previous),
          do: assert(nil in values.(key) and length(values.(key)) > 1)

      assert ~w(1 2 3 4 8) -- values.("count") == []
      assert ~w(0 1) -- values.("revision") == []
      assert ~w(0 1 2 65535) -- values.("version") == []
    end
  end

  describe "changed files are refused by both:" do
    test "every byte changed, every cut", context do
      for {store, proof} <- samples(of_size(context.stores, 2), 2),
          do: assert_refused(context, [store.key], ProofChanges.bytes(proof))
    end

    test "lines removed, doubled, swapped, ended or parted otherwise, and what stands around them", context do
      for {store, proof} <- samples(context.stores, 2),
          do: assert_refused(context, [store.key], ProofChanges.lines(proof))
    end

    test "every value edited, every bit of every digest flipped, every other way to write them", context do
      for {store, proof} <- samples(of_size(context.stores, 3), 2),
          do: assert_refused(context, [store.key], ProofChanges.values(proof))
    end

    test "paths and neighbours shortened, lengthened and reordered", context do
      for {store, proof} <- samples(context.stores, 5),
          do: assert_refused(context, [store.key], ProofChanges.paths(proof))
    end

    test "parts of other proofs of the same log", context do
      for {store, proof} <- samples(context.stores, 2), {^store, other} <- samples([store], 6) do
        unless proof == other, do: assert_refused(context, [store.key], ProofChanges.mixed(proof, other))
      end
    end

    test "a body taken away, replaced, hidden, or shown with another salt", context do
      for store <- context.stores, proof <- Enum.take_random(Enum.filter(store.newer, &(&1 =~ "\nbody ")), 3) do
        commitment = String.duplicate("07", 32)

        changes = [
          removed: ProofText.put(proof, "body", nil),
          removed_with_salt: proof |> ProofText.put("body", nil) |> ProofText.put("salt", nil),
          replaced: ProofText.put(proof, "body", Base.encode64("another")),
          salted_anew: ProofText.put(proof, "salt", String.duplicate("07", 16)),
          hidden:
            proof |> ProofText.put("body", nil) |> ProofText.put("salt", nil) |> ProofText.put("commitment", commitment),
          both: ProofText.put(proof, "commitment", commitment)
        ]

        assert_refused(context, [store.key], changes)
      end
    end
  end

  describe "checkpoints:" do
    setup %{stores: stores} do
      store = Enum.find(stores, &(&1.suite == :blake3 and &1.block_size == 3))
      proof = Enum.find(store.newer, &(&1 =~ "\npath " and &1 =~ "\nbefore "))
      %{store: store, proof: proof, parts: ProofText.split(proof), key: store.secret}
    end

    test "of another origin, by another key, or by nobody that is trusted", context do
      %{parts: parts, proof: proof, key: key} = context
      other = NoteKey.new("other.example/log", :log, <<1::256>>)
      namesake = NoteKey.new(key.name, :log, <<2::256>>)
      witness = NoteKey.new(key.name, :witness, key.seed)
      elsewhere = String.replace(parts.text, key.name, other.name)

      assert_refused(context, [key.text], [
        {"of another origin, signed by its key", signed(parts, elsewhere, [other])},
        {"of another origin, signed by ours", signed(parts, elsewhere, [key])},
        {"of another origin, signed by both", signed(parts, elsewhere, [other, key])},
        {"by another key of the name", signed(parts, parts.text, [namesake])},
        {"by the key as a witness", signed(parts, parts.text, [witness])},
        {"with a forged id", with_lines(parts, NoteKey.line(%{namesake | id: key.id}, parts.text))},
        {"and a second line of ours that is wrong", with_lines(parts, parts.signatures <> NoteKey.line(key, "x\n"))}
      ])

      for keys <- [[namesake.text], [other.text], [witness.text]],
          do: assert_refused(context, keys, [{"wrong key", proof}])

      # What others say beside is left aside, and a signature may stand there twice.
      for more <- [[other], [namesake, witness], [key], []],
          do: assert_accepted(context, [key.text], [{"more lines", signed(parts, parts.text, more ++ [key])}])

      assert_accepted(context, [namesake.text, key.text], [{"one of two keys", proof}])
      assert_refused(context, [key.text, key.text], [{"one key twice", proof}])

      assert_refused(context, [key.text, witness.text], [
        {"one key in two roles", signed(parts, parts.text, [key, witness])}
      ])

      # The key of another log is trusted, too: what it is said to have signed it must have signed.
      lines = parts.signatures <> NoteKey.line(other, elsewhere)
      assert_refused(context, [key.text, other.text], [{"another log's wrong line", with_lines(parts, lines)}])
      assert_accepted(context, [key.text, other.text], [{"both logs", signed(parts, parts.text, [key, other])}])
    end

    test "by one of two keys that share name and id", context do
      [a, b] = for seed <- [18_052, 51_197], do: NoteKey.new("clinic.example/log", :log, <<seed::32, 0::224>>)
      assert {a.name, a.id} == {b.name, b.id}

      for {signer, keys, accepted?} <- [{a, [a, b], true}, {b, [a, b], true}, {a, [a], true}, {b, [a], false}] do
        file = [{"by #{signer.text}", signed(context.parts, context.parts.text, [signer])}]
        keys = Enum.map(keys, & &1.text)
        if accepted?, do: assert_accepted(context, keys, file), else: assert_refused(context, keys, file)
      end
    end

    test "of another tree: an older signature, an older text, another size", context do
      %{store: store, parts: parts, key: key} = context
      older = ProofText.split(hd(store.older))
      [origin, size, root, ""] = String.split(parts.text, "\n")
      size = String.to_integer(size)

      texts =
        for other <- [
              0,
              1,
              2 * size,
              2 ** 62,
              2 ** 63 - 1,
              2 ** 63,
              2 ** 64 - 1,
              2 ** 64,
              2 ** 64 + size
            ],
            do: {"size #{other}, signed", signed(parts, "#{origin}\n#{other}\n#{root}\n", [key])}

      spelled =
        for other <- ["+#{size}", "0#{size}", " #{size}", "#{size} ", "#{size}.0", "-0", ""],
            do: {"size #{other}, signed", signed(parts, "#{origin}\n#{other}\n#{root}\n", [key])}

      bytes = Base.decode64!(root)

      roots =
        for other <- [
              String.trim_trailing(root, "="),
              "",
              Base.encode64(bytes <> "x"),
              Base.encode64(binary_part(bytes, 0, 31)),
              root <> " "
            ],
            do: {"root #{other}, signed", signed(parts, "#{origin}\n#{size}\n#{other}\n", [key])}

      lines =
        for more <- ["\n", "a\n\n", "\u0085\n", "\u007f\n", "\t\n"],
            do: {"#{inspect(more)} behind, signed", signed(parts, parts.text <> more, [key])}

      assert_refused(context, [key.text], texts ++ spelled ++ roots ++ lines)
      assert_accepted(context, [key.text], [{"a line behind, signed", signed(parts, parts.text <> "more é\n", [key])}])

      assert_refused(context, [key.text], [
        {"older signature", ProofText.join(%{parts | signatures: older.signatures})},
        {"older text", ProofText.join(%{parts | text: older.text})},
        {"older checkpoint", ProofText.join(%{parts | text: older.text, signatures: older.signatures})}
      ])
    end

    test "are asked for all their leaves", context do
      size = context.parts.text |> String.split("\n") |> Enum.at(1) |> String.to_integer()

      for proof <- Enum.take_random(context.store.newer, 5) do
        parts = ProofText.split(proof)

        others =
          Enum.to_list(0..(size + 3)) ++
            [2 ** 31, 2 ** 32 + String.to_integer(parts.index), 2 ** 63 - 1, 2 ** 63, 2 ** 64, -1]

        indexes =
          for index <- others,
              "#{index}" != parts.index,
              do: {"index #{index}", ProofText.join(%{parts | index: "#{index}"})}

        assert_refused(context, [context.key.text], indexes)
      end
    end

    test "have the signatures of witnesses that are asked for", context do
      %{parts: parts, key: key} = context
      [a, b] = for seed <- [88_939, 106_782], do: NoteKey.new("w", :witness, <<seed::32, 0::224>>)
      assert a.id == b.id
      both = with_lines(parts, parts.signatures <> NoteKey.line(a, parts.text) <> NoteKey.line(b, parts.text, 0))
      one = with_lines(parts, parts.signatures <> NoteKey.line(a, parts.text))
      late = with_lines(parts, parts.signatures <> NoteKey.line(a, parts.text, 2 ** 63))
      latest = with_lines(parts, parts.signatures <> NoteKey.line(a, parts.text, 2 ** 63 - 1))
      plain = with_lines(parts, parts.signatures <> NoteKey.line_of(a, :crypto.strong_rand_bytes(64)))
      other = with_lines(parts, parts.signatures <> NoteKey.line(a, "x\n1\n#{Base.encode64(<<0::256>>)}\n"))

      assert_accepted(context, [key.text], [{"both", both}, {"one", one}, {"late", late}, {"other", other}])
      assert_accepted(context, [key.text, a.text], [{"one", one}, {"latest", latest}])
      assert_accepted(context, [key.text, a.text, b.text], [{"both", both}])
      assert_refused(context, [key.text, a.text, b.text], [{"one", one}, {"none", context.proof}])

      assert_refused(context, [key.text, a.text], [
        {"late", late},
        {"plain", plain},
        {"other", other},
        {"none", context.proof}
      ])

      assert_refused(context, [key.text, b.text], [{"one", one}])
    end
  end

  defp signed(parts, text, keys), do: with_lines(%{parts | text: text}, Enum.map_join(keys, &NoteKey.line(&1, text)))
  defp with_lines(parts, lines), do: ProofText.join(%{parts | signatures: lines})

  # So many proofs of each store, by the seed of the run.
  defp samples(stores, count),
    do: for(store <- stores, proof <- Enum.take_random(store.newer, count), do: {store, proof})

  defp of_size(stores, size), do: Enum.filter(stores, &(&1.block_size == size))

  defp assert_accepted(%{python: python}, keys, files),
    do: assert(PythonCheck.unlike(python, keys, files, :proved) == [])

  defp assert_refused(%{python: python}, keys, files),
    do: assert(PythonCheck.unlike(python, keys, files, :refused) == [])
end
