defmodule Bench.Samples do
  @moduledoc false
  # Takes samples of what is compared in turn (A B A B …), so that whatever else the machine does falls on all alike.

  @typedoc """
  What one call measures: for each row a value. `missing` says why it cannot be measured here.
  """
  @type contender :: {[{row :: String.t(), who :: String.t()}], (() -> number | [number]) | {:missing, String.t()}}
  @type result :: %{required(:row) => String.t(), required(:who) => String.t(), optional(atom) => term}

  @spec take([contender], pos_integer) :: [result]
  def take(contenders, count) do
    samples = for _ <- 1..count, {keys, measure} <- contenders, sample <- sample(keys, measure), do: sample

    for {keys, _} <- contenders, key <- keys do
      summary(key, for({^key, value} <- samples, do: value))
    end
  end

  @spec median([number]) :: number
  def median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  @doc "How long a function takes, in microseconds, and what it returns."
  @spec timed((() -> result)) :: {number, result} when result: var
  def timed(fun) do
    started = System.monotonic_time(:nanosecond)
    result = fun.()
    {(System.monotonic_time(:nanosecond) - started) / 1000, result}
  end

  @doc "A rate a second, of so many in the time that a function takes."
  @spec rate(number, (() -> term)) :: float
  def rate(count, fun) do
    {microseconds, _} = timed(fun)
    count * 1_000_000 / microseconds
  end

  @doc "What a peer broke off with, in a line."
  @spec missing(Exception.t()) :: {:missing, String.t()}
  def missing(error), do: {:missing, error |> Exception.message() |> String.split("\n", trim: true) |> List.last("")}

  defp sample(keys, {:missing, _} = missing), do: Enum.map(keys, &{&1, missing})

  # A peer that breaks off is missing; where ours does, nothing can be said at all.
  defp sample(keys, measure) do
    Enum.zip(keys, List.wrap(measure.()))
  rescue
    error ->
      if List.keymember?(keys, "event_seal", 1), do: reraise(error, __STACKTRACE__)
      Enum.map(keys, &{&1, missing(error)})
  end

  defp summary({row, who}, values) do
    case Enum.find(values, &is_tuple/1) do
      {:missing, reason} ->
        %{row: row, who: who, unit: unit(row), missing: reason}

      nil ->
        values = Enum.map(values, &round/1)
        %{row: row, who: who, unit: unit(row), min: Enum.min(values), median: median(values), max: Enum.max(values)}
    end
  end

  # The unit stands in the row's name.
  defp unit(row) do
    cond do
      row =~ ~r/_us($|_at_)/ -> "microseconds"
      row =~ ~r/^hash_/ -> "bytes/s"
      row =~ ~r/_bytes($|_at_)/ -> "bytes"
      row =~ ~r/_forks$/ -> "forks"
      true -> "events/s"
    end
  end
end
