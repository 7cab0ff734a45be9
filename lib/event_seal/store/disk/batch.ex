defmodule EventSeal.Store.Disk.Batch do
  @moduledoc false
  # A commit as bytes of the journal, and as steps that say where in them everything lies. The caller of the commit packs
  # it, checksums of blocks and fingerprints of euids included, so that the committer has little left to do.
  #
  # A "C" group holds u32 count, then for each commit: u32 count of its blocks, where they lie (u32 segment, u64 offset,
  # u64 length), u64 length of its bytes, and these.

  alias EventSeal.Segments.{Fingerprints, Record}

  @keep 0xFFFF_FFFF_FFFF_FFFF
  @place 20

  defstruct bytes: "", steps: [], blocks: 0

  # Lengths of flows are written in 16 bits.
  defguardp is_flow(flow) when is_binary(flow) and byte_size(flow) <= 0xFFFF
  defguardp is_seq(seq) when is_integer(seq) and seq >= 0 and seq <= 0xFFFF_FFFF_FFFF

  @type step ::
          {:expect, String.t(), non_neg_integer | :none}
          | {:open, String.t(), binary}
          | {:put, String.t(), non_neg_integer, :pool | :tail | :carried, {non_neg_integer, non_neg_integer},
             :keep | {non_neg_integer, non_neg_integer}}
          | {:drop, String.t(), non_neg_integer, binary}
          | {:block, String.t(), map, map | nil}
          | {:leaves | :checkpoints, binary}

  @doc "Packs operations; `{:error, :invalid}` if one of them is none."
  def pack(ops), do: pack_with(ops, &pack/2)

  @doc "Packs what a rotation carries over: flows, and entries of the pool that may stand behind a `seq` used before."
  def carry(ops), do: pack_with(ops, &carry/2)

  defp pack_with(ops, pack) do
    {bytes, steps, blocks, _at} = Enum.reduce(ops, {[], [], 0, 0}, pack)
    {:ok, %__MODULE__{bytes: IO.iodata_to_binary(Enum.reverse(bytes)), steps: Enum.reverse(steps), blocks: blocks}}
  catch
    :invalid -> {:error, :invalid}
  end

  defp pack({:expect, flow, height}, {bytes, steps, blocks, at}) when is_flow(flow) do
    {bytes, [{:expect, flow, height} | steps], blocks, at}
  end

  defp pack({:open, flow, genesis}, acc) when is_flow(flow) and is_binary(genesis) do
    add(acc, [<<1, byte_size(flow)::16, flow::binary, byte_size(genesis)::32>>, genesis], {:open, flow, genesis})
  end

  defp pack({:put, flow, seq, stage, meta, data}, acc)
       when is_flow(flow) and is_seq(seq) and stage in [:pool, :tail] and is_binary(meta) and
              (is_binary(data) or data == :keep) do
    add_put(acc, flow, seq, stage, meta, data)
  end

  defp pack({:drop, flow, seq, <<euid::binary-16>>}, acc) when is_flow(flow) and is_seq(seq) do
    add(acc, <<3, byte_size(flow)::16, flow::binary, seq::64, euid::binary>>, {:drop, flow, seq, euid})
  end

  defp pack({:block, flow, info, block}, {bytes, steps, blocks, at}) when is_flow(flow) do
    record = Record.new("", info.euids, block)
    unless byte_size(info.euids) == 16 * info.count, do: throw(:invalid)
    sealed = %{record: record, prints: Fingerprints.of(flow, info.euids)}
    step = {:block, flow, Map.delete(info, :euids), sealed}
    add({bytes, steps, blocks + 1, at}, [<<4>>, Record.block_meta(flow, info, "")], step)
  end

  defp pack({:leaf, item}, acc) when is_binary(item), do: add(acc, [<<5, byte_size(item)::32>>, item], {:leaves, item})

  defp pack({:checkpoint, item}, acc) when is_binary(item),
    do: add(acc, [<<6, byte_size(item)::32>>, item], {:checkpoints, item})

  defp pack(_other, _acc), do: throw(:invalid)

  defp carry({:put, flow, seq, :pool, meta, data}, acc), do: add_put(acc, flow, seq, :carried, meta, data)
  defp carry({:open, _flow, _genesis} = op, acc), do: pack(op, acc)

  defp add_put({_, _, _, at} = acc, flow, seq, stage, meta, data) do
    size = if data == :keep, do: @keep, else: byte_size(data)
    front = <<2, byte_size(flow)::16, flow::binary, seq::64, code(stage), byte_size(meta)::32, size::64>>
    meta_at = at + byte_size(front)
    data_at = if data == :keep, do: :keep, else: {meta_at + byte_size(meta), size}
    bytes = if data == :keep, do: [front, meta], else: [front, meta, data]
    add(acc, bytes, {:put, flow, seq, stage, {meta_at, byte_size(meta)}, data_at})
  end

  defp add({bytes, steps, blocks, at}, more, step) do
    {[more | bytes], [step | steps], blocks, at + :erlang.iolist_size(more)}
  end

  @doc "How many bytes stand in front of a commit's own."
  def front_size(batch), do: 12 + batch.blocks * @place

  @doc "The payload of a group behind its kind; `places` are those of all blocks, in order."
  def group(batches, places), do: [<<length(batches)::32>> | group_each(batches, places)]

  defp group_each([], []), do: []

  defp group_each([batch | batches], places) do
    {own, rest} = Enum.split(places, batch.blocks)
    places = for place <- own, do: <<place.number::32, place.payload_at::64, place.length::64>>
    [<<batch.blocks::32>>, places, <<byte_size(batch.bytes)::64>>, batch.bytes | group_each(batches, rest)]
  end

  @doc "The commits of a group that lies at `at`: for each its steps, its blocks' places and the offset of its bytes."
  def ungroup(<<count::32, rest::binary>>, at), do: ungroup(count, rest, at + 4, [])

  defp ungroup(0, "", _at, batches), do: Enum.reverse(batches)

  defp ungroup(count, <<blocks::32, rest::binary>>, at, batches) do
    size = blocks * @place
    <<places::binary-size(size), length::64, bytes::binary-size(length), rest::binary>> = rest

    places =
      for <<number::32, offset::64, length::64 <- places>>, do: %{number: number, payload_at: offset, length: length}

    start = at + 12 + size
    ungroup(count - 1, rest, start + length, [{unpack(bytes, 0, []), places, start} | batches])
  end

  defp unpack("", _at, steps), do: Enum.reverse(steps)

  defp unpack(<<1, fl::16, flow::binary-size(fl), gl::32, genesis::binary-size(gl), rest::binary>>, at, steps) do
    unpack(rest, at + 7 + fl + gl, [{:open, :binary.copy(flow), :binary.copy(genesis)} | steps])
  end

  defp unpack(<<2, fl::16, flow::binary-size(fl), seq::64, stage, ml::32, size::64, rest::binary>>, at, steps) do
    meta_at = at + 24 + fl
    dl = if size == @keep, do: 0, else: size
    <<_meta::binary-size(ml), _data::binary-size(dl), rest::binary>> = rest
    data = if size == @keep, do: :keep, else: {meta_at + ml, dl}
    step = {:put, :binary.copy(flow), seq, stage(stage), {meta_at, ml}, data}
    unpack(rest, meta_at + ml + dl, [step | steps])
  end

  defp unpack(<<3, fl::16, flow::binary-size(fl), seq::64, euid::binary-16, rest::binary>>, at, steps) do
    unpack(rest, at + 27 + fl, [{:drop, :binary.copy(flow), seq, :binary.copy(euid)} | steps])
  end

  defp unpack(<<4, 1, fl::16, _flow::binary-size(fl), 0::32, _::binary-37, rest::binary>> = bytes, at, steps) do
    {:block, flow, info, nil} = Record.meta(binary_part(bytes, 1, 44 + fl))
    unpack(rest, at + 45 + fl, [{:block, flow, info, nil} | steps])
  end

  defp unpack(<<5, length::32, item::binary-size(length), rest::binary>>, at, steps) do
    unpack(rest, at + 5 + length, [{:leaves, :binary.copy(item)} | steps])
  end

  defp unpack(<<6, length::32, item::binary-size(length), rest::binary>>, at, steps) do
    unpack(rest, at + 5 + length, [{:checkpoints, :binary.copy(item)} | steps])
  end

  defp code(:pool), do: 0
  defp code(:tail), do: 1
  defp code(:carried), do: 2
  defp stage(0), do: :pool
  defp stage(1), do: :tail
  defp stage(2), do: :carried
end
