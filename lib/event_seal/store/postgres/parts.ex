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

  @typedoc "The frames' units, frames, event hashes, ids, the salted bodies' lengths, and these: each without its padding."
  @type sections :: [binary]

  @typedoc """
  Where an event lies in its sections: its frame's offset and size, its body's (size 0: it is not there), and the units of
  one that was erased (or nil).
  """
  @type span :: {non_neg_integer, pos_integer, non_neg_integer, non_neg_integer, non_neg_integer | nil}

  @doc """
  The front of a block, up to its seams, with its sections, and where in them each event lies; of a kept part the front, and its
  digests; `:error` for what is neither.
  """
  @spec split(binary) :: {:ok, binary, {sections, [span]} | binary} | :error
  def split(<<"EVSEALB1", verification::64, _::binary-74, flow::16, _::binary>> = block) do
    front = front(flow)
    <<_::binary-size(front - 444), count::32, _::binary>> = block
    [units, _frames, _hashes, _ids, lengths, bodies] = sections = sections(block, front, count, verification)
    front = binary_part(block, 0, front)
    spans = spans(units, 0, lengths, 0, bodies)

    if size(lengths) == byte_size(bodies) and pack(front, count, sections) == block,
      do: {:ok, front, {sections, spans}},
      else: :error
  rescue
    # A length that leads out of the bytes, or is none.
    _error in [ArgumentError, MatchError, FunctionClauseError] -> :error
  end

  def split(<<"EVSEALV1", length::64, _::binary-74, flow::16, _::binary>> = part) when length == byte_size(part) do
    front = front(flow)

    counted = front - 444

    with <<_::binary-size(counted), count::32, _::binary-440, digests::binary>> <- part,
         true <- byte_size(digests) == 2 * padded(32 * count),
         do: {:ok, binary_part(part, 0, front), digests},
         else: (_other -> :error)
  end

  def split(_other), do: :error

  defp front(flow), do: @preamble + padded(28 + flow) + @front_end

  defp sections(block, front, count, verification) do
    units = binary_part(block, front, count)
    frames = front + padded(count)
    hashes = frames + @unit * Enum.sum(:binary.bin_to_list(units))
    digests = for at <- [hashes, hashes + padded(32 * count)], do: binary_part(block, at, 32 * count)
    [units, binary_part(block, frames, hashes - frames) | digests] ++ bodies(block, verification, count)
  end

  defp size(lengths), do: for(<<_erased::1, units::31 <- lengths>>, reduce: 0, do: (size -> size + units * @unit))

  # A frame is never empty. What was erased is zeros, and is made anew.
  defp spans("", _frame, "", _body, _bodies), do: []

  defp spans(<<units, more::binary>>, frame, <<erased::1, length::31, lengths::binary>>, body, bodies) when units > 0 do
    {frame_size, body_size} = {units * @unit, length * @unit}
    span = {frame, frame_size, body, if(erased == 1, do: 0, else: body_size), if(erased == 1, do: length)}
    if erased == 1, do: true = binary_part(bodies, body, body_size) == zeros(body_size)
    [span | spans(more, frame + frame_size, lengths, body + body_size, bodies)]
  end

  # The part behind the ids may be cut off.
  defp bodies(block, verification, count) when verification == byte_size(block), do: [zeros(4 * count), ""]

  defp bodies(block, verification, count) do
    at = verification + padded(4 * count)
    [binary_part(block, verification, 4 * count), binary_part(block, at, byte_size(block) - at)]
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
  @spec pack(binary, non_neg_integer, [iodata]) :: binary
  def pack(<<magic::binary-8, before::64, total::64, front::binary>>, count, sections) do
    [units, frames, hashes, ids, lengths, bodies] = sections
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
