defmodule EventSealTest do
  use ExUnit.Case, async: true
  doctest EventSeal

  alias EventSeal.{Chain, Error, ManualClock, PostgresServer, Store, Verdict}

  @stores [{"Memory", Store.Memory}, {"Disk", Store.Disk}, {"Postgres", Store.Postgres}]

  for {label, store} <- @stores do
    describe "over #{label}:" do
      @describetag store: store
      @describetag :tmp_dir
      setup :start

      test "an event goes from the pool through the sandbox to a block", %{name: name, clock: clock} do
        receipts = for n <- 1..5, do: EventSeal.append!(name, "p/1", vital(n))
        assert stages(name, "p/1") == for(_ <- 1..5, do: {nil, :pool})
        assert {:ok, %{accepted: 5, pool: 5, settled: 0, provisional: nil}} = EventSeal.head(name, "p/1")

        ManualClock.advance(clock, 300_000)
        assert settled(name, "p/1") == [{1, :sandbox}, {2, :sandbox}, {3, :sandbox}, {4, :sandbox}, {5, :sandbox}]

        ManualClock.advance(clock, 60_000)
        assert {:ok, %{n: 2, id: <<_::256>>, block: 0}} = EventSeal.await_fixed(name, "p/1", Enum.at(receipts, 1).euid)
        assert stages(name, "p/1") == [{1, :fixed}, {2, :fixed}, {3, :sandbox}, {4, :sandbox}, {5, :sandbox}]
        assert_sound(name, "p/1")
      end

      test "an event comes back as it went in, in every stage", %{name: name} do
        at = ~U[2026-03-01 08:30:00.000001Z]

        full = %{
          when: at,
          where: {:geo, 52.5200066, -13.404954},
          who: "nurse/7",
          kind: "vital",
          version: 3,
          body: <<0, 255>>
        }

        receipt = EventSeal.append!(name, "p/1", full)
        expected = %{full | when: DateTime.to_unix(at, :microsecond)}

        for step <- [fn -> :ok end, fn -> EventSeal.settle(name, "p/1") end, fn -> EventSeal.close(name, "p/1") end] do
          step.()
          assert {:ok, event} = EventSeal.event(name, "p/1", receipt.euid)
          assert Map.take(event, Map.keys(full)) == expected
          assert event.recorded_at == receipt.recorded_at
          assert event.flow == "p/1"
        end

        assert {:ok, %{stage: :fixed, n: 1}} = EventSeal.event(name, "p/1", 1)
        assert reason(EventSeal.event(name, "p/1", 3)) == :not_found
        assert reason(EventSeal.event(name, "p/1", <<7::128>>)) == :not_found
        assert reason(EventSeal.event(name, "p/2", 1)) == :not_found
      end

      test "amending keeps place and deadline, and counts revisions", %{name: name, clock: clock} do
        %{euid: euid} = EventSeal.append!(name, "p/1", vital(1))
        EventSeal.append!(name, "p/1", vital(2))
        ManualClock.advance(clock, 299_999)
        assert {:ok, %{revision: 1}} = EventSeal.amend(name, "p/1", euid, %{body: "amended", when: 9})
        assert {:ok, %{revision: 2}} = EventSeal.amend(name, "p/1", euid, [who: "dr/1"], revision: 1)
        assert reason(EventSeal.amend(name, "p/1", euid, %{body: "lost"}, revision: 1)) == :revision
        assert {:ok, before} = EventSeal.event(name, "p/1", euid)
        ManualClock.advance(clock, 1)
        assert [{1, :sandbox}, {2, :sandbox}] = settled(name, "p/1")

        assert {:ok, %{n: 1, body: "amended", when: 9, who: "dr/1", revision: 2} = event} =
                 EventSeal.event(name, "p/1", euid)

        assert {event.salt, event.recorded_at} == {before.salt, before.recorded_at}
        assert reason(EventSeal.amend(name, "p/1", euid, %{body: "late"})) == :settled
        assert reason(EventSeal.retract(name, "p/1", euid)) == :settled
        assert reason(EventSeal.amend(name, "p/1", <<7::128>>, %{body: "x"})) == :not_found
        assert %Error{reason: :invalid, field: :kind} = error(EventSeal.amend(name, "p/1", euid, %{kind: "$close"}))
      end

      test "retracting leaves no trace, but the euid is spent", %{name: name} do
        receipts = for n <- 1..3, do: EventSeal.append!(name, "p/1", vital(n), euid: <<n::128>>)
        assert {:ok, %{euid: <<2::128>>}} = EventSeal.retract(name, "p/1", <<2::128>>, revision: 0)
        assert reason(EventSeal.append(name, "p/1", vital(2), euid: <<2::128>>)) == :retracted
        assert reason(EventSeal.retract(name, "p/1", <<2::128>>)) == :retracted
        assert EventSeal.settle(name, "p/1") == {:ok, 2}
        assert for(event <- EventSeal.stream(name, "p/1"), do: event.body) == ["body 1", "body 3"]
        EventSeal.close(name, "p/1")
        assert reason(EventSeal.append(name, "p/1", vital(2), euid: <<2::128>>)) == :retracted
        assert {:ok, Enum.at(receipts, 0)} == EventSeal.append(name, "p/1", vital(1), euid: <<1::128>>)
        assert_sound(name, "p/1")
      end

      test "the same euid with the same fields is the same append, in every stage", %{name: name} do
        append = fn -> EventSeal.append(name, "p/1", vital(1), euid: <<1::128>>, expect: 0) end
        {:ok, receipt} = append.()

        for step <- [fn -> :ok end, fn -> EventSeal.settle(name, "p/1") end, fn -> EventSeal.close(name, "p/1") end] do
          step.()
          assert append.() == {:ok, receipt}
          assert reason(EventSeal.append(name, "p/1", vital(2), euid: <<1::128>>)) == :conflict
          assert {:ok, _} = EventSeal.append(name, "p/2", vital(2), euid: <<1::128>>)
        end

        assert {:ok, %{settled: 2}} = EventSeal.head(name, "p/1")
      end

      test "expect counts what the flow has accepted, the pool included", %{name: name} do
        assert reason(EventSeal.append(name, "p/1", vital(1), expect: 1)) == :count
        assert reason(EventSeal.head(name, "p/1")) == :not_found
        assert {:ok, _} = EventSeal.append(name, "p/1", vital(1), expect: 0)
        assert {:ok, _} = EventSeal.append(name, "p/1", vital(1), expect: 1)
        EventSeal.settle(name, "p/1")
        assert reason(EventSeal.append(name, "p/1", vital(1), expect: 1)) == :count
        assert {:ok, %{euid: euid}} = EventSeal.append(name, "p/1", vital(1), expect: 2)
        {:ok, _} = EventSeal.retract(name, "p/1", euid)
        assert {:ok, _} = EventSeal.append(name, "p/1", vital(1), expect: 2)
        assert reason(EventSeal.close(name, "p/1", expect: 2)) == :count
        assert {:ok, _} = EventSeal.close(name, "p/1", expect: 3)
      end

      test "append_many is all or nothing over all writers", %{name: name} do
        items = for n <- 1..40, do: {"p/#{rem(n, 20)}", vital(n)}
        assert {:ok, receipts} = EventSeal.append_many(name, items)
        assert Enum.map(receipts, & &1.flow) == Enum.map(items, &elem(&1, 0))
        assert Enum.count(EventSeal.flows(name)) == 20

        {:ok, _} = EventSeal.close(name, "p/7")
        more = for n <- 1..40, do: {"p/#{n}", vital(n)}
        assert reason(EventSeal.append_many(name, more)) == :closed
        assert Enum.count(EventSeal.flows(name)) == 20
        assert {:ok, %{accepted: 2}} = EventSeal.head(name, "p/1")
        # No writer waits for the refused commit.
        for n <- 21..60, do: assert({:ok, _} = EventSeal.append(name, "p/#{n}", vital(n)))
      end

      test "append_many takes the same event twice as one", %{name: name} do
        item = {"p/1", vital(1), euid: <<1::128>>}
        assert {:ok, [first, other, first]} = EventSeal.append_many(name, [item, {"p/2", vital(1)}, item])
        assert other.flow == "p/2"
        assert {:ok, %{accepted: 1}} = EventSeal.head(name, "p/1")
        conflict = {"p/1", vital(2), euid: <<3::128>>}
        assert reason(EventSeal.append_many(name, [put_elem(conflict, 1, vital(1)), conflict])) == :conflict
        assert {:error, %{reason: :invalid, detail: "item 2"}} = EventSeal.append_many(name, [item, {"", vital(1)}])
        assert EventSeal.append_many(name, []) == {:ok, []}
      end

      test "a closed flow is fixed to its end and takes nothing more", %{name: name} do
        assert reason(EventSeal.close(name, "p/1")) == :not_found
        for n <- 1..2, do: EventSeal.append!(name, "p/1", vital(n))
        assert {:ok, receipt} = EventSeal.close(name, "p/1", euid: <<9::128>>, who: "dr/1", body: "discharged")
        assert stages(name, "p/1") == [{1, :fixed}, {2, :fixed}, {3, :fixed}]
        assert {:ok, %{kind: "$close", who: "dr/1", body: "discharged"}} = EventSeal.event(name, "p/1", receipt.euid)
        assert {:ok, %{closed: true, blocks: 1, fixed: 3}} = EventSeal.head(name, "p/1")
        assert EventSeal.close(name, "p/1", euid: <<9::128>>, who: "dr/1", body: "discharged") == {:ok, receipt}
        assert reason(EventSeal.close(name, "p/1", euid: <<9::128>>)) == :conflict
        assert reason(EventSeal.close(name, "p/1")) == :closed
        assert reason(EventSeal.append(name, "p/1", vital(1))) == :closed
        assert EventSeal.settle(name, "p/1") == {:ok, 0}
        assert EventSeal.seal(name, "p/1") == {:ok, 0}
        assert_sound(name, "p/1")
      end

      test "a flow whose only event was retracted can be closed", %{name: name} do
        %{euid: euid} = EventSeal.append!(name, "p/1", vital(1))
        {:ok, _} = EventSeal.retract(name, "p/1", euid)
        assert {:ok, _} = EventSeal.close(name, "p/1")
        assert stages(name, "p/1") == [{1, :fixed}]
        assert_sound(name, "p/1")
      end

      test "streams by position, by time and by stage", %{name: name} do
        for n <- 1..6, do: EventSeal.append!(name, "p/1", vital(10 * n))
        EventSeal.settle(name, "p/1")
        {:ok, 3} = EventSeal.seal(name, "p/1")
        EventSeal.append!(name, "p/1", vital(70))
        read = fn opts -> for event <- EventSeal.stream(name, "p/1", opts), do: event.when end

        assert read.([]) == [10, 20, 30, 40, 50, 60, 70]
        assert read.(from: 2, to: 5) == [20, 30, 40, 50]
        assert read.(since: 30) == [30, 40, 50, 60, 70]
        assert read.(until: DateTime.from_unix!(30, :microsecond)) == [10, 20, 30]
        assert read.(since: 40, until: 40) == [40]
        assert read.(stages: [:pool, :fixed]) == [10, 20, 30, 70]
        assert name |> EventSeal.stream("p/1") |> Enum.take(1) |> length() == 1
        assert_raise Error, ~r/not found/, fn -> Enum.to_list(EventSeal.stream(name, "p/2")) end
      end

      test "flows come in byte order, a page at a time", %{name: name} do
        for flow <- ["b", "a", "ä", "ab"], do: EventSeal.append!(name, flow, vital(1))
        assert name |> EventSeal.flows(page: 1) |> Enum.to_list() == ["a", "ab", "b", "ä"]
        assert name |> EventSeal.flows(after: "ab") |> Enum.to_list() == ["b", "ä"]
      end

      test "store time never falls, and a clock set back or forward holds nothing in the pool", %{
        name: name,
        clock: clock
      } do
        first = EventSeal.append!(name, "p/1", vital(1))
        ManualClock.set(clock, 0)
        second = EventSeal.append!(name, "p/1", vital(2))
        other = EventSeal.append!(name, "p/2", vital(1))
        assert second.recorded_at == first.recorded_at
        assert other.recorded_at >= first.recorded_at
        ManualClock.advance(clock, 300_000)
        assert settled(name, "p/1") == [{1, :sandbox}, {2, :sandbox}]
        ManualClock.set(clock, 4_000_000_000_000_000)
        third = EventSeal.append!(name, "p/1", vital(3))
        assert third.recorded_at == 4_000_000_000_000_000
        assert [_, _, {nil, :pool}] = stages(name, "p/1")
        {:ok, _} = EventSeal.close(name, "p/1")
        assert_sound(name, "p/1")
      end

      @tag options: [block: [max_events: 4, max_bytes: 2000, max_age: :infinity], pool_window: 0]
      test "a block is sealed when it is useful, by events or by bytes", %{name: name} do
        for n <- 1..6, do: EventSeal.append!(name, "p/1", vital(n))
        assert {:ok, %{blocks: 0}} = EventSeal.head(name, "p/1")
        EventSeal.append!(name, "p/1", vital(7))
        assert {:ok, %{blocks: 1, fixed: 4}} = EventSeal.head(name, "p/1")
        EventSeal.append!(name, "p/1", %{vital(8) | body: String.duplicate("x", 2000)})
        for n <- 9..10, do: EventSeal.append!(name, "p/1", vital(n))
        assert {:ok, %{blocks: 1}} = EventSeal.head(name, "p/1")
        EventSeal.append!(name, "p/1", vital(11))
        assert {:ok, %{blocks: 2, fixed: 8}} = EventSeal.head(name, "p/1")
        assert_sound(name, "p/1")
      end

      @tag options: [block: [max_age: :infinity], pool_window: 0]
      test "what comes together and makes a block of its own is sealed at once", %{name: name} do
        many = fn count -> for n <- 1..count, do: {"p/1", vital(n)} end
        {:ok, _} = EventSeal.append_many(name, many.(511))
        assert {:ok, %{blocks: 0, fixed: 0}} = EventSeal.head(name, "p/1")
        {:ok, _} = EventSeal.append_many(name, many.(512))
        assert {:ok, %{blocks: 1, fixed: 1020, settled: 1023}} = EventSeal.head(name, "p/1")
        {:ok, _} = EventSeal.append_many(name, many.(600))
        assert {:ok, %{blocks: 2, fixed: 1620, settled: 1623}} = EventSeal.head(name, "p/1")
        assert_sound(name, "p/1")
      end

      @tag options: [queue: [max_events: 3, max_bytes: 10_000]]
      test "too much at once is refused at once", %{name: name} do
        many = for n <- 1..4, do: {"p/1", vital(n)}

        assert %Error{reason: :overloaded, detail: "queue: this request alone" <> _} =
                 error(EventSeal.append_many(name, many))

        heavy = %{vital(1) | body: String.duplicate("x", 10_000)}
        assert reason(EventSeal.append(name, "p/1", heavy)) == :overloaded
        for n <- 1..20, do: assert({:ok, _} = EventSeal.append(name, "p/1", vital(n)))
      end

      @tag options: [pool: [max_events: 5], writers: 1]
      test "a full pool refuses, and takes more once it has moved on", %{name: name, clock: clock} do
        for n <- 1..5, do: EventSeal.append!(name, "p/#{n}", vital(n))
        assert {:error, %Error{reason: :overloaded, detail: "pool"}} = EventSeal.append(name, "p/1", vital(6))
        ManualClock.advance(clock, 300_000)
        for n <- 1..5, do: assert(settled(name, "p/#{n}") == [{1, :sandbox}])
        assert {:ok, _} = EventSeal.append(name, "p/1", vital(6))
      end

      test "a wait for an event that is not fixed ends with its time-out", %{name: name} do
        %{euid: euid} = EventSeal.append!(name, "p/1", vital(1))
        assert reason(EventSeal.await_fixed(name, "p/1", euid, timeout: 0)) == :timeout
        assert reason(EventSeal.await_fixed(name, "p/1", <<1::128>>, timeout: 0)) == :not_found
        waiting = Task.async(fn -> EventSeal.await_fixed(name, "p/1", euid, timeout: :infinity) end)
        {:ok, _} = EventSeal.close(name, "p/1")
        assert {:ok, %{stage: :fixed, id: <<_::256>>}} = Task.await(waiting)
      end

      test "a wait for an event that is retracted ends too", %{name: name} do
        %{euid: euid} = EventSeal.append!(name, "p/1", vital(1))
        waiting = Task.async(fn -> EventSeal.await_fixed(name, "p/1", euid, timeout: :infinity) end)
        {:ok, _} = EventSeal.retract(name, "p/1", euid)
        assert reason(Task.await(waiting)) == :not_found
      end

      test "wrong arguments name the field and the rule, never the value", %{name: name} do
        for {event, field} <- [
              {%{}, :when},
              {%{when: 1, kind: "$close"}, :kind},
              {%{when: 1, kind: "k", who: ""}, :who}
            ] do
          assert %Error{reason: :invalid, field: ^field} = error(EventSeal.append(name, "p/1", event))
        end

        refused = error(EventSeal.append(name, "p/1", %{when: "Sesame 4711", kind: "k"}))
        refute Exception.message(refused) =~ "Sesame"
        assert %Error{field: :flow} = error(EventSeal.append(name, "", vital(1)))
        assert %Error{field: :euid} = error(EventSeal.append(name, "p/1", vital(1), euid: "Sesame 4711"))
        assert %Error{field: :euid} = error(EventSeal.retract(name, "p/1", :none))

        assert_raise ArgumentError, ~r/did you mean :expect\?/, fn ->
          EventSeal.append(name, "p/1", vital(1), exepct: 1)
        end
      end

      test "concurrent callers of few flows get every event in, once, in an unbroken chain", %{name: name} do
        receipts =
          1..400
          |> Task.async_stream(fn n -> EventSeal.append!(name, "p/#{rem(n, 3)}", vital(n)) end, max_concurrency: 64)
          |> Enum.map(fn {:ok, receipt} -> receipt end)

        for flow <- ["p/0", "p/1", "p/2"] do
          EventSeal.settle(name, flow)
          EventSeal.seal(name, flow)
          euids = for event <- EventSeal.stream(name, flow), do: event.euid
          assert Enum.sort(euids) == Enum.sort(for(%{flow: ^flow, euid: euid} <- receipts, do: euid))
          assert_sound(name, flow)
        end
      end

      test "a large event in a small slice of a larger binary is not kept alive by it", %{name: name} do
        parent = :binary.copy(<<7>>, 1_000_000)

        EventSeal.append!(name, "p/1", %{vital(1) | body: binary_part(parent, 10, 100)},
          euid: binary_part(parent, 0, 16)
        )

        {:ok, event} = EventSeal.event(name, "p/1", binary_part(parent, 0, 16))
        assert :binary.referenced_byte_size(event.body) < 1_000
      end
    end
  end

  @tag :tmp_dir
  @tag :capture_log
  test "a store that is open for reading only is read, and refuses what would change it", %{tmp_dir: dir} do
    start = fn name, opts -> start_supervised!({EventSeal, [name: name, store: {Store.Disk, [dir: dir] ++ opts}]}) end
    start.(__MODULE__.Host, [])
    for n <- 1..5, do: EventSeal.append!(__MODULE__.Host, "p/1", vital(n))
    reader = __MODULE__.Beside
    start.(reader, mode: :read)
    assert length(stages(reader, "p/1")) == 5
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(reader)
    assert reason(EventSeal.append(reader, "p/1", vital(6))) == :read_only
    assert reason(EventSeal.append_many(reader, for(n <- 1..9, do: {"p/#{n}", vital(n)}))) == :read_only
    assert reason(EventSeal.settle(reader, "p/1")) == :read_only
  end

  defp start(context) do
    clock = ManualClock.start!()
    name = Module.concat(__MODULE__, "T#{System.unique_integer([:positive])}")
    opts = [name: name, store: store(context), clock: clock] ++ Map.get(context, :options, [])
    start_supervised!({EventSeal, opts})
    %{name: name, clock: clock}
  end

  defp store(%{store: Store.Disk, tmp_dir: dir}), do: {Store.Disk, dir: Path.join(dir, "store")}
  # Swept all the time, so that what is taken away too early is missed.
  defp store(%{store: Store.Postgres}), do: {Store.Postgres, PostgresServer.store!(PostgresServer.shared(), sweep: 20)}
  defp store(%{store: store}), do: store

  defp vital(at), do: %{when: at, kind: "vital", body: "body #{at}"}

  defp stages(name, flow), do: for(event <- EventSeal.stream(name, flow), do: {event.n, event.stage})

  # Once a writer has answered, it has done what the clock had set going before.
  defp settled(name, flow) do
    :not_found = reason(EventSeal.retract(name, flow, <<0::128>>))
    stages(name, flow)
  end

  defp reason(result), do: error(result).reason
  defp error({:error, %Error{} = error}), do: error

  defp assert_sound(name, flow) do
    store = EventSeal.Instance.fetch!(name).store
    {:ok, pieces} = Store.blocks(store, flow, {1, :infinity})
    blocks = for piece <- pieces, do: elem(Store.read(piece), 1)
    {:ok, head} = Store.head(store, flow)

    entries =
      for {_, :tail, meta, data} <- head.entries do
        {n, frame, hash, provisional} = EventSeal.Record.decode_tail(meta)
        %Chain.Entry{n: n, euid: nil, frame: frame, hash: hash, provisional: provisional, body: data}
      end

    assert {:ok, _} = Chain.restore(head.genesis, head.last_block, head.when_max, entries)
    {:ok, tail} = Chain.tail(head.genesis, head.last_block, entries)
    assert (blocks ++ List.wrap(tail)) |> Chain.verify(bodies: true) |> Verdict.ok?()
  end
end
