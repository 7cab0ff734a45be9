defmodule EventSeal.Store.Disk.Tables do
  @moduledoc false
  # What the store keeps in memory: where things lie, never the things. One process writes, any process reads.
  #
  #   flows     a row a flow, in byte order of the id; that of a closed flow has the places of its blocks, if they are few and small
  #   entries   {{flow, seq}, stage, meta at, meta length, data at, data length}: places in the journal
  #   blocks    {number of the flow << 32 | height, first, segment, offset, length}
  #   spent     {{flow, euid}}: retracted since the journal's generation began
  #   log       {{kind, index}, bytes} in the journal; {{kind, from}, count, segment, offset, length} in a segment
  #   segments  {number, :open, table of {print, offset}} or {number, :finished, fingerprints}
  #   meta      generation, sizes of the log, the next flow's number
  #
  # A commit changes several rows of a flow, and readers take no lock. So each shard has a counter, odd while rows of its
  # flows are being changed: a reader that finds it odd, or changed at the end, reads again (a seqlock). What it read are
  # places; a journal that has gone meanwhile, since a rotation moved everything, makes it read again as well.

  require Record
  alias EventSeal.Segments
  alias EventSeal.Store
  alias EventSeal.Store.Disk.Folder

  Record.defrecord(:row,
    flow: nil,
    number: 0,
    height: 0,
    fixed: 0,
    closed: false,
    when_max: nil,
    next_seq: 1,
    through: 0,
    genesis: nil,
    tail: nil,
    places: nil
  )

  @doc "What a row matches, whatever it holds."
  def any_row do
    row(
      flow: :_,
      number: :_,
      height: :_,
      fixed: :_,
      closed: :_,
      when_max: :_,
      next_seq: :_,
      through: :_,
      genesis: :_,
      tail: :_,
      places: :_
    )
  end

  @type t :: map
  @tries 200

  def new(files, dir, opts) do
    tables = for kind <- [:flows, :entries, :log], into: %{}, do: {kind, table(:ordered_set, kind)}
    sets = for kind <- [:blocks, :spent, :segments, :meta], into: %{}, do: {kind, table(:set, kind)}
    locks = :atomics.new(Store.shards(), signed: false)
    handle = tables |> Map.merge(sets) |> Map.merge(%{locks: locks, files: files, dir: dir, mode: opts[:mode]})
    handle = Map.put(handle, :dirs, Folder.dirs(dir, opts))
    :ets.insert(handle.meta, [{:generation, 0}, {:leaves, 0}, {:checkpoints, 0}, {:next_number, 1}])
    handle
  end

  defp table(type, :flows), do: :ets.new(:flows, [type, :protected, read_concurrency: true, keypos: 2])
  defp table(type, kind), do: :ets.new(kind, [type, :protected, read_concurrency: true])

  def prints_table, do: :ets.new(:prints, [:bag, :protected, read_concurrency: true])

  def delete(handle) do
    for {_number, :open, prints} <- :ets.tab2list(handle.segments), do: :ets.delete(prints)
    for kind <- [:flows, :entries, :log, :blocks, :spent, :segments, :meta], do: :ets.delete(handle[kind])
    :ok
  end

  def meta(handle, key), do: :ets.lookup_element(handle.meta, key, 2)

  def find(handle, flow) do
    case :ets.lookup(handle.flows, flow) do
      [row] -> row
      [] -> nil
    end
  end

  @doc "Where a segment lies now."
  def segment_path(handle, number), do: Segments.locate(handle.files, handle.dirs, number)

  def block_key(number, height), do: :erlang.bsl(number, 32) + height

  @few 8
  # Together.
  @small 65_536

  @doc "Whether a flow has so few blocks that they are listed with it."
  def few?(row), do: row(row, :height) <= @few

  @doc "A flow's row once its blocks are in the tables: if it is closed, it has their places, as `EventSeal.Store.Sheaf` has them."
  def placed(handle, row), do: if(row(row, :closed) and few?(row), do: with_places(handle, row), else: row)

  defp with_places(handle, row) do
    blocks =
      for height <- 0..(row(row, :height) - 1), do: :ets.lookup(handle.blocks, block_key(row(row, :number), height))

    if Enum.all?(blocks, &(&1 != [])) and Enum.sum(for([{_, _, _, _, length}] <- blocks, do: length)) <= @small,
      do:
        row(row, places: for([{_, _, number, at, length}] <- blocks, into: "", do: <<number::32, at::32, length::32>>)),
      else: row
  end

  @doc "Runs `fun` while the rows of these shards are marked as changing; all shards for `:all`."
  def change(handle, shards, fun) do
    shards = if shards == :all, do: 0..(Store.shards() - 1), else: Enum.uniq(shards)
    for shard <- shards, do: :atomics.add(handle.locks, shard + 1, 1)
    result = fun.()
    for shard <- shards, do: :atomics.add(handle.locks, shard + 1, 1)
    result
  end

  @doc "What `fun` reads of the flow's rows, all of one moment; `:busy` if none could be had in many tries."
  def snapshot(handle, flow, fun), do: snapshot(handle, Store.shard(flow) + 1, fun, @tries)

  defp snapshot(_handle, _index, _fun, 0), do: :busy

  defp snapshot(handle, index, fun, tries) do
    before = :atomics.get(handle.locks, index)

    if rem(before, 2) == 1 do
      Process.sleep(1)
      snapshot(handle, index, fun, tries - 1)
    else
      result = fun.()
      if :atomics.get(handle.locks, index) == before, do: {:ok, result}, else: snapshot(handle, index, fun, tries - 1)
    end
  end

  def entries(handle, flow) do
    :ets.select(handle.entries, [{{{flow, :_}, :_, :_, :_, :_, :_}, [], [:"$_"]}])
  end
end
