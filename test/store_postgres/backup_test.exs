defmodule EventSeal.Store.Postgres.BackupTest do
  # A database is backed up by its own means while appends go on; what was acknowledged before the backup began is in it, and
  # it verifies before it is served.
  use ExUnit.Case, async: true

  alias EventSeal.{Postgres, PostgresServer, Store}

  @moduletag timeout: 240_000
  @moduletag :tmp_dir

  setup do
    server = PostgresServer.start!()
    on_exit(fn -> PostgresServer.stop!(server) end)
    {:ok, server: server, opts: PostgresServer.store!(server)}
  end

  test "a dump, restored into another database", %{server: server, opts: opts, tmp_dir: dir} do
    heads = Path.join(dir, "heads")

    {before, _} =
      while_appending(opts, heads, fn -> PostgresServer.tool!(server, "pg_dump", ["-f", dump(server), "postgres"]) end)

    PostgresServer.as_owner!(server, fn owner -> :ok = Postgres.script(owner, "CREATE DATABASE restored") end)
    PostgresServer.tool!(server, "psql", ["-q", "-v", "ON_ERROR_STOP=1", "-f", dump(server), "restored"])
    restored = Keyword.update!(opts, :url, &String.replace(&1, "/postgres?", "/restored?"))
    served(restored, before, heads)
    # What refuses change came along.
    schema = URI.decode_query(URI.parse(opts[:url]).query)["schema"]

    owner =
      PostgresServer.client!(server, [sslmode: "disable"], database: "restored", parameters: [search_path: schema])

    assert {:error, %Postgres.Error{code: "42501"}} = Postgres.run(owner, [{"DELETE FROM event", []}])
    assert {:ok, [%{rows: [[0]]}]} = Postgres.run(owner, [{"SELECT count(*) FROM flow, verify(flow.id)", []}])
  end

  test "a base backup, started as a server of its own", %{server: server, opts: opts, tmp_dir: dir} do
    heads = Path.join(dir, "heads")
    copy = PostgresServer.beside(server)

    {before, _} =
      while_appending(opts, heads, fn ->
        PostgresServer.tool!(server, "pg_basebackup", ["-D", copy.dir <> "/data", "-c", "fast"])
      end)

    copy = PostgresServer.begin(copy)
    on_exit(fn -> PostgresServer.stop!(copy) end)
    served(Keyword.update!(opts, :url, &String.replace(&1, ":#{server.port}/", ":#{copy.port}/")), before, heads)
  end

  defp dump(server), do: server.dir <> "/dump.sql"

  # The heads are written before the backup begins, and appends go on until it has ended.
  defp while_appending(opts, heads, backup) do
    tree =
      start_supervised!({EventSeal, name: Live, store: {Store.Postgres, opts}, pool_window: 0, block: [max_events: 8]},
        id: :live
      )

    {:ok, _} =
      EventSeal.append_many(
        Live,
        for(n <- 1..100, do: {"patient/#{rem(n, 3)}", %{when: n, kind: "vital", body: "#{n}"}})
      )

    {:ok, 3} = EventSeal.Heads.write(Store.handle(Store.Postgres, Live.Store), heads)
    before = for flow <- EventSeal.flows(Live), event <- EventSeal.stream(Live, flow), do: {flow, event.n, event.euid}
    load = Task.async(fn -> append(1) end)
    result = backup.()
    send(load.pid, :stop)
    assert Task.await(load, 60_000) > 1
    Supervisor.stop(tree)
    stop_supervised!(:live)
    {before, result}
  end

  defp append(n) do
    {:ok, _} = EventSeal.append(Live, "patient/#{rem(n, 5)}", %{when: n, kind: "vital", body: "later #{n}"})
    receive(do: (:stop -> n), after: (0 -> append(n + 1)))
  end

  defp served(opts, before, heads) do
    start_supervised!({EventSeal, name: Restored, store: {Store.Postgres, opts}, pool_window: 0}, id: :restored)
    assert {:ok, %{fault_count: 0, faults: []}} = EventSeal.verify(Restored, head: heads)

    there =
      for flow <- EventSeal.flows(Restored), event <- EventSeal.stream(Restored, flow), do: {flow, event.n, event.euid}

    assert before -- there == []

    {:ok, _} =
      EventSeal.append_many(Restored, for(n <- 1..9, do: {"patient/1", %{when: n, kind: "vital", body: "new"}}))

    {:ok, _} = EventSeal.seal(Restored, "patient/1")
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(Restored, head: heads)
    stop_supervised!(:restored)
  end
end
