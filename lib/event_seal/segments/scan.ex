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
      {:error, bad, acc} -> from(scan, marker, next(files, fd, marker, max(bad, at) + 1, size), size, acc)
    end
  end

  @doc "Where between two offsets the next whole record begins; the second if none does, or the file cannot be read."
  def next(_files, _fd, _marker, from, to) when from >= to, do: to

  def next(files, fd, marker, from, to) do
    with {:ok, window} <- files.pread(fd, from, min(@window, to - from)),
         nil <- Enum.find(:binary.matches(window, marker), &record?(files, fd, marker, from + elem(&1, 0), to)) do
      if byte_size(window) < @window, do: to, else: next(files, fd, marker, from + @window - 7, to)
    else
      {at, _length} -> from + at
      _unreadable -> to
    end
  end

  defp record?(files, fd, marker, at, to) do
    with {:ok, bytes} <- files.pread(fd, at, min(@window, to - at)),
         {:ok, record} <- Record.decode(bytes, at, marker) do
      record.next <= to
    else
      _other -> false
    end
  end
end
