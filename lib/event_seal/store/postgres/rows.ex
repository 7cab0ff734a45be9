defmodule EventSeal.Store.Postgres.Rows do
  @moduledoc false
  # A draft as statements: one insert a table, of arrays, however many rows there are.

  alias EventSeal.Store.Postgres.Draft

  @tables [
    flow: [number: :int8, id: :text, shard: :int2, genesis: :bytea],
    spent: [flow: :int8, euid: :bytea],
    journal: [flow: :int8, turn: :int8, seq: :int8, stage: :text, next_seq: :int8, meta: :bytea, data: :bytea],
    block: [flow: :int8, front: :bytea, turn: :int8, through: :int8, next_seq: :int8, when_top: :int8, digests: :bytea],
    event: [flow: :int8, n: :int8, frame: :bytea, hash: :bytea, id: :bytea, body: :bytea, erased: :int4]
  ]

  inserts =
    for {table, columns} <- @tables do
      names = Enum.map_join(columns, ", ", fn {name, _type} -> name end)
      arrays = columns |> Enum.with_index(1) |> Enum.map_join(", ", fn {{_name, type}, n} -> "$#{n}::#{type}[]" end)
      {table, "INSERT INTO #{table} (#{names}) SELECT * FROM unnest(#{arrays})"}
    end

  @inserts Map.new(inserts)
  @begin "SELECT begin_commit($1, $2, $3)"
  @log "SELECT add_to_log($1, $2)"

  @doc "The statements of a commit: its mark, the rows, and last the log, which others wait for."
  @spec statements(Draft.t(), binary, [{0..1023, pos_integer}]) :: [EventSeal.Postgres.statement()]
  def statements(draft, mark, epochs) do
    {shards, epochs} = Enum.unzip(epochs)

    inserts =
      for {table, columns} <- @tables, rows = Draft.rows(draft, table), rows != [], do: insert(table, columns, rows)

    [{@begin, [{:bytea, mark}, {[:int2], shards}, {[:int8], epochs}]} | inserts] ++ log(draft)
  end

  # In one order everywhere, so that two commits never wait for each other.
  defp insert(table, columns, rows) do
    rows = Enum.sort_by(rows, &{elem(&1, 0), elem(&1, 1)})

    values = for {{_name, type}, index} <- Enum.with_index(columns), do: {[type], Enum.map(rows, &elem(&1, index))}

    {Map.fetch!(@inserts, table), values}
  end

  defp log(draft) do
    case {Draft.rows(draft, :leaf), Draft.rows(draft, :checkpoint)} do
      {[], []} -> []
      {leaves, checkpoints} -> [{@log, [{[:bytea], leaves}, {[:bytea], checkpoints}]}]
    end
  end
end
