defmodule EventSeal.Store.Disk.Rotation do
  @moduledoc false
  # A new generation of the journal. What is settled but not sealed goes into the segments as tail records, and so do the
  # log's items and the euids that were spent; only the pool is carried over. Then the old generation is removed, and with
  # it the bytes of what was retracted or amended away.
  #
  #   1. the records are appended to the segments and synced. A crash here leaves bytes that no journal knows: cut off
  #   2. the new generation is written under another name and synced. A crash here leaves that file: removed
  #   3. it is renamed, the folder synced. A crash here leaves two generations: the greater one is whole, and counts
  #   4. the tables change; readers that hold places of the old generation read again
  #   5. the old generation is removed
  #
  # A failure in 1 or 2 leaves all as it was: the segments go back, the old generation is written on.

  import EventSeal.Store.Disk.Tables, only: [row: 2]
  require EventSeal.Store.Disk.Tables
  alias EventSeal.{Error, Segments}
  alias EventSeal.Segments.{Fingerprints, Record}
  alias EventSeal.Store.Disk.{Batch, Draft, Journal, Tables}

  @carried 4_194_304
  @items 4096

  @doc """
  Rotates. `old` is the journal that is to go, or `nil` in an empty folder.

  `{:error, reason, segments}`: all is as it was. `{:fatal, reason, segments}`: the new generation may have its name or not.
  """
  def run(tables, segments, old, store_id) do
    plan = plan(tables, segments.files, source(segments.files, old))

    with {:ok, places, grown} <- Segments.append(segments, plan.records) do
      generation = Tables.meta(tables, :generation) + 1

      case write(tables, grown, store_id, generation, plan) do
        {:ok, journal, carried} ->
          adopt(tables, plan, places, carried, generation)
          forget(tables.dir, grown.files, old, generation)
          {:ok, journal, grown}

        {:fatal, reason} ->
          {:fatal, reason, grown}

        {:error, reason} ->
          {:error, reason, Segments.roll_back(grown, segments)}
      end
    else
      {:error, {_step, reason}, segments} -> {:error, reason, segments}
    end
  end

  # A journal of common size is read at once: entry by entry would cost more than all the rest.
  @at_once 536_870_912

  defp source(files, %{length: length} = old) when length <= @at_once do
    case length > 0 and files.pread(old.fd, 0, length) do
      {:ok, bytes} -> bytes
      _other -> old
    end
  end

  defp source(_files, old), do: old

  # What goes where. Each of `steps` says what the tables hold once its record has its place.
  defp plan(tables, files, old) do
    spent = Enum.group_by(:ets.tab2list(tables.spent), fn {{flow, _}} -> flow end, fn {{_, euid}} -> euid end)
    {tails, pools} = Enum.split_with(:ets.tab2list(tables.entries), fn entry -> elem(entry, 1) == :tail end)
    tails = Enum.group_by(tails, fn entry -> flow(entry) end)
    flows = Enum.uniq(Map.keys(tails) ++ Map.keys(spent))
    earlier = earlier(tables, files, flows)

    tail_plans =
      for flow <- flows do
        entries = for entry <- Map.get(tails, flow, []), do: fetch(files, old, entry)
        tail(Tables.find(tables, flow), Map.get(earlier, flow, []), entries, Map.get(spent, flow, []))
      end

    log_plans = Enum.flat_map([:leaves, :checkpoints], &log(tables, &1))
    plans = tail_plans ++ log_plans

    %{
      records: Enum.map(plans, &elem(&1, 0)),
      steps: Enum.map(plans, &elem(&1, 1)),
      pools: pools,
      source: old,
      files: files
    }
  end

  defp tail(row, earlier, entries, spent) do
    flow = row(row, :flow)
    kept = :lists.keymerge(1, earlier, entries)
    ranges = Record.ranges(for {seq, _meta, _data} <- kept, do: seq)
    genesis = Draft.in_memory(row(row, :genesis))
    meta = Record.tail_meta(flow, genesis, row(row, :next_seq), ranges)
    keys = IO.iodata_to_binary(spent)

    {Record.new(meta, keys, Record.entries(kept)),
     {:tail, flow, ranges, Record.genesis_in(flow, genesis), Fingerprints.of(flow, keys)}}
  end

  # A tail record is whole: what an earlier one holds and no block has taken goes into the new one too. Each segment is
  # opened once: every open flow may have such a record.
  defp earlier(tables, files, flows) do
    rows = for flow <- flows, row = Tables.find(tables, flow), row(row, :tail) != nil, do: row

    for {number, rows} <- Enum.group_by(rows, &elem(row(&1, :tail), 0)),
        kept <- earlier_in(Tables.segment_path(tables, number), files, rows),
        into: %{},
        do: kept
  end

  defp earlier_in(path, files, rows) do
    case files.open(path, :read) do
      {:ok, fd} ->
        try do
          for row <- Enum.sort_by(rows, &elem(row(&1, :tail), 1)), do: {row(row, :flow), kept(files, fd, row)}
        after
          files.close(fd)
        end

      {:error, reason} ->
        throw({:unreadable, {:error, reason}})
    end
  end

  defp kept(files, fd, row) do
    {number, at, length, _ranges} = row(row, :tail)

    case Segments.pread(files, fd, at, length) do
      {:ok, payload} -> Enum.filter(Record.decode_entries(payload), &(elem(&1, 0) > row(row, :through)))
      {:error, %Error{reason: :corrupt}} -> throw({:damaged_tail, Segments.name(number) <> ".segment", at})
      {:error, error} -> throw({:unreadable, error})
    end
  end

  defp fetch(files, old, {{_flow, seq}, _stage, meta_at, meta_length, data_at, data_length}) do
    {seq, bytes(files, old, meta_at, meta_length), bytes(files, old, data_at, data_length)}
  end

  defp bytes(_files, _old, _at, 0), do: ""

  defp bytes(_files, old, at, length) when is_binary(old) and at + length <= byte_size(old),
    do: binary_part(old, at, length)

  defp bytes(files, %{fd: fd}, at, length) do
    case files.pread(fd, at, length) do
      {:ok, bytes} when byte_size(bytes) == length -> bytes
      other -> throw({:unreadable, other})
    end
  end

  defp log(tables, kind) do
    tables.log
    |> :ets.select([{{{kind, :"$1"}, :"$2"}, [], [{{:"$1", :"$2"}}]}])
    |> Enum.chunk_every(@items)
    |> Enum.map(fn [{from, _item} | _] = items ->
      count = length(items)
      payload = Record.items(for {_index, item} <- items, do: item)
      {Record.new(Record.log_meta(kind, from, count), "", payload), {:log, kind, from, count}}
    end)
  end

  defp write(tables, segments, store_id, generation, plan) do
    with {:ok, journal} <- Journal.begin(segments.files, tables.dir, store_id, generation) do
      with {:ok, written} <- Journal.write(journal, base(segments)),
           {:ok, written, carried} <- carry(tables, written, plan),
           {:ok, published} <- Journal.publish(written) do
        {:ok, published, carried}
      else
        {:fatal, reason} ->
          {:fatal, reason}

        {:error, reason} ->
          Journal.close(journal)
          segments.files.delete(journal.path)
          {:error, reason}
      end
    end
  end

  defp base(segments) do
    known = Enum.sort(segments.known)
    each = for {number, found} <- known, do: <<number::32, found.length::64, found.sequence::64, found.check::32>>
    ["B", <<length(known)::32>>, each]
  end

  @doc "The segments as a generation began with them."
  def decode_base(<<count::32, rest::binary>>) do
    known =
      for <<number::32, length::64, sequence::64, check::32 <- rest>>, into: %{} do
        {number, %{length: length, sequence: sequence, check: check}}
      end

    ^count = map_size(known)
    known
  end

  # Flows that no segment knows yet, then the entries of the pool.
  defp carry(tables, journal, plan) do
    moved = for {:tail, flow, _, _, _} <- plan.steps, into: MapSet.new(), do: flow

    opened = for row <- unplaced(tables), row(row, :flow) not in moved, do: {:open, row(row, :flow), row(row, :genesis)}

    entries = Stream.map(plan.pools, &put(plan, &1))
    carry_each(Stream.concat(opened, entries) |> chunks(), journal, [])
  catch
    {:unreadable, {:error, reason}} -> {:error, reason}
    {:unreadable, _short} -> {:error, :eio}
  end

  # Most flows have their genesis in a segment: theirs are not copied out of the table.
  defp unplaced(tables) do
    :ets.select(tables.flows, [{row(Tables.any_row(), genesis: :"$1"), [{:is_binary, :"$1"}], [:"$_"]}])
  end

  defp put(plan, {{flow, seq}, :pool, _, _, _, _} = entry) do
    {^seq, meta, data} = fetch(plan.files, plan.source, entry)
    {:put, flow, seq, :pool, meta, data}
  end

  defp chunks(ops) do
    Stream.chunk_while(
      ops,
      {[], 0},
      fn op, {chunk, size} ->
        size = size + op_size(op)
        if size > @carried, do: {:cont, Enum.reverse([op | chunk]), {[], 0}}, else: {:cont, {[op | chunk], size}}
      end,
      fn
        {[], _size} -> {:cont, nil}
        {chunk, _size} -> {:cont, Enum.reverse(chunk), nil}
      end
    )
  end

  defp op_size({:open, flow, genesis}), do: byte_size(flow) + byte_size(genesis)
  defp op_size({:put, flow, _seq, _stage, meta, data}), do: byte_size(flow) + byte_size(meta) + byte_size(data)

  defp carry_each(chunks, journal, carried) do
    Enum.reduce_while(chunks, {:ok, journal, carried}, fn ops, {:ok, journal, carried} ->
      {:ok, batch} = Batch.carry(ops)
      base = journal.length + Journal.front_size() + 5 + Batch.front_size(batch)

      case Journal.write(journal, ["C" | Batch.group([batch], [])]) do
        {:ok, journal} -> {:cont, {:ok, journal, carried_entries(batch.steps, base) ++ carried}}
        {:error, reason} -> {:halt, {:error, reason}}
      end
    end)
  end

  defp carried_entries(steps, base) do
    for {:put, flow, seq, :carried, {meta_at, meta_length}, {data_at, data_length}} <- steps do
      {{flow, seq}, :pool, base + meta_at, meta_length, base + data_at, data_length}
    end
  end

  defp adopt(tables, plan, places, carried, generation) do
    Tables.change(tables, :all, fn ->
      :ets.delete_all_objects(tables.entries)
      :ets.delete_all_objects(tables.spent)
      :ets.insert(tables.entries, carried)
      for {step, place} <- Enum.zip(plan.steps, places), do: moved(tables, step, place)
      :ets.insert(tables.meta, {:generation, generation})
    end)
  end

  defp moved(tables, {:tail, flow, ranges, genesis, prints}, place) do
    row = Tables.find(tables, flow)
    if prints != [], do: Draft.prints(tables, place, prints)
    tail = if ranges != [], do: {place.number, place.payload_at, place.length, ranges}
    genesis = Draft.genesis_place(genesis, place) || row(row, :genesis)
    :ets.insert(tables.flows, row(row, tail: tail, genesis: genesis))
  end

  defp moved(tables, {:log, kind, from, count}, place) do
    # In this order a reader without a snapshot finds each item in one place or the other.
    :ets.insert(tables.log, {{kind, from}, count, place.number, place.payload_at, place.length})
    for index <- (from + 1)..(from + count - 1)//1, do: :ets.delete(tables.log, {kind, index})
  end

  # Older generations, and temporary files of a start that was killed, are of no use any more.
  defp forget(dir, files, old, generation) do
    if old, do: Journal.close(old)
    {:ok, names} = with {:error, _reason} <- files.list(dir), do: {:ok, []}

    for "journal-" <> _ = name <- names, name != Path.basename(Journal.path(dir, generation)) do
      files.delete(Path.join(dir, name))
    end

    files.sync_dir(dir)
  end

  defp flow({{flow, _seq}, _, _, _, _, _}), do: flow
end
