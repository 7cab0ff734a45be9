defmodule Bench.Options do
  @moduledoc false
  # What was asked on the command line.

  @usage """
  bin/bench [options] [ROW…]

  Rows are named whole or by how they begin; without a name, all are run.

    --quick        ours alone, tiny and once: whether it runs, not how fast; writes to _build/bench/quick
    --ours         without the others
    --samples N    samples of each row (5)
    --seconds N    how long a sample of appending takes (3)
    --events N     events that are verified (500,000)
    --growth N     the largest store that appends are measured in (10,000,000)
    --out DIR      where results.json and the charts are written (bench)
    --list         the rows' names
  """

  @switches [
    quick: :boolean,
    ours: :boolean,
    samples: :integer,
    seconds: :float,
    events: :integer,
    growth: :integer,
    out: :string,
    list: :boolean,
    help: :boolean
  ]
  @defaults %{
    quick: false,
    ours: false,
    samples: 5,
    seconds: 3.0,
    events: 500_000,
    growth: 10_000_000,
    out: "bench",
    list: false
  }
  @quick %{ours: true, samples: 1, seconds: 0.1, events: 2_000, growth: 10_000, out: "_build/bench/quick"}

  @spec parse!([String.t()]) :: {map, [String.t()]}
  def parse!(arguments) do
    case OptionParser.parse(arguments, strict: @switches) do
      {given, rows, []} -> {given |> Map.new() |> complete(), rows}
      {_, _, wrong} -> stop("not understood: #{Enum.map_join(wrong, " ", &elem(&1, 0))}\n\n#{@usage}", 2)
    end
  end

  @spec stop(String.t(), 0 | 2) :: no_return
  def stop(message, status) do
    IO.puts(if(status == 0, do: :stdio, else: :stderr), message)
    System.halt(status)
  end

  defp complete(%{help: true}), do: stop(@usage, 0)
  defp complete(%{quick: true} = given), do: @defaults |> Map.merge(@quick) |> Map.merge(given)
  defp complete(given), do: Map.merge(@defaults, given)
end
