defmodule Bench.Svg do
  @moduledoc false
  # What the charts are drawn with: SVG that follows the reader's light or dark.

  @style """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .head { font-weight: 600 }
  .dim { fill: #59636e }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .ground { fill: #ffffff }
  .grid { stroke: #d1d9e0; fill: none }
  .spread { stroke: #1f2328; stroke-width: 1.5; fill: none }
  .ours { fill: #0969da; stroke: #0969da }
  .limit { fill: #bf8700; stroke: #bf8700 }
  .other { fill: #818b98; stroke: #818b98 }
  .more { fill: #8250df; stroke: #8250df }
  .line { fill: none; stroke-width: 2.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .dim { fill: #9198a1 }
    .ground { fill: #0d1117 }
    .grid { stroke: #3d444d }
    .spread { stroke: #f0f6fc }
    .ours { fill: #4493f8; stroke: #4493f8 }
    .limit { fill: #d29922; stroke: #d29922 }
    .other { fill: #656c76; stroke: #656c76 }
    .more { fill: #ab7df8; stroke: #ab7df8 }
  }
  """

  @doc "A whole picture."
  @spec document(String.t(), number, number, iodata) :: iodata
  def document(title, width, height, parts) do
    [
      ~s(<svg xmlns="http://www.w3.org/2000/svg" width="#{width}" height="#{height}" viewBox="0 0 #{width} #{height}" ),
      ~s(role="img">\n<title>#{escape(title)}</title>\n<style>\n#{@style}</style>\n),
      ~s(<rect class="ground" width="#{width}" height="#{height}"/>\n),
      [text(20, 30, title, "title"), parts, "</svg>\n"]
    ]
  end

  @spec text(number, number, String.t(), String.t()) :: iodata
  def text(x, y, text, class \\ ""), do: ~s(<text x="#{at(x)}" y="#{at(y)}" class="#{class}">#{escape(text)}</text>\n)

  @spec bar(number, number, number, number, String.t()) :: iodata
  def bar(x, y, width, height, class) do
    ~s(<rect x="#{at(x)}" y="#{at(y)}" width="#{at(width)}" height="#{at(height)}" class="#{class}"/>\n)
  end

  @doc "A line through points."
  @spec line([{number, number}], String.t()) :: iodata
  def line(points, class) do
    ~s(<polyline points="#{Enum.map_join(points, " ", fn {x, y} -> "#{at(x)},#{at(y)}" end)}" class="#{class}"/>\n)
  end

  @spec dot(number, number, String.t()) :: iodata
  def dot(x, y, class), do: ~s(<circle cx="#{at(x)}" cy="#{at(y)}" r="4" class="#{class}"/>\n)

  @doc "A value as people read it, in its row's unit."
  @spec value(number, String.t()) :: String.t()
  def value(value, _unit) when value == 0, do: "0"
  def value(value, "events/s"), do: scaled(value, [{1_000_000, " M/s"}, {1_000, " k/s"}, {1, "/s"}])
  def value(value, "microseconds"), do: scaled(value, [{1_000_000, " s"}, {10_000, " ms", 1_000}, {1, " µs"}])
  def value(value, "bytes/s"), do: scaled(value, [{1_000_000_000, " GB/s"}, {1_000_000, " MB/s"}, {1, " B/s"}])
  def value(value, "forks"), do: "#{value} forks"
  def value(value, "bytes"), do: scaled(value, [{1_000_000_000, " GB"}, {1_000_000, " MB"}, {1, " B"}])

  defp scaled(value, steps) do
    step = Enum.find(steps, List.last(steps), fn step -> value >= elem(step, 0) end)
    by = if tuple_size(step) == 3, do: elem(step, 2), else: elem(step, 0)
    digits(value / by) <> elem(step, 1)
  end

  defp digits(number) when number >= 100, do: number |> round() |> Integer.to_string()
  defp digits(number) when number >= 10, do: :erlang.float_to_binary(number * 1.0, decimals: 1)
  defp digits(number), do: :erlang.float_to_binary(number * 1.0, decimals: 2)

  defp at(number), do: :erlang.float_to_binary(number * 1.0, [:compact, decimals: 1])

  defp escape(text), do: text |> String.replace("&", "&amp;") |> String.replace("<", "&lt;")
end
