defmodule EventSeal.Store.Postgres.Rows do
  @moduledoc false
  # A draft as statements: one insert a table, of arrays, however many rows there are. Events come as the sections of their
  # blocks, and the server cuts them: that costs it no more than arrays do, and us nearly nothing.

  alias EventSeal.Store.Postgres.Draft

  @tables [
    flow: [number: :int8, id: :text, shard: :int2, genesis: :bytea],
    spent: [flow: :int8, euid: :bytea],
    journal: [flow: :int8, turn: :int8, seq: :int8, stage: :text, next_seq: :int8, meta: :bytea, data: :bytea],
    block: [flow: :int8, front: :bytea, turn: :int8, through: :int8, next_seq: :int8, when_top: :int8, digests: :bytea]
  ]

  inserts =
    for {table, columns} <- @tables do
      names = Enum.map_join(columns, ", ", fn {name, _type} -> name end)

      arrays =
        columns |> Enum.with_index(1) |> Enum.map_join(", ", fn {{_name, type}, n} -> "unnest($#{n}::#{type}[])" end)

      {table, "INSERT INTO #{table} (#{names}) SELECT #{arrays}"}
    end

  @inserts Map.new(inserts)
  # Offsets count from 0, in SQL from 1.
  @events """
  INSERT INTO event (flow, n, frame, hash, id, body, erased)
  SELECT flow, n, substr($1, frame_at + 1, frame_size), substr($2, digest_at, 32), substr($3, digest_at, 32),
    CASE WHEN body_size > 0 THEN substr($4, body_at + 1, body_size) END, erased
  FROM (SELECT unnest($5::int8[]) AS flow, unnest($6::int8[]) AS n, unnest($7::int4[]) AS frame_at,
      unnest($8::int4[]) AS frame_size, generate_series(1, length($2), 32) AS digest_at, unnest($9::int4[]) AS body_at,
      unnest($10::int4[]) AS body_size, unnest($11::int4[]) AS erased) AS e
  """
  @begin "SELECT begin_commit($1)"
  @log "SELECT add_to_log($1, $2)"

  @doc "The statements of a commit: its mark, the rows, and last the log, which others wait for."
  @spec statements(Draft.t(), binary) :: [EventSeal.Postgres.statement()]
  def statements(draft, mark) do
    inserts =
      for {table, columns} <- @tables, rows = Draft.rows(draft, table), rows != [], do: insert(table, columns, rows)

    [{@begin, [bytea: mark]} | inserts] ++ events(Draft.rows(draft, :event)) ++ log(draft)
  end

  # In one order everywhere, so that two commits never wait for each other.
  defp insert(table, columns, rows) do
    rows = Enum.sort_by(rows, &{elem(&1, 0), elem(&1, 1)})

    values = for {{_name, type}, index} <- Enum.with_index(columns), do: {[type], Enum.map(rows, &elem(&1, index))}

    {Map.fetch!(@inserts, table), values}
  end

  defp events([]), do: []

  defp events(blocks) do
    blocks = Enum.sort(blocks)

    sections =
      Enum.map(blocks, fn {_flow, _first, [_, frames, hashes, ids, _, bodies], _} -> [frames, hashes, ids, bodies] end)

    numbers = blocks |> Enum.map_reduce({0, 0}, &placed/2) |> elem(0) |> Enum.zip_with(&Enum.concat/1)
    types = [[:int8], [:int8], [:int4], [:int4], [:int4], [:int4], [:int4]]

    [{@events, for(section <- Enum.zip_with(sections, &joined/1), do: {:bytea, section}) ++ Enum.zip(types, numbers)}]
  end

  defp joined([section]), do: section
  defp joined(sections), do: IO.iodata_to_binary(sections)

  # A block's events with the bytes of the blocks before it in front of theirs.
  defp placed({flow, first, [_units, frames, _, _, _, bodies], spans}, {frames_before, bodies_before}) do
    count = length(spans)

    columns = [
      List.duplicate(flow, count),
      Enum.to_list(first..(first + count - 1)),
      for({at, _, _, _, _} <- spans, do: frames_before + at),
      for({_, size, _, _, _} <- spans, do: size),
      for({_, _, at, _, _} <- spans, do: bodies_before + at),
      for({_, _, _, size, _} <- spans, do: size),
      for({_, _, _, _, erased} <- spans, do: erased)
    ]

    {columns, {frames_before + byte_size(frames), bodies_before + byte_size(bodies)}}
  end

  defp log(draft) do
    case {Draft.rows(draft, :leaf), Draft.rows(draft, :checkpoint)} do
      {[], []} -> []
      {leaves, checkpoints} -> [{@log, [{[:bytea], leaves}, {[:bytea], checkpoints}]}]
    end
  end
end
