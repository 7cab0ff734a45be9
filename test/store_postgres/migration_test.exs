defmodule EventSeal.Store.Postgres.MigrationTest do
  # The tables as a DBA gets them: who may do what, and that the database refuses change.
  use ExUnit.Case, async: true

  alias EventSeal.{Postgres, PostgresServer}
  alias EventSeal.Postgres.Error
  alias EventSeal.Store.Postgres.Migration

  @moduletag timeout: 120_000
  @tables ~w(migration flow event block journal spent leaf checkpoint lease mark)
  # What a role inserts to see whether it may.
  @inserts %{
    "flow" => "INSERT INTO flow VALUES (1, 'patient/1', 0, '\\x00')",
    "journal" => "INSERT INTO journal VALUES (1, 1, 1, 'pool', 2, '\\x00', '\\x00')",
    "spent" => "INSERT INTO spent VALUES (1, '\\x00')",
    "leaf" => "INSERT INTO leaf VALUES (0, '\\x00')",
    "checkpoint" => "INSERT INTO checkpoint VALUES (0, '\\x00')",
    "lease" => "INSERT INTO lease VALUES (1, 1, '\\x00')",
    "mark" => "INSERT INTO mark VALUES ('\\x00')"
  }

  setup do
    server = PostgresServer.shared()
    opts = PostgresServer.store!(server)
    "writer_" <> schema = URI.parse(opts[:url]).userinfo
    path = [parameters: [search_path: schema], pool: 1]
    owner = PostgresServer.client!(server, [sslmode: "disable"], path)

    writer =
      PostgresServer.client!(server, [sslmode: "disable"], path ++ [user: "writer_#{schema}", password: "writes"])

    {:ok, server: server, schema: schema, owner: owner, writer: writer}
  end

  defp run(client, sql), do: Postgres.run(client, [{sql, []}])

  test "it is applied once, and printed as it is applied", %{owner: owner, schema: schema} do
    known = Migration.known()
    assert {:ok, ^known} = Migration.applied(Postgres, owner, schema)
    assert {:ok, []} = Migration.run(owner, schema)
    assert {:ok, 0} = Migration.applied(Postgres, owner, "nothing_here")
    texts = for path <- Enum.sort(Path.wildcard("priv/postgres/*.sql")), do: File.read!(path)
    assert Migration.sql("event_seal") == Enum.zip(1..known, texts)
    assert [{1, other} | rest] = Migration.sql("ward")
    assert other =~ "CREATE SCHEMA ward;" and other =~ "ward_writer" and not (other =~ "event_seal")
    assert Migration.sql("ward", 1) == rest
    assert [] = Migration.sql("ward", known)
  end

  test "a migration that fails leaves nothing", %{owner: owner, schema: schema} do
    assert {:error, %Error{code: "42P06"}} =
             Postgres.script(owner, ["BEGIN;", Migration.sql(schema) |> hd() |> elem(1), "COMMIT;"])

    known = Migration.known()
    assert {:ok, [%{rows: [[^known]]}]} = run(owner, "SELECT count(*) FROM migration")
  end

  test "a writer inserts and reads, and nothing else", %{writer: writer, schema: schema} do
    for {table, sql} <- @inserts do
      assert {:ok, [%{count: 1}]} = run(writer, sql)
      assert {:ok, [%{count: 1}]} = run(writer, "SELECT * FROM #{table}")
    end

    for table <- @tables,
        sql <- changes(table) ++ ["DROP TABLE #{table}", "ALTER TABLE #{table} DISABLE TRIGGER ALL"] do
      assert {:error, %Error{code: "42501"}} = run(writer, sql)
    end

    for sql <-
          ["DROP TRIGGER refuse ON event", "CREATE TABLE mine (n int)", "SET session_replication_role = replica"] ++
            ["INSERT INTO migration VALUES (2)", "SET ROLE #{schema}_sweeper", "SELECT setval('flow_number', 1)"] ++
            ["CREATE OR REPLACE FUNCTION #{schema}.refuse() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'"] do
      assert {:error, %Error{code: "42501"}} = run(writer, sql)
    end
  end

  test "a reader reads", %{server: server, owner: owner, schema: schema} do
    :ok = Postgres.script(owner, "CREATE ROLE reader_#{schema} LOGIN PASSWORD 'reads' IN ROLE #{schema}_reader")
    opts = [user: "reader_#{schema}", password: "reads", parameters: [search_path: schema]]
    reader = PostgresServer.client!(server, [sslmode: "disable"], opts)
    for table <- @tables, do: assert({:ok, _} = run(reader, "SELECT count(*) FROM #{table}"))
    for {_table, sql} <- @inserts, do: assert({:error, %Error{code: "42501"}} = run(reader, sql))

    for sql <- ["SELECT sweep()", "SELECT take('{1}', '\\x00')", "SELECT add_to_log('{}', '{}')"] do
      assert {:error, %Error{code: "42501"}} = run(reader, sql)
    end
  end

  test "nobody else sees anything", %{server: server, owner: owner, schema: schema} do
    :ok = Postgres.script(owner, "CREATE ROLE other_#{schema} LOGIN PASSWORD 'other'")
    other = PostgresServer.client!(server, [sslmode: "disable"], user: "other_#{schema}", password: "other")
    for table <- @tables, do: assert({:error, %Error{code: "42501"}} = run(other, "SELECT * FROM #{schema}.#{table}"))
  end

  test "the owner's mistakes are refused, table by table, and where other triggers sleep", %{owner: owner} do
    for {_table, sql} <- @inserts, do: assert({:ok, _} = run(owner, sql))

    for table <- @tables, sql <- changes(table), setting <- ["origin", "replica"] do
      role = {"SET LOCAL session_replication_role = #{setting}", []}
      assert {:error, %Error{code: "42501", text: text}} = Postgres.run(owner, [role, {sql, []}])
      assert text =~ "is never changed"
    end

    for {table, _sql} <- @inserts, do: assert({:ok, [%{rows: [[1]]}]} = run(owner, "SELECT count(*) FROM #{table}"))
  end

  test "sweeping takes what is not needed any more, and knows the last turn and seq for ever", %{
    owner: owner,
    writer: writer
  } do
    put = fn turn, seq, stage, next, data ->
      {"INSERT INTO journal VALUES (1, #{turn}, #{seq}, '#{stage}', #{next}, '', #{data})", []}
    end

    {:ok, _} =
      Postgres.run(writer, [
        put.(1, 1, "pool", 2, "'a'"),
        put.(2, 1, "pool", 2, "'b'"),
        put.(3, 2, "pool", 3, "'c'"),
        put.(4, 2, "gone", 3, "NULL"),
        put.(5, 1, "tail", 3, "NULL"),
        put.(6, 3, "pool", 4, "'d'"),
        put.(7, 3, "gone", 4, "NULL")
      ])

    assert {:ok, [%{rows: [[4]]}]} = run(writer, "SELECT sweep()")
    # The data of what has settled, that it has settled, and the last turn.
    assert {:ok, [%{rows: [[2], [5], [7]]}]} = run(writer, "SELECT turn FROM journal ORDER BY turn")
    assert {:ok, [%{rows: [[0]]}]} = run(writer, "SELECT sweep()")

    front = String.duplicate("00", 64 + 64 + 448)
    block = "INSERT INTO block (flow, front, turn, through, next_seq) VALUES (1, '\\x#{front}', 8, 1, 4)"
    {:ok, _} = Postgres.run(writer, [{block, []}, put.(8, 1, "block", 4, "NULL")])
    assert {:ok, [%{rows: [[4]]}]} = run(writer, "SELECT sweep()")
    assert {:ok, [%{rows: []}]} = run(writer, "SELECT turn FROM journal")
    assert {:error, %Error{code: "42501"}} = run(owner, "DELETE FROM journal")
  end

  test "columns that are generated cannot be written", %{owner: owner} do
    for {table, column} <- [
          {"event", "kind"},
          {"event", "happened_at"},
          {"event", "who"},
          {"block", "height"},
          {"block", "hash"}
        ] do
      assert {:error, %Error{code: "428C9"}} =
               run(owner, "INSERT INTO #{table} (#{column}) VALUES (NULL::text::#{type(column)})")
    end
  end

  defp type(column) when column in ["kind", "who"], do: "text"
  defp type("hash"), do: "bytea"
  defp type(_column), do: "bigint"

  defp changes(table) do
    column = %{
      "migration" => "version",
      "flow" => "number",
      "leaf" => "index",
      "checkpoint" => "index",
      "lease" => "shard",
      "mark" => "id"
    }

    column = Map.get(column, table, "flow")
    ["UPDATE #{table} SET #{column} = #{column}", "DELETE FROM #{table}", "TRUNCATE #{table}"]
  end
end
