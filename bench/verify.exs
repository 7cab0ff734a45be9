# Verification and sealing, beside what hashing alone allows. Events carry bodies of 300 bytes; every value of format 1 is
# recomputed, from blocks that lie in files in the page cache. One line a row: its name, the median of nine runs and their
# least and greatest, in events/s; then the ratios, which count where absolute figures swing.
#
#     mix run --no-start bench/verify.exs [events]

defmodule Bench.Verify do
  alias EventSeal.{Chain, Event, Verdict, Verification}

  @body :binary.copy("b", 300)
  @runs 9
  # As many flows as one native call of a store's verification is given.
  @flows 2_000

  def run(count) do
    dir = Path.join(System.tmp_dir!(), "event_seal_bench_#{System.pid()}")
    File.mkdir_p!(dir)

    try do
      rows = Map.merge(ours(count, dir), limits(count))
      ratio(rows, "verify_blake3_300", "limit_blake3_300", 0.7)
      ratio(rows, "verify_sha256_300", "sha2_one_by_one_300", 1.3)
      ratio(rows, "verify_small_flows", "verify_one_flow", 0.7)
    after
      File.rm_rf!(dir)
    end
  end

  defp ours(count, dir) do
    one =
      for suite <- [:sha256, :blake3], into: %{}, do: {suite, store(dir, "#{suite}", [flow(suite, "patient/1", count)])}

    few = store(dir, "few", for(n <- 1..div(count, 5), do: flow(:sha256, "patient/#{n}", 5)))
    pool = Verification.pool([])
    verify = fn name, flows -> row(name, count, fn -> verify(pool, flows, count) end) end

    Map.new(
      for(suite <- [:sha256, :blake3], do: verify.("verify_#{suite}_300", one[suite])) ++
        [verify.("verify_one_flow", one.sha256), verify.("verify_small_flows", few)] ++
        Enum.flat_map([:sha256, :blake3], &sealing/1)
    )
  end

  defp verify(pool, flows, count) do
    verified =
      flows
      |> Enum.chunk_every(@flows)
      |> Enum.reduce(0, fn flows, events ->
        {:ok, verdict, _edges} = Verification.run(flows, pool: pool, bodies: true)
        true = Verdict.ok?(verdict)
        events + verdict.events
      end)

    ^count = verified
  end

  # The blocks of many flows in one file, and where they lie.
  defp store(dir, name, flows) do
    path = Path.join(dir, name)
    File.write!(path, for({_, blocks} <- flows, do: blocks))

    {flows, _} =
      Enum.map_reduce(flows, 0, fn {flow, blocks}, at ->
        {pieces, at} = Enum.map_reduce(blocks, at, &{{:file, path, &2, byte_size(&1)}, &2 + byte_size(&1)})
        {%{flow: flow, pieces: pieces}, at}
      end)

    flows
  end

  # A closed flow of `count` events, in blocks of 4,096.
  defp flow(suite, name, count) do
    {:ok, chain} = Chain.open(name, suite: suite, created_at: 0, nonce: <<0::128>>)
    {chain, blocks} = 1..(count - 1) |> Stream.chunk_every(4096) |> Enum.reduce({chain, []}, &seal/2)
    {:ok, [close]} = Chain.frames(suite, [draft(count, "$close")])
    {:ok, _, block, _} = Chain.close(chain, close, sealed_at: count)
    {name, Enum.reverse([block | blocks])}
  end

  defp seal(positions, {chain, blocks}) do
    {:ok, frames} = Chain.frames(chain.suite, Enum.map(positions, &draft(&1, "vital")))
    {:ok, chain, _} = Chain.settle(chain, frames)

    case Chain.seal(chain, sealed_at: List.last(positions)) do
      {:ok, block, chain} -> {chain, [block | blocks]}
      {:error, _nothing_yet} -> {chain, blocks}
    end
  end

  # What a block of 4,096 events costs on one core, through the native calls: all of it, and each call alone.
  defp sealing(suite) do
    {:ok, chain} = Chain.open("patient/1", suite: suite, created_at: 0, nonce: <<0::128>>)
    drafts = for n <- 1..4096, do: draft(n, "vital")
    {:ok, frames} = Chain.frames(suite, drafts)
    {:ok, settled, _} = Chain.settle(chain, frames)

    [
      row("frames_#{suite}", 4096, fn -> {:ok, _} = Chain.frames(suite, drafts) end),
      row("settle_#{suite}", 4096, fn -> {:ok, _, _} = Chain.settle(chain, frames) end),
      row("seal_#{suite}", 4096, fn -> {:ok, _, _} = Chain.seal(settled, sealed_at: 4096) end)
    ]
  end

  defp draft(n, kind) do
    {:ok, draft} = Event.draft(%{when: n, kind: kind, body: @body}, euid: <<n::128>>, library: true)
    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end

  defp limits(count) do
    {lines, 0} = System.cmd("cargo", ~w(run --release --locked --quiet -p event-seal-core --example limit #{count}))

    for line <- String.split(lines, "\n", trim: true), into: %{} do
      [name, rate] = String.split(line)
      IO.puts(line)
      {name, String.to_integer(rate)}
    end
  end

  defp row(name, count, fun) do
    times = for _ <- 1..@runs, do: fun |> :timer.tc() |> elem(0)
    [least, median, greatest] = for at <- [@runs - 1, div(@runs, 2), 0], do: rate(count, Enum.at(Enum.sort(times), at))
    IO.puts("#{name} #{median} (#{least} to #{greatest})")
    {name, median}
  end

  defp ratio(rows, ours, other, bar) do
    IO.puts("#{ours} / #{other} = #{Float.round(rows[ours] / rows[other], 2)} (bar: #{bar})")
  end

  defp rate(count, micros), do: round(count * 1_000_000 / max(micros, 1))
end

Bench.Verify.run(System.argv() |> List.first("500000") |> String.to_integer())
