defmodule EventSeal.KeptStore do
  @moduledoc false
  # A verification store taken apart, to be put together again as somebody would who may write there.

  alias EventSeal.{BitRot, Kept, Reader, Store, Verifier}

  @doc "What it holds: the parts of each flow's blocks, and the log."
  def read(dir) do
    BitRot.open(dir, :read, fn store ->
      {:ok, size} = Store.log(store, :size)
      {:ok, leaves} = Store.log(store, {:leaves, 0, size.leaves})
      {:ok, checkpoints} = Store.log(store, {:checkpoints, 0, size.checkpoints})
      flows = for flow <- Reader.flows(store, after: nil, page: 99), into: %{}, do: {flow, parts(store, flow)}
      %{flows: flows, leaves: leaves, checkpoints: checkpoints}
    end)
  end

  defp parts(store, flow) do
    {:ok, pieces} = Store.blocks(store, flow, {1, :infinity})
    for piece <- pieces, do: {piece.count, elem(Store.read(piece), 1)}
  end

  @doc "Writes it anew, whatever the parts are."
  def write!(state, dir) do
    File.rm_rf!(dir)

    BitRot.open(dir, :write, fn store ->
      for {flow, parts} <- state.flows, do: :ok = Store.commit(store, ops(flow, parts))
      :ok = Store.commit(store, for(leaf <- state.leaves, do: {:leaf, leaf}))
      :ok = Store.commit(store, for(checkpoint <- state.checkpoints, do: {:checkpoint, checkpoint}))
    end)
  end

  defp ops(flow, parts) do
    {:ok, %{genesis: genesis}} =
      Enum.find_value(parts, fn {_, part} -> with({:error, _} <- Kept.read(part), do: nil) end)

    {blocks, _at} =
      Enum.map_reduce(Enum.with_index(parts), 1, fn {{count, part}, height}, first ->
        closes = match?({:ok, %{closes: true}}, Kept.read(part)) and height + 1 == length(parts)
        info = %{height: height, first: first, count: count, through: first + count - 1, when_max: 0, closes: closes}
        {{:block, flow, Map.put(info, :euids, for(n <- 1..count, into: "", do: <<n::128>>)), part}, first + count}
      end)

    [{:open, flow, genesis} | blocks]
  end

  @doc "Changes a flow's part of this height."
  def part(state, flow, height, change) do
    update_in(state.flows[flow], &List.update_at(&1, height, fn {count, part} -> {count, change.(part)} end))
  end

  @doc "Flips a bit of the i-th digest of a part: an event's hash, or its id."
  def flip(part, what, i) do
    {:ok, %{count: count}} = Kept.read(part)
    run = div(32 * count + 63, 64) * 64
    flip(part, byte_size(part) - if(what == :hash, do: 2 * run, else: run) + 32 * i)
  end

  def flip(bytes, at) do
    <<before::binary-size(at), byte, rest::binary>> = bytes
    <<before::binary, Bitwise.bxor(byte, 1), rest::binary>>
  end

  @doc "The faults of two stores held against each other, as `{flow, position, class, side}`, or the error."
  def verify(dir, apart, opts \\ []) do
    with {:ok, verdict} <- verdict(dir, apart, opts),
         do: for(fault <- verdict.faults, do: {fault.flow, fault.position, fault.class, fault.side})
  end

  def verdict(dir, apart, opts \\ []) do
    BitRot.open(apart, :read, fn kept ->
      BitRot.open(dir, :read, fn store -> Verifier.run(store, [apart: kept] ++ opts) end)
    end)
  end
end
