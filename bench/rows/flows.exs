defmodule Bench.Rows.Flows do
  @moduledoc false
  # Verification of one long flow, and of as many events in flows of five: the shape of a store should not matter.

  alias Bench.{Rows.Verify, Samples, Store}

  @each 5

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    [{["verify_one_flow", "verify_small_flows"], fn -> compare(options) end}]
  end

  defp compare(%{events: events} = options) do
    Store.in_folder(fn dir ->
      Store.open(Path.join(dir, "one"), fn one ->
        :ok = Store.one_flow(one, events, 300)

        Store.open(Path.join(dir, "small"), fn small ->
          :ok = Store.flows(small, 1..div(events, @each), @each - 1)
          :ok = Store.close(small, 1..div(events, @each))
          take([{"verify_one_flow", one}, {"verify_small_flows", small}], options)
        end)
      end)
    end)
  end

  defp take(stores, options) do
    cores = System.schedulers_online()

    for({row, name} <- stores, do: {[{row, "event_seal"}], fn -> Verify.verify(name, options.events, cores) end})
    |> Samples.take(options.samples)
  end
end
