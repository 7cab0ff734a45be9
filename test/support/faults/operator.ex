defmodule EventSeal.Faults.Operator do
  @moduledoc false
  # Who has the server in hand: strikes it, and brings it back some time later. One thing after the other, so whoever asks for
  # the last waits until all is well again.
  alias EventSeal.{Postgres, PostgresServer}
  alias EventSeal.Store.Postgres.Migration

  @schema "event_seal"
  @login "nurse"
  @wait 600

  @doc "Starts it with a server of its own, under settings that let a disk be filled soon."
  def start_link do
    Agent.start_link(
      fn ->
        wal = [
          "max_wal_size=8MB",
          "min_wal_size=2MB",
          "wal_level=minimal",
          "max_wal_senders=0",
          "restart_after_crash=on"
        ]

        server = PostgresServer.start!(settings: wal, initdb: ["--wal-segsize=1"])
        sql!(server, ["CREATE ROLE #{@login} LOGIN PASSWORD 'writes'"])
        server
      end,
      timeout: 120_000
    )
  end

  def stop(operator) do
    PostgresServer.stop!(server(operator))
    Agent.stop(operator)
  end

  @doc "The server, once all is well again."
  def server(operator), do: Agent.get(operator, & &1, :infinity)

  @doc "New tables, and nothing else."
  def fresh(operator) do
    server = server(operator)
    sql!(server, ["DROP SCHEMA IF EXISTS #{@schema} CASCADE"])

    PostgresServer.as_owner!(server, fn owner ->
      {:ok, [1 | _]} = Migration.run(owner, @schema)
      :ok = Postgres.script(owner, "GRANT event_seal_writer TO #{@login}")
    end)
  end

  @doc "A store's options, through a port."
  def options(operator, port) do
    parameters = [sslmode: "disable", schema: @schema]
    PostgresServer.options(server(operator), parameters, user: @login, password: "writes", port: port, pool: 3)
  end

  @doc "Does one of the faults, and has it end after so many milliseconds."
  def strike(operator, fault, wait) do
    Agent.update(operator, &struck(&1, fault), :infinity)
    Agent.cast(operator, fn server -> Process.sleep(wait) && healed(server, fault) end)
  end

  @doc "Waits until there are no sessions but these many, and all are at rest."
  def at_rest(operator, sessions) do
    server = server(operator)

    asked =
      {"SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity WHERE usename = $1",
       [text: @login]}

    PostgresServer.as_owner!(server, fn owner ->
      rest? = fn -> Postgres.run(owner, [asked]) == {:ok, [%{rows: [[sessions.(), 0]], count: 1}]} end
      PostgresServer.wait(rest?, @wait)
    end)
  end

  defp struck(server, {:server, :all}) do
    PostgresServer.signal_all(server, "KILL")
    PostgresServer.halt!(server, "KILL")
  end

  defp struck(server, {:server, signal}), do: PostgresServer.halt!(server, signal)
  defp struck(server, :paused), do: tap(server, &PostgresServer.signal_all(&1, "STOP"))
  defp struck(server, :session), do: sql!(server, [ended()])

  defp struck(server, :backend) do
    for [pid] <- rows!(server, "SELECT pid FROM pg_stat_activity WHERE usename = '#{@login}' LIMIT 1"),
        do: System.cmd("kill", ["-9", "#{pid}"], stderr_to_stdout: true)

    server
  end

  defp struck(server, :crowd), do: sql!(server, ["ALTER ROLE #{@login} CONNECTION LIMIT 0", ended()])

  defp struck(server, :read_only),
    do: sql!(server, ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"])

  # Longer than a statement may take.
  defp struck(server, :slow) do
    function =
      "CREATE FUNCTION #{@schema}.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'"

    trigger = "CREATE TRIGGER slow BEFORE INSERT ON #{@schema}.journal EXECUTE FUNCTION #{@schema}.slow()"
    sql!(server, [function, trigger])
  end

  # Somebody else holds the table for longer than a lock is waited for, and then lets it go.
  defp struck(server, :locked) do
    sql = "BEGIN; LOCK TABLE #{@schema}.journal IN EXCLUSIVE MODE; SELECT pg_sleep(1.2); COMMIT"
    Process.put(:locking, Task.async(fn -> sql!(server, [sql]) end))
    held = "SELECT FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = '#{@schema}.journal'::regclass AND granted"
    PostgresServer.wait(fn -> rows!(server, held) != [] end, @wait)
    server
  end

  defp struck(server, :full) do
    fill(server)
    server
  end

  defp ended, do: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '#{@login}'"

  defp healed(server, {:server, _signal}), do: PostgresServer.begin(server)
  defp healed(server, :paused), do: tap(server, &PostgresServer.signal_all(&1, "CONT"))
  defp healed(server, fault) when fault in [:session, :backend], do: serving(server)
  defp healed(server, :crowd), do: sql!(server, ["ALTER ROLE #{@login} CONNECTION LIMIT -1"])

  defp healed(server, :read_only),
    do: sql!(server, ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"])

  defp healed(server, :slow), do: sql!(server, ["DROP FUNCTION #{@schema}.slow() CASCADE"])

  defp healed(server, :locked) do
    :locking |> Process.delete() |> Task.await(:infinity)
    server
  end

  defp healed(server, :full) do
    File.rm(ballast(server))
    serving(server)
  end

  # A server that found no room for its log has ended itself, and somebody starts it again.
  defp serving(server) do
    server =
      if PostgresServer.ended?(server), do: server |> PostgresServer.cleared() |> PostgresServer.begin(), else: server

    asked = fn -> PostgresServer.as_owner!(server, &Postgres.run(&1, [{"SELECT 1", []}], timeout: 2_000)) end

    cond do
      match?({:ok, _}, asked.()) -> server
      true -> Process.sleep(20) && serving(server)
    end
  end

  defp ballast(server), do: Path.join(server.dir, "ballast")

  defp fill(server) do
    {:ok, file} = :file.open(ballast(server), [:raw, :write])
    pour(file, :binary.copy("x", 4096))
    :ok = :file.close(file)
  end

  defp pour(file, piece), do: with(:ok <- :file.write(file, piece), do: pour(file, piece))

  # Each for itself; whatever the server's settings are meanwhile, these are to be written.
  defp sql!(server, statements) do
    PostgresServer.as_owner!(server, fn owner ->
      for sql <- statements, do: :ok = Postgres.script(owner, sql, timeout: 60_000)
    end)

    server
  end

  defp rows!(server, sql) do
    PostgresServer.as_owner!(server, fn owner ->
      {:ok, [%{rows: rows}]} = Postgres.run(owner, [{sql, []}])
      rows
    end)
  end
end
