defmodule EventSeal.StoreCase do
  @moduledoc false
  # Runs a store for a test, whatever its adapter, and makes the operations that the tests of stores have in common.
  # No adapter interprets the bytes, so plain texts stand for frames and blocks here.
  alias EventSeal.Store

  def start!({adapter, opts}) do
    name = :"store_#{System.unique_integer([:positive])}"
    spec = Supervisor.child_spec(adapter.child_spec({name, opts}), restart: :temporary)
    ExUnit.Callbacks.start_supervised!(spec)
    Store.handle(adapter, name)
  end

  def stop!(store), do: ExUnit.Callbacks.stop_supervised!(store.name)

  def put(flow, seq, stage \\ :pool), do: {:put, flow, seq, stage, "meta #{seq}", "data #{seq}"}

  def block(flow, height, first, seqs, opts \\ []) do
    count = length(seqs)

    info = %{
      height: height,
      first: first,
      count: count,
      through: Enum.max(seqs),
      when_max: 1_000 + first + count,
      euids: Enum.map_join(seqs, &euid/1),
      closes: Keyword.get(opts, :closes, false)
    }

    {:block, flow, info, ["block ", "#{height} of #{flow}, ", Keyword.get(opts, :filler, "")]}
  end

  def euid(seq), do: <<0::64, seq::64>>
end
