defmodule EventSeal.StorePostgresTest do
  # What is the PostgreSQL adapter's own: rows and columns, one round trip, faults of connections and servers, many writers.
  use ExUnit.Case, async: true

  import EventSeal.StoreCase
  import ExUnit.CaptureLog
  alias EventSeal.{Error, Postgres, PostgresServer, Signer, Store, Wire}

  @moduletag timeout: 240_000

  defmodule CountingClient do
    # Another client in the place of ours: it counts what it is asked.
    @behaviour EventSeal.Postgres

    @impl true
    def child_spec(given), do: EventSeal.Postgres.child_spec(given)

    @impl true
    def run(name, statements, opts) do
      with counter when counter != nil <- :persistent_term.get({__MODULE__, name}, nil) do
        :counters.add(counter, 1, 1)
        if match?([{"SELECT settle" <> _, _}], statements), do: :counters.add(counter, 2, 1)
      end

      EventSeal.Postgres.run(name, statements, opts)
    end

    def count(name), do: :persistent_term.put({__MODULE__, name}, :counters.new(2, []))
    def asked(name), do: :counters.get(:persistent_term.get({__MODULE__, name}), 1)
    def settled(name), do: :counters.get(:persistent_term.get({__MODULE__, name}), 2)
  end

  defmodule GatedClient do
    # Commits wait until the test lets them go.
    @behaviour EventSeal.Postgres

    @impl true
    def child_spec(given), do: EventSeal.Postgres.child_spec(given)

    @impl true
    def run(name, [{"SELECT begin_commit" <> _, _} | _] = statements, opts) do
      with test when is_pid(test) <- :persistent_term.get({__MODULE__, name}, nil) do
        send(test, {:committing, self()})
        receive(do: (:go -> :ok))
      end

      EventSeal.Postgres.run(name, statements, opts)
    end

    def run(name, statements, opts), do: EventSeal.Postgres.run(name, statements, opts)

    def gate(name, test), do: :persistent_term.put({__MODULE__, name}, test)
  end

  defp opts(context, opts \\ []), do: PostgresServer.store!(context[:server] || PostgresServer.shared(), opts)
  defp tree!(opts, more \\ []), do: start_tree(:"tree_#{System.unique_integer([:positive])}", opts, more)

  defp start_tree(name, opts, more) do
    tree = Keyword.merge([name: name, store: {Store.Postgres, opts}, pool_window: 0], more)
    start_supervised!({EventSeal, tree}, id: name)
    name
  end

  defp handle(name), do: Store.handle(Store.Postgres, EventSeal.Instance.store_name(name))

  # As the tables' owner, in the schema of these options.
  defp owner!(opts, fun) do
    %{query: query, port: port} = URI.parse(opts[:url])
    schema = URI.decode_query(query)["schema"]
    server = %{PostgresServer.shared() | port: port}
    PostgresServer.as_owner!(server, fn owner -> fun.(owner, schema) end)
  end

  defp owner!(opts, sql, values) do
    owner!(opts, fn owner, schema ->
      {:ok, results} =
        Postgres.run(owner, [{"SELECT set_config('search_path', $1, true)", [text: schema]}, {sql, values}])

      List.last(results).rows
    end)
  end

  describe "rows" do
    test "what can be read of an event in SQL is what the event says", context do
      opts = opts(context)
      name = tree!(opts)

      events = [
        %{
          when: -1,
          kind: "vital",
          body: "37.2 °C",
          who: "nurse/åsa",
          where: {:place, "ward/Médical ICU"},
          version: 65_535
        },
        %{when: 9_007_199_254_740_991, kind: "k\\backslash", body: "", where: {:geo, -89.9999999, 179.9999999}},
        %{when: 5, kind: "ünïcode 😀", body: <<0, 255>>, who: String.duplicate("x", 512)},
        %{when: 4, kind: String.duplicate("k", 255), where: {:place, String.duplicate("p", 1_024)}, body: "late"}
      ]

      {:ok, _} = EventSeal.append_many(name, for(event <- events, do: {"patient/1", event}))
      {:ok, _} = EventSeal.close(name, "patient/1")

      sql = """
      SELECT n, euid, happened_at, recorded_at, late, kind, version, place, latitude_e7, longitude_e7, who, hash, event.id
      FROM event JOIN flow ON flow.number = event.flow WHERE flow.id = 'patient/1' ORDER BY n
      """

      read =
        for event <- EventSeal.stream(name, "patient/1") do
          {place, lat, lon} =
            case event.where do
              {:place, place} -> {place, nil, nil}
              {:geo, lat, lon} -> {nil, round(lat * 10_000_000), round(lon * 10_000_000)}
              nil -> {nil, nil, nil}
            end

          times = [event.n, event.euid, event.when, event.recorded_at, event.late, event.kind, event.version]
          times ++ [place, lat, lon, event.who, event.hash, event.id]
        end

      assert length(read) == 5
      assert owner!(opts, sql, []) == read
      assert [[5, 0, 1, true]] = owner!(opts, "SELECT count, height, first, closes FROM block", [])
    end

    test "what was sealed or retracted is swept, and nothing else", context do
      opts = opts(context, sweep: :infinity)
      name = tree!(opts, pool_window: 3_600_000)
      item = fn n -> {"patient/1", %{when: n, kind: "vital", body: "#{n}"}} end
      {:ok, receipts} = EventSeal.append_many(name, for(n <- 1..6, do: item.(n)))
      {:ok, _} = EventSeal.retract(name, "patient/1", List.last(receipts).euid)
      {:ok, 5} = EventSeal.settle(name, "patient/1")
      {:ok, _} = EventSeal.append_many(name, for(n <- 7..8, do: item.(n)))
      {:ok, 2} = EventSeal.seal(name, "patient/1")
      before = Enum.to_list(EventSeal.stream(name, "patient/1"))
      store = EventSeal.Instance.store_name(name)
      assert {:ok, count} = Store.Postgres.sweep(store)
      assert count > 0
      assert {:ok, 0} = Store.Postgres.sweep(store)
      assert Enum.to_list(EventSeal.stream(name, "patient/1")) == before
      assert [] = owner!(opts, "SELECT seq FROM journal WHERE stage = 'gone' AND seq < 6", [])

      assert {:error, %Error{reason: :retracted}} =
               EventSeal.append(name, "patient/1", %{when: 1, kind: "k"}, euid: List.last(receipts).euid)
    end

    test "marks are swept, but for each writer's last, however old they are", context do
      opts = opts(context, sweep: :infinity)
      store = start!({Store.Postgres, opts})

      marks =
        "INSERT INTO mark (id, made_at) SELECT $1 || int8send(n), now() - interval '3 hours' FROM generate_series(0, $2 - 1) AS n"

      for {writer, count} <- [{1, 150}, {2, 3}], do: owner!(opts, marks, bytea: <<writer::128>>, int4: count)
      :ok = Store.commit(store, [{:leaf, "leaf"}])
      assert {:ok, 0} = Store.Postgres.sweep(store.name)
      left = "SELECT substr(id, 1, 16), count(*), max(i64(id, 16)) FROM mark GROUP BY 1 ORDER BY 1 LIMIT 2"
      assert owner!(opts, left, []) == [[<<1::128>>, 8, 149], [<<2::128>>, 3, 2]]
    end

    test "tables that are not there, or of another version, are refused by name" do
      server = PostgresServer.shared()
      opts = PostgresServer.options(server, [sslmode: "disable", schema: "nothing_here"], [])
      %{start: {module, function, arguments}} = Store.Postgres.child_spec({:no_tables, opts})
      Process.flag(:trap_exit, true)
      assert {:error, %Error{reason: :foreign} = error} = apply(module, function, arguments)
      assert Exception.message(error) =~ "event_seal.setup"
    end

    test "a group commit is one round trip", context do
      opts = [client: CountingClient] ++ opts(context, sweep: :infinity)
      store = start!({Store.Postgres, opts})
      client = Module.concat(store.name, "Client")
      :ok = Store.commit(store, [{:open, "a", "g"}, put("a", 1, :tail)])
      CountingClient.count(client)
      for n <- 2..20, do: :ok = Store.commit(store, [put("a", 2 * n, :tail), put("a", 2 * n + 1), {:leaf, "leaf"}])
      assert CountingClient.asked(client) == 19
    end
  end

  test "commits of other flows go on while one is under way; those of its flows, and an empty one, wait for it",
       context do
    store = start!({Store.Postgres, [client: GatedClient] ++ opts(context)})
    for flow <- ["a", "b"], do: :ok = Store.commit(store, [{:expect, flow, :none}, {:open, flow, "genesis"}])
    GatedClient.gate(Module.concat(store.name, "Client"), self())
    test = self()
    commit = fn name, ops -> spawn_link(fn -> send(test, {name, Store.commit(store, ops)}) end) end

    commit.(:first, [put("a", 1, :tail)])
    assert_receive {:committing, first}, 5_000
    commit.(:other, [put("b", 1, :tail)])
    assert_receive {:committing, other}, 5_000
    send(other, :go)
    assert_receive {:other, :ok}, 5_000

    commit.(:second, [put("a", 2, :tail)])
    commit.(:empty, [])
    refute_receive {:committing, _pid}, 100
    refute_received {:empty, _}
    send(first, :go)
    assert_receive {:first, :ok}, 5_000
    assert_receive {:committing, second}, 5_000
    send(second, :go)
    assert_receive {:second, :ok}, 5_000
    assert_receive {:empty, :ok}, 5_000
    GatedClient.gate(Module.concat(store.name, "Client"), nil)
  end

  test "a flow of more bytes than should lie in memory is read block by block", context do
    name = tree!(opts(context), block: [max_bytes: 4_000_000])
    body = :binary.copy("b", 2_000_000)
    for n <- 1..20, do: {:ok, _} = EventSeal.append(name, "patient/1", %{when: n, kind: "scan", body: body})
    {:ok, _} = EventSeal.seal(name, "patient/1")
    store = handle(name)
    {:ok, pieces} = Store.blocks(store, "patient/1", {1, :infinity})
    assert Enum.all?(pieces, &match?({:read, _length, _fun}, &1.at))

    for %{at: {:read, length, _fun}} = piece <- pieces,
        {:ok, block} = Store.read(piece),
        do: assert(byte_size(block) == length)

    assert {:ok, [%{at: {:binary, _}}]} = Store.blocks(store, "patient/1", {1, 1})
    assert {:ok, %{fault_count: 0, events: 20, bodies_verified: 20}} = EventSeal.verify(name)
    assert Enum.map(EventSeal.stream(name, "patient/1"), & &1.body) == List.duplicate(body, 20)
  end

  describe "limits" do
    test "a statement that takes too long is ended by the server", context do
      store = start!({Store.Postgres, opts(context, statement_timeout: 300, lock_timeout: 100)})
      client = Module.concat(store.name, "Client")

      assert {:error, %Postgres.Error{code: "57014"}} =
               Postgres.run(client, [{"SELECT pg_sleep(5)", []}], timeout: 60_000)
    end

    test "a commit does not wait for a lock for ever, and nothing of it is done", context do
      opts = opts(context, lock_timeout: 200, sweep: :infinity)
      store = start!({Store.Postgres, opts})
      :ok = Store.commit(store, [{:open, "a", "g"}])

      owner!(opts, fn owner, schema ->
        lock = "BEGIN; LOCK TABLE #{schema}.journal IN EXCLUSIVE MODE; SELECT pg_sleep(5); COMMIT"
        task = Task.async(fn -> Postgres.script(owner, lock, timeout: 60_000) end)

        held =
          {"SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = $1::text::regclass AND granted",
           [text: "#{schema}.journal"]}

        watching = PostgresServer.client!(PostgresServer.shared())
        PostgresServer.wait(fn -> match?({:ok, [%{rows: [[1]]}]}, Postgres.run(watching, [held])) end, 200)
        assert {:error, %Error{reason: :storage}} = Store.commit(store, [put("a", 1)])
        Task.await(task, :infinity)
      end)

      assert {:ok, %{entries: []}} = Store.head(store, "a")
      assert :ok = Store.commit(store, [put("a", 1)])
    end

    test "what is no operation, or no packed block, is invalid", context do
      store = start!({Store.Postgres, opts(context)})
      :ok = Store.commit(store, [{:open, "a", "g"}])
      {:block, "a", info, bytes} = sealed("a", 0, 1, [1, 2])

      for op <-
            [{:put, "a", 1, :other, "", ""}, block("a", 0, 1, [1, 2]), {:block, "a", info, binary_part(bytes, 0, 700)}] ++
              [
                {:block, "a", info, bytes <> <<0>>},
                {:block, "a", %{info | count: 3}, bytes},
                {:block, "a", %{info | euids: ""}, bytes}
              ] do
        assert {:error, %Error{reason: :invalid}} = Store.commit(store, [op])
      end

      assert :ok = Store.commit(store, [{:block, "a", info, bytes}])
    end
  end

  describe "faults" do
    test "a connection cut in the midst of commits: each outcome is known, and is true", context do
      opts = opts(context, sweep: :infinity, backoff: {1, 20}, pool: 1)
      direct = start!({Store.Postgres, opts})
      :ok = Store.commit(direct, [{:open, "a", "g"}])
      # What a new store says before its first commit, and what the commit itself says; cut all along it.
      cuts = for bytes <- 300..3_000//97, way <- [:up, :down], do: {way, bytes}

      capture_log(fn ->
        outcomes =
          for {cut, seq} <- Enum.with_index(cuts, 1) do
            {port, _cut?} = Wire.proxy!(PostgresServer.shared().port, cut)
            own = Keyword.update!(opts, :url, &String.replace(&1, ~r/:\d+\//, ":#{port}/"))
            store = start!({Store.Postgres, [client: CountingClient] ++ own})
            client = Module.concat(store.name, "Client")
            CountingClient.count(client)
            outcome = Store.commit(store, [put("a", seq, :tail), {:leaf, "#{seq}"}])
            stop!(store)
            {seq, outcome, CountingClient.settled(client)}
          end

        # Some were in doubt, and that was looked up.
        assert Enum.any?(outcomes, fn {_seq, _outcome, settled} -> settled > 0 end)
        outcomes = for {seq, outcome, _settled} <- outcomes, do: {seq, outcome}

        done = for {seq, :ok} <- outcomes, do: seq
        assert length(done) > length(cuts) / 2

        assert Enum.all?(outcomes, fn {_seq, outcome} ->
                 outcome == :ok or match?({:error, %Error{reason: :storage}}, outcome)
               end)

        {:ok, head} = Store.head(direct, "a")
        assert Enum.map(head.entries, &elem(&1, 0)) == done
        {:ok, leaves} = Store.log(direct, {:leaves, 0, 1_000})
        assert leaves == Enum.map(done, &to_string/1)
      end)
    end

    test "a commit that was given up and asked about comes too late, even if it comes", context do
      opts = opts(context)
      store = start!({Store.Postgres, opts})
      client = Module.concat(store.name, "Client")
      :ok = Store.commit(store, [{:open, "a", "g"}])
      asked = {"SELECT settle($1)", [bytea: <<7::192>>]}
      done = {"SELECT begin_commit($1)", [bytea: <<8::192>>]}
      # Once more, too, if the first answer was lost.
      for _ <- 1..2, do: assert({:ok, [%{rows: [[false]]}]} = Postgres.run(client, [asked]))
      late = [{"SELECT begin_commit($1)", [bytea: <<7::192>>]}, {"INSERT INTO leaf VALUES (0, 'late')", []}]
      assert {:error, %Postgres.Error{code: "23505"}} = Postgres.run(client, late)
      assert {:ok, %{leaves: 0}} = Store.log(store, :size)
      {:ok, _} = Postgres.run(client, [done])

      for _ <- 1..2,
          do: assert({:ok, [%{rows: [[true]]}]} = Postgres.run(client, [put_elem(asked, 1, bytea: <<8::192>>)]))
    end

    test "sessions ended and the server killed under load: acknowledged lost 0, doubled 0, forks 0, false faults 0" do
      server = PostgresServer.start!()
      on_exit(fn -> PostgresServer.stop!(server) end)

      capture_log(fn ->
        opts = opts(%{server: server}, backoff: {5, 100}, sweep: 100)
        name = tree!(opts, block: [max_events: 8], writers: 2)
        load = Task.async(fn -> load(name, 6) end)

        server =
          Enum.reduce([:sessions, "KILL", :sessions, "INT", "QUIT"], server, fn fault, server ->
            Process.sleep(700)
            strike(server, fault)
          end)

        Process.sleep(700)
        outcomes = stop(load)
        check(name, outcomes)
        PostgresServer.stop!(server)
      end)
    end

    defp strike(server, :sessions) do
      PostgresServer.as_owner!(server, fn owner ->
        {:ok, _} =
          Postgres.run(owner, [
            {"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename LIKE 'writer%'",
             []}
          ])
      end)

      server
    end

    defp strike(server, signal), do: server |> PostgresServer.halt!(signal) |> PostgresServer.begin()
  end

  describe "many writers" do
    @describetag :tmp_dir

    test "two stores that write the same flows at once never fork them", context do
      opts = opts(context, sweep: 50)
      stores = for _ <- 1..2, do: start!({Store.Postgres, opts})
      :ok = Store.commit(hd(stores), for(flow <- ["a", "b"], do: {:open, flow, "g"}))

      outcomes =
        for store <- stores, flow <- ["a", "b"] do
          Task.async(fn -> for _ <- 1..60, do: contend(store, flow) end)
        end
        |> Task.await_many(:infinity)
        |> Enum.concat()

      won = for {:ok, flow, height} <- outcomes, do: {flow, height}
      assert length(won) == length(Enum.uniq(won))

      for flow <- ["a", "b"] do
        {:ok, head} = Store.head(hd(stores), flow)
        assert head.height == Enum.count(won, &(elem(&1, 0) == flow))
        {:ok, pieces} = Store.blocks(hd(stores), flow, {1, :infinity})
        assert Enum.map(pieces, & &1.height) == Enum.to_list(0..(head.height - 1))
        assert {:ok, %{height: height}} = Store.head(List.last(stores), flow)
        assert height == head.height
      end
    end

    test "what is built upon a turn is refused once somebody has changed the flow, also if it changes nothing",
         context do
      opts = opts(context)
      [one, other] = for _ <- 1..2, do: start!({Store.Postgres, opts})
      assert Store.shared?(one)
      refute Store.shared?(Store.handle(Store.Memory, :any))
      :ok = Store.commit(one, [{:open, "a", "g"}, put("a", 1), put("a", 2)])
      assert {:ok, %{turn: 2}} = Store.head(one, "a")
      assert :ok = Store.commit(one, [{:expect, "a", {:turn, 2}}])
      :ok = Store.commit(other, [{:expect, "a", {:turn, 2}}, {:put, "a", 1, :pool, "amended", "other"}])

      for ops <- [[], [{:drop, "a", 1, euid(1)}], [put("a", 3)], [{:leaf, "leaf"}]] do
        assert {:error, %Error{reason: :stale}} = Store.commit(one, [{:expect, "a", {:turn, 2}} | ops])
        assert {:error, %Error{reason: :stale}} = Store.commit(one, [{:expect, "b", {:turn, 0}} | ops])
      end

      # So often refused it has knocked, too.
      assert {:ok, %{turn: turn, entries: [{1, :pool, "amended", "other"}, {2, _, _, _}]}} = Store.head(one, "a")
      :ok = Store.commit(one, [{:expect, "a", {:turn, turn}}, put("a", 3), {:drop, "a", 1, euid(1)}])
      :ok = Store.commit(other, [{:expect, "a", {:turn, turn + 2}}, sealed("a", 0, 1, [2, 3])])
      {:ok, _} = Store.Postgres.sweep(one.name)
      last = turn + 3
      for store <- [one, other], do: assert({:ok, %{turn: ^last, height: 1}} = Store.head(store, "a"))
    end

    # The next block, as this store believes it to be.
    defp contend(store, flow) do
      {:ok, head} = Store.head(store, flow)
      seqs = [head.next_seq, head.next_seq + 1]
      ops = [{:expect, flow, head.height} | for(seq <- seqs, do: put(flow, seq, :tail))]

      case Store.commit(store, ops ++ [sealed(flow, head.height, head.fixed + 1, seqs)]) do
        :ok -> {:ok, flow, head.height}
        {:error, %Error{reason: :stale}} -> :stale
      end
    end

    test "two trees write one flow in turns, each as if it were alone; the epoch grows when the other seals", context do
      opts = opts(context)
      item = fn n -> {"patient/1", %{when: n, kind: "vital", body: "#{n}"}} end
      trees = [first, second] = for _ <- 1..2, do: tree!(opts)
      {:ok, _} = EventSeal.append_many(first, for(n <- 1..5, do: item.(n)))
      {:ok, _} = EventSeal.append_many(second, for(n <- 6..9, do: item.(n)))
      {:ok, _} = EventSeal.append(first, "patient/1", elem(item.(10), 1))
      {:ok, 7} = EventSeal.seal(first, "patient/1")
      {:ok, _} = EventSeal.append_many(second, for(n <- 11..14, do: item.(n)))
      {:ok, 4} = EventSeal.seal(second, "patient/1")
      {:ok, _} = EventSeal.append(first, "patient/1", elem(item.(15), 1))
      {:ok, 1} = EventSeal.seal(first, "patient/1")

      for name <- trees do
        assert {:ok, %{fault_count: 0, events: 15, fixed: 12}} = EventSeal.verify(name)
        assert Enum.map(EventSeal.stream(name, "patient/1"), & &1.body) == Enum.map(1..15, &to_string/1)
      end

      assert [[1], [2], [3]] = owner!(opts, "SELECT epoch FROM block ORDER BY height", [])
      assert {:ok, 2} = Store.lease(handle(second), 0..1023)
    end

    test "a tree that writes a flow without a pause does not keep others from it", context do
      opts = opts(context)
      [busy, other] = for _ <- 1..2, do: tree!(opts)
      event = %{when: 1, kind: "vital", body: "b"}
      stopped = :atomics.new(1, [])
      writing? = fn -> :atomics.get(stopped, 1) == 0 end
      append = fn -> {:ok, _} = EventSeal.append(busy, "patient/1", event) end

      load =
        for _ <- 1..8, do: Task.async(fn -> append |> Stream.repeatedly() |> Enum.find(fn _ -> not writing?.() end) end)

      for n <- 1..40, do: assert({:ok, _} = EventSeal.append(other, "patient/1", event, euid: <<n::128>>))
      :atomics.put(stopped, 1, 1)
      Task.await_many(load, :infinity)
      assert {:ok, %{fault_count: 0}} = EventSeal.verify(other)
    end

    test "who knocks takes a turn and changes nothing; a closed flow stays as it is", context do
      opts = opts(context)
      store = start!({Store.Postgres, opts})
      :ok = Store.commit(store, [{:open, "a", "g"}])
      knock = "SELECT knock(number) FROM flow WHERE id = 'a'"
      owner!(opts, knock, [])
      assert {:ok, %{turn: 1, entries: [], next_seq: 1}} = Store.head(store, "a")
      :ok = Store.commit(store, [put("a", 1, :tail), put("a", 2), put("a", 3, :tail)])
      owner!(opts, knock, [])

      assert {:ok, %{turn: 5, next_seq: 4, entries: [{1, :tail, _, _}, {2, :pool, _, _}, {3, :tail, _, _}]}} =
               Store.head(store, "a")

      :ok = Store.commit(store, [{:drop, "a", 2, euid(2)}, sealed("a", 0, 1, [1, 3])])
      owner!(opts, knock, [])
      assert {:ok, %{turn: 8, next_seq: 4, entries: [], height: 1}} = Store.head(store, "a")
      :ok = Store.commit(store, [sealed("a", 1, 3, [4], closes: true)])
      {:ok, _} = Store.Postgres.sweep(store.name)
      owner!(opts, knock, [])
      assert {:ok, %{turn: 9, closed: true}} = Store.head(store, "a")
    end

    # What a tree has in memory is not what it answers by, where another may have changed it.
    test "what one tree has done the other knows in each of its answers", context do
      opts = opts(context)
      [first, second] = for _ <- 1..2, do: tree!(opts, pool_window: 3_600_000)
      event = %{when: 1, kind: "vital", body: "1"}
      euids = for n <- 1..6, do: <<n::128>>
      for euid <- euids, do: {:ok, _} = EventSeal.append(first, "patient/1", event, euid: euid)
      assert {:ok, _} = EventSeal.amend(second, "patient/1", hd(euids), %{body: "2"}, revision: 0)
      assert {:error, %Error{reason: :revision}} = EventSeal.retract(first, "patient/1", hd(euids), revision: 0)
      assert {:ok, _} = EventSeal.retract(second, "patient/1", hd(euids), revision: 1)
      assert {:error, %Error{reason: :retracted}} = EventSeal.append(first, "patient/1", event, euid: hd(euids))
      assert {:error, %Error{reason: :count}} = EventSeal.append(first, "patient/1", event, expect: 6)
      assert {:ok, %{recorded_at: at}} = EventSeal.append(second, "patient/1", event, euid: <<7::128>>)
      assert {:ok, %{recorded_at: ^at}} = EventSeal.append(first, "patient/1", event, euid: <<7::128>>)

      assert {:error, %Error{reason: :conflict}} =
               EventSeal.append(second, "patient/1", %{event | body: "x"}, euid: <<7::128>>)

      assert {:ok, 6} = EventSeal.settle(second, "patient/1")
      assert {:error, %Error{reason: :settled}} = EventSeal.amend(first, "patient/1", <<2::128>>, %{body: "3"})
      assert {:ok, 0} = EventSeal.settle(first, "patient/1")
      waiting = Task.async(fn -> EventSeal.await_fixed(first, "patient/1", <<7::128>>) end)
      assert {:ok, _} = EventSeal.close(second, "patient/1")
      assert {:error, %Error{reason: :closed}} = EventSeal.append(first, "patient/1", event)
      assert {:ok, %{stage: :fixed, n: 6}} = Task.await(waiting)
      assert {:error, %Error{reason: :not_found}} = EventSeal.settle(first, "patient/2")
      assert {:ok, _} = EventSeal.append(second, "patient/2", event)
      assert {:ok, 1} = EventSeal.settle(first, "patient/2")
      for name <- [first, second], do: assert({:ok, %{fault_count: 0, events: 8}} = EventSeal.verify(name))
    end

    test "a verification store follows what other trees have sealed", context do
      opts = opts(context)
      keeping = tree!(opts, verification: {Store.Memory, []})
      other = tree!(opts)
      {:ok, _} = EventSeal.append_many(other, for(n <- 1..8, do: {"patient/1", %{when: n, kind: "vital"}}))
      {:ok, 5} = EventSeal.seal(other, "patient/1")
      kept? = fn -> match?({:ok, %{verification: %{behind: 0, error: nil}}}, EventSeal.health(keeping)) end
      copied? = fn -> match?({:ok, %{kept: 1, behind: 0, fault_count: 0}}, EventSeal.verify(keeping)) end
      PostgresServer.wait(fn -> kept?.() and copied?.() end, 400)
    end

    test "a checkpoint covers what other trees have written", %{tmp_dir: dir} = context do
      {:ok, _} = Signer.File.generate(Path.join(dir, "log.key"), "ward.example/log")
      opts = opts(context)
      signing = tree!(opts, checkpoints: [signer: {Signer.File, Path.join(dir, "log.key")}, every: :infinity])
      other = tree!(opts)

      for n <- 1..2 do
        {:ok, _} = EventSeal.append_many(other, for(_ <- 1..3, do: {"patient/1", %{when: n, kind: "vital"}}))
        {:ok, _} = EventSeal.checkpoint(signing)
        covered = 3 * n
        assert {:ok, %{n: ^covered, covered: ^covered}} = EventSeal.coverage(signing, "patient/1")
      end
    end
  end

  defp check(name, outcomes) do
    sure = for {flow, euid, {:ok, _}} <- outcomes, do: {flow, euid}
    assert length(sure) > 20
    # A commit may still be awaited; what is read after it is what stands.
    for flow <- Enum.uniq(Enum.map(outcomes, &elem(&1, 0))) do
      PostgresServer.wait(fn -> match?({:ok, _}, EventSeal.settle(name, flow)) end, 400)
      stored = for event <- EventSeal.stream(name, flow), do: event.euid
      assert stored == Enum.uniq(stored)
      for {^flow, euid} <- sure, do: assert(euid in stored)
    end

    assert {:ok, %{fault_count: 0, faults: []}} = EventSeal.verify(name)
  end

  defp load(name, callers) do
    workers = for caller <- 1..callers, do: Task.async(fn -> work(name, "patient/#{caller}", []) end)
    receive(do: (:stop -> :ok))
    for worker <- workers, do: send(worker.pid, :stop)
    workers |> Task.await_many(120_000) |> Enum.concat()
  end

  # An euid of its own makes it safe to ask again, so each is asked until it is known.
  defp work(name, flow, outcomes) do
    receive do
      :stop -> outcomes
    after
      0 ->
        euid = :crypto.strong_rand_bytes(16)

        work(name, flow, [
          {flow, euid, EventSeal.append(name, flow, %{when: 1, kind: "vital", body: "b"}, euid: euid)} | outcomes
        ])
    end
  end

  defp stop(load) do
    send(load.pid, :stop)
    Task.await(load, 120_000)
  end
end
