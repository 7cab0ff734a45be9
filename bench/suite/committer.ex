defmodule Bench.Committer do
  @moduledoc false
  # The limit of durable appends: one process that gathers what waits, writes it by one `:file.write` and syncs it once. No
  # hashing, no framing, no index.

  @doc "So many callers, each with `bytes` a call. Returns calls a second and their median duration in microseconds."
  @spec append(Path.t(), pos_integer, number, pos_integer) :: [float]
  def append(path, callers, seconds, bytes) do
    record = Bench.Store.body(bytes)
    committer = spawn_link(fn -> start(path) end)
    measured = Bench.Callers.run(callers, seconds, fn _caller, _n -> ask(committer, record) end)
    Process.unlink(committer)
    Process.exit(committer, :kill)
    measured
  end

  defp ask(committer, record) do
    ref = make_ref()
    send(committer, {self(), ref, record})
    receive do: (^ref -> :ok)
  end

  defp start(path) do
    {:ok, file} = :file.open(path, [:raw, :binary, :append])
    commit(file)
  end

  defp commit(file) do
    first = receive do: (message -> message)
    group = [first | waiting()]
    :ok = :file.write(file, for({_, _, record} <- group, do: record))
    :ok = :file.datasync(file)
    for {pid, ref, _} <- group, do: send(pid, ref)
    commit(file)
  end

  defp waiting do
    receive do
      message -> [message | waiting()]
    after
      0 -> []
    end
  end
end
