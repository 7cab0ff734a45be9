defmodule EventSeal.ChainOracleTest do
  @moduledoc "Flows built through the public functions, compared with the oracle value by value."
  use ExUnit.Case, async: true

  alias EventSeal.{Chain, Interchange, Oracle, Verdict}

  @vectors Path.wildcard(Path.expand("vectors/*.jsonl", __DIR__))

  for path <- @vectors do
    name = Path.basename(path)

    test "the library reproduces #{name}" do
      file = File.read!(unquote(path))
      lines = Oracle.read(file)
      flow = replay(lines)
      assert events(flow) == for(%{"n" => _} = event <- lines, do: Map.drop(event, ["id", "provisional"]))
      assert ids(flow) == for(%{"id" => id} <- lines, do: id)
      # A block that reaches to a closing's last three events cannot be sealed before the closing, which seals all.
      if length(flow.blocks) == Enum.count(lines, &is_map_key(&1, "block")), do: assert(text(flow) == file)
      assert {:ok, verdict} = Interchange.verify(file)
      assert {Verdict.ok?(verdict), verdict.events} == {true, length(events(flow))}
    end
  end

  for suite <- [:sha256, :blake3], round <- 1..40 do
    @tag suite: suite
    test "a random flow has the oracle's values: #{suite} #{round}" do
      seed = {ExUnit.configuration()[:seed], unquote(round), unquote(suite)}
      :rand.seed(:exsss, :erlang.phash2(seed, 4_294_967_296))
      flow = random_flow(unquote(suite))
      lines = Oracle.read(text(flow))
      hint = "seed #{inspect(seed)}"

      for {line, expected} <- Enum.zip(lines, Oracle.recompute(lines)), do: assert(line == expected, hint)
      assert flow.provisionals == provisionals(lines, flow), hint
      assert blocks_as_lines(flow) == Enum.filter(lines, &is_map_key(&1, "block")), hint
      assert seams(flow) == expected_seams(lines, flow), hint
      assert Verdict.ok?(Chain.verify(flow.blocks ++ List.wrap(flow.tail), bodies: true)), hint
      assert {:ok, verdict} = Interchange.verify(text(flow))
      assert {verdict.fault_count, verdict.events} == {0, flow.chain.n}, hint
    end
  end

  # Flows: what a host would keep of one

  defp open(header) do
    {:ok, chain} =
      Chain.open(header["flow"],
        suite: String.to_existing_atom(header["suite"]),
        created_at: header["created_at"],
        nonce: header["nonce"]
      )

    %{chain: chain, blocks: [], tail: nil, entries: [], provisionals: []}
  end

  defp settle(flow, drafts) do
    {:ok, frames} = Chain.frames(flow.chain.suite, drafts)
    {:ok, chain, entries} = Chain.settle(flow.chain, frames)
    settled(%{flow | chain: chain, entries: flow.entries ++ entries}, entries)
  end

  defp settled(flow, entries), do: %{flow | provisionals: flow.provisionals ++ Enum.map(entries, & &1.provisional)}

  defp seal(flow, opts) do
    case Chain.seal(flow.chain, opts) do
      {:ok, block, chain} -> sealed(%{flow | chain: chain}, block)
      {:error, %{reason: :nothing_to_seal}} -> flow
    end
  end

  defp sealed(flow, block) do
    {:ok, header} = Chain.header(block)
    %{flow | blocks: flow.blocks ++ [block], entries: Enum.drop(flow.entries, header.count)}
  end

  defp close(flow, draft, opts) do
    {:ok, [frame]} = Chain.frames(flow.chain.suite, [draft])
    {:ok, entries, block, chain} = Chain.close(flow.chain, frame, opts)
    %{flow | chain: chain, entries: flow.entries ++ entries} |> settled(entries) |> sealed(block)
  end

  defp with_tail(flow) do
    {:ok, tail} = Chain.tail(flow.chain, List.last(flow.blocks))
    %{flow | tail: tail}
  end

  # A restart: the state from what was kept must be the state that was there.
  defp restart(flow) do
    {:ok, chain} = Chain.restore(flow.chain.genesis, List.last(flow.blocks), when_max(flow.blocks), flow.entries)
    assert chain == flow.chain
    %{flow | chain: chain}
  end

  defp when_max(blocks), do: blocks |> headers() |> Enum.map(& &1.when_max) |> Enum.max(fn -> nil end)

  defp headers(blocks), do: for(block <- blocks, {:ok, header} <- [Chain.header(block)], do: header)

  defp text(flow) do
    {:ok, header} = Interchange.header(flow.chain.genesis, flow.chain.closed)

    parts =
      for container <- flow.blocks ++ List.wrap(flow.tail), {:ok, lines} <- [Interchange.lines(container)], do: lines

    IO.iodata_to_binary([header | parts])
  end

  defp events(flow) do
    for container <- flow.blocks ++ List.wrap(flow.tail), {:ok, events} <- [Chain.events(container)], e <- events do
      %{
        "n" => e.n,
        "euid" => e.euid,
        "when" => e.when,
        "recorded_at" => e.recorded_at,
        "where" => where(e.where),
        "who" => e.who,
        "kind" => e.kind,
        "version" => e.version,
        "revision" => e.revision,
        "late" => e.late,
        "salt" => e.salt,
        "body" => e.body,
        "commitment" => e.commitment,
        "hash" => e.hash
      }
    end
  end

  defp where(nil), do: nil
  defp where({:place, place}), do: %{"place" => place}
  defp where({:geo, lat, lon}), do: %{"geo" => [round(lat * 10_000_000), round(lon * 10_000_000)]}

  defp ids(flow), do: for(block <- flow.blocks, {:ok, events} <- [Chain.events(block)], e <- events, do: e.id)

  defp blocks_as_lines(flow) do
    for header <- headers(flow.blocks) do
      header
      |> Map.take([:first, :count, :epoch, :closes, :when_min, :when_max, :sealed_at, :root, :hash])
      |> Map.new(fn {key, value} -> {Atom.to_string(key), value} end)
      |> Map.put("block", header.height)
    end
  end

  defp provisionals([header | _] = lines, flow) do
    g = header["genesis"]
    hashes = for %{"n" => _, "hash" => hash} <- lines, do: hash
    suite = flow.chain.suite
    Oracle.provisionals(suite, g, hashes, Oracle.ids(suite, g, hashes, flow.chain.closed))
  end

  # Seams: what stands on the other side of each block's edges.

  defp seams(flow), do: for(header <- headers(flow.blocks), do: {header.previous, header.before, header.after})

  defp expected_seams([%{"genesis" => g} | lines], flow) do
    hashes = for %{"n" => _, "hash" => hash} <- lines, do: hash
    ids = [g, g, g | Oracle.ids(flow.chain.suite, g, hashes, flow.chain.closed)]
    before = [g, g | hashes]
    after_all = hashes ++ [g, g, g]
    blocks = for %{"block" => _} = block <- lines, do: block

    for {block, previous} <- Enum.zip(blocks, [g | Enum.map(blocks, & &1["hash"])]) do
      first = block["first"] - 1

      {previous, Enum.join(Enum.slice(ids, first, 3) ++ Enum.slice(before, first, 2)),
       Enum.join(Enum.slice(after_all, first + block["count"], 3))}
    end
  end

  # The flow that a file describes, built again

  defp replay([header | lines]) do
    {blocks, events} = Enum.split_with(lines, &is_map_key(&1, "block"))
    {closing, events} = Enum.split_with(events, &(&1["kind"] == "$close"))
    flow = header |> open() |> settle(Enum.map(events, &draft/1))
    {last, blocks} = if closing == [], do: {nil, blocks}, else: List.pop_at(blocks, -1)

    flow = Enum.reduce(blocks, flow, &seal_as(&2, &1))

    case closing do
      [] -> with_tail(flow)
      [event] -> close(flow, draft(event), sealed_at: last["sealed_at"], epoch: last["epoch"])
    end
  end

  defp seal_as(flow, %{"count" => count} = block) do
    if Chain.fixable(flow.chain) < count,
      do: flow,
      else: seal(flow, sealed_at: block["sealed_at"], epoch: block["epoch"], max_events: count)
  end

  defp draft(e) do
    {e["euid"], e["when"], e["recorded_at"], e["revision"], e["kind"], e["version"], stored_where(e["where"]), e["who"],
     e["salt"], e["body"]}
  end

  defp stored_where(nil), do: nil
  defp stored_where(%{"place" => place}), do: place
  defp stored_where(%{"geo" => [lat, lon]}), do: {lat, lon}

  # Random flows: lengths around the window and around the edges of Merkle trees, blocks of any size

  defp random_flow(suite) do
    flow =
      open(%{
        "flow" => random_text(64),
        "suite" => Atom.to_string(suite),
        "created_at" => random_time(),
        "nonce" => :rand.bytes(16)
      })

    flow = Enum.reduce(1..(1 + :rand.uniform(6)), flow, fn step, flow -> random_step(flow, step * 1_000) end)
    flow = if flow.chain.n == 0, do: settle(flow, [random_draft(7_000)]), else: flow

    case :rand.uniform(3) do
      1 -> close(flow, put_elem(random_draft(8_000), 4, "$close"), sealed_at: 8_000 + :rand.uniform(100))
      _ -> with_tail(flow)
    end
  end

  defp random_step(flow, now) do
    case :rand.uniform(5) do
      step when step <= 2 ->
        count = Enum.random([0, 1, 2, 3, 4, 5, 8, 17])
        settle(flow, for(_ <- 1..count//1, do: random_draft(now)))

      step when step <= 4 ->
        seal(flow,
          sealed_at: now - :rand.uniform(2_000),
          epoch: div(now, 3_000),
          max_events: Enum.random([1, 2, 3, 4, 7, 4096])
        )

      _ ->
        restart(flow)
    end
  end

  defp random_draft(now) do
    where =
      Enum.random([
        nil,
        random_text(1024),
        {Enum.random(-900_000_000..900_000_000), Enum.random([-1_800_000_000, 0, 7])}
      ])

    who = Enum.random([nil, random_text(512)])
    version = Enum.random([0, 1, 2, 65_535])
    revision = Enum.random([0, 1, 65_535])
    # Bodies around the edges of padding (24 bytes stand before a body) and of BLAKE3's chunks.
    length = Enum.random([0, 1, 39, 40, 41, 103, 104, 105, 999, 1000, 1001, 2049])

    {:rand.bytes(16), random_time(), now, revision, random_kind(), version, where, who, :rand.bytes(16),
     :rand.bytes(length)}
  end

  defp random_time, do: Enum.random([0, -1, 1, 9_007_199_254_740_991, -9_007_199_254_740_991, :rand.uniform(1_000_000)])

  defp random_kind, do: "k" <> String.duplicate("x", Enum.random([0, 1, 53, 54, 55, 254]))

  defp random_text(max) do
    letters = ["a", "Z", "\"", "\\", "/", "é", "\u00A0", "🏥", " ", "\u2028"]
    text = Enum.map_join(1..Enum.random([1, 2, 7, 30, div(max, 4)]), fn _ -> Enum.random(letters) end)
    if byte_size(text) <= max, do: text, else: "x"
  end
end
