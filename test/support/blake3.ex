defmodule EventSeal.Oracle.Blake3 do
  @moduledoc """
  BLAKE3 as its specification reads, for the oracle: no lanes, no tricks, 32 bytes of output.

  OTP's `:crypto` has no BLAKE3, and the oracle must not ask the code that it judges.
  """
  import Bitwise

  @iv {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19}
  @permutation [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
  # Columns, then diagonals.
  @quarters [{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}] ++
              [{0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}]

  @chunk 1024
  @chunk_start 1
  @chunk_end 2
  @parent 4
  @root 8
  @keyed_hash 16
  @derive_key_context 32
  @derive_key_material 64

  @spec hash(binary) :: <<_::256>>
  def hash(input), do: root(input, @iv, 0)

  @spec keyed(<<_::256>>, binary) :: <<_::256>>
  def keyed(key, input), do: root(input, words(key), @keyed_hash)

  @spec derive_key(binary, binary) :: <<_::256>>
  def derive_key(context, input) do
    key = root(context, @iv, @derive_key_context)
    root(input, words(key), @derive_key_material)
  end

  defp root(input, key, flags) do
    {chaining, block, counter, length, node_flags} = node(input, key, flags, 0)
    chaining |> compress(block, counter, length, node_flags ||| @root) |> bytes()
  end

  # A node is kept unfinished, since only its place tells whether it is the root.
  defp node(input, key, flags, counter) when byte_size(input) <= @chunk,
    do: chunk(input, key, key, flags, counter, @chunk_start)

  defp node(input, key, flags, counter) do
    left_size = left_size(byte_size(input), @chunk)
    <<left::binary-size(left_size), right::binary>> = input
    left = left |> node(key, flags, counter) |> chaining_value()
    right = right |> node(key, flags, counter + div(left_size, @chunk)) |> chaining_value()
    {key, words(left <> right), 0, 64, flags ||| @parent}
  end

  # The left subtree holds the largest power of two of chunks that leaves something to the right.
  defp left_size(total, size) when size * 2 < total, do: left_size(total, size * 2)
  defp left_size(_total, size), do: size

  defp chunk(<<block::binary-size(64), rest::binary>>, chaining, key, flags, counter, start) when rest != "" do
    chaining = chaining |> compress(words(block), counter, 64, flags ||| start) |> bytes() |> words()
    chunk(rest, chaining, key, flags, counter, 0)
  end

  defp chunk(last, chaining, _key, flags, counter, start) do
    length = byte_size(last)
    {chaining, words(last <> <<0::size((64 - length) * 8)>>), counter, length, flags ||| start ||| @chunk_end}
  end

  defp chaining_value({chaining, block, counter, length, flags}),
    do: chaining |> compress(block, counter, length, flags) |> bytes()

  defp compress(chaining, block, counter, length, flags) do
    state =
      Tuple.to_list(chaining) ++
        Enum.take(Tuple.to_list(@iv), 4) ++ [counter &&& 0xFFFFFFFF, counter >>> 32, length, flags]

    1..7
    |> Enum.reduce({List.to_tuple(state), block}, fn _, {state, block} -> {round(state, block), permute(block)} end)
    |> elem(0)
  end

  defp round(state, block) do
    @quarters
    |> Enum.with_index()
    |> Enum.reduce(state, fn {quarter, i}, state -> mix(state, quarter, elem(block, 2 * i), elem(block, 2 * i + 1)) end)
  end

  defp permute(block), do: @permutation |> Enum.map(&elem(block, &1)) |> List.to_tuple()

  defp mix(state, {a, b, c, d}, x, y) do
    {va, vb, vc, vd} = {elem(state, a), elem(state, b), elem(state, c), elem(state, d)}
    va = add(va, vb + x)
    vd = rotate(bxor(vd, va), 16)
    vc = add(vc, vd)
    vb = rotate(bxor(vb, vc), 12)
    va = add(va, vb + y)
    vd = rotate(bxor(vd, va), 8)
    vc = add(vc, vd)
    vb = rotate(bxor(vb, vc), 7)
    state |> put_elem(a, va) |> put_elem(b, vb) |> put_elem(c, vc) |> put_elem(d, vd)
  end

  defp add(x, y), do: x + y &&& 0xFFFFFFFF
  defp rotate(x, n), do: (x >>> n ||| x <<< (32 - n)) &&& 0xFFFFFFFF

  defp words(bytes), do: for(<<word::little-32 <- bytes>>, do: word) |> List.to_tuple()

  # The first half of the state XOR the second: all that is ever needed of it here.
  defp bytes(state), do: for(i <- 0..7, into: <<>>, do: <<bxor(elem(state, i), elem(state, i + 8))::little-32>>)
end
