defmodule EventSeal.BackupTest do
  # A store is copied by `cp`, file by file in the order that ARCHITECTURE.md gives, while it is written as fast as it can
  # be and its journal is rotated all the time. Each copy opens, verifies, and holds what was acknowledged before it began.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine

  alias EventSeal.{Heads, Store, Verdict}
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 600_000
  @copies 12

  defp start!(name, dir) do
    store = {Disk, dir: dir, journal_bytes: 16_384, segment_bytes: 65_536}
    block = [max_events: 8, max_bytes: 1_000_000, max_age: :infinity]
    start_supervised!({EventSeal, name: name, store: store, pool_window: 0, block: block}, id: name)
  end

  # What a crash would show too: no name of the copy is that of the store.
  defp restored(dir, fun) do
    name = :"restored_#{System.unique_integer([:positive])}"
    start!(name, dir)
    result = fun.(name)
    stop_supervised!(name)
    result
  end

  # The commands of ARCHITECTURE.md, tried again if a rotation took the journal away before it was opened.
  defp copy!(dir, to, tries \\ 100) do
    File.mkdir_p!(to)
    {said, status} = System.cmd("sh", ["-c", commands(), "sh", dir, to], stderr_to_stdout: true)
    if status != 0 and tries == 0, do: flunk(said)
    if status != 0, do: copy!(dir, to, tries - 1)
  end

  defp commands do
    [_, commands] = Regex.run(~r/### Backup\n.*?((?:\n    cp [^\n]*)+)/s, File.read!("ARCHITECTURE.md"))

    commands
    |> String.replace("DIR", "$1")
    |> String.replace("NEW", "$2")
    |> String.replace("\n", " && ")
    |> String.trim_leading(" && ")
  end

  defp load(name, worker, acknowledged) do
    Stream.iterate(1, &(&1 + 1))
    |> Enum.reduce_while(nil, fn n, _ ->
      flow = "flow/#{worker}/#{div(n, 60)}"
      {:ok, receipt} = EventSeal.append(name, flow, %{when: n, kind: "k", body: String.duplicate("#{n} ", 40)})
      :ets.insert(acknowledged, {{flow, receipt.euid}, n})
      if rem(n, 60) == 59, do: EventSeal.close(name, flow)
      if :ets.member(acknowledged, :stop), do: {:halt, :stopped}, else: {:cont, nil}
    end)
  end

  test "under load a copy holds all that was acknowledged before it began, and none is taken for a later one",
       context do
    dir = Path.join(context.tmp_dir, "store")
    start!(__MODULE__, dir)
    acknowledged = :ets.new(:acknowledged, [:public])
    workers = for worker <- 1..4, do: Task.async(fn -> load(__MODULE__, worker, acknowledged) end)
    store = Store.handle(Disk, EventSeal.Instance.store_name(__MODULE__))

    taken =
      for number <- 1..@copies do
        known = for {{flow, euid}, _n} <- :ets.tab2list(acknowledged), do: {flow, euid}
        heads = Path.join(context.tmp_dir, "heads-#{number}")
        {:ok, _count} = Heads.write(store, heads)
        generation = journal(dir)
        copy!(dir, Path.join(context.tmp_dir, "copy-#{number}"))
        {number, known, heads, generation}
      end

    :ets.insert(acknowledged, {:stop, 0})
    Task.await_many(workers, :infinity)
    # The journal was rotated meanwhile, again and again.
    assert taken |> Enum.map(&elem(&1, 3)) |> Enum.uniq() |> length() > 3
    last = Path.join(context.tmp_dir, "heads-last")
    {:ok, _count} = Heads.write(store, last)
    for copy <- taken, do: check(context.tmp_dir, copy, last)
    assert {:ok, %Verdict{fault_count: 0}} = EventSeal.verify(__MODULE__, head: last)
  end

  defp journal(dir), do: dir |> Path.join("journal-*") |> Path.wildcard() |> Enum.map(&Path.basename/1)

  defp check(tmp, {number, known, heads, _generation}, last) do
    restored(Path.join(tmp, "copy-#{number}"), fn name ->
      assert {:ok, verdict} = EventSeal.verify(name, head: heads)
      assert {number, [], []} == {number, verdict.faults, verdict.damage}
      assert {number, []} == {number, known -- there(name)}
      # With the last known head the copy is recognised as an earlier one.
      assert {:ok, rolled_back} = EventSeal.verify(name, head: last)
      refute Verdict.ok?(rolled_back)
      assert Enum.all?(rolled_back.faults, &(&1.class == :rolled_back))
      assert {:ok, _receipt} = EventSeal.append(name, "flow/new", %{when: 1, kind: "k"})
    end)
  end

  defp there(name) do
    for flow <- EventSeal.flows(name), event <- EventSeal.stream(name, flow), do: {flow, event.euid}
  end

  describe "a known head" do
    setup %{tmp_dir: tmp} do
      dir = Path.join(tmp, "store")
      start!(__MODULE__, dir)
      for flow <- ["a", "b"], n <- 1..20, do: EventSeal.append!(__MODULE__, flow, %{when: n, kind: "k"})
      {:ok, _} = EventSeal.close(__MODULE__, "b")
      stop_supervised!(__MODULE__)
      {:ok, dir: dir, heads: Path.join(tmp, "heads")}
    end

    test "is extended by what comes later, sealed or not", %{dir: dir, heads: heads} do
      head!(dir, heads)
      start!(__MODULE__, dir)
      assert {:ok, verdict} = EventSeal.verify(__MODULE__, head: heads)
      assert Verdict.ok?(verdict)
      for flow <- ["a", "c"], n <- 1..30, do: EventSeal.append!(__MODULE__, flow, %{when: n, kind: "k"})
      assert {:ok, %{fixed: fixed}} = EventSeal.head(__MODULE__, "a")
      assert fixed > 20
      assert {:ok, verdict} = EventSeal.verify(__MODULE__, head: heads)
      assert Verdict.ok?(verdict)
    end

    test "names what is missing, shorter or another, and sets the alarm", %{dir: dir, heads: heads, tmp_dir: tmp} do
      earlier = Path.join(tmp, "earlier")
      File.cp_r!(dir, earlier)
      start!(__MODULE__, dir)
      for flow <- ["a", "c"], n <- 1..3, do: EventSeal.append!(__MODULE__, flow, %{when: n, kind: "k"})
      stop_supervised!(__MODULE__)
      head!(dir, heads)

      restored(earlier, fn name ->
        assert {:ok, verdict} = EventSeal.verify(name, head: heads)
        assert [%{class: :rolled_back, flow: "a", position: 23, recorded: nil}, missing] = verdict.faults

        assert %{class: :rolled_back, flow: "genesis " <> _, position: 3, recorded: nil, recomputed: <<_::256>>} =
                 missing

        # Written on, it is as long, and another history.
        for n <- 1..3, do: EventSeal.append!(name, "a", %{when: n, kind: "other"})
        assert {:ok, verdict} = EventSeal.verify(name, head: heads)
        assert [%{flow: "a", position: 23, recorded: <<_::256>>}, _missing] = verdict.faults
        {:ok, _} = EventSeal.close(name, "a")
        assert {:ok, verdict} = EventSeal.verify(name, head: heads)
        assert [%{flow: "a", position: 23, recorded: <<_::256>>}, _missing] = verdict.faults
      end)
    end

    test "is a small file that names no flow; what is none is refused", %{dir: dir, heads: heads} do
      head!(dir, heads)
      text = File.read!(heads)
      assert ["event-seal-heads/1", line, _other, ""] = String.split(text, "\n")
      assert line =~ ~r/^[0-9a-f]{64} (20 [0-9a-f]{64} 16|21 [0-9a-f]{64} 21) [0-9a-f]{64}$/
      {:ok, %{mode: mode}} = File.stat(heads)
      assert Bitwise.band(mode, 0o777) == 0o600

      for wrong <- [
            "",
            "event-seal-heads/2\n",
            text <> "x\n",
            text <> line <> "\n",
            String.replace(text, line, line <> " 1"),
            String.trim(text)
          ] do
        File.write!(heads, wrong)
        assert {2, said} = command(:verify, ["--dir", dir, "--head", heads])
        assert said =~ "not a file of heads"
      end

      assert {2, _} = command(:verify, ["--dir", dir, "--head", heads <> ".none"])
      assert_raise ArgumentError, ~r/:head/, fn -> restored(dir, &EventSeal.verify(&1, head: heads, flow: "a")) end
    end

    test "is a command's, for both", %{dir: dir, heads: heads, tmp_dir: tmp} do
      earlier = Path.join(tmp, "earlier")
      File.cp_r!(dir, earlier)
      start!(__MODULE__, dir)
      EventSeal.append!(__MODULE__, "a", %{when: 1, kind: "k"})
      assert {0, text} = command(:head, ["--dir", dir, "--out", heads])
      assert text =~ "the heads of 2 flows"
      assert {0, _} = command(:verify, ["--dir", dir, "--head", heads])
      assert {0, _} = command(:verify, ["--dir", earlier])
      assert {1, text} = command(:verify, ["--dir", earlier, "--head", heads])
      assert text =~ "position 21: rolled_back"
      assert {2, _} = command(:head, ["--dir", dir])
      assert {2, _} = command(:verify, ["--head", heads])
    end
  end

  defp head!(dir, heads), do: assert({0, _text} = command(:head, ["--dir", dir, "--out", heads]))
end
