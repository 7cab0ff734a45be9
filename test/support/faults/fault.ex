defmodule EventSeal.Faults.Fault do
  @moduledoc false
  # The faults of EventSeal.Faults.Disk, as plain terms that a failing run prints:
  #
  #   {:kill, where, passes, moment}            the system is killed at an operation
  #   {:power, disk, where, passes, moment}     it loses its power there; see EventSeal.FaultyFiles.Ledger
  #   {:fail, operation, reason, passes, times, moment}
  #   {:process, where, passes, index}          one process of the tree is killed
  #   {:full, room}, {:handles, room}           the disk is full, or the VM has no more file handles, but for so much
  #
  # `where` is `:store`, or `:derived`: the files beside segments, which another process makes meanwhile.
  alias EventSeal.Faults.Tree
  alias EventSeal.FaultyFiles

  @doc "Arms a fault; `machine` is told `{:halted, disk | nil}` when the system stops."
  def arm({:kill, where, passes, moment}, machine, _tree), do: halt(:kill, nil, where, passes, moment, machine)

  def arm({:power, disk, where, passes, moment}, machine, _tree),
    do: halt({:power, disk}, disk, where, passes, moment, machine)

  def arm({:fail, operation, reason, passes, times, moment}, _machine, _tree) do
    fault = %{on: [operation], act: {:error, reason}, passes: passes, times: times, moment: moment}
    FaultyFiles.arm(Map.put(fault, :kind, {:fail, reason}))
  end

  def arm({:process, where, passes, index}, _machine, tree) do
    kill = fn _operation -> Tree.kill_one(tree, index) end
    FaultyFiles.arm(Map.merge(where(where), %{act: {:also, kill}, passes: passes, kind: :process}))
  end

  def arm({:full, room}, _machine, _tree) do
    release()
    path = :persistent_term.get({__MODULE__, :ballast})
    {:ok, fd} = :file.open(path, [:raw, :write])
    fill(fd)
    {:ok, size} = :file.position(fd, :cur)
    {:ok, _} = :file.position(fd, max(size - room, 0))
    :ok = :file.truncate(fd)
    :ok = :file.close(fd)
    FaultyFiles.strike({:full, :real})
  end

  def arm({:handles, room}, _machine, _tree) do
    {released, held} = Enum.split(hog([]), room)
    Enum.each(released, &:file.close/1)
    Process.put(__MODULE__, held ++ Process.get(__MODULE__, []))
    FaultyFiles.strike({:handles, :real})
  end

  @doc "Names the file with which a small disk is filled."
  def ballast(path), do: :persistent_term.put({__MODULE__, :ballast}, path)

  @doc "Whether it is there from the beginning, and not only where an operation meets it."
  def real?(fault), do: elem(fault, 0) in [:full, :handles]

  @doc "Gives back what was taken: room on the disk, and file handles."
  def release do
    Enum.each(Process.delete(__MODULE__) || [], &:file.close/1)
    with path when path != nil <- :persistent_term.get({__MODULE__, :ballast}, nil), do: File.rm(path)
    :ok
  end

  defp halt(kind, disk, where, passes, moment, machine) do
    act = {:halt, fn _operation -> send(machine, {:halted, disk}) end}
    FaultyFiles.arm(Map.merge(where(where), %{act: act, passes: passes, moment: moment, kind: kind}))
  end

  @derived ~r/\.(euids|index)/
  defp where(:store), do: %{but: @derived}
  defp where(:derived), do: %{text: @derived}

  @piece :binary.copy("x", 4096)
  defp fill(fd), do: with(:ok <- :file.write(fd, @piece), do: fill(fd))

  defp hog(held) do
    case :file.open("/dev/null", [:raw, :read]) do
      {:ok, fd} -> hog([fd | held])
      {:error, :emfile} -> held
    end
  end
end
