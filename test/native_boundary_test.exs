defmodule EventSeal.NativeBoundaryTest do
  # Wrong terms of every kind, at every native function. What must come back is a value, `{:error, _}` or ArgumentError:
  # a dead VM or a panic would show as anything else.
  use ExUnit.Case, async: true

  alias EventSeal.{Chain, Event, Native, Verdict}

  @rounds 40

  # `load/0` loads the library; `lock/1` makes a file of whatever name it is given.
  @functions Native.__info__(:functions)
             |> Keyword.delete(:load)
             |> Enum.reject(fn {name, arity} -> arity == 0 or name == :lock end)

  setup_all do
    seed = System.get_env("FUZZ_SEED", "#{System.unique_integer([:positive])}") |> String.to_integer()
    IO.puts("boundary seed #{seed} (FUZZ_SEED)")
    %{seed: seed, block: block()}
  end

  test "wrong terms are refused by every function", %{seed: seed, block: block} do
    :rand.seed(:exsss, {seed, 1, 1})

    for {name, arity} <- @functions, _ <- 1..@rounds do
      args = for _ <- 1..arity, do: term(block, 3)
      assert outcome(name, args) in [:value, :argument_error], "#{name}/#{arity} with #{inspect(args, limit: 20)}"
    end
  end

  test "one wrong term among right ones is refused", %{seed: seed, block: block} do
    :rand.seed(:exsss, {seed, 2, 2})

    for {name, right} <- right_calls(block), at <- 0..(length(right) - 1), _ <- 1..@rounds do
      args = List.replace_at(right, at, term(block, 3))
      assert outcome(name, args) in [:value, :argument_error], "#{name} with #{inspect(args, limit: 20)}"
    end
  end

  test "a draft with one wrong field is refused", %{block: block} do
    :rand.seed(:exsss, {3, 3, 3})

    for at <- 0..9, _ <- 1..@rounds do
      draft = put_elem(draft(1, "vital"), at, term(block, 3))
      assert outcome(:frames, [:sha256, [draft], 1]) in [:value, :argument_error], inspect(draft, limit: 20)
    end
  end

  # Any text would do, and leave a file of that name behind.
  test "a lock takes nothing but a path" do
    for wrong <- [nil, 1, :path, ~c"path", {"path"}, ["path"]], do: assert(outcome(:lock, [wrong]) == :argument_error)
  end

  test "lists may be long", %{block: block} do
    many = List.duplicate("x", 200_000)
    assert length(Native.hash_all(:sha256, many, 200_000)) == 200_000
    assert outcome(:frames, [:sha256, List.duplicate({}, 100_000), 100_000]) == :argument_error
    assert outcome(:settle, [List.duplicate({"", [], false}, 100_000), 1]) in [:value, :argument_error]
    assert outcome(:tail, [block, nil, List.duplicate({"", "", "", nil}, 100_000)]) in [:value, :argument_error]
  end

  test "sub-binaries read as what they are", %{block: block} do
    framed = "before" <> block <> "after"
    part = binary_part(framed, 6, byte_size(block))
    assert Chain.header(part) == Chain.header(block)
    assert Verdict.ok?(Chain.verify([part]))
    assert {:error, %{reason: :malformed}} = Chain.header(binary_part(framed, 5, byte_size(block)))
  end

  test "a truncated block is malformed at every length", %{block: block} do
    {:ok, %{count: count}} = Chain.header(block)
    <<_::64, verification::64, _::binary>> = block

    for size <- 0..(byte_size(block) - 1), size != verification do
      part = binary_part(block, 0, size)
      assert {:error, %{reason: :malformed}} = Chain.header(part)
      assert {:error, %{reason: :malformed}} = Chain.events(part)
      refute Verdict.ok?(Chain.verify([part]))
    end

    assert count > 0
  end

  test "a flipped bit anywhere in a block is found", %{block: block} do
    for at <- 0..(byte_size(block) - 1) do
      <<head::binary-size(at), byte, rest::binary>> = block
      flipped = <<head::binary, Bitwise.bxor(byte, Bitwise.bsl(1, rem(at, 8))), rest::binary>>
      refute Verdict.ok?(Chain.verify([flipped], bodies: true)), "bit #{rem(at, 8)} of byte #{at}"
    end
  end

  test "a job's messages go to its caller only, and an abandoned job ends" do
    pool = Native.pool(1, nil)
    caller = self()
    block = block()

    {pid, monitor} =
      spawn_monitor(fn ->
        Native.verify(
          pool,
          [{nil, List.duplicate({:binary, block}, 2_000), nil, {nil, nil, nil}, false, true}],
          {false, 10},
          nil,
          :tag
        )

        send(caller, :started)
      end)

    assert_receive :started
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    refute_receive {:tag, _, _, _, _}, 50
    assert Verdict.ok?(Chain.verify([block]))
  end

  # -- calls that are right, from which one argument at a time is made wrong

  defp right_calls(block) do
    {:ok, header} = Chain.header(block)
    {:ok, {_, _, _, digest, links}} = Native.read_genesis(header.genesis)
    {:ok, [frame | _]} = Chain.frames(:sha256, drafts(1))
    run = {<<2, 1::64, 1::256, 1::256, elem(frame, 0)::binary>>, elem(frame, 1)}
    pool = Native.pool(1, nil)

    [
      genesis: [:sha256, 0, <<0::128>>, "patient/1"],
      read_genesis: [header.genesis],
      frames: [:sha256, drafts(3), 10],
      settle: [[{links, [elem(frame, 0)], false}], 1],
      settle_drafts: [[{links, drafts(9)}], 10],
      restore: [header.genesis, nil, nil, [run]],
      seal: [
        header.genesis,
        {0, 1, 1, 10, digest, false},
        {digest, String.duplicate(digest, 5)},
        digest,
        List.duplicate(run, 4),
        {10, 1000, 0},
        1
      ],
      verify: [pool, [{"patient/1", [{:binary, block}], nil, {1, 1, true}, false, false}], {true, 10}, nil, make_ref()],
      import_lines: [["{}"]],
      interchange_header: [header.genesis, true],
      interchange_lines: [block]
    ]
  end

  defp outcome(name, args) do
    apply(Native, name, args)
    :value
  rescue
    ArgumentError -> :argument_error
    other -> {:raised, other}
  catch
    kind, value -> {kind, value}
  end

  defp block do
    {:ok, chain} = Chain.open("patient/1", created_at: 0, nonce: <<1::128>>)
    {:ok, frames} = Chain.frames(:sha256, drafts(6))
    {:ok, chain, _} = Chain.settle(chain, frames)
    {:ok, [close]} = Chain.frames(:sha256, [draft(7, "$close")])
    {:ok, _, block, _} = Chain.close(chain, close, sealed_at: 10)
    block
  end

  defp drafts(count), do: Enum.map(1..count, &draft(&1, "vital"))

  defp draft(n, kind) do
    event = %{when: n, kind: kind, body: String.duplicate("b", n * 20), who: "nurse"}
    {:ok, draft} = Event.draft(event, euid: <<n::128>>, library: true)
    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end

  # -- terms of every type, nested

  defp term(block, depth) do
    case :rand.uniform(if(depth > 0, do: 22, else: 17)) do
      1 -> nil
      2 -> Enum.random([:sha256, :blake3, :file, :binary, true, false, :"", :nonsense])
      3 -> Enum.random([0, 1, -1, 255, 256, 65_535, 65_536, 4_294_967_296])
      4 -> Enum.random([9_223_372_036_854_775_807, -9_223_372_036_854_775_808, 18_446_744_073_709_551_615])
      5 -> Integer.pow(2, 70)
      6 -> Enum.random([0.0, -1.5, 1.0e308])
      7 -> ""
      8 -> :crypto.strong_rand_bytes(:rand.uniform(200))
      9 -> <<0::size(:rand.uniform(64) * 64)-unit(8)>>
      10 -> <<1::1>>
      11 -> block
      12 -> binary_part(block, 0, :rand.uniform(byte_size(block)))
      13 -> flip(block)
      14 -> self()
      15 -> make_ref()
      16 -> fn -> :ok end
      17 -> Enum.random(["patient/1", "é", <<0xFF, 0xFE>>])
      18 -> for _ <- 1..:rand.uniform(4), do: term(block, depth - 1)
      19 -> [term(block, depth - 1) | term(block, depth - 1)]
      20 -> List.to_tuple(for _ <- 1..:rand.uniform(10), do: term(block, depth - 1))
      21 -> %{term(block, depth - 1) => term(block, depth - 1)}
      22 -> {:binary, term(block, depth - 1)}
    end
  end

  defp flip(block) do
    at = :rand.uniform(byte_size(block)) - 1
    <<head::binary-size(at), byte, rest::binary>> = block
    <<head::binary, Bitwise.bxor(byte, :rand.uniform(255)), rest::binary>>
  end
end
