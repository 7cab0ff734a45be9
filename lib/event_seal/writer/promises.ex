defmodule EventSeal.Writer.Promises do
  @moduledoc """
  Signs what a commit promises (FORMAT.md, "Receipts"), once it is durable: one signature for all receipts of a batch.

  Where receipts are plain there is none of this, and nothing is done. Nothing here fails: a receipt that could not be signed
  says so, and why.
  """

  require Logger
  alias EventSeal.{Batch, Error, Instance, Native, Receipt, Record, Signer, Telemetry}

  @latest 9_007_199_254_740_991
  # What the native part has to do for a receipt, as bytes that are hashed: some two microseconds.
  @work 1_024

  @enforce_keys [:signer, :within, :name]
  defstruct [:signer, :within, :name, failing: false]

  @type t :: %__MODULE__{signer: Signer.t(), within: non_neg_integer, name: atom, failing: boolean}

  @typedoc "A receipt, and what it promises."
  @type pending :: {Receipt.t(), tuple}

  @doc "Opens the signer of an instance; nil if its receipts are plain."
  @spec open(Instance.t()) :: {:ok, t | nil} | {:error, Error.t()}
  def open(%{options: options, name: name}) do
    case options[:receipts] do
      nil -> {:ok, nil}
      receipts -> open(receipts, name)
    end
  end

  defp open(receipts, name) do
    {module, argument} = receipts[:signer]

    with {:ok, {_module, _state, key} = signer} <- Signer.open(module, argument),
         {:ok, _key} <- native(Native.receipts_key(key)),
         do: {:ok, %__MODULE__{signer: signer, within: receipts[:within] * 1_000, name: name}}
  end

  @doc "The replies of a batch that is done, their receipts signed."
  @spec replies(t | nil, Batch.t()) :: {t | nil, [{term, term}]}
  def replies(nil, batch), do: {nil, batch.replies}

  def replies(promises, batch) do
    {promises, receipts} = sign(promises, pending(promises, batch, Enum.flat_map(batch.replies, &receipts/1)))
    {replies, []} = Enum.map_reduce(batch.replies, receipts, &with_receipts/2)
    {promises, replies}
  end

  @doc "What these receipts of a batch promise. It is signed later: a commit of several writers has one signature, too."
  @spec pending(t | nil, Batch.t(), [Receipt.t()]) :: [pending | Receipt.t()]
  def pending(nil, _batch, receipts), do: receipts
  def pending(promises, batch, receipts), do: Enum.map(receipts, &promise(&1, batch, promises.within))

  @doc "Signs what is pending, together."
  @spec sign(t | nil, [pending | Receipt.t()]) :: {t | nil, [Receipt.t()]}
  def sign(promises, pending) when promises == nil or pending == [], do: {promises, pending}

  def sign(promises, pending) do
    {receipts, promised} = Enum.unzip(pending)

    case Telemetry.span([:event_seal, :receipts], measured(promises, receipts), fn -> signed(promises, promised) end) do
      {:ok, signed} -> {noted(promises, nil), Enum.zip_with(receipts, signed, &with_text(&1, &2, promises.signer))}
      {:error, error} -> {noted(promises, error), Enum.map(receipts, &%{&1 | unsigned: error})}
    end
  end

  defp measured(%{name: name}, receipts), do: %{name: name, receipts: length(receipts)}

  defp with_text(receipt, {promised, text}, {_module, _state, key}), do: Receipt.promised(receipt, promised, key, text)

  defp signed(%{signer: {module, state, key}}, promised) do
    work = @work * length(promised)

    with {:ok, {group, text}} <- native(Native.receipts_group(promised, work)),
         {:ok, signature} <- ask(module, state, text),
         do: native(Native.receipts_signed(group, key, signature, work))
  end

  # The commit is done: whatever the signer does, the callers are to be told so. What it raises may name its secret.
  defp ask(module, state, text) do
    case module.sign(state, text) do
      {:ok, <<_::512>> = signature} -> {:ok, signature}
      {:error, %Error{} = error} -> {:error, error}
      _other -> unsigned("the signer answered neither a signature nor an error")
    end
  rescue
    exception -> unsigned("the signer raised #{inspect(exception.__struct__)}")
  catch
    kind, _value -> unsigned("the signer ended with #{kind}")
  end

  defp unsigned(detail), do: {:error, Error.new(:unsigned, detail: detail)}

  defp native({:ok, _} = ok), do: ok
  defp native({:error, {:refused, :signature}}), do: unsigned("what the signer answered is not its key's signature")
  defp native({:error, failure}), do: {:error, Receipt.refused(failure)}

  # When it begins and when it is over, not each time.
  defp noted(%{failing: false} = promises, nil), do: promises

  defp noted(%{failing: true} = promises, nil) do
    Logger.info("EventSeal #{inspect(promises.name)} signs receipts again")
    %{promises | failing: false}
  end

  defp noted(%{failing: true} = promises, _error), do: promises

  defp noted(promises, error) do
    Logger.error("EventSeal #{inspect(promises.name)} cannot sign receipts: #{Exception.message(error)}")
    %{promises | failing: true}
  end

  defp receipts({_from, {:ok, %Receipt{} = receipt}}), do: [receipt]
  defp receipts({_from, {:ok, receipts}}) when is_list(receipts), do: receipts
  defp receipts(_other), do: []

  defp with_receipts({from, {:ok, %Receipt{}}}, [receipt | rest]), do: {{from, {:ok, receipt}}, rest}

  defp with_receipts({from, {:ok, receipts}}, signed) when is_list(receipts) do
    {own, rest} = Enum.split(signed, length(receipts))
    {{from, {:ok, own}}, rest}
  end

  defp with_receipts(other, signed), do: {other, signed}

  # As the event stands once the batch is done.
  defp promise(%{flow: id, euid: euid} = receipt, batch, within) do
    flow = Map.fetch!(batch.flows, id)
    {standing, frame, from} = standing(flow, euid, batch)
    deadline = min(max(from, Record.recorded_at(frame)) + if(standing == :retracted, do: 0, else: within), @latest)
    {receipt, {flow.chain.suite, flow.chain.digest, frame, standing, deadline}}
  end

  defp standing(%{id: id, held: held, step: step}, euid, batch) do
    case held do
      %{^euid => {_seq, _tick, deadline, frame, _body, _generation}} ->
        {:pool, frame, deadline}

      _ ->
        standing = if List.keymember?(step.drops, euid, 1), do: :retracted, else: :settled
        {standing, Map.fetch!(batch.frames, {id, euid}), batch.ctx.at}
    end
  end
end
