defmodule EventSeal.Store.Disk.Derived do
  @moduledoc false
  # The two files beside a finished segment, made of what stands in it: its index, and the fingerprints of its euids.

  alias EventSeal.Segments
  alias EventSeal.Segments.{Fingerprints, Index, Record}

  def index(dir, number), do: Segments.derived(dir, number, ".index")
  def prints(dir, number), do: Segments.derived(dir, number, ".euids")

  @doc """
  Makes both files of the segment at `path`, and opens the fingerprints. `:error` if the segment could not be read as it was
  written, or the files not be made.
  """
  def make(files, dir, path, {_store_id, number, _length} = key, found) do
    prints = prints(dir, number)

    with {:ok, %{damaged: []} = seen} <- look(files, path, found),
         :ok <- Index.write(files, index(dir, number), key, found.marker, seen.records),
         :ok <- Fingerprints.write(files, prints, key, seen.pairs),
         {:ok, opened} <- Fingerprints.open(files, prints, key) do
      {:ok, opened}
    else
      _failed -> :error
    end
  end

  @doc """
  What they are made of: the `records`, newest first, all `{print, offset}` of their keys (`pairs`), and the offsets from
  which some could not be read (`damaged`).
  """
  def look(files, path, found) do
    with {:ok, fd} <- files.open(path, :read) do
      add = fn record, seen -> add_keys(files, fd, record, %{seen | records: [record | seen.records]}) end
      seen = %{records: [], pairs: [], damaged: []}
      result = Segments.fold(files, fd, found.marker, Record.header_size(), found.length, seen, add)
      files.close(fd)
      with {:error, at, seen} <- result, do: {:ok, %{seen | damaged: [at | seen.damaged]}}
    end
  end

  defp add_keys(_files, _fd, %{keys_length: 0}, seen), do: seen

  defp add_keys(files, fd, %{keys_sum: sum} = record, %{damaged: damaged} = seen) do
    flow = elem(Record.meta(record.meta), 1)

    case files.pread(fd, record.keys_at, record.keys_length) do
      {:ok, keys} when byte_size(keys) == record.keys_length ->
        pairs = Enum.reduce(Fingerprints.of(flow, keys), seen.pairs, &[{&1, record.at} | &2])
        %{seen | pairs: pairs, damaged: if(:erlang.crc32(keys) == sum, do: damaged, else: [record.keys_at | damaged])}

      _unreadable ->
        %{seen | damaged: [record.keys_at | damaged]}
    end
  end
end
