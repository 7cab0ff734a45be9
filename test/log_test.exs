defmodule EventSeal.LogTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Checkpoint, Error, Native, PostgresServer, Proof, Signer, Store}
  alias EventSeal.Log.Tree

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    path = Path.join(dir, "log.key")
    {:ok, key} = Signer.File.generate(path, "clinic.example/log")
    name = :"log-#{System.unique_integer([:positive])}"
    %{key: key, path: path, name: name, dir: Path.join(dir, "store")}
  end

  defp start(context, opts \\ []) do
    store = Keyword.get(opts, :store, {Store.Disk, dir: context.dir})
    signer = Keyword.get(opts, :signer, {Signer.File, context.path})
    checkpoints = [signer: signer, every: Keyword.get(opts, :every, :infinity)]
    tree = {EventSeal, name: context.name, store: store, pool_window: 0, checkpoints: checkpoints}
    start_supervised!(tree, id: context.name)
    Store.handle(elem(store, 0), EventSeal.Instance.store_name(context.name))
  end

  defp options(Store.Disk, context), do: [dir: context.dir]
  defp options(Store.Memory, _context), do: []
  defp options(Store.Postgres, _context), do: PostgresServer.store!(PostgresServer.shared())

  defp append(name, flow, count) do
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..count, do: {flow, %{when: n, kind: "vital", body: "#{n}"}}))
  end

  defp leaves(store) do
    {:ok, %{leaves: count}} = Store.log(store, :size)
    {:ok, leaves} = Store.log(store, {:leaves, 0, count})
    for leaf <- leaves, do: elem(Native.read_leaf(leaf), 1)
  end

  for adapter <- [Store.Disk, Store.Memory, Store.Postgres] do
    test "#{inspect(adapter)}: blocks and tails have leaves, and a checkpoint is signed over them", context do
      store = start(context, store: {unquote(adapter), options(unquote(adapter), context)})
      append(context.name, "patient/1", 8)
      {:ok, 5} = EventSeal.seal(context.name, "patient/1")
      append(context.name, "patient/2", 2)

      assert {:ok, checkpoint} = EventSeal.checkpoint(context.name)
      assert {:ok, ^checkpoint} = Checkpoint.open(checkpoint.note, key: context.key)
      assert %{origin: "clinic.example/log", size: 3} = checkpoint
      {:ok, one} = EventSeal.head(context.name, "patient/1")
      {:ok, two} = EventSeal.head(context.name, "patient/2")

      assert [{:block, :sha256, genesis, 0, 5, hash} | tails] = leaves(store)
      assert {genesis, hash} == {one.genesis, one.block_hash}

      assert Enum.sort(tails) ==
               Enum.sort([
                 {:tail, :sha256, one.genesis, 8, one.provisional},
                 {:tail, :sha256, two.genesis, 2, two.provisional}
               ])

      # Nothing new: the same again, and nothing is written for it.
      assert {:ok, ^checkpoint} = EventSeal.checkpoint(context.name)
      append(context.name, "patient/2", 1)
      assert {:ok, %{size: 4} = later} = EventSeal.checkpoint(context.name)
      assert {:ok, %{leaves: 4, checkpoints: 2}} = Store.log(store, :size)

      {:ok, tree} = Tree.open(store)
      assert Tree.head(tree) == {4, later.root}
      assert Tree.root(tree, store, 3) == {:ok, checkpoint.root}
      assert {:ok, <<_::256, _::binary>>} = Tree.consistency(tree, store, 3, 4)
      assert {:error, %Error{reason: :not_found}} = Tree.inclusion(tree, store, 3, 5)
      assert {:error, %Error{reason: :not_found}} = Tree.inclusion(tree, store, 3, 3)
      assert Tree.block(tree, hash) == 0
    end
  end

  test "a closed flow's tail is in the log, and its last event has a provisional id there", context do
    store = start(context)
    append(context.name, "patient/1", 3)
    {:ok, _} = EventSeal.close(context.name, "patient/1")
    {:ok, _} = EventSeal.checkpoint(context.name)
    {:ok, %{genesis: genesis}} = EventSeal.head(context.name, "patient/1")
    assert [{:block, _, ^genesis, 0, 4, _}, {:tail, _, ^genesis, 4, <<_::256>>}] = leaves(store)
  end

  test "after a restart the log goes on where it was, and adds only what has changed", context do
    store = start(context)
    for n <- 1..30, do: append(context.name, "patient/#{n}", 4)
    {:ok, before} = EventSeal.checkpoint(context.name)
    append(context.name, "patient/7", 1)
    stop_supervised!(context.name)

    start(context)
    assert {:ok, later} = EventSeal.checkpoint(context.name)
    assert later.size == before.size + 1
    assert {:tail, :sha256, _, 5, _} = List.last(leaves(store))
    {:ok, tree} = Tree.open(store)
    assert {:ok, before.root} == Tree.root(tree, store, before.size)
  end

  test "checkpoints come by themselves", context do
    store = start(context, every: 20)
    append(context.name, "patient/1", 2)
    assert wait(fn -> match?({:ok, %{checkpoints: n}} when n > 0, Store.log(store, :size)) end)
  end

  test "another key is announced in the log, and what the old one signed stays valid", context do
    store = start(context)
    append(context.name, "patient/1", 1)
    {:ok, old} = EventSeal.checkpoint(context.name)
    stop_supervised!(context.name)

    path = context.path <> ".new"
    {:ok, key} = Signer.File.generate(path, "clinic.example/log")
    start(context, signer: {Signer.File, path})
    assert {:ok, new} = EventSeal.checkpoint(context.name)
    assert new.key == key and new.size == old.size + 1
    assert List.last(leaves(store)) == {:key_change, context.key, key}
    assert {:ok, _} = Checkpoint.open(old.note, key: [context.key, key])
    assert {:error, %Error{reason: :untrusted}} = Checkpoint.open(new.note, key: context.key)
  end

  test "a log that is not what was signed is not signed any more", context do
    store = start(context)
    append(context.name, "patient/1", 1)
    {:ok, checkpoint} = EventSeal.checkpoint(context.name)
    other = %{checkpoint | size: 2}
    {:ok, signer} = Signer.open(Signer.File, context.path)
    {:ok, false_one} = Signer.checkpoint(signer, 1, :binary.copy(<<7>>, 32))
    :ok = Store.commit(store, [{:checkpoint, Checkpoint.pack(%{false_one | key: other.key})}])
    stop_supervised!(context.name)

    log =
      ExUnit.CaptureLog.capture_log(fn ->
        start(context)
        assert {:error, %Error{reason: :corrupt}} = EventSeal.checkpoint(context.name)
      end)

    assert log =~ "signs no checkpoints"
    # Everything else goes on.
    append(context.name, "patient/1", 1)
    :alarm_handler.clear_alarm({EventSeal.Log, context.name})
  end

  test "without the option there are leaves, but nobody signs", context do
    start_supervised!({EventSeal, name: context.name, store: {Store.Disk, dir: context.dir}, pool_window: 0})
    append(context.name, "patient/1", 4)
    {:ok, 1} = EventSeal.seal(context.name, "patient/1")
    assert {:error, %Error{reason: :invalid, field: :checkpoints}} = EventSeal.checkpoint(context.name)
    store = Store.handle(Store.Disk, EventSeal.Instance.store_name(context.name))
    assert {:ok, %{leaves: 1, checkpoints: 0}} = Store.log(store, :size)
  end

  describe "a proof" do
    setup context do
      start(context)
      append(context.name, "patient/1", 9)
      {:ok, 6} = EventSeal.seal(context.name, "patient/1")
      {:ok, checkpoint} = EventSeal.checkpoint(context.name)
      %{checkpoint: checkpoint}
    end

    test "of each fixed event is checked by the key alone, with its body or without", context do
      for n <- 1..6 do
        {:ok, event} = EventSeal.event(context.name, "patient/1", n)
        assert {:ok, text} = EventSeal.prove(context.name, "patient/1", n)
        assert {:ok, proof} = Proof.verify(text, key: context.key)
        assert proof.event == %{event | body: nil, salt: nil}
        assert %{shown: false, index: 0, size: 2, suite: :sha256} = proof
        refute text =~ "body"

        assert {:ok, text} = EventSeal.prove(context.name, "patient/1", n, disclose: true)
        assert {:ok, proof} = Proof.verify(text, key: context.key)
        assert {proof.event, proof.shown} == {event, true}
      end
    end

    test "is not there before the event is fixed and a checkpoint covers it", context do
      prove = &EventSeal.prove(context.name, &1, &2)
      assert {:error, %Error{reason: :not_found}} = prove.("patient/1", 7)
      assert {:error, %Error{reason: :not_found}} = prove.("patient/1", 0)
      assert {:error, %Error{reason: :not_found}} = prove.("patient/2", 1)
      {:ok, _} = EventSeal.close(context.name, "patient/1")
      assert {:error, %Error{reason: :not_found, detail: detail}} = prove.("patient/1", 7)
      assert detail =~ "checkpoint"
      {:ok, _} = EventSeal.checkpoint(context.name)
      {:ok, text} = prove.("patient/1", 10)
      assert {:ok, %{event: %{kind: "$close"}}} = Proof.verify(text, key: context.key)
    end

    test "proves nothing to whoever trusts another key, asks for a witness, or was given another text", context do
      {:ok, text} = EventSeal.prove(context.name, "patient/1", 3, disclose: true)
      {:ok, other} = Signer.File.generate(context.path <> "2", "clinic.example/log")
      {:ok, foreign} = Signer.File.generate(context.path <> "3", "elsewhere.example/log")
      {:ok, witness} = Signer.File.generate(context.path <> "4", "witness.example/w", :witness)
      reason = fn text, policy -> elem(Proof.verify(text, policy), 1).reason end
      assert reason.(text, key: other) == :untrusted
      assert reason.(text, key: foreign) == :untrusted
      assert reason.(text, key: context.key, witnesses: [witness]) == :untrusted
      assert {:ok, _} = Proof.verify(text, key: context.key, witnesses: [witness], quorum: 0)
      assert reason.(String.replace(text, "kind vital", "kind other"), key: context.key) == :untrusted
      assert reason.(String.slice(text, 0..-2//1), key: context.key) == :malformed
      assert reason.("", key: context.key) == :malformed
      assert reason.(text, key: "none") == :invalid
      assert reason.(text, key: witness) == :invalid
      assert reason.(text, key: [context.key, context.key]) == :invalid
    end

    test "is not made of a block that is not what was logged", context do
      store = Store.handle(Store.Disk, EventSeal.Instance.store_name(context.name))
      {:ok, [%{at: {:file, path, offset, length}}]} = Store.blocks(store, "patient/1", {1, 6})
      {:ok, file} = :file.open(path, [:read, :write, :raw, :binary])
      {:ok, bytes} = :file.pread(file, offset, length)
      {at, 5} = :binary.match(bytes, "vital")
      :ok = :file.pwrite(file, offset + at, "other")
      :file.close(file)
      assert {:error, %Error{reason: :corrupt}} = EventSeal.prove(context.name, "patient/1", 1)
    end
  end

  describe "a key file" do
    test "is its owner's alone and never written over", context do
      assert %{mode: mode} = File.stat!(context.path)
      assert Bitwise.band(mode, 0o777) == 0o600
      assert {:error, %Error{reason: :storage}} = Signer.File.generate(context.path, "clinic.example/log")

      File.chmod!(context.path, 0o640)
      assert {:error, %Error{reason: :invalid, field: :signer, rule: rule}} = Signer.File.open(context.path)
      assert rule =~ "0600"
      File.rm!(context.path)
      assert {:error, %Error{reason: :storage}} = Signer.File.open(context.path)
      File.ln_s!("/dev/null", context.path)
      assert {:error, %Error{reason: :invalid}} = Signer.File.open(context.path)
    end

    test "that is none is refused, and so is a wrong name", context do
      for text <- ["", "PRIVATE+KEY+a", File.read!(context.path) |> String.replace("clinic", "other")] do
        File.write!(context.path, text)
        assert {:error, %Error{reason: :invalid, field: :key}} = Signer.File.open(context.path)
      end

      for name <- ["", "a b", "a+b"] do
        assert {:error, %Error{reason: :invalid}} = Signer.File.generate(Path.join(context.tmp_dir, "k"), name)
        refute File.exists?(Path.join(context.tmp_dir, "k"))
      end
    end

    test "keeps a tree that needs it from starting", context do
      File.chmod!(context.path, 0o644)
      Process.flag(:trap_exit, true)
      opts = [name: context.name, store: Store.Memory, checkpoints: [signer: {Signer.File, context.path}]]
      assert {:error, reason} = EventSeal.start_link(opts)
      assert inspect(reason) =~ "0600"
    end

    test "shows its secret in no state, message or store", context do
      start(context)
      append(context.name, "patient/1", 1)
      {:ok, _} = EventSeal.checkpoint(context.name)

      ["PRIVATE", "KEY", _name, _id, secret] =
        context.path |> File.read!() |> String.trim() |> String.split("+", parts: 5)

      <<_purpose, seed::binary>> = Base.decode64!(secret)
      log = Module.concat(context.name, "Log")
      shown = inspect({:sys.get_state(log), :sys.get_status(log), Process.info(Process.whereis(log))}, limit: :infinity)
      for hidden <- [secret, inspect(seed), inspect(seed, base: :hex)], do: refute(shown =~ hidden)

      for file <- Path.wildcard(Path.join(context.dir, "**")), File.regular?(file) do
        refute :binary.match(File.read!(file), [seed, secret]) != :nomatch
      end
    end
  end

  defp wait(fun, tries \\ 200) do
    cond do
      fun.() -> true
      tries == 0 -> false
      true -> Process.sleep(10) && wait(fun, tries - 1)
    end
  end
end
