defmodule EventSeal.Segments.Fingerprints do
  @moduledoc false
  # Which euids a segment holds: 32 bits of each, with the offset of the record that holds it.
  #
  # While a segment is written they stand in ETS. Of a finished one they stand sorted in a file beside it, and a Bloom
  # filter of 10 bits an event stays in memory: most questions about an unknown euid cost no read. The file is derived
  # from the segment; if it is not there or not right, it is made anew.
  #
  #   "EVSEALE1", store id[16], u32 number, u64 segment length, u32 count, u32 filter bytes, u8 fan bits, u32 CRC-32 of the
  #   45 before; filter; fan-out of 2^bits + 1 u32 (where the prints with these first bits begin); u32 print, u32 offset …;
  #   u32 CRC-32 of all that stands between the header and it

  import Bitwise
  alias EventSeal.Segments.Files

  @magic "EVSEALE1"
  @header 49
  @probes 7

  defstruct [:path, :filter, :bits, :fan_at, :entries_at]

  @doc "The fingerprints of packed euids; the flow is part of each, since an euid is only looked for in its flow."
  def of(flow, euids), do: for(<<euid::binary-16 <- euids>>, do: print(flow, euid))

  def print(flow, euid), do: :erlang.phash2({flow, euid}, 0x1_0000_0000)

  @doc "Writes the file of a finished segment from its `{print, offset}` pairs."
  def write(files, path, {store_id, number, segment_length}, pairs) do
    pairs = :lists.usort(pairs)
    count = length(pairs)
    bits = fan_bits(count)
    filter = filter(pairs, count)
    entries = for {print, offset} <- pairs, into: "", do: <<print::32, offset::32>>
    body = [filter, fan_out(pairs, bits), entries]
    front = <<@magic, store_id::binary, number::32, segment_length::64, count::32, byte_size(filter)::32, bits>>
    Files.put(files, path, [front, <<:erlang.crc32(front)::32>>, body, <<:erlang.crc32(body)::32>>])
  end

  @doc "Opens the file of a finished segment; `:error` if it is not there or not what it should be."
  def open(files, path, segment), do: files |> Files.get(path) |> checked(path, segment)

  defp checked({:ok, <<front::binary-45, sum::32, rest::binary>>}, path, {store_id, number, length}) do
    with <<@magic, ^store_id::binary-16, ^number::32, ^length::64, count::32, filter_size::32, bits>> <- front,
         true <- :erlang.crc32(front) == sum,
         body_size = filter_size + 4 * ((1 <<< bits) + 1) + 8 * count,
         <<body::binary-size(body_size), body_sum::32>> <- rest,
         true <- :erlang.crc32(body) == body_sum do
      fan_at = @header + filter_size
      entries_at = fan_at + 4 * ((1 <<< bits) + 1)
      filter = :binary.copy(binary_part(body, 0, filter_size))
      {:ok, %__MODULE__{path: path, filter: filter, bits: bits, fan_at: fan_at, entries_at: entries_at}}
    else
      _other -> :error
    end
  end

  defp checked(_short, _path, _segment), do: :error

  @doc "The offsets of the records that may hold the print."
  def find(prints, print, files) do
    if member?(prints.filter, print), do: search(prints, print, files), else: {:ok, []}
  end

  defp search(prints, print, files) do
    with {:ok, fd} <- files.open(prints.path, :read) do
      slot = print >>> (32 - prints.bits)

      result =
        with {:ok, <<from::32, to::32>>} <- files.pread(fd, prints.fan_at + 4 * slot, 8),
             {:ok, entries} when to > from <- files.pread(fd, prints.entries_at + 8 * from, 8 * (to - from)) do
          {:ok, for(<<^print::32, offset::32 <- entries>>, do: offset)}
        else
          {:ok, _none} -> {:ok, []}
          :eof -> {:error, :eof}
          {:error, reason} -> {:error, reason}
        end

      files.close(fd)
      result
    end
  end

  # About 32 prints a slot: two reads find any of them.
  defp fan_bits(count), do: max(0, length(Integer.digits(max(count, 1), 2)) - 6)

  defp fan_out(pairs, bits) do
    counts = Enum.frequencies_by(pairs, fn {print, _offset} -> print >>> (32 - bits) end)

    {starts, total} =
      Enum.map_reduce(0..((1 <<< bits) - 1), 0, fn slot, sum -> {<<sum::32>>, sum + Map.get(counts, slot, 0)} end)

    [starts, <<total::32>>]
  end

  defp filter(pairs, count) do
    words = div(max(count, 7) * 10, 64) + 1
    filter = :atomics.new(words, signed: false)

    for {print, _offset} <- pairs, bit <- probes(print, words * 64) do
      word = (bit >>> 6) + 1
      :atomics.put(filter, word, :atomics.get(filter, word) ||| 1 <<< (bit &&& 63))
    end

    for word <- 1..words, into: "", do: <<:atomics.get(filter, word)::64>>
  end

  defp member?(filter, print), do: Enum.all?(probes(print, bit_size(filter)), &bit?(filter, &1))

  defp bit?(filter, bit) do
    <<word::64>> = binary_part(filter, (bit >>> 6) * 8, 8)
    (word >>> (bit &&& 63) &&& 1) == 1
  end

  # Two hashes make seven, after Kirsch and Mitzenmacher; the second must be odd.
  defp probes(print, bits) do
    second = :erlang.phash2(print, 0x1_0000_0000) ||| 1
    for i <- 0..(@probes - 1), do: rem(print + i * second, bits)
  end
end
