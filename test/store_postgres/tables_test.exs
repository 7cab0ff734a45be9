defmodule EventSeal.Store.Postgres.TablesTest do
  # Whoever takes away what refuses change, or widens who may do what, is found by the verification, before any row is changed.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  alias EventSeal.{Command, Postgres, PostgresServer, Store, Verdict}

  @moduletag :capture_log
  @moduletag timeout: 120_000

  setup do
    opts = PostgresServer.store!(PostgresServer.shared(), sweep: :infinity)
    name = :"tables_#{System.unique_integer([:positive])}"
    start_supervised!({EventSeal, name: name, store: {Store.Postgres, opts}, pool_window: 0})
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..5, do: {"patient/1", %{when: n, kind: "vital"}}))
    {:ok, _} = EventSeal.seal(name, "patient/1")
    assert {:ok, %Verdict{faults: []}} = EventSeal.verify(name)
    {:ok, name: name, opts: opts, schema: PostgresServer.schema(opts)}
  end

  # With a role that has no rights of its own as SOMEBODY, and the schema as OURS.
  defp alter!(context, sql) do
    somebody = "somebody_#{context.schema}"
    sql = sql |> String.replace("SOMEBODY", somebody) |> String.replace("OURS", context.schema)

    PostgresServer.as_owner!(PostgresServer.shared(), [parameters: [search_path: context.schema]], fn owner ->
      :ok = Postgres.script(owner, "CREATE ROLE #{somebody}; #{sql}")
    end)
  end

  @silent "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
  @changes [
    {"a trigger that is disabled", "ALTER TABLE event DISABLE TRIGGER refuse", "event: trigger refuse is disabled"},
    {"a trigger that sleeps in replicas", "ALTER TABLE leaf ENABLE TRIGGER refuse", "leaf: trigger refuse is changed"},
    {"a trigger that is gone", "DROP TRIGGER refuse ON block", "block: trigger refuse is not there"},
    {"a trigger that lets deletions pass",
     "DROP TRIGGER refuse ON flow; CREATE TRIGGER refuse BEFORE UPDATE OR TRUNCATE ON flow FOR EACH STATEMENT EXECUTE FUNCTION refuse(); ALTER TABLE flow ENABLE ALWAYS TRIGGER refuse",
     "flow: trigger refuse is changed"},
    {"a trigger that calls another function",
     "CREATE FUNCTION public.refuse_OURS() #{@silent}; DROP TRIGGER refuse ON flow; CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON flow FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_OURS(); ALTER TABLE flow ENABLE ALWAYS TRIGGER refuse",
     "flow: trigger refuse is changed"},
    {"a trigger of somebody's own",
     "CREATE FUNCTION public.quiet_OURS() #{@silent}; CREATE TRIGGER quiet BEFORE INSERT ON journal EXECUTE FUNCTION public.quiet_OURS()",
     "journal: trigger quiet is not ours"},
    {"a rule", "CREATE RULE gone AS ON DELETE TO leaf DO INSTEAD NOTHING", "leaf: rule gone is not ours"},
    {"hidden rows", "ALTER TABLE event ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON event USING (true)",
     "event: row security is not ours"},
    {"what refuses, rewritten", "CREATE OR REPLACE FUNCTION refuse() #{@silent}", "refuse(): is changed"},
    {"a function that runs as its owner", "ALTER FUNCTION add_to_log SECURITY DEFINER",
     "add_to_log(): runs as another"},
    {"a function that is gone", "DROP FUNCTION verify", "verify(): is not there"},
    {"a right to delete", "GRANT DELETE ON event TO SOMEBODY", "event: DELETE is granted to somebody_OURS"},
    {"a right to change one column", "GRANT UPDATE (frame) ON event TO SOMEBODY",
     "event: UPDATE is granted to somebody_OURS"},
    {"a right to append, for everybody", "GRANT INSERT ON leaf TO PUBLIC", "leaf: INSERT is granted to PUBLIC"},
    {"a right to empty, for the writers", "GRANT TRUNCATE ON journal TO OURS_writer",
     "journal: TRUNCATE is granted to OURS_writer"},
    {"somebody who may empty the journal", "GRANT OURS_sweeper TO SOMEBODY",
     "OURS_sweeper: is granted to somebody_OURS"},
    {"somebody who may make functions there", "GRANT CREATE ON SCHEMA OURS TO SOMEBODY",
     "OURS: CREATE is granted to somebody_OURS"},
    {"a key that is gone", "ALTER TABLE journal DROP CONSTRAINT journal_pkey",
     "journal: key (flow, turn) is not there"},
    {"an index that let no two blocks begin at one position", "DROP INDEX block_first",
     "block: key (flow, first) is not there"},
    {"a column that can be written", "ALTER TABLE event ALTER COLUMN version DROP EXPRESSION",
     "event: column (version) is not generated"}
  ]

  for {what, sql, row} <- @changes do
    test "#{what}: found and named", context do
      alter!(context, unquote(sql))
      {:ok, verdict} = EventSeal.verify(context.name)
      refute Verdict.ok?(verdict)
      found = for %{flow: "tables", position: 0, class: :tables, row: row} <- verdict.faults, do: row
      row = String.replace(unquote(row), "OURS", context.schema)
      assert found == [if(row =~ ~r/^#{context.schema}/, do: row, else: "#{context.schema}.#{row}")]
    end
  end

  test "what a DBA may well do is no fault", context do
    alter!(
      context,
      "GRANT SELECT ON event TO SOMEBODY; GRANT OURS_reader TO SOMEBODY; GRANT OURS_writer TO SOMEBODY; " <>
        "GRANT USAGE ON SCHEMA OURS TO SOMEBODY; CREATE INDEX own ON event (kind); CREATE VIEW own_view AS SELECT 1; ANALYZE"
    )

    assert {:ok, %Verdict{faults: []}} = EventSeal.verify(context.name)
  end

  test "of one flow the rows are looked at, and not the tables", context do
    alter!(context, "DROP TRIGGER refuse ON block")
    assert {:ok, %Verdict{faults: []}} = EventSeal.verify(context.name, flow: "patient/1")

    copy =
      "INSERT INTO event (flow, n, frame, hash, id) SELECT flow, 9, frame, hash, id FROM event WHERE n = 1; " <>
        "INSERT INTO event (flow, n, frame, hash, id) SELECT 777, 9, frame, hash, id FROM event WHERE n = 1"

    PostgresServer.as_owner!(PostgresServer.shared(), [parameters: [search_path: context.schema]], fn owner ->
      :ok = Postgres.script(owner, copy)
    end)

    assert {:ok, %Verdict{faults: [%{class: :row, position: 9}]}} = EventSeal.verify(context.name, flow: "patient/1")
    assert {:ok, %Verdict{faults: [%{flow: "flow 777"}, _, _]}} = EventSeal.verify(context.name)
  end

  test "columns that lie are found by a check: what is hashed was not touched", context do
    alter!(context, """
    ALTER TABLE event DISABLE TRIGGER refuse; ALTER TABLE block DISABLE TRIGGER refuse;
    CREATE OR REPLACE FUNCTION i64(bytes bytea, at integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN at;
    UPDATE event SET frame = frame WHERE n = 2; UPDATE block SET front = front;
    CREATE OR REPLACE FUNCTION i64(bytes bytea, at integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
      ('x' || encode(substr(bytes, at + 1, 8), 'hex'))::bit(64)::bigint;
    ALTER TABLE event ENABLE ALWAYS TRIGGER refuse; ALTER TABLE block ENABLE ALWAYS TRIGGER refuse
    """)

    url = PostgresServer.url(context.opts)
    parent = self()
    said = capture_io(fn -> send(parent, {:status, Command.setup(["--store", url, "--check"])}) end)
    assert_received {:status, 1}
    assert said =~ "#{context.schema}.event (flow 1, n 2) has columns that are not its frame's"
    refute said =~ "n 1)" or said =~ "writes"
    assert said =~ "#{context.schema}.block (flow 1, height "
    assert said =~ "has columns that are not its header's"
  end

  test "a check of what is as it was made finds nothing, of whatever events", context do
    events = [
      %{when: -1, kind: "ünïcode 😀", who: "nurse/åsa", where: {:place, "ward/Médical ICU"}, version: 65_535},
      %{when: 2, kind: "k\\backslash", where: {:geo, -89.9999999, 179.9999999}},
      %{when: 1, kind: String.duplicate("k", 255), where: {:place, String.duplicate("p", 1_024)}, body: "late"}
    ]

    {:ok, _} = EventSeal.append_many(context.name, for(event <- events, do: {"patient/2", event}))
    {:ok, _} = EventSeal.close(context.name, "patient/2")
    assert {:ok, []} = Store.Postgres.check(context.opts)
  end

  test "the command says it, and shows no password", context do
    alter!(context, "ALTER TABLE event DISABLE TRIGGER refuse")
    url = PostgresServer.url(context.opts)
    parent = self()
    said = capture_io(fn -> send(parent, {:status, Command.verify(["--store", url])}) end)
    assert_received {:status, 1}
    assert said =~ "tables, position 0: tables"
    assert said =~ "#{context.schema}.event: trigger refuse is disabled"
    refute said =~ "writes"
  end
end
