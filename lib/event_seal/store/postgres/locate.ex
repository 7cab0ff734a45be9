defmodule EventSeal.Store.Postgres.Locate do
  @moduledoc false
  # Which row a fault lies in: the table and its key; and whether there is such a row at all.

  alias EventSeal.{Error, Fault}
  alias EventSeal.Store.Postgres.Client

  # What is a block's and not an event's, also where a position is named.
  @of_block [:height, :position, :root, :block_hash, :when_range, :sealed_at, :epoch, :previous, :seam, :close, :read] ++
              [:missing, :log]

  @rows """
  SELECT f.number, coalesce(b.fixed, 0), coalesce(a.height, at.height),
    EXISTS (SELECT FROM block WHERE flow = f.number AND height = coalesce(a.height, at.height)),
    EXISTS (SELECT FROM event WHERE flow = f.number AND n = a.n), j.turn
  FROM unnest($1::text[], $2::int8[], $3::int8[]) WITH ORDINALITY AS a (id, n, height, nth)
  LEFT JOIN flow AS f ON f.id = a.id
  LEFT JOIN LATERAL (
    SELECT first + count - 1 AS fixed FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true
  LEFT JOIN LATERAL (
    SELECT height FROM block WHERE flow = f.number AND first <= greatest(a.n, 1) AND a.n <= b.fixed
    ORDER BY first DESC LIMIT 1) AS at ON true
  LEFT JOIN LATERAL (
    SELECT max(turn) AS turn FROM journal
    WHERE flow = f.number AND stage = 'tail' AND a.n > coalesce(b.fixed, 0) AND length(meta) >= 13 AND
      CASE get_byte(meta, 0) WHEN 2 THEN i64(meta, 1) = a.n
        WHEN 3 THEN a.n BETWEEN i64(meta, 1) AND i64(meta, 1) + i32(meta, 9) - 1 ELSE false END) AS j ON true
  ORDER BY a.nth
  """

  @doc "For each fault `schema.table (key)`, nil where it lies in no row."
  @spec rows(Client.t(), [Fault.t()]) :: {:ok, [String.t() | nil]} | {:error, Error.t()}
  def rows(client, faults) do
    asked = [{[:text], Enum.map(faults, & &1.flow)}, {[:int8], Enum.map(faults, & &1.position)}]

    with {:ok, [rows]} <- Client.read(client, [{@rows, asked ++ [{[:int8], Enum.map(faults, & &1.block)}]}]),
         do: {:ok, Enum.zip_with(faults, rows, &in_schema(client, row(&1, &2)))}
  end

  defp in_schema(_client, nil), do: nil
  defp in_schema(client, rows), do: rows |> List.wrap() |> Enum.map_join(", ", &"#{client.schema}.#{&1}")

  defp row(%{flow: "log"} = fault, _found), do: log(fault)
  defp row(%{flow: "genesis " <> _}, _found), do: "flow, not there"
  defp row(%{flow: nil}, _found), do: nil
  defp row(%{class: :rolled_back}, [nil | _]), do: "flow, not there"
  defp row(_fault, [nil | _]), do: nil

  defp row(%{class: :genesis}, [number, _fixed, height, _block?, _event?, _turn]),
    do: ["flow (number #{number})", "block (flow #{number}, height #{height || 0})"]

  # A block that cannot be read may be one whose events are none.
  defp row(%{class: class} = fault, [number, fixed, height, block?, event?, turn]) do
    of_block? = class in @of_block and height != nil

    cond do
      of_block? and block? -> "block (flow #{number}, height #{height})"
      not of_block? and fault.position <= fixed -> there("event (flow #{number}, n #{fault.position})", event?)
      turn != nil -> "journal (flow #{number}, turn #{turn})"
      of_block? -> there("block (flow #{number}, height #{height})", false)
      true -> "journal (flow #{number}), not there"
    end
  end

  defp log(%{class: :checkpoint, position: index}), do: "checkpoint (index #{index})"
  defp log(%{class: :missing, position: index}), do: "leaf (index #{index}), not there"
  defp log(%{class: :rolled_back, recorded: size}), do: "leaf (index #{size}), not there"
  defp log(%{class: :log, position: size, recorded: <<_::256>>, side: nil}), do: "leaf (index 0 to #{size - 1})"

  # Of many that were asked for at once.
  defp log(%{class: :read, position: from}), do: "leaf (from index #{from})"
  defp log(%{position: index}), do: "leaf (index #{index})"

  defp there(row, true), do: row
  defp there(row, false), do: row <> ", not there"
end
