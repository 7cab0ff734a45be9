defmodule EventSeal.Segments.Scan do
  @moduledoc false
  # Every whole record of a segment's file, whatever has become of the rest of it: no journal is asked, and behind a damaged
  # place the next record is looked for by the file's marker.

  alias EventSeal.Segments
  alias EventSeal.Segments.Record

  @window 1_048_576

  @doc "Folds over the records as `Record.decode/3` gives them; `fun` gets the open file as well, to read from it."
  def fold(files, path, acc, fun) do
    with {:ok, size} when size > 72 <- files.size(path),
         {:ok, fd} <- files.open(path, :read) do
      try do
        # The marker of the header may be hit; each record begins with it as well.
        {:ok, <<_::binary-32, first::binary-8, _::binary-24, second::binary-8>>} = files.pread(fd, 0, 72)
        Enum.reduce(Enum.uniq([second, first]), acc, &marked({files, fd, size, fun}, &1, &2))
      after
        files.close(fd)
      end
    else
      _none -> acc
    end
  end

  defp marked({_, _, size, _} = scan, marker, acc), do: from(scan, marker, Record.header_size(), size, acc)

  defp from(_scan, _marker, at, size, acc) when at >= size, do: acc

  defp from({files, fd, _size, fun} = scan, marker, at, size, acc) do
    case Segments.fold(files, fd, marker, at, size, acc, &fun.(&1, fd, &2)) do
      {:ok, acc} -> acc
      {:error, bad, acc} -> from(scan, marker, next(scan, marker, max(bad, at) + 1), size, acc)
    end
  end

  # Where the next record begins, or the file's end.
  defp next({_, _, size, _}, _marker, from) when from >= size, do: size

  defp next({files, fd, size, _fun} = scan, marker, from) do
    with {:ok, window} <- files.pread(fd, from, min(@window, size - from)),
         nil <- Enum.find(:binary.matches(window, marker), &record?(scan, marker, from + elem(&1, 0))) do
      if byte_size(window) < @window, do: size, else: next(scan, marker, from + @window - 7)
    else
      {at, _length} -> from + at
      _unreadable -> size
    end
  end

  defp record?({files, fd, size, _fun}, marker, at) do
    with {:ok, bytes} <- files.pread(fd, at, min(@window, size - at)),
         {:ok, record} <- Record.decode(bytes, at, marker) do
      record.next <= size
    else
      _other -> false
    end
  end
end
