defmodule Bench.Bars do
  @moduledoc false
  # Bars lying side by side, in panels with a scale each: the median, and how far the samples spread.

  alias Bench.Svg

  @width 760
  @left 210
  @longest 420
  @bar 18
  @step 26

  @type bar :: {label :: String.t(), class :: String.t(), Bench.Results.result()}

  @doc "A picture of panels: a heading and bars each."
  @spec draw(String.t(), [{String.t(), [bar]}]) :: iodata
  def draw(title, panels) do
    {parts, height} = Enum.map_reduce(panels, 66, &panel/2)
    Svg.document(title, @width, height, parts)
  end

  defp panel({heading, bars}, top) do
    greatest = Enum.max(for({_, _, %{max: max}} <- bars, do: max), fn -> 1 end)

    rows =
      for {bar, index} <- Enum.with_index(bars) do
        row(bar, top + 12 + index * @step, @longest / greatest)
      end

    {[Svg.text(20, top, heading, "head"), rows], top + 12 + length(bars) * @step + 32}
  end

  defp row({label, _class, %{missing: reason}}, y, _scale) do
    [Svg.text(@left - 10, y + 14, label, "end"), Svg.text(@left, y + 14, short("missing: " <> reason), "dim")]
  end

  defp row({label, class, result}, y, scale) do
    [
      Svg.text(@left - 10, y + 14, label, "end"),
      Svg.bar(@left, y, max(result.median * scale, 1), @bar, class),
      Svg.line([{@left + result.min * scale, y + @bar / 2}, {@left + result.max * scale, y + @bar / 2}], "spread"),
      Svg.text(@left + result.max * scale + 8, y + 14, Svg.value(result.median, result.unit), "dim")
    ]
  end

  defp short(text), do: if(String.length(text) > 70, do: String.slice(text, 0, 69) <> "…", else: text)
end
