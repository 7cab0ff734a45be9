defmodule EventSeal.Segments do
  @moduledoc """
  Append-only files of sealed blocks, and of what has left a journal: pure bookkeeping over the files of a folder.

  A segment is written until it reaches its limit, then a new one is begun; what stands in one never moves and is never
  written over. `append/2` writes records and syncs them; only then may a journal speak of them. Behind the length that
  the journal knows there may stand bytes of an append that never was acknowledged; they are cut off when the folder is
  opened for writing.

  ## When an append fails

  Nothing of it remains: the segment goes back to its old length, and segments begun for it are removed. If a *sync* has
  failed, or going back has, the state of the file behind that length is unknown: the segment is ended there, and the
  next append begins a new one.
  """

  alias EventSeal.Error
  alias EventSeal.Segments.Record
  alias EventSeal.Store.Piece

  @enforce_keys [:files, :dir, :store_id, :limit]
  defstruct [:files, :dir, :store_id, :limit, :active, known: %{}, next_number: 1, sequence: 1]

  @type place :: %{number: pos_integer, at: non_neg_integer, meta_at: non_neg_integer, payload_at: non_neg_integer}
  @type t :: %__MODULE__{}

  # Offsets in a segment must fit in 32 bits (fingerprints); a single record may be larger than a segment's limit.
  @limit 0xC000_0000

  @spec new(module, Path.t(), binary, pos_integer) :: t
  def new(files, dir, store_id, limit) do
    %__MODULE__{files: files, dir: dir, store_id: store_id, limit: min(limit, @limit)}
  end

  @spec path(Path.t(), pos_integer) :: Path.t()
  def path(dir, number), do: derived(dir, number, ".segment")

  @doc "The path of a file that is derived from a segment and lies beside it."
  @spec derived(Path.t(), pos_integer, String.t()) :: Path.t()
  def derived(dir, number, extension), do: "#{dir}/#{name(number)}#{extension}"

  @doc "The numbers of the segments among the names in a folder."
  @spec numbers([String.t()]) :: [non_neg_integer]
  def numbers(names), do: for(name <- names, {number, ".segment"} <- [Integer.parse(name, 16)], do: number)

  @doc "Where a segment lies: in the second folder, if there is one and it is there, else in the first."
  @spec locate(module, {Path.t(), Path.t() | nil}, pos_integer) :: Path.t()
  def locate(_files, {dir, nil}, number), do: path(dir, number)

  def locate(files, {dir, archive}, number) do
    archived = path(archive, number)
    if match?({:ok, _size}, files.size(archived)), do: archived, else: path(dir, number)
  end

  @spec name(pos_integer) :: String.t()
  def name(number), do: Base.encode16(<<number::32>>, case: :lower)

  @doc "The bytes of a payload; `:corrupt` if its checksum, which stands in front of it, is wrong."
  @spec pread(module, :file.fd(), non_neg_integer, non_neg_integer) :: {:ok, binary} | {:error, Error.t()}
  def pread(files, fd, offset, length), do: Piece.checked(files.pread(fd, offset - 4, length + 4), length)

  @doc "Takes a segment into the books, as it was found; the last one is written on if it has room."
  def adopt(segments, number, found) do
    %{
      segments
      | known: Map.put(segments.known, number, found),
        next_number: max(segments.next_number, number + 1),
        sequence: max(segments.sequence, found.sequence + 1)
    }
  end

  @doc "Opens the last known segment for writing, if it has room and was not moved elsewhere."
  def resume(%{known: known} = segments) when map_size(known) == 0, do: {:ok, segments}

  def resume(segments) do
    {number, found} = Enum.max(segments.known)

    if found.length < segments.limit do
      case segments.files.open(path(segments.dir, number), :write) do
        {:ok, fd} -> {:ok, %{segments | active: %{number: number, fd: fd}}}
        {:error, :enoent} -> {:ok, segments}
        {:error, reason} -> {:error, reason}
      end
    else
      {:ok, segments}
    end
  end

  @doc """
  Writes the records, in their order, and syncs every segment that was touched.

  Returns their places, in order, and the segments that were ended by it; on failure the state to go on with.
  """
  @spec append(t, [Record.t()]) :: {:ok, [place], t} | {:error, {atom, atom}, t}
  def append(segments, records) do
    case write(segments, records, []) do
      {:ok, places, written} -> {:ok, places, written}
      {:error, step, reason, failed} -> {:error, {step, reason}, undo(segments, failed, step)}
    end
  end

  defp write(segments, [], places), do: {:ok, places |> Enum.reverse() |> Enum.concat(), segments}

  defp write(segments, records, places) do
    with {:ok, segments} <- ready(segments),
         {chunk, rest} = fitting(segments, records),
         {:ok, placed, segments} <- write_chunk(segments, chunk) do
      write(if(rest == [], do: segments, else: finish(segments)), rest, [placed | places])
    end
  end

  defp ready(%{active: %{number: number}} = segments) do
    if segments.known[number].length < segments.limit, do: {:ok, segments}, else: segments |> finish() |> ready()
  end

  defp ready(%{files: files, next_number: number} = segments) do
    marker = :crypto.strong_rand_bytes(8)
    path = path(segments.dir, number)
    segments = %{segments | next_number: number + 1}

    with {:create, {:ok, fd}} <- {:create, files.create(path)},
         segments = %{segments | active: %{number: number, fd: fd}},
         {:write, :ok} <- {:write, files.pwrite(fd, 0, Record.header(number, segments.store_id, marker))},
         {:sync, :ok} <- {:sync, files.datasync(fd)},
         {:sync, :ok} <- {:sync, files.sync_dir(segments.dir)} do
      found = %{length: Record.header_size(), sequence: 0, check: 0, marker: marker}
      {:ok, %{segments | known: Map.put(segments.known, number, found)}}
    else
      {step, {:error, reason}} -> {:error, step, reason, segments}
    end
  end

  # As many as fit, but at least one.
  defp fitting(segments, records) do
    room = segments.limit - segments.known[segments.active.number].length

    {chunk, _left} =
      Enum.reduce_while(records, {[], room}, fn record, {chunk, left} ->
        size = Record.size(record)
        if chunk == [] or size <= left, do: {:cont, {[record | chunk], left - size}}, else: {:halt, {chunk, left}}
      end)

    {Enum.reverse(chunk), Enum.drop(records, length(chunk))}
  end

  defp write_chunk(%{files: files, active: %{number: number, fd: fd}} = segments, chunk) do
    found = segments.known[number]
    {bytes, places, found_after, sequence} = lay_out(chunk, number, found, segments.sequence)

    with {:write, :ok} <- {:write, files.pwrite(fd, found.length, bytes)},
         {:sync, :ok} <- {:sync, files.datasync(fd)} do
      {:ok, places, %{segments | known: Map.put(segments.known, number, found_after), sequence: sequence}}
    else
      {step, {:error, reason}} -> {:error, step, reason, segments}
    end
  end

  defp lay_out(chunk, number, found, sequence) do
    {bytes, places, found, sequence} =
      Enum.reduce(chunk, {[], [], found, sequence}, fn record, {bytes, places, found, sequence} ->
        {encoded, check} = Record.encode(record, found.marker, sequence)
        at = found.length
        next = at + Record.size(record)
        place = %{number: number, at: at, meta_at: at + 40, payload_at: next - record.length, length: record.length}
        {[encoded | bytes], [place | places], %{found | length: next, sequence: sequence, check: check}, sequence + 1}
      end)

    {Enum.reverse(bytes), Enum.reverse(places), found, sequence}
  end

  defp finish(%{active: nil} = segments), do: segments

  defp finish(%{active: %{fd: fd}} = segments) do
    segments.files.close(fd)
    %{segments | active: nil}
  end

  # Back to the books as they were. Numbers are not used again: a file may have outlived its removal.
  defp undo(before, failed, step) do
    started = Map.keys(failed.known) -- Map.keys(before.known)
    before = %{before | next_number: failed.next_number, sequence: failed.sequence}
    failed_active = failed.active && failed.active.number
    if failed_active != (before.active && before.active.number), do: finish(failed)
    for number <- Enum.uniq([failed_active | started]), unknown?(before, number), do: remove(before, number)
    cut_back(before, step, failed_active)
  end

  defp unknown?(_before, nil), do: false
  defp unknown?(before, number), do: not is_map_key(before.known, number)

  defp remove(segments, number), do: segments.files.delete(path(segments.dir, number))

  defp cut_back(%{active: nil} = segments, _step, _failed), do: segments

  defp cut_back(%{files: files, active: %{number: number, fd: fd}} = segments, step, failed) do
    length = segments.known[number].length

    with true <- failed == number and step == :write,
         :ok <- files.truncate(fd, length),
         :ok <- files.datasync(fd) do
      segments
    else
      _unknown ->
        files.truncate(fd, length)
        files.close(fd)
        %{segments | active: nil}
    end
  end

  @doc """
  Goes on from `earlier` without touching what was appended since: a journal may speak of it or not, nobody knows. It is
  cut off when the folder is opened again, if it does not.
  """
  @spec abandon(t, t) :: t
  def abandon(segments, earlier) do
    finish(segments)
    %{earlier | active: nil, next_number: segments.next_number, sequence: segments.sequence}
  end

  @doc "Goes back to `earlier`, a state from before an append that has come to nothing after all."
  @spec roll_back(t, t) :: t
  def roll_back(segments, earlier), do: undo(earlier, segments, :sync)

  @doc """
  Folds over the fronts of the records between two offsets, in large sequential reads; payloads are passed over.

  `fun` gets each record as `Record.decode/3` gives it. Returns `{:error, offset, acc}` at the first that is not one.
  """
  def fold(files, fd, marker, from, to, acc, fun), do: fold_at({files, fd, marker, to, fun}, from, "", from, acc)

  @chunk 1_048_576

  defp fold_at({_, _, _, to, _}, at, _buffer, _start, acc) when at == to, do: {:ok, acc}
  defp fold_at({_, _, _, to, _}, at, _buffer, _start, acc) when at > to, do: {:error, at, acc}

  defp fold_at({files, fd, marker, to, fun} = scan, at, buffer, start, acc) do
    skip = at - start
    bytes = if skip < byte_size(buffer), do: binary_part(buffer, skip, byte_size(buffer) - skip), else: ""

    case Record.decode(bytes, at, marker) do
      {:ok, record} ->
        fold_at(scan, record.next, buffer, start, fun.(record, acc))

      {:more, wanted} ->
        case files.pread(fd, at, min(max(wanted, @chunk), to - at)) do
          {:ok, more} when byte_size(more) > byte_size(bytes) -> fold_at(scan, at, more, at, acc)
          _short -> {:error, at, acc}
        end

      :error ->
        {:error, at, acc}
    end
  end
end
