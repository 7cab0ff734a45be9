defmodule EventSeal.FaultyFiles do
  @moduledoc false
  # EventSeal.Segments.Files with faults: an operation on a file whose path contains some text fails, once or for good,
  # before it has done anything, or after a half of it. A watcher is called before each operation that changes something.
  alias EventSeal.Segments.Files
  @behaviour Files

  @table __MODULE__

  def start do
    # Not the test's own: stores that outlive the test by a moment still need it.
    ExUnit.Callbacks.start_supervised!({Agent, fn -> :ets.new(@table, [:named_table, :public]) end})
    :ok
  end

  @doc """
  The next `times` operations on a path with this text in it return the reason. `half: true` writes a half before;
  `after: n` lets n of them pass first.
  """
  def fail(operation, text, reason, opts \\ []) do
    [times, half, passes] = for {key, default} <- [times: 1, half: false, after: 0], do: Keyword.get(opts, key, default)
    :ets.insert(@table, {{:fault, operation, text}, reason, times, half, passes})
  end

  @doc "Whether a fault has struck as often as it was to."
  def struck?(operation, text), do: :ets.match(@table, {{:fault, operation, text}, :_, 0, :_, :_}) != []

  def heal, do: :ets.match_delete(@table, {{:fault, :_, :_}, :_, :_, :_, :_})
  def watch(fun), do: :ets.insert(@table, {:watcher, fun})
  def unwatch, do: :ets.delete(@table, :watcher)

  @impl true
  def create(path), do: run(:create, path, fn -> opened(Files.create(path), path) end)
  @impl true
  def open(path, mode), do: run(:open, path, fn -> opened(Files.open(path, mode), path) end)
  @impl true
  def close(fd), do: Files.close(fd)

  @impl true
  def pwrite(fd, offset, bytes) do
    half = fn ->
      bytes = IO.iodata_to_binary(bytes)
      Files.pwrite(fd, offset, binary_part(bytes, 0, div(byte_size(bytes), 2)))
    end

    run(:pwrite, path(fd), fn -> Files.pwrite(fd, offset, bytes) end, half)
  end

  @impl true
  def pread(fd, offset, length), do: run(:pread, path(fd), fn -> Files.pread(fd, offset, length) end)
  @impl true
  def datasync(fd), do: run(:datasync, path(fd), fn -> Files.datasync(fd) end)
  @impl true
  def truncate(fd, length), do: run(:truncate, path(fd), fn -> Files.truncate(fd, length) end)
  @impl true
  def size(path), do: Files.size(path)
  @impl true
  def rename(from, to), do: run(:rename, to, fn -> Files.rename(from, to) end)
  @impl true
  def delete(path), do: run(:delete, path, fn -> Files.delete(path) end)
  @impl true
  def list(dir), do: Files.list(dir)
  @impl true
  def make_dir(path), do: Files.make_dir(path)
  @impl true
  def sync_dir(path), do: run(:sync_dir, path, fn -> Files.sync_dir(path) end)

  defp opened({:ok, fd}, path) do
    :ets.insert(@table, {{:path, fd}, path})
    {:ok, fd}
  end

  defp opened(error, _path), do: error

  defp path(fd), do: :ets.lookup_element(@table, {:path, fd}, 2)

  defp run(operation, path, fun, half \\ fn -> :ok end) do
    with [{:watcher, watcher}] when operation not in [:pread, :open] <- :ets.lookup(@table, :watcher),
         do: watcher.(operation, path)

    case due(operation, path) do
      nil ->
        fun.()

      {reason, half?} ->
        if half?, do: half.()
        {:error, reason}
    end
  end

  defp due(operation, path) do
    faults = :ets.match_object(@table, {{:fault, operation, :_}, :_, :_, :_, :_})

    Enum.find_value(faults, fn {{:fault, _, text} = key, reason, times, half, passes} ->
      cond do
        times == 0 or not String.contains?(path, text) -> nil
        passes > 0 -> if :ets.update_counter(@table, key, {5, -1}), do: nil
        :ets.update_counter(@table, key, {3, -1}) >= 0 -> {reason, half}
      end
    end)
  end
end
