# Verification and sealing on all cores, beside plain Elixir with `:crypto`. Events carry bodies of 300 bytes; every value
# of format 1 is recomputed. Run by `mix run --no-start bench/verify.exs [events]`; ratios count, absolute times do not.

defmodule Bench.Verify do
  alias EventSeal.{Chain, Event, Verdict}

  @body :binary.copy("b", 300)

  def run(count) do
    for suite <- [:sha256, :blake3] do
      {sealing, blocks} = timed(fn -> blocks(suite, count) end)
      IO.puts("#{suite}: packed, settled and sealed #{rate(count, sealing)} events/s on one core")

      for threads <- Enum.uniq([1, System.schedulers_online()]) do
        times =
          for _ <- 1..5 do
            {time, verdict} = timed(fn -> Chain.verify(blocks, bodies: true, threads: threads) end)
            true = Verdict.ok?(verdict) and verdict.events == count + 1
            time
          end

        IO.puts("#{suite}: verified #{rate(count, median(times))} events/s with #{threads} thread(s)")
      end
    end

    {time, _} = timed(fn -> plain(div(count, 10)) end)
    IO.puts("plain Elixir with :crypto, one process: #{rate(div(count, 10), time)} events/s")
  end

  defp blocks(suite, count) do
    {:ok, chain} = Chain.open("patient/1", suite: suite, created_at: 0, nonce: <<0::128>>)
    {chain, blocks} = 1..count |> Stream.chunk_every(4096) |> Enum.reduce({chain, []}, &seal/2)
    {:ok, [close]} = Chain.frames(suite, [draft(count + 1, "$close")])
    {:ok, _, block, _} = Chain.close(chain, close, sealed_at: count + 1)
    Enum.reverse([block | blocks])
  end

  defp seal(positions, {chain, blocks}) do
    {:ok, frames} = Chain.frames(chain.suite, Enum.map(positions, &draft(&1, "vital")))
    {:ok, chain, _} = Chain.settle(chain, frames)
    {:ok, block, chain} = Chain.seal(chain, sealed_at: List.last(positions))
    {chain, [block | blocks]}
  end

  defp draft(n, kind) do
    {:ok, draft} = Event.draft(%{when: n, kind: kind, body: @body}, euid: <<n::128>>, library: true)
    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end

  # The same bytes through :crypto, tags and padding included: commitment, event hash, id, a Merkle node.
  defp plain(count) do
    tag = :crypto.hash(:sha256, "event-seal/1 body")
    hash = fn input -> :crypto.hash(:sha256, [tag, tag, input]) end
    body = <<0::128, 300::64, @body::binary, 0::480>>
    Enum.each(1..count, fn _ -> for size <- [384, 128, 256, 64], do: hash.(binary_part(body, 0, min(size, 384))) end)
  end

  defp timed(fun) do
    started = System.monotonic_time(:microsecond)
    result = fun.()
    {System.monotonic_time(:microsecond) - started, result}
  end

  defp rate(count, micros), do: round(count * 1_000_000 / micros)
  defp median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))
end

Bench.Verify.run(System.argv() |> List.first("200000") |> String.to_integer())
