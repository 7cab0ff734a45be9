defmodule Bench.Rows.Open do
  @moduledoc false
  # A store of a million events: how long it takes to open, how much memory that leaves used, and how much disk it takes.
  # Ten thousand patients of a hundred events each, four of five discharged. Opened in a VM of its own; the files are in the
  # page cache, as after a restart of the host's application.

  alias Bench.{Peer, Samples, Store}

  @each 100

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(%{growth: growth, quick: quick}) when growth < 1_000_000 and not quick, do: []

  def groups(options) do
    rows = ["open_us_at_1m", "open_memory_bytes_at_1m", "open_disk_bytes_at_1m"]
    [{rows, fn -> measure(rows, options) end}]
  end

  defp measure(rows, options) do
    flows = div(min(1_000_000, options.growth), @each)

    Store.in_folder(fn dir ->
      Store.open(dir, fn name ->
        :ok = Store.flows(name, 1..flows, @each)
        :ok = Store.close(name, for(flow <- 1..flows, rem(flow, 5) > 0, do: flow))
      end)

      Samples.take([{Enum.map(rows, &{&1, "event_seal"}), fn -> open(dir) ++ [Store.bytes(dir)] end}], options.samples)
    end)
  end

  defp open(dir) do
    ebin = :event_seal |> :code.lib_dir() |> Path.join("ebin")
    peer = Peer.start("elixir", ["-pa", ebin, "bench/peers/open.exs", dir])
    answer = Peer.ask(peer)
    :ok = Peer.stop(peer)
    answer
  end
end
