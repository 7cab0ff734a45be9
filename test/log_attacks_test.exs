defmodule EventSeal.LogAttacksTest do
  # Whoever may write everywhere forges a store, with the library's own functions, so that every chain holds. What its log
  # and a checkpoint that was kept elsewhere still say names it.
  # Not beside other tests that run commands: a command's store has one name.
  use ExUnit.Case, async: false

  import EventSeal.Forgery, only: [edit: 4, leaves: 1, put: 3, read: 1, verify: 2, write!: 2]
  alias EventSeal.{Chain, Checkpoint, Error, Native, Signer, Store, Verdict}

  @moduletag :tmp_dir

  # A flow in three blocks and a tail, one that is closed, one of the sandbox alone, each under two checkpoints.
  setup %{tmp_dir: tmp} do
    paths = Map.new([:store, :forged, :outside, :key_file], &{&1, Path.join(tmp, "#{&1}")})
    {:ok, key} = Signer.File.generate(paths.key_file, "clinic.example/log")
    context = Map.merge(paths, %{key: key, name: :"attacked-#{System.unique_integer([:positive])}"})
    start(context)
    append(context, "patient/1", 1..7)
    append(context, "patient/2", 1..5)
    append(context, "patient/3", 1..2)
    {:ok, 4} = EventSeal.seal(context.name, "patient/1")
    {:ok, _} = EventSeal.checkpoint(context.name)
    append(context, "patient/1", 8..10)
    {:ok, 3} = EventSeal.seal(context.name, "patient/1")
    append(context, "patient/1", 11..16)
    {:ok, 6} = EventSeal.seal(context.name, "patient/1")
    {:ok, _} = EventSeal.close(context.name, "patient/2")
    {:ok, checkpoint} = EventSeal.checkpoint(context.name)
    heads = for n <- 1..3, into: %{}, do: {n, elem(EventSeal.head(context.name, "patient/#{n}"), 1)}
    stop_supervised!(context.name)
    File.write!(paths.outside, checkpoint.note)
    Map.merge(context, %{checkpoint: checkpoint, heads: heads, honest: read(paths.store)})
  end

  defp start(context) do
    checkpoints = [signer: {Signer.File, context.key_file}, every: :infinity]
    tree = {EventSeal, name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0}
    start_supervised!({elem(tree, 0), elem(tree, 1) ++ [checkpoints: checkpoints]}, id: context.name)
  end

  defp append(context, flow, numbers) do
    items = for n <- numbers, do: {flow, %{when: n, kind: "vital", body: "#{n}"}}
    {:ok, _} = EventSeal.append_many(context.name, items)
  end

  defp forge(context, state, opts \\ []) do
    write!(state, context.forged)
    verify(context.forged, opts)
  end

  defp outside(context), do: [checkpoint: context.outside, key: context.key]

  # The log that an insider would write for a store as it is now, and sign with the key of the true one.
  defp with_own_log(context, state) do
    leaves = for {_flow, parts} <- state.flows, leaf <- leaves(parts), do: leaf
    %{state | leaves: leaves, checkpoints: [sign(context.key_file, leaves)]}
  end

  defp sign(key_file, leaves) do
    {size, root} = Native.ledger_learn(Native.ledger(), leaves)
    {:ok, signer} = Signer.open(Signer.File, key_file)
    {:ok, checkpoint} = Signer.checkpoint(signer, size, root)
    Checkpoint.pack(checkpoint)
  end

  test "an honest store is covered whole, wherever its checkpoint was kept", context do
    assert verify(context.store, outside(context)) == []
    assert forge(context, context.honest, outside(context)) == []
    # The forger's hand writes what was there, byte for byte.
    assert read(context.forged) == context.honest

    {:ok, verdict} = EventSeal.BitRot.open(context.store, :read, &EventSeal.Verifier.run(&1, []))
    assert %{leaves: 9, unknown_leaves: 0, checkpoint: 9, covered: 24, events: 24} = verdict
  end

  test "a block replaced, and the rest recomputed, is not what the log says", context do
    forged = edit(context.honest, "patient/1", 6, "forged")
    # An event's hash is in the ids from three positions before it on.
    assert forge(context, forged) == [{"patient/1", 1, :log}]
    File.rm_rf!(context.forged)
    later = edit(context.honest, "patient/1", 9, "forged")
    assert forge(context, later) == [{"patient/1", 5, :log}]
    File.rm_rf!(context.forged)
    tail = edit(context.honest, "patient/1", 16, "forged")
    # The last block's seams and ids, and the tail.
    assert forge(context, tail) == [{"patient/1", 8, :log}]
    File.rm_rf!(context.forged)
    assert forge(context, edit(context.honest, "patient/3", 2, "forged")) == [{"patient/3", 2, :log}]
  end

  test "with its log recomputed too, only a checkpoint that was kept outside tells", context do
    forged = with_own_log(context, edit(context.honest, "patient/1", 9, "forged"))
    assert forge(context, forged) == []
    assert [{"log", size, class}] = verify(context.forged, outside(context))
    assert {size, class} in [{9, :log}, {9, :rolled_back}]
  end

  test "so it is with the whole store and its log", context do
    forged = Enum.reduce(1..3, context.honest, &edit(&2, "patient/#{&1}", 1, "forged"))
    # As long as the true one: a flow more takes the place of leaves that fell away.
    forged = with_own_log(context, forged)
    padding = List.duplicate(hd(forged.leaves), max(9 - length(forged.leaves), 0))
    forged = %{forged | leaves: forged.leaves ++ padding}
    forged = %{forged | checkpoints: [sign(context.key_file, forged.leaves)]}
    assert forge(context, forged) == []
    assert [{"log", 9, :log}] = verify(context.forged, outside(context))
  end

  test "two blocks of one height in one log are a fork, even where the store has the second", context do
    forged = edit(context.honest, "patient/1", 9, "forged")
    forged = %{forged | leaves: forged.leaves ++ leaves(forged.flows["patient/1"])}
    faults = forge(context, forged)
    assert {"patient/1", 5, :log} in faults
    for {flow, _position, class} <- faults, do: assert({flow, class} == {"patient/1", :log})
    # The checkpoint still stands: nothing was taken from the log.
    assert verify(context.forged, outside(context)) == faults
  end

  test "a closed flow that was opened again is named by its closing", context do
    %{events: events, cuts: cuts} = context.honest.flows["patient/2"]
    open = [closed: false, events: Enum.drop(events, -1), cuts: []]
    assert length(cuts) == 1
    assert forge(context, put(context.honest, "patient/2", open)) == [{"patient/2", 1, :log}]
    File.rm_rf!(context.forged)
    # It has grown since, and was sealed.
    grown = open[:events] ++ Enum.map(1..4, &other(hd(events), &1))
    grown = put(context.honest, "patient/2", closed: false, events: grown, cuts: [{6, [sealed_at: 0]}])
    assert {"patient/2", 1, :log} in forge(context, grown)
  end

  defp other(draft, n) do
    {_euid, _at, recorded_at, _, _, _, _, _, _, _} = draft
    draft = put_elem(draft, 9, "other #{n}")
    Chain.stamp(draft, euid: <<n::128>>, recorded_at: recorded_at + 10_000_000, salt: <<n::128>>)
  end

  test "a flow that was cut back and has grown again since is not what the log knows", context do
    flow = context.honest.flows["patient/1"]
    others = Enum.map(1..6, &other(List.last(flow.events), &1))

    for {length, place} <- [{14, 15}, {15, 16}] do
      File.rm_rf!(context.forged)
      # The forger adds the end that it has now to the log, as the next checkpoint would.
      events = Enum.take(flow.events, length) ++ others
      forged = put(context.honest, "patient/1", events: events)
      forged = %{forged | leaves: forged.leaves ++ [List.last(leaves(forged.flows["patient/1"]))]}
      faults = forge(context, forged)
      assert [{"patient/1", position, :log} | _] = faults
      assert position <= place
    end
  end

  test "a tail that was cut off is named by its last event", context do
    cut = put(context.honest, "patient/3", events: Enum.take(context.honest.flows["patient/3"].events, 1))
    assert forge(context, cut) == [{"patient/3", 2, :log}]
  end

  test "a tail that was cut off, and its leaf taken back by a smaller one, is a fork", context do
    cut = put(context.honest, "patient/3", events: Enum.take(context.honest.flows["patient/3"].events, 1))
    cut = %{cut | leaves: cut.leaves ++ [List.last(leaves(cut.flows["patient/3"]))]}
    assert {"patient/3", 2, :log} in forge(context, cut)
  end

  test "a flow that was dropped is named by its genesis", context do
    for n <- 1..3 do
      File.rm_rf!(context.forged)
      {_dropped, flows} = Map.pop(context.honest.flows, "patient/#{n}")
      name = "genesis " <> Base.encode16(context.heads[n].genesis, case: :lower)
      position = if n == 3, do: 2, else: 1
      assert forge(context, %{context.honest | flows: flows}) == [{name, position, :log}]
    end
  end

  test "leaves that were taken out, swapped or edited are not what was signed", context do
    [first, second | rest] = context.honest.leaves
    edited = binary_part(first, 0, byte_size(first) - 1) <> <<255>>

    for leaves <- [[second, first | rest], [edited, second | rest], [first, "" | rest]] do
      File.rm_rf!(context.forged)
      assert {"log", 9, :log} in forge(context, %{context.honest | leaves: leaves})
    end

    File.rm_rf!(context.forged)
    faults = forge(context, %{context.honest | leaves: [second | rest]})
    # The last checkpoint speaks of one leaf more.
    assert {"log", 9, :rolled_back} in faults
    assert {"patient/1", 1, :log} in faults
  end

  test "a store that was rolled back whole, log and all, is shorter than what was kept outside", context do
    earlier = %{
      context.honest
      | leaves: Enum.take(context.honest.leaves, 4),
        checkpoints: Enum.take(context.honest.checkpoints, 1)
    }

    %{"patient/1" => one, "patient/2" => two} = earlier.flows
    earlier = put(earlier, "patient/1", events: Enum.take(one.events, 7), cuts: Enum.take(one.cuts, 1))
    earlier = put(earlier, "patient/2", closed: false, events: Enum.take(two.events, 5), cuts: [])
    assert forge(context, earlier) == []
    assert verify(context.forged, outside(context)) == [{"log", 9, :rolled_back}]
  end

  test "a store that has grown since is what it was", context do
    start(context)
    append(context, "patient/1", 17..30)
    append(context, "patient/4", 1..9)
    {:ok, _} = EventSeal.seal(context.name, "patient/1")
    assert {:ok, verdict} = EventSeal.verify(context.name, outside(context))
    assert Verdict.ok?(verdict)
    # What was appended since is not covered yet.
    assert %{checkpoint: 9, covered: 24, events: 47} = verdict
    assert {:ok, %{n: 30, covered: 16, checkpoint: 9}} = EventSeal.coverage(context.name, "patient/1")
    assert {:ok, %{n: 9, covered: 0, checkpoint: 9}} = EventSeal.coverage(context.name, "patient/4")
    {:ok, %{size: size}} = EventSeal.checkpoint(context.name)
    assert {:ok, %{n: 30, covered: 30, checkpoint: ^size}} = EventSeal.coverage(context.name, "patient/1")
    assert {:ok, %{covered: 47, checkpoint: ^size}} = EventSeal.verify(context.name, outside(context))
    assert {:error, %Error{reason: :not_found}} = EventSeal.coverage(context.name, "patient/9")
  end

  test "what is sealed and signed while a verification runs is no fault", context do
    start(context)

    writer =
      Task.async(fn ->
        for n <- 1..150 do
          append(context, "ward/#{rem(n, 40)}", [n + 100, n + 101, n + 102, n + 103])
          {:ok, _} = EventSeal.seal(context.name, "ward/#{rem(n, 40)}")
          if rem(n, 10) == 0, do: {:ok, _} = EventSeal.checkpoint(context.name)
        end
      end)

    assert verified(context, writer, 0) > 1
  end

  defp verified(context, writer, times) do
    assert {:ok, %{fault_count: 0, faults: []}} = EventSeal.verify(context.name)
    if Task.yield(writer, 0), do: times + 1, else: verified(context, writer, times + 1)
  end

  describe "a checkpoint that is not to be believed is no verification" do
    test "of another origin, or with another key", context do
      {:ok, foreign} = Signer.File.generate(context.key_file <> "2", "elsewhere.example/log")
      {:ok, other} = Signer.File.generate(context.key_file <> "3", "clinic.example/log")

      for key <- [foreign, other, [foreign, other]] do
        assert {:error, %Error{reason: :untrusted}} = verify(context.store, checkpoint: context.outside, key: key)
      end

      assert verify(context.store, checkpoint: context.outside, key: [other, context.key]) == []
      {:ok, signer} = Signer.open(Signer.File, context.key_file <> "2")
      {:ok, theirs} = Signer.checkpoint(signer, context.checkpoint.size, context.checkpoint.root)
      File.write!(context.outside, theirs.note)
      assert {:error, %Error{reason: :untrusted}} = verify(context.store, outside(context))
    end

    test "with the signature of an older tree over a newer text", context do
      {:ok, old} = Checkpoint.unpack(hd(context.honest.checkpoints))
      [text, _signature] = String.split(context.checkpoint.note, "\n\n")
      [_text, signature] = String.split(old.note, "\n\n")
      File.write!(context.outside, text <> "\n\n" <> signature)
      assert {:error, %Error{reason: :untrusted}} = verify(context.store, outside(context))
    end

    test "that is none, or not there", context do
      File.write!(context.outside, String.slice(context.checkpoint.note, 0..-2//1))
      assert {:error, %Error{reason: :malformed}} = verify(context.store, outside(context))
      File.rm!(context.outside)
      assert {:error, %Error{reason: :storage}} = verify(context.store, outside(context))
    end

    test "nor without a key, or of a part of the store", context do
      start(context)
      verify = &EventSeal.verify(context.name, &1)
      assert_raise ArgumentError, ~r/need each other/, fn -> verify.(checkpoint: context.outside) end
      assert_raise ArgumentError, ~r/need each other/, fn -> verify.(key: context.key) end
      assert_raise ArgumentError, ~r/do not go together/, fn -> verify.([flow: "patient/1"] ++ outside(context)) end
      assert_raise ArgumentError, ~r/do not go together/, fn -> verify.([for: 10] ++ outside(context)) end
    end
  end

  test "the command says what is covered, what is forged, and that a wrong key could not be run", context do
    known = ["--checkpoint", context.outside, "--key", context.key]
    assert {0, text} = command(["--dir", context.store | known])
    assert text =~ "9 leaves of the log held against them; the last checkpoint, of 9 leaves, covers 24 of 24 events"
    forged = with_own_log(context, edit(context.honest, "patient/1", 9, "forged"))
    write!(forged, context.forged)
    assert {0, _} = command(["--dir", context.forged])
    assert {1, text} = command(["--dir", context.forged | known])
    assert text =~ "log, position 9: "
    {:ok, other} = Signer.File.generate(context.key_file <> "2", "clinic.example/log")
    assert {2, text} = command(["--dir", context.store, "--checkpoint", context.outside, "--key", other])
    assert text =~ "no key of the log has signed it"
    assert {2, text} = command(["--dir", context.store, "--checkpoint", context.outside])
    assert text =~ "usage"
  end

  defp command(args), do: EventSeal.CommandLine.command(:verify, args)
end
