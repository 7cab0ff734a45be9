defmodule EventSeal.Chain.Container do
  @moduledoc false
  # A packed block's sections as they stand (FORMAT.md, "Packed container"), of one that decodes; so that its events can be
  # kept byte for byte as they were before it was sealed.

  @preamble 64
  @header_and_seams 448

  @doc "The euids of its events, joined."
  @spec euids(binary) :: binary
  def euids(block),
    do: block |> events() |> Enum.map_join(fn {<<euid::binary-16, _::binary>>, _hash, _body} -> euid end)

  @doc "Each event's frame, event hash and salted body; the body is nil where it is not there."
  @spec events(binary) :: [{binary, <<_::256>>, binary | nil}]
  def events(<<_::binary-size(@preamble), _::binary-26, flow::16, _::binary>> = block) do
    header_at = @preamble + padded(28 + flow)
    <<_::binary-size(header_at), _::binary-4, count::32, _::binary>> = block
    lengths_at = header_at + @header_and_seams
    frames_at = lengths_at + padded(count)

    {frames, hashes_at} =
      cut(block, frames_at, for(<<units::8 <- binary_part(block, lengths_at, count)>>, do: units * 64))

    {hashes, _end} = cut(block, hashes_at, List.duplicate(32, count))
    Enum.zip([frames, hashes, bodies(block, hashes_at + 2 * padded(32 * count), count)])
  end

  # The part with the bodies may have been cut off, each of them erased or left out.
  defp bodies(block, at, count) when at >= byte_size(block), do: List.duplicate(nil, count)

  defp bodies(block, at, count) do
    lengths = for <<erased::1, units::31 <- binary_part(block, at, 4 * count)>>, do: {erased, units * 64}
    {bodies, _end} = cut(block, at + padded(4 * count), Enum.map(lengths, &elem(&1, 1)))
    Enum.zip_with(bodies, lengths, fn body, {erased, length} -> if erased == 0 and length > 0, do: body end)
  end

  defp cut(block, at, lengths) do
    Enum.map_reduce(lengths, at, fn length, at -> {binary_part(block, at, length), at + length} end)
  end

  defp padded(length), do: div(length + 63, 64) * 64
end
