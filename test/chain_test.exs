defmodule EventSeal.ChainTest do
  use ExUnit.Case, async: true
  doctest EventSeal.Chain

  alias EventSeal.Chain.Run
  alias EventSeal.{Chain, Error, Event, Verdict}

  for suite <- [:sha256, :blake3] do
    @suite suite

    test "#{suite}: a flow sealed in blocks of every size verifies, and each event reads as it was given" do
      for total <- 0..9, size <- 1..5 do
        {chain, blocks} = @suite |> flow(total) |> seal_all(size)
        assert chain.fixed == max(total - 3, 0)
        {:ok, tail} = Chain.tail(chain, List.last(blocks))
        containers = blocks ++ List.wrap(tail)

        assert %Verdict{fault_count: 0, events: ^total, bodies_verified: ^total} =
                 Chain.verify(containers, bodies: true)

        events = Enum.flat_map(containers, fn container -> container |> Chain.events() |> elem(1) end)
        assert Enum.map(events, & &1.n) == Enum.to_list(1..total//1)

        assert Enum.map(events, &{&1.when, &1.body, &1.who}) ==
                 Enum.map(1..total//1, &{rem(&1 * 5, 7), body(&1), "nurse"})
      end
    end

    test "#{suite}: a closed flow verifies whatever was sealed before" do
      for total <- 0..7, sealed <- [false, true] do
        chain = flow(@suite, total)
        {chain, blocks} = if sealed, do: seal_all(chain, 2), else: {chain, []}

        {:ok, [entry], block, chain} =
          Chain.close(chain, hd(frames(@suite, (total + 1)..(total + 1), "$close")), sealed_at: 100)

        assert entry.n == total + 1
        assert chain.closed and chain.fixed == chain.n and chain.open == []
        assert %Verdict{fault_count: 0} = Chain.verify(blocks ++ [block], bodies: true)
        assert {:error, %Error{reason: :closed}} = Chain.settle(chain, frames(@suite, 9..9))
        assert {:ok, ^chain} = Chain.restore(chain.genesis, block, chain.when_max, [])
      end
    end

    test "#{suite}: a chain taken up again from stored bytes is the chain that was left" do
      for total <- 0..9, size <- 1..4 do
        {chain, blocks} = @suite |> flow(total) |> seal_all(size)
        assert {:ok, ^chain} = Chain.restore(chain.genesis, List.last(blocks), chain.when_max, Enum.reverse(chain.open))
      end
    end
  end

  test "a restored chain refuses entries that are not what was settled" do
    {chain, blocks} = :sha256 |> flow(8) |> seal_all(2)
    entries = chain.open |> Enum.reverse() |> Enum.flat_map(&Chain.Run.entries/1)

    for at <- 0..(length(entries) - 1), field <- [:hash, :provisional] do
      wrong = List.update_at(entries, at, &Map.put(&1, field, <<0::256>>))
      assert {:error, %Error{reason: :corrupt}} = Chain.restore(chain.genesis, List.last(blocks), 6, wrong)
    end

    assert {:error, %Error{reason: :corrupt}} = Chain.restore(chain.genesis, List.last(blocks), 6, tl(entries))
    assert {:error, %Error{reason: :corrupt}} = Chain.restore(chain.genesis, List.last(blocks), 6, [])
  end

  test "settling one by one, or many flows at once, is the same as together" do
    together = flow(:blake3, 7)
    {:ok, empty} = Chain.open("patient/1", suite: :blake3, created_at: 0, nonce: <<7::128>>)

    one_by_one =
      Enum.reduce(1..7, empty, fn n, chain ->
        {:ok, chain, [_]} = Chain.settle(chain, frames(:blake3, n..n))
        chain
      end)

    assert one_by_one == together
    assert {:ok, [{^together, _}, {^empty, []}]} = Chain.settle_many([{empty, frames(:blake3, 1..7)}, {empty, []}])
  end

  test "nothing to seal is said, and $close settles only by close" do
    chain = flow(:sha256, 3)
    assert {:error, %Error{reason: :nothing_to_seal}} = Chain.seal(chain, sealed_at: 9)
    assert {:error, %Error{reason: :invalid}} = Chain.settle(chain, frames(:sha256, 4..4, "$close"))
    assert {:error, %Error{reason: :invalid}} = Chain.close(chain, hd(frames(:sha256, 4..4)), sealed_at: 9)
  end

  test "times never fall" do
    chain = flow(:sha256, 5)
    {:ok, block, chain} = Chain.seal(chain, sealed_at: 1)
    assert {:ok, %{sealed_at: 5}} = Chain.header(block)
    assert {:error, %Error{reason: :invalid}} = Chain.settle(chain, frames(:sha256, 4..4))
  end

  test "what settles at once is what packing and settling make, in runs" do
    for suite <- [:sha256, :blake3], total <- [1, 3, 6, 7, 40] do
      {:ok, empty} = Chain.open("patient/1", suite: suite, created_at: 0, nonce: <<7::128>>)
      {:ok, chain, entries} = Chain.settle(empty, frames(suite, 1..total))
      drafts = for n <- 1..total, do: draft(n, "vital")
      {:ok, [{at_once, runs}, {^empty, []}]} = Chain.settle_drafts([{empty, drafts}, {empty, []}])

      assert Enum.flat_map(runs, &Run.entries/1) == entries
      assert Enum.flat_map(runs, &Run.euids/1) == for(n <- 1..total, do: {<<n::128>>, n})
      assert Enum.map(runs, & &1.count) == if(total > 6, do: [total - 3, 1, 1, 1], else: List.duplicate(1, total))

      assert Enum.map(runs, &Run.bytes/1) ==
               Enum.map(runs, fn run -> run |> Run.entries() |> Enum.map(&size/1) |> Enum.sum() end)

      assert %{at_once | open: []} == %{chain | open: []}
      assert {:ok, ^at_once} = Chain.restore(empty.genesis, nil, nil, runs)
      assert {:ok, tail} = Chain.tail(chain, nil)
      assert {:ok, ^tail} = Chain.tail(at_once, nil)
    end
  end

  test "a run's record that is cut short, or says other sizes, is corrupt" do
    {:ok, chain} = Chain.open("patient/1", created_at: 0)

    {:ok, [{chain, [%{record: record, bodies: bodies} | _]}]} =
      Chain.settle_drafts([{chain, for(n <- 1..9, do: draft(n, "vital"))}])

    wrong = for size <- 0..(byte_size(record) - 1), do: {binary_part(record, 0, size), bodies}
    <<front::binary-13, units, rest::binary>> = record

    wrong = [
      {<<front::binary, units + 1, rest::binary>>, bodies},
      {record, bodies <> <<0>>},
      {record <> <<0>>, bodies} | wrong
    ]

    for {record, bodies} <- wrong do
      assert_raise Error, fn -> record |> Run.new(bodies) |> Run.entries() end
    end

    for {<<_::binary-77, _::binary>> = record, bodies} <- wrong do
      assert {:error, %Error{}} =
               Chain.restore(chain.genesis, nil, nil, [%Run{n: 1, count: 6, record: record, bodies: bodies}])
    end
  end

  test "a block cuts a run, but none that has to stay whole" do
    {:ok, chain} = Chain.open("patient/1", created_at: 0)
    {:ok, [{chain, _}]} = Chain.settle_drafts([{chain, for(n <- 1..30, do: draft(n, "vital"))}])
    {:ok, first, cut} = Chain.seal(chain, sealed_at: 50, max_events: 10)
    assert {10, [1, 1, 1, 17]} = {cut.fixed, Enum.map(cut.open, & &1.count)}
    {cut, blocks} = seal_all(cut, 10)
    {:ok, tail} = Chain.tail(cut, List.last(blocks))
    assert Verdict.ok?(Chain.verify([first | blocks] ++ [tail], bodies: true))
    assert {:ok, ^cut} = Chain.restore(cut.genesis, List.last(blocks), cut.when_max, Enum.reverse(cut.open))

    {:ok, _block, whole} = Chain.seal(chain, sealed_at: 50, max_events: 10, whole: 30)
    assert {27, [1, 1, 1]} = {whole.fixed, Enum.map(whole.open, & &1.count)}
    {:ok, _block, one} = Chain.seal(chain, sealed_at: 50, max_bytes: 1)
    assert one.fixed == 1
  end

  defp size(entry), do: byte_size(entry.frame) + byte_size(entry.body)

  defp flow(suite, total) do
    {:ok, chain} = Chain.open("patient/1", suite: suite, created_at: 0, nonce: <<7::128>>)
    {:ok, chain, _} = Chain.settle(chain, frames(suite, 1..total//1))
    chain
  end

  defp frames(suite, range, kind \\ "vital") do
    {:ok, frames} = Chain.frames(suite, for(n <- range, do: draft(n, kind)))
    frames
  end

  defp draft(n, kind) do
    {:ok, draft} =
      Event.draft(%{when: rem(n * 5, 7), kind: kind, who: "nurse", body: body(n)}, euid: <<n::128>>, library: true)

    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end

  defp body(n), do: String.duplicate("b", n * 31)

  defp seal_all(chain, size, blocks \\ []) do
    case Chain.seal(chain, sealed_at: 50, max_events: size) do
      {:ok, block, chain} -> seal_all(chain, size, blocks ++ [block])
      {:error, %Error{reason: :nothing_to_seal}} -> {chain, blocks}
    end
  end
end
