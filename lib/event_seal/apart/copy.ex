defmodule EventSeal.Apart.Copy do
  @moduledoc false
  # Brings what a verification store lacks over to it: first kept parts of blocks, then the log's leaves, then checkpoints,
  # so that whatever is there has all that it rests on. A block that does not follow from what was kept is not taken.

  alias EventSeal.{Checkpoint, Error, Kept, Native, Reader, Store}
  alias EventSeal.Store.Piece

  @commit_bytes 8_388_608
  @page 4_096

  @doc "All flows of a store, lazily."
  @spec all(Store.t()) :: Enumerable.t()
  def all(store), do: Reader.flows(store, after: nil, page: 1_000)

  @doc """
  Copies the parts of these flows' blocks that are not there yet. Returns the hashes of the blocks, and the flows that could
  not be copied whole, each with the error: what is damaged in one keeps no other from being copied.
  """
  @spec flows(Store.t(), Store.t(), Enumerable.t()) ::
          {:ok, MapSet.t(), [{Store.flow(), Error.t()}]} | {:error, Error.t()}
  def flows(store, apart, flows) do
    copied =
      flows
      |> Stream.flat_map(&blocks(store, apart, &1))
      |> Stream.chunk_while({[], 0}, &chunk/2, fn {blocks, _bytes} -> {:cont, Enum.reverse(blocks), nil} end)
      |> Error.reduce({MapSet.new(), []}, fn blocks, {hashes, refused} ->
        {refusals, blocks} = Enum.split_with(blocks, &match?({:refused, _flow, _error}, &1))
        hashes = for {hash, _size, _ops} <- blocks, into: hashes, do: hash

        with :ok <- commit(apart, Enum.flat_map(blocks, &elem(&1, 2))),
             do: {:ok, {hashes, refused ++ for({:refused, flow, error} <- refusals, do: {flow, error})}}
      end)

    with {:ok, {hashes, refused}} <- copied, do: {:ok, hashes, refused}
  rescue
    error in Error -> {:error, error}
  end

  # Each block as `{hash, size, operations}`; the first opens the flow.
  defp blocks(store, apart, flow) do
    {fixed, height} = end_of(Store.head(apart, flow, :unsealed))

    case blocks_of(Store.blocks(store, flow, {fixed + 1, :infinity}), height) do
      [] -> []
      pieces -> Stream.transform(pieces, last(apart, flow, height), &block(flow, &1, &2))
    end
  end

  defp end_of({:ok, head}), do: {head.fixed, head.height}
  defp end_of({:error, %Error{reason: :not_found}}), do: {0, 0}
  defp end_of({:error, error}), do: raise(error)

  defp blocks_of({:ok, pieces}, height), do: Enum.reject(pieces, &(&1.height < height))
  defp blocks_of({:error, %Error{reason: :not_found}}, _height), do: []
  defp blocks_of({:error, error}, _height), do: raise(error)

  defp last(_apart, _flow, 0), do: {nil, nil}

  defp last(apart, flow, _height) do
    head = ok!(Store.head(apart, flow))
    {head.last_block, head.when_max}
  end

  defp block(_flow, _piece, :refused), do: {:halt, :refused}

  defp block(flow, piece, {before, when_max}) do
    with {:ok, part} <- cut(piece), {:ok, kept} <- Kept.read(part), :ok <- follows(flow, kept, part, piece, before) do
      when_max = max(kept.when_max, when_max || kept.when_max)
      opening = if before == nil, do: [{:expect, flow, :none}, {:open, flow, kept.genesis}], else: []
      ops = opening ++ [{:block, flow, info(kept, when_max), part}]
      {[{kept.hash, byte_size(part), ops}], {part, when_max}}
    else
      {:error, error} -> {[{:refused, flow, error}], :refused}
    end
  end

  defp follows(flow, kept, part, piece, before) do
    if kept.flow == flow and Kept.flaw(part, piece.height, before) == {:ok, nil},
      do: :ok,
      else: {:error, Error.new(:corrupt, detail: "a block does not hold, or does not follow from what was kept")}
  end

  defp cut(piece), do: with({:ok, place} <- Piece.place(piece), do: Kept.cut(place))

  # Of an event nothing is kept but its hash and id: half of the hash is what a store finds it by.
  defp info(kept, when_max) do
    through = kept.first + kept.count - 1
    euids = for <<half::binary-16, _::binary-16 <- kept.hashes>>, into: "", do: half

    kept
    |> Map.take([:height, :first, :count, :closes])
    |> Map.merge(%{through: through, when_max: when_max, euids: euids})
  end

  defp chunk(block, {taken, bytes}) do
    bytes = bytes + if(is_binary(elem(block, 0)), do: elem(block, 1), else: 0)

    if bytes >= @commit_bytes,
      do: {:cont, Enum.reverse([block | taken]), {[], 0}},
      else: {:cont, {[block | taken], bytes}}
  end

  @doc """
  Copies leaves up to the size `to`, as long as `known?`, a function of a block's hash, says that the block was copied.
  Returns how many leaves there are then, and the hashes of the blocks that they are of.
  """
  @spec leaves(Store.t(), Store.t(), non_neg_integer, non_neg_integer, (binary -> boolean)) ::
          {:ok, non_neg_integer, [binary]} | {:error, Error.t()}
  def leaves(_store, _apart, size, to, _known?) when size >= to, do: {:ok, size, []}

  def leaves(store, apart, size, to, known?) do
    with {:ok, [_ | _] = page} <- Store.log(store, {:leaves, size, min(@page, to - size)}),
         leaves = Enum.take_while(page, &(block_of(&1) == nil or known?.(block_of(&1)))),
         :ok <- commit(apart, for(leaf <- leaves, do: {:leaf, leaf})) do
      hashes = for leaf <- leaves, hash = block_of(leaf), do: hash

      if length(leaves) < length(page) do
        {:ok, size + length(leaves), hashes}
      else
        with {:ok, size, more} <- leaves(store, apart, size + length(leaves), to, known?),
             do: {:ok, size, hashes ++ more}
      end
    else
      {:ok, []} -> {:error, Error.new(:corrupt, detail: "the log is shorter than it says")}
      {:error, _} = error -> error
    end
  end

  @doc "The hash of the block that a leaf is of, or nil."
  @spec block_of(binary) :: binary | nil
  def block_of(leaf) do
    with {:ok, {:block, _suite, _genesis, _height, _last, hash}} <- Native.read_leaf(leaf), do: hash, else: (_ -> nil)
  end

  @doc "Copies the checkpoints whose leaves are there, `size` of them. Returns how many checkpoints there are then."
  @spec checkpoints(Store.t(), Store.t(), non_neg_integer, non_neg_integer) ::
          {:ok, non_neg_integer} | {:error, Error.t()}
  def checkpoints(store, apart, from, size) do
    with {:ok, items} <- Store.log(store, {:checkpoints, from, @page}),
         {:ok, taken} <- covered(items, size),
         :ok <- commit(apart, for(item <- taken, do: {:checkpoint, item})) do
      if taken != [] and length(taken) == @page,
        do: checkpoints(store, apart, from + @page, size),
        else: {:ok, from + length(taken)}
    end
  end

  defp covered(items, size) do
    items
    |> Error.reduce([], fn item, taken ->
      with {:ok, checkpoint} <- Checkpoint.unpack(item), do: {:ok, [{checkpoint.size, item} | taken]}
    end)
    |> then(fn read ->
      with {:ok, read} <- read do
        taken = read |> Enum.reverse() |> Enum.take_while(fn {of, _item} -> of <= size end)
        {:ok, Enum.map(taken, &elem(&1, 1))}
      end
    end)
  end

  defp commit(_apart, []), do: :ok
  defp commit(apart, ops), do: Store.commit(apart, ops)

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
