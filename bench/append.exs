# Durable appends from many callers, beside the limit: a bare group commit (`file:write` + `datasync`) of the same bytes by
# one committer. Run by `mix run --no-start bench/append.exs [seconds]`; medians and ratios count, one absolute time does not.

defmodule Bench.Append do
  @body :binary.copy("b", 300)

  def run(seconds) do
    dir = Path.join(System.tmp_dir!(), "event_seal-bench-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)

    try do
      for callers <- [1, 16, 64, 256] do
        rounds =
          for round <- 1..3 do
            {ours(Path.join(dir, "#{callers}-#{round}"), callers, seconds),
             bare(Path.join(dir, "bare-#{callers}-#{round}"), callers, seconds)}
          end

        ours = rounds |> Enum.map(&elem(&1, 0)) |> median()
        bare = rounds |> Enum.map(&elem(&1, 1)) |> median()

        IO.puts(
          "#{callers} callers: #{round(ours)} events/s, bare #{round(bare)} records/s, ratio #{Float.round(ours / bare, 2)}"
        )
      end
    after
      File.rm_rf!(dir)
    end
  end

  defp ours(dir, callers, seconds) do
    {:ok, pid} = EventSeal.start_link(name: __MODULE__, store: {EventSeal.Store.Disk, dir: dir}, pool_window: 0)

    rate =
      rate(callers, seconds, fn caller, n ->
        {:ok, _} = EventSeal.append(__MODULE__, "patient/#{caller}", %{when: n, kind: "vital", body: @body})
      end)

    Supervisor.stop(pid)
    rate
  end

  defp bare(path, callers, seconds) do
    committer =
      spawn_link(fn ->
        {:ok, file} = :file.open(path, [:raw, :binary, :append])
        commit(file)
      end)

    rate(callers, seconds, fn _, _ ->
      ref = make_ref()
      send(committer, {self(), ref, @body})
      receive do: (^ref -> :ok)
    end)
  end

  defp commit(file) do
    first = receive do: (message -> message)
    group = [first | waiting()]
    :ok = :file.write(file, for({_, _, body} <- group, do: body))
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

  defp rate(callers, seconds, fun) do
    stop = System.monotonic_time(:millisecond) + seconds * 1000
    started = System.monotonic_time(:microsecond)

    count =
      1..callers
      |> Enum.map(fn caller -> Task.async(fn -> loop(caller, 0, stop, fun) end) end)
      |> Enum.map(&Task.await(&1, :infinity))
      |> Enum.sum()

    count * 1_000_000 / (System.monotonic_time(:microsecond) - started)
  end

  defp loop(caller, n, stop, fun) do
    if System.monotonic_time(:millisecond) >= stop do
      n
    else
      fun.(caller, n + 1)
      loop(caller, n + 1, stop, fun)
    end
  end

  defp median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))
end

Bench.Append.run(System.argv() |> List.first("3") |> String.to_integer())
