defmodule EventSeal.SinceTest do
  # Verification since a checkpoint: what it covers is not looked at again, and that is said; what came later is, and whether
  # all that it covers is still there.
  # Not beside other tests that run commands: a command's store has one name.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine
  import EventSeal.Forgery, only: [edit: 4, leaves: 1, put: 3, read: 1, write!: 2]
  alias EventSeal.{BitRot, Chain, Checkpoint, Error, Native, Signer, Store, Verdict, Verifier}

  @moduletag :tmp_dir

  # Before the checkpoint: one flow of two blocks and a tail, one that is closed, two of the sandbox alone. After it the first
  # grows by a block, one of the sandbox is closed, and one begins.
  setup %{tmp_dir: tmp} do
    paths = Map.new([:store, :forged, :key_file], &{&1, Path.join(tmp, "#{&1}")})
    {:ok, key} = Signer.File.generate(paths.key_file, "clinic.example/log")
    context = Map.merge(paths, %{key: key, name: :"since-#{System.unique_integer([:positive])}"})
    start(context)
    append(context, "patient/1", 1..7)
    {:ok, 4} = EventSeal.seal(context.name, "patient/1")
    append(context, "patient/1", 8..10)
    {:ok, 3} = EventSeal.seal(context.name, "patient/1")
    append(context, "patient/2", 1..5)
    append(context, "patient/3", 1..2)
    append(context, "patient/5", 1..3)
    {:ok, _} = EventSeal.close(context.name, "patient/5")
    {:ok, checkpoint} = EventSeal.checkpoint(context.name)
    append(context, "patient/1", 11..16)
    {:ok, 6} = EventSeal.seal(context.name, "patient/1")
    {:ok, _} = EventSeal.close(context.name, "patient/2")
    append(context, "patient/4", 1..9)
    {:ok, 6} = EventSeal.seal(context.name, "patient/4")
    {:ok, last} = EventSeal.checkpoint(context.name)
    Map.merge(context, %{checkpoint: checkpoint, last: last, since: [since: checkpoint.note, key: key]})
  end

  defp start(context, key_file \\ nil) do
    checkpoints = [signer: {Signer.File, key_file || context.key_file}, every: :infinity]
    opts = [name: context.name, store: {Store.Disk, dir: context.store}, pool_window: 0, checkpoints: checkpoints]
    start_supervised!({EventSeal, opts}, id: context.name)
  end

  defp append(context, flow, numbers) do
    items = for n <- numbers, do: {flow, %{when: n, kind: "vital", body: "#{flow} body #{n}."}}
    {:ok, _} = EventSeal.append_many(context.name, items)
  end

  defp run(dir, opts), do: BitRot.open(dir, :read, &Verifier.run(&1, opts))

  defp faults({:ok, verdict}), do: for(fault <- verdict.faults, do: {fault.flow, fault.position, fault.class})

  # What is stored of these bytes becomes other bytes.
  defp forge(context, text, other) do
    stop_supervised!(context.name)
    rewrite(context, text, other)
  end

  defp rewrite(context, text, other) do
    [{path, at}] =
      for path <- Path.wildcard(context.store <> "/**/*.segment"),
          {at, _} <- :binary.matches(File.read!(path), text),
          do: {path, at}

    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, other)
    :ok = :file.close(file)
  end

  defp forged(context, state, opts \\ nil) do
    write!(state, context.forged)
    run(context.forged, opts || context.since)
  end

  defp with_own_log(context, state) do
    leaves = for {_flow, parts} <- state.flows, leaf <- leaves(parts), do: leaf
    {size, root} = Native.ledger_learn(Native.ledger(), leaves)
    {:ok, signer} = Signer.open(Signer.File, context.key_file)
    {:ok, signed} = Signer.checkpoint(signer, size, root)
    %{state | leaves: leaves, checkpoints: [Checkpoint.pack(signed)]}
  end

  test "an honest store has only looked at what came later, and says so", context do
    assert {:ok, %{events: 37, unseen: 0, since: nil, covered: 37}} = EventSeal.verify(context.name)

    for since <- [context.checkpoint, context.checkpoint.note] do
      assert {:ok, verdict} = EventSeal.verify(context.name, since: since, key: context.key)
      assert Verdict.ok?(verdict)
      # The first block of patient/1, and the two flows that are as they were.
      assert %{unseen: 10, since: 7, flows: 3, checkpoint: 13} = verdict
      assert %{events: 27, covered: 27} = verdict
    end

    # Nothing has come since the last one.
    assert {:ok, verdict} = EventSeal.verify(context.name, since: context.last, key: context.key)
    assert %{events: 0, flows: 0, unseen: 37, covered: 0, fault_count: 0} = verdict

    # What is not in the log yet is looked at, too.
    append(context, "patient/3", 3..3)
    append(context, "patient/6", 1..5)

    assert {:ok, %{events: 8, unseen: 35, fault_count: 0}} =
             EventSeal.verify(context.name, since: context.last, key: context.key)

    {:ok, _} = EventSeal.seal(context.name, "patient/6")

    assert {:ok, %{events: 8, unseen: 35, fault_count: 0}} =
             EventSeal.verify(context.name, since: context.last, key: context.key)
  end

  test "what was changed before is not looked at, which the verdict says", context do
    forge(context, "patient/1 body 2.", "patient/1 body X.")
    assert {:ok, verdict} = run(context.store, context.since)
    assert Verdict.ok?(verdict)
    assert verdict.unseen == 10
    assert faults(run(context.store, [])) == [{"patient/1", 2, :commitment}]
    assert {0, text} = command(:verify, ["--dir", context.store | files(context)])
    assert text =~ "since the checkpoint of 7 leaves: 10 events that it covers NOT looked at"
  end

  test "what was changed later is found", context do
    forge(context, "patient/1 body 12.", "patient/1 body XX.")
    assert faults(run(context.store, context.since)) == [{"patient/1", 12, :commitment}]
    assert {1, text} = command(:verify, ["--dir", context.store | files(context)])
    assert text =~ "patient/1, position 12, block 2: commitment"
  end

  test "what was changed next to it is found by the seams and the log", context do
    stop_supervised!(context.name)
    honest = read(context.store)
    # All is recomputed: the block that the checkpoint covers last is not the one that was logged.
    assert [{"patient/1", 5, :log} | _] = context |> forged(edit(honest, "patient/1", 2, "forged")) |> faults()
    File.rm_rf!(context.forged)
    # Of a flow of which only an end is covered all is looked at.
    assert [{"patient/2", 1, :log}] = context |> forged(edit(honest, "patient/2", 3, "forged")) |> faults()
    File.rm_rf!(context.forged)
    assert forged(context, honest) |> faults() == []
  end

  test "a log that was written anew is found, and then everything is looked at", context do
    stop_supervised!(context.name)
    state = with_own_log(context, edit(read(context.store), "patient/1", 2, "forged"))
    state = with_own_log(context, %{state | leaves: state.leaves})
    assert {:ok, verdict} = forged(context, state)
    assert [{"log", 7, :log}] = faults({:ok, verdict})
    assert %{unseen: 0, since: nil, events: 37} = verdict
    File.rm_rf!(context.forged)
    # One leaf alone.
    honest = read(context.store)
    [first | rest] = honest.leaves
    assert {"log", 7, :log} in (context |> forged(%{honest | leaves: rest ++ [first]}) |> faults())
    File.rm_rf!(context.forged)
    short = %{honest | leaves: Enum.take(honest.leaves, 6), checkpoints: []}
    assert {"log", 7, :rolled_back} in (context |> forged(short) |> faults())
  end

  describe "a flow that was" do
    setup context do
      stop_supervised!(context.name)
      %{honest: read(context.store)}
    end

    test "cut back is found, wherever", %{honest: honest} = context do
      for {flow, count} <- [{"patient/1", 12}, {"patient/1", 9}, {"patient/1", 3}, {"patient/3", 1}, {"patient/4", 8}] do
        File.rm_rf!(context.forged)
        %{events: events, cuts: cuts} = honest.flows[flow]
        cuts = Enum.take_while(cuts, fn _ -> count > 12 end)
        faults = context |> forged(put(honest, flow, events: Enum.take(events, count), cuts: cuts)) |> faults()
        assert [_ | _] = faults, "#{flow} #{count}"
        assert Enum.all?(faults, &match?({^flow, _, :log}, &1)), inspect(faults)
      end
    end

    test "cut back and has grown again is found", %{honest: honest} = context do
      flow = honest.flows["patient/1"]

      for {kept, cuts} <- [{3, []}, {9, []}, {9, Enum.take(flow.cuts, 2)}, {12, Enum.take(flow.cuts, 2)}] do
        File.rm_rf!(context.forged)
        events = Enum.take(flow.events, kept) ++ Enum.map(1..12, &other(List.last(flow.events), &1))
        faults = context |> forged(put(honest, "patient/1", events: events, cuts: cuts)) |> faults()
        assert [{"patient/1", _, :log} | _] = faults, "#{kept}"
      end
    end

    test "dropped is found, even if nothing had come since", %{honest: honest} = context do
      for n <- 1..5 do
        File.rm_rf!(context.forged)
        {_gone, flows} = Map.pop(honest.flows, "patient/#{n}")
        assert [{"genesis " <> _, _, :log}] = context |> forged(%{honest | flows: flows}) |> faults()
      end
    end

    test "closed and was opened again is found", %{honest: honest} = context do
      %{events: events} = honest.flows["patient/5"]
      open = [closed: false, events: Enum.drop(events, -1), cuts: []]
      assert [{"patient/5", _, :log} | _] = context |> forged(put(honest, "patient/5", open)) |> faults()
    end
  end

  defp other(draft, n) do
    draft = put_elem(draft, 9, "other #{n}")
    Chain.stamp(draft, euid: <<n::128>>, recorded_at: elem(draft, 2) + 10_000_000, salt: <<n::128>>)
  end

  test "a checkpoint that is not to be believed is an error, never a verdict", context do
    {:ok, foreign} = Signer.File.generate(context.key_file <> "2", "elsewhere.example/log")
    {:ok, newer} = Signer.File.generate(context.key_file <> "3", "clinic.example/log")
    verify = &EventSeal.verify(context.name, since: &1, key: &2)

    for key <- [foreign, newer, [foreign, newer]],
        do: assert({:error, %Error{reason: :untrusted}} = verify.(context.checkpoint, key))

    {:ok, signer} = Signer.open(Signer.File, context.key_file <> "2")
    {:ok, theirs} = Signer.checkpoint(signer, context.checkpoint.size, context.checkpoint.root)
    assert {:error, %Error{reason: :untrusted}} = verify.(theirs, context.key)
    # It is of another log, though its key is believed.
    assert {:ok, %{faults: [], unseen: 10}} = verify.(theirs, foreign)
    changed = String.replace(context.checkpoint.note, "\n7\n", "\n6\n")
    assert {:error, %Error{reason: :untrusted}} = verify.(changed, context.key)
    assert {:error, %Error{reason: :malformed}} = verify.("none", context.key)

    # The log's key changes: what the one before has signed is believed by that one alone.
    stop_supervised!(context.name)
    start(context, context.key_file <> "3")
    {:ok, %{key: ^newer} = signed} = EventSeal.checkpoint(context.name)
    assert {:error, %Error{reason: :untrusted}} = verify.(context.checkpoint, newer)
    assert {:ok, %{since: 7, faults: []}} = verify.(context.checkpoint, [context.key, newer])
    assert {:ok, %{since: 14, events: 0, faults: []}} = verify.(signed, newer)
  end

  test "it needs a key, and goes together with no part of a store", context do
    verify = &EventSeal.verify(context.name, &1)
    assert_raise ArgumentError, ~r/need each other/, fn -> verify.(since: context.checkpoint) end
    assert_raise ArgumentError, ~r/need each other/, fn -> verify.(since: 3, flow: "patient/1", key: context.key) end
    assert_raise ArgumentError, ~r/needs the option :flow/, fn -> verify.(since: 3) end
    assert_raise ArgumentError, ~r/a position or a checkpoint/, fn -> verify.(since: :today) end

    for other <- [flow: "patient/1", after: "patient/1", for: 10, checkpoint: "file"] do
      assert_raise ArgumentError, ~r/do not go together/, fn -> verify.([other | context.since]) end
    end
  end

  test "a verification that did not look at all does not clear the alarm", context do
    forge(context, "patient/1 body 2.", "patient/1 body X.")
    start(context)
    alarmed? = fn -> List.keymember?(:alarm_handler.get_alarms(), {EventSeal, context.name}, 0) end
    assert {:ok, %{fault_count: 1}} = EventSeal.verify(context.name)
    assert alarmed?.()
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(context.name, context.since)
    assert alarmed?.()
    rewrite(context, "patient/1 body X.", "patient/1 body 2.")
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(context.name)
    refute alarmed?.()
  end

  test "the command cannot run with a wrong key, without one, or with two checkpoints", context do
    stop_supervised!(context.name)
    {:ok, other} = Signer.File.generate(context.key_file <> "2", "clinic.example/log")
    ["--since", since, "--key", key] = files(context)
    assert {0, _} = command(:verify, ["--dir", context.store, "--since", since, "--key", other, "--key", key])
    assert {2, text} = command(:verify, ["--dir", context.store, "--since", since, "--key", other])
    assert text =~ "no key of the log has signed it"
    assert {2, text} = command(:verify, ["--dir", context.store, "--since", since <> "x", "--key", key])
    assert text =~ "no such file"

    for args <- [["--since", since], ["--key", key], ["--since", since, "--checkpoint", since, "--key", key]] do
      assert {2, "usage" <> _} = command(:verify, ["--dir", context.store | args])
    end
  end

  defp files(context) do
    path = context.store <> ".checkpoint"
    File.write!(path, context.checkpoint.note)
    ["--since", path, "--key", context.key]
  end
end
