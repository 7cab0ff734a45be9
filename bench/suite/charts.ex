defmodule Bench.Charts do
  @moduledoc false
  # Which results are shown together. A chart whose rows were never run is not drawn.

  alias Bench.{Bars, Lines}

  @names %{
    "event_seal" => "EventSeal",
    "event_seal_list" => "EventSeal, a list",
    "limit" => "limit: hashing alone",
    "sha2" => "sha2, one by one",
    "elixir_crypto" => "Elixir with :crypto",
    "postgresql" => "PostgreSQL",
    "git_fsck" => "git fsck",
    "file" => "limit: write and sync",
    "mnesia" => "Mnesia",
    "umadb" => "UmaDB",
    "blake3" => "crate blake3",
    "crypto_sha256" => ":crypto",
    "crypto_blake2b" => ":crypto, BLAKE2b"
  }

  @append [
    {"One caller: time of an append (less is better)", ["append_1_us"]},
    {"16 callers, events/s", ["append_16", "file_16"]},
    {"64 callers", ["append_64", "file_64"]},
    {"256 callers", ["append_256", "file_256"]},
    {"4 callers, a thousand events at a time", ["append_batch_1000", "file_batch"]}
  ]

  @doc "Draws all charts into the folder."
  @spec write(Path.t(), [Bench.Results.result()]) :: :ok
  def write(dir, results) do
    File.mkdir_p!(dir)

    for {name, svg} <- [
          {"verify", verify(results)},
          {"append", append(results)},
          {"growth", growth(results)},
          {"hash_sha256", hash("sha256", results)},
          {"hash_blake3", hash("blake3", results)}
        ],
        svg != nil,
        do: File.write!(Path.join(dir, name <> ".svg"), svg)

    :ok
  end

  defp verify(results) do
    panels([
      {"Bodies of 300 bytes, BLAKE3, all cores", bars(results, ["verify_blake3_300", "limit_blake3_300"])},
      {"Bodies of 300 bytes, SHA-256, all cores",
       bars(results, ["verify_sha256_300", "limit_sha256_300", "sha2_one_by_one_300"])},
      {"The same events in one flow, and in flows of five (SHA-256)",
       for {row, label} <- [{"verify_one_flow", "one flow"}, {"verify_small_flows", "flows of five"}],
           result <- of(results, row) do
         {label, "ours", result}
       end}
    ])
    |> draw("Verification: events a second")
  end

  defp append(results) do
    panels(for {heading, rows} <- @append, do: {heading, bars(results, rows)})
    |> draw("Durable appends: events of 300 bytes a second")
  end

  defp panels(panels), do: Enum.reject(panels, fn {_, bars} -> bars == [] end)
  defp draw([], _title), do: nil
  defp draw(panels, title), do: Bars.draw(title, panels)

  # Ours first, then what limits it, then the others by what they reach.
  defp bars(results, rows) do
    for(row <- rows, result <- of(results, row), do: result)
    |> Enum.sort_by(&{order(&1.who), if(better_small?(&1), do: &1[:median], else: -(&1[:median] || 0))})
    |> Enum.map(&{name(&1.who), class(&1.who), &1})
  end

  defp better_small?(result), do: result.unit == "microseconds"

  defp order("event_seal"), do: 0
  defp order(who) when who in ["limit", "file"], do: 1
  defp order(_), do: 2

  defp class("event_seal"), do: "ours"
  defp class(who) when who in ["limit", "file"], do: "limit"
  defp class(_), do: "other"

  defp of(results, row), do: Enum.filter(results, &(&1.row == row))

  defp growth(results) do
    points =
      for {row, events} <- Bench.Rows.Growth.sizes(), %{median: _} = result <- of(results, row) do
        {row |> String.split("_") |> List.last(), events, result}
      end

    if points != [],
      do:
        Lines.draw("An append by one caller, as the store grows", "events in the store", [{"EventSeal", "ours", points}])
  end

  defp hash(suite, results) do
    series =
      for {who, class} <- [
            {"event_seal", "ours"},
            {"event_seal_list", "more"},
            {"sha2", "limit"},
            {"blake3", "limit"},
            {"crypto_sha256", "other"},
            {"crypto_blake2b", "other"}
          ],
          points = points(suite, who, results),
          points != [],
          do: {name(who, :hash), class, points}

    if series != [], do: Lines.draw("EventSeal.Hash, #{title(suite)}, one core", "bytes of an input", series)
  end

  defp title("sha256"), do: "SHA-256"
  defp title("blake3"), do: "BLAKE3"

  defp points(suite, who, results) do
    for {size, bytes} <- Bench.Rows.Hash.sizes(),
        %{who: ^who, median: _} = result <- of(results, "hash_#{suite}_#{size}"),
        do: {size, bytes, result}
  end

  defp name("sha2", :hash), do: "crate sha2"
  defp name(who, :hash), do: name(who)
  defp name(who), do: @names[who]
end
