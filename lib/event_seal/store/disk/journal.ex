defmodule EventSeal.Store.Disk.Journal do
  @moduledoc false
  # One generation of the journal: a header of 64 bytes, then groups, each with one write and one sync.
  #
  #   header  "EVSEALJ1", u16 version, u16 0, u64 generation, store id[16], marker[8], u32 CRC-32 of the 44 before, zeros
  #   group   marker[8], u64 sequence, u64 payload length, u32 CRC-32 of the payload, u32 CRC-32 of the 28 before; payload
  #   payload a byte for its kind, then: "B" the segments' lengths, "C" what a commit did, "R" all that was carried over
  #           from the generation before stands in front, "E" closed in order
  #
  # A generation is written under another name, synced, and renamed: so it is whole up to "R", and "B" is its first group.
  # Behind that, only the last group can be torn, since none is begun before the one in front of it is synced. The marker
  # is drawn for each file: bytes of a body, or of another generation, never pass for a group.
  #
  # Behind the last group there may be zeros, room for those to come: to sync bytes that lie in a file already takes a
  # fraction of the time of one that grows, since the filesystem has nothing of its own to write. Large groups bring none:
  # for them, writing twice as much would cost more.

  @magic "EVSEALJ1"
  @version 1
  @header 64
  @front 32
  @window 1_048_576
  # As much again as there is, within these bounds: small journals stay small, long ones seldom grow.
  @least_room 4_096
  @most_room 1_048_576
  @large 32_768

  @enforce_keys [:files, :dir, :generation, :path, :fd, :marker]
  defstruct [:files, :dir, :generation, :path, :fd, :marker, sequence: 1, length: @header, room: @header]

  def path(dir, generation), do: Path.join(dir, "journal-" <> hex(generation))

  def generation("journal-" <> hex) when byte_size(hex) == 16 do
    case Integer.parse(hex, 16) do
      {generation, ""} -> {:ok, generation}
      _other -> :error
    end
  end

  def generation(_name), do: :error

  def front_size, do: @front

  @doc "Begins a generation under its temporary name."
  def begin(files, dir, store_id, generation) do
    path = path(dir, generation) <> ".new"
    marker = :crypto.strong_rand_bytes(8)
    files.delete(path)

    with {:ok, fd} <- files.create(path) do
      journal = %__MODULE__{files: files, dir: dir, generation: generation, path: path, fd: fd, marker: marker}

      with {:error, reason} <- files.pwrite(fd, 0, header(generation, store_id, marker)) do
        close(journal)
        {:error, reason}
      else
        :ok -> {:ok, journal}
      end
    end
  end

  @doc "Writes a group without a sync; only a generation that is not published yet is written so."
  def write(journal, payload) do
    {bytes, size} = group(journal, payload)

    with :ok <- journal.files.pwrite(journal.fd, journal.length, bytes) do
      {:ok, %{journal | sequence: journal.sequence + 1, length: journal.length + size}}
    end
  end

  @doc """
  Syncs a new generation and gives it its name: from then on it is the journal.

  `{:error, reason}`: it is not. `{:fatal, reason}`: it may be, now or once the power has gone.
  """
  def publish(%{files: files} = journal) do
    path = path(journal.dir, journal.generation)

    with {:ok, journal} <- write(journal, "R"),
         :ok <- files.datasync(journal.fd) do
      case with(:ok <- files.rename(journal.path, path), do: files.sync_dir(journal.dir)) do
        :ok -> {:ok, %{journal | path: path}}
        {:error, reason} -> {:fatal, reason}
      end
    end
  end

  @doc """
  Writes and syncs a group. `{:error, :undone, reason}`: durably cut back to where it was. `{:error, :unknown, reason}`: nobody
  knows what the file holds behind its old length, and it must not be written again.
  """
  def append(%{files: files} = journal, payload) do
    {bytes, size} = group(journal, payload)
    end_of_group = journal.length + size
    spare = spare(journal, size)

    with {:write, :ok} <- {:write, files.pwrite(journal.fd, journal.length, [bytes, :binary.copy(<<0>>, spare)])},
         {:sync, :ok} <- {:sync, files.datasync(journal.fd)} do
      room = max(journal.room, end_of_group + spare)
      {:ok, %{journal | sequence: journal.sequence + 1, length: end_of_group, room: room}}
    else
      {:sync, {:error, reason}} -> {:error, :unknown, reason}
      {:write, {:error, reason}} -> cut_back(journal, reason)
    end
  end

  # How much room a group brings.
  defp spare(%{length: length, room: room}, size) when length + size <= room or size > @large, do: 0
  defp spare(%{length: length}, _size), do: min(max(length, @least_room), @most_room)

  # The cut is synced too: a group that was refused must not come back with the power.
  defp cut_back(%{files: files} = journal, reason) do
    with :ok <- files.truncate(journal.fd, journal.length),
         :ok <- files.datasync(journal.fd) do
      {:error, :undone, reason}
    else
      {:error, _second} -> {:error, :unknown, reason}
    end
  end

  def close(journal), do: journal.files.close(journal.fd)

  @doc """
  Folds over the good groups of a generation: `fun.(kind, payload behind the kind, its offset, acc)`.

  What was found goes with the result: `torn`, the offset from which on there is nothing good; `damaged`, the offsets of
  bad groups that stand before good ones; `ready`, whether that group was seen; `size`, how far there was something good:
  at most to `limit`, since beside a writer there is soon more.
  """
  def fold(files, path, {generation, store_id}, acc, fun, limit \\ :infinity) do
    with {:ok, size} <- files.size(path),
         {:ok, fd} <- files.open(path, :read) do
      try do
        scan(%{files: files, fd: fd, size: min(size, limit), fun: fun}, generation, store_id, acc)
      after
        files.close(fd)
      end
    end
  end

  defp scan(file, generation, store_id, acc) do
    found = %{torn: nil, damaged: [], ready: false, sequence: 0, resumed: false, size: file.size}

    case marker(file, generation, store_id) do
      {:ok, marker} -> walk(Map.put(file, :marker, marker), @header, found, acc)
      {:damaged, marker} -> walk(Map.put(file, :marker, marker), @header, %{found | damaged: [0]}, acc)
      :error -> {:ok, acc, %{found | damaged: [0]}}
    end
  end

  # A header that was hit by bit rot does not take the groups with it: each of them begins with the marker as well.
  defp marker(file, generation, store_id) do
    case read(file, 0, @header + 8) do
      <<body::binary-44, sum::32, zeros::binary-16, first::binary>> ->
        case body do
          <<@magic, @version::16, 0::16, ^generation::64, ^store_id::binary-16, marker::binary-8>> ->
            if :erlang.crc32(body) == sum and zeros == <<0::128>>,
              do: {:ok, :binary.copy(marker)},
              else: {:damaged, :binary.copy(first)}

          _other ->
            {:damaged, :binary.copy(first)}
        end

      _short ->
        :error
    end
  end

  defp walk(%{size: size}, at, found, acc) when at >= size, do: {:ok, acc, found}

  defp walk(file, at, found, acc) do
    case good(file, at) do
      {:ok, sequence, <<kind, payload::binary>>} when sequence > found.sequence ->
        acc = file.fun.(kind, payload, at + @front + 1, acc)
        next = at + @front + 1 + byte_size(payload)
        walk(file, next, noted(follows(found, sequence, at), kind), acc)

      _bad ->
        resume(file, at, found, acc)
    end
  end

  # A group that is wholly gone leaves no bad one, but a gap in the sequence.
  defp follows(found, sequence, at) do
    gap? = sequence != found.sequence + 1 and not found.resumed
    %{found | sequence: sequence, resumed: false, damaged: if(gap?, do: [at | found.damaged], else: found.damaged)}
  end

  defp noted(found, ?R), do: %{found | ready: true}
  defp noted(found, _kind), do: found

  # No group: is there a good one behind it?
  defp resume(file, at, found, acc) do
    cond do
      zeros?(file, at) -> {:ok, acc, %{found | size: at}}
      next = search(file, at + 1, found.sequence) -> walk(file, next, damaged(found, at), acc)
      true -> {:ok, acc, behind(file, at, %{found | torn: at, size: at})}
    end
  end

  defp damaged(found, at), do: %{found | damaged: [at | found.damaged], resumed: true}

  # What a crash leaves of the last group ends where it would have ended, at the latest. Is there more, it was not the last.
  defp behind(file, at, found) do
    case front(file, at) do
      {:ok, _sequence, length, _sum} when at + @front + length < file.size ->
        if zeros?(file, at + @front + length), do: found, else: %{found | damaged: [at | found.damaged]}

      _torn ->
        found
    end
  end

  # Whether nothing was written from here on.
  defp zeros?(%{size: size}, at) when at >= size, do: true

  defp zeros?(file, at) do
    window = read(file, at, min(@window, file.size - at))
    window == :binary.copy(<<0>>, byte_size(window)) and (window == "" or zeros?(file, at + byte_size(window)))
  end

  defp search(%{size: size}, from, _sequence) when from + @front > size, do: nil

  defp search(file, from, sequence) do
    window = read(file, from, @window)

    candidate =
      Enum.find(:binary.matches(window, file.marker), fn {offset, _length} ->
        match?({:ok, other, <<_kind, _::binary>>} when other > sequence, good(file, from + offset))
      end)

    case candidate do
      {offset, _length} -> from + offset
      nil when byte_size(window) < @window -> nil
      nil -> search(file, from + @window - 7, sequence)
    end
  end

  defp good(file, at) do
    with {:ok, sequence, length, sum} when length > 0 and at + @front + length <= file.size <- front(file, at),
         payload = read(file, at + @front, length),
         true <- :erlang.crc32(payload) == sum do
      {:ok, sequence, payload}
    else
      _bad -> :error
    end
  end

  defp front(%{marker: marker} = file, at) do
    with <<front::binary-28, check::32>> <- read(file, at, @front),
         <<^marker::binary-8, sequence::64, length::64, sum::32>> <- front,
         true <- :erlang.crc32(front) == check do
      {:ok, sequence, length, sum}
    else
      _bad -> :error
    end
  end

  defp read(file, at, length) do
    case file.files.pread(file.fd, at, length) do
      {:ok, bytes} -> bytes
      :eof -> ""
      {:error, reason} -> throw({:unreadable, reason})
    end
  end

  defp group(journal, payload) do
    length = :erlang.iolist_size(payload)
    front = <<journal.marker::binary, journal.sequence::64, length::64, :erlang.crc32(payload)::32>>
    {[front, <<:erlang.crc32(front)::32>>, payload], @front + length}
  end

  defp header(generation, store_id, marker) do
    body = <<@magic, @version::16, 0::16, generation::64, store_id::binary-16, marker::binary-8>>
    <<body::binary, :erlang.crc32(body)::32, 0::unit(8)-size(@header - 48)>>
  end

  defp hex(generation), do: generation |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(16, "0")
end
