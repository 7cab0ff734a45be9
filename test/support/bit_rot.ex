defmodule EventSeal.BitRot do
  @moduledoc false
  # What a store's folder holds, byte for byte, and what a store shows that was opened on it.
  #
  # A region is `%{file:, from:, to:, part:, owner:}`. `part` is where in its record or group it lies, `owner` what may be
  # lost with it: `{:block, flow, height}`, `{:tail, flow}`, `{:log, kind}`, `{:group, flows}`, or `nil` for nothing at all.

  alias EventSeal.{Chain, Error, Segments, SmallStore, Store, Verifier}
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

  @doc "Flips bits of one byte, in place."
  def flip!(dir, name, at, bytes, pattern) do
    {:ok, fd} = :file.open(Path.join(dir, name), [:raw, :binary, :read, :write])
    :ok = :file.pwrite(fd, at, <<Bitwise.bxor(:binary.at(bytes, at), pattern)>>)
    :ok = :file.close(fd)
  end

  @doc "All regions of all files, without a gap."
  def regions(dir, files), do: Enum.flat_map(Enum.sort(files), fn {name, bytes} -> regions(dir, name, bytes) end)

  defp regions(dir, "segments/" <> _ = name, bytes) do
    if String.ends_with?(name, ".euids"),
      do: [region(name, 0, byte_size(bytes), :derived, nil)],
      else: segment(dir, name, bytes)
  end

  defp regions(_dir, "journal-" <> _ = name, bytes),
    do: [region(name, 0, 64, :header, nil) | groups(name, bytes, 64)]

  defp regions(_dir, name, bytes), do: [region(name, 0, byte_size(bytes), :identity, nil)]

  defp segment(dir, name, bytes) do
    <<_::binary-32, marker::binary-8, _::binary>> = bytes
    {:ok, fd} = :file.open(Path.join(dir, name), [:raw, :binary, :read])
    add = fn record, records -> [record | records] end
    {:ok, records} = Segments.fold(Segments.Files, fd, marker, 64, byte_size(bytes), [], add)
    :ok = :file.close(fd)
    [region(name, 0, 64, :header, nil) | records |> Enum.reverse() |> Enum.flat_map(&record(name, &1))]
  end

  defp record(name, record) do
    owner = owner(Record.meta(record.meta))
    sum_at = record.payload_at - 4

    [
      region(name, record.at, record.keys_at, :front, owner),
      region(name, record.keys_at, sum_at, :keys, owner),
      region(name, sum_at, record.payload_at, :sum, owner),
      region(name, record.payload_at, record.next, :payload, owner)
    ]
  end

  defp owner({:block, flow, info, _genesis}), do: {:block, flow, info.height}
  defp owner({:tail, flow, _next, _ranges, _genesis}), do: {:tail, flow}
  defp owner({kind, _from, _count}), do: {:log, kind}

  defp groups(_name, bytes, at) when at == byte_size(bytes), do: []

  defp groups(name, bytes, at) do
    <<_::binary-size(at), _::binary-16, length::64, _::binary-8, payload::binary-size(length), _::binary>> = bytes
    next = at + Journal.front_size() + length
    [region(name, at, next, :group, {:group, named(payload)}) | groups(name, bytes, next)]
  end

  defp named(<<"C", payload::binary>>) do
    for {steps, _places, _at} <- Batch.ungroup(payload, 0), step <- steps, uniq: true do
      case step do
        {kind, _item} -> {:log, kind}
        step -> elem(step, 1)
      end
    end
  end

  # The last one says that the store was closed in order.
  defp named("E"), do: :end
  defp named(_begin_or_ready), do: []

  defp region(file, from, to, part, owner), do: %{file: file, from: from, to: to, part: part, owner: owner}

  @doc "Runs `fun` on the store in `dir`; the error if it is refused."
  def open(dir, mode, name, fun) do
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

    %{
      flows: flows,
      names: Store.flows(store, nil, 99),
      leaves: log(store, :leaves),
      checkpoints: log(store, :checkpoints)
    }
  end

  defp log(store, kind), do: Store.log(store, {kind, 0, 99})

  # Behind one that is lost they are asked for one by one.
  defp blocks(store, flow) do
    case Store.blocks(store, flow, {1, :infinity}) do
      {:ok, pieces} -> for piece <- pieces, into: %{}, do: {piece.height, Store.read(piece)}
      {:error, %Error{reason: :corrupt}} -> singly(store, flow, 1, %{})
      {:error, error} -> error
    end
  end

  defp singly(_store, _flow, n, found) when n > 120, do: found

  defp singly(store, flow, n, found) do
    case Store.blocks(store, flow, {n, n}) do
      {:ok, [piece]} -> singly(store, flow, n + 1, Map.put(found, piece.height, Store.read(piece)))
      _lost -> singly(store, flow, n + 1, found)
    end
  end

  def verdict(store) do
    {:ok, verdict} = Verifier.run(store, threads: 1)
    verdict
  end

  @doc "The positions of each block: `{flow, height}` to its first and last."
  def positions(shown) do
    for {flow, {_head, blocks}} <- shown.flows, {height, {:ok, block}} <- blocks, into: %{} do
      {:ok, header} = Chain.header(block)
      {{flow, height}, {header.first, header.first + header.count - 1}}
    end
  end
end
