defmodule EventSeal.PostgresTest do
  # The client against a real server.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias EventSeal.{Postgres, PostgresServer}
  alias EventSeal.Postgres.Error

  @moduletag timeout: 120_000

  setup do
    server = PostgresServer.shared()
    {:ok, server: server, client: PostgresServer.client!(server)}
  end

  test "a statement with parameters", %{client: client} do
    assert Postgres.run(client, [{"SELECT $1 + 1, $2", [int8: 41, text: "é"]}]) ==
             {:ok, [%{rows: [[42, "é"]], count: 1}]}
  end

  test "values come back as they went, at the limits of their types", %{client: client} do
    values = [
      bool: [true, false],
      int2: [0, -1, 32_767, -32_768],
      int4: [0, 2_147_483_647, -2_147_483_648],
      int8: [0, 9_223_372_036_854_775_807, -9_223_372_036_854_775_808],
      oid: [0, 4_294_967_295],
      float8: [0.0, -1.5, 1.7976931348623157e308, 5.0e-324, :infinity, :"-infinity", :nan],
      bytea: ["", <<0, 255>>, :binary.copy(<<7>>, 3_000_000)],
      text: ["", "Åsa 😀", String.duplicate("x", 1_000_000)],
      uuid: [<<0::128>>, <<-1::128>>],
      timestamptz: [0, 1, -1, -2_000_000_000_000_001, 253_402_300_799_999_999, :infinity, :"-infinity"]
    ]

    for {type, list} <- values do
      for value <- [nil | list] do
        assert {:ok, [%{rows: [[^value]]}]} = Postgres.run(client, [{"SELECT $1::#{type}", [{type, value}]}])
      end

      for array <- [[], list, [nil], [nil | list]] do
        assert {:ok, [%{rows: [[^array]]}]} = Postgres.run(client, [{"SELECT $1::#{type}[]", [{[type], array}]}])
      end
    end
  end

  test "a value that is not of its type is a mistake, and is not shown", %{client: client} do
    for {type, value} <-
          [int2: 32_768, int4: -2_147_483_649, int8: 9_223_372_036_854_775_808, oid: -1] ++
            [uuid: "short", bool: 1, text: 'secret', timestamptz: -9_223_372_036_854_775_808] do
      message = assert_raise(ArgumentError, fn -> Postgres.run(client, [{"SELECT $1", [{type, value}]}]) end).message
      refute message =~ "secret" or message =~ "32768"
    end

    parameters = List.duplicate({:int4, 1}, 65_536)
    assert_raise ArgumentError, fn -> Postgres.run(client, [{"SELECT 1", parameters}]) end
  end

  test "as many parameters as the protocol allows", %{client: client} do
    sql = "SELECT " <> Enum.map_join(1..65_535, "+", &"$#{&1}")
    # The server's parser has its own limit on depth; what it says comes back as an error, and the session goes on.
    assert {:error, %Error{code: "54001"}} = Postgres.run(client, [{sql, List.duplicate({:int8, 1}, 65_535)}])
    sql = "SELECT array_length(ARRAY[" <> Enum.map_join(1..65_535, ",", &"$#{&1}") <> "], 1)"
    assert {:ok, [%{rows: [[65_535]]}]} = Postgres.run(client, [{sql, List.duplicate({:int8, 1}, 65_535)}])
  end

  test "statements are one transaction: all, or none", %{client: client} do
    :ok = Postgres.script(client, "CREATE TABLE one (n int8 PRIMARY KEY)")
    insert = fn n -> {"INSERT INTO one VALUES ($1)", [int8: n]} end
    assert {:error, %Error{code: "23505", table: "one"}} = Postgres.run(client, [insert.(1), insert.(2), insert.(1)])
    assert {:ok, [%{rows: []}]} = Postgres.run(client, [{"SELECT n FROM one", []}])
    assert {:ok, [%{count: 1}, %{count: 1}]} = Postgres.run(client, [insert.(1), insert.(2)])
    assert {:ok, [%{rows: [[1], [2]], count: 2}]} = Postgres.run(client, [{"SELECT n FROM one ORDER BY n", []}])
    assert {:ok, [%{count: 2}]} = Postgres.run(client, [{"DELETE FROM one", []}])
  end

  test "a snapshot only reads, and all of one moment", %{server: server, client: client} do
    :ok = Postgres.script(client, "CREATE TABLE moment (n int8); INSERT INTO moment VALUES (0)")
    other = PostgresServer.client!(server)
    count = {"SELECT max(n) FROM moment", []}
    reader = Task.async(fn -> Postgres.run(client, [count, {"SELECT pg_sleep(0.5)", []}, count], snapshot: true) end)
    Process.sleep(100)
    {:ok, _} = Postgres.run(other, [{"INSERT INTO moment VALUES (1)", []}])
    assert {:ok, [%{rows: [[n]]}, _slept, %{rows: [[n]]}]} = Task.await(reader)
    write = {"INSERT INTO moment VALUES (2)", []}
    assert {:error, %Error{code: "25006"}} = Postgres.run(client, [write], snapshot: true)
    assert {:ok, [%{count: 1}]} = Postgres.run(client, [write])
  end

  test "errors of every sort, each with its SQLSTATE, and the session goes on", %{client: client} do
    :ok = Postgres.script(client, "CREATE TABLE serial (n serial)")
    :ok = Postgres.script(client, "CREATE TABLE sort (n int8 PRIMARY KEY CHECK (n > 0), t text NOT NULL)")

    for {code, sql, values} <- [
          {"42601", "SELEC 1", []},
          {"42P01", "SELECT * FROM nowhere", []},
          {"42703", "SELECT nothing FROM sort", []},
          {"42883", "SELECT nothing(1)", []},
          {"42P18", "SELECT $1 IS NULL", []},
          {"42804", "INSERT INTO sort VALUES ($1, 'a')", [text: "x"]},
          {"08P01", "SELECT $2::int8", [int8: 1]},
          {"22012", "SELECT 1 / $1", [int8: 0]},
          {"22003", "SELECT $1 * $1", [int8: 9_223_372_036_854_775_807]},
          {"22021", "SELECT $1", [text: <<255, 254>>]},
          {"22021", "SELECT $1", [text: "a\0b"]},
          {"22P02", "SELECT $1::int4", [text: "secret"]},
          {"23502", "INSERT INTO sort VALUES (1, NULL)", []},
          {"23514", "INSERT INTO sort VALUES (0, 'a')", []},
          {"25001", "VACUUM", []},
          {"57014", "SET statement_timeout = 20; SELECT pg_sleep(1)", :script},
          {"P0001", "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$", []},
          {"55000", "SELECT currval(pg_get_serial_sequence('serial', 'n'))", []},
          {"3F000", "CREATE TABLE nowhere.a (n int)", []}
        ] do
      answer =
        if values == :script,
          do: Postgres.script(client, sql),
          else: Postgres.run(client, [{"SELECT 1", []}, {sql, values}])

      assert {:error, %Error{code: ^code} = error} = answer, "#{sql}: #{inspect(answer)}"
      assert Error.undone?(error)
      assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT 1", []}])
    end
  end

  test "what a server says of values is in no message and no inspection", %{client: client} do
    :ok = Postgres.script(client, "CREATE TABLE secret (t text PRIMARY KEY)")
    insert = {"INSERT INTO secret VALUES ($1)", [text: "patient/4711"]}
    assert {:error, %Error{code: "23505"} = error} = Postgres.run(client, [insert, insert])
    assert error.detail =~ "patient/4711"
    for shown <- [Exception.message(error), inspect(error)], do: refute(shown =~ "4711")
    assert {:error, %Error{code: "22P02"} = error} = Postgres.run(client, [{"SELECT $1::int4", [text: "patient/4711"]}])
    assert error.text =~ "4711"
    for shown <- [Exception.message(error), inspect(error)], do: refute(shown =~ "4711")
  end

  test "notices and changes of parameters in between do not disturb", %{client: client} do
    notice = {"DO $$ BEGIN RAISE NOTICE 'x'; RAISE WARNING 'y'; END $$", []}
    change = {"SET application_name = 'other'", []}
    shout = {"SELECT pg_notify('ward', 'x')", []}
    assert {:ok, results} = Postgres.run(client, [{"LISTEN ward", []}, notice, {"SELECT 1", []}, change, shout, notice])
    assert Enum.at(results, 2).rows == [[1]]
    assert {:ok, [%{rows: [[2]]}]} = Postgres.run(client, [{"SELECT 2", []}])
  end

  test "a session that speaks another encoding is given up", %{server: server} do
    client = PostgresServer.client!(server, [sslmode: "disable"], pool: 1)

    log =
      capture_log(fn ->
        assert {:error, %Error{code: "08007"}} = Postgres.script(client, "SET client_encoding = 'LATIN1'")
        assert {:ok, [%{rows: [["é"]]}]} = Postgres.run(client, [{"SELECT 'é'", []}])
      end)

    assert log =~ "the encoding was changed"
  end

  test "a transaction that was left open is not found by the next", %{server: server} do
    client = PostgresServer.client!(server, [sslmode: "disable"], pool: 1)
    :ok = Postgres.script(client, "CREATE TABLE left_open (n int8)")
    :ok = Postgres.script(client, "BEGIN; INSERT INTO left_open VALUES (1)")
    assert {:ok, [%{rows: []}]} = Postgres.run(client, [{"SELECT n FROM left_open", []}])
    assert {:error, %Error{code: "22012"}} = Postgres.script(client, "BEGIN; SELECT 1/0")
    assert {:ok, [%{rows: []}]} = Postgres.run(client, [{"SELECT n FROM left_open", []}])
  end

  test "tables that change under a prepared statement", %{server: server} do
    client = PostgresServer.client!(server, [sslmode: "disable"], pool: 1)
    :ok = Postgres.script(client, "CREATE TABLE change (n int8); INSERT INTO change VALUES (1)")
    assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT * FROM change", []}])
    :ok = Postgres.script(client, "ALTER TABLE change ADD COLUMN m int8 DEFAULT 2")
    assert {:error, %Error{code: "0A000"}} = Postgres.run(client, [{"SELECT * FROM change", []}])
    assert {:ok, [%{rows: [[1, 2]]}]} = Postgres.run(client, [{"SELECT * FROM change", []}])
    :ok = Postgres.script(client, "DEALLOCATE ALL")
    assert {:error, %Error{code: "26000"}} = Postgres.run(client, [{"SELECT * FROM change", []}])
    assert {:ok, [%{rows: [[1, 2]]}]} = Postgres.run(client, [{"SELECT * FROM change", []}])
  end

  test "more statements than are kept prepared", %{server: server} do
    client = PostgresServer.client!(server, [sslmode: "disable"], pool: 1)

    for n <- [1..300, 1..300], n <- n do
      assert {:ok, [%{rows: [[^n]]}]} = Postgres.run(client, [{"SELECT #{n}", []}])
    end

    assert {:ok, [%{rows: [[256]]}]} = Postgres.run(client, [{"SELECT count(*) FROM pg_prepared_statements", []}])
  end

  test "COPY in and out", %{client: client} do
    :ok = Postgres.script(client, "CREATE TABLE copied (n int8, b bytea, t text[])")
    rows = for n <- 1..5_000, do: [n, if(rem(n, 7) != 0, do: :binary.copy(<<n>>, rem(n, 900))), ["a", nil, "#{n}"]]
    types = [:int8, :bytea, [:text]]
    assert {:ok, 5_000} = Postgres.copy_in(client, "COPY copied FROM STDIN (FORMAT binary)", types, rows)
    sql = "COPY (SELECT * FROM copied ORDER BY n) TO STDOUT (FORMAT binary)"
    assert {:ok, ^rows} = Postgres.copy_out(client, sql, types)
    assert {:ok, []} = Postgres.copy_out(client, "COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)", [:int8])
    assert {:error, %Error{code: "08P01"}} = Postgres.copy_out(client, sql, [:int8])

    assert {:error, %Error{code: "42P01"}} =
             Postgres.copy_in(client, "COPY nowhere FROM STDIN (FORMAT binary)", types, rows)

    assert {:error, %Error{code: code}} =
             Postgres.copy_in(client, "COPY copied FROM STDIN (FORMAT binary)", [:int8], [[1]])

    assert code in ["22P04", "22000"]
    assert {:ok, [%{rows: [[5_000]]}]} = Postgres.run(client, [{"SELECT count(*) FROM copied", []}])
  end

  test "a large answer", %{client: client} do
    sql = "SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) AS n"
    assert {:ok, [%{rows: rows, count: 50_000}]} = Postgres.run(client, [{sql, []}])
    assert List.last(rows) == [50_000, String.duplicate("x", 1000)]
    assert {:ok, [%{rows: [[body]]}]} = Postgres.run(client, [{"SELECT repeat('y', 100000000)", []}])
    assert byte_size(body) == 100_000_000
  end

  test "what takes too long is cancelled, and nothing of it done", %{client: client} do
    :ok = Postgres.script(client, "CREATE TABLE late (n int8)")
    statements = [{"INSERT INTO late VALUES (1)", []}, {"SELECT pg_sleep(30)", []}]
    assert {:error, %Error{code: "57014"} = error} = Postgres.run(client, statements, timeout: 1_000)
    assert Error.undone?(error)
    assert {:ok, [%{rows: []}]} = Postgres.run(client, [{"SELECT n FROM late", []}])
  end

  test "what nobody waits for any more is cancelled", %{client: client} do
    caller = spawn(fn -> Postgres.run(client, [{"SELECT pg_sleep(60), 'nobody'", []}], timeout: 60_000) end)

    asleep =
      {"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%''nobody''%' AND state = 'active' AND pid <> pg_backend_pid()",
       []}

    count = fn -> with {:ok, [%{rows: [[count]]}]} <- Postgres.run(client, [asleep]), do: count end
    PostgresServer.wait(fn -> count.() == 1 end, 600)
    Process.exit(caller, :kill)
    PostgresServer.wait(fn -> count.() == 0 end, 600)
  end

  test "who finds no free connection in time is told so, and nothing was done", %{server: server} do
    client = PostgresServer.client!(server, [sslmode: "disable"], pool: 1)
    busy = Task.async(fn -> Postgres.run(client, [{"SELECT pg_sleep(3)", []}]) end)
    PostgresServer.wait(fn -> map_size(:sys.get_state(client).busy) == 1 end, 600)
    assert {:error, %Error{code: "08001"}} = Postgres.run(client, [{"SELECT 1", []}], timeout: 50)
    assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT 1", []}])
    assert {:ok, _} = Task.await(busy, 60_000)
  end

  test "many callers share few connections", %{client: client} do
    callers = for n <- 1..200, do: Task.async(fn -> Postgres.run(client, [{"SELECT $1", [int8: n]}]) end)
    answers = Task.await_many(callers, 60_000)
    assert answers == for(n <- 1..200, do: {:ok, [%{rows: [[n]], count: 1}]})
  end

  test "a session that the server ends is replaced", %{client: client} do
    kill = {"SELECT pg_terminate_backend(pg_backend_pid())", []}

    capture_log(fn ->
      for _ <- 1..10 do
        assert {:error, %Error{code: code}} = Postgres.run(client, [kill])
        assert code in ["57P01", "08007"]
      end

      assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT 1", []}])
    end)
  end

  test "through a socket in the file system", %{server: server} do
    client = PostgresServer.client!(server, [host: server.dir], host: "")
    assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [{"SELECT 1", []}])
  end

  test "a client that is stopped says so", %{server: server} do
    client = PostgresServer.client!(server)
    stop_supervised!(client)
    assert {:error, %Error{code: "08007"}} = Postgres.run(client, [{"SELECT 1", []}])
  end
end
