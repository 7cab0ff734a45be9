defmodule EventSeal.Signer do
  @moduledoc """
  Who signs checkpoints, and receipts: a behaviour of two callbacks, so that a key can stay in a file (`EventSeal.Signer.File`), in a
  hardware module, or with another service.

  Whatever it answers is verified with the key that it names before anything is kept or handed out. The state must not
  show the secret: it is part of a process's state. A key has one purpose, which is part of its text: that of `checkpoints:`
  signs no receipts, and that of `receipts:` no checkpoints. Each writer opens the signer of receipts for itself, and has a
  signature made for each of its commits while its callers wait: it has to answer in good time, with an error if need be.
  """

  alias EventSeal.{Checkpoint, Error, Native}

  @type t :: {module, state :: term, key :: String.t()}

  @doc "Opens the key that the argument names, and says which key verifies (`name+id+key`; its name is the log's origin)."
  @callback open(argument :: term) :: {:ok, state :: term, key :: String.t()} | {:error, Error.t()}

  @doc "The signature's bytes: Ed25519 (RFC 8032) over the message, 64 bytes."
  @callback sign(state :: term, message :: binary) :: {:ok, binary} | {:error, Error.t()}

  @doc false
  @spec open(module, term) :: {:ok, t} | {:error, Error.t()}
  def open(module, argument) do
    with {:ok, state, key} <- module.open(argument), do: {:ok, {module, state, key}}
  end

  @doc false
  # A checkpoint that says that the log has this size and root.
  @spec checkpoint(t, non_neg_integer, <<_::256>>) :: {:ok, Checkpoint.t()} | {:error, Error.t()}
  def checkpoint({module, state, key}, size, root) do
    with {:ok, text} <- native(Native.checkpoint_text(key, size, root)),
         {:ok, signature} <- module.sign(state, text),
         {:ok, line} <- native(Native.signature_line(key, signature)),
         do: Checkpoint.open(text <> "\n" <> line, key: key)
  end

  @doc false
  # A witness's signature line for a checkpoint, at a time in seconds.
  @spec cosignature(t, Checkpoint.t(), non_neg_integer) :: {:ok, String.t()} | {:error, Error.t()}
  def cosignature({module, state, key}, checkpoint, time) do
    with {:ok, text} <- native(Native.cosigned_text(checkpoint.note, time)),
         {:ok, signature} <- module.sign(state, text),
         {:ok, line} <- native(Native.signature_line(key, <<time::64, signature::binary>>)),
         {:ok, note} <- native(Native.note_with(checkpoint.note, line)),
         {:ok, _holds} <- Checkpoint.open(note, key: checkpoint.key, witnesses: [key]),
         do: {:ok, line}
  end

  @doc false
  @spec native({:ok, term} | {:error, tuple}) :: {:ok, term} | {:error, Error.t()}
  def native({:ok, _} = ok), do: ok
  def native({:error, {:refused, reason}}), do: {:error, Checkpoint.refused(reason)}
  def native({:error, failure}), do: {:error, Error.from_native(failure)}
end
