defmodule EventSeal.BitRot do
  @moduledoc false
  # What a store's folder holds, byte for byte, and what a store shows that was opened on it.
  #
  # A region is `%{file:, from:, to:, part:, holds:}`. `part` is where in its record or group it lies, `holds` what may be
  # lost with it: `{:block, flow, height}`, `{:entry, flow, seq}`, `{:flow, flow}` (what is known of it as a whole), `:leaves`,
  # `:checkpoints`; and `:closing`, the group that says that the store was closed in order.

  alias EventSeal.{Chain, Segments, SmallStore, Store}
  alias EventSeal.Segments.Record
  alias EventSeal.Store.Disk
  alias EventSeal.Store.Disk.{Batch, Journal}

  @doc "The files of a folder, by their names in it."
  def files(dir) do
    for path <- Path.wildcard(Path.join(dir, "**")), File.regular?(path), into: %{} do
      {Path.relative_to(path, dir), File.read!(path)}
    end
  end

  def restore!(dir, files) do
    File.rm_rf!(dir)
    for folder <- ["segments", "aside"], do: File.mkdir_p!(Path.join(dir, folder))
    for {name, bytes} <- files, do: File.write!(Path.join(dir, name), bytes)
  end

  @doc "Makes the folder what it was: files whose bytes were flipped, that have grown, gone or come since."
  def mend!(dir, files, flipped) do
    for path <- Path.wildcard(Path.join(dir, "**")),
        File.regular?(path),
        not is_map_key(files, Path.relative_to(path, dir)),
        do: File.rm!(path)

    for {name, bytes} <- files, path = Path.join(dir, name) do
      if name in flipped or not match?({:ok, %{size: size}} when size == byte_size(bytes), File.stat(path)),
        do: File.write!(path, bytes)
    end
  end

  @doc "Flips bits of one byte, in place."
  def flip!(dir, name, at, bytes, pattern) do
    {:ok, fd} = :file.open(Path.join(dir, name), [:raw, :binary, :read, :write])
    :ok = :file.pwrite(fd, at, <<Bitwise.bxor(:binary.at(bytes, at), pattern)>>)
    :ok = :file.close(fd)
  end

  @doc "All regions of all files, without a gap."
  def regions(dir, files), do: Enum.flat_map(Enum.sort(files), fn {name, bytes} -> regions(dir, name, bytes) end)

  defp regions(dir, "segments/" <> _ = name, bytes) do
    if not String.ends_with?(name, ".segment"),
      do: [region(name, 0, byte_size(bytes), :derived, [])],
      else: segment(dir, name, bytes)
  end

  defp regions(_dir, "journal-" <> _ = name, bytes),
    do: [region(name, 0, 64, :header, []) | groups(name, bytes, 64)]

  defp regions(_dir, name, bytes), do: [region(name, 0, byte_size(bytes), :identity, [])]

  defp segment(dir, name, bytes) do
    <<_::binary-32, marker::binary-8, _::binary>> = bytes
    {:ok, fd} = :file.open(Path.join(dir, name), [:raw, :binary, :read])
    add = fn record, records -> [record | records] end
    {:ok, records} = Segments.fold(Segments.Files, fd, marker, 64, byte_size(bytes), [], add)
    :ok = :file.close(fd)
    [region(name, 0, 64, :header, []) | records |> Enum.reverse() |> Enum.flat_map(&record(name, &1))]
  end

  defp record(name, record) do
    holds = holds(Record.meta(record.meta))
    sum_at = record.payload_at - 4

    [
      region(name, record.at, record.keys_at, :front, holds),
      region(name, record.keys_at, sum_at, :keys, holds),
      region(name, sum_at, record.payload_at, :sum, holds),
      region(name, record.payload_at, record.next, :payload, holds)
    ]
  end

  defp holds({:block, flow, info, _genesis}), do: [{:block, flow, info.height}]

  defp holds({:tail, flow, _next, ranges, _genesis}),
    do: [{:flow, flow} | for({from, to} <- ranges, seq <- from..to, do: {:entry, flow, seq})]

  defp holds({kind, _from, _count}), do: [kind]

  # Behind them is room, which holds nothing.
  defp groups(_name, bytes, at) when at == byte_size(bytes) or binary_part(bytes, at, 8) == <<0::64>>, do: []

  defp groups(name, bytes, at) do
    <<_::binary-size(at), _::binary-16, length::64, _::binary-8, payload::binary-size(length), _::binary>> = bytes
    next = at + Journal.front_size() + length
    [region(name, at, next, :group, named(payload)) | groups(name, bytes, next)]
  end

  defp named(<<"C", payload::binary>>) do
    for {steps, _places, _at} <- Batch.ungroup(payload, 0),
        step <- steps,
        named <- named_by(step),
        uniq: true,
        do: named
  end

  # The last one says that the store was closed in order.
  defp named("E"), do: [:closing]
  defp named(_begin_or_ready), do: []

  defp named_by({:block, flow, info, _sealed}), do: [{:flow, flow}, {:block, flow, info.height}]
  defp named_by({kind, flow, seq, _stage, _meta, _data}) when kind == :put, do: [{:flow, flow}, {:entry, flow, seq}]
  defp named_by({:drop, flow, seq, _euid}), do: [{:flow, flow}, {:entry, flow, seq}]
  defp named_by({:open, flow, _genesis}), do: [{:flow, flow}]
  defp named_by({kind, _item}), do: [kind]

  defp region(file, from, to, part, holds), do: %{file: file, from: from, to: to, part: part, holds: holds}

  @doc "Runs `fun` on the store in `dir`; the error if it is refused."
  def open(dir, mode, fun) do
    name = :"bit_rot_#{System.unique_integer([:positive])}"
    %{start: {module, function, args}} = Disk.child_spec({name, [mode: mode] ++ SmallStore.options(dir)})

    with {:ok, pid} <- apply(module, function, args) do
      try do
        fun.(Store.handle(Disk, name))
      after
        GenServer.stop(pid)
      end
    end
  end

  @doc "All that a store shows: of each flow the head and the blocks, by height, then the log. Errors stand as they are."
  def shown(store) do
    flows = for flow <- SmallStore.flows(), into: %{}, do: {flow, {Store.head(store, flow), blocks(store, flow)}}
    logs = for kind <- [:leaves, :checkpoints], into: %{}, do: {kind, Store.log(store, {kind, 0, 99})}
    Map.merge(logs, %{flows: flows, names: Store.flows(store, nil, 99)})
  end

  defp blocks(store, flow) do
    with {:ok, pieces} <- Store.blocks(store, flow, {1, :infinity}),
         do: for(piece <- pieces, into: %{}, do: {piece.height, Store.read(piece)})
  end

  @doc "The positions of each block: `{flow, height}` to its first and last."
  def positions(shown) do
    for {flow, {_head, blocks}} <- shown.flows, {height, {:ok, block}} <- blocks, into: %{} do
      {:ok, header} = Chain.header(block)
      {{flow, height}, header.first..(header.first + header.count - 1)}
    end
  end

  @doc "What of `good` is not in `seen`: blocks, entries, flows and kinds of log, named as regions name them."
  def lost(good, seen) do
    kinds = for kind <- [:leaves, :checkpoints], good[kind] != seen[kind], do: kind
    kinds ++ Enum.flat_map(good.flows, fn {flow, shown} -> lost(flow, shown, seen.flows[flow]) end)
  end

  defp lost(_flow, same, same), do: []

  defp lost(flow, {head, blocks}, {seen, seen_blocks}) do
    gone = for {height, block} <- blocks, not match?(%{^height => ^block}, seen_blocks), do: {:block, flow, height}
    gone ++ lost_of_head(flow, head, seen)
  end

  defp lost_of_head(_flow, same, same), do: []
  defp lost_of_head(flow, {:ok, head}, {:ok, seen}), do: [{:flow, flow} | entries(flow, head.entries -- seen.entries)]
  defp lost_of_head(flow, {:ok, head}, {:error, _}), do: [{:flow, flow} | entries(flow, head.entries)]

  defp entries(flow, entries), do: for({seq, _, _, _} <- entries, do: {:entry, flow, seq})

  @doc "Whether a store shows something that was never written: another block, or bytes of an entry that it never held."
  def invented(good, seen) do
    for {flow, {_head, blocks}} <- seen.flows,
        is_map(blocks),
        {height, {:ok, block}} <- blocks,
        good.flows[flow] |> elem(1) |> Map.get(height) != {:ok, block} do
      {:block, flow, height}
    end
  end
end
