defmodule EventSeal.Doctor.Leaves do
  @moduledoc false
  # What the new store's log must say beyond what was saved of the old one's: the leaves of blocks behind the log's gap, and
  # a decision for each flow that does not reach as far as the log knew, or not by the same blocks. Without these the log
  # would hold against the new store what the damage took.

  alias EventSeal.{Chain, Decision, Error, Heads, Native, Reader, Store}
  alias EventSeal.Log.Tree

  @page 1_000
  @text "saved from a damaged store by event_seal.doctor"

  @doc """
  Adds them to the new store. `changed` are the genesis digests of the flows that are not as they were. Returns the decisions,
  as the report keeps them.
  """
  @spec add(Store.t(), MapSet.t() | :all) :: [Decision.t()]
  def add(store, changed) do
    tree = ok!(Tree.open(store))

    store
    |> Reader.flows(after: nil, page: @page)
    |> Enum.flat_map(fn flow ->
      {chain, head} = ok!(Heads.of(store, flow))
      {decisions, leaf} = decision(chain, head, changed == :all or MapSet.member?(changed, chain.digest))
      leaves = Enum.concat(leaf, blocks(store, tree, flow))
      if leaves != [], do: commit(store, leaves)
      decisions
    end)
  end

  # A decision first: what is sealed now stands behind it.
  defp decision(_chain, %{n: 0}, _changed?), do: {[], []}
  defp decision(_chain, _head, false), do: {[], []}

  defp decision(chain, head, true) do
    decision = Decision.new(chain, head, @text)
    {[decision], [decision.leaf]}
  end

  defp blocks(store, tree, flow) do
    for piece <- ok!(Store.blocks(store, flow, {1, :infinity})),
        {:ok, block} <- [Store.read(piece)],
        header = ok!(Chain.header(block)),
        Tree.block(tree, header.hash) == nil do
      {:ok, chain} = Chain.restore(header.genesis, nil, nil, [])
      last = header.first + header.count - 1
      Native.block_leaf(header.suite, chain.digest, header.height, last, header.hash)
    end
  end

  defp commit(store, leaves),
    do: with({:error, error} <- Store.commit(store, for(leaf <- leaves, do: {:leaf, leaf})), do: raise(error))

  @spec ok!({:ok, value} | {:error, Error.t()}) :: value when value: term
  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
