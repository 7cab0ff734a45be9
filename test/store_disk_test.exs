defmodule EventSeal.StoreDiskTest do
  # What Store.Disk promises beyond the contract: see its moduledoc, and the tables of crash points there.
  use ExUnit.Case, async: false

  import EventSeal.StoreCase
  import ExUnit.CaptureLog

  alias EventSeal.{Error, FaultyFiles, Store}
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag :capture_log

  setup %{tmp_dir: tmp} do
    FaultyFiles.start()
    {:ok, dir: Path.join(tmp, "store")}
  end

  defp open!(dir, opts \\ []), do: start!({Disk, [dir: dir, files: FaultyFiles] ++ opts})

  defp open_error(dir, opts \\ []) do
    name = :"refused_#{System.unique_integer([:positive])}"
    %{start: {module, function, args}} = Disk.child_spec({name, [dir: dir] ++ opts})
    Process.flag(:trap_exit, true)
    assert {:error, %Error{} = error} = apply(module, function, args)
    error
  end

  # As kill -9 would have it: nothing is closed, nothing is said.
  defp crash!(store) do
    pid = Process.whereis(store.name)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}
    ExUnit.Callbacks.stop_supervised(store.name)
  end

  defp reopen!(store, dir, opts \\ []) do
    stop!(store)
    open!(dir, opts)
  end

  defp state(store, flows \\ ["a", "b"], euids \\ Enum.map(1..40, &euid/1)) do
    blocks = fn flow ->
      with {:ok, pieces} <- Store.blocks(store, flow, {1, :infinity}),
           do: for(p <- pieces, do: {p.height, p.first, p.count, Store.read(p)})
    end

    {for(flow <- flows, do: {Store.head(store, flow, euids), blocks.(flow)}), Store.flows(store, nil, 99),
     Store.log(store, {:leaves, 0, 999}), Store.log(store, {:checkpoints, 0, 999}),
     Enum.sort(Store.recover(store, 0..1023).waiting)}
  end

  # A bit of everything: both flows have entries, "a" also a block and a retraction.
  defp fill(store) do
    :ok = Store.commit(store, [{:open, "a", "genesis of a"}, {:open, "b", "genesis of b"}, put("a", 1), put("b", 1)])
    :ok = Store.commit(store, for(seq <- 2..8, do: put("a", seq, :tail)) ++ [{:leaf, "l0"}, {:checkpoint, "c0"}])
    :ok = Store.commit(store, [{:put, "a", 1, :tail, "settled", :keep}, put("a", 9), put("a", 10)])
    :ok = Store.commit(store, [{:drop, "a", 9, euid(9)}, {:leaf, "l1"}])
    :ok = Store.commit(store, [{:expect, "a", 0}, block("a", 0, 1, [1, 2, 3, 4, 5]), {:leaf, "l2"}])
  end

  defp journal(dir), do: dir |> Path.join("journal-*") |> Path.wildcard() |> Enum.max()
  defp segments(dir), do: dir |> Path.join("segments/*.segment") |> Path.wildcard()

  defp tree(dir) do
    for path <- Path.wildcard(Path.join(dir, "**"), match_dot: true),
        File.regular?(path),
        into: %{},
        do: {path, File.read!(path)}
  end

  defp flip!(path, at) do
    <<before::binary-size(at), byte, rest::binary>> = File.read!(path)
    File.write!(path, [before, Bitwise.bxor(byte, 1), rest])
  end

  # Bytes of each group, the header of the file first, without the room behind them.
  defp groups(<<header::binary-64, groups::binary>>), do: [header | groups_of(groups)]

  defp groups_of(<<0::128, _::binary>>), do: []
  defp groups_of(""), do: []

  defp groups_of(<<_::binary-16, length::64, _::binary>> = bytes) do
    <<group::binary-size(length + 32), rest::binary>> = bytes
    [group | groups_of(rest)]
  end

  defp find!(path, text) do
    {at, _} = :binary.match(File.read!(path), text)
    at
  end

  describe "opened again" do
    test "everything is there, after an orderly end, a crash and rotations", %{dir: dir} do
      store = open!(dir)
      fill(store)
      before = state(store)
      store = reopen!(store, dir)
      assert state(store) == before
      crash!(store)
      store = open!(dir)
      assert state(store) == before
      for _ <- 1..3, do: :ok = Disk.rotate(store.name)
      assert state(store) == before
      crash!(store)
      store = open!(dir)
      assert state(store) == before
      assert Disk.report(store.name) == []
      :ok = Store.commit(store, [{:expect, "a", 1}, block("a", 1, 6, [6, 7])])
      assert {:ok, %{entries: [{8, :tail, _, "data 8"}, {10, :pool, _, _}]}} = Store.head(store, "a")
      before = state(store)
      assert state(reopen!(store, dir)) == before
    end

    test "journals stay short and retracted bytes are gone after a rotation", %{dir: dir} do
      store = open!(dir, journal_bytes: 8192, segment_bytes: 65_536)

      :ok =
        Store.commit(store, [{:open, "a", "g"}, put("a", 1, :tail), {:put, "a", 2, :pool, "meta", "SECRET-RETRACTED"}])

      :ok = Store.commit(store, [{:put, "a", 3, :pool, "meta", "SECRET-AMENDED"}])
      assert Enum.any?(tree(dir), fn {_path, bytes} -> bytes =~ "SECRET" end)
      :ok = Store.commit(store, [{:drop, "a", 2, euid(2)}, {:put, "a", 3, :pool, "meta", "kept"}])
      :ok = Disk.rotate(store.name)
      refute Enum.any?(tree(dir), fn {_path, bytes} -> bytes =~ "SECRET" end)
      for i <- 1..300, do: :ok = Store.commit(store, [{:open, "flow #{i}", "g"}, put("flow #{i}", 1, :tail)])
      assert byte_size(File.read!(journal(dir))) < 16_384
      assert [_] = Path.wildcard(Path.join(dir, "journal-*"))
      before = state(store)
      store = reopen!(store, dir)
      assert state(store) == before

      assert {:ok, %{entries: [{1, :tail, _, _}, {3, :pool, _, "kept"}], found: found}} =
               Store.head(store, "a", [euid(2)])

      assert found == %{euid(2) => :spent}
      assert length(Store.recover(store, 0..1023).waiting) == 301
    end

    test "a tail record is superseded by the next one and by blocks", %{dir: dir} do
      store = open!(dir)
      :ok = Store.commit(store, [{:open, "a", "g"} | for(seq <- 1..3, do: put("a", seq, :tail))])
      :ok = Disk.rotate(store.name)
      :ok = Store.commit(store, [put("a", 4, :tail)])
      :ok = Disk.rotate(store.name)
      :ok = Store.commit(store, [block("a", 0, 1, [1, 2]), put("a", 5, :tail)])
      assert {:ok, %{entries: entries}} = Store.head(store, "a")
      assert Enum.map(entries, &elem(&1, 0)) == [3, 4, 5]
      assert [%{flow: "a", pool: 0, tail: 3}] = Store.recover(store, 0..1023).waiting
      :ok = Disk.rotate(store.name)
      store = reopen!(store, dir)
      assert {:ok, %{entries: ^entries}} = Store.head(store, "a")
      :ok = Store.commit(store, [block("a", 1, 3, [3, 4, 5, 6], closes: true)])
      assert [] = Store.recover(store, 0..1023).waiting
      store = reopen!(store, dir)
      assert {:ok, %{entries: [], closed: true, next_seq: 7}} = Store.head(store, "a")
    end

    test "euids are found in finished segments, with their files and without", %{dir: dir} do
      store = open!(dir, segment_bytes: 4096)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :pool)])
      :ok = Store.commit(store, [{:drop, "a", 1, euid(1)}])
      :ok = Disk.rotate(store.name)

      for height <- 0..19 do
        seqs = [2 * height + 2, 2 * height + 3]
        :ok = Store.commit(store, [block("a", height, 2 * height + 1, seqs, filler: :binary.copy("x", 1500))])
      end

      expected = Map.new([{euid(1), :spent} | for(seq <- 2..41, do: {euid(seq), [div(seq - 2, 2)]})])
      asked = Enum.map(1..60, &euid/1)
      assert {:ok, %{found: ^expected}} = Store.head(store, "a", asked)
      assert length(segments(dir)) > 5
      store = reopen!(store, dir, segment_bytes: 4096)
      assert {:ok, %{found: ^expected}} = Store.head(store, "a", asked)
      store = reopen!(store, dir, segment_bytes: 4096)
      wait_for(fn -> length(Path.wildcard(Path.join(dir, "segments/*.euids"))) > 5 end)
      [one, two | _] = Path.wildcard(Path.join(dir, "segments/*.euids"))
      stop!(store)
      flip!(one, byte_size(File.read!(one)) - 20)
      File.rm!(two)
      store = open!(dir, segment_bytes: 4096)
      assert {:ok, %{found: ^expected}} = Store.head(store, "a", asked)
      :ok = Store.commit(store, [{:open, "other", "g"}])
      assert {:ok, %{found: found}} = Store.head(store, "other", asked)
      assert found == %{}
    end

    test "a finished segment's index serves in its place, and no other bytes for an index", %{dir: dir} do
      store = open!(dir, segment_bytes: 4096)
      :ok = Store.commit(store, [{:open, "a", "g"}])

      for height <- 0..3,
          do: :ok = Store.commit(store, [block("a", height, height + 1, [height + 1], filler: filler(1500))])

      store = reopen!(store, dir, segment_bytes: 4096)
      index = Path.join(dir, "segments/00000001.index")
      wait_for(fn -> File.exists?(index) and File.exists?(Path.rootname(index) <> ".euids") end)
      {expected, unasked} = {state(store), state(store, ["a"], [])}
      stop!(store)
      bytes = File.read!(index)

      for at <- 0..(byte_size(bytes) - 1)//7, reduce: nil do
        _ ->
          flip!(index, at)
          store = open!(dir, segment_bytes: 4096)
          assert {at, expected} == {at, state(store)}
          assert Disk.report(store.name) == []
          stop!(store)
          File.write!(index, bytes)
      end

      # The second record's front; the index was made before, so only who looks at the segment itself finds it.
      flip!(
        Path.join(dir, "segments/00000001.segment"),
        find!(Path.join(dir, "segments/00000001.segment"), euid(2)) - 60
      )

      reader = open!(dir, mode: :read)
      assert [%{what: :damaged_record, file: "00000001.segment"} | _] = Disk.report(reader.name)
      stop!(reader)
      store = open!(dir, segment_bytes: 4096)
      assert {state(store, ["a"], []), Disk.report(store.name)} == {unasked, []}
      assert {:error, %Error{reason: :corrupt}} = Store.head(store, "a", [euid(2)])
      stop!(store)
      File.rm!(index)
      assert [%{what: :damaged_record} | _] = Disk.report(open!(dir, segment_bytes: 4096).name)
    end

    for {operation, reason} <- [open: :emfile, pread: :eio] do
      test "an index on which #{operation} fails is one that is not there", %{dir: dir} do
        store = open!(dir, segment_bytes: 4096)
        :ok = Store.commit(store, [{:open, "a", "g"}])

        for height <- 0..3,
            do: :ok = Store.commit(store, [block("a", height, height + 1, [height + 1], filler: filler(1500))])

        index = Path.join(dir, "segments/00000001.index")
        wait_for(fn -> File.exists?(index) and File.exists?(Path.rootname(index) <> ".euids") end)
        expected = state(store)
        stop!(store)
        FaultyFiles.fail(unquote(operation), "00000001.index", unquote(reason))
        store = open!(dir, segment_bytes: 4096)
        assert FaultyFiles.struck?(unquote(operation), "00000001.index")
        assert {expected, []} == {state(store), Disk.report(store.name)}
      end
    end

    defp filler(size), do: :binary.copy("x", size)
  end

  describe "after a crash" do
    test "a torn last group is set aside and reported, all before it is kept", %{dir: dir} do
      for cut <- [1, 20, 60], room <- ["", :binary.copy(<<0>>, 5_000)] do
        dir = "#{dir}#{byte_size(room)}"
        store = open!(dir <> "#{cut}")
        fill(store)
        before = state(store)
        :ok = Store.commit(store, [put("b", 2)])
        crash!(store)
        path = journal(dir <> "#{cut}")
        bytes = path |> File.read!() |> groups() |> IO.iodata_to_binary()
        File.write!(path, [binary_part(bytes, 0, byte_size(bytes) - cut), room])
        store = open!(dir <> "#{cut}")
        assert state(store) == before
        assert [%{what: :torn_tail}] = Disk.report(store.name)
        assert [_] = Path.wildcard(Path.join(dir <> "#{cut}", "aside/*"))
        assert :ok = Store.commit(store, [put("b", 2)])
        assert Disk.report(reopen!(store, dir <> "#{cut}").name) == []
      end
    end

    test "segment bytes that no journal knows are set aside", %{dir: dir} do
      store = open!(dir)
      fill(store)
      before = state(store)
      crash!(store)
      [segment] = segments(dir)
      bytes = File.read!(segment)
      # A whole record again, and some torn bytes: both were synced before a journal record that never came.
      File.write!(segment, [bytes, binary_part(bytes, 64, byte_size(bytes) - 64), "torn"])
      File.write!(Path.join(dir, "segments/00000009.segment"), "never named")
      store = open!(dir)
      assert state(store) == before
      assert File.read!(segment) |> String.starts_with?(bytes)
      assert [_, _] = Path.wildcard(Path.join(dir, "aside/*"))
      :ok = Store.commit(store, [block("a", 1, 6, [6, 7])])
      before = state(store)
      assert state(reopen!(store, dir)) == before
    end
  end

  describe "when the disk fails" do
    for {operation, opts} <- [pwrite: [half: true], pwrite: [], datasync: []], text <- ["journal", "segment"] do
      test "#{operation} of a #{text} #{inspect(opts)}: nothing changed, and the next commit succeeds", %{dir: dir} do
        store = open!(dir)
        fill(store)
        before = state(store)
        ops = [{:expect, "a", 1}, block("a", 1, 6, [6, 7]), put("b", 2), {:leaf, "l3"}]
        FaultyFiles.fail(unquote(operation), unquote(text), :enospc, unquote(opts))
        assert {:error, %Error{reason: :storage, detail: detail}} = Store.commit(store, ops)
        assert detail =~ "enospc"
        assert state(store) == before
        crash!(store)
        store = open!(dir)
        assert state(store) == before
        assert Disk.report(store.name) == []
        FaultyFiles.fail(unquote(operation), unquote(text), :eio, unquote(opts))
        assert {:error, %Error{reason: :storage}} = Store.commit(store, ops)
        assert :ok = Store.commit(store, ops)
        before = state(store)
        assert {:ok, %{height: 2}} = Store.head(store, "a")
        crash!(store)
        assert state(open!(dir)) == before
      end
    end

    test "a failed sync is not tried again on that journal: a new one is begun", %{dir: dir} do
      store = open!(dir)
      fill(store)
      old = journal(dir)
      FaultyFiles.fail(:datasync, "journal", :eio)
      assert {:error, %Error{reason: :storage}} = Store.commit(store, [put("b", 2)])
      assert journal(dir) != old
      refute File.exists?(old)
    end

    test "a failed sync and no new journal: the outcome is unknown and nothing more is written", %{dir: dir} do
      store = open!(dir)
      fill(store)
      {[_, b], _, _, _, _} = state(store)
      FaultyFiles.fail(:datasync, "journal", :eio)
      FaultyFiles.fail(:create, "journal", :enospc)
      assert {:error, %Error{reason: :read_only, detail: detail}} = Store.commit(store, [put("a", 11)])
      assert detail =~ "unknown"
      assert {:error, %Error{reason: :read_only}} = Store.commit(store, [put("b", 2)])
      assert {:ok, _head} = Store.head(store, "a")
      store = reopen!(store, dir)
      assert {[_, ^b], _, _, _, _} = state(store)
      assert :ok = Store.commit(store, [put("b", 2)])
    end

    test "a failed sync of a group with blocks and no new generation: opened again, nothing is damaged", %{dir: dir} do
      store = open!(dir)
      fill(store)
      FaultyFiles.fail(:datasync, "journal", :eio)
      FaultyFiles.fail(:create, "journal", :enospc)
      blocks = [block("a", 1, 6, [6, 7], filler: :binary.copy("x", 9000))]
      assert {:error, %Error{reason: :read_only, detail: detail}} = Store.commit(store, blocks)
      assert detail =~ "unknown"
      crash!(store)
      store = open!(dir)
      assert Disk.report(store.name) == []
      assert {:ok, %{height: height, entries: entries}} = Store.head(store, "a")
      assert {height, length(entries)} in [{1, 4}, {2, 2}]
      assert :ok = Store.commit(store, [put("b", 2)])
    end

    test "a write that can not be cut back leads to a new journal", %{dir: dir} do
      store = open!(dir)
      fill(store)
      before = state(store)
      FaultyFiles.fail(:pwrite, "journal", :eio, half: true)
      FaultyFiles.fail(:truncate, "journal", :eio)
      assert {:error, %Error{reason: :storage}} = Store.commit(store, [put("b", 2)])
      assert state(store) == before
      crash!(store)
      store = open!(dir)
      assert state(store) == before
      assert Disk.report(store.name) == []
    end

    for {operation, text} <- [
          pwrite: "segment",
          datasync: "segment",
          create: "journal",
          pwrite: "journal",
          datasync: "journal"
        ] do
      test "a rotation that fails at #{operation} of the #{text} leaves all as it was", %{dir: dir} do
        store = open!(dir)
        fill(store)
        before = state(store)
        FaultyFiles.fail(unquote(operation), unquote(text), :enospc)
        refute :ok == Disk.rotate(store.name)
        assert state(store) == before
        FaultyFiles.heal()
        crash!(store)
        store = open!(dir)
        assert state(store) == before
        assert Disk.report(store.name) == []
        assert :ok = Store.commit(store, [put("b", 2)])
      end
    end

    test "a store that fails between a commit's answer and its end does not write over the commit", %{dir: dir} do
      store = open!(dir, journal_bytes: 4096)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :tail)])
      :ok = Disk.rotate(store.name)
      # The commit is answered, then the journal is long enough for a rotation, and that one fails.
      FaultyFiles.watch(fn operation, path ->
        if {operation, path =~ ".segment"} == {:pwrite, true}, do: raise("struck")
      end)

      :ok = Store.commit(store, [{:put, "a", 2, :tail, "meta", :binary.copy("x", 8192)}])
      wait_for(fn -> Process.whereis(store.name) == nil end)
      FaultyFiles.unwatch()
      ExUnit.Callbacks.stop_supervised(store.name)
      store = open!(dir)
      assert {:ok, %{entries: [{1, :tail, _, _}, {2, :tail, _, _}]}} = Store.head(store, "a")
      assert Disk.report(store.name) == []
    end

    test "a rotation that cannot read what it has to move leaves all as it was", %{dir: dir} do
      store = open!(dir)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :tail)])
      :ok = Disk.rotate(store.name)
      :ok = Store.commit(store, [put("a", 2, :tail)])
      FaultyFiles.fail(:open, "segment", :emfile)
      assert {:error, %Error{reason: :storage}} = Disk.rotate(store.name)
      assert {:ok, %{entries: [{1, _, _, _}, {2, _, _, _}]}} = Store.head(store, "a")
      assert :ok = Disk.rotate(store.name)
    end

    # Each opening of a file fails in turn, as it does when there are no more file handles.
    test "a store that cannot open all its files does not open, and loses nothing by it", %{dir: dir} do
      store = open!(dir)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :pool), put("a", 2, :pool)])
      :ok = Store.commit(store, [{:drop, "a", 1, euid(1)}])
      :ok = Disk.rotate(store.name)
      # This block is known to the journal's commits alone, not to the beginning of its generation.
      :ok = Store.commit(store, [block("a", 0, 1, [2, 3])])
      before = state(store, ["a"])
      crash!(store)

      opened =
        for times <- 1..12 do
          copy = "#{dir}-#{times}"
          File.cp_r!(dir, copy)
          File.rm(Path.join(copy, "lock"))
          store = %{name: :"refused_#{System.unique_integer([:positive])}"}
          %{start: {module, function, args}} = Disk.child_spec({store.name, [dir: copy, files: FaultyFiles]})
          Process.flag(:trap_exit, true)
          FaultyFiles.fail(:open, copy, :emfile, after: times - 1)

          with {:ok, pid} <- apply(module, function, args) do
            GenServer.stop(pid)
          else
            {:error, %Error{reason: :storage}} -> :refused
          end
          |> tap(fn _result ->
            FaultyFiles.heal()
            store = open!(copy)
            assert {times, state(store, ["a"])} == {times, before}
            assert Disk.report(store.name) == []
            :ok = Store.commit(store, [put("a", 4, :tail)])
            :ok = Disk.rotate(store.name)
            assert {:ok, %{height: 1}} = Store.head(store, "a")
            assert {:ok, [piece]} = Store.blocks(store, "a", {1, 9})
            assert {:ok, _block} = Store.read(piece)
            stop!(store)
          end)
        end

      assert :refused in opened and :ok in opened
    end

    test "a file of fingerprints is not made of what could not be read", %{dir: dir} do
      for {operation, reason} <- [open: :emfile, pread: :eio] do
        dir = "#{dir}-#{operation}"
        store = open!(dir, segment_bytes: 4096)
        :ok = Store.commit(store, [{:open, "a", "g"}])
        :ok = Store.commit(store, [block("a", 0, 1, [1, 2], filler: :binary.copy("x", 5000))])
        FaultyFiles.fail(operation, "00000001.segment", reason)
        # The next block begins a segment; the one before is finished, and its fingerprints are written.
        :ok = Store.commit(store, [block("a", 1, 3, [3, 4])])
        wait_for(fn -> FaultyFiles.struck?(operation, "00000001.segment") end)
        Process.sleep(50)
        FaultyFiles.heal()
        found = %{euid(1) => [0], euid(2) => [0]}
        assert {:ok, %{found: ^found}} = Store.head(store, "a", [euid(1), euid(2), euid(9)])
        crash!(store)
        store = open!(dir, segment_bytes: 4096)
        assert {:ok, %{found: ^found}} = Store.head(store, "a", [euid(1), euid(2), euid(9)])
      end
    end

    test "a read that fails is an error, not an empty answer", %{dir: dir} do
      store = open!(dir)
      fill(store)
      FaultyFiles.fail(:pread, "journal", :eio)
      assert {:error, %Error{reason: :storage}} = Store.head(store, "a")
      assert {:ok, _head} = Store.head(store, "a")
    end
  end

  describe "damage" do
    test "a bad group before a good one: read-only, reported, nothing touched, the rest readable", %{dir: dir} do
      store = open!(dir)
      fill(store)
      crash!(store)
      flip!(journal(dir), find!(journal(dir), "settled"))
      before = tree(dir)
      {store, log} = with_log(fn -> open!(dir) end)
      assert log =~ "damaged_group"
      refute log =~ "settled"
      assert [%{what: :damaged_group} | _] = Disk.report(store.name)
      assert {:error, %Error{reason: :read_only, detail: detail}} = Store.commit(store, [put("b", 2)])
      assert detail =~ "damaged"
      assert {:ok, %{entries: [{1, :pool, _, _}]}} = Store.head(store, "b")
      assert {:ok, [piece]} = Store.blocks(store, "a", {1, 9})
      assert {:ok, "block 0 of a, "} = Store.read(piece)
      stop!(store)
      assert Map.delete(tree(dir), Path.join(dir, "lock")) == Map.delete(before, Path.join(dir, "lock"))
    end

    test "closed in order, the last commit cannot pass for a torn one", %{dir: dir} do
      store = open!(dir)
      fill(store)
      :ok = Store.commit(store, [{:put, "b", 2, :pool, "meta", "the very last"}])
      stop!(store)
      flip!(journal(dir), find!(journal(dir), "the very last"))
      store = open!(dir)
      assert [%{what: :damaged_group} | _] = Disk.report(store.name)
      assert {:error, %Error{reason: :read_only}} = Store.commit(store, [put("b", 3)])
    end

    test "groups are written into room that is there already, and the room is no damage", %{dir: dir} do
      store = open!(dir)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1)])
      size = byte_size(File.read!(journal(dir)))
      for n <- 2..5, do: :ok = Store.commit(store, [put("a", n)])
      assert byte_size(File.read!(journal(dir))) == size
      before = state(store)
      crash!(store)
      store = open!(dir)
      assert {state(store), Disk.report(store.name)} == {before, []}
      store = reopen!(store, dir)
      assert {state(store), Disk.report(store.name)} == {before, []}
    end

    test "a group that is gone leaves a gap, one before a torn tail is not part of it", %{dir: dir} do
      store = open!(dir)
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1)])
      :ok = Store.commit(store, [put("a", 2)])
      :ok = Store.commit(store, [put("a", 3)])
      crash!(store)
      path = journal(dir)
      groups = path |> File.read!() |> groups()
      last = length(groups) - 1
      flip = fn bytes -> binary_part(bytes, 0, byte_size(bytes) - 1) <> "!" end
      halve = fn bytes -> binary_part(bytes, 0, div(byte_size(bytes), 2)) end

      damages = [
        List.delete_at(groups, last - 1),
        groups |> List.update_at(last - 1, flip) |> List.update_at(last, halve),
        groups |> List.update_at(last - 1, flip) |> List.replace_at(last, "")
      ]

      whats =
        for damage <- damages, room <- ["", :binary.copy(<<0>>, 5_000)] do
          dir |> Path.join("journal-*") |> Path.wildcard() |> Enum.each(&File.rm!/1)
          File.write!(path, [damage, room])
          store = open!(dir)
          what = hd(Disk.report(store.name)).what
          stop!(store)
          what
        end

      assert whats == for(what <- [:damaged_group, :damaged_group, :torn_tail], _room <- 1..2, do: what)
    end

    test "a segment that is shorter, gone, or another one", %{dir: dir} do
      store = open!(dir)
      fill(store)
      :ok = Disk.rotate(store.name)
      stop!(store)
      [segment] = segments(dir)
      bytes = File.read!(segment)

      other = open!(dir <> "other")
      fill(other)
      stop!(other)
      [other] = segments(dir <> "other")

      damages = [
        short_segment: fn -> File.write!(segment, binary_part(bytes, 0, byte_size(bytes) - 1)) end,
        short_segment: fn -> File.write!(segment, "") end,
        missing_segment: fn -> File.rm!(segment) end,
        damaged_header: fn -> File.cp!(other, segment) end,
        damaged_header: fn -> flip!(segment, 3) end,
        damaged_record: fn -> flip!(segment, 70) end,
        damaged_euids: fn -> flip!(segment, find!(segment, euid(3))) end
      ]

      for {what, damage} <- damages do
        damage.()
        store = open!(dir)
        assert what in Enum.map(Disk.report(store.name), & &1.what)
        assert {:error, %Error{reason: :read_only}} = Store.commit(store, [put("b", 2)])
        assert {:ok, %{entries: [{1, :pool, "meta 1", "data 1"}]}} = Store.head(store, "b")
        stop!(store)
        File.write!(segment, bytes)
      end

      assert Disk.report(open!(dir).name) == []
    end

    test "a flipped byte of a block is found when it is read", %{dir: dir} do
      store = open!(dir)
      fill(store)
      [segment] = segments(dir)
      flip!(segment, find!(segment, "block 0 of a"))
      {:ok, [piece]} = Store.blocks(store, "a", {1, 1})
      assert {:error, %Error{reason: :corrupt}} = Store.read(piece)
      assert {:ok, %{intact: false}} = Store.head(store, "a")
    end
  end

  describe "the folder" do
    test "is refused if it is not a store's, a newer one's, or damaged", %{dir: dir, tmp_dir: tmp} do
      File.mkdir_p!(dir)
      File.write!(Path.join(dir, "notes.txt"), "mine")
      assert %{reason: :foreign} = open_error(dir)
      assert File.ls!(dir) -- ["lock"] == ["notes.txt"]

      other = Path.join(tmp, "other")
      stop!(open!(other))
      identity = File.read!(Path.join(other, "identity"))
      File.write!(Path.join(other, "identity"), String.replace(identity, "version 1", "version 2"))
      assert %{reason: :foreign, detail: "made by a newer version, 2" <> _} = open_error(other)
      flipped = String.replace(identity, "1024", "1025")
      File.write!(Path.join(other, "identity"), flipped)
      assert %{reason: :foreign} = open_error(other)
      File.rm!(Path.join(other, "identity"))
      assert %{reason: :foreign} = open_error(other)
      File.write!(Path.join(other, "identity"), identity)
      stop!(open!(other))

      store = open!(other)
      fill(store)
      stop!(store)

      for file <- ["identity" | Path.wildcard(other <> "/journal*")],
          do: File.rm!(Path.join(other, Path.basename(file)))

      assert %{reason: :foreign, detail: "segments without" <> _} = open_error(other)

      File.write!(Path.join(tmp, "file"), "")
      assert %{reason: :foreign} = open_error(Path.join(tmp, "file"))
      assert %{reason: :not_found} = open_error(Path.join(tmp, "none"), mode: :read)
    end

    test "has one writer, and as many readers as come", %{dir: dir} do
      store = open!(dir)
      fill(store)
      assert %{reason: :locked} = open_error(dir)
      reader = open!(dir, mode: :read)
      before = state(store)
      assert state(reader) == before
      assert {:error, %Error{reason: :read_only}} = Store.commit(reader, [put("b", 2)])
      # What the reader knows of the journal is gone after this; it looks again.
      :ok = Store.commit(store, [put("b", 2)])
      :ok = Disk.rotate(store.name)
      assert {:ok, %{entries: [{1, _, _, _}, {2, _, _, "data 2"}]}} = Store.head(reader, "b")
      assert state(reader) == state(store)
      :ok = Store.commit(store, [put("b", 3)])
      assert :ok = stop!(reader)
    end

    test "a reader that has to look again leaves nothing of its failed looks", %{dir: dir} do
      store = open!(dir)
      fill(store)
      reader = open!(dir, mode: :read)
      tables = tables_of(reader)
      :ok = Disk.rotate(store.name)
      FaultyFiles.fail(:open, Path.basename(journal(dir)), :emfile, times: 3, after: 1)
      heads = for _ <- 1..8, do: Task.async(fn -> Store.head(reader, "b") end)
      assert Enum.all?(Task.await_many(heads), &match?({:ok, %{entries: [_]}}, &1))
      assert tables_of(reader) == tables
    end

    defp tables_of(store) do
      pid = Process.whereis(store.name)
      Enum.count(:ets.all(), &(:ets.info(&1, :owner) == pid))
    end

    test "is its owner's alone, whoever made it, and no flow id is a path in it", %{dir: dir, tmp_dir: tmp} do
      File.mkdir!(dir)
      File.chmod!(dir, 0o755)
      store = open!(dir)
      flow = "../../outside/\\x00/%2e"
      :ok = Store.commit(store, [{:open, flow, "g"}, put(flow, 1, :tail), block(flow, 0, 1, [1])])
      :ok = Disk.rotate(store.name)

      for path <- [dir | Path.wildcard(Path.join(dir, "**"))] do
        {:ok, stat} = File.lstat(path)
        assert Bitwise.band(stat.mode, 0o777) == if(stat.type == :directory, do: 0o700, else: 0o600), path
      end

      assert File.ls!(tmp) == ["store"]
      names = for path <- Path.wildcard(Path.join(dir, "**")), File.regular?(path), do: Path.basename(path)
      assert Enum.all?(names, &(&1 =~ ~r/^(identity|lock|journal-[0-9a-f]{16}|[0-9a-f]{8}\.(segment|euids|index))$/))
    end

    test "a symbolic link in it is not followed", %{dir: dir, tmp_dir: tmp} do
      stop!(open!(dir))
      path = journal(dir)
      File.rename!(path, Path.join(tmp, "elsewhere"))
      File.ln_s!(Path.join(tmp, "elsewhere"), path)
      assert %{reason: :storage, detail: detail} = open_error(dir)
      assert detail =~ "not_regular"
    end

    test "a symbolic link in the place of a segment is not followed", %{dir: dir, tmp_dir: tmp} do
      store = open!(dir)
      fill(store)
      {:ok, [piece]} = Store.blocks(store, "a", {1, :infinity})
      stop!(store)
      [segment] = segments(dir)
      link!(segment, Path.join(tmp, "elsewhere"))
      assert {:error, %Error{reason: :storage}} = Store.read(piece)
      assert [%{what: :missing_segment} | _] = Disk.report(open!(dir).name)
    end

    test "a symbolic link in the place of the segments' folder is not followed", %{dir: dir, tmp_dir: tmp} do
      stop!(open!(dir))
      link!(Path.join(dir, "segments"), Path.join(tmp, "elsewhere"))
      assert %{reason: :storage} = open_error(dir)
      assert %{reason: :foreign} = open_error(dir, mode: :read)
    end

    defp link!(path, to) do
      File.rename!(path, to)
      File.ln_s!(to, path)
    end

    test "several stores in one VM do not meet", %{dir: dir} do
      stores = for i <- 1..3, do: open!(dir <> "#{i}")
      for store <- stores, do: :ok = Store.commit(store, [{:open, "a", "g"}, {:leaf, inspect(store.name)}])
      for store <- stores, do: assert({:ok, [inspect(store.name)]} == Store.log(store, {:leaves, 0, 9}))
    end
  end

  test "readers go on while the journal is rotated under them", %{dir: dir} do
    store = open!(dir, segment_bytes: 8192)
    reader = open!(dir, mode: :read)
    :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :tail), put("a", 2)])
    :ok = Disk.rotate(store.name)

    writer =
      Task.async(fn ->
        for seq <- 3..60 do
          :ok = Store.commit(store, [{:put, "a", seq - 1, :tail, "m", :keep}, put("a", seq), {:leaf, "#{seq}"}])
          if rem(seq, 3) == 0, do: :ok = Disk.rotate(store.name)
        end
      end)

    for _ <- 1..100, one <- [store, reader] do
      case Store.head(one, "a") do
        {:ok, %{entries: entries, next_seq: next}} ->
          assert Enum.map(entries, &elem(&1, 0)) == Enum.to_list(1..(next - 1))

        {:error, %Error{reason: :not_found}} when one == reader ->
          :opened_before_it
      end

      {:ok, %{leaves: leaves}} = Store.log(store, :size)
      {:ok, items} = Store.log(store, {:leaves, 0, leaves})
      assert items == Enum.map(3..(leaves + 2)//1, &to_string/1)
    end

    Task.await(writer, :infinity)
    assert state(open!(dir, mode: :read), ["a"]) == state(store, ["a"])
  end

  test "the log is read beside rotations, which move it", %{dir: dir} do
    store = open!(dir)
    stop = :atomics.new(1, [])

    readers =
      for _ <- 1..2 do
        Task.async(fn ->
          Stream.repeatedly(fn -> read_log(store) end) |> Enum.find(&(&1 != :ok or :atomics.get(stop, 1) == 1))
        end)
      end

    for i <- 0..15 do
      :ok = Store.commit(store, for(j <- 1..200, do: {:leaf, "#{200 * i + j - 1}"}))
      :ok = Disk.rotate(store.name)
    end

    :atomics.put(stop, 1, 1)
    assert Task.await_many(readers) == [:ok, :ok]
  end

  defp read_log(store) do
    {:ok, %{leaves: size}} = Store.log(store, :size)
    from = max(size - :rand.uniform(200), 0)
    expected = Enum.map(from..(size - 1)//1, &to_string/1)
    with {:ok, ^expected} <- Store.log(store, {:leaves, from, size - from}), do: :ok
  end

  test "neither a status nor a crash report shows a body", %{dir: dir} do
    store = open!(dir)
    :ok = Store.commit(store, [{:open, "a", "g"}, {:put, "a", 1, :pool, "meta", "BODY-OF-A-PATIENT"}])
    refute inspect(:sys.get_status(store.name), limit: :infinity, printable_limit: :infinity) =~ "BODY"
    FaultyFiles.fail(:pwrite, "journal", :badarg)
    FaultyFiles.watch(fn :pwrite, _path -> raise "struck" end)

    log =
      capture_log(fn ->
        catch_exit(Store.commit(store, [{:put, "a", 2, :pool, "meta", "BODY-OF-A-PATIENT"}]))
        FaultyFiles.unwatch()
      end)

    assert log =~ "struck"
    refute log =~ "BODY"
  end

  test "a wrong option raises", %{dir: dir} do
    assert_raise ArgumentError, ~r/:dir/, fn -> Disk.child_spec({:x, []}) end
    assert_raise ArgumentError, ~r/:segment_byte/, fn -> Disk.child_spec({:x, dir: dir, segment_byte: 1}) end
    assert_raise ArgumentError, fn -> Disk.child_spec({:x, dir: dir, mode: :append}) end
  end

  test "an unknown store is an exit, as of any process that is not there" do
    assert {:noproc, _} = catch_exit(Store.head(Store.handle(Disk, :no_such_store), "a"))
    assert {:noproc, _} = catch_exit(Store.commit(Store.handle(Disk, :no_such_store), []))
  end

  defp wait_for(check, tries \\ 3000),
    do: check.() or (tries > 0 and (Process.sleep(10) == :ok and wait_for(check, tries - 1)))
end
