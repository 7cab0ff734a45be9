defmodule EventSeal.Import.Lines do
  @moduledoc false
  # A file's lines in batches, in bounded memory, and the file's SHA-256. Line by line reading would cost a call a line
  # and has no limit to a line's length.

  alias EventSeal.{Error, Hash}

  @chunk 1024 * 1024
  @max_line 128 * 1024 * 1024

  @type line :: {pos_integer, binary | :too_long}

  @doc """
  Calls `fun` with batches of numbered lines, the empty ones left out, and the accumulator; `fun` returns `{:ok, acc}` or
  an error, which ends the reading. Returns the last accumulator and the file's digest.

  Options: `:chunk` and `:max_line`, bytes.
  """
  @spec reduce(Path.t(), acc, ([line], acc -> {:ok, acc} | {:error, Error.t()}), keyword) ::
          {:ok, acc, <<_::256>>} | {:error, Error.t()}
        when acc: term
  def reduce(path, acc, fun, opts \\ []) do
    limits = {Keyword.get(opts, :chunk, @chunk), Keyword.get(opts, :max_line, @max_line)}

    with {:ok, file} <- open(path) do
      try do
        read(file, path, limits, %{rest: [], size: 0, number: 1, digest: Hash.new(:sha256)}, acc, fun)
      after
        :file.close(file)
      end
    end
  end

  defp open(path) do
    with {:error, posix} <- :file.open(path, [:raw, :binary, :read]), do: {:error, unreadable(:not_found, path, posix)}
  end

  defp read(file, path, {chunk, max_line} = limits, state, acc, fun) do
    case :file.read(file, chunk) do
      {:ok, bytes} ->
        {lines, state} = cut(bytes, max_line, %{state | digest: Hash.update(state.digest, bytes)})
        with {:ok, acc} <- give(lines, acc, fun), do: read(file, path, limits, state, acc, fun)

      :eof ->
        {lines, _state} = complete([], state)
        with {:ok, acc} <- give(lines, acc, fun), do: {:ok, acc, Hash.final(state.digest)}

      {:error, posix} ->
        {:error, unreadable(:storage, path, posix)}
    end
  end

  defp give([], acc, _fun), do: {:ok, acc}
  defp give(lines, acc, fun), do: fun.(Enum.reverse(lines), acc)

  defp cut(bytes, max_line, state) do
    {last, whole} = bytes |> :binary.split("\n", [:global]) |> List.pop_at(-1)

    {lines, state} =
      Enum.reduce(whole, {[], state}, fn part, {lines, state} -> complete(lines, collect(state, part, max_line)) end)

    {lines, collect(state, last, max_line)}
  end

  # Of a line that is too long nothing is kept.
  defp collect(%{rest: :too_long} = state, _part, _max_line), do: state

  defp collect(state, part, max_line) do
    case state.size + byte_size(part) do
      size when size > max_line -> %{state | rest: :too_long}
      size -> %{state | rest: [state.rest, part], size: size}
    end
  end

  defp complete(lines, %{number: number} = state) do
    next = %{state | rest: [], size: 0, number: number + 1}

    case text(state.rest) do
      empty when empty in ["", "\r"] -> {lines, next}
      line -> {[{number, line} | lines], next}
    end
  end

  defp text(:too_long), do: :too_long
  defp text([[], part]), do: part
  defp text(parts), do: IO.iodata_to_binary(parts)

  defp unreadable(reason, path, posix), do: Error.new(reason, detail: "#{path}: #{:file.format_error(posix)}")
end
