defmodule Bench.Lines do
  @moduledoc false
  # Lines over sizes that grow by factors: the medians, and how far the samples spread. The values' axis begins at zero.

  alias Bench.Svg

  @width 760
  @height 380
  @left 90
  @right 560
  @top 60
  @bottom 320
  @steps 4

  @type point :: {label :: String.t(), size :: number, Bench.Results.result()}

  @doc "A picture of series: a name, a class and points each."
  @spec draw(String.t(), String.t(), [{String.t(), String.t(), [point]}]) :: iodata
  def draw(title, below, series) do
    points = for {_, _, points} <- series, point <- points, do: point
    {least, most} = points |> Enum.map(&elem(&1, 1)) |> Enum.min_max()
    step = points |> Enum.map(&elem(&1, 2).max) |> Enum.max() |> step()
    top = step * @steps
    across = fn size -> @left + 20 + (@right - @left - 40) * part(size, least, most) end
    up = fn value -> @bottom - (@bottom - @top) * value / top end

    Svg.document(title, @width, @height, [
      scale(points, step, up),
      for(
        {label, size} <- points |> Enum.map(&Tuple.delete_at(&1, 2)) |> Enum.uniq(),
        do: Svg.text(across.(size), @bottom + 22, label, "middle dim")
      ),
      Svg.text((@left + @right) / 2, @bottom + 46, below, "middle dim"),
      series |> Enum.zip(labels(series, up)) |> Enum.map(&drawn(&1, across, up))
    ])
  end

  defp part(_size, same, same), do: 0.5
  defp part(size, least, most), do: :math.log(size / least) / :math.log(most / least)

  # The least round number by which the values' axis reaches the greatest of them.
  defp step(greatest) do
    decade = :math.pow(10, floor(:math.log10(greatest / @steps)))
    decade * Enum.find([1, 2, 2.5, 5, 10], &(decade * &1 * @steps >= greatest))
  end

  defp scale([{_, _, %{unit: unit}} | _], step, up) do
    for count <- 0..@steps do
      value = step * count
      y = up.(value)
      [Svg.line([{@left, y}, {@right, y}], "grid"), Svg.text(@left - 10, y + 4, Svg.value(value, unit), "end dim")]
    end
  end

  defp drawn({{name, class, points}, label}, across, up) do
    [
      Svg.line(for({_, size, result} <- points, do: {across.(size), up.(result.median)}), "line " <> class),
      for({_, size, result} <- points, do: mark(across.(size), result, class, up)),
      Svg.dot(@right + 18, label - 4, class),
      Svg.text(@right + 30, label, name)
    ]
  end

  defp mark(x, result, class, up) do
    [Svg.line([{x, up.(result.min)}, {x, up.(result.max)}], "spread"), Svg.dot(x, up.(result.median), class)]
  end

  # Beside the last point of each, but never over one another.
  defp labels(series, up) do
    ends =
      for {{_, _, points}, index} <- Enum.with_index(series), do: {up.(elem(List.last(points), 2).median) + 4, index}

    {placed, _} =
      ends |> Enum.sort() |> Enum.map_reduce(0, fn {y, index}, free -> {{index, max(y, free)}, max(y, free) + 18} end)

    placed |> Enum.sort() |> Enum.map(&elem(&1, 1))
  end
end
