defmodule EventSeal.Store.Postgres.Loading do
  @moduledoc false
  # Flows as the tables have them, in what must be known to add to them.

  alias EventSeal.Postgres
  alias EventSeal.Store.Postgres.Client
  alias EventSeal.Store.Postgres.Draft.Flow

  @flows """
  SELECT f.id, f.number, b.height, b.first, b.count, b.closes, b.turn, b.next_seq, b.through
  FROM flow AS f LEFT JOIN LATERAL
    (SELECT * FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true
  WHERE f.id = ANY ($1)
  """

  # What stands in a block already tells nothing more.
  @journal """
  SELECT f.id, j.turn, j.seq, j.stage, j.next_seq
  FROM flow AS f JOIN journal AS j ON j.flow = f.number LEFT JOIN LATERAL
    (SELECT turn, through FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true
  WHERE f.id = ANY ($1) AND (b.turn IS NULL OR j.turn > b.turn OR j.seq > b.through)
  ORDER BY j.flow, j.turn
  """

  @turns """
  SELECT f.id, greatest((SELECT max(turn) FROM journal WHERE flow = f.number),
    (SELECT turn FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1), 0)
  FROM flow AS f WHERE f.id = ANY ($1)
  """

  @numbers "SELECT nextval('flow_number') FROM generate_series(1, $1)"

  @doc "The flows of these ids, nil for one that is not there."
  @spec flows(Client.t(), [String.t()]) :: {:ok, %{optional(String.t()) => struct | nil}} | {:error, Postgres.Error.t()}
  def flows(client, ids) do
    asked = [{[:text], ids}]

    with {:ok, [%{rows: flows}, %{rows: journal}]} <-
           Client.run(client, [{@flows, asked}, {@journal, asked}], snapshot: true) do
      found = Map.new(flows, fn [id | row] -> {:binary.copy(id), flow(id, row)} end)
      {:ok, Enum.reduce(journal, Map.merge(Map.new(ids, &{&1, nil}), found), &journaled/2)}
    end
  end

  defp flow(id, [number | [nil | _]]), do: %Flow{id: :binary.copy(id), number: number}

  defp flow(id, [number, height, first, count, closes, turn, next_seq, through]) do
    %Flow{
      id: :binary.copy(id),
      number: number,
      height: height + 1,
      fixed: first + count - 1,
      closed: closes,
      turn: turn,
      next_seq: next_seq,
      through: through
    }
  end

  # The flow's row was there, or the journal's would not have been joined to it.
  defp journaled([id, turn, seq, stage, next_seq], flows) do
    Map.update!(flows, id, fn flow ->
      pool =
        if stage == "pool" and seq > flow.through, do: MapSet.put(flow.pool, seq), else: MapSet.delete(flow.pool, seq)

      %{flow | turn: max(flow.turn, turn), next_seq: max(flow.next_seq, next_seq), pool: pool}
    end)
  end

  @doc "The last turns of those of these flows that are there."
  @spec turns(Client.t(), [String.t()]) :: {:ok, %{String.t() => non_neg_integer}} | {:error, Postgres.Error.t()}
  def turns(client, ids) do
    with {:ok, [%{rows: rows}]} <- Client.run(client, [{@turns, [{[:text], ids}]}], []),
         do: {:ok, Map.new(rows, &List.to_tuple/1)}
  end

  @doc "New numbers for flows that begin."
  @spec numbers(Client.t(), pos_integer) :: {:ok, [pos_integer]} | {:error, Postgres.Error.t()}
  def numbers(client, count) do
    with {:ok, [%{rows: rows}]} <- Client.run(client, [{@numbers, [int4: count]}], []), do: {:ok, List.flatten(rows)}
  end
end
