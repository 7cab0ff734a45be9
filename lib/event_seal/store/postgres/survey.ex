defmodule EventSeal.Store.Postgres.Survey do
  @moduledoc false
  # Rows that belong to nothing, so that no flow, no block and no log leads to them: a verification that follows these never
  # meets them. Each is looked for by the tables' keys, once for each flow and not for each event.

  alias EventSeal.{Error, Fault, Store}
  alias EventSeal.Store.Postgres.{Client, Tables}

  @page 10_000

  # The numbers of flows that events are of, found by stepping along the key.
  @all """
  WITH RECURSIVE f AS (
    (SELECT flow FROM event ORDER BY flow LIMIT 1)
    UNION ALL
    SELECT (SELECT flow FROM event WHERE flow > f.flow ORDER BY flow LIMIT 1) FROM f WHERE f.flow IS NOT NULL
  )
  """
  @one "WITH f AS (SELECT number AS flow FROM flow WHERE id = $2)"

  # Events behind the last block, before the first position, or of no flow. A verification store has none.
  @events """
  SELECT w.id, e.low, 'event', f.flow, 'n ' || e.low || CASE WHEN e.high > e.low THEN ' to ' || e.high ELSE '' END, ''
  FROM f LEFT JOIN flow AS w ON w.number = f.flow
  LEFT JOIN LATERAL (
    SELECT CASE WHEN digests IS NULL THEN first + count - 1 END AS last FROM block WHERE flow = f.flow
    ORDER BY height DESC LIMIT 1) AS b ON true
  CROSS JOIN LATERAL (
    SELECT min(n) AS low, max(n) AS high FROM event
    WHERE flow = f.flow AND n > CASE WHEN w.id IS NULL THEN #{-0x8000000000000000} ELSE coalesce(b.last, 0) END
    UNION ALL
    SELECT min(n), max(n) FROM event WHERE flow = f.flow AND n < 1 AND w.id IS NOT NULL) AS e
  WHERE f.flow IS NOT NULL AND e.low IS NOT NULL LIMIT $1
  """

  # A block that no reading of its flow meets; one behind which new entries would be taken for sealed ones.
  @blocks """
  SELECT w.id, b.first, 'block', b.flow, 'height ' || b.height, ''
  FROM block AS b LEFT JOIN flow AS w ON w.number = b.flow
  WHERE (w.id IS NULL OR b.height < 0 OR b.first < 1 OR b.next_seq <= b.through)
  """

  # A change that came after the flow's last block, of an entry that was sealed before.
  @journal """
  SELECT w.id, 0, 'journal', j.flow, 'turn ' || j.turn, ''
  FROM journal AS j LEFT JOIN flow AS w ON w.number = j.flow LEFT JOIN LATERAL
    (SELECT turn, through FROM block WHERE flow = j.flow ORDER BY height DESC LIMIT 1) AS b ON true
  WHERE (w.id IS NULL OR j.turn < 1 OR (j.turn > b.turn AND j.seq <= b.through))
  """

  @spent "SELECT NULL, 0, 'spent', s.flow, NULL, '' FROM spent AS s WHERE NOT EXISTS (SELECT FROM flow WHERE number = s.flow) LIMIT $1"

  # Items of the log that have no place in it, and places that have none.
  log =
    for table <- ["leaf", "checkpoint"] do
      """
      SELECT 'log', l.at, '#{table}', NULL, l.key, l.gone FROM (
        SELECT index AS at, 'index ' || index AS key, '' AS gone FROM #{table} WHERE index < 0
        UNION ALL
        SELECT before + 1, 'index ' || before + 1 || CASE WHEN index > before + 2 THEN ' to ' || index - 1 ELSE '' END, ', not there'
        FROM (SELECT index, lag(index, 1, -1::bigint) OVER (ORDER BY index) AS before FROM #{table} WHERE index >= 0) AS i
        WHERE index > before + 1) AS l LIMIT $1
      """
    end

  @log log

  @shards "SELECT number, id, shard FROM flow WHERE number > $1 ORDER BY number LIMIT $2"

  # A frame made again from the columns that were generated from it, and a header from those of its block, by PostgreSQL's own
  # functions alone: ours may have been others when the row was written.
  @event_columns """
  SELECT w.id, e.n, 'event', e.flow, 'n ' || e.n, ' has columns that are not its frame''s'
  FROM event AS e LEFT JOIN flow AS w ON w.number = e.flow, LATERAL (
    SELECT e.euid || int8send(e.happened_at) || int8send(e.recorded_at) || substr(e.frame, 33, 32)
      || set_byte('\\x00', 0, e.late::integer) || substr(e.frame, 66, 2)
      || substr(int4send(octet_length(e.kind)), 3) || convert_to(e.kind, 'UTF8') || substr(int4send(e.version), 3)
      || CASE WHEN e.place IS NOT NULL
           THEN '\\x01' || substr(int4send(octet_length(e.place)), 3) || convert_to(e.place, 'UTF8')
         WHEN e.latitude_e7 IS NOT NULL THEN '\\x02' || int4send(e.latitude_e7) || int4send(e.longitude_e7) ELSE '\\x00' END
      || substr(int4send(coalesce(octet_length(e.who), 0)), 3) || convert_to(coalesce(e.who, ''), 'UTF8') AS frame) AS made
  WHERE made.frame IS DISTINCT FROM substr(e.frame, 1, length(made.frame)) OR length(e.frame) - length(made.frame) > 63
    OR (e.place IS NOT NULL AND (e.latitude_e7 IS NOT NULL OR e.longitude_e7 IS NOT NULL))
  LIMIT $1
  """

  @block_columns """
  SELECT w.id, b.first, 'block', b.flow, 'height ' || b.height, ' has columns that are not its header''s'
  FROM block AS b LEFT JOIN flow AS w ON w.number = b.flow, LATERAL (
    SELECT substr(b.front, length(b.front) - 447, 192) AS bytes) AS h
  WHERE set_byte('\\x00', 0, b.closes::integer) || substr(h.bytes, 4, 1) || int4send(b.count) || int8send(b.height)
      || int8send(b.first) || int8send(b.epoch) || substr(h.bytes, 33, 16) || int8send(b.sealed_at) || substr(h.bytes, 57, 32)
      || b.previous || b.root || b.hash
    IS DISTINCT FROM substr(h.bytes, 3, 150) || substr(b.front, 33, 32)
  LIMIT $1
  """

  @doc "Rows whose generated columns are not what they were generated from. Every row is read."
  @spec columns(Client.t(), pos_integer) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def columns(client, most) do
    with {:ok, rows} <- Client.read(client, for(sql <- [@event_columns, @block_columns], do: {sql, [int8: most]})),
         do: {:ok, named(Enum.concat(rows), client)}
  end

  @doc "What belongs to nothing, and what of the tables is not as they were made; of one flow, its rows alone."
  @spec faults(Client.t(), Store.flow() | nil, pos_integer) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def faults(client, nil, most) do
    asked = [@all <> @events, @blocks <> " LIMIT $1", @journal <> " LIMIT $1", @spent | @log]

    with {:ok, rows} <- Client.read(client, for(sql <- asked, do: {sql, [int8: most]})),
         {:ok, shards} <- shards(client, -1, []),
         {:ok, tables} <- Tables.faults(client),
         do: {:ok, tables ++ named(Enum.concat(rows), client) ++ named(shards, client)}
  end

  def faults(client, flow, most) do
    asked = [@one <> @events, @blocks <> " AND w.id = $2 LIMIT $1", @journal <> " AND w.id = $2 LIMIT $1"]

    with {:ok, rows} <- Client.read(client, for(sql <- asked, do: {sql, [int8: most, text: flow]})),
         do: {:ok, named(Enum.concat(rows), client)}
  end

  # A writer looks for what waits by its shards.
  defp shards(client, last, found) do
    with {:ok, [rows]} <- Client.read(client, [{@shards, [int8: last, int8: @page]}]) do
      wrong =
        for [number, id, shard] <- rows, shard != Store.shard(id), do: [id, 0, "flow", number, "shard #{shard}", ""]

      if length(rows) < @page,
        do: {:ok, found ++ wrong},
        else: shards(client, rows |> List.last() |> hd(), found ++ wrong)
    end
  end

  defp named(rows, client) do
    for [flow, position, table, number, key, gone] <- rows do
      key = Enum.reject([number && "flow #{number}", key], &is_nil/1)

      %Fault{
        flow: if(flow, do: :binary.copy(flow), else: "flow #{number}"),
        position: max(position, 0),
        class: :row,
        row: "#{client.schema}.#{table} (#{Enum.join(key, ", ")})#{gone}"
      }
    end
  end
end
