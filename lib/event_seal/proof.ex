defmodule EventSeal.Proof do
  @moduledoc """
  The proof of one event: a text file that whoever has the log's verifier key can check alone, with this module, with
  `event-seal verify`, or with a program of their own (FORMAT.md, "Event proof"). `EventSeal.prove/4` makes one.

  Nothing that a proof records is trusted that can be recomputed: G, the commitment, the event hash, the id, the block's
  root and hash, the log's leaf and root all are, from the event itself up to the signature.

    * `event` - an `EventSeal.Event`: `body` and `salt` are nil where it is *not shown*, which is not the same as verified
    * `shown` - whether the body is shown; its commitment was then recomputed
    * `genesis`, `block_hash` - G, and the hash of the block that holds the event
    * `index`, `size` - the block's leaf, and how many leaves the log had
    * `created_at`, `suite` - of the flow
    * `key`, `cosignatures` - whose signatures held, as in `EventSeal.Checkpoint`
  """

  alias EventSeal.{Chain, Checkpoint, Error, Event, Native, Store}
  alias EventSeal.Log.Tree

  @enforce_keys [:event, :shown, :suite, :created_at, :genesis, :block_hash, :index, :size, :key, :cosignatures]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          event: Event.t(),
          shown: boolean,
          suite: Chain.suite(),
          created_at: integer,
          genesis: <<_::256>>,
          block_hash: <<_::256>>,
          index: non_neg_integer,
          size: pos_integer,
          key: String.t(),
          cosignatures: [{String.t(), non_neg_integer}]
        }

  @doc """
  Verifies a proof's text. Options as `EventSeal.Checkpoint.open/2`: `:key`, `:witnesses`, `:quorum`.

  `:malformed` says that it is no proof of this format, `:untrusted` that it proves nothing to whoever trusts these keys.
  """
  @spec verify(binary, Checkpoint.policy()) :: {:ok, t} | {:error, Error.t()}
  def verify(text, policy) do
    witnesses = Keyword.get(policy, :witnesses, [])
    keys = List.wrap(Keyword.fetch!(policy, :key))

    case Native.proof_verify(text, keys, witnesses, Keyword.get(policy, :quorum, length(witnesses))) do
      {:ok, proven} -> {:ok, proven(proven)}
      {:error, failure} -> {:error, refused(failure)}
    end
  end

  @doc false
  # What the native part says of proofs.
  @spec refused(Native.failure() | {:rule, atom}) :: Error.t()
  def refused({:rule, rule}), do: untrusted("no sealed block is so: #{rule}")
  def refused({:refused, :path}), do: untrusted("the log has no such place")
  def refused({:refused, :root}), do: untrusted("it is not what was logged")
  def refused({:refused, reason}), do: Checkpoint.refused(reason)
  def refused(failure), do: Error.from_native(failure)

  defp untrusted(detail), do: Error.new(:untrusted, detail: detail)

  defp proven({flow, n, event, content, {height, index, size}, digests, {key, cosignatures}}) do
    {suite, id, created_at} = flow
    {genesis, hash, link, block_hash} = digests
    {euid, times, what, commitment} = event
    {salt, body} = if content == :not_shown, do: {nil, nil}, else: content
    event = Event.from_native({euid, times, what})
    event = %{event | flow: id, n: n, stage: :fixed, block: height}
    event = %{event | commitment: commitment, hash: hash, id: link, salt: salt, body: body}

    %__MODULE__{
      event: event,
      shown: content != :not_shown,
      suite: suite,
      created_at: created_at,
      genesis: genesis,
      block_hash: block_hash,
      index: index,
      size: size,
      key: key,
      cosignatures: cosignatures
    }
  end

  @doc false
  # Of a store, the tree over its log and a checkpoint of it.
  @spec make(Store.t(), Tree.t(), Checkpoint.t(), String.t(), pos_integer, boolean) ::
          {:ok, String.t()} | {:error, Error.t()}
  def make(store, tree, checkpoint, flow, n, show?) do
    with {:ok, piece} <- piece(store, flow, n),
         {:ok, block} <- Store.read(piece),
         {:ok, header} <- Chain.header(block),
         {:ok, index} <- covered(Tree.block(tree, header.hash), checkpoint.size),
         {:ok, path} <- Tree.inclusion(tree, store, index, checkpoint.size) do
      case Native.proof_make(block, n, show?, {index, path, checkpoint.note}) do
        {:ok, text} ->
          {:ok, text}

        {:error, {:refused, :body}} ->
          {:error, Error.new(:not_found, detail: "the body is not there")}

        {:error, {:refused, what}} ->
          {:error, Error.new(:corrupt, detail: "the #{what} does not lead to the checkpoint")}

        {:error, failure} ->
          {:error, Error.from_native(failure)}
      end
    end
  end

  defp piece(store, flow, n) do
    with {:ok, pieces} <- Store.blocks(store, flow, {n, n}) do
      case List.last(pieces) do
        nil -> {:error, Error.new(:not_found, detail: "no event is fixed at this position")}
        piece -> {:ok, piece}
      end
    end
  end

  defp covered(index, size) when is_integer(index) and index < size, do: {:ok, index}

  defp covered(_index, _size),
    do: {:error, Error.new(:not_found, detail: "no checkpoint covers the block yet; EventSeal.checkpoint/1 signs one")}
end
