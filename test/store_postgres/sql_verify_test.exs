defmodule EventSeal.Store.Postgres.SqlVerifyTest do
  # The verification in plain SQL, of sealed and settled events and of the log, finds what ours finds, and where.
  use ExUnit.Case, async: true

  alias EventSeal.{Postgres, PostgresServer, Store}
  alias EventSeal.Postgres.Error

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 240_000
  @one "patient/1"
  @two "patient/2"

  # A flow of three blocks and a tail, one that is closed, one that has no block yet, and events that came together as a run.
  setup %{tmp_dir: tmp} do
    {name, opts} = PostgresServer.tree!(tmp, block: [max_events: 5])
    append(name, @one, 1..7)
    append(name, @two, [5, 3, 4])
    append(name, "patient/3", 1..2)
    append(name, "run", 1..7)
    {:ok, _} = EventSeal.seal(name, @one)
    {:ok, _} = EventSeal.checkpoint(name)

    for numbers <- [8..9, 10..12] do
      append(name, @one, numbers)
      {:ok, _} = EventSeal.seal(name, @one)
    end

    {:ok, _} = EventSeal.close(name, @two)
    {:ok, _} = EventSeal.checkpoint(name)
    {:ok, name: name, opts: opts, client: Module.concat([name, "Store", "Client"])}
  end

  defp append(name, flow, numbers) do
    items = for n <- numbers, do: {flow, %{when: 1_000_000 * n, kind: "vital", who: "nurse/7", body: "body #{n}"}}
    {:ok, _} = EventSeal.append_many(name, items)
  end

  defp rows(client, sql, values \\ []) do
    {:ok, [%{rows: rows}]} = Postgres.run(client, [{sql, values}])
    rows
  end

  defp tamper!(context, sql), do: PostgresServer.tamper!(PostgresServer.shared(), context.opts, sql)

  # What the catalogue and the rows' keys say SQL has other means for.
  defp ours(name) do
    {:ok, verdict} = EventSeal.verify(name)
    faults = for %{class: class} = fault when class not in [:row, :tables] <- verdict.faults, do: fault
    Enum.sort(for fault <- faults, uniq: true, do: [fault.flow, fault.position, to_string(fault.class)])
  end

  defp theirs(client) do
    sealed = rows(client, "SELECT f.id, v.n, v.class FROM flow AS f, verify(f.id) AS v")
    Enum.sort(Enum.uniq(sealed ++ rows(client, "SELECT * FROM verify_log()")))
  end

  test "nothing is found in what is as it was settled, sealed and logged, with a log that goes on", context do
    assert ours(context.name) == [] and theirs(context.client) == []
    append(context.name, @one, 13..40)
    {:ok, _} = EventSeal.settle(context.name, @one)
    {:ok, _} = EventSeal.checkpoint(context.name)
    assert ours(context.name) == [] and theirs(context.client) == []
    # A decision, as a rebuilt store has one for each flow.
    store = Store.handle(Store.Postgres, Module.concat(context.name, "Store"))
    {:ok, {chain, head}} = EventSeal.Heads.of(store, @one)
    :ok = Store.commit(store, [{:leaf, EventSeal.Decision.new(chain, head, "looked at").leaf}])
    append(context.name, @one, 41..50)
    {:ok, _} = EventSeal.checkpoint(context.name)
    assert ours(context.name) == [] and theirs(context.client) == []

    assert [[_, _, true], [_, _, true], [_, _, true], [_, size, true]] =
             rows(context.client, "SELECT index, size, holds FROM checkpoints")

    assert {:ok, %{size: ^size}} = EventSeal.checkpoint(context.name)
    assert {:error, %Error{code: "P0002"}} = Postgres.run(context.client, [{"SELECT * FROM verify('nobody')", []}])
  end

  test "the log's root in SQL is the one that is signed, at every size", %{client: client} do
    [[count]] = rows(client, "SELECT count(*) FROM leaf")
    leaves = for [leaf] <- rows(client, "SELECT data FROM leaf ORDER BY index"), do: leaf

    roots =
      rows(client, "SELECT size, root FROM log_roots($1) ORDER BY size", [{[:int8], Enum.to_list(0..(count + 2))}])

    assert roots ==
             for(
               size <- 0..count,
               do: Tuple.to_list(EventSeal.Native.ledger_learn(EventSeal.Native.ledger(), Enum.take(leaves, size)))
             )
  end

  @flow "(SELECT number FROM flow WHERE id = 'patient/1')"
  @turn "(SELECT max(turn) FROM journal WHERE flow = #{@flow} AND stage = 'tail')"
  @last "flow = #{@flow} AND turn = #{@turn}"
  @run "flow = (SELECT number FROM flow WHERE id = 'run') AND stage = 'tail' AND substr(meta, 1, 1) = '\\x03'"
  @flip "set_byte(%, #, get_byte(%, #) # 1)"
  flip = fn what, at -> @flip |> String.replace("%", what) |> String.replace(", #", ", #{at}") end

  @changes [
    {"the body of a settled event", "UPDATE journal SET data = #{flip.("data", 26)} WHERE #{@last}"},
    {"the time of a settled event", "UPDATE journal SET meta = #{flip.("meta", 96)} WHERE #{@last}"},
    {"the hash of a settled event", "UPDATE journal SET meta = #{flip.("meta", 20)} WHERE #{@last}"},
    {"a provisional id", "UPDATE journal SET meta = #{flip.("meta", 50)} WHERE #{@last}"},
    {"the mark of lateness of a settled event", "UPDATE journal SET meta = #{flip.("meta", 137)} WHERE #{@last}"},
    {"a settled event with its hash",
     "UPDATE journal SET meta = overlay(#{flip.("meta", 96)} PLACING h('event', substr(#{flip.("meta", 96)}, 74)) FROM 10) WHERE #{@last}"},
    {"a settled event that is none", "UPDATE journal SET meta = '\\x09' WHERE #{@last}"},
    {"a settled event of a time that is none", "UPDATE journal SET meta = set_byte(meta, 98, 9) WHERE #{@last}"},
    {"the last settled event that is gone", "DELETE FROM journal WHERE #{@last}"},
    {"all settled events that are gone", "DELETE FROM journal WHERE flow = #{@flow} AND stage = 'tail'"},
    {"a body in a run", "UPDATE journal SET data = #{flip.("data", 64 + 26)} WHERE #{@run}"},
    {"an event in a run", "UPDATE journal SET meta = #{flip.("meta", "13 + 69 * i32(meta, 9) + 23")} WHERE #{@run}"},
    {"an event hash in a run",
     "UPDATE journal SET meta = #{flip.("meta", "13 + 5 * i32(meta, 9) + 33")} WHERE #{@run}"},
    {"a provisional id in a run",
     "UPDATE journal SET meta = #{flip.("meta", "13 + 37 * i32(meta, 9) + 33")} WHERE #{@run}"},
    {"the last block's seams behind it",
     "UPDATE block SET front = #{flip.("front", "length(front) - 60")} WHERE flow = #{@flow} AND height = 2"},
    {"a leaf of a block", "UPDATE leaf SET data = #{flip.("data", 60)} WHERE index = 0"},
    {"how far a leaf's block reaches", "UPDATE leaf SET data = #{flip.("data", 49)} WHERE index = 0"},
    {"a leaf of a tail",
     "UPDATE leaf SET data = #{flip.("data", 60)} WHERE index = (SELECT max(index) FROM leaf WHERE get_byte(data, 0) = 2 AND substr(data, 3, 32) = h('flow', (SELECT genesis FROM flow WHERE id = 'patient/1')))"},
    {"a leaf of a flow that is not there", "UPDATE leaf SET data = #{flip.("data", 8)} WHERE index = 0"},
    {"a leaf that is none", "UPDATE leaf SET data = '\\x01' WHERE index = 1"},
    {"the last leaves", "DELETE FROM leaf WHERE index > 5"},
    {"a leaf behind that says another thing of a block",
     "INSERT INTO leaf SELECT (SELECT max(index) + 1 FROM leaf), #{flip.("data", 60)} FROM leaf WHERE index = 0"},
    {"a leaf behind of a block that is not there",
     "INSERT INTO leaf SELECT (SELECT max(index) + 1 FROM leaf), set_byte(data, 41, get_byte(data, 41) # 1) FROM leaf WHERE index = 0"},
    {"a leaf behind of a tail that falls",
     "INSERT INTO leaf SELECT (SELECT max(index) + 1 FROM leaf), (SELECT data FROM leaf WHERE get_byte(data, 0) = 2 AND substr(data, 3, 32) = h('flow', (SELECT genesis FROM flow WHERE id = 'patient/1')) ORDER BY index LIMIT 1)"},
    {"the last block",
     "DELETE FROM block WHERE flow = #{@flow} AND height = (SELECT max(height) FROM block WHERE flow = #{@flow})"},
    {"a block between others", "DELETE FROM block WHERE flow = #{@flow} AND height = 1"},
    {"a flow that is gone", "DELETE FROM flow WHERE id = 'patient/2'"},
    {"an id in a block", "UPDATE event SET id = #{flip.("id", 3)} WHERE flow = #{@flow} AND n = 2"},
    {"a body in a block", "UPDATE event SET body = #{flip.("body", 26)} WHERE flow = #{@flow} AND n = 2"}
  ]

  for {what, sql} <- @changes do
    test "SQL finds #{what}, and where, as we do", context do
      tamper!(context, unquote(sql))
      ours = ours(context.name)
      assert ours != []
      assert theirs(context.client) == ours
    end
  end
end
