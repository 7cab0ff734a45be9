defmodule Bench.Targets do
  @moduledoc false
  # What is promised, and whether one run's medians hold it.

  @doc "Each promise as a line: held, missed, or not measured."
  @spec lines([Bench.Results.result()]) :: [String.t()]
  def lines(results) do
    for {what, measure, holds?, bar} <- targets(results), do: line(name(what), measure, holds?, bar)
  end

  defp targets(results) do
    [
      at_least(results, "verify_blake3_300", 7_500_000),
      at_least(results, {"verify_blake3_300", "limit_blake3_300"}, 0.7),
      at_least(results, "verify_sha256_300", 3_000_000),
      at_least(results, {"verify_sha256_300", "sha2_one_by_one_300"}, 1.3),
      at_least(results, {"verify_small_flows", "verify_one_flow"}, 0.7),
      at_least(results, "seal_blake3", 2_500_000),
      at_least(results, "seal_sha256", 1_000_000),
      at_least(results, "append_64", 60_000),
      at_least(results, "append_256", 120_000),
      at_least(results, {"append_64", "file_64"}, 0.4),
      at_least(results, {"append_256", "file_256"}, 0.4),
      less(results, "append_1_us", 600),
      at_least(results, "append_batch_1000", 300_000),
      at_least(results, {"append_batch_1000", {"append_batch_1000", "umadb"}}, 1.0),
      at_least(results, {"append_batch_1000", {"append_batch_1000", "postgresql"}}, 1.0),
      less(results, {"append_us_at_10m", "append_us_at_10k"}, 1.3),
      at_least(results, "pg_append_batch_1000", 80_000),
      at_least(results, {"pg_append_batch_1000", {"pg_append_batch_1000", "postgresql_copy"}}, 0.25),
      at_least(results, {"pg_append_64", {"pg_append_64", "trigger_chain"}}, 2.0),
      less(results, "pg_forks", 1),
      at_least(results, "pg_verify", 500_000)
    ]
  end

  defp at_least(results, what, bar), do: {what, measure(results, what), &(&1 >= bar), "at least #{bar}"}
  defp less(results, what, bar), do: {what, measure(results, what), &(&1 < bar), "under #{bar}"}

  defp measure(results, {above, below}) do
    with above when above != nil <- median(results, above),
         below when below != nil <- median(results, below),
         do: Float.round(above / below, 2)
  end

  defp measure(results, row), do: median(results, row)

  # The row's only one, or ours.
  defp median(results, {row, who}), do: Enum.find_value(results, &(&1.row == row and &1.who == who and &1[:median]))

  defp median(results, row) do
    rows = Enum.filter(results, &(&1.row == row))
    with %{} = result <- Enum.find(rows, List.first(rows), &(&1.who == "event_seal")), do: result[:median]
  end

  defp line(name, nil, _holds?, bar), do: columns("not measured", name, "", bar)

  defp line(name, measure, holds?, bar),
    do: columns(if(holds?.(measure), do: "held", else: "MISSED"), name, measure, bar)

  defp columns(verdict, name, measure, bar) do
    String.pad_trailing(verdict, 14) <>
      String.pad_trailing(name, 46) <> String.pad_leading("#{measure}", 10) <> "   " <> bar
  end

  defp name({row, who} = _both) when is_binary(who) or is_tuple(who), do: "#{name(row)} / #{name_below(who)}"
  defp name(row), do: row

  defp name_below({_row, who}), do: who
  defp name_below(row), do: row
end
