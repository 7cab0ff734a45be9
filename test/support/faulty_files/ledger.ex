defmodule EventSeal.FaultyFiles.Ledger do
  @moduledoc false
  # What a disk would still hold if the power went now: of each file the bytes that were synced and the changes since, of
  # each folder the names that were synced and those that are there.
  #
  #   {{:name, folder, name}, now, durable}   each an id, `:folder`, or nil
  #   {{:file, id}, durable bytes, changes}   newest first: {:pending | :durable | :doubtful, {:write, at, bytes} | {:cut, length}}
  #
  # What a sync that failed was to keep stays doubtful for ever, whatever a later sync of the file says: the kernel may have
  # dropped it and taken it for written.

  @table EventSeal.FaultyFiles
  @sector 512
  @disks [:dropped, :kept, :torn, :reordered]

  @doc "What the disk may make of what was not synced."
  def disks, do: @disks

  def create(path) do
    id = make_ref()
    :ets.insert(@table, {{:file, id}, "", []})
    name(path, id)
    id
  end

  @doc "The id of a file; one that was made elsewhere is taken as synced."
  def find(path) do
    case :ets.lookup(@table, key(path)) do
      [{_key, id, _durable}] when is_reference(id) -> id
      _unknown -> adopt_file(path)
    end
  end

  def change(id, change) do
    [{key, bytes, changes}] = :ets.lookup(@table, {:file, id})
    :ets.insert(@table, {key, bytes, [{:pending, change} | changes]})
    :ok
  end

  def sync(id), do: settle(id, :durable)
  def doubt(id), do: settle(id, :doubtful)

  defp settle(id, status) do
    [{key, bytes, changes}] = :ets.lookup(@table, {:file, id})
    changes = for {was, change} <- changes, do: {if(was == :pending, do: status, else: was), change}
    whole? = Enum.all?(changes, &(elem(&1, 0) == :durable))
    :ets.insert(@table, if(whole?, do: {key, replay(bytes, changes), []}, else: {key, bytes, changes}))
    :ok
  end

  def rename(id, from, to) do
    name(from, nil)
    name(to, id)
  end

  def delete(path), do: name(path, nil)
  def make_dir(path), do: name(path, :folder)

  # A folder in it may have been made elsewhere.
  def sync_dir(dir) do
    for name <- File.ls!(dir), path = Path.join(dir, name), File.dir?(path), do: make_dir(path)
    for {key, now, _durable} <- names(dir), do: :ets.update_element(@table, key, {3, now})
    :ok
  end

  @doc "Takes a folder as it is for all there is, wholly synced."
  def adopt(dir) do
    for kind <- [{:name, :_, :_}, {:file, :_}, {:fd, :_}], do: :ets.match_delete(@table, {kind, :_, :_})
    if File.dir?(dir), do: adopt_below(dir)
    :ok
  end

  defp adopt_below(dir) do
    durable(dir, :folder)

    for name <- File.ls!(dir), path = Path.join(dir, name) do
      if File.dir?(path), do: adopt_below(path), else: adopt_file(path)
    end
  end

  defp adopt_file(path) do
    id = make_ref()
    :ets.insert(@table, {{:file, id}, File.read!(path), []})
    durable(path, id)
    id
  end

  defp key(path), do: {:name, Path.dirname(path), Path.basename(path)}
  defp names(dir), do: :ets.match_object(@table, {{:name, dir, :_}, :_, :_})
  defp durable(path, what), do: :ets.insert(@table, {key(path), what, what})

  defp name(path, what) do
    :ets.update_element(@table, key(path), {2, what}) || :ets.insert(@table, {key(path), what, nil})
    :ok
  end

  @doc """
  Writes to `copy` what the loss of power leaves of `dir`. Of what was not synced, names of files included, the disk has
  dropped all, kept all, torn it (kept the first of each file, the last of these in part), or reordered it (kept any of it).
  """
  def image(dir, copy, disk) when disk in @disks do
    File.rm_rf!(copy)

    for {_key, now, durable} <- :ets.lookup(@table, key(dir)), entry(now, durable, disk), do: folder(dir, copy, disk)
    :ok
  end

  defp folder(dir, copy, disk) do
    File.mkdir_p!(copy)

    for {{:name, _dir, name}, now, durable} <- names(dir), entry = entry(now, durable, disk) do
      path = Path.join(copy, name)
      if entry == :folder, do: folder(Path.join(dir, name), path, disk), else: File.write!(path, content(entry, disk))
    end
  end

  defp entry(_now, durable, :dropped), do: durable
  defp entry(now, _durable, :kept), do: now
  defp entry(now, durable, _disk), do: Enum.random([now, durable])

  defp content(id, disk) do
    [{_key, bytes, changes}] = :ets.lookup(@table, {:file, id})
    replay(bytes, kept(changes, disk))
  end

  defp kept(changes, :kept), do: changes
  defp kept(changes, :dropped), do: Enum.filter(changes, &durable?/1)

  defp kept(changes, :torn) do
    {loose, there} = changes |> Enum.with_index() |> Enum.split_with(fn {change, _at} -> not durable?(change) end)
    first = Enum.take(Enum.reverse(loose), :rand.uniform(length(loose) + 1) - 1)
    first = List.update_at(first, -1, fn {{status, change}, at} -> {{status, cut(change)}, at} end)
    for {change, _at} <- Enum.sort_by(there ++ first, &elem(&1, 1)), do: change
  end

  defp kept(changes, :reordered) do
    Enum.flat_map(changes, fn
      {:durable, _change} = durable -> [durable]
      {_loose, change} -> for part <- any(sectors(change)), do: {:durable, part}
    end)
  end

  defp any(parts), do: Enum.random([[], parts, Enum.filter(parts, fn _part -> :rand.uniform(2) == 1 end)])

  defp durable?({status, _change}), do: status == :durable

  # Some of the sectors, from the first on: at least one, and perhaps all.
  defp cut({:write, at, _bytes} = write) do
    parts = sectors(write)
    some = Enum.random([length(parts), :rand.uniform(length(parts))])
    {:write, at, parts |> Enum.take(some) |> Enum.map_join(&elem(&1, 2))}
  end

  defp cut(change), do: change

  defp sectors({:write, _at, bytes} = write) when byte_size(bytes) <= 1, do: [write]

  defp sectors({:write, at, bytes}) do
    case bytes do
      <<part::binary-size(@sector - rem(at, @sector)), rest::binary>> when rest != "" ->
        [{:write, at, part} | sectors({:write, at + byte_size(part), rest})]

      part ->
        [{:write, at, part}]
    end
  end

  defp sectors(change), do: [change]

  defp replay(bytes, changes),
    do: Enum.reduce(Enum.reverse(changes), bytes, fn {_, change}, bytes -> put(bytes, change) end)

  defp put(bytes, {:cut, length}), do: fill(bytes, length)

  defp put(bytes, {:write, at, new}) do
    behind = at + byte_size(new)
    rest = if byte_size(bytes) > behind, do: binary_part(bytes, behind, byte_size(bytes) - behind), else: ""
    IO.iodata_to_binary([fill(bytes, at), new, rest])
  end

  # Cut to a length, or made that long by zeros.
  defp fill(bytes, length) when byte_size(bytes) >= length, do: binary_part(bytes, 0, length)
  defp fill(bytes, length), do: bytes <> <<0::unit(8)-size(length - byte_size(bytes))>>
end
