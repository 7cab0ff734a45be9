defmodule EventSeal.Store.Disk.Archive do
  @moduledoc false
  # Moves finished segments to a second folder, once nothing has been written to them for so long.
  #
  # One round copies a segment, and a later one removes the original: whoever began to read it there has that long to
  # finish. A copy gets its name only when it is whole and synced, and the original goes only if the copy holds the same.

  alias EventSeal.Segments
  alias EventSeal.Segments.Files

  @longest 3_600_000

  @doc "How long after one round the next one begins, in ms."
  def pause(archive_after), do: min(archive_after, @longest)

  @doc """
  One round over finished segments, `{number, length}`, and those alone that are `archive_after` ms old. Returns what went
  wrong: `{number, reason}`.
  """
  def round(files, {dir, _archive} = dirs, finished, archive_after) do
    oldest = System.os_time(:millisecond) - archive_after

    for {number, length} <- Enum.sort(finished),
        path = Segments.path(dir, number),
        {:ok, %{mtime: mtime}} <- [File.stat(path, time: :posix)],
        mtime * 1000 <= oldest,
        {:error, reason} <- [move(files, dirs, number, length)],
        do: {number, reason}
  end

  defp move(files, {dir, archive}, number, length) do
    {from, to} = {Segments.path(dir, number), Segments.path(archive, number)}

    case files.size(to) do
      {:error, :enoent} -> copy(files, from, to, length)
      {:ok, _size} -> remove(files, from, to, length)
      {:error, reason} -> {:error, reason}
    end
  end

  defp copy(files, from, to, length) do
    staged = to <> ".new"
    files.delete(staged)

    with {:ok, fd} <- files.open(from, :read),
         {:ok, copy} <- files.create(staged),
         :ok <- Files.copy(files, fd, copy, 0, length),
         :ok <- files.datasync(copy),
         :ok <- files.close(copy),
         :ok <- files.close(fd),
         :ok <- files.rename(staged, to),
         do: files.sync_dir(Path.dirname(to))
  end

  defp remove(files, from, to, length) do
    with :ok <- same(files, from, to, length),
         :ok <- files.sync_dir(Path.dirname(to)),
         :ok <- files.delete(from),
         do: files.sync_dir(Path.dirname(from))
  end

  defp same(files, from, to, length) do
    with {:ok, fd} <- files.open(from, :read),
         {:ok, copy} <- files.open(to, :read) do
      result = same_from(files, fd, copy, 0, length)
      files.close(fd)
      files.close(copy)
      result
    end
  end

  @chunk 1_048_576

  defp same_from(_files, _fd, _copy, at, length) when at >= length, do: :ok

  defp same_from(files, fd, copy, at, length) do
    size = min(@chunk, length - at)

    with {:ok, bytes} <- files.pread(fd, at, size),
         {:ok, ^bytes} <- files.pread(copy, at, size) do
      same_from(files, fd, copy, at + size, length)
    else
      {:error, reason} -> {:error, reason}
      _other -> {:error, "another file of this name is in the archive"}
    end
  end
end
