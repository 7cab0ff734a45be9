defmodule Bench.Plain do
  @moduledoc false
  # The hashing of format 1 in plain Elixir, by `:crypto`: for each event of 300 bytes its commitment, event hash, id and a
  # Merkle node, tags and padding included.

  @body 300
  @sizes [384, 128, 256, 64]

  @spec stop(pos_integer) :: :ok
  def stop(_events), do: :ok

  @doc "Hashes so many events, shared out over so many processes."
  @spec verify(pos_integer, pos_integer) :: :ok
  def verify(events, processes) do
    1..processes
    |> Enum.map(fn _ -> Task.async(fn -> hash(div(events, processes)) end) end)
    |> Enum.each(&Task.await(&1, :infinity))
  end

  defp hash(events) do
    tag = :crypto.hash(:sha256, "event-seal/1 body")
    bytes = <<0::128, @body::64, Bench.Store.body(@body)::binary, 0::480>>
    inputs = for size <- @sizes, do: binary_part(bytes, 0, size)
    Enum.each(1..events, fn _ -> for input <- inputs, do: :crypto.hash(:sha256, [tag, tag, input]) end)
  end
end
