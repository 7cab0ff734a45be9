defmodule EventSeal.FaultyFiles do
  @moduledoc false
  # EventSeal.Segments.Files on a machine on which anything may happen. An operation fails before it has done anything, after
  # a half of it, or although it was done; or the machine stops there, and nothing is done any more. What the loss of power
  # would leave is in EventSeal.FaultyFiles.Ledger.
  alias EventSeal.FaultyFiles.Ledger
  alias EventSeal.Segments.Files
  @behaviour Files

  @table __MODULE__
  @changing [:create, :pwrite, :datasync, :truncate, :rename, :delete, :make_dir, :sync_dir]
  @fault %{on: @changing, text: "", but: nil, times: 1, passes: 0, moment: :before, kind: nil}

  @doc "For a test. Stores that outlive it by a moment still need the table."
  def start do
    ExUnit.Callbacks.start_supervised!({Agent, &new/0}, id: @table)
    :ok
  end

  @doc "Makes the table, the caller's own."
  def new, do: :ets.new(@table, [:named_table, :public])

  @doc """
  Arms a fault: the operations `on` paths with `text`, and without `but`, are struck `times` times once `passes` of them have
  passed. `act` is what happens:

    * `{:error, reason}` - the operation fails: `moment` says whether `:before`, after a `:half`, or `:after` all of it
    * `{:halt, fun}` - the machine stops, at that moment; `fun` is called with the operation's name
    * `{:also, fun}` - `fun` is called, and the operation goes on: `:after` it, or by `:half` at the same time
  """
  def arm(%{act: _} = fault) do
    fault = Map.merge(@fault, fault)
    :ets.insert(@table, {{:fault, System.unique_integer([:monotonic])}, fault, fault.times, fault.passes})
    :ok
  end

  @doc """
  The next `times` operations on a path with this text in it return the reason. `half: true` writes a half before;
  `after: n` lets n of them pass first.
  """
  def fail(operation, text, reason, opts \\ []) do
    moment = if opts[:half], do: :half, else: :before
    [times, passes] = for {key, default} <- [times: 1, after: 0], do: Keyword.get(opts, key, default)
    arm(%{on: [operation], text: text, act: {:error, reason}, times: times, passes: passes, moment: moment})
  end

  @doc "Whether a fault has struck as often as it was to."
  def struck?(operation, text) do
    Enum.any?(faults(), fn {_key, fault, times, _passes} ->
      {fault.on, fault.text} == {[operation], text} and times <= 0
    end)
  end

  @doc "How often faults of each kind have struck."
  def strikes, do: Map.new(:ets.match_object(@table, {{:struck, :_}, :_}), fn {{:struck, kind}, n} -> {kind, n} end)
  def strike(kind), do: :ets.update_counter(@table, {:struck, kind}, 1, {{:struck, kind}, 0})

  @doc "Disarms all faults."
  def heal, do: :ets.match_delete(@table, {{:fault, :_}, :_, :_, :_})

  @doc "Calls `fun` before each operation that changes something."
  def watch(fun), do: :ets.insert(@table, {:watcher, fun})
  def unwatch, do: :ets.delete(@table, :watcher)

  @doc "While suspended, no fault strikes or counts."
  def suspend, do: :ets.insert(@table, {:suspended})
  def resume, do: :ets.delete(@table, :suspended)
  def suspended?, do: :ets.member(@table, :suspended)

  @doc "After a halt, once the processes are gone that it holds: the machine is started anew."
  def boot, do: :ets.delete(@table, :halted)

  @impl true
  def create(path) do
    run(:create, path, fn _ ->
      with {:ok, fd} <- Files.create(path), do: opened(fd, path, Ledger.create(path))
    end)
  end

  @impl true
  def open(path, mode) do
    run(:open, path, fn _ ->
      with {:ok, fd} <- Files.open(path, mode), do: opened(fd, path, Ledger.find(path))
    end)
  end

  @impl true
  def close(fd) do
    :ets.delete(@table, {:fd, fd})
    Files.close(fd)
  end

  @impl true
  def pwrite(fd, offset, bytes) do
    run(:pwrite, path(fd), fn moment ->
      bytes = IO.iodata_to_binary(bytes)
      bytes = if moment == :half, do: binary_part(bytes, 0, div(byte_size(bytes), 2)), else: bytes
      with :ok <- Files.pwrite(fd, offset, bytes), do: Ledger.change(id(fd), {:write, offset, bytes})
    end)
  end

  @impl true
  def pread(fd, offset, length), do: run(:pread, path(fd), fn _ -> Files.pread(fd, offset, length) end)

  @impl true
  def datasync(fd) do
    run(:datasync, path(fd), fn
      :failed -> Ledger.doubt(id(fd))
      _moment -> with :ok <- Files.datasync(fd), do: Ledger.sync(id(fd))
    end)
  end

  @impl true
  def truncate(fd, length) do
    run(:truncate, path(fd), fn _ ->
      with :ok <- Files.truncate(fd, length), do: Ledger.change(id(fd), {:cut, length})
    end)
  end

  @impl true
  def size(path), do: Files.size(path)

  @impl true
  def rename(from, to) do
    run(:rename, to, fn _ ->
      id = Ledger.find(from)
      with :ok <- Files.rename(from, to), do: Ledger.rename(id, from, to)
    end)
  end

  @impl true
  def delete(path), do: run(:delete, path, fn _ -> with :ok <- Files.delete(path), do: Ledger.delete(path) end)

  @impl true
  def list(dir), do: Files.list(dir)

  @impl true
  def make_dir(path), do: run(:make_dir, path, fn _ -> with :ok <- Files.make_dir(path), do: Ledger.make_dir(path) end)

  @impl true
  def sync_dir(path), do: run(:sync_dir, path, fn _ -> with :ok <- Files.sync_dir(path), do: Ledger.sync_dir(path) end)

  defp opened(fd, path, id) do
    :ets.insert(@table, {{:fd, fd}, id, path})
    {:ok, fd}
  end

  defp id(fd), do: :ets.lookup_element(@table, {:fd, fd}, 2)
  defp path(fd), do: :ets.lookup_element(@table, {:fd, fd}, 3)

  @doc "Runs an operation, of whatever kind, on something of this name; `act` is told `:whole`, or how much of it is done."
  def run(operation, path, act) do
    if :ets.member(@table, :halted), do: Process.sleep(:infinity)
    with [{:watcher, fun}] when operation in @changing <- :ets.lookup(@table, :watcher), do: fun.(operation, path)

    case due(operation, path) do
      nil -> act.(:whole)
      fault -> struck(fault, operation, act)
    end
  end

  defp struck(fault, operation, act) do
    if fault.kind, do: strike({fault.kind, operation})
    struck(fault.act, fault.moment, operation, act)
  end

  defp struck({:also, fun}, :before, operation, act) do
    fun.(operation)
    act.(:whole)
  end

  defp struck({:also, fun}, :half, operation, act) do
    meanwhile = Task.async(fn -> fun.(operation) end)
    result = act.(:whole)
    Task.await(meanwhile, :infinity)
    result
  end

  defp struck({:also, fun}, :after, operation, act) do
    result = act.(:whole)
    fun.(operation)
    result
  end

  defp struck({:error, reason}, moment, operation, act) do
    cond do
      moment == :before and operation == :datasync -> act.(:failed)
      moment != :before -> act.(moment)
      true -> :nothing
    end

    {:error, reason}
  end

  defp struck({:halt, fun}, moment, operation, act) do
    if moment != :before, do: act.(moment)
    :ets.insert(@table, {:halted})
    fun.(operation)
    Process.sleep(:infinity)
  end

  defp due(operation, path) do
    faults = if suspended?(), do: [], else: faults()
    Enum.find_value(Enum.sort(faults), &(meets?(elem(&1, 1), operation, path) and turn(&1)))
  end

  defp meets?(fault, operation, path) do
    operation in fault.on and path =~ fault.text and not (fault.but != nil and path =~ fault.but)
  end

  defp faults, do: :ets.match_object(@table, {{:fault, :_}, :_, :_, :_})

  defp turn({key, fault, times, passes}) do
    cond do
      times <= 0 -> nil
      passes > 0 and :ets.update_counter(@table, key, {4, -1}) >= 0 -> nil
      :ets.update_counter(@table, key, {3, -1}) >= 0 -> fault
      true -> nil
    end
  end
end
