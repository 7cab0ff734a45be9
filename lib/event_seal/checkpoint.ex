defmodule EventSeal.Checkpoint do
  @moduledoc """
  A checkpoint: size and root of a store-wide log, signed (C2SP tlog-checkpoint, an Ed25519 signed note). FORMAT.md,
  "Checkpoints".

    * `origin` - names the log; it is the name of its key
    * `size`, `root` - how many leaves the log had, and the root over them
    * `key` - the verifier key whose signature held
    * `cosignatures` - `{witness's verifier key, seconds since the UNIX epoch}`, one for each trusted witness that signed
    * `note` - the text, as it is handed on

  Keys are given in the text form of signed notes, `name+id+key`, as `mix event_seal.keygen` writes them.
  """

  alias EventSeal.{Error, Native, Store}

  @enforce_keys [:origin, :size, :root, :key, :note]
  defstruct [:origin, :size, :root, :key, :note, cosignatures: []]

  @type t :: %__MODULE__{
          origin: String.t(),
          size: non_neg_integer,
          root: <<_::256>>,
          key: String.t(),
          cosignatures: [{String.t(), non_neg_integer}],
          note: String.t()
        }
  @type policy :: [
          key: String.t() | [String.t(), ...],
          witnesses: [String.t()],
          quorum: non_neg_integer
        ]

  @doc """
  Reads a checkpoint and verifies its signatures. Options: `:key` (required: the log's verifier key, or all that it had in
  the course of time), `:witnesses` (verifier keys, none unless given) and `:quorum` (how many of these must have signed;
  all unless given).

  `:untrusted` says that a signature that is asked for is missing or wrong, `:malformed` that it is no checkpoint, `:invalid`
  that the keys are none, or do not go together: no public key may stand there twice.
  """
  @spec open(String.t(), policy) :: {:ok, t} | {:error, Error.t()}
  def open(note, policy) do
    witnesses = Keyword.get(policy, :witnesses, [])
    keys = List.wrap(Keyword.fetch!(policy, :key))

    case Native.checkpoint_open(note, keys, witnesses, Keyword.get(policy, :quorum, length(witnesses))) do
      {:ok, {origin, size, root, key, cosignatures}} ->
        {:ok, %__MODULE__{origin: origin, size: size, root: root, key: key, cosignatures: cosignatures, note: note}}

      {:error, {:refused, reason}} ->
        {:error, refused(reason)}

      {:error, failure} ->
        {:error, Error.from_native(failure)}
    end
  end

  @untrusted %{
    origin: "it is of another log than the key",
    unsigned: "no key of the log has signed it",
    signature: "a signature is wrong",
    quorum: "too few witnesses have signed"
  }

  @doc false
  # What the native part says of keys and checkpoints.
  @spec refused(atom) :: Error.t()
  def refused(reason) when is_map_key(@untrusted, reason), do: Error.new(:untrusted, detail: @untrusted[reason])
  def refused(:shared), do: Error.new(:invalid, field: :key, rule: "must not serve twice, whatever its name")
  def refused(:purpose), do: Error.new(:invalid, field: :key, rule: "must be a log's, a witness's must be a witness's")
  def refused(reason), do: Error.new(:invalid, field: :key, rule: "is not a key of a signed note: #{reason}")

  @doc false
  # As a store keeps it: with the key, which the note names only by its short id.
  @spec pack(t) :: binary
  def pack(%__MODULE__{key: key, note: note}), do: <<byte_size(key)::16, key::binary, note::binary>>

  @doc false
  @spec unpack(binary) :: {:ok, t} | {:error, Error.t()}
  def unpack(<<size::16, key::binary-size(size), note::binary>>) do
    with {:error, _} <- open(note, key: key), do: corrupt()
  end

  def unpack(_other), do: corrupt()

  defp corrupt, do: {:error, Error.new(:corrupt, detail: "a stored checkpoint")}

  @doc false
  # The last one that a store has.
  @spec last(Store.t()) :: {:ok, t | nil} | {:error, Error.t()}
  def last(store) do
    with {:ok, %{checkpoints: count}} when count > 0 <- Store.log(store, :size),
         {:ok, [item]} <- Store.log(store, {:checkpoints, count - 1, 1}) do
      unpack(item)
    else
      {:ok, %{checkpoints: 0}} -> {:ok, nil}
      {:error, _} = error -> error
    end
  end

  @doc false
  # All that a store has, packed and lazily, the newest first; what the store answers otherwise is raised.
  @spec newest_first(Store.t()) :: Enumerable.t()
  def newest_first(store) do
    {store, nil}
    |> Stream.unfold(fn
      {_store, 0} -> nil
      {store, nil} -> {[], {store, ok!(Store.log(store, :size)).checkpoints}}
      {store, count} -> page(store, count)
    end)
    |> Stream.concat()
  end

  @page 256

  defp page(store, count) do
    from = max(count - @page, 0)
    {store |> Store.log({:checkpoints, from, count - from}) |> ok!() |> Enum.reverse(), {store, from}}
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
