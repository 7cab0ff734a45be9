defmodule EventSeal.Store.Disk.Reader do
  @moduledoc false
  # Reads in the caller's own process: places from the tables, all of one moment, then the bytes from the files.
  #
  # Between the two a rotation may have removed the journal: then the places are stale, and it is read again. Segments are
  # only appended to, so places in them stay good.

  import EventSeal.Store.Disk.Tables, only: [row: 2]
  require EventSeal.Store.Disk.Tables
  alias EventSeal.{Error, Segments, Store}
  alias EventSeal.Segments.{Fingerprints, Record}
  alias EventSeal.Store.{Head, Piece, Sheaf}
  alias EventSeal.Store.Disk.{Journal, Tables}

  @tries 200

  @doc "The store's tables, or an exit as `GenServer.call/3` has it if it is not there."
  def handle(name) do
    case :ets.whereis(name) != :undefined and :ets.lookup(name, :tables) do
      [{:tables, tables}] -> tables
      _none -> exit({:noproc, {__MODULE__, :handle, [name]}})
    end
  end

  # The tables of a store that is opened again, or refreshed, are others: what has begun on the old ones begins anew.
  defp with_tables(name, fun, tries \\ @tries) do
    tables = handle(name)

    try do
      fun.(tables)
    rescue
      error in ArgumentError ->
        if tries > 0 and gone?(tables), do: :again, else: reraise(error, __STACKTRACE__)
    end
    |> case do
      :again -> with_tables_again(name, fun, tries)
      result -> result
    end
  end

  defp with_tables_again(name, fun, tries) do
    Process.sleep(5)
    with_tables(name, fun, tries - 1)
  end

  defp gone?(tables), do: :ets.info(tables.flows, :size) == :undefined

  @doc "Asks the store's process, since this reads the rows of many flows, which no snapshot spans."
  def waiting(_name, []), do: []

  def waiting(name, shards) do
    GenServer.call(name, {:run, fn tables -> all_waiting(tables, shards) end}, :infinity)
  end

  # Every writer asks for its own shards, and there may be hundreds of thousands of flows.
  defp all_waiting(tables, shards) do
    shards = MapSet.new(shards)
    own? = fn flow -> MapSet.member?(shards, Store.shard(flow)) end
    tails = for {flow, _, _} = tail <- with_tail(tables), own?.(flow), do: tail
    entries = for {{flow, _}, _, _, _, _, _} = entry <- :ets.tab2list(tables.entries), own?.(flow), do: entry
    waiting = Enum.reduce(tails, Enum.reduce(entries, %{}, &count_entry/2), &count_tail/2)
    for {flow, {pool, tail}} <- Enum.sort(waiting), pool + tail > 0, do: %{flow: flow, pool: pool, tail: tail}
  end

  defp count_entry({{flow, _seq}, :pool, _, _, _, _}, waiting),
    do: Map.update(waiting, flow, {1, 0}, fn {p, t} -> {p + 1, t} end)

  defp count_entry({{flow, _seq}, :tail, _, _, _, _}, waiting),
    do: Map.update(waiting, flow, {0, 1}, fn {p, t} -> {p, t + 1} end)

  defp with_tail(tables) do
    pattern = row(Tables.any_row(), flow: :"$1", through: :"$2", tail: {:_, :_, :_, :"$3"})
    :ets.select(tables.flows, [{pattern, [], [{{:"$1", :"$2", :"$3"}}]}])
  end

  defp count_tail({flow, through, ranges}, waiting) do
    left = Enum.sum(for {from, to} <- ranges, to > through, do: to - max(from, through + 1) + 1)
    Map.update(waiting, flow, {0, left}, fn {pool, tail} -> {pool, tail + left} end)
  end

  def flows(name, after_flow, limit, :ids) do
    with_tables(name, fn tables ->
      first = if after_flow, do: :ets.next(tables.flows, after_flow), else: :ets.first(tables.flows)
      {:ok, flows_from(tables, first, limit)}
    end)
  end

  # In one step of the table, which a later call goes on from: it stands in the last sheaf.
  def flows(name, after_flow, limit, :blocks) do
    with_tables(name, fn tables ->
      case rows(tables.flows, after_flow, limit) do
        {rows, hint} -> {:ok, sheaves(tables, rows, {tables.flows, hint})}
        :"$end_of_table" -> {:ok, []}
      end
    end)
  end

  defp flows_from(_tables, flow, left) when flow == :"$end_of_table" or left == 0, do: []
  defp flows_from(tables, flow, left), do: [flow | flows_from(tables, :ets.next(tables.flows, flow), left - 1)]

  defp rows(table, {_flow, {table, hint}}, _limit), do: :ets.select(hint)
  defp rows(table, {flow, _hint}, limit), do: rows(table, flow, limit)
  defp rows(table, nil, limit), do: :ets.select(table, outlines([]), limit)
  defp rows(table, flow, limit), do: :ets.select(table, outlines([{:>, :"$1", {:const, flow}}]), limit)

  # Of closed flows `{flow, last, places}`, if those are known so, or else `{flow}`; of others `{flow, nil}`.
  defp outlines(guard) do
    row = row(Tables.any_row(), flow: :"$1", fixed: :"$2", closed: :"$3", places: :"$4")

    [
      {row, [{:is_binary, :"$4"} | guard], [{{:"$1", :"$2", :"$4"}}]},
      {row, [:"$3" | guard], [{{:"$1"}}]},
      {row, guard, [{{:"$1", nil}}]}
    ]
  end

  defp sheaves(_tables, [], _hint), do: []
  defp sheaves(tables, [{_flow, nil} = open | rows], hint), do: [open | sheaves(tables, rows, hint)]
  defp sheaves(tables, [{flow} | rows], hint), do: [{flow, all_blocks(tables, flow)} | sheaves(tables, rows, hint)]

  defp sheaves(tables, rows, hint) do
    {closed, rows} = Enum.split_while(rows, &(tuple_size(&1) == 3))
    paths = for number <- closed |> numbers([]) |> Enum.uniq(), do: {number, Tables.segment_path(tables, number)}
    [%Sheaf{flows: closed, paths: paths, hint: hint} | sheaves(tables, rows, hint)]
  end

  # Flows that follow each other mostly lie in the same files.
  defp numbers([{_flow, _last, places} | flows], numbers), do: numbers(flows, places_in(places, numbers))
  defp numbers([], numbers), do: numbers

  defp places_in(<<number::32, _::64, places::binary>>, [number | _] = numbers), do: places_in(places, numbers)
  defp places_in(<<number::32, _::64, places::binary>>, numbers), do: places_in(places, [number | numbers])
  defp places_in("", numbers), do: numbers

  # Nothing is added to a closed flow, so this is of one moment.
  defp all_blocks(tables, flow) do
    row = Tables.find(tables, flow)

    with true <- Tables.few?(row),
         {:ok, pieces} <- pieces(tables, row, 0, :infinity),
         do: pieces,
         else: (_many -> nil)
  end

  def log(name, :size) do
    with_tables(name, fn tables ->
      {:ok, %{leaves: Tables.meta(tables, :leaves), checkpoints: Tables.meta(tables, :checkpoints)}}
    end)
  end

  def log(name, {kind, from, count}) when kind in [:leaves, :checkpoints] do
    with_tables(name, fn tables -> items(tables, kind, from, min(from + count, Tables.meta(tables, kind)), []) end)
  end

  defp items(_tables, _kind, from, to, acc) when from >= to, do: {:ok, acc |> Enum.reverse() |> Enum.concat()}

  defp items(tables, kind, from, to, acc) do
    key = :ets.prev(tables.log, {kind, from + 1})

    case is_tuple(key) && :ets.lookup(tables.log, key) do
      [{{^kind, ^from}, item}] ->
        items(tables, kind, from + 1, to, [[item] | acc])

      [{{^kind, start}, count, number, at, length}] when from < start + count ->
        with {:ok, payload} <- segment_bytes(tables, number, at, length) do
          wanted = payload |> Record.decode_items() |> Enum.slice(from - start, to - from)
          items(tables, kind, from + length(wanted), to, [wanted | acc])
        end

      # A rotation has just moved it.
      [] ->
        items(tables, kind, from, to, acc)

      # Its record is lost.
      _other ->
        {:error, Error.new(:corrupt, detail: "the log has a gap")}
    end
  end

  def blocks(name, flow, {from, to}) do
    with_tables(name, fn tables ->
      case Tables.find(tables, flow) do
        nil -> {:error, Error.new(:not_found)}
        row when row(row, :fixed) < from or to < 1 -> {:ok, []}
        row -> pieces(tables, row, height_of(tables, row, max(from, 1), 0, row(row, :height) - 1), to)
      end
    end)
  end

  # The block that holds a position: the last one whose first is not behind it. One that is lost may hold whatever the one
  # before it does not.
  defp height_of(tables, row, _n, low, high) when low >= high, do: max(known_at(tables, row, low), 0)

  defp height_of(tables, row, n, low, high) do
    middle = div(low + high + 1, 2)

    if first(tables, row, known_at(tables, row, middle)) <= n,
      do: height_of(tables, row, n, middle, high),
      else: height_of(tables, row, n, low, middle - 1)
  end

  # The last block up to a height that is not lost, -1 if there is none.
  defp known_at(_tables, _row, -1), do: -1

  defp known_at(tables, row, height),
    do: if(block(tables, row, height), do: height, else: known_at(tables, row, height - 1))

  defp first(_tables, _row, -1), do: 0

  defp first(tables, row, height) do
    case height < row(row, :height) && block(tables, row, height) do
      false -> row(row, :fixed) + 1
      nil -> first(tables, row, height + 1)
      {_key, first, _, _, _} -> first
    end
  end

  defp pieces(tables, row, height, to, pieces \\ []) do
    case height < row(row, :height) && piece(tables, row, height, List.first(pieces)) do
      %Piece{first: first} = piece when first <= to -> pieces(tables, row, height + 1, to, [piece | pieces])
      _behind -> {:ok, Enum.reverse(pieces)}
    end
  end

  defp piece(tables, row, height, before) do
    {first, at} =
      case block(tables, row, height) do
        {_key, first, number, at, length} ->
          {first, {:file, Tables.segment_path(tables, number), at, length}}

        nil ->
          {if(before, do: before.first + 1, else: 1), :lost}
      end

    %Piece{height: height, first: first, count: first(tables, row, height + 1) - first, at: at}
  end

  defp block(tables, row, height),
    do: List.first(:ets.lookup(tables.blocks, Tables.block_key(row(row, :number), height)))

  def head(name, flow, asked, tries \\ @tries) do
    case with_tables(name, &{&1, head_of(&1, name, flow, asked)}) do
      {tables, {:stale, _reason}} when tries > 0 -> refresh(name, tables) && head(name, flow, asked, tries - 1)
      {_tables, {:stale, reason}} -> {:error, Error.new(:storage, detail: "journal: #{reason}")}
      {_tables, result} -> result
    end
  end

  # A reader beside a writer learns of a rotation only so.
  defp refresh(name, tables) do
    if tables.mode == :read, do: GenServer.call(name, {:refresh, tables}, :infinity), else: Process.sleep(1)
  end

  defp head_of(tables, name, flow, asked) do
    case Tables.snapshot(tables, flow, fn -> take(tables, flow, asked) end) do
      {:ok, nil} -> {:error, Error.new(:not_found)}
      {:ok, taken} -> build(tables, taken, asked)
      :busy -> head_at_rest(name, flow, asked)
    end
  end

  # A flow that is written without a pause: the one who writes it reads it in between.
  defp head_at_rest(name, flow, asked) do
    case GenServer.call(name, {:run, fn tables -> {tables, take(tables, flow, asked)} end}, :infinity) do
      {_tables, nil} -> {:error, Error.new(:not_found)}
      {tables, taken} -> build(tables, taken, asked)
    end
  end

  defp take(tables, flow, asked) do
    with row when row != nil <- Tables.find(tables, flow) do
      euids = if asked == :unsealed, do: [], else: asked

      %{
        row: row,
        entries: Tables.entries(tables, flow),
        last: if(row(row, :height) > 0, do: block(tables, row, row(row, :height) - 1)),
        journal: Journal.path(tables.dir, Tables.meta(tables, :generation)),
        spent: for(euid <- euids, :ets.member(tables.spent, {flow, euid}), do: {euid, :spent}),
        prints: if(euids == [], do: [], else: prints(tables, flow, euids))
      }
    end
  end

  # Where the euids may stand. A segment that is being finished changes its table for a file: then it is asked again.
  defp prints(tables, flow, euids) do
    for segment <- :ets.tab2list(tables.segments), euid <- euids do
      {euid, elem(segment, 0), candidates(tables, segment, Fingerprints.print(flow, euid))}
    end
  end

  defp candidates(_tables, {_number, :finished, prints}, print), do: {:file, prints, print}

  defp candidates(tables, {number, :open, table}, print) do
    for {_print, at} <- :ets.lookup(table, print), do: at
  rescue
    error in ArgumentError ->
      case :ets.lookup(tables.segments, number) do
        [{_number, :finished, prints}] -> {:file, prints, print}
        _other -> reraise(error, __STACKTRACE__)
      end
  end

  defp build(_tables, %{row: row, entries: []}, :unsealed) when row(row, :tail) == nil, do: {:ok, outline(row)}

  defp build(tables, %{row: row} = taken, asked) do
    with {:ok, genesis} <- genesis(tables, row(row, :genesis)),
         {:ok, last, intact} <- last_block(tables, taken.last),
         {:ok, settled, whole} <- tail(tables, row),
         {:ok, entries} <- entries(tables, taken),
         {:ok, found} <- found(tables, taken, asked) do
      {:ok,
       %{
         outline(row)
         | genesis: genesis,
           last_block: last,
           intact: intact and genesis != "",
           whole: whole,
           entries: :lists.keymerge(1, settled, entries),
           found: found
       }}
    end
  end

  # What is known without a file.
  defp outline(row) do
    %Head{
      flow: row(row, :flow),
      genesis: nil,
      height: row(row, :height),
      fixed: row(row, :fixed),
      closed: row(row, :closed),
      when_max: row(row, :when_max),
      next_seq: row(row, :next_seq)
    }
  end

  defp genesis(_tables, genesis) when is_binary(genesis), do: {:ok, genesis}

  # Its record's checksum was looked at when it was written, or read; its own is looked at now.
  defp genesis(tables, {number, at, length, sum}) do
    case in_segment(tables, number, &exactly(&1.pread(&2, at, length), length)) do
      {:ok, genesis} -> {:ok, if(:erlang.crc32(genesis) == sum, do: genesis, else: "")}
      {:error, %Error{reason: :corrupt}} -> {:ok, ""}
      {:error, _} = error -> error
    end
  end

  defp exactly({:ok, bytes}, length) when byte_size(bytes) == length, do: {:ok, bytes}
  defp exactly({:error, reason}, _length), do: {:error, Error.new(:storage, detail: "read: #{reason}")}
  defp exactly(_short, _length), do: {:error, Error.new(:corrupt, detail: "the file is too short")}

  defp last_block(_tables, nil), do: {:ok, nil, true}

  defp last_block(tables, {_key, _first, number, at, length}) do
    case segment_bytes(tables, number, at, length) do
      {:ok, block} -> {:ok, block, true}
      {:error, %Error{reason: :corrupt}} -> damaged_block(tables, number, at, length)
      {:error, _} = error -> error
    end
  end

  defp damaged_block(tables, number, at, length) do
    case in_segment(tables, number, &exactly(&1.pread(&2, at, length), length)) do
      {:ok, block} -> {:ok, block, false}
      {:error, %Error{reason: :corrupt}} -> {:ok, nil, false}
      {:error, _} = error -> error
    end
  end

  defp tail(_tables, row) when row(row, :tail) == nil, do: {:ok, [], true}

  defp tail(tables, row) do
    {number, at, length, _ranges} = row(row, :tail)

    case segment_bytes(tables, number, at, length) do
      {:ok, payload} ->
        {:ok,
         for {seq, meta, data} <- Record.decode_entries(payload), seq > row(row, :through) do
           {seq, :tail, meta, data}
         end, true}

      {:error, %Error{reason: :corrupt}} ->
        {:ok, [], false}

      {:error, _} = error ->
        error
    end
  end

  defp entries(_tables, %{entries: []}), do: {:ok, []}

  defp entries(tables, %{entries: entries, journal: journal}) do
    with {:ok, fd} <- tables.files.open(journal, :read) do
      result =
        with {:ok, source} <- source(tables.files, fd, entries),
             do: Enum.reduce_while(entries, {:ok, []}, &entry(tables.files, source, &1, &2))

      tables.files.close(fd)
      with {:ok, entries} <- result, do: {:ok, Enum.reverse(entries)}
    else
      {:error, :enoent} -> {:stale, :enoent}
      {:error, reason} -> {:error, Error.new(:storage, detail: "open: #{reason}")}
    end
  end

  defp entry(files, source, {{_flow, seq}, stage, meta_at, meta_length, data_at, data_length}, {:ok, entries}) do
    with {:ok, meta} <- bytes(files, source, meta_at, meta_length),
         {:ok, data} <- bytes(files, source, data_at, data_length) do
      {:cont, {:ok, [{seq, stage, meta, data} | entries]}}
    else
      {:error, error} -> {:halt, {:error, error}}
    end
  end

  # A flow's entries mostly lie close together: one read for all of them costs less than two for each.
  @gaps 65_536

  defp source(files, fd, entries) do
    places =
      Enum.flat_map(entries, fn {_key, _stage, meta_at, meta, data_at, data} -> [{meta_at, meta}, {data_at, data}] end)

    from = places |> Enum.map(&elem(&1, 0)) |> Enum.min()
    to = places |> Enum.map(&Tuple.sum/1) |> Enum.max()
    wanted = places |> Enum.map(&elem(&1, 1)) |> Enum.sum()

    if to - from <= 2 * wanted + @gaps,
      do: with({:ok, bytes} <- exactly(files.pread(fd, from, to - from), to - from), do: {:ok, {from, bytes}}),
      else: {:ok, fd}
  end

  defp bytes(_files, _source, _at, 0), do: {:ok, ""}
  # Copied, so that one entry does not keep all of them in memory.
  defp bytes(_files, {from, bytes}, at, length) when is_binary(bytes),
    do: {:ok, bytes |> binary_part(at - from, length) |> :binary.copy()}

  defp bytes(files, fd, at, length), do: exactly(files.pread(fd, at, length), length)

  defp found(_tables, _taken, asked) when asked in [[], :unsealed], do: {:ok, %{}}

  defp found(tables, taken, _euids) do
    Enum.reduce_while(taken.prints, {:ok, Map.new(taken.spent)}, fn {euid, number, where}, {:ok, found} ->
      with {:ok, offsets} <- offsets(tables, where),
           {:ok, found} <- look(tables, taken.row, euid, number, offsets, found) do
        {:cont, {:ok, found}}
      else
        {:error, %Error{} = error} -> {:halt, {:error, error}}
        {:error, reason} -> {:halt, {:error, Error.new(:storage, detail: "euids: #{reason}")}}
      end
    end)
  end

  defp offsets(tables, {:file, prints, print}), do: Fingerprints.find(prints, print, tables.files)
  defp offsets(_tables, offsets), do: {:ok, offsets}

  defp look(_tables, _row, _euid, _number, [], found), do: {:ok, found}

  defp look(tables, row, euid, number, offsets, found) do
    in_segment(tables, number, fn files, fd ->
      Enum.reduce_while(offsets, {:ok, found}, fn at, {:ok, found} ->
        case holds(files, fd, at, row, euid) do
          {:ok, nil} -> {:cont, {:ok, found}}
          {:ok, :spent} -> {:cont, {:ok, Map.put(found, euid, :spent)}}
          {:ok, height} -> {:cont, {:ok, Map.update(found, euid, [height], &add(&1, height))}}
          {:error, error} -> {:halt, {:error, error}}
        end
      end)
    end)
  end

  defp add(:spent, _height), do: :spent
  defp add(heights, height), do: Enum.uniq([height | heights])

  # A fingerprint is only a hint: the record's own list of euids decides.
  defp holds(files, fd, at, row, euid) do
    flow = row(row, :flow)

    with {:ok, front} <- read_front(files, fd, at),
         {:ok, keys} <- exactly(files.pread(fd, front.keys_at, front.keys_length), front.keys_length),
         true <- :erlang.crc32(keys) == front.keys_sum || {:error, Error.new(:corrupt, detail: "euids")} do
      held = euid in for <<key::binary-16 <- keys>>, do: key

      case Record.meta(front.meta) do
        {:block, ^flow, %{height: height}, _} when held -> {:ok, if(height < row(row, :height), do: height)}
        {:tail, ^flow, _, _, _} when held -> {:ok, :spent}
        _other -> {:ok, nil}
      end
    end
  end

  defp read_front(files, fd, at, wanted \\ 256) do
    with {:ok, bytes} <- files.pread(fd, at, wanted),
         <<marker::binary-8, _rest::binary>> <- bytes do
      case Record.decode(bytes, at, marker) do
        {:ok, front} -> {:ok, front}
        {:more, more} when more > wanted -> read_front(files, fd, at, more)
        _other -> {:error, Error.new(:corrupt, detail: "record")}
      end
    else
      {:error, reason} -> {:error, Error.new(:storage, detail: "read: #{reason}")}
      _short -> {:error, Error.new(:corrupt, detail: "the file is too short")}
    end
  end

  defp segment_bytes(tables, number, at, length) do
    in_segment(tables, number, &Segments.pread(&1, &2, at, length))
  end

  defp in_segment(tables, number, fun) do
    with {:ok, fd} <- tables.files.open(Tables.segment_path(tables, number), :read) do
      result = fun.(tables.files, fd)
      tables.files.close(fd)
      result
    else
      {:error, :enoent} -> {:error, Error.new(:corrupt, detail: "the file is gone")}
      {:error, reason} -> {:error, Error.new(:storage, detail: "open: #{reason}")}
    end
  end
end
