defmodule EventSeal.Store.Postgres.SuperuserTest do
  # What a superuser does behind the database's refusals is found by the verification, with the table and the row named.
  use ExUnit.Case, async: true

  alias EventSeal.{Fault, PostgresServer, Verdict}

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 240_000
  @one "patient/1"
  @two "patient/2"

  # A flow of two blocks and a tail, one that is closed, and one that has no block, under two checkpoints.
  setup %{tmp_dir: tmp} do
    {name, opts} = PostgresServer.tree!(tmp, block: [max_events: 4])
    append = fn flow, numbers -> for(n <- numbers, do: {flow, %{when: n, kind: "vital", body: "body #{n}"}}) end
    {:ok, _} = EventSeal.append_many(name, append.(@one, 1..7))
    {:ok, _} = EventSeal.append_many(name, append.(@two, 1..3) ++ append.("patient/3", 1..2))
    {:ok, _} = EventSeal.seal(name, @one)
    {:ok, _} = EventSeal.checkpoint(name)
    {:ok, _} = EventSeal.append_many(name, append.(@one, 8..11))
    {:ok, _} = EventSeal.seal(name, @one)
    {:ok, _} = EventSeal.close(name, @two)
    {:ok, _} = EventSeal.checkpoint(name)
    assert {:ok, %Verdict{fault_count: 0, faults: [], fixed: 12, events: 17}} = EventSeal.verify(name)
    {:ok, name: name, opts: opts, schema: PostgresServer.schema(opts)}
  end

  defp tamper!(context, sql), do: PostgresServer.tamper!(PostgresServer.shared(), context.opts, sql)

  # Each fault as {flow, position, class, row}, without the schema, which is always the same.
  defp faults(context, opts \\ []) do
    {:ok, verdict} = EventSeal.verify(context.name, opts)
    refute Verdict.ok?(verdict)

    for fault <- verdict.faults do
      assert fault.row == nil or String.starts_with?(fault.row, context.schema <> ".")
      assert Fault.to_line(fault) =~ (fault.row || "")
      {fault.flow, fault.position, fault.class, fault.row && String.replace(fault.row, context.schema <> ".", "")}
    end
  end

  # The numbers of the flows: 1, 2 and 3, in the order in which they begin.
  @flow "(SELECT number FROM flow WHERE id = 'patient/1')"
  @other "(SELECT number FROM flow WHERE id = 'patient/2')"
  @turn "(SELECT max(turn) FROM journal WHERE flow = #{@flow} AND stage = 'tail')"
  @copy "INSERT INTO event (flow, n, frame, hash, id, body) SELECT %, frame, hash, id, body FROM event WHERE flow = #{@flow} AND n = 2"
  @changes [
    {"an event behind the last block", String.replace(@copy, "%", "flow, 9"), {@one, 9, :row, "event (flow F1, n 9)"}},
    {"events far behind the last block",
     [String.replace(@copy, "%", "flow, 70"), String.replace(@copy, "%", "flow, 72")],
     {@one, 70, :row, "event (flow F1, n 70 to 72)"}},
    {"an event before the first", String.replace(@copy, "%", "flow, 0"), {@one, 0, :row, "event (flow F1, n 0)"}},
    {"an event of a flow without a block",
     String.replace(@copy, "%", "(SELECT number FROM flow WHERE id = 'patient/3'), 1"),
     {"patient/3", 1, :row, "event (flow F3, n 1)"}},
    {"an event of no flow", String.replace(@copy, "%", "777, 1"), {"flow 777", 1, :row, "event (flow 777, n 1)"}},
    {"an event that is gone", "DELETE FROM event WHERE flow = #{@flow} AND n = 3",
     {@one, 3, :event_hash, "event (flow F1, n 3), not there"}},
    {"all of a block's events", "DELETE FROM event WHERE flow = #{@flow} AND n > 4",
     {@one, 5, :event_hash, "event (flow F1, n 5), not there"}},
    {"an event moved to another flow", "UPDATE event SET flow = #{@other}, n = 5 WHERE flow = #{@flow} AND n = 3",
     {@two, 5, :row, "event (flow F2, n 5)"}},
    {"a frame that does not fit",
     "UPDATE event SET frame = set_byte(frame, 30, get_byte(frame, 30) # 1) WHERE flow = #{@flow} AND n = 6",
     {@one, 6, :event_hash, "event (flow F1, n 6)"}},
    {"a body", "UPDATE event SET body = set_byte(body, 26, get_byte(body, 26) # 1) WHERE flow = #{@flow} AND n = 6",
     {@one, 6, :commitment, "event (flow F1, n 6)"}},
    {"a body that is gone", "UPDATE event SET body = NULL WHERE flow = #{@flow} AND n = 6",
     {@one, 6, :body_missing, "event (flow F1, n 6)"}},
    {"an id", "UPDATE event SET id = set_byte(id, 0, get_byte(id, 0) # 1) WHERE flow = #{@flow} AND n = 6",
     {@one, 6, :id, "event (flow F1, n 6)"}},
    {"a frame cut short", "UPDATE event SET frame = frame || '\\x00' WHERE flow = #{@flow} AND n = 6",
     {@one, 6, :event_hash, "event (flow F1, n 6)"}},
    {"two events swapped",
     "UPDATE event AS e SET frame = o.frame, hash = o.hash, id = o.id, body = o.body FROM event AS o " <>
       "WHERE e.flow = #{@flow} AND o.flow = e.flow AND e.n IN (2, 3) AND o.n = 5 - e.n",
     {@one, 2, :id, "event (flow F1, n 2)"}},
    {"a block of no flow",
     "INSERT INTO block (flow, front, turn, through, next_seq) SELECT 777, front, 1, 1, 2 FROM block WHERE height = 0 LIMIT 1",
     {"flow 777", 1, :row, "block (flow 777, height 0)"}},
    {"a block's time",
     "UPDATE block SET front = set_byte(front, length(front) - 395, get_byte(front, length(front) - 395) # 1) WHERE flow = #{@flow} AND height = 1",
     {@one, 5, :block_hash, "block (flow F1, height 1)"}},
    {"a block that is gone", "DELETE FROM block WHERE flow = #{@flow} AND height = 0",
     {@one, 1, :log, "block (flow F1, height 0), not there"}},
    {"the last block", "DELETE FROM block WHERE flow = #{@flow} AND height = 1",
     {@one, 5, :row, "event (flow F1, n 5 to 8)"}},
    {"a block moved to another flow",
     "UPDATE block SET flow = #{@other}, front = overlay(front PLACING '\\x0000000000000007' FROM length(front) - 439) WHERE flow = #{@flow} AND height = 1",
     {@two, 5, :genesis, "flow (number F2), block (flow F2, height 7)"}},
    {"what a block took up of the journal", "UPDATE block SET next_seq = 1 WHERE flow = #{@flow} AND height = 1",
     {@one, 5, :row, "block (flow F1, height 1)"}},
    {"a settled event",
     "UPDATE journal SET meta = set_byte(meta, 96, get_byte(meta, 96) # 1) WHERE flow = #{@flow} AND turn = #{@turn}",
     {@one, 11, :event_hash, "journal (flow F1, turn T)"}},
    {"the body of a settled event",
     "UPDATE journal SET data = set_byte(data, 26, get_byte(data, 26) # 1) WHERE flow = #{@flow} AND turn = #{@turn}",
     {@one, 11, :commitment, "journal (flow F1, turn T)"}},
    {"a settled event that is none", "UPDATE journal SET meta = '\\x09' WHERE flow = #{@flow} AND turn = #{@turn}",
     {@one, 9, :format, "journal (flow F1, turn T)"}},
    {"settled events that are gone", "DELETE FROM journal WHERE flow = #{@flow} AND stage = 'tail'",
     {@one, 11, :log, "journal (flow F1), not there"}},
    {"settled events of a flow without a block",
     "DELETE FROM journal WHERE flow = (SELECT number FROM flow WHERE id = 'patient/3')",
     {"patient/3", 2, :log, "journal (flow F3), not there"}},
    {"a change of no flow", "INSERT INTO journal VALUES (777, 1, 1, 'pool', 2, '', '')",
     {"flow 777", 0, :row, "journal (flow 777, turn 1)"}},
    {"a change of what was sealed",
     "INSERT INTO journal SELECT flow, 99, 1, 'tail', 2, meta, data FROM journal WHERE flow = #{@flow} AND turn = #{@turn}",
     {@one, 0, :row, "journal (flow F1, turn 99)"}},
    {"a retracted name of no flow", "INSERT INTO spent VALUES (777, '\\x00')",
     {"flow 777", 0, :row, "spent (flow 777)"}},
    {"a flow's genesis", "UPDATE flow SET genesis = set_byte(genesis, 12, 1) WHERE id = 'patient/1'",
     {@one, 9, :genesis, "flow (number F1), block (flow F1, height 0)"}},
    {"a flow's id", "UPDATE flow SET id = 'patient/9' WHERE id = 'patient/1'",
     {"patient/9", 1, :genesis, "flow (number F1), block (flow F1, height 0)"}},
    {"a flow's share", "UPDATE flow SET shard = 1023 - shard WHERE id = 'patient/1'",
     {@one, 0, :row, "flow (flow F1, shard S)"}},
    {"a flow", "DELETE FROM flow WHERE id = 'patient/2'", {"flow F2", 1, :row, "event (flow F2, n 1 to 4)"}},
    {"a leaf", "UPDATE leaf SET data = set_byte(data, 50, get_byte(data, 50) # 1) WHERE index = 0",
     {"log", 8, :log, "leaf (index 0 to 7)"}},
    {"a leaf that is none", "UPDATE leaf SET data = '\\x01' WHERE index = 2", {"log", 2, :log, "leaf (index 2)"}},
    {"a leaf that is gone", "DELETE FROM leaf WHERE index = 2", {"log", 2, :row, "leaf (index 2), not there"}},
    {"the last leaves", "DELETE FROM leaf WHERE index > 4", {"log", 8, :rolled_back, "leaf (index 5), not there"}},
    {"a leaf of no flow",
     "INSERT INTO leaf SELECT 8, set_byte(data, 8, get_byte(data, 8) # 1) FROM leaf WHERE index = 0",
     {"genesis", 1, :log, "flow, not there"}},
    {"a leaf behind the last",
     "INSERT INTO leaf SELECT 8, set_byte(data, 40, get_byte(data, 40) # 1) FROM leaf WHERE index = 0",
     {@one, 4, :log, "block (flow F1, height 256), not there"}},
    {"a leaf far behind the last", "INSERT INTO leaf VALUES (900, '\\x00')",
     {"log", 8, :row, "leaf (index 8 to 899), not there"}},
    {"a leaf before the first", "INSERT INTO leaf VALUES (-1, '\\x00')", {"log", 0, :row, "leaf (index -1)"}},
    {"a checkpoint", "UPDATE checkpoint SET data = set_byte(data, 90, get_byte(data, 90) # 1) WHERE index = 1",
     {"log", 1, :checkpoint, "checkpoint (index 1)"}},
    {"an earlier checkpoint", "UPDATE checkpoint SET data = set_byte(data, 90, get_byte(data, 90) # 1) WHERE index = 0",
     {"log", 0, :checkpoint, "checkpoint (index 0)"}},
    {"a checkpoint that is gone", "DELETE FROM checkpoint WHERE index = 0",
     {"log", 0, :row, "checkpoint (index 0), not there"}},
    {"a checkpoint before the first", "INSERT INTO checkpoint VALUES (-1, '\\x00')",
     {"log", 0, :row, "checkpoint (index -1)"}}
  ]

  for {what, sql, expected} <- @changes do
    test "#{what}: found and named", context do
      numbers = flows(context)
      tamper!(context, unquote(sql))
      found = faults(context)
      {flow, position, class, row} = unquote(Macro.escape(expected))
      row = Regex.replace(~r/F(\d)/, row, fn _, n -> "#{numbers["patient/#{n}"]}" end)
      flow = Regex.replace(~r/F(\d)/, flow, fn _, n -> "#{numbers["patient/#{n}"]}" end)
      row = Regex.compile!("^" <> (row |> Regex.escape() |> String.replace(~r/\b[TS]\b/, "\\d+")) <> "$")

      assert Enum.any?(found, fn {own_flow, own_position, own_class, own_row} ->
               String.starts_with?(own_flow, flow) and {own_position, own_class} == {position, class} and
                 (own_row || "") =~ row
             end),
             inspect(found, pretty: true)
    end
  end

  defp flows(context) do
    PostgresServer.as_owner!(PostgresServer.shared(), [parameters: [search_path: context.schema]], fn owner ->
      {:ok, [%{rows: rows}]} = EventSeal.Postgres.run(owner, [{"SELECT id, number FROM flow", []}])
      Map.new(rows, &List.to_tuple/1)
    end)
  end
end
