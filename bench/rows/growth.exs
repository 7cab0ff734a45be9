defmodule Bench.Rows.Growth do
  @moduledoc false
  # What an append by one caller takes in stores of more and more events. They are filled first, a hundred events a patient,
  # four patients of five discharged, and then measured in turn. Each append is for a patient drawn from all who are still
  # there, so a larger store has more of them too.

  alias Bench.{Callers, Samples, Store}

  @each 100
  @at_once 2_000
  @sizes [{"10k", 10_000}, {"100k", 100_000}, {"1m", 1_000_000}, {"10m", 10_000_000}]
  @row "append_us_at_"

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    sizes = for {_, events} = size <- @sizes, events <= options.growth, do: size
    [{for({name, _} <- sizes, do: @row <> name), fn -> measure(sizes, options) end}]
  end

  @doc "The rows and the events in their stores."
  @spec sizes :: [{String.t(), pos_integer}]
  def sizes, do: for({name, events} <- @sizes, do: {@row <> name, events})

  defp measure(sizes, options) do
    Store.in_folder(fn dir ->
      with_stores(dir, sizes, [], fn stores ->
        System.cmd("sync", [])

        for({row, name, events} <- stores, do: {[{row, "event_seal"}], fn -> append(name, events, options) end})
        |> Samples.take(options.samples)
      end)
    end)
  end

  defp with_stores(_dir, [], stores, fun), do: fun.(Enum.reverse(stores))

  defp with_stores(dir, [{size, events} | sizes], stores, fun) do
    Store.open(Path.join(dir, size), fn name ->
      fill(name, div(events, @each))
      with_stores(dir, sizes, [{@row <> size, name, events} | stores], fun)
    end)
  end

  # Sealed as it is filled: what is not sealed yet has its limits.
  defp fill(name, flows) do
    for first <- 1..flows//@at_once do
      part = first..min(first + @at_once - 1, flows)
      :ok = Store.flows(name, part, @each)
      :ok = Store.close(name, for(flow <- part, rem(flow, 5) > 0, do: flow))
      :ok = Store.seal(name, for(flow <- part, rem(flow, 5) == 0, do: flow))
    end
  end

  defp append(name, events, options) do
    there = div(events, @each * 5)
    body = Store.body(300)

    [_rate, median] =
      Callers.run(1, options.seconds, fn _caller, n ->
        {:ok, _} = EventSeal.append(name, "patient/#{5 * :rand.uniform(there)}", Store.event(n, body))
      end)

    median
  end
end
