defmodule EventSeal.Store.Postgres.Reader do
  @moduledoc false
  # Reads in the caller's own process: each question is one round trip and of one moment.

  alias EventSeal.{Error, Store}
  alias EventSeal.Store.{Head, Piece}
  alias EventSeal.Store.Postgres.{Client, Parts}

  @last "LEFT JOIN LATERAL (SELECT * FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true"
  @event "e.n, e.frame, e.hash, e.id, e.body, e.erased"
  @greatest 9_223_372_036_854_775_807

  @flow """
  SELECT f.genesis, b.height, b.first, b.count, b.closes, b.next_seq, b.when_top, b.front FROM flow AS f #{@last}
  WHERE f.id = $1
  """

  @journal """
  SELECT j.seq, j.stage, j.next_seq, j.meta, j.data FROM flow AS f #{@last}
  JOIN journal AS j ON j.flow = f.number
  WHERE f.id = $1 ORDER BY j.turn
  """

  # Of a flow with nothing unsealed these are asked for only where $2 says so.
  @last_events """
  SELECT #{@event} FROM flow AS f #{@last}
  JOIN event AS e ON e.flow = f.number AND e.n >= b.first AND e.n < b.first + b.count
  WHERE f.id = $1 AND ($2 OR EXISTS (SELECT FROM journal AS j WHERE j.flow = f.number AND j.seq > b.through))
  ORDER BY e.n
  """

  @spent "SELECT s.euid FROM flow AS f JOIN spent AS s ON s.flow = f.number WHERE f.id = $1 AND s.euid = ANY ($2)"

  @sealed """
  SELECT e.euid, b.height FROM flow AS f JOIN event AS e ON e.flow = f.number,
    LATERAL (SELECT height FROM block WHERE flow = f.number AND first <= e.n ORDER BY first DESC LIMIT 1) AS b
  WHERE f.id = $1 AND e.euid = ANY ($2) ORDER BY e.n
  """

  @number "SELECT number FROM flow WHERE id = $1"

  # From the last block that begins at the first position or before it.
  @blocks """
  SELECT b.height, b.first, b.count, b.front FROM flow AS f JOIN block AS b ON b.flow = f.number
  WHERE f.id = $1 AND b.first <= $3 AND b.first + b.count > $2
    AND b.first >= coalesce((SELECT max(first) FROM block WHERE flow = f.number AND first <= $2), 0)
  ORDER BY b.height
  """

  @block_events """
  WITH range AS (SELECT f.number, min(b.first) AS first, max(b.first + b.count) AS last
    FROM flow AS f JOIN block AS b ON b.flow = f.number
    WHERE f.id = $1 AND b.first <= $3 AND b.first + b.count > $2
      AND b.first >= coalesce((SELECT max(first) FROM block WHERE flow = f.number AND first <= $2), 0)
    GROUP BY f.number)
  SELECT #{@event} FROM range AS r JOIN event AS e ON e.flow = r.number AND e.n >= r.first AND e.n < r.last
  ORDER BY e.n
  """

  @ids "SELECT id FROM flow WHERE id > $1 OR $1 IS NULL ORDER BY id LIMIT $2"

  # Closed flows of few blocks and events.
  @closed """
  SELECT f.number, f.id, b.height FROM flow AS f #{@last}
  WHERE f.id = ANY ($1) AND b.closes AND b.height < 8 AND b.first + b.count <= 2000
  """

  @closed_blocks """
  SELECT flow, height, first, count, front FROM block
  WHERE flow IN (SELECT f.number FROM flow AS f #{@last}
    WHERE f.id = ANY ($1) AND b.closes AND b.height < 8 AND b.first + b.count <= 2000)
  ORDER BY flow, height
  """

  @closed_events """
  SELECT e.flow, #{@event} FROM event AS e
  WHERE e.flow IN (SELECT f.number FROM flow AS f #{@last}
    WHERE f.id = ANY ($1) AND b.closes AND b.height < 8 AND b.first + b.count <= 2000)
  ORDER BY e.flow, e.n
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
    statements = [{@flow, own}, {@journal, own}, {@last_events, own ++ [bool: asked != :unsealed]} | found]

    with {:ok, [rows, journal, events | found]} <- Client.read(client, statements) do
      case rows do
        [] -> {:error, Error.new(:not_found)}
        [row] -> {:ok, row |> sealed(flow, events) |> entries(journal) |> found(found)}
      end
    end
  end

  defp sealed([genesis | [nil | _]], flow, _events), do: {%Head{flow: flow, genesis: :binary.copy(genesis)}, -1}

  defp sealed([genesis, height, first, count, closes, next_seq, when_top, front], flow, events) do
    {%Head{
       flow: flow,
       genesis: :binary.copy(genesis),
       height: height + 1,
       fixed: first + count - 1,
       closed: closes,
       when_max: when_top,
       next_seq: next_seq,
       last_block: if(events != [] or count == 0, do: joined(front, first, count, events)),
       intact: events == [] or length(events) == count
     }, first}
  end

  # The journal's rows in order: the last of an entry counts, and its last data.
  defp entries({head, _first}, journal) do
    {entries, next_seq} = Enum.reduce(journal, {%{}, head.next_seq}, &change/2)
    # Copied, so that one of them does not keep all that was read in memory.
    entries =
      for {seq, {stage, meta, data}} <- Enum.sort(entries), do: {seq, stage, :binary.copy(meta), :binary.copy(data)}

    %{head | entries: entries, next_seq: next_seq}
  end

  defp change([seq, stage, next_seq, meta, data], {entries, before}) do
    entries =
      case stage do
        "block" -> Map.reject(entries, fn {own, _entry} -> own <= seq end)
        "gone" -> Map.delete(entries, seq)
        "pool" -> put(entries, seq, :pool, meta, data)
        "tail" -> put(entries, seq, :tail, meta, data)
      end

    {entries, max(before, next_seq)}
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
    range = [text: flow, int8: from, int8: if(to == :infinity, do: @greatest, else: to)]

    with {:ok, [number, blocks, events]} <-
           Client.read(client, [{@number, [text: flow]}, {@blocks, range}, {@block_events, range}]) do
      if number == [], do: {:error, Error.new(:not_found)}, else: {:ok, pieces(blocks, events)}
    end
  end

  # A block that is not there where its neighbours say that it was is lost.
  defp pieces(blocks, events) do
    {pieces, _events, _last} =
      Enum.reduce(blocks, {[], events, nil}, fn [height, first, count, front], {pieces, events, last} ->
        {own, events} = Enum.split_while(events, fn [n | _] -> n < first + count end)
        own = Enum.drop_while(own, fn [n | _] -> n < first end)
        piece = %Piece{height: height, first: first, count: count, at: {:binary, joined(front, first, count, own)}}
        {[piece | lost(last, piece)] ++ pieces, events, piece}
      end)

    Enum.reverse(pieces)
  end

  defp lost(%Piece{} = last, %Piece{height: height, first: first}) when height > last.height + 1 do
    from = last.first + last.count

    for missing <- (height - 1)..(last.height + 1)//-1,
        do: %Piece{height: missing, first: from, count: first - from, at: :lost}
  end

  defp lost(_last, _piece), do: []

  # An event that is not there leaves its place.
  defp joined(front, first, count, events) do
    by_position = Map.new(events, fn [n | event] -> {n, List.to_tuple(event)} end)
    Parts.join(front, for(n <- first..(first + count - 1)//1, do: Map.get(by_position, n, {nil, nil, nil, nil, nil})))
  end

  @spec flows(Client.t(), Store.flow() | nil, pos_integer, :ids | :blocks) ::
          {:ok, [Store.flow()] | [{Store.flow(), [Piece.t()] | nil}]} | {:error, Error.t()}
  def flows(client, after_flow, limit, what) do
    with {:ok, [rows]} <- Client.read(client, [{@ids, [text: after_flow, int8: limit]}]) do
      ids = for [id] <- rows, do: :binary.copy(id)
      if what == :ids or ids == [], do: {:ok, ids}, else: with_blocks(client, ids)
    end
  end

  # Nothing is added to a closed flow, so it need not be of the same moment.
  defp with_blocks(client, ids) do
    asked = [{[:text], ids}]

    with {:ok, [closed, blocks, events]} <-
           Client.read(client, [{@closed, asked}, {@closed_blocks, asked}, {@closed_events, asked}]) do
      blocks = Enum.group_by(blocks, &hd/1, &tl/1)
      events = Enum.group_by(events, &hd/1, &tl/1)

      closed =
        for [number, id, last] <- closed,
            own = blocks[number],
            length(own) == last + 1,
            into: %{},
            do: {id, {own, events[number] || []}}

      {:ok, for(id <- ids, do: {id, with({own, events} <- closed[id], do: pieces(own, events))})}
    end
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
