defmodule EventSeal.PowerFiles do
  @moduledoc false
  # EventSeal.Segments.Files on a machine that may lose its power: it knows of each file what was synced, and of each folder
  # which names were. `image/2` makes of a folder what would be left of it.
  alias EventSeal.Segments.Files
  @behaviour Files

  @table __MODULE__

  def start do
    ExUnit.Callbacks.start_supervised!({Agent, fn -> :ets.new(@table, [:named_table, :public]) end}, id: @table)
    :ok
  end

  @doc "Calls `fun` before each operation that changes something."
  def watch(fun), do: :ets.insert(@table, {:watcher, fun})
  def unwatch, do: :ets.delete(@table, :watcher)

  @doc "Takes a folder that is there as one that is wholly synced."
  def settle(dir) do
    synced(Path.dirname(dir), [Path.basename(dir)])
    settle_below(dir)
  end

  defp settle_below(dir) do
    for name <- File.ls!(dir), path = Path.join(dir, name) do
      if File.dir?(path) do
        settle_below(path)
      else
        id = make_ref()
        :ets.insert(@table, [{{:id, path}, id}, {{:bytes, id}, File.read!(path)}])
      end
    end

    synced(dir, File.ls!(dir))
  end

  @doc """
  Writes to `copy` what the loss of power leaves of `dir`. `contents` and `names` say for each file and folder whether the
  disk holds only what was `:synced`, or all that was done (`:done`), which it may hold as well.
  """
  def image(dir, copy, contents, names) do
    File.rm_rf!(copy)
    if Path.basename(dir) in Map.keys(names(Path.dirname(dir), names)), do: image_of(dir, copy, contents, names)
  end

  defp image_of(dir, copy, contents, names) do
    File.mkdir_p!(copy)

    for {name, entry} <- names(dir, names) do
      to = Path.join(copy, name)
      if entry == :folder, do: image_of(Path.join(dir, name), to, contents, names), else: write(to, entry, contents)
    end
  end

  defp names(dir, fun) do
    case {fun.(), :ets.lookup(@table, {:names, dir})} do
      {:synced, [{_key, names}]} -> names
      {:synced, []} -> %{}
      {:done, _synced} -> current(dir, File.ls!(dir))
    end
  end

  defp write(to, id, contents) do
    with [{_key, path}] when path != nil <- (contents.() == :done && :ets.lookup(@table, {:path, id})) || [],
         {:ok, bytes} <- File.read(path) do
      File.write!(to, bytes)
    else
      _synced -> File.write!(to, for({_key, bytes} <- :ets.lookup(@table, {:bytes, id}), do: bytes))
    end
  end

  defp current(dir, names) do
    for name <- names, path = Path.join(dir, name), File.exists?(path), into: %{} do
      if File.dir?(path), do: {name, :folder}, else: {name, id(path)}
    end
  end

  # The lock is not made through the seam.
  defp id(path) do
    case :ets.lookup(@table, {:id, path}) do
      [{_key, id}] -> id
      [] -> tap(make_ref(), &:ets.insert(@table, {{:id, path}, &1}))
    end
  end

  defp synced(dir, names), do: :ets.insert(@table, {{:names, dir}, current(dir, names)})

  @impl true
  def create(path) do
    change(:create, path)

    with {:ok, fd} <- Files.create(path) do
      id = make_ref()
      :ets.insert(@table, [{{:id, path}, id}, {{:path, id}, path}, {{:fd, fd}, id, path}])
      {:ok, fd}
    end
  end

  @impl true
  def open(path, mode) do
    with {:ok, fd} <- Files.open(path, mode) do
      id = id(path)
      :ets.insert(@table, [{{:path, id}, path}, {{:fd, fd}, id, path}])
      {:ok, fd}
    end
  end

  @impl true
  def close(fd), do: Files.close(fd)

  @impl true
  def pwrite(fd, offset, bytes) do
    change(:pwrite, path(fd))
    Files.pwrite(fd, offset, bytes)
  end

  @impl true
  def pread(fd, offset, length), do: Files.pread(fd, offset, length)

  @impl true
  def datasync(fd) do
    change(:datasync, path(fd))

    with :ok <- Files.datasync(fd) do
      [{_key, id, _path}] = :ets.lookup(@table, {:fd, fd})
      bytes = with :eof <- Files.pread(fd, 0, 100_000_000), do: {:ok, ""}
      :ets.insert(@table, {{:bytes, id}, elem(bytes, 1)})
      :ok
    end
  end

  @impl true
  def truncate(fd, length) do
    change(:truncate, path(fd))
    Files.truncate(fd, length)
  end

  @impl true
  def size(path), do: Files.size(path)

  @impl true
  def rename(from, to) do
    change(:rename, to)
    id = id(from)

    with :ok <- Files.rename(from, to) do
      :ets.delete(@table, {:id, from})
      :ets.insert(@table, [{{:id, to}, id}, {{:path, id}, to}])
      :ok
    end
  end

  @impl true
  def delete(path) do
    change(:delete, path)
    for {_key, id} <- :ets.take(@table, {:id, path}), do: :ets.insert(@table, {{:path, id}, nil})
    Files.delete(path)
  end

  @impl true
  def list(dir), do: Files.list(dir)

  @impl true
  def make_dir(path) do
    change(:make_dir, path)
    Files.make_dir(path)
  end

  @impl true
  def sync_dir(path) do
    change(:sync_dir, path)
    with :ok <- Files.sync_dir(path), do: synced(path, File.ls!(path)) && :ok
  end

  defp path(fd), do: :ets.lookup_element(@table, {:fd, fd}, 3)

  defp change(operation, path) do
    with [{:watcher, watcher}] <- :ets.lookup(@table, :watcher), do: watcher.(operation, path)
  end
end
