defmodule EventSeal.Stamp.Kept do
  @moduledoc false
  # Stamps in a store: on the checkpoints of its log.

  alias EventSeal.{Checkpoint, Error, Signer, Stamp, Store}
  alias EventSeal.Native

  @doc """
  What an authority is asked to stamp: the last checkpoint, or the one of `:size`; under a `:policy`, if one is named.
  """
  @spec request(Store.t(), keyword) :: {:ok, binary} | {:error, Error.t()}
  def request(store, opts) do
    with {:ok, checkpoint} <- find(store, &(opts[:size] in [nil, &1.size])),
         do: Stamp.request(checkpoint.note, opts[:policy])
  end

  @doc """
  Keeps the authority's answer with the checkpoint that the request is of. Returns the stamp, and the last checkpoint as it
  is from now on: where an earlier one was stamped, the last one is kept once more behind it.
  """
  @spec add(Store.t(), binary, binary, Stamp.anchors()) :: {:ok, Stamp.t(), Checkpoint.t()} | {:error, Error.t()}
  def add(store, request, response, anchors) do
    with {:ok, asked} <- Stamp.asked(request),
         {:ok, checkpoint} <- find(store, &(Stamp.digest(&1.note) == asked.digest)),
         {:ok, {token, stamp}} <- Stamp.answer(response, asked, checkpoint.note, anchors),
         {:ok, note} <- Signer.native(Native.note_with(checkpoint.note, Stamp.line(token))),
         {:ok, stamped} <- Checkpoint.open(note, key: checkpoint.key),
         {:ok, last} <- Checkpoint.last(store),
         kept = if(checkpoint == last, do: [stamped], else: [stamped, last]),
         :ok <- Store.commit(store, for(one <- kept, do: {:checkpoint, Checkpoint.pack(one)})),
         do: {:ok, stamp, List.last(kept)}
  end

  # The newest that is wanted.
  defp find(store, wanted?) do
    found =
      Enum.find_value(Checkpoint.newest_first(store), fn item ->
        with {:ok, checkpoint} <- Checkpoint.unpack(item), do: if(wanted?.(checkpoint), do: {:ok, checkpoint})
      end)

    found || {:error, Error.new(:not_found, detail: "no such checkpoint was signed yet")}
  rescue
    error in Error -> {:error, error}
  end

  @doc """
  The newest checkpoint with a stamp that holds, and that stamp; nil if there is none. With `anchors` those count alone that
  lead to one of them, and none is `:untrusted`.
  """
  @spec last(Store.t(), Stamp.anchors() | nil) :: {:ok, {Checkpoint.t(), Stamp.t()} | nil} | {:error, Error.t()}
  def last(store, anchors) do
    with {:ok, trusted} <- Stamp.trusted(anchors) do
      items = store |> Checkpoint.newest_first() |> Stream.filter(&Stamp.mentioned?/1)

      case {Enum.find_value(items, &stamped(&1, trusted)), trusted} do
        {nil, nil} ->
          {:ok, nil}

        {nil, _trusted} ->
          {:error, Error.new(:untrusted, detail: "no checkpoint has a time stamp of an authority that is trusted")}

        {found, _trusted} ->
          {:ok, found}
      end
    end
  rescue
    error in Error -> {:error, error}
  end

  defp stamped(item, trusted) do
    with {:ok, %{note: note} = checkpoint} <- Checkpoint.unpack(item),
         [_ | _] = held <-
           for(token <- Stamp.tokens(note), {:ok, stamp} <- [Stamp.check(note, token, trusted)], do: stamp) do
      {checkpoint, List.last(held)}
    else
      _other -> nil
    end
  end
end
