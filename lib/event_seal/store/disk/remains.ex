defmodule EventSeal.Store.Disk.Remains do
  @moduledoc false
  # What a folder holds beside what its store shows: blocks that no journal speaks of any more, and the euids that were
  # spent. Read record by record, past damage.

  import EventSeal.Store.Disk.Tables, only: [row: 2]
  require EventSeal.Store.Disk.Tables
  alias EventSeal.Segments
  alias EventSeal.Segments.{Record, Scan}
  alias EventSeal.Store.Disk.{Reader, Tables}
  alias EventSeal.Store.Piece

  @doc "`%{blocks: %{flow => [piece]}, spent: %{flow => [euid]}}` of the store that runs under this name."
  def of(name) do
    tables = Reader.handle(name)
    spent = Enum.group_by(:ets.tab2list(tables.spent), fn {{flow, _}} -> flow end, fn {{_, euid}} -> euid end)
    Enum.reduce(segments(tables), %{blocks: %{}, spent: spent}, &segment(tables, &1, &2))
  end

  defp segments(tables) do
    {own, archive} = tables.dirs
    names = for dir <- [own, archive], dir, {:ok, names} <- [tables.files.list(dir)], name <- names, do: name
    for number <- names |> Segments.numbers() |> Enum.uniq() |> Enum.sort(), do: Tables.segment_path(tables, number)
  end

  defp segment(tables, path, remains) do
    Scan.fold(tables.files, path, remains, fn record, fd, remains ->
      take(Record.meta(record.meta), record, {tables, path, fd}, remains)
    end)
  end

  defp take({:block, flow, info, _genesis}, record, {tables, path, _fd}, remains) do
    at = {:file, path, record.payload_at, record.payload_length}
    piece = %Piece{height: info.height, first: info.first, count: info.count, at: at}
    if shown?(tables, flow, info.height), do: remains, else: add(remains, :blocks, flow, [piece])
  end

  defp take({:tail, flow, _next_seq, _ranges, _genesis}, record, {tables, _path, fd}, remains) do
    with {:ok, keys} when byte_size(keys) == record.keys_length <-
           tables.files.pread(fd, record.keys_at, record.keys_length),
         true <- :erlang.crc32(keys) == record.keys_sum do
      add(remains, :spent, flow, for(<<euid::binary-16 <- keys>>, do: euid))
    else
      _unreadable -> remains
    end
  end

  defp take(_log, _record, _file, remains), do: remains

  defp shown?(tables, flow, height) do
    row = Tables.find(tables, flow)
    row != nil and :ets.member(tables.blocks, Tables.block_key(row(row, :number), height))
  end

  defp add(remains, kind, flow, found),
    do: Map.update!(remains, kind, &Map.update(&1, flow, found, fn old -> old ++ found end))
end
