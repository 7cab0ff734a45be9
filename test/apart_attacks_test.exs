defmodule EventSeal.ApartAttacksTest do
  # Two stores that keep the same events' digests, under other credentials: whoever changes one of them is named, with the
  # side that is wrong.
  use ExUnit.Case, async: false

  import EventSeal.KeptStore, only: [flip: 2, flip: 3, part: 4, verify: 2, verify: 3]
  alias EventSeal.{Checkpoint, Forgery, Kept, KeptStore, Native, Signer, Store}

  @moduletag :tmp_dir
  @moduletag timeout: 20_000
  @one "patient/1"
  @two "patient/2"

  # A flow in three blocks and a tail, one that is closed, one of the sandbox alone, under two checkpoints.
  setup %{tmp_dir: tmp} do
    paths = Map.new([:store, :apart, :forged, :cut, :outside, :key_file], &{&1, Path.join(tmp, "#{&1}")})
    {:ok, key} = Signer.File.generate(paths.key_file, "clinic.example/log")
    context = Map.merge(paths, %{key: key, name: :"apart-#{System.unique_integer([:positive])}"})
    start(context)
    append(context, @one, 1..7)
    append(context, @two, 1..5)
    append(context, "patient/3", 1..2)
    {:ok, 4} = EventSeal.seal(context.name, @one)
    {:ok, _} = EventSeal.checkpoint(context.name)
    append(context, @one, 8..10)
    {:ok, 3} = EventSeal.seal(context.name, @one)
    append(context, @one, 11..16)
    {:ok, 6} = EventSeal.seal(context.name, @one)
    {:ok, _} = EventSeal.close(context.name, @two)
    {:ok, checkpoint} = EventSeal.checkpoint(context.name)
    stop_supervised!(context.name)
    File.write!(paths.outside, checkpoint.note)
    Map.merge(context, %{kept: KeptStore.read(paths.apart), honest: Forgery.read(paths.store)})
  end

  defp start(context) do
    tree = [
      name: context.name,
      store: {Store.Disk, dir: context.store},
      verification: {Store.Disk, dir: context.apart},
      pool_window: 0,
      checkpoints: [signer: {Signer.File, context.key_file}, every: :infinity]
    ]

    start_supervised!({EventSeal, tree}, id: context.name)
  end

  defp append(context, flow, numbers) do
    items = for n <- numbers, do: {flow, %{when: n, kind: "vital", body: "#{n}"}}
    {:ok, _} = EventSeal.append_many(context.name, items)
  end

  defp outside(context), do: [checkpoint: context.outside, key: context.key]

  # The verification store as somebody left it, against the honest events.
  defp cut(context, state, opts \\ []) do
    KeptStore.write!(state, context.cut)
    verify(context.store, context.cut, opts)
  end

  # The events' store as somebody left it, against what was kept.
  defp forge(context, state, opts \\ []) do
    File.rm_rf!(context.forged)
    Forgery.write!(state, context.forged)
    for {_, _, _, side} = fault when side != nil <- verify(context.forged, context.apart, opts), do: fault
  end

  test "two honest stores agree, and the forger's hand writes what was there", %{kept: kept} = context do
    assert verify(context.store, context.apart) == []
    assert verify(context.store, context.apart, outside(context)) == []
    assert cut(context, kept) == []
    assert KeptStore.read(context.cut) == kept
    assert {:ok, %{kept: 4, behind: 0, fault_count: 0}} = KeptStore.verdict(context.store, context.apart)
    assert [{@one, [_, _, _]}, {@two, [_]}] = Enum.sort(kept.flows)
  end

  test "the verification store has none of what was written in an event", %{kept: kept} do
    for {_flow, parts} <- kept.flows, {_count, part} <- parts do
      refute part =~ "vital"
      assert {:ok, nil} = Kept.flaw(part, elem(Kept.read(part), 1).height, nil)
    end
  end

  describe "in the verification store" do
    test "an id or an event hash that was edited is named at its position", %{kept: kept} = context do
      edited = part(kept, @one, 1, &flip(&1, :id, 2))
      assert cut(context, edited) == [{@one, 7, :id, :verification}]
      edited = part(kept, @one, 2, &flip(&1, :hash, 0))
      assert cut(context, edited) == [{@one, 8, :event_hash, :verification}]
    end

    test "so is a header, a block hash, a seam and the record that the flow begins with", %{kept: kept} = context do
      # The genesis record is 64 bytes here.
      for {at, class} <-
            [{128 + 55, :sealed_at}, {128 + 39, :when_range}, {128 + 120, :root}, {40, :block_hash}] ++
              [{128 + 90, :previous}, {128 + 193, :seam}, {64 + 12, :genesis}] do
        edited = part(kept, @one, 1, &flip(&1, at))
        assert cut(context, edited) == [{@one, 5, class, :verification}]
      end

      assert [{@one, 5, :format, :verification}] = cut(context, part(kept, @one, 1, &flip(&1, 0)))
    end

    test "a byte that was flipped where it lies is named as what it was", %{kept: kept} = context do
      [file] = Path.wildcard(context.apart <> "/segments/*.segment")
      {_count, part} = Enum.at(kept.flows[@one], 1)
      [{at, length}] = :binary.matches(File.read!(file), part)
      {:ok, %{count: count}} = Kept.read(part)
      {:ok, device} = :file.open(file, [:raw, :binary, :read, :write])
      place = at + length - div(32 * count + 63, 64) * 64
      {:ok, <<byte>>} = :file.pread(device, place, 1)
      :ok = :file.pwrite(device, place, <<Bitwise.bxor(byte, 1)>>)
      :ok = :file.close(device)
      assert [{@one, 5, :id, :verification}] = verify(context.store, context.apart)
    end

    test "a block that was replaced by one that holds in itself is not the one that was logged",
         %{kept: kept} = context do
      forged = Forgery.edit(context.honest, @one, 9, "forged")
      Forgery.write!(forged, context.forged)
      other = parts_of(context.forged, @one)
      replaced = put_in(kept.flows[@one], other)
      faults = cut(context, replaced)
      # The hash of position 9 is in the seams and ids of the block before.
      assert [{@one, 9, :seam, :verification} | rest] = faults
      assert Enum.all?(rest, &match?({@one, _, _, :verification}, &1))
      assert length(faults) == 2
    end

    test "blocks that were cut off are missing, and a block that was taken out shows in those that stand in its place",
         %{kept: kept} = context do
      cut = update_in(kept.flows[@one], &Enum.take(&1, 2))
      assert cut(context, cut) == [{@one, 8, :missing, :verification}]
      dropped = update_in(kept.flows[@one], &List.delete_at(&1, 1))
      faults = cut(context, dropped)
      assert Enum.all?(faults, &match?({@one, _, _, :verification}, &1))
      assert {@one, 8, :missing, :verification} in faults or {@one, 5, :height, :verification} in faults
    end

    test "a flow that was dropped, and one that never was", %{kept: kept} = context do
      assert cut(context, %{kept | flows: Map.delete(kept.flows, @two)}) ==
               [{@two, 1, :missing, :verification}]

      made_up = put_in(kept.flows["patient/9"], kept.flows[@two])
      assert [{"patient/9", 1, :missing, side}] = cut(context, made_up)
      assert side in [:verification, :events, :either]
    end

    test "a leaf that was edited, taken out or added", %{kept: kept} = context do
      for index <- [0, 4, 8] do
        edited = update_in(kept.leaves, &List.update_at(&1, index, fn leaf -> flip(leaf, byte_size(leaf) - 1) end))

        assert cut(context, edited) == [{"log", index, :log, :verification}]
        torn = update_in(kept.leaves, &List.update_at(&1, index, fn _leaf -> "torn" end))
        assert cut(context, torn) == [{"log", index, :log, :verification}]
      end

      out = update_in(kept.leaves, &List.delete_at(&1, 3))
      assert [{"log", 3, :log, :verification}, {"log", 8, :missing, :verification}] = cut(context, out)
      short = update_in(kept.leaves, &Enum.take(&1, 7))
      assert [{"log", 7, :missing, :verification}] = cut(context, short)
      # One that neither a block nor a checkpoint speaks of may have been lost here, or made up there.
      long = update_in(kept.leaves, &(&1 ++ ["more"]))
      assert [{"log", 9, :missing, :either}] = cut(context, long)
      assert [{"log", 9, :missing, :verification}] = cut(context, update_in(kept.leaves, &(&1 ++ [<<1>>])))
    end

    test "a checkpoint that was edited, exchanged or taken out", %{kept: kept} = context do
      for index <- [0, 1] do
        edited =
          update_in(
            kept.checkpoints,
            &List.update_at(&1, index, fn item -> flip(item, byte_size(item) - 9) end)
          )

        assert cut(context, edited) == [{"log", index, :checkpoint, :verification}]
      end

      {:ok, _key} = Signer.File.generate(context.key_file <> "2", "clinic.example/log")

      foreign =
        update_in(
          kept.checkpoints,
          &List.replace_at(&1, 1, sign(context.key_file <> "2", tl(kept.leaves)))
        )

      faults = cut(context, foreign, outside(context))
      assert [{"log", 1, :checkpoint, side}] = faults
      assert side in [:verification, :either]
      assert [{"log", 0, :checkpoint, :verification} | _] = cut(context, %{kept | checkpoints: []})
    end

    test "all of it cut back together to an earlier checkpoint is not late", %{kept: kept} = context do
      earlier = %{
        flows: %{@one => Enum.take(kept.flows[@one], 1)},
        leaves: Enum.take(kept.leaves, 4),
        checkpoints: Enum.take(kept.checkpoints, 1)
      }

      faults = cut(context, earlier)
      assert {"log", 4, :missing, :verification} in faults
      assert Enum.all?(faults, &(elem(&1, 3) == :verification))
    end

    test "all of it gone", context do
      faults = cut(context, %{flows: %{}, leaves: [], checkpoints: []})
      assert {"log", 0, :missing, :verification} in faults
    end
  end

  defp parts_of(dir, flow) do
    EventSeal.BitRot.open(dir, :read, fn store ->
      {:ok, pieces} = Store.blocks(store, flow, {1, :infinity})
      for piece <- pieces, do: {piece.count, elem(Kept.cut(piece.at), 1)}
    end)
  end

  defp sign(key_file, leaves) do
    {size, root} = Native.ledger_learn(Native.ledger(), leaves)
    {:ok, signer} = Signer.open(Signer.File, key_file)
    {:ok, checkpoint} = Signer.checkpoint(signer, size, root)
    Checkpoint.pack(checkpoint)
  end

  defp with_own_log(context, state, key_file) do
    leaves = for {_flow, parts} <- state.flows, leaf <- Forgery.leaves(parts), do: leaf
    leaves = leaves ++ List.duplicate(hd(leaves), max(9 - length(leaves), 0))
    checkpoints = if key_file, do: [hd(context.honest.checkpoints), sign(key_file, leaves)], else: []
    %{state | leaves: leaves, checkpoints: checkpoints}
  end

  describe "in the events' store" do
    test "an event that was edited, with all of its chain recomputed", context do
      assert [{@one, 6, :event_hash, :events} | rest] =
               context
               |> forge(Forgery.edit(context.honest, @one, 6, "forged"))
               |> Enum.sort_by(&(elem(&1, 2) != :event_hash))

      assert Enum.all?(rest, &(elem(&1, 3) == :events))
    end

    test "with its log recomputed too, the log that the checkpoints are of decides", context do
      forged = with_own_log(context, Forgery.edit(context.honest, @one, 6, "forged"), nil)
      faults = forge(context, forged)
      assert {@one, 6, :event_hash, :events} in faults
      assert Enum.all?(faults, &(elem(&1, 3) == :events))
      assert Enum.any?(faults, &match?({"log", _, :log, :events}, &1))
      assert Enum.any?(faults, &match?({"log", _, :checkpoint, :events}, &1))
    end

    test "signed anew with the true key, both hold, until a checkpoint that was kept outside decides",
         context do
      forged = with_own_log(context, Forgery.edit(context.honest, @one, 6, "forged"), context.key_file)
      faults = forge(context, forged)
      assert {@one, 6, :event_hash, :either} in faults
      faults = forge(context, forged, outside(context))
      assert {@one, 6, :event_hash, :events} in faults
      assert Enum.all?(faults, &(elem(&1, 3) == :events))
    end

    test "a flow that was dropped, and its end that was cut off", context do
      {_two, flows} = Map.pop(context.honest.flows, @two)
      faults = forge(context, %{context.honest | flows: flows})
      assert faults == [{@two, 1, :missing, :events}]
      one = context.honest.flows[@one]
      cut = Forgery.put(context.honest, @one, events: Enum.take(one.events, 10), cuts: Enum.take(one.cuts, 2))
      assert forge(context, cut) == [{@one, 8, :missing, :events}]
    end

    test "its log, rolled back or lost", context do
      for leaves <- [[], Enum.take(context.honest.leaves, 5)] do
        faults = forge(context, %{context.honest | leaves: leaves, checkpoints: []})
        assert {"log", length(leaves), :missing, :events} in faults
        assert {"log", 0, :checkpoint, :events} in faults
      end
    end

    test "all of it gone", context do
      faults = forge(context, %{flows: %{}, leaves: [], checkpoints: []})
      assert {"log", 0, :missing, :events} in faults
      assert {"log", 0, :checkpoint, :events} in faults

      assert for({flow, n, :missing, :events} when flow != "log" <- faults, do: {flow, n}) == [
               {@one, 1},
               {@one, 5},
               {@one, 8},
               {@two, 1}
             ]

      assert length(faults) == 6
    end

    test "digests that were hit where they lie", context do
      for {back, class} <- [{1, :id}, {2, :event_hash}] do
        dir = context.forged
        File.rm_rf!(dir)
        File.cp_r!(context.store, dir)
        {file, at, part} = lies(dir, @one, 1)
        {:ok, %{count: count}} = Kept.read(part)
        <<verification::64>> = pread(file, at + 8, 8)
        place = at + verification - back * div(32 * count + 63, 64) * 64
        <<byte>> = pread(file, place, 1)
        pwrite(file, place, <<Bitwise.bxor(byte, 1)>>)
        assert {@one, 5, class, :events} in verify(dir, context.apart)
      end
    end
  end

  test "changed on both sides, each at its own place", %{kept: kept} = context do
    edited = part(kept, @one, 1, &flip(&1, :id, 1))
    KeptStore.write!(edited, context.cut)
    File.cp_r!(context.store, context.forged)
    {file, at, _part} = lies(context.forged, @one, 1)
    <<verification::64>> = pread(file, at + 8, 8)
    <<byte>> = pread(file, at + verification - 128, 1)
    pwrite(file, at + verification - 128, <<Bitwise.bxor(byte, 1)>>)
    assert Enum.any?(verify(context.forged, context.cut), &match?({@one, _, :id, :both}, &1))
  end

  defp lies(dir, flow, height) do
    EventSeal.BitRot.open(dir, :read, fn store ->
      {:ok, pieces} = Store.blocks(store, flow, {1, :infinity})
      %{at: {:file, path, at, _length} = place} = Enum.at(pieces, height)
      {path, at, elem(Kept.cut(place), 1)}
    end)
  end

  defp pread(path, at, length), do: path |> File.read!() |> binary_part(at, length)

  defp pwrite(path, at, bytes) do
    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, bytes)
    :ok = :file.close(file)
  end
end
