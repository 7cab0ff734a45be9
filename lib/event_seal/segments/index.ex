defmodule EventSeal.Segments.Index do
  @moduledoc false
  # The fronts of a finished segment's records, without what lies between them, in a file beside it: a store opens without
  # reading all that it holds. Each front carries its own checksum and the segment's marker, as it does in the segment.
  # The file is derived from the segment; if it is not there or not right, the segment is read.
  #
  #   "EVSEALI1", store id[16], u32 number, u64 segment length, u64 length of the fronts, u32 CRC-32 of the 44 before;
  #   fronts (each record's first 40 bytes and its meta); u32 CRC-32 of the fronts

  alias EventSeal.Segments.{Files, Record}

  @magic "EVSEALI1"

  @doc "Writes the file; `records` are decoded, newest first."
  def write(files, path, {store_id, number, segment_length}, marker, records) do
    fronts = for record <- Enum.reverse(records), do: Record.front(record, marker)
    length = IO.iodata_length(fronts)
    front = <<@magic, store_id::binary, number::32, segment_length::64, length::64>>
    Files.put(files, path, [front, <<:erlang.crc32(front)::32>>, fronts, <<:erlang.crc32(fronts)::32>>])
  end

  @doc """
  Folds over the records as `EventSeal.Segments.fold/7` does over those of the segment itself; `:error` if the file does not
  tell of the whole segment, `{store id, number, length}`.
  """
  def fold(files, path, key, marker, acc, fun) do
    with {:ok, bytes} <- Files.get(files, path),
         {:ok, fronts} <- checked(bytes, key) do
      each(fronts, marker, key, acc, fun)
    else
      _none -> :error
    end
  end

  defp checked(<<front::binary-44, sum::32, rest::binary>>, {store_id, number, segment_length}) do
    with <<@magic, ^store_id::binary-16, ^number::32, ^segment_length::64, length::64>> <- front,
         true <- :erlang.crc32(front) == sum,
         <<fronts::binary-size(length), fronts_sum::32>> <- rest,
         true <- :erlang.crc32(fronts) == fronts_sum do
      {:ok, fronts}
    else
      _other -> :error
    end
  end

  defp checked(_short, _key), do: :error

  defp each(fronts, marker, {_store_id, _number, to}, acc, fun),
    do: each(fronts, Record.header_size(), to, marker, acc, fun)

  defp each("", to, to, _marker, acc, _fun), do: {:ok, acc}

  defp each(fronts, at, to, marker, acc, fun) do
    with {:ok, record} <- Record.decode(fronts, at, marker) do
      size = record.keys_at - at
      each(binary_part(fronts, size, byte_size(fronts) - size), record.next, to, marker, fun.(record, acc), fun)
    else
      _other -> :error
    end
  end
end
