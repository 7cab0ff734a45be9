defmodule EventSeal.Store.Postgres.Reader do
  @moduledoc false
  # Reads in the caller's own process: each question is one round trip and of one moment.

  alias EventSeal.{Error, Store}
  alias EventSeal.Store.{Head, Piece}
  alias EventSeal.Store.Postgres.{Client, Parts}

  @last "LEFT JOIN LATERAL (SELECT *, true AS now FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true"
  @greatest 9_223_372_036_854_775_807
  @most_bytes 33_554_432

  # A block's sections, put together by the server, some events at a time: what stays in its caches is not copied through
  # memory again and again, and that is most of what reading costs. Where its events are not whole, they are read one by one.
  @part 128
  @columns "b.flow, b.height, b.first, b.count, b.front, b.now, s.part, CASE WHEN b.now THEN b.digests END, p.whole, p.units, p.frames, p.hashes, p.ids, p.lengths, p.bodies"
  @sections """
  CROSS JOIN LATERAL generate_series(0, CASE WHEN b.now AND b.digests IS NULL THEN least((b.count - 1) / #{@part}, 8191) ELSE 0 END) AS s (part)
  LEFT JOIN LATERAL (
    SELECT count(*) = least(b.count - #{@part} * s.part, #{@part}) AND b.count <= 8192 * #{@part}
        AND coalesce(bool_and(length(frame) % 64 = 0 AND length(frame) BETWEEN 64 AND 16320
          AND length(hash) = 32 AND length(id) = 32 AND coalesce(length(body) % 64 = 0 AND body <> '', true)), false) AS whole,
      string_agg(substr(int4send(length(frame) / 64), 4, 1), '') AS units, string_agg(frame, '') AS frames,
      string_agg(hash, '') AS hashes, string_agg(id, '') AS ids,
      string_agg(int4send(coalesce(length(body) / 64, erased | (1 << 31), 0)), '') AS lengths,
      string_agg(coalesce(body, decode(repeat('00', erased * 64), 'hex')), '') AS bodies
    FROM (SELECT * FROM event WHERE flow = b.flow AND n >= b.first + #{@part} * s.part
      AND n < b.first + least(b.count, #{@part} * (s.part + 1)) AND b.now ORDER BY n) AS e
  ) AS p ON true
  """

  @flow """
  SELECT f.genesis, b.height, b.first, b.count, b.closes, b.next_seq, b.when_top, b.turn FROM flow AS f #{@last}
  WHERE f.id = $1
  """

  # What stands in a block already is not read again.
  @journal """
  SELECT j.turn, j.seq, j.stage, j.next_seq, j.meta, j.data FROM flow AS f #{@last}
  JOIN journal AS j ON j.flow = f.number
  WHERE f.id = $1 AND (b.turn IS NULL OR j.turn > b.turn OR j.seq > b.through) ORDER BY j.turn
  """

  # Of a flow with nothing unsealed it is asked for only where $2 says so.
  @last_block """
  SELECT #{@columns} FROM flow AS f #{@last} #{@sections}
  WHERE f.id = $1 AND b.flow IS NOT NULL
    AND ($2 OR EXISTS (SELECT FROM journal AS j WHERE j.flow = f.number AND j.seq > b.through))
  """

  @events "SELECT n, frame, hash, id, body, erased FROM event WHERE flow = $1 AND n >= $2 AND n < $3"

  @spent "SELECT s.euid FROM flow AS f JOIN spent AS s ON s.flow = f.number WHERE f.id = $1 AND s.euid = ANY ($2)"

  @sealed """
  SELECT e.euid, b.height FROM flow AS f JOIN event AS e ON e.flow = f.number,
    LATERAL (SELECT height FROM block WHERE flow = f.number AND first <= e.n ORDER BY first DESC LIMIT 1) AS b
  WHERE f.id = $1 AND e.euid = ANY ($2) ORDER BY e.n
  """

  @number "SELECT number FROM flow WHERE id = $1"

  # From the last block that begins at the first position or before it. So many bytes that they should not all lie in memory
  # at once are left to be read later.
  @blocks """
  SELECT #{@columns} FROM (
    SELECT b.*, sum(i64(b.front, CASE WHEN b.digests IS NULL THEN 16 ELSE 8 END)) OVER () <= $4 AS now FROM flow AS f JOIN block AS b ON b.flow = f.number
    WHERE f.id = $1 AND b.first <= $3 AND b.first + b.count > $2
      AND b.first >= coalesce((SELECT max(first) FROM block WHERE flow = f.number AND first <= $2), 0)
  ) AS b #{@sections}
  """

  @block "SELECT #{@columns} FROM (SELECT *, true AS now FROM block WHERE flow = $1 AND height = $2) AS b #{@sections}"

  @all_spent """
  SELECT f.id, s.euid FROM (SELECT id, number FROM flow
    WHERE (id > $1 OR $1 IS NULL) AND EXISTS (SELECT FROM spent WHERE flow = number) ORDER BY id LIMIT $2) AS f
  JOIN spent AS s ON s.flow = f.number ORDER BY f.id, s.euid
  """

  @ids "SELECT id FROM flow WHERE id > $1 OR $1 IS NULL ORDER BY id LIMIT $2"

  # Closed flows of few blocks and events, each block with its flow's last height.
  @closed """
  SELECT f.id, l.height, #{@columns}
  FROM flow AS f JOIN LATERAL
    (SELECT * FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS l ON l.closes
  JOIN (SELECT *, true AS now FROM block) AS b ON b.flow = f.number #{@sections}
  WHERE f.id = ANY ($1) AND l.height < 8 AND l.first + l.count <= 2000
  """

  @log_size "SELECT (SELECT coalesce(max(index) + 1, 0) FROM leaf), (SELECT coalesce(max(index) + 1, 0) FROM checkpoint)"
  @leaves "SELECT index, data FROM leaf WHERE index >= $1 AND index < $2 ORDER BY index"
  @checkpoints "SELECT index, data FROM checkpoint WHERE index >= $1 AND index < $2 ORDER BY index"

  @waiting """
  WITH entry AS (SELECT DISTINCT ON (flow, seq) flow, seq, stage FROM journal WHERE stage <> 'block'
    ORDER BY flow, seq, turn DESC)
  SELECT f.id, count(*) FILTER (WHERE e.stage = 'pool'), count(*) FILTER (WHERE e.stage = 'tail')
  FROM entry AS e JOIN flow AS f ON f.number = e.flow #{@last}
  WHERE e.stage <> 'gone' AND e.seq > coalesce(b.through, -1) AND f.shard = ANY ($1)
  GROUP BY f.id ORDER BY f.id
  """

  @doc "The flows of these shards with entries that are not sealed."
  @spec waiting(Client.t(), Store.shards()) :: {:ok, [Store.waiting()]} | {:error, Error.t()}
  def waiting(client, shards) do
    with {:ok, [rows]} <- Client.read(client, [{@waiting, [{[:int2], Enum.to_list(shards)}]}]),
         do: {:ok, for([flow, pool, tail] <- rows, do: %{flow: :binary.copy(flow), pool: pool, tail: tail})}
  end

  @spec head(Client.t(), Store.flow(), [Store.euid()] | :unsealed) :: {:ok, Head.t()} | {:error, Error.t()}
  def head(client, flow, asked) do
    euids = if asked == :unsealed, do: [], else: asked
    own = [text: flow]
    found = [{:text, flow}, {[:bytea], euids}]
    found = if euids == [], do: [], else: [{@spent, found}, {@sealed, found}]
    statements = [{@flow, own}, {@journal, own}, {@last_block, own ++ [bool: asked != :unsealed]} | found]

    with {:ok, [rows, journal, last | found]} <- Client.read(client, statements),
         {:ok, last} <- pieces(client, last) do
      case rows do
        [] -> {:error, Error.new(:not_found)}
        [row] -> {:ok, row |> sealed(flow, last) |> entries(journal) |> found(found)}
      end
    end
  end

  defp sealed([genesis | [nil | _]], flow, _last), do: %Head{flow: flow, genesis: :binary.copy(genesis), turn: 0}

  defp sealed([genesis, height, first, count, closes, next_seq, when_top, turn], flow, last) do
    %Head{
      flow: flow,
      genesis: :binary.copy(genesis),
      height: height + 1,
      fixed: first + count - 1,
      closed: closes,
      when_max: when_top,
      turn: turn,
      next_seq: next_seq,
      last_block: with([%Piece{at: {:binary, block}}] <- last, do: block, else: (_none -> nil))
    }
  end

  # The journal's rows in order: the last of an entry counts, and its last data.
  defp entries(head, journal) do
    {entries, next_seq, turn} = Enum.reduce(journal, {%{}, head.next_seq, head.turn}, &change/2)
    # Copied, so that one of them does not keep all that was read in memory.
    entries =
      for {seq, {stage, meta, data}} <- Enum.sort(entries), do: {seq, stage, :binary.copy(meta), :binary.copy(data)}

    %{head | entries: entries, next_seq: next_seq, turn: turn}
  end

  defp change([turn, seq, stage, next_seq, meta, data], {entries, before, last}) do
    entries =
      case stage do
        "block" -> Map.reject(entries, fn {own, _entry} -> own <= seq end)
        "gone" -> Map.delete(entries, seq)
        "pool" -> put(entries, seq, :pool, meta, data)
        "tail" -> put(entries, seq, :tail, meta, data)
      end

    {entries, max(before, next_seq), max(last, turn)}
  end

  defp put(entries, seq, stage, meta, nil) do
    {_stage, _meta, data} = Map.get(entries, seq, {nil, nil, ""})
    Map.put(entries, seq, {stage, meta, data})
  end

  defp put(entries, seq, stage, meta, data), do: Map.put(entries, seq, {stage, meta, data})

  defp found(head, []), do: head

  defp found(head, [spent, sealed]) do
    heights = Enum.group_by(sealed, &hd/1, fn [_euid, height] -> height end)
    heights = Map.new(heights, fn {euid, heights} -> {:binary.copy(euid), Enum.uniq(heights)} end)
    %{head | found: Map.merge(heights, Map.new(spent, fn [euid] -> {:binary.copy(euid), :spent} end))}
  end

  @spec blocks(Client.t(), Store.flow(), Store.positions()) :: {:ok, [Piece.t()]} | {:error, Error.t()}
  def blocks(client, flow, {from, to}) do
    range = [text: flow, int8: from, int8: if(to == :infinity, do: @greatest, else: to), int8: @most_bytes]

    with {:ok, [number, blocks]} <- Client.read(client, [{@number, [text: flow]}, {@blocks, range}]) do
      if number == [], do: {:error, Error.new(:not_found)}, else: pieces(client, blocks)
    end
  end

  # A block that is not there where its neighbours say that it was is lost.
  defp pieces(client, rows) do
    with {:ok, pieces} <- rows |> blocks() |> Error.reduce([], &piece(client, &1, &2)), do: {:ok, Enum.reverse(pieces)}
  end

  # The rows of each block as one, its sections in parts. Sorting them here is cheaper than where they are read.
  defp blocks(rows) do
    rows
    |> Enum.sort_by(fn [_flow, height, _first, _count, _front, _now, part | _] -> {height, part} end)
    |> Enum.chunk_by(fn [_flow, height | _] -> height end)
    |> Enum.map(fn [[flow, height, first, count, front, now, _part, digests | _] | _] = parts ->
      [whole | sections] = parts |> Enum.map(&Enum.drop(&1, 8)) |> Enum.zip_with(& &1)
      [flow, height, first, count, front, now, digests, Enum.all?(whole) | Enum.map(sections, &present/1)]
    end)
  end

  defp present(parts), do: Enum.reject(parts, &is_nil/1)

  defp piece(client, [number, height, first, count | _] = row, pieces) do
    with {:ok, at} <- at(client, number, height, row) do
      piece = %Piece{height: height, first: first, count: count, at: at}
      {:ok, [piece | lost(List.first(pieces), piece)] ++ pieces}
    end
  end

  defp at(client, _number, _height, [_, _, _, _, _, true | _] = row) do
    with {:ok, block} <- block(client, row), do: {:ok, {:binary, block}}
  end

  defp at(client, number, height, [_, _, _, _, <<magic::binary-8, kept::64, length::64, _::binary>>, false | _]),
    do: {:ok, {:read, if(magic == "EVSEALV1", do: kept, else: length), fn -> later(client, number, height) end}}

  defp later(client, number, height) do
    case Client.read(client, [{@block, [int8: number, int8: height]}]) do
      {:ok, [[]]} -> {:error, Error.new(:corrupt, detail: "a block is lost")}
      {:ok, [rows]} -> block(client, rows |> blocks() |> hd())
      {:error, _} = error -> error
    end
  end

  defp lost(%Piece{} = last, %Piece{height: height, first: first}) when height > last.height + 1 do
    from = last.first + last.count

    for missing <- (height - 1)..(last.height + 1)//-1,
        do: %Piece{height: missing, first: from, count: first - from, at: :lost}
  end

  defp lost(_last, _piece), do: []

  defp block(_client, [_, _, _, _, front, _now, digests | _]) when is_binary(digests), do: {:ok, front <> digests}

  defp block(_client, [_, _, _, count, front, _now, nil, true | sections]),
    do: {:ok, Parts.pack(front, count, sections)}

  # An event that is not there leaves its place.
  defp block(client, [number, _height, first, count, front | _not_whole]) do
    with {:ok, [events]} <- Client.read(client, [{@events, [int8: number, int8: first, int8: first + count]}]) do
      events = Map.new(events, fn [n | event] -> {n, List.to_tuple(event)} end)

      {:ok,
       Parts.join(front, for(n <- first..(first + count - 1)//1, do: Map.get(events, n, {nil, nil, nil, nil, nil})))}
    end
  end

  @spec flows(Client.t(), Store.flow() | nil, pos_integer, :ids | :blocks | :spent) ::
          {:ok, [Store.flow()] | [{Store.flow(), [Piece.t()] | nil}] | [{Store.flow(), [Store.euid()]}]}
          | {:error, Error.t()}
  def flows(client, after_flow, limit, :spent) do
    with {:ok, [rows]} <- Client.read(client, [{@all_spent, [text: after_flow, int8: limit]}]) do
      spent = Enum.group_by(rows, &hd/1, fn [_id, euid] -> :binary.copy(euid) end)
      {:ok, for({id, euids} <- Enum.sort(spent), do: {:binary.copy(id), euids})}
    end
  end

  def flows(client, after_flow, limit, what) do
    with {:ok, [rows]} <- Client.read(client, [{@ids, [text: after_flow, int8: limit]}]) do
      ids = for [id] <- rows, do: :binary.copy(id)
      if what == :ids or ids == [], do: {:ok, ids}, else: with_blocks(client, ids)
    end
  end

  # Nothing is added to a closed flow, so it need not be of the same moment.
  defp with_blocks(client, ids) do
    with {:ok, [rows]} <- Client.read(client, [{@closed, [{[:text], ids}]}]),
         {:ok, closed} <- rows |> Enum.group_by(&hd/1) |> Error.reduce(%{}, &closed(client, &1, &2)) do
      {:ok, for(id <- ids, do: {id, closed[id]})}
    end
  end

  # One that is not all there is looked at as any other.
  defp closed(client, {id, [[_id, last | _] | _] = rows}, closed) do
    with {:ok, pieces} <- pieces(client, Enum.map(rows, &Enum.drop(&1, 2))),
         do: {:ok, if(length(pieces) == last + 1, do: Map.put(closed, id, pieces), else: closed)}
  end

  @spec log(Client.t(), Store.log_query()) :: {:ok, [binary] | map} | {:error, Error.t()}
  def log(client, :size) do
    with {:ok, [[[leaves, checkpoints]]]} <- Client.read(client, [{@log_size, []}]),
         do: {:ok, %{leaves: leaves, checkpoints: checkpoints}}
  end

  def log(client, {kind, from, count}) do
    sql = if kind == :leaves, do: @leaves, else: @checkpoints

    with {:ok, [rows]} <- Client.read(client, [{sql, [int8: from, int8: from + count]}]) do
      if Enum.map(rows, &hd/1) == Enum.take(from..(from + count - 1)//1, length(rows)),
        do: {:ok, for([_index, item] <- rows, do: :binary.copy(item))},
        else: {:error, Error.new(:corrupt, detail: "the log has a gap")}
    end
  end
end
