defmodule Bench.Results do
  @moduledoc false
  # results.json: the machine, the versions, what the last run was asked for, and a line for each row and who was measured. Rows that were not run stay as
  # they are, if they were taken on this machine; what cannot be had is `missing`, with the reason.

  @type result :: Bench.Samples.result()

  @doc "Merges by row, writes, and returns all results in the order of `rows`."
  @spec write(Path.t(), map, [result], [String.t()]) :: [result]
  def write(path, options, new, rows) do
    machine = Bench.Machine.machine()
    run = MapSet.new(new, & &1.row)
    kept = for result <- read(path, machine), result.row not in run, result.row in rows, do: result
    order = rows |> Enum.with_index() |> Map.new()
    all = Enum.sort_by(kept ++ new, &order[&1.row])
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, encode(machine, options, all))
    all
  end

  defp encode(machine, options, results) do
    [
      ~s({\n"machine": #{object(machine)},\n"versions": #{object(Bench.Machine.versions())},\n"asked": #{asked(options)},\n"results": [\n),
      results |> Enum.map(&line/1) |> Enum.intersperse(",\n"),
      "\n]\n}\n"
    ]
  end

  defp asked(options), do: object(for key <- [:samples, :seconds, :events, :growth], do: {to_string(key), options[key]})

  # One order, so that a line can be read again.
  @keys [:row, :who, :unit, :min, :median, :max, :missing]

  defp line(result) do
    fields = for key <- @keys, key != :missing or result[:missing], do: "#{json(to_string(key))}: #{json(result[key])}"
    "{" <> Enum.join(fields, ", ") <> "}"
  end

  defp object(fields) do
    fields = for {key, value} <- Enum.sort(fields), do: "#{json(key)}: #{json(value)}"
    "{" <> Enum.join(fields, ", ") <> "}"
  end

  defp json(nil), do: "null"
  defp json(number) when is_float(number), do: Float.to_string(number)
  defp json(number) when is_integer(number), do: Integer.to_string(number)
  defp json(text) when is_binary(text), do: ~s("#{text |> String.graphemes() |> Enum.map_join(&escape/1)}")

  defp escape("\""), do: ~S(\")
  defp escape("\\"), do: ~S(\\)
  defp escape(<<control>>) when control < 32, do: " "
  defp escape(other), do: other

  @doc "The results of an earlier run on this machine."
  @spec read(Path.t(), map) :: [result]
  def read(path, machine) do
    with {:ok, text} <- File.read(path),
         true <- String.contains?(text, ~s("machine": #{object(machine)})) do
      for "{\"row\"" <> _ = line <- String.split(text, "\n"), do: parse(line)
    else
      _ -> []
    end
  end

  defp parse(line) do
    for [_, key, text | number] <- Regex.scan(~r/"(\w+)": (?:"((?:[^"\\]|\\.)*)"|(\d+))/, line), into: %{} do
      {String.to_existing_atom(key), value(text, number)}
    end
  end

  defp value(text, []), do: Regex.replace(~r/\\(.)/, text, "\\1")
  defp value("", [number]), do: String.to_integer(number)
end
