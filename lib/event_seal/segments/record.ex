defmodule EventSeal.Segments.Record do
  @moduledoc false
  # The bytes of a segment: a header of 64, then records, one behind the other.
  #
  #   header  "EVSEALS1", u16 version, u16 0, u32 number, store id[16], marker[8], u32 CRC-32 of the 40 before, zeros
  #   record  marker[8], u64 sequence, u32 meta length, u32 keys length, u64 payload length, u32 CRC-32 of the keys,
  #           u32 CRC-32 of the 36 before and the meta; meta; keys; u32 CRC-32 of the payload; payload
  #
  # The marker is drawn for each file, so no body can pass for a record. The payload's checksum stands directly before it:
  # a reader who knows where the payload lies reads both at once.

  @magic "EVSEALS1"
  @version 1
  @header 64
  @fixed 40

  @type kind :: :block | :tail | :leaves | :checkpoints
  @type t :: %{meta: iodata, keys: binary, payload: iodata, length: non_neg_integer, sum: non_neg_integer}

  def header_size, do: @header

  def header(number, store_id, marker) do
    body = <<@magic, @version::16, 0::16, number::32, store_id::binary-16, marker::binary-8>>
    <<body::binary, :erlang.crc32(body)::32, 0::unit(8)-size(@header - 44)>>
  end

  @doc "The marker of a segment's header, if it is the header of that segment of that store."
  def marker(<<body::binary-40, sum::32, 0::unit(8)-size(@header - 44)>>, number, store_id) do
    case body do
      <<@magic, @version::16, 0::16, ^number::32, ^store_id::binary-16, marker::binary-8>> ->
        if :erlang.crc32(body) == sum, do: {:ok, :binary.copy(marker)}, else: :error

      _other ->
        :error
    end
  end

  def marker(_other, _number, _store_id), do: :error

  @doc "A record that waits for its place; whoever makes it pays for the checksum of its payload."
  def new(meta, keys, payload) do
    %{meta: meta, keys: keys, payload: payload, length: :erlang.iolist_size(payload), sum: :erlang.crc32(payload)}
  end

  def size(record) do
    @fixed + :erlang.iolist_size(record.meta) + byte_size(record.keys) + 4 + record.length
  end

  def encode(record, marker, sequence) do
    meta = IO.iodata_to_binary(record.meta)
    keys = record.keys
    sums = :erlang.crc32(keys)
    front = <<marker::binary, sequence::64, byte_size(meta)::32, byte_size(keys)::32, record.length::64, sums::32>>
    check = :erlang.crc32(:erlang.crc32(front), meta)
    {[front, <<check::32>>, meta, keys, <<record.sum::32>>, record.payload], check}
  end

  @doc "The front of a decoded record, as it stands in its segment, with its meta."
  def front(%{sequence: sequence, meta: meta} = record, marker) do
    [
      <<marker::binary, sequence::64, record.meta_length::32, record.keys_length::32, record.payload_length::64>>,
      <<record.keys_sum::32, record.check::32>>,
      meta
    ]
  end

  @doc """
  Reads the front of a record from `bytes`, which begin at `offset` of the file and may end anywhere: `{:more, wanted}` says
  how many are needed.
  """
  def decode(bytes, offset, marker) do
    case bytes do
      <<^marker::binary-8, sequence::64, meta::32, keys::32, payload::64, keys_sum::32, check::32, rest::binary>> ->
        front(bytes, rest, check, %{
          sequence: sequence,
          check: check,
          at: offset,
          meta_at: offset + @fixed,
          meta_length: meta,
          keys_at: offset + @fixed + meta,
          keys_length: keys,
          keys_sum: keys_sum,
          payload_at: offset + @fixed + meta + keys + 4,
          payload_length: payload,
          next: offset + @fixed + meta + keys + 4 + payload
        })

      _other when byte_size(bytes) < @fixed ->
        {:more, @fixed}

      _other ->
        :error
    end
  end

  defp front(_bytes, rest, _check, record) when byte_size(rest) < record.meta_length do
    # A length that was hit by bit rot must not make the reader ask for gigabytes.
    if record.meta_length > 67_108_864, do: :error, else: {:more, @fixed + record.meta_length}
  end

  defp front(bytes, rest, check, record) do
    meta = binary_part(rest, 0, record.meta_length)

    if :erlang.crc32(:erlang.crc32(binary_part(bytes, 0, 36)), meta) == check do
      {:ok, Map.put(record, :meta, meta)}
    else
      :error
    end
  end

  # Metas: what the store has to know of a record without its payload.

  def block_meta(flow, info, genesis) do
    flags = if(info.closes, do: 1, else: 0) + if(info.when_max, do: 2, else: 0)

    [
      <<1, byte_size(flow)::16, flow::binary, byte_size(genesis)::32, genesis::binary, info.height::64,
        info.first::64>>,
      <<info.count::32, info.through::64, flags, info.when_max || 0::signed-64>>
    ]
  end

  def tail_meta(flow, genesis, next_seq, ranges) do
    [
      <<2, byte_size(flow)::16, flow::binary, byte_size(genesis)::32, genesis::binary, next_seq::64,
        length(ranges)::32>>,
      for({from, to} <- ranges, do: <<from::64, to::64>>)
    ]
  end

  def log_meta(:leaves, from, count), do: <<3, from::64, count::32>>
  def log_meta(:checkpoints, from, count), do: <<4, from::64, count::32>>

  @doc "A meta decoded; texts are copied, so that nothing holds on to what was read with them."
  def meta(<<1, fl::16, flow::binary-size(fl), gl::32, genesis::binary-size(gl), height::64, first::64, rest::binary>>) do
    <<count::32, through::64, flags, when_max::signed-64>> = rest

    info = %{
      height: height,
      first: first,
      count: count,
      through: through,
      when_max: if(:erlang.band(flags, 2) == 2, do: when_max),
      closes: :erlang.band(flags, 1) == 1
    }

    {:block, :binary.copy(flow), info, genesis_in(flow, genesis)}
  end

  def meta(
        <<2, fl::16, flow::binary-size(fl), gl::32, genesis::binary-size(gl), next_seq::64, count::32, rest::binary>>
      ) do
    ranges = for <<from::64, to::64 <- rest>>, do: {from, to}
    ^count = length(ranges)
    {:tail, :binary.copy(flow), next_seq, ranges, genesis_in(flow, genesis)}
  end

  def meta(<<3, from::64, count::32>>), do: {:leaves, from, count}
  def meta(<<4, from::64, count::32>>), do: {:checkpoints, from, count}

  @doc """
  Where in a meta the genesis lies, `{offset, length, CRC-32}`, so that it can be read again and need not be kept; nil if it
  has none.
  """
  def genesis_in(_flow, ""), do: nil
  def genesis_in(flow, genesis), do: {7 + byte_size(flow), byte_size(genesis), :erlang.crc32(genesis)}

  # The payload of a tail record.

  def entries(entries) do
    for {seq, meta, data} <- entries, do: [<<seq::64, byte_size(meta)::32, byte_size(data)::64>>, meta, data]
  end

  def decode_entries(payload) do
    for <<seq::64, m::32, d::64, meta::binary-size(m), data::binary-size(d) <- payload>> do
      {seq, :binary.copy(meta), :binary.copy(data)}
    end
  end

  # The payload of a log record.

  def items(items), do: for(item <- items, do: [<<byte_size(item)::32>>, item])
  def decode_items(payload), do: for(<<size::32, item::binary-size(size) <- payload>>, do: :binary.copy(item))

  @doc "Ascending numbers as runs: `[1, 2, 3, 7]` is `[{1, 3}, {7, 7}]`."
  def ranges(seqs) do
    seqs
    |> Enum.reduce([], fn
      seq, [{from, to} | rest] when seq == to + 1 -> [{from, seq} | rest]
      seq, ranges -> [{seq, seq} | ranges]
    end)
    |> Enum.reverse()
  end
end
