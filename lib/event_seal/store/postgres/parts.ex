defmodule EventSeal.Store.Postgres.Parts do
  @moduledoc false
  # A packed block taken apart into what its rows keep, and put together again, byte for byte (FORMAT.md, "Packed
  # container"). Sections are cut, never interpreted; only lengths are made anew, and they follow from what they count.

  @unit 64
  @preamble 64
  @front_end 448
  @longest_frame 255

  @typedoc "A frame, event hash, id, salted body (nil if it is not there) and units of one that was erased (or nil)."
  @type event :: {binary, binary, binary, binary | nil, pos_integer | nil}

  @doc """
  The front of a block, up to its seams, and its events; of a kept part the front, and its digests; `:error` for what is
  neither.
  """
  @spec split(binary) :: {:ok, binary, [event], binary | nil} | :error
  def split(<<"EVSEALB1", verification::64, _::binary-74, flow::16, _::binary>> = block) do
    front = front(flow)
    <<_::binary-size(front - 444), count::32, _::binary>> = block
    {frames, hashes} = cut(block, front + padded(count), for(<<units <- binary_part(block, front, count)>>, do: units))
    ids = hashes + padded(32 * count)
    digests = for at <- [hashes, ids], do: for(n <- 0..(count - 1)//1, do: binary_part(block, at + 32 * n, 32))
    bodies = bodies(block, verification, count)

    events =
      Enum.zip_with([frames | digests] ++ [bodies], fn [frame, hash, id, {body, erased}] ->
        {frame, hash, id, body, erased}
      end)

    front = binary_part(block, 0, front)
    if join(front, events) == block, do: {:ok, front, events, nil}, else: :error
  rescue
    # A length that leads out of the bytes.
    _error in [ArgumentError, MatchError] -> :error
  end

  def split(<<"EVSEALV1", length::64, _::binary-74, flow::16, _::binary>> = part) when length == byte_size(part) do
    front = front(flow)

    counted = front - 444

    with <<_::binary-size(counted), count::32, _::binary-440, digests::binary>> <- part,
         true <- byte_size(digests) == 2 * padded(32 * count),
         do: {:ok, binary_part(part, 0, front), [], digests},
         else: (_other -> :error)
  end

  def split(_other), do: :error

  defp front(flow), do: @preamble + padded(28 + flow) + @front_end

  # The part behind the ids may be cut off.
  defp bodies(block, verification, count) when verification == byte_size(block), do: List.duplicate({nil, nil}, count)

  defp bodies(block, verification, count) do
    lengths = for <<erased::1, units::31 <- binary_part(block, verification, 4 * count)>>, do: {erased, units}
    {bodies, _end} = cut(block, verification + padded(4 * count), Enum.map(lengths, &elem(&1, 1)))

    Enum.zip_with(bodies, lengths, fn
      _zeros, {1, units} -> {nil, units}
      _none, {0, 0} -> {nil, nil}
      body, {0, _units} -> {body, nil}
    end)
  end

  defp cut(block, at, units) do
    Enum.map_reduce(units, at, fn units, at -> {binary_part(block, at, units * @unit), at + units * @unit} end)
  end

  @doc """
  The block of a front and its events. Events that are no events any more are laid out as zeros, so that the verification
  names their positions.
  """
  @spec join(binary, [event]) :: binary
  def join(front, events) do
    events = Enum.map(events, &laid_out/1)
    units = for {frame, _hash, _id, _body, _erased} <- events, into: "", do: <<div(byte_size(frame), @unit)>>
    [frames, hashes, ids] = for at <- 0..2, do: Enum.map(events, &elem(&1, at))
    lengths = for {_frame, _hash, _id, body, erased} <- events, do: length_of(body, erased)
    bodies = for {_frame, _hash, _id, body, erased} <- events, do: body || zeros((erased || 0) * @unit)
    pack(front, length(events), [units, frames, hashes, ids, lengths, bodies])
  end

  @doc "The block of a front and its sections: the frames' lengths, frames, hashes, ids, the bodies' lengths, bodies."
  @spec pack(binary, non_neg_integer, [iodata | nil]) :: binary
  def pack(<<magic::binary-8, before::64, total::64, front::binary>>, count, sections) do
    [units, frames, hashes, ids, lengths, bodies] = Enum.map(sections, &(&1 || ""))
    checked = [front, pad(units, count), frames, pad(hashes, 32 * count), pad(ids, 32 * count)]
    # The part with the bodies may have been cut off.
    bodies = if total > before, do: [pad(lengths, 4 * count), bodies], else: []
    verification = 24 + IO.iodata_length(checked)
    IO.iodata_to_binary([magic, <<verification::64, verification + IO.iodata_length(bodies)::64>>, checked | bodies])
  end

  defp length_of(nil, nil), do: <<0::32>>
  defp length_of(nil, erased), do: <<1::1, erased::31>>
  defp length_of(body, _erased), do: <<div(byte_size(body), @unit)::32>>

  defp laid_out({frame, hash, id, body, erased}) do
    {if(frame?(frame), do: frame, else: zeros(2 * @unit)), digest(hash), digest(id), if(whole?(body), do: body), erased}
  end

  defp frame?(frame), do: whole?(frame) and byte_size(frame) <= @longest_frame * @unit
  defp whole?(bytes), do: is_binary(bytes) and bytes != "" and rem(byte_size(bytes), @unit) == 0

  defp digest(<<_::256>> = digest), do: digest
  defp digest(_other), do: zeros(32)

  defp pad(bytes, length), do: [bytes, zeros(padded(length) - length)]
  defp zeros(count), do: :binary.copy(<<0>>, count)
  defp padded(length), do: div(length + @unit - 1, @unit) * @unit
end
