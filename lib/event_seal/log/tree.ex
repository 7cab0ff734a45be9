defmodule EventSeal.Log.Tree do
  @moduledoc false
  # The RFC 6962 tree over a store's leaves (FORMAT.md, "Log"). It holds 64 bytes for a thousand leaves; what a path needs
  # beyond that is read from the store.

  alias EventSeal.{Error, Native, Store}

  @page 4_096
  @chunk 1_024

  @type t :: reference
  @type digest :: <<_::256>>

  @doc "The tree of all leaves that the store has now, or of the first `size`, if it has so many."
  @spec open(Store.t(), non_neg_integer | :infinity) :: {:ok, t} | {:error, Error.t()}
  def open(store, size \\ :infinity), do: follow(Native.log_tree(), store, size)

  @doc "Takes in what was added to the store since."
  @spec follow(t, Store.t(), non_neg_integer | :infinity) :: {:ok, t} | {:error, Error.t()}
  def follow(tree, store, until \\ :infinity) do
    {size, _root} = head(tree)
    page = if until == :infinity, do: @page, else: min(until - size, @page)

    case Store.log(store, {:leaves, size, page}) do
      {:ok, []} -> {:ok, tree}
      {:ok, leaves} -> with {:ok, _size} <- native(Native.log_push(tree, leaves)), do: follow(tree, store, until)
      {:error, _} = error -> error
    end
  end

  @doc "Size and root."
  @spec head(t) :: {non_neg_integer, digest}
  def head(tree), do: Native.log_head(tree)

  @doc "The last position that a leaf tells of the tail of the flow with this genesis digest; 0 if none does."
  @spec tail(t, digest) :: non_neg_integer
  def tail(tree, genesis), do: tree |> Native.log_tail(genesis) |> elem(0)

  @doc "The last position of this flow that a leaf below the size tells of; 0 if none does."
  @spec covered(t, Store.t(), digest, non_neg_integer) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def covered(tree, store, genesis, size) do
    case Native.log_tail(tree, genesis) do
      {0, _index} -> {:ok, 0}
      {n, index} when index < size -> {:ok, n}
      # A later leaf was written, and no checkpoint signed over it yet.
      _later -> earlier(store, genesis, 0, size, 0)
    end
  end

  defp earlier(_store, _genesis, size, size, covered), do: {:ok, covered}

  defp earlier(store, genesis, from, size, covered) do
    with {:ok, leaves} <- Store.log(store, {:leaves, from, min(@page, size - from)}) do
      covered = Enum.max([covered | Enum.flat_map(leaves, &reach(Native.read_leaf(&1), genesis))])
      earlier(store, genesis, from + length(leaves), size, covered)
    end
  end

  defp reach({:ok, {:block, _suite, genesis, _height, last, _hash}}, genesis), do: [last]
  defp reach({:ok, {:tail, _suite, genesis, n, _provisional}}, genesis), do: [n]
  defp reach(_other, _genesis), do: []

  @doc "The index of the leaf of the block with this hash, or nil."
  @spec block(t, digest) :: non_neg_integer | nil
  def block(tree, hash), do: Native.log_block(tree, hash)

  @doc "The root that the tree had at an earlier size."
  @spec root(t, Store.t(), non_neg_integer) :: {:ok, digest} | {:error, Error.t()}
  def root(tree, store, size), do: asked(tree, store, {:root, size})

  @doc "The path of a leaf in the tree of an earlier size: its digests, one after the other."
  @spec inclusion(t, Store.t(), non_neg_integer, non_neg_integer) :: {:ok, binary} | {:error, Error.t()}
  def inclusion(tree, store, index, size), do: asked(tree, store, {:inclusion, index, size})

  @doc "The path from one size to a later one."
  @spec consistency(t, Store.t(), non_neg_integer, non_neg_integer) :: {:ok, binary} | {:error, Error.t()}
  def consistency(tree, store, old, new), do: asked(tree, store, {:consistency, old, new})

  defp asked(tree, store, asked) do
    with {:ok, numbers} <- native(Native.log_chunks(tree, asked)),
         {:ok, chunks} <- chunks(store, numbers),
         do: native(Native.log_path(tree, asked, chunks))
  end

  defp chunks(store, numbers) do
    Error.reduce(numbers, [], fn number, chunks ->
      with {:ok, leaves} <- Store.log(store, {:leaves, number * @chunk, @chunk}), do: {:ok, [{number, leaves} | chunks]}
    end)
  end

  defp native({:ok, _} = ok), do: ok
  defp native({:error, {:malformed, _, _}}), do: {:error, Error.new(:corrupt, detail: "a leaf of the log is malformed")}
  defp native({:error, {:refused, :size}}), do: {:error, Error.new(:not_found, detail: "the log is not so large")}
  defp native({:error, {:refused, what}}), do: {:error, Error.new(:corrupt, detail: "the log: #{what}")}
end
