defmodule EventSeal.Store.Postgres.QueriesTest do
  # What a DBA or an analyst asks in SQL says what the verbs say, and the verification in plain SQL finds what ours finds.
  use ExUnit.Case, async: true

  alias EventSeal.{Postgres, PostgresServer, Signer, Store}
  alias EventSeal.Postgres.Error

  @moduletag timeout: 240_000
  @moduletag :tmp_dir

  setup context do
    opts = PostgresServer.store!(PostgresServer.shared(), sweep: :infinity)
    "writer_" <> schema = URI.parse(opts[:url]).userinfo
    key = Path.join(context.tmp_dir, "log.key")
    {:ok, _} = Signer.File.generate(key, "ward.example/log")
    name = :"queries_#{System.unique_integer([:positive])}"
    checkpoints = [signer: {Signer.File, key}, every: :infinity]
    tree = [name: name, store: {Store.Postgres, opts}, checkpoints: checkpoints, block: [max_events: 3]]
    start_supervised!({EventSeal, tree})
    owner = PostgresServer.client!(PostgresServer.shared(), [sslmode: "disable"], parameters: [search_path: schema])
    {:ok, name: name, owner: owner, client: Module.concat([name, "Store", "Client"])}
  end

  defp rows(client, sql, values \\ []) do
    {:ok, [%{rows: rows}]} = Postgres.run(client, [{sql, values}])
    rows
  end

  defp event(n, more \\ %{}),
    do: Map.merge(%{when: 1_000_000 * n, kind: "vital", body: "body #{n}", where: {:place, "ward/#{rem(n, 2)}"}}, more)

  defp fill(name) do
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..12, do: {"patient/1", event(n, %{who: "nurse/é"})}))
    {:ok, _} = EventSeal.append_many(name, for(n <- [5, 3, 4], do: {"patient/2", event(n)}))
    for flow <- ["patient/1", "patient/2"], do: {:ok, _} = EventSeal.settle(name, flow)
    {:ok, _} = EventSeal.seal(name, "patient/1")
    {:ok, _} = EventSeal.close(name, "patient/2")
    {:ok, _} = EventSeal.append_many(name, for(n <- 13..14, do: {"patient/1", event(n)}))
  end

  test "events with their stage, flows, counts and coverage", %{name: name, client: client} do
    fill(name)

    for flow <- ["patient/1", "patient/2"] do
      expected =
        for event <- EventSeal.stream(name, flow) do
          where = with {:place, place} <- event.where, do: place

          [
            event.n,
            "#{event.stage}",
            event.euid,
            event.kind,
            where,
            event.who,
            if(event.stage == :fixed, do: event.body)
          ]
        end

      sql = "SELECT n, stage, euid, kind, place, who, body FROM events WHERE flow = $1"

      assert Enum.sort(rows(client, sql, text: flow)) == Enum.sort(expected)
    end

    assert [["1970-01-01 00:00:12"]] =
             rows(client, "SELECT happened_at::text FROM events WHERE flow = 'patient/1' AND n = 12")

    sql = "SELECT flow, fixed, sandbox, pool, blocks, closed FROM flows ORDER BY flow"
    assert rows(client, sql) == [["patient/1", 9, 3, 2, 3, false], ["patient/2", 4, 0, 0, 1, true]]
    assert [["ward/1", "vital", 7]] = rows(client, "SELECT place, kind, events FROM counts WHERE place = 'ward/1'")
    assert [[0], [0]] = rows(client, "SELECT covered FROM coverage")
    {:ok, _} = EventSeal.checkpoint(name)
    assert rows(client, "SELECT flow, covered FROM coverage ORDER BY flow") == [["patient/1", 12], ["patient/2", 4]]
    {:ok, _} = EventSeal.settle(name, "patient/1")
    assert {:ok, %{covered: 12, n: 14}} = EventSeal.coverage(name, "patient/1")
    assert [[12]] = rows(client, "SELECT covered FROM coverage WHERE flow = 'patient/1'")
  end

  test "SQL finds no fault in what is as it was sealed", %{name: name, client: client} do
    fill(name)
    assert [] = rows(client, "SELECT * FROM verify('patient/1')")
    assert [] = rows(client, "SELECT * FROM verify('patient/2')")
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(name)
    assert {:error, %Error{code: "P0002"}} = Postgres.run(client, [{"SELECT * FROM verify('nobody')", []}])
  end

  @flip "set_byte(%, 7, get_byte(%, 7) # 1)"
  @changes [
    {"a body", "UPDATE event SET body = set_byte(body, 30, get_byte(body, 30) # 1) WHERE n = 5"},
    {"a salt", "UPDATE event SET body = #{String.replace(@flip, "%", "body")} WHERE n = 9"},
    {"a commitment", "UPDATE event SET frame = set_byte(frame, 40, get_byte(frame, 40) # 1) WHERE n = 1"},
    {"a time", "UPDATE event SET frame = set_byte(frame, 20, get_byte(frame, 20) # 1) WHERE n = 4"},
    {"who it was", "UPDATE event SET frame = overlay(frame PLACING '\\x6f' FROM length(frame) - 40) WHERE n = 6"},
    {"an event hash", "UPDATE event SET hash = #{String.replace(@flip, "%", "hash")} WHERE n = 3"},
    {"an id", "UPDATE event SET id = #{String.replace(@flip, "%", "id")} WHERE n = 8"},
    {"an event with its hash",
     "UPDATE event SET frame = set_byte(frame, 40, get_byte(frame, 40) # 1), hash = h('event', set_byte(frame, 40, get_byte(frame, 40) # 1)) WHERE n = 5"},
    {"a body that is gone", "UPDATE event SET body = NULL WHERE n = 3"},
    {"an event that is gone", "DELETE FROM event WHERE n = 2"},
    {"a frame cut short", "UPDATE event SET frame = frame || '\\x00' WHERE n = 7"},
    {"two events swapped",
     "UPDATE event AS e SET frame = o.frame, hash = o.hash, id = o.id, body = o.body FROM event AS o " <>
       "WHERE e.flow = o.flow AND e.n IN (4, 5) AND o.n = 9 - e.n"},
    {"a block's root",
     "UPDATE block SET front = set_byte(front, length(front) - 325, get_byte(front, length(front) - 325) # 1) WHERE height = 1"},
    {"a block's hash", "UPDATE block SET front = set_byte(front, 40, get_byte(front, 40) # 1) WHERE height = 1"},
    {"when a block was sealed",
     "UPDATE block SET front = set_byte(front, length(front) - 395, get_byte(front, length(front) - 395) # 1) WHERE height = 1"},
    {"a seam before",
     "UPDATE block SET front = set_byte(front, length(front) - 250, get_byte(front, length(front) - 250) # 1) WHERE height = 1"},
    {"a seam behind",
     "UPDATE block SET front = set_byte(front, length(front) - 60, get_byte(front, length(front) - 60) # 1) WHERE height = 1"}
  ]

  for {what, sql} <- @changes do
    test "SQL finds #{what}, and where, as we do", %{name: name, client: client, owner: owner} do
      {:ok, _} = EventSeal.append_many(name, for(n <- 1..15, do: {"patient/1", event(n, %{who: "nurse/7"})}))
      {:ok, _} = EventSeal.settle(name, "patient/1")
      {:ok, _} = EventSeal.seal(name, "patient/1")
      off = for table <- ["event", "block"], do: {"ALTER TABLE #{table} DISABLE TRIGGER refuse", []}
      {:ok, results} = Postgres.run(owner, off ++ [{unquote(sql), []}])
      assert List.last(results).count > 0
      {:ok, verdict} = EventSeal.verify(name, flow: "patient/1")
      ours = for fault <- verdict.faults, uniq: true, do: [fault.position, to_string(fault.class)]
      found = rows(client, "SELECT n, class FROM verify('patient/1')")
      assert ours != []
      assert Enum.sort(Enum.uniq(found)) == Enum.sort(ours)
    end
  end
end
