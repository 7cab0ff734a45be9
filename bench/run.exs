# Runs rows of the benchmark suite: bin/bench [options] [ROW…]. `bin/bench --help` says more.

{:ok, _, _} =
  ["suite/*.ex", "rows/*.exs"]
  |> Enum.flat_map(&Path.wildcard(Path.join(__DIR__, &1)))
  |> Kernel.ParallelCompiler.require()

defmodule Bench.Run do
  alias Bench.{Charts, Machine, Options, Results, Rows, Svg, Targets}

  @rows [
    Rows.Hash,
    Rows.Seal,
    Rows.Verify,
    Rows.Flows,
    Rows.Append,
    Rows.Postgres,
    Rows.Receipts,
    Rows.Open,
    Rows.Growth
  ]

  def main(arguments) do
    {options, wanted} = Options.parse!(arguments)
    groups = Enum.flat_map(@rows, & &1.groups(options))
    if options.list, do: Options.stop(groups |> rows() |> Enum.join("\n"), 0)
    chosen = Enum.filter(groups, fn {rows, _} -> wanted == [] or Enum.any?(wanted, &wants?(&1, rows, groups)) end)
    if chosen == [], do: Options.stop("no row is called so; --list names all", 2)

    head()
    all = chosen |> Enum.map(&Results.write(path(options), options, run(&1), rows(groups))) |> List.last()
    Charts.write(Path.join(options.out, "charts"), all)
    unless options.quick, do: IO.puts(["\nPromises\n" | Enum.map(Targets.lines(all), &"  #{&1}\n")])
  end

  defp path(options), do: Path.join(options.out, "results.json")

  defp rows(groups), do: Enum.flat_map(groups, &elem(&1, 0))

  # A whole name is that row; anything else is how names begin.
  defp wants?(name, rows, groups) do
    if name in rows(groups), do: name in rows, else: Enum.any?(rows, &String.starts_with?(&1, name))
  end

  defp head do
    for {name, facts} <- [{"machine", Machine.machine()}, {"versions", Machine.versions()}] do
      IO.puts("#{name}: #{Enum.map_join(Enum.sort(facts), ", ", fn {what, fact} -> "#{what} #{fact || "none"}" end)}")
    end
  end

  defp run({rows, measure}) do
    IO.puts("\n#{hd(rows)}")
    results = measure.()
    for result <- results, do: IO.puts("  " <> shown(result))
    results
  end

  defp shown(%{missing: reason} = result), do: "#{label(result)} missing: #{reason}"

  defp shown(result) do
    [median, min, max] = for which <- [:median, :min, :max], do: Svg.value(result[which], result.unit)
    "#{label(result)} #{String.pad_leading(median, 11)}   (#{min} … #{max})"
  end

  defp label(result), do: String.pad_trailing(result.row, 28) <> String.pad_trailing(result.who, 16)
end

Bench.Run.main(System.argv())
