defmodule EventSeal.StoreContractTest do
  # One suite over every adapter: what EventSeal.Store says of them.
  use ExUnit.Case, async: true

  import EventSeal.StoreCase
  alias EventSeal.{Error, PostgresServer, Store}
  alias EventSeal.Store.Sheaf

  @adapters [EventSeal.Store.Memory, EventSeal.Store.Disk, EventSeal.Store.Postgres]

  for adapter <- @adapters do
    describe "#{inspect(adapter)}:" do
      @describetag adapter: adapter
      @describetag :tmp_dir

      test "a new flow is there with its genesis, and no other is", %{store: store} do
        assert {:error, %Error{reason: :not_found}} = Store.head(store, "a")
        assert {:error, %Error{reason: :not_found}} = Store.blocks(store, "a", {1, 9})
        assert :ok = Store.commit(store, [{:expect, "a", :none}, {:open, "a", "genesis"}])
        assert {:ok, head} = Store.head(store, "a")
        assert %{flow: "a", genesis: "genesis", height: 0, fixed: 0, closed: false, next_seq: 1} = head
        assert %{last_block: nil, when_max: nil, entries: [], found: found} = head
        assert found == %{}
        assert {:ok, []} = Store.blocks(store, "a", {1, 9})
        assert {:error, %Error{reason: :not_found}} = Store.head(store, "b")
      end

      test "entries come back as they were put, oldest first", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1), put("a", 2), put("a", 5)])
        :ok = Store.commit(store, [{:put, "a", 1, :tail, "settled", :keep}, {:put, "a", 2, :pool, "amended", "other"}])
        assert {:ok, %{entries: entries, next_seq: 6}} = Store.head(store, "a")

        assert entries == [
                 {1, :tail, "settled", "data 1"},
                 {2, :pool, "amended", "other"},
                 {5, :pool, "meta 5", "data 5"}
               ]
      end

      test "empty and large bytes are kept", %{store: store} do
        large = :binary.copy("0123456789", 200_000)

        :ok =
          Store.commit(store, [{:open, "a", "g"}, {:put, "a", 1, :pool, "", ""}, {:put, "a", 2, :tail, large, large}])

        assert {:ok, %{entries: [{1, :pool, "", ""}, {2, :tail, ^large, ^large}]}} = Store.head(store, "a")
      end

      test "a retracted entry is gone and its euid spent", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1), put("a", 2), put("a", 3)])
        :ok = Store.commit(store, [{:drop, "a", 3, euid(3)}])
        assert {:ok, head} = Store.head(store, "a", [euid(1), euid(3)])
        assert [{1, _, _, _}, {2, _, _, _}] = head.entries
        assert head.found == %{euid(3) => :spent}
        assert head.next_seq == 4
        assert {:error, %Error{reason: :stale}} = Store.commit(store, [put("a", 3)])
        assert {:error, %Error{reason: :stale}} = Store.commit(store, [{:drop, "a", 3, euid(3)}])
      end

      test "the euids that were retracted are told by flow", %{store: store} do
        flows = ["a", "b", "c", "é"]
        :ok = Store.commit(store, for(flow <- flows, do: {:open, flow, "g"}))
        :ok = Store.commit(store, for(flow <- flows, seq <- 1..4, do: put(flow, seq)))
        assert {:ok, []} = Store.flows(store, nil, 9, :spent)
        :ok = Store.commit(store, for(flow <- ["é", "a", "c"], seq <- [2, 4], do: {:drop, flow, seq, euid(seq)}))
        all = for flow <- ["a", "c", "é"], do: {flow, [euid(2), euid(4)]}
        sorted = fn {:ok, found} -> for {flow, euids} <- found, do: {flow, Enum.sort(euids)} end
        assert sorted.(Store.flows(store, nil, 9, :spent)) == all
        assert sorted.(Store.flows(store, nil, 2, :spent)) == Enum.take(all, 2)
        assert sorted.(Store.flows(store, "a", 1, :spent)) == [Enum.at(all, 1)]
        assert {:ok, []} = Store.flows(store, "é", 9, :spent)
      end

      test "a block takes the entries up to its seq and moves the head", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"} | for(seq <- 1..5, do: put("a", seq, :tail))])
        :ok = Store.commit(store, [{:expect, "a", 0}, sealed("a", 0, 1, [1, 2])])
        assert {:ok, head} = Store.head(store, "a", [euid(2), euid(3)])
        assert %{height: 1, fixed: 2, last_block: last_block, when_max: 1003, next_seq: 6} = head
        assert last_block == packed("a", 0, 1, [1, 2])
        assert [3, 4, 5] = Enum.map(head.entries, &elem(&1, 0))
        assert head.found == %{euid(2) => [0]}
        :ok = Store.commit(store, [sealed("a", 1, 3, [3, 4, 5, 6], closes: true)])
        assert {:ok, %{height: 2, fixed: 6, closed: true, entries: [], next_seq: 7}} = Store.head(store, "a")
        assert {:ok, [piece]} = Store.blocks(store, "a", {3, 3})
        assert %{height: 1, first: 3, count: 4} = piece
        assert Store.read(piece) == {:ok, packed("a", 1, 3, [3, 4, 5, 6], true)}
        assert {:ok, [%{height: 0}, %{height: 1}]} = Store.blocks(store, "a", {2, :infinity})
        assert {:ok, [%{height: 0}]} = Store.blocks(store, "a", {1, 2})
        assert {:ok, []} = Store.blocks(store, "a", {7, 9})
      end

      test "all or nothing: a refused operation leaves no trace", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1), put("a", 2, :tail)])
        before = {Store.head(store, "a", [euid(1)]), Store.log(store, :size), Store.flows(store, nil, 9)}

        refused = [
          stale: {:expect, "a", 1},
          stale: {:expect, "a", :none},
          stale: {:expect, "b", 0},
          stale: {:open, "a", "other"},
          stale: put("a", 2, :tail),
          stale: {:put, "a", 9, :pool, "meta", :keep},
          stale: {:drop, "a", 2, euid(2)},
          stale: {:drop, "a", 9, euid(9)},
          stale: sealed("a", 1, 1, [1]),
          stale: sealed("a", 0, 2, [1]),
          not_found: put("c", 1),
          not_found: sealed("c", 0, 1, [1]),
          invalid: {:other, "a"}
        ]

        for {reason, op} <- refused do
          ops = [{:leaf, "leaf"}, {:open, "n", "g"}, put("a", 3), {:drop, "a", 1, euid(1)}, op]
          assert {:error, %Error{reason: ^reason}} = Store.commit(store, ops)
          assert {Store.head(store, "a", [euid(1)]), Store.log(store, :size), Store.flows(store, nil, 9)} == before
        end
      end

      test "operations see those before them in the same commit", %{store: store} do
        ops = [{:expect, "a", :none}, {:open, "a", "g"}, put("a", 1), {:put, "a", 1, :tail, "settled", :keep}]

        :ok =
          Store.commit(store, ops ++ [put("a", 2), {:drop, "a", 2, euid(2)}, {:expect, "a", 0}, sealed("a", 0, 1, [1])])

        assert {:ok, head} = Store.head(store, "a", [euid(1), euid(2)])
        assert %{entries: [], height: 1, fixed: 1, next_seq: 3} = head
        assert head.found == %{euid(1) => [0], euid(2) => :spent}
      end

      test "a closed flow takes nothing more", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"}, sealed("a", 0, 1, [1], closes: true)])

        for op <- [put("a", 2), {:drop, "a", 1, euid(1)}, sealed("a", 1, 2, [2])] do
          assert {:error, %Error{reason: :closed}} = Store.commit(store, [op])
        end
      end

      test "recover names the flows with entries that are not sealed, shard by shard", %{store: store} do
        flows = for i <- 1..50, do: "patient/#{i}"

        :ok =
          Store.commit(store, for(flow <- flows, op <- [{:open, flow, "g"}, put(flow, 1, :tail), put(flow, 2)], do: op))

        :ok = Store.commit(store, [sealed("patient/1", 0, 1, [1, 2]), sealed("patient/2", 0, 1, [1])])
        waiting = Store.recover(store, 0..1023).waiting
        assert Enum.sort(Enum.map(waiting, & &1.flow)) == Enum.sort(flows -- ["patient/1"])
        assert %{pool: 1, tail: 0} = Enum.find(waiting, &(&1.flow == "patient/2"))
        assert %{pool: 1, tail: 1} = Enum.find(waiting, &(&1.flow == "patient/3"))
        shares = Store.recover(store, 0..99).waiting ++ Store.recover(store, Enum.to_list(100..1023)).waiting
        assert Enum.sort(shares) == Enum.sort(waiting)
        assert [] = Store.recover(store, []).waiting
      end

      test "flows come in byte order, page by page", %{store: store} do
        flows = ["../etc", "a", "a/b", "aa", "b", "é"]
        :ok = Store.commit(store, for(flow <- Enum.reverse(flows), do: {:open, flow, "g"}))
        assert {:ok, ["../etc", "a"]} = Store.flows(store, nil, 2)
        assert {:ok, ["a/b", "aa", "b"]} = Store.flows(store, "a", 3)
        assert {:ok, ["b", "é"]} = Store.flows(store, "ab", 10)
        assert {:ok, []} = Store.flows(store, "é", 10)
      end

      test "a closed flow comes with its blocks, any other without", %{store: store} do
        :ok = Store.commit(store, for(flow <- ["a", "b", "c"], op <- [{:open, flow, "g"}, put(flow, 1)], do: op))
        :ok = Store.commit(store, [sealed("b", 0, 1, [1], closes: true), sealed("c", 0, 1, [1])])
        {:ok, blocks} = Store.blocks(store, "b", {1, :infinity})
        assert [{"a", nil}, {"b", ^blocks}] = with_blocks(store, nil, 2)
        assert [{"c", nil}] = with_blocks(store, "b", 2)
      end

      test "closed flows come page by page, each once, whatever else is there", %{store: store} do
        kinds =
          for i <- 1..60, do: {"#{rem(i * 7, 100)}/#{i}", Enum.at([:closed, :closed, :closed, :long, :open], rem(i, 5))}

        for {flow, kind} <- kinds do
          :ok = Store.commit(store, [{:open, flow, "g"}, put(flow, 1)])
          blocks = if kind == :long, do: 12, else: 2
          for height <- 0..(blocks - 2), do: :ok = Store.commit(store, [sealed(flow, height, height + 1, [height + 1])])
          if kind != :open, do: :ok = Store.commit(store, [sealed(flow, blocks - 1, blocks, [blocks], closes: true)])
        end

        for limit <- [1, 7, 100] do
          found = nil |> Stream.unfold(&page(store, &1, limit)) |> Enum.concat()
          assert Enum.map(found, &elem(&1, 0)) == kinds |> Enum.map(&elem(&1, 0)) |> Enum.sort()

          for {flow, blocks} <- found do
            {:ok, all} = Store.blocks(store, flow, {1, :infinity})
            may_be = %{closed: [all], long: [all, nil], open: [nil]}
            assert blocks in may_be[kinds |> List.keyfind(flow, 0) |> elem(1)]
          end
        end
      end

      test "what is unsealed can be asked for alone", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1), put("a", 2)])
        :ok = Store.commit(store, [sealed("a", 0, 1, [1])])
        assert Store.head(store, "a", :unsealed) == Store.head(store, "a")
        :ok = Store.commit(store, [sealed("a", 1, 2, [2])])
        assert {:ok, head} = Store.head(store, "a", :unsealed)
        assert {:ok, full} = Store.head(store, "a")
        assert %{head | genesis: "g", last_block: full.last_block} == full
      end

      test "the log keeps its order", %{store: store} do
        assert {:ok, %{leaves: 0, checkpoints: 0}} = Store.log(store, :size)

        for i <- 0..9,
            do: :ok = Store.commit(store, [{:leaf, "l#{2 * i}"}, {:checkpoint, "c#{i}"}, {:leaf, "l#{2 * i + 1}"}])

        assert {:ok, %{leaves: 20, checkpoints: 10}} = Store.log(store, :size)
        assert {:ok, ["l7", "l8", "l9"]} = Store.log(store, {:leaves, 7, 3})
        assert {:ok, ["c9"]} = Store.log(store, {:checkpoints, 9, 10})
        assert {:ok, []} = Store.log(store, {:leaves, 20, 5})
        assert {:ok, []} = Store.log(store, {:leaves, 3, 0})
      end

      test "many committers at once: every acknowledged commit is there", %{store: store} do
        1..8
        |> Enum.map(fn i ->
          Task.async(fn ->
            flow = "flow #{i}"
            :ok = Store.commit(store, [{:expect, flow, :none}, {:open, flow, "g"}])
            for seq <- 1..50, do: :ok = Store.commit(store, [put(flow, seq, :tail), {:leaf, "#{i} #{seq}"}])
          end)
        end)
        |> Task.await_many(:infinity)

        for i <- 1..8 do
          {:ok, head} = Store.head(store, "flow #{i}")
          assert Enum.map(head.entries, &elem(&1, 0)) == Enum.to_list(1..50)
        end

        {:ok, leaves} = Store.log(store, {:leaves, 0, 1000})
        assert length(leaves) == 400
        assert for("3 " <> seq <- leaves, do: String.to_integer(seq)) == Enum.to_list(1..50)
      end

      test "two that want the same height: one of them gets it", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"} | for(seq <- 1..9, do: put("a", seq, :tail))])
        ops = [{:expect, "a", 0}, sealed("a", 0, 1, [1, 2])]
        results = 1..4 |> Enum.map(fn _ -> Task.async(fn -> Store.commit(store, ops) end) end) |> Task.await_many()
        assert Enum.count(results, &(&1 == :ok)) == 1
        assert Enum.count(results, &match?({:error, %Error{reason: :stale}}, &1)) == 3
      end

      test "a head is one state, whatever is committed meanwhile", %{store: store} do
        :ok = Store.commit(store, [{:open, "a", "g"} | for(seq <- 1..8, do: put("a", seq, :tail))])

        writer =
          Task.async(fn ->
            for height <- 0..99 do
              first = 2 * height + 1
              seqs = [first, first + 1]
              ops = [sealed("a", height, first, seqs), put("a", first + 8, :tail), put("a", first + 9, :tail)]
              :ok = Store.commit(store, ops)
            end
          end)

        for _ <- 1..200 do
          {:ok, head} = Store.head(store, "a", [euid(1)])
          assert Enum.map(head.entries, &elem(&1, 0)) == Enum.to_list((head.fixed + 1)..(head.fixed + 8))
          assert head.height * 2 == head.fixed

          if head.height > 0,
            do: assert(head.last_block == packed("a", head.height - 1, head.fixed - 1, [head.fixed - 1, head.fixed]))

          assert head.found == if(head.height > 0, do: %{euid(1) => [0]}, else: %{})
        end

        Task.await(writer, :infinity)
      end

      test "a lease gives an epoch", %{store: store} do
        assert {:ok, 1} = Store.lease(store, 0..1023)
      end
    end
  end

  setup %{adapter: adapter, tmp_dir: dir} do
    {:ok, store: start!({adapter, options(adapter, dir)})}
  end

  defp with_blocks(store, after_flow, limit) do
    {flows, _cursor} = page(store, after_flow, limit)
    flows
  end

  # What stands in a sheaf is asked for again, flow by flow: the places must be the same.
  defp page(store, cursor, limit) do
    case Store.flows(store, cursor, limit, :blocks) do
      {:ok, []} -> nil
      {:ok, flows} -> {Enum.flat_map(flows, &loose(store, &1)), behind(List.last(flows))}
    end
  end

  defp loose(store, %Sheaf{} = sheaf) do
    for {flow, last, places} <- Sheaf.each(sheaf) do
      {:ok, blocks} = Store.blocks(store, flow, {1, :infinity})
      assert Enum.map(blocks, & &1.at) == places
      assert List.last(blocks).first + List.last(blocks).count - 1 == last
      {flow, blocks}
    end
  end

  defp loose(_store, flow), do: [flow]

  defp behind(%Sheaf{} = sheaf), do: Sheaf.cursor(sheaf)
  defp behind({flow, _blocks}), do: flow

  defp options(EventSeal.Store.Memory, _dir), do: []
  defp options(EventSeal.Store.Disk, dir), do: [dir: Path.join(dir, "store")]
  defp options(EventSeal.Store.Postgres, _dir), do: PostgresServer.store!(PostgresServer.shared())
end
