defmodule EventSeal.BitRotTest do
  # Every byte of every file of a store with two hundred events is flipped, and the store opened, read and verified as a
  # host would: what is wrong is said, no other answer is given, and nothing is lost but what was hit.
  use ExUnit.Case, async: false

  alias EventSeal.{BitRot, Error, Heads, SmallStore, Store, Verdict, Verifier}
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag timeout: 1_800_000
  @patterns {1, 2, 4, 8, 16, 32, 64, 128, 255}

  setup_all do
    # Each of thousands of openings would say what is wrong.
    Logger.put_module_level(Disk.Committer, :none)
    on_exit(fn -> Logger.delete_module_level(Disk.Committer) end)
  end

  setup %{tmp_dir: tmp} do
    dir = Path.join(tmp, "store")
    SmallStore.make!(dir)
    good = BitRot.open(dir, :read, &BitRot.shown/1)
    files = BitRot.files(dir)
    assert 200 == Enum.sum(for {_flow, {{:ok, head}, _blocks}} <- good.flows, do: head.fixed + length(head.entries))
    {:ok, store: %{dir: dir, files: files, good: good, at: BitRot.positions(good), regions: BitRot.regions(dir, files)}}
  end

  test "a flipped byte anywhere is found and named; nothing is lost but what it hit", %{store: store, tmp_dir: tmp} do
    struck =
      store.regions
      |> rounds()
      |> Enum.with_index()
      |> Enum.group_by(fn {_round, number} -> rem(number, System.schedulers_online()) end)
      |> Task.async_stream(&shard(&1, store, tmp), timeout: :infinity)
      |> Enum.flat_map(fn {:ok, found} -> found end)

    # All there is, but for the room behind the journal's last group.
    room = for {"journal-" <> _ = name, bytes} <- store.files, do: byte_size(bytes) - last(store.regions, name)
    assert Enum.count(struck) == Enum.sum(for {_name, bytes} <- store.files, do: byte_size(bytes)) - Enum.sum(room)
    # Slack: bytes whose loss changes no answer, since they are not needed any more or are made anew.
    slack = for {flip, :harmless} <- struck, do: slack(flip.region)

    assert Enum.frequencies(slack) ==
             Enum.frequencies(for flip <- flips(store.regions), slack?(flip.region), do: slack(flip.region))
  end

  defp last(regions, name), do: Enum.max(for region <- regions, region.file == name, do: region.to)

  describe "a file that is" do
    setup %{store: store} do
      SmallStore.another_day!(store.dir)
      heads = store.dir <> ".heads"
      {:ok, 6} = BitRot.open(store.dir, :read, &Heads.write(&1, heads))
      {:ok, today: BitRot.files(store.dir), heads: heads}
    end

    test "truncated or emptied is found", %{store: store, today: today, heads: heads} do
      for {name, bytes} <- today, bytes != "", length <- lengths(name, bytes) do
        strike!(store.dir, Map.put(today, name, binary_part(bytes, 0, length)), heads, {name, :cut_to, length})
      end
    end

    test "deleted, or in another one's place, is found", %{store: store, today: today, heads: heads} do
      names = for {name, bytes} <- today, bytes != "", not String.ends_with?(name, [".euids", ".index"]), do: name
      for name <- names, do: strike!(store.dir, Map.delete(today, name), heads, {name, :deleted})

      for one <- names, other <- names, one < other do
        swapped = Map.merge(today, %{one => today[other], other => today[one]})
        strike!(store.dir, swapped, heads, {one, :swapped_with, other})
      end
    end

    test "there twice, under another number, is found or set aside", %{store: store, today: today, heads: heads} do
      [journal] = for "journal-" <> _ = name <- Map.keys(today), do: name
      newer = "journal-00000000000000ff"
      strike!(store.dir, Map.put(today, newer, today[journal]), heads, :newer_journal)

      for name <- Map.keys(today), String.ends_with?(name, ".segment"), number <- ["00000000", "000000ff"] do
        assert :harmless == struck(store.dir, Map.put(today, "segments/#{number}.segment", today[name]), heads)
        assert [aside] = File.ls!(Path.join(store.dir, "aside"))
        assert aside =~ number
      end
    end

    test "yesterday's is found, alone or with others", %{store: store, today: today, heads: heads} do
      yesterday = store.files
      {journals, others} = Enum.split_with(yesterday, fn {name, _} -> name =~ "journal" end)
      without = Map.reject(today, fn {name, _} -> name =~ "journal" end)
      strike!(store.dir, Map.merge(without, Map.new(journals)), heads, :journal_of_yesterday)
      strike!(store.dir, yesterday, heads, :all_of_yesterday)
      strike!(store.dir, Map.merge(today, Map.new(others)), heads, :segments_of_yesterday)

      for {name, bytes} <- others,
          name =~ ".segment",
          today[name] != bytes,
          do: strike!(store.dir, Map.put(today, name, bytes), heads, {name, :of_yesterday})
    end
  end

  # Each length where something ends or begins, the ones beside it, and some between.
  defp lengths(name, bytes) do
    size = byte_size(bytes)
    step = if String.ends_with?(name, [".euids", ".index"]), do: 200, else: 997

    Enum.filter(
      Enum.uniq(
        [0, 1, 8, 63, 64, 65, 71, 72, 73, div(size, 2), size - 33, size - 1] ++ Enum.to_list(0..(size - 1)//step)
      ),
      &(&1 in 0..(size - 1))
    )
  end

  defp strike!(dir, files, heads, what), do: refute({what, :unseen} == {what, struck(dir, files, heads)})

  # How it is found, reading first, then as a host that wants to write, and that asks with a head that it knows.
  defp struck(dir, files, heads) do
    Process.flag(:trap_exit, true)
    BitRot.restore!(dir, files)

    looks =
      for mode <- [:read, :write] do
        BitRot.open(dir, mode, fn store ->
          {:ok, verdict} = Verifier.run(store, threads: 1)
          {:ok, known} = Verifier.run(store, threads: 1, head: heads)
          if known.fault_count > verdict.fault_count, do: assert(:rolled_back in Enum.map(known.faults, & &1.class))
          {Verdict.ok?(verdict), Verdict.ok?(known), Store.recover(store, 0..1023).damage}
        end)
      end

    case looks do
      [{:error, %Error{reason: reason}}, {:error, %Error{reason: reason}}] when reason in [:foreign, :not_found] ->
        :refused

      [{false, false, _}, {false, false, _}] ->
        :named

      [{true, false, []}, {true, false, []}] ->
        :rolled_back

      [{true, true, []}, {true, true, []}] ->
        if whole?(dir), do: :harmless, else: :unseen

      _other ->
        flunk(inspect(looks))
    end
  end

  # What the day left is all there.
  defp whole?(dir) do
    BitRot.open(dir, :read, fn store ->
      Enum.all?([{"ward/a", 118}, {"ward/b", 98}, {"ward/s", 5}, {"ward/t", 1}], fn {flow, last} ->
        {:ok, head} = Store.head(store, flow)
        last == max(head.fixed, head.entries |> EventSeal.Record.settled() |> Enum.map(& &1.n) |> Enum.max(fn -> 0 end))
      end)
    end)
  end

  # The index and the fingerprints of a finished segment (made anew from it), the group that says that the journal was
  # closed in order (without it the journal ends as in a crash), and what a tail record holds that a later one of the flow
  # has superseded, or that holds no entry at all, but spent euids.
  defp slack?(region), do: slack(region) in [:derived, :closing, :superseded]
  defp slack(%{part: :derived}), do: :derived
  defp slack(%{holds: [:closing]}), do: :closing

  defp slack(%{part: part, file: file, holds: [{:flow, flow} | entries]}) when part in [:sum, :payload],
    do: if(entries == [] or {flow, file} == {"ward/a", "segments/00000002.segment"}, do: :superseded, else: part)

  defp slack(region), do: region.part

  defp flips(regions) do
    for region <- regions, at <- region.from..(region.to - 1)//1, do: %{region: region, at: at}
  end

  # One flip at a time in the journal and the identity; one in each segment at a time, in what opening reads of it; and one
  # in each record at a time in payloads, which stand for themselves: in blocks, then, for each file, in what is no block.
  defp rounds(regions) do
    {payloads, others} = Enum.split_with(regions, &(&1.part in [:sum, :payload]))
    {derived, others} = Enum.split_with(others, &(&1.part == :derived))
    {segments, others} = Enum.split_with(others, &String.starts_with?(&1.file, "segments/"))

    {blocks, tails} =
      payloads |> Enum.chunk_every(2) |> Enum.split_with(&match?([%{holds: [{:block, _, _} | _]} | _], &1))

    at_once(Enum.map(blocks, &flips/1)) ++
      Enum.flat_map(by(tails, fn [sum, _payload] -> sum.file end), &at_once(Enum.map(&1, fn tail -> flips(tail) end))) ++
      at_once(by_file(derived)) ++ at_once(by_file(segments)) ++ Enum.map(flips(others), &[&1])
  end

  defp by_file(regions), do: regions |> by(& &1.file) |> Enum.map(&flips/1)
  defp by(list, fun), do: list |> Enum.group_by(fun) |> Map.values()

  defp at_once([]), do: []
  defp at_once(lists), do: [Enum.map(lists, &hd/1) | at_once(for [_first, next | rest] <- lists, do: [next | rest])]

  defp shard({shard, rounds}, store, tmp) do
    Process.flag(:trap_exit, true)
    dir = Path.join(tmp, "flipped-#{shard}")
    BitRot.restore!(dir, store.files)
    Enum.flat_map(rounds, fn {flips, number} -> round(dir, flips, number, store) end)
  end

  defp round(dir, flips, number, store) do
    for %{region: region, at: at} <- flips,
        do: BitRot.flip!(dir, region.file, at, store.files[region.file], pattern(at))

    asked = for %{region: %{part: :keys} = region} <- flips, do: {flow(region), euids(region, store)}
    all? = rem(number, 8) == 0 or Enum.any?(flips, &(&1.region.part in [:sum, :payload, :derived]))
    modes = if rem(number, 8) == 0 or Enum.any?(flips, &indexed?/1), do: [:write, :read], else: [:write]
    looks = for mode <- modes, do: BitRot.open(dir, mode, &look(&1, asked, all?))
    hit = for %{region: region} <- flips, held <- region.holds, do: held

    for look <- looks, is_map(look), seen <- List.wrap(look.shown) do
      assert {named(flips), []} == {named(flips), BitRot.invented(store.good, seen)}
      assert {named(flips), []} == {named(flips), BitRot.lost(store.good, seen) -- allowed(hit)}
    end

    BitRot.mend!(dir, store.files, for(flip <- flips, do: flip.region.file))
    alone? = length(flips) == 1
    found = for flip <- flips, do: {flip, for(look <- looks, do: outcome(flip, look, store, alone?))}

    Enum.flat_map(found, fn {flip, outcomes} ->
      result(flip, outcomes, alone? || fn -> round(dir, [flip], number, store) end)
    end)
  end

  # The verification finds the bytes of a block by itself, without any checksum. Where one fault hides another that was made
  # beside it, the flip is made again alone.
  defp result(%{region: %{part: :payload, holds: [{:block, _, _} | _]}} = flip, outcomes, again) do
    cond do
      Enum.uniq(outcomes) == [:fault] -> [{flip, :fault}]
      is_function(again) -> again.()
      true -> flunk(inspect({named([flip]), outcomes}))
    end
  end

  # What one opening did not look at, the other has to name.
  defp result(flip, outcomes, _again) do
    case {outcomes -- [:harmless, :unseen], :unseen in outcomes} do
      {[named | _], _unseen?} -> [{flip, named}]
      {[], false} -> [{flip, :harmless}]
      {[], true} -> flunk(inspect({named([flip]), outcomes}))
    end
  end

  # Who writes opens a finished segment by its index, and asks it for the front of no record before an euid is looked up.
  defp indexed?(%{region: region}),
    do: region.part in [:header, :front, :keys] and String.ends_with?(region.file, ".segment")

  # With an entry of a flow that is lost, or its last block, its head is another one.
  defp allowed(hit), do: hit ++ for({:block, flow, _height} <- hit, do: {:flow, flow})

  defp pattern(at), do: elem(@patterns, rem(at, tuple_size(@patterns)))
  defp named(flips), do: for(%{region: region, at: at} <- flips, do: {region.file, at, region.part})
  defp flow(%{holds: [held | _]}), do: elem(held, 1)

  defp euids(region, store) do
    for <<euid::binary-16 <- binary_part(store.files[region.file], region.from, region.to - region.from)>>, do: euid
  end

  # A store that says what is damaged refuses every write. A store is opened for reading by the same recovery as for writing:
  # that is done for every eighth byte. Where opening finds the damage, it comes to the same state for each byte of a group
  # or record: what is shown then, and that the verdict names the damage, is looked at for every eighth byte as well.
  defp look(store, asked, all?) do
    damage = Store.recover(store, []).damage
    if damage != [], do: assert({:error, %Error{reason: :read_only}} = Store.commit(store, [{:leaf, "one more"}]))

    %{
      report: Disk.report(store.name),
      damage: damage,
      shown: if(damage == [] or all?, do: BitRot.shown(store)),
      verdict: if(damage == [] or all?, do: verdict(store)),
      found: for({flow, euids} <- asked, euid <- euids, do: found(store, flow, euid))
    }
  end

  defp found(store, flow, euid) do
    case Store.head(store, flow, [euid]) do
      {:ok, %{found: %{^euid => _known}}} -> :found
      {:ok, _head} -> :another_answer
      {:error, %Error{reason: :corrupt}} -> :error
    end
  end

  defp verdict(store) do
    {:ok, verdict} = Verifier.run(store, threads: 1)
    verdict
  end

  defp outcome(%{region: %{part: :identity}}, {:error, %Error{reason: :foreign}}, _store, _alone?), do: :refused

  defp outcome(%{region: region}, look, store, alone?) do
    faults = if look.verdict, do: look.verdict.faults, else: []
    if look.verdict && look.damage != [], do: refute(Verdict.ok?(look.verdict))

    cond do
      Enum.any?(faults, &(alone? or of?(&1, region, store))) -> :fault
      Enum.any?(look.damage, &named?(&1, region)) -> :reported
      lost?(region, look.shown, store.good) or :error in look.found -> :error
      look.shown != nil and :another_answer not in look.found -> :harmless
      true -> :unseen
    end
  end

  # Of payloads several may be hit in one file; the place says which.
  defp named?(note, %{part: part} = region) when part in [:sum, :payload],
    do: note.file == Path.basename(region.file) and note.offset in (region.from - 4)..(region.from + 4)

  defp named?(note, region), do: note.file in ["journal", Path.basename(region.file)]

  defp of?(fault, region, store) do
    Enum.any?(region.holds, fn
      {:block, flow, height} ->
        fault.flow == flow and (fault.block == height or fault.position in store.at[{flow, height}])

      {:entry, flow, _seq} ->
        fault.flow == flow and fault.block == nil

      _other ->
        false
    end)
  end

  defp lost?(_region, nil, _good), do: false
  defp lost?(region, seen, good), do: Enum.any?(BitRot.lost(good, seen), &(&1 in region.holds))
end
