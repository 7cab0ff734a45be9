defmodule EventSeal.Receipt do
  @moduledoc """
  What an append is acknowledged with: the event is durable.

    * `flow` - its id; nil where the receipt was read from a text, which names only the genesis
    * `euid` - 16 bytes, the event's name from here on
    * `recorded_at` - the store's clock at its appearance, µs
    * `revision` - how often it was amended since

  With the option `receipts:` it is a *signed promise* as well, one signature for all that was committed together. Its `text`
  is for whoever wants to hold the store to it later: it needs no store, names no patient and shows no body (FORMAT.md,
  "Receipts").

    * `genesis`, `commitment` - G of the flow, and the commitment to the body; the text holds the hash of the whole event, too
    * `standing` - how the event stood: `:pool` (it may still be amended or retracted), `:settled` (it stays as it is) or
      `:retracted` (it never comes into the flow)
    * `deadline` - when, in µs of the store's clock, a checkpoint of the log covers it at the latest
    * `key` - the verifier key whose signature holds
    * `text` - the receipt as it is handed on, nil if it was not signed
    * `unsigned` - an `EventSeal.Error` if it should have been signed and was not

  The event is durable, whatever became of the signature: a signer that fails makes no append fail, or a caller who asked
  again, without an euid, would have the event twice. The receipt then has `text: nil` and says why in `unsigned`; the log
  says when it begins and when it is over. Append the event again, with the receipt's euid, for one that is signed.
  """

  alias EventSeal.{Checkpoint, Error, Native, Proof}

  @enforce_keys [:flow, :euid, :recorded_at, :revision]
  defstruct @enforce_keys ++ [:genesis, :commitment, :standing, :deadline, :key, :text, :unsigned]

  @type t :: %__MODULE__{
          flow: String.t() | nil,
          euid: <<_::128>>,
          recorded_at: integer,
          revision: 0..65_535,
          genesis: <<_::256>> | nil,
          commitment: <<_::256>> | nil,
          standing: :pool | :settled | :retracted | nil,
          deadline: integer | nil,
          key: String.t() | nil,
          text: String.t() | nil,
          unsigned: Error.t() | nil
        }

  @doc """
  Verifies a receipt's text. Option `:key` (required): the verifier key of the receipts, or all that they had in the course
  of time.

  `:malformed` says that it is no receipt of this format, `:untrusted` that none of these keys has signed it, `:invalid` that
  the keys are none of receipts.
  """
  @spec verify(binary, key: String.t() | [String.t(), ...]) :: {:ok, t} | {:error, Error.t()}
  def verify(text, policy) do
    case Native.receipt_verify(text, List.wrap(Keyword.fetch!(policy, :key))) do
      {:ok, {promised, key}} -> {:ok, struct!(__MODULE__, [flow: nil] ++ fields(promised, key, text))}
      {:error, failure} -> {:error, refused(failure)}
    end
  end

  @doc """
  Whether a receipt's promise was kept, by a proof of the same event (`EventSeal.prove/4`):

    * `:kept` - the event stands in its flow as it was promised
    * `:amended` - it stands there as it was amended later, which a promise of `standing: :pool` leaves open
    * `{:broken, what}` - receipt and proof contradict each other: in this field, or since the event was `:retracted`. Both
      are signed, so who signed them cannot deny it

  Options: `:receipts` (required: the key, or keys, of the receipts), and of the proof `:key`, `:witnesses` and `:quorum`, as
  `EventSeal.Checkpoint.open/2`. Errors are those of `verify/2` and `EventSeal.Proof.verify/2`; `:invalid` with the field
  `:proof` says that the proof is of another event.
  """
  @spec kept(binary, binary, keyword) :: {:ok, :kept | :amended | {:broken, atom}} | {:error, Error.t()}
  def kept(receipt, proof, policy) do
    [receipts, logs] = for option <- [:receipts, :key], do: policy |> Keyword.fetch!(option) |> List.wrap()
    witnesses = Keyword.get(policy, :witnesses, [])
    trusted = {logs, witnesses, Keyword.get(policy, :quorum, length(witnesses))}

    case Native.receipt_kept(receipt, proof, receipts, trusted) do
      {:ok, outcome} ->
        {:ok, outcome}

      {:error, {:receipt, {:error, failure}}} ->
        {:error, named("receipt", refused(failure))}

      {:error, {:proof, {:error, failure}}} ->
        {:error, named("proof", Proof.refused(failure))}

      {:error, {:refused, :other}} ->
        {:error, Error.new(:invalid, field: :proof, rule: "must be of the receipt's event")}

      {:error, failure} ->
        {:error, refused(failure)}
    end
  end

  defp named(which, error), do: %{error | detail: "the #{which}: #{error.detail}"}

  @doc false
  # The receipt with what the native part says was promised.
  @spec promised(t, tuple, String.t(), String.t()) :: t
  def promised(receipt, promised, key, text), do: struct!(receipt, fields(promised, key, text))

  defp fields({_suite, genesis, euid, revision, recorded_at, commitment, standing, deadline}, key, text) do
    [
      genesis: genesis,
      euid: euid,
      revision: revision,
      recorded_at: recorded_at,
      commitment: commitment,
      standing: standing,
      deadline: deadline,
      key: key,
      text: text
    ]
  end

  @doc false
  # What the native part says of receipts.
  @spec refused(Native.failure()) :: Error.t()
  def refused({:refused, :purpose}), do: Error.new(:invalid, field: :key, rule: "must be one of receipts")
  def refused({:refused, :unsigned}), do: Error.new(:untrusted, detail: "no key that is trusted has signed it")
  def refused({:refused, reason}), do: Checkpoint.refused(reason)
  def refused(failure), do: Error.from_native(failure)
end
