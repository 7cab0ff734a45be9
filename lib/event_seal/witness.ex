defmodule EventSeal.Witness do
  @moduledoc """
  A witness of other stores' logs: it keeps the last checkpoint of each origin, and cosigns only what extends it (C2SP
  tlog-cosignature). So whoever runs a log cannot show one history to one, and another to another.

  Any running EventSeal can be one. What it has cosigned are events of its own, in the flow `witness/` followed by the
  origin: durable before the signature is handed out, and as hard to change as any other event.

  A log asks with a request, the text that C2SP tlog-witness has for it: `EventSeal.witness_request/2` makes it, for the
  size that `last/2` names. What comes back is a signature line, for `EventSeal.add_cosignatures/3`.
  """

  alias EventSeal.{Checkpoint, Error, Native, Signer}

  @doc """
  Cosigns the checkpoint of a request, or says why not. Options: `:key` (required: the verifier key, or keys, of the logs
  that may ask), `:signer` (required: `{EventSeal.Signer.File, path}` with a key of purpose `:witness`).

  Errors: `:stale` if the request is not for the size that was cosigned last (ask `last/2`); `:untrusted` if the log's
  signature is wrong, or the checkpoint does not extend the last one, which is evidence of a fork: keep both; `:malformed`;
  those of `EventSeal.append/4`.
  """
  @spec cosign(EventSeal.name(), String.t(), keyword) :: {:ok, String.t()} | {:error, Error.t()}
  def cosign(name, request, opts) do
    {module, argument} = Keyword.fetch!(opts, :signer)

    with {:ok, {old, note}} <- Signer.native(Native.witness_read(request)),
         {:ok, checkpoint} <- Checkpoint.open(note, key: Keyword.fetch!(opts, :key)),
         {:ok, signer} <- Signer.open(module, argument),
         {:ok, count, last} <- last_known(name, checkpoint.origin),
         :ok <- extends(request, old, checkpoint, last),
         {:ok, line} <- Signer.cosignature(signer, checkpoint, System.os_time(:second)),
         :ok <- keep(name, checkpoint, last, count),
         do: {:ok, line}
  end

  @doc "The checkpoint of this origin that was cosigned last, or nil."
  @spec last(EventSeal.name(), String.t()) ::
          {:ok, %{size: non_neg_integer, note: String.t()} | nil} | {:error, Error.t()}
  def last(name, origin) do
    with {:ok, _count, last} <- last_known(name, origin), do: {:ok, last && Map.take(last, [:size, :note])}
  end

  defp flow(origin), do: "witness/" <> origin

  defp last_known(name, origin) do
    with {:ok, %{accepted: count, settled: n}} when count == n <- EventSeal.head(name, flow(origin)),
         {:ok, event} <- EventSeal.event(name, flow(origin), n),
         {:ok, checkpoint} <- Checkpoint.unpack(event.body) do
      {:ok, count, checkpoint}
    else
      {:error, %Error{reason: :not_found}} -> {:ok, 0, nil}
      {:ok, _in_pool} -> {:error, Error.new(:invalid, field: :pool_window, rule: "must be 0 where a witness is kept")}
      {:error, _} = error -> error
    end
  end

  defp extends(request, old, checkpoint, last) do
    {size, root} = if last, do: {last.size, last.root}, else: {0, :crypto.hash(:sha256, "")}

    case old == size && Native.witness_extends(request, root) do
      {:ok, true} -> :ok
      false -> {:error, Error.new(:stale, detail: "the size that was cosigned last is #{size}")}
      {:ok, false} -> {:error, Error.new(:untrusted, detail: "#{checkpoint.origin} does not extend what was cosigned")}
      {:error, failure} -> {:error, Error.from_native(failure)}
    end
  end

  # The same again is signed again, with the time of now, but kept once.
  defp keep(_name, %{size: size, root: root}, %{size: size, root: root}, _count), do: :ok

  # Of two at once one is first: the other has the count wrong.
  defp keep(name, checkpoint, _last, count) do
    event = %{when: System.os_time(:microsecond), kind: "checkpoint", body: Checkpoint.pack(checkpoint)}

    case EventSeal.append(name, flow(checkpoint.origin), event, expect: count) do
      {:ok, _receipt} -> :ok
      {:error, %Error{reason: :count}} -> {:error, Error.new(:stale, detail: "another was cosigned meanwhile")}
      {:error, _} = error -> error
    end
  end
end
