# Appends to Mnesia: a transaction and a sync of its log, before a caller is answered. A line `CALLERS BATCH SECONDS BYTES`
# is answered by events a second and the median duration of a call in microseconds.

for file <- ["samples", "callers"], do: Code.require_file("../suite/#{file}.ex", __DIR__)

defmodule Bench.Peers.Mnesia do
  def run([dir]) do
    Application.put_env(:mnesia, :dir, String.to_charlist(dir))
    :ok = :mnesia.create_schema([node()])
    :ok = :mnesia.start()
    {:atomic, :ok} = :mnesia.create_table(:event, disc_copies: [node()], attributes: [:key, :at, :kind, :body])
    for line <- IO.stream(), do: line |> String.split() |> append()
  end

  # Its folder is still there, for a last time.
  defp append(["stop"]) do
    :stopped = :mnesia.stop()
    IO.puts(0)
  end

  # The table lies in memory: each sample has it empty.
  defp append([callers, batch, seconds, bytes]) do
    {:atomic, :ok} = :mnesia.clear_table(:event)
    {batch, body} = {String.to_integer(batch), :binary.copy("b", String.to_integer(bytes))}

    [calls, median] =
      Bench.Callers.run(String.to_integer(callers), elem(Float.parse(seconds), 0), fn caller, n ->
        {:atomic, :ok} =
          :mnesia.transaction(fn ->
            for event <- 1..batch, do: :ok = :mnesia.write({:event, {caller, n, event}, n, "vital", body})
            :ok
          end)

        :ok = :mnesia.sync_log()
      end)

    IO.puts("#{calls * batch} #{median}")
  end
end

Bench.Peers.Mnesia.run(System.argv())
