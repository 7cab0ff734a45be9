defmodule EventSeal.Doctor.Flip do
  @moduledoc false
  # One byte that was changed is found again by the CRC-32 of what was written: the difference of the checksums, taken back
  # byte for byte, comes to the place where one byte explains it. That the bytes are the right ones is for the chain to say.

  import Bitwise

  @polynomial 0xEDB88320

  table =
    for byte <- 0..255 do
      Enum.reduce(1..8, byte, fn _, c -> if (c &&& 1) == 1, do: bxor(c >>> 1, @polynomial), else: c >>> 1 end)
    end

  @table List.to_tuple(table)
  # No two entries of the table have the same highest byte.
  @byte_of for({entry, byte} <- Enum.with_index(table), do: {entry >>> 24, byte})
           |> Enum.sort()
           |> Enum.map(&elem(&1, 1))
           |> List.to_tuple()

  @doc "The bytes with one of them changed so that they have this checksum."
  @spec mend(binary, non_neg_integer) :: {:ok, binary} | :error
  def mend(bytes, sum), do: back(bxor(:erlang.crc32(bytes), sum), byte_size(bytes) - 1, bytes)

  defp back(0, _at, _bytes), do: :error
  defp back(_difference, -1, _bytes), do: :error

  defp back(difference, at, bytes) do
    byte = elem(@byte_of, difference >>> 24)

    case bxor(difference, elem(@table, byte)) do
      0 -> {:ok, change(bytes, at, byte)}
      rest -> back((rest <<< 8 &&& 0xFFFFFFFF) ||| byte, at - 1, bytes)
    end
  end

  defp change(bytes, at, difference) do
    <<before::binary-size(at), byte, rest::binary>> = bytes
    <<before::binary, bxor(byte, difference), rest::binary>>
  end
end
