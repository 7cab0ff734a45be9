defmodule Bench.Rows.Seal do
  @moduledoc false
  # Sealing through the NIF, from drafts to packed blocks, on one core: salted commitments, frames, positions, event hashes,
  # provisional ids and ids (`_settle`), then roots, headers and blocks (`_block`). The row is both.

  alias Bench.Samples
  alias EventSeal.{Chain, Event}

  @flows 16
  @block 4096

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for suite <- [:sha256, :blake3] do
      row = "seal_#{suite}"
      rows = [row, row <> "_settle", row <> "_block"]
      {rows, fn -> measure(rows, suite, options) end}
    end
  end

  # A flow's three last events stay open.
  defp measure(rows, suite, options) do
    each = min(@block, div(options.events, @flows)) + 3
    drafts = for n <- 1..each, do: draft(n)
    chains = for flow <- 1..@flows, do: chain(suite, flow)
    keys = Enum.map(rows, &{&1, "event_seal"})
    Samples.take([{keys, fn -> alone(fn -> seal(chains, drafts) end) end}], options.samples)
  end

  # In a process of its own, whose heap is as it was at every sample.
  defp alone(fun), do: fun |> Task.async() |> Task.await(:infinity)

  defp seal(chains, drafts) do
    count = length(chains) * length(drafts)

    {linked, settled} =
      Samples.timed(fn ->
        {:ok, settled} = Chain.settle_drafts(Enum.map(chains, &{&1, drafts}))
        settled
      end)

    {sealed, blocks} = Samples.timed(fn -> Enum.map(settled, fn {chain, _runs} -> block(chain, length(drafts)) end) end)
    true = Enum.all?(blocks, &is_binary/1)
    for took <- [linked + sealed, linked, sealed], do: count * 1_000_000 / took
  end

  defp block(chain, count) do
    {:ok, block, _chain} = Chain.seal(chain, sealed_at: count)
    block
  end

  defp chain(suite, flow) do
    {:ok, chain} = Chain.open("patient/#{flow}", suite: suite, created_at: 0, nonce: <<0::128>>)
    chain
  end

  defp draft(n) do
    {:ok, draft} = Event.draft(Bench.Store.event(n, Bench.Store.body(300)), euid: <<n::128>>)
    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end
end
