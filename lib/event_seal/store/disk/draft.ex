defmodule EventSeal.Store.Disk.Draft do
  @moduledoc false
  # What a group of commits will change: computed beside the tables, written to the files, and only then adopted by the
  # tables. A refused commit leaves no trace in it. Recovery replays the journal through the same steps.

  import EventSeal.Store.Disk.Tables, only: [row: 1, row: 2]
  alias EventSeal.Segments.Record
  alias EventSeal.Store
  alias EventSeal.Store.Disk.{Batch, Tables}

  defstruct [:tables, :at, :next_number, :size, rows: %{}, entries: %{}, blocks: [], spent: [], log: []]

  @doc "A draft on top of the tables; the group's first commit will stand at `at` of the journal."
  def new(tables, at) do
    size = %{leaves: Tables.meta(tables, :leaves), checkpoints: Tables.meta(tables, :checkpoints)}
    %__MODULE__{tables: tables, at: at, next_number: Tables.meta(tables, :next_number), size: size}
  end

  @doc "Adds a commit, or says why not."
  def add(draft, batch) do
    base = draft.at + Batch.front_size(batch)

    with {:ok, after_steps} <- steps(draft, batch.steps, base) do
      {:ok, %{after_steps | at: base + byte_size(batch.bytes)}}
    end
  end

  @doc "Applies steps whose bytes begin at `base`."
  def steps(draft, steps, base) do
    Enum.reduce_while(steps, {:ok, draft}, fn step, {:ok, draft} ->
      case step(step, draft, base) do
        {:ok, _draft} = ok -> {:cont, ok}
        {:error, _reason} = error -> {:halt, error}
      end
    end)
  end

  defp step({:expect, flow, expected}, draft, _base) do
    found = with row when row != nil <- find(draft, flow), do: row(row, :height)
    if (found || :none) == expected, do: {:ok, draft}, else: {:error, :stale}
  end

  defp step({:open, flow, genesis}, draft, _base) do
    if find(draft, flow) do
      {:error, :stale}
    else
      draft = put_row(draft, row(flow: flow, number: draft.next_number, genesis: genesis))
      {:ok, %{draft | next_number: draft.next_number + 1}}
    end
  end

  # What a rotation carried over was accepted before; later ones may have been retracted since.
  defp step({:put, flow, seq, :carried, {meta_at, meta_length}, {data_at, data_length}}, draft, base) do
    with {:ok, row} <- open_row(draft, flow) do
      entry = {{flow, seq}, :pool, base + meta_at, meta_length, base + data_at, data_length}
      draft = %{draft | entries: Map.put(draft.entries, {flow, seq}, entry)}
      {:ok, put_row(draft, row(row, next_seq: max(row(row, :next_seq), seq + 1)))}
    end
  end

  defp step({:put, flow, seq, stage, {meta_at, meta_length}, data}, draft, base) do
    with {:ok, row} <- open_row(draft, flow),
         {:ok, {data_at, data_length}} <- data(draft, row, seq, data, base) do
      entry = {{flow, seq}, stage, base + meta_at, meta_length, data_at, data_length}
      draft = %{draft | entries: Map.put(draft.entries, {flow, seq}, entry)}
      {:ok, put_row(draft, row(row, next_seq: max(row(row, :next_seq), seq + 1)))}
    end
  end

  defp step({:drop, flow, seq, euid}, draft, base) do
    with {:ok, row} <- open_row(draft, flow),
         {:ok, _data} <- data(draft, row, seq, :keep, base) do
      draft = %{draft | entries: Map.put(draft.entries, {flow, seq}, :gone), spent: [{{flow, euid}} | draft.spent]}
      {:ok, put_row(draft, row)}
    end
  end

  defp step({:block, flow, info, sealed}, draft, _base) do
    with {:ok, row} <- open_row(draft, flow) do
      if info.height == row(row, :height) and info.first == row(row, :fixed) + 1 do
        {:ok, put_row(%{draft | blocks: [{row, info, sealed} | draft.blocks]}, extend(row, info))}
      else
        {:error, :stale}
      end
    end
  end

  defp step({kind, item}, draft, _base) when kind in [:leaves, :checkpoints] do
    index = Map.fetch!(draft.size, kind)
    {:ok, %{draft | log: [{{kind, index}, item} | draft.log], size: Map.put(draft.size, kind, index + 1)}}
  end

  # A new entry comes after all that were ever used; only one of the pool may be put again, or dropped.
  defp data(_draft, row, seq, {at, length}, base) when seq >= row(row, :next_seq), do: {:ok, {base + at, length}}
  defp data(_draft, row, seq, :keep, _base) when seq >= row(row, :next_seq), do: {:error, :stale}

  defp data(draft, row, seq, data, base) do
    case {entry(draft, row, seq), data} do
      {{_key, :pool, _, _, at, length}, :keep} -> {:ok, {at, length}}
      {{_key, :pool, _, _, _, _}, {at, length}} -> {:ok, {base + at, length}}
      _other -> {:error, :stale}
    end
  end

  defp entry(_draft, row, seq) when seq <= row(row, :through), do: nil

  defp entry(draft, row, seq) do
    key = {row(row, :flow), seq}

    case draft.entries do
      %{^key => entry} -> entry
      _other -> List.first(:ets.lookup(draft.tables.entries, key))
    end
  end

  @doc "A flow's row after a block."
  def extend(row, info) do
    tail = row(row, :tail)

    row(row,
      height: info.height + 1,
      fixed: info.first + info.count - 1,
      closed: info.closes,
      when_max: info.when_max,
      next_seq: max(row(row, :next_seq), info.through + 1),
      through: info.through,
      tail: if(tail && remains?(tail, info.through), do: tail)
    )
  end

  defp remains?({_number, _at, _length, ranges}, through), do: Enum.any?(ranges, fn {_from, to} -> to > through end)

  defp open_row(draft, flow) do
    case find(draft, flow) do
      nil -> {:error, :not_found}
      row when row(row, :closed) -> {:error, :closed}
      row -> {:ok, row}
    end
  end

  defp find(draft, flow) do
    case draft.rows do
      %{^flow => row} -> row
      _other -> Tables.find(draft.tables, flow)
    end
  end

  defp put_row(draft, row), do: %{draft | rows: Map.put(draft.rows, row(row, :flow), row)}

  @doc "The segment records of the draft's blocks, in order. A genesis that is in no segment yet goes with the block."
  def records(draft) do
    draft.blocks
    |> Enum.reverse()
    |> Enum.map(fn {row, info, sealed} ->
      %{sealed.record | meta: Record.block_meta(row(row, :flow), info, in_memory(row(row, :genesis)))}
    end)
  end

  @doc "The bytes of a genesis that lies in memory, else nothing."
  def in_memory(genesis) when is_binary(genesis), do: genesis
  def in_memory(_place), do: ""

  @doc "Writes the draft into the tables; `places` are where its blocks lie now."
  def adopt(%{tables: tables} = draft, places) do
    blocks = Enum.zip(Enum.reverse(draft.blocks), places)
    rows = Enum.reduce(blocks, draft.rows, &settle_genesis/2)
    {gone, entries} = Enum.split_with(draft.entries, fn {_key, entry} -> entry == :gone end)

    Tables.change(tables, Enum.map(Map.keys(rows), &Store.shard/1), fn ->
      :ets.insert(tables.entries, for({_key, entry} <- entries, do: entry))
      for {key, :gone} <- gone, do: :ets.delete(tables.entries, key)
      :ets.insert(tables.spent, draft.spent)
      :ets.insert(tables.blocks, for({{row, info, _sealed}, place} <- blocks, do: block(row, info, place)))
      for {{row, info, _sealed}, _place} <- blocks, do: leave(tables, row(row, :flow), info.through)
      for {{_row, _info, sealed}, place} <- blocks, sealed, do: prints(tables, place, sealed.prints)
      :ets.insert(tables.flows, for({_flow, row} <- rows, do: Tables.placed(tables, row)))
      :ets.insert(tables.log, draft.log)
      :ets.insert(tables.meta, [{:next_number, draft.next_number} | Map.to_list(draft.size)])
    end)

    :ok
  end

  # A replayed block does not say where its meta lies; recovery adds that when it looks at the segment.
  defp settle_genesis({{row, _info, _sealed}, %{meta_at: at, number: number}}, rows)
       when is_binary(row(row, :genesis)) do
    place = genesis_place(Record.genesis_in(row(row, :flow), row(row, :genesis)), %{number: number, meta_at: at})
    Map.update!(rows, row(row, :flow), &if(is_binary(row(&1, :genesis)), do: row(&1, genesis: place), else: &1))
  end

  defp settle_genesis(_block, rows), do: rows

  @doc "Where in its segment a genesis lies that `EventSeal.Segments.Record.genesis_in/2` found in a meta."
  def genesis_place(nil, _place), do: nil
  def genesis_place({at, length, sum}, place), do: {place.number, place.meta_at + at, length, sum}

  defp block(row, info, place) do
    {Tables.block_key(row(row, :number), info.height), info.first, place.number, place.payload_at, place.length}
  end

  defp leave(tables, flow, through) do
    :ets.select_delete(tables.entries, [{{{flow, :"$1"}, :_, :_, :_, :_, :_}, [{:"=<", :"$1", through}], [true]}])
  end

  @doc "Notes which euids the record at a place holds."
  def prints(tables, place, prints) do
    table =
      case :ets.lookup(tables.segments, place.number) do
        [{_number, :open, table}] -> table
        [] -> tap(Tables.prints_table(), &:ets.insert(tables.segments, {place.number, :open, &1}))
      end

    :ets.insert(table, for(print <- prints, do: {print, place.at}))
  end
end
