defmodule EventSeal.Store.Disk.Recovery do
  @moduledoc false
  # From the files to the tables. Nothing is changed here; what has to be set aside or cut off is returned.
  #
  # The journal's newest generation says how long each segment is: as long as it was when the generation began ("B"), plus
  # the blocks that its commits name. Up to the first length a segment is taken as it stands, then the journal is replayed,
  # then the blocks it named are looked for in the segments. Bytes behind that were never acknowledged.
  #
  # Faults, each of which lets the store open for reading only: a bad group before a good one, a generation that is not
  # whole, a segment that is missing, shorter than known, or another one than the journal speaks of. A bad last group is
  # what a crash leaves (a torn tail), and no fault.

  import EventSeal.Store.Disk.Tables, only: [row: 2]
  require EventSeal.Store.Disk.Tables
  alias EventSeal.Segments
  alias EventSeal.Segments.{Fingerprints, Index, Record, Scan}
  alias EventSeal.Store.Disk.{Batch, Derived, Draft, Folder, Journal, Rotation, Tables}

  @type note :: %{what: atom, file: String.t(), offset: non_neg_integer | nil}

  @doc "Loads all there is. `notes` are what is to be reported, `faults` among them those that forbid writing."
  def load(files, dir, store_id, opts) do
    tables = Tables.new(files, dir, opts)
    segments = Segments.new(files, Folder.segments(dir), store_id, opts[:segment_bytes])
    state = %{tables: tables, segments: segments, files: files, dir: dir, store_id: store_id, generation: 0}

    state =
      Map.merge(state, %{
        journal: nil,
        base: nil,
        final: %{},
        named: %{},
        loose: [],
        unindexed: [],
        notes: [],
        faults: []
      })

    with {:error, reason} <- load(state) do
      Tables.delete(tables)
      {:error, reason}
    end
  end

  defp load(state) do
    {own, archive} = state.tables.dirs

    with {:ok, names} <- state.files.list(state.dir),
         {:ok, own} <- state.files.list(own),
         {:ok, archived} <- archived(state.files, archive) do
      state = state |> lengths(names) |> segments(Segments.numbers(own), Segments.numbers(archived))
      {:ok, state |> replay() |> grown() |> prints() |> finish()}
    end
  catch
    {:unreadable, reason} -> {:error, reason}
  end

  defp archived(_files, nil), do: {:ok, []}

  defp archived(files, dir) do
    with {:error, reason} <- files.list(dir), do: {:error, "archive: #{reason}"}
  end

  # Pass 1: which generation, and how long the segments are.
  defp lengths(state, names) do
    case for(name <- names, {:ok, generation} <- [Journal.generation(name)], do: generation) do
      [] -> state
      generations -> lengths_of(%{state | generation: Enum.max(generations)})
    end
  end

  defp lengths_of(state) do
    path = Journal.path(state.dir, state.generation)

    case Journal.fold(state.files, path, {state.generation, state.store_id}, state, &measure/4) do
      {:ok, state, found} -> judge(%{state | journal: found}, found)
      {:error, reason} -> throw({:unreadable, reason})
    end
  end

  defp measure(?B, payload, _at, state), do: %{state | base: Rotation.decode_base(payload)}

  defp measure(?C, payload, at, state) do
    places = for {_steps, places, _base} <- Batch.ungroup(payload, at), place <- places, do: place

    Enum.reduce(places, state, fn place, state ->
      final =
        Map.update(
          state.final,
          place.number,
          place.payload_at + place.length,
          &max(&1, place.payload_at + place.length)
        )

      %{state | final: final, named: Map.put(state.named, {place.number, place.payload_at}, place.length)}
    end)
  end

  defp measure(_kind, _payload, _at, state), do: state

  defp judge(state, found) do
    name = Path.basename(Journal.path(state.dir, state.generation))
    state = Enum.reduce(found.damaged, state, &fault(&2, :damaged_group, name, &1))
    state = if found.ready or found.damaged != [], do: state, else: fault(state, :not_whole, name, found.torn)
    if found.torn, do: note(state, :torn_tail, name, found.torn), else: state
  end

  # Pass 2: the segments as they were when the generation began.
  defp segments(state, own, archived) do
    present = Enum.uniq(own ++ archived)
    state = if state.journal == nil and present != [], do: fault(state, :no_journal, "journal", nil), else: state
    state = %{state | base: state.base || as_found(state, present)}
    known = Enum.uniq(Map.keys(state.base) ++ Map.keys(state.final))
    state = Enum.reduce(Enum.sort(known), state, &segment(&2, &1))
    loose = for number <- own -- known, do: {:segment, number}
    # A number is not used again, whoever used it.
    next = Enum.max([0 | present]) + 1
    segments = %{state.segments | next_number: max(state.segments.next_number, next)}
    %{state | segments: segments, loose: state.loose ++ loose}
  end

  # No journal says how long the segments are, or the group that does is hit: whatever they hold is shown, but nothing is
  # written.
  defp as_found(state, present) do
    for number <- present, {:ok, size} <- [state.files.size(path(state, number))], into: %{} do
      {number, %{length: size, sequence: nil, check: nil}}
    end
  end

  defp segment(state, number) do
    base = Map.get(state.base, number, %{length: Record.header_size(), sequence: 0, check: 0})
    wanted = max(base.length, Map.get(state.final, number, 0))

    with {:ok, size} <- state.files.size(path(state, number)),
         {:ok, fd} <- state.files.open(path(state, number), :read) do
      state = header(state, number, state.files.pread(fd, 0, Record.header_size() + 8))
      state = if size < wanted, do: fault(state, :short_segment, file(number), size), else: state
      state = if size > wanted, do: loose(state, number, wanted), else: state
      state = load_records(state, number, fd, min(base.length, size))
      state.files.close(fd)
      whole?(state, number, base)
    else
      {:error, reason} when reason in [:enoent, :not_regular] -> fault(state, :missing_segment, file(number), nil)
      {:error, reason} -> throw({:unreadable, reason})
    end
  end

  # What stands in the archive is left as it is: nothing is ever written behind it.
  defp loose(%{tables: %{dirs: {own, _archive}}} = state, number, wanted) do
    if path(state, number) == Segments.path(own, number),
      do: %{state | loose: [{:bytes, number, wanted} | state.loose]},
      else: state
  end

  # A header that was hit by bit rot does not take the records with it: each of them begins with the marker as well.
  defp header(state, number, read) do
    {state, marker} =
      with {:ok, <<header::binary-64, rest::binary>>} <- read,
           {:known, {:ok, marker}, _rest} <- {:known, Record.marker(header, number, state.store_id), rest} do
        {state, marker}
      else
        {:known, :error, rest} -> {fault(state, :damaged_header, file(number), 0), :binary.copy(rest)}
        _short -> {fault(state, :damaged_header, file(number), 0), ""}
      end

    found = %{length: Record.header_size(), sequence: 0, check: 0, marker: marker}
    %{state | segments: Segments.adopt(state.segments, number, found)}
  end

  # A reader beside a writer is there to verify: it looks at the segment itself.
  defp load_records(%{tables: %{mode: :write, dirs: {dir, _}}} = state, number, fd, to) do
    path = Derived.index(dir, number)
    found = state.segments.known[number]
    indexed = Map.put(state, :number, number)

    case Index.fold(state.files, path, {state.store_id, number, to}, found.marker, indexed, &load_record/2) do
      {:ok, state} -> state
      :error -> scan(unindexed(state, number), number, fd, Record.header_size(), to, &load_record/2)
    end
  end

  defp load_records(state, number, fd, to), do: scan(state, number, fd, Record.header_size(), to, &load_record/2)

  defp unindexed(state, number), do: %{state | unindexed: [number | state.unindexed]}

  defp scan(state, number, fd, from, to, fun) do
    found = state.segments.known[number]
    state = Map.put(state, :number, number)

    case found.marker != "" and Segments.fold(state.files, fd, found.marker, from, to, state, fun) do
      false ->
        state

      {:ok, state} ->
        state

      {:error, at, state} ->
        next = Scan.next(state.files, fd, found.marker, at + 1, to)
        state |> fault(:damaged_record, file(number), at) |> scan(number, fd, next, to, fun)
    end
  end

  defp whole?(state, number, base) do
    found = state.segments.known[number]
    same = base.sequence in [nil, found.sequence] and base.check in [nil, found.check]
    if same, do: state, else: fault(state, :other_segment, file(number), found.length)
  end

  defp load_record(record, state) do
    place = %{number: state.number, at: record.at, meta_at: record.meta_at}
    place = Map.merge(place, %{payload_at: record.payload_at, length: record.payload_length})
    state |> seen(record) |> put(Record.meta(record.meta), place)
  end

  defp seen(state, record) do
    found = state.segments.known[state.number]
    found = %{found | length: record.next, sequence: record.sequence, check: record.check}
    %{state | segments: Segments.adopt(state.segments, state.number, found)}
  end

  defp put(state, {:block, flow, info, genesis}, place) do
    row = row_of(state.tables, flow)
    genesis = Draft.genesis_place(genesis, place) || row(row, :genesis)
    key = Tables.block_key(row(row, :number), info.height)
    :ets.insert(state.tables.blocks, {key, info.first, place.number, place.payload_at, place.length})
    :ets.insert(state.tables.flows, Tables.placed(state.tables, row(Draft.extend(row, info), genesis: genesis)))
    state
  end

  defp put(state, {:tail, flow, next_seq, ranges, genesis}, place) do
    row = row_of(state.tables, flow)
    tail = if ranges != [], do: {place.number, place.payload_at, place.length, ranges}
    genesis = Draft.genesis_place(genesis, place) || row(row, :genesis)
    :ets.insert(state.tables.flows, row(row, tail: tail, next_seq: next_seq, genesis: genesis))
    state
  end

  defp put(state, {kind, from, count}, place) do
    :ets.insert(state.tables.log, {{kind, from}, count, place.number, place.payload_at, place.length})
    :ets.insert(state.tables.meta, {kind, from + count})
    state
  end

  defp row_of(tables, flow) do
    with nil <- Tables.find(tables, flow) do
      number = Tables.meta(tables, :next_number)
      :ets.insert(tables.meta, {:next_number, number + 1})
      Tables.row(flow: flow, number: number, genesis: "")
    end
  end

  # Pass 3: what the generation's commits did.
  defp replay(%{journal: nil} = state), do: state

  defp replay(state) do
    path = Journal.path(state.dir, state.generation)
    limit = state.journal.size

    case Journal.fold(state.files, path, {state.generation, state.store_id}, state, &replay/4, limit) do
      {:ok, state, _found} ->
        :ets.insert(state.tables.meta, {:generation, state.generation})
        state

      {:error, reason} ->
        throw({:unreadable, reason})
    end
  end

  defp replay(?C, payload, at, state) do
    Enum.reduce(Batch.ungroup(payload, at), state, fn {steps, places, base}, state ->
      case Draft.steps(Draft.new(state.tables, 0), steps, base) do
        {:ok, draft} -> adopt(state, draft, places)
        {:error, _reason} -> state |> fault(:does_not_follow, "journal", base) |> salvage(steps, places, base)
      end
    end)
  end

  defp replay(_kind, _payload, _at, state), do: state

  defp adopt(state, draft, places) do
    Draft.adopt(draft, places)
    state
  end

  # Behind a damaged group some steps have lost their ground; those that have not are kept.
  defp salvage(state, steps, places, base) do
    {state, _places} =
      Enum.reduce(steps, {state, places}, fn step, {state, places} ->
        {own, places} = if elem(step, 0) == :block, do: Enum.split(places, 1), else: {[], places}

        case Draft.steps(Draft.new(state.tables, 0), [step], base) do
          {:ok, draft} -> {adopt(state, draft, own), places}
          {:error, _reason} -> {groundless(state, step, own, base), places}
        end
      end)

    state
  end

  # An entry of a flow whose beginning is lost, a block behind one that is: they are shown with the gap before them.
  defp groundless(state, step, places, base) do
    with true <- elem(step, 0) in [:put, :block],
         row = row_of(state.tables, elem(step, 1)),
         {:ok, row} <- ground(row, step) do
      :ets.insert(state.tables.flows, row)

      case Draft.steps(Draft.new(state.tables, 0), [step], base) do
        {:ok, draft} -> adopt(state, draft, places)
        {:error, _reason} -> state
      end
    else
      _none -> state
    end
  end

  defp ground(row, {:block, _flow, info, _sealed}) when info.height >= row(row, :height) and not row(row, :closed),
    do: {:ok, row(row, height: info.height, fixed: info.first - 1)}

  defp ground(row, {:put, _flow, _seq, _stage, _meta, _data}) when row(row, :genesis) == "", do: {:ok, row}
  defp ground(_row, _step), do: :none

  # Pass 4: the blocks that those commits named have to be there.
  defp grown(state), do: Enum.reduce(Enum.sort(state.final), state, &grown/2)

  defp grown({number, to}, state) do
    known = state.segments.known[number]

    if known != nil and known.length < to, do: grown(state, number, known.length, to), else: state
  end

  # One that was there a moment ago and cannot be opened now may not be taken for as long as it was without them.
  defp grown(state, number, from, to) do
    with {:ok, size} <- state.files.size(path(state, number)),
         {:ok, fd} <- state.files.open(path(state, number), :read) do
      state = scan(state, number, fd, from, min(to, size), &named_record/2)
      state.files.close(fd)
      lost = for {{^number, at}, _length} <- state.named, at > state.segments.known[number].length, do: at
      Enum.reduce(lost, state, &fault(&2, :missing_block, file(number), &1))
    else
      {:error, reason} -> throw({:unreadable, reason})
    end
  end

  defp named_record(record, state) do
    state = seen(state, record)

    case {Map.get(state.named, {state.number, record.payload_at}), Record.meta(record.meta)} do
      {length, {:block, flow, _info, genesis}} when length == record.payload_length ->
        row = Tables.find(state.tables, flow)
        place = Draft.genesis_place(genesis, %{number: state.number, meta_at: record.meta_at})
        if row && place && is_binary(row(row, :genesis)), do: :ets.insert(state.tables.flows, row(row, genesis: place))
        state

      {_length, meta} ->
        state |> fault(:other_record, file(state.number), record.at) |> unnamed(meta, record)
    end
  end

  # The group that named it is lost. What was appended behind it stands, so it was acknowledged.
  defp unnamed(state, {:block, flow, info, _genesis}, record) do
    row = row_of(state.tables, flow)
    place = %{number: state.number, at: record.at, meta_at: record.meta_at}
    place = Map.merge(place, %{payload_at: record.payload_at, length: record.payload_length})

    if info.height < row(row, :height) do
      key = Tables.block_key(row(row, :number), info.height)
      :ets.insert_new(state.tables.blocks, {key, info.first, place.number, place.payload_at, place.length})
      state
    else
      groundless(state, {:block, flow, info, nil}, [place], 0)
    end
  end

  defp unnamed(state, _other, _record), do: state

  defp finish(state), do: %{state | notes: Enum.reverse(state.notes), faults: Enum.reverse(state.faults)}

  # Pass 5: the fingerprints of each segment, from the file beside it if it is finished, else from its records. Without
  # an index neither file is made use of; a writer makes both anew, one segment after the other: memory for one is enough.
  defp prints(state) do
    last = state.segments.known |> Map.keys() |> Enum.max(fn -> nil end)

    Enum.reduce(Enum.sort(state.segments.known), state, fn {number, found}, state ->
      prints(state, number, found, last)
    end)
  end

  defp prints(%{segments: segments} = state, number, found, last) do
    key = {state.store_id, number, found.length}
    active? = number == last and found.length < segments.limit

    case not active? and finished(state, number, found, key) do
      {:ok, prints} ->
        :ets.insert(state.tables.segments, {number, :finished, prints})
        state

      _open ->
        open_prints(state, number, found)
    end
  end

  defp finished(%{segments: %{dir: dir}} = state, number, found, key) do
    with false <- number in state.unindexed,
         {:ok, prints} <- Fingerprints.open(state.files, Derived.prints(dir, number), key) do
      {:ok, prints}
    else
      _none when state.tables.mode == :write and state.faults == [] -> derive(state, number, found, key)
      _none -> :error
    end
  end

  # What it takes in memory goes with the process.
  defp derive(%{files: files, segments: %{dir: dir}} = state, number, found, key) do
    at = path(state, number)
    Task.await(Task.async(fn -> Derived.make(files, dir, at, key, found) end), :infinity)
  end

  defp open_prints(%{tables: tables} = state, number, found) do
    table = Tables.prints_table()
    :ets.insert(tables.segments, {number, :open, table})

    case Derived.look(state.files, path(state, number), found) do
      {:ok, %{pairs: pairs, damaged: damaged}} ->
        :ets.insert(table, pairs)
        Enum.reduce(damaged, state, &fault(&2, :damaged_euids, file(number), &1))

      # Without them an euid that is known would be taken for a new one.
      {:error, reason} ->
        throw({:unreadable, reason})
    end
  end

  defp path(state, number), do: Tables.segment_path(state.tables, number)
  defp file(number), do: Segments.name(number) <> ".segment"

  defp note(state, what, file, offset) do
    %{state | notes: [%{what: what, file: file, offset: offset} | state.notes]}
  end

  defp fault(state, what, file, offset) do
    state = note(state, what, file, offset)
    %{state | faults: [hd(state.notes) | state.faults]}
  end
end
