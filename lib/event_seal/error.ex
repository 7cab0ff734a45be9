defmodule EventSeal.Error do
  @moduledoc """
  An expected failure, returned as `{:error, %EventSeal.Error{}}` or raised by the `!` variants.

  A message names what was wrong, what is allowed and, where a value was refused, its type: never the value itself,
  since it may be a patient's.

  ## Reasons

    * `:invalid` - a field of an event, or an argument, breaks its rule; see `:field` and `:rule`
    * `:conflict` - the euid stands in this flow already, with other fields
    * `:retracted` - the euid was retracted; it is spent for ever
    * `:settled` - the event has left the pool and can no longer be amended or retracted
    * `:revision` - the event was amended since; `revision:` did not match
    * `:count` - `expect:` did not match what the flow has accepted
    * `:closed` - the flow is closed
    * `:not_found` - there is no such flow, event, block or position
    * `:nothing_to_seal` - no event of the flow can be fixed yet
    * `:overloaded` - the queue or the pool is full; try again later
    * `:stale` - another writer has moved the flow's head
    * `:timeout` - what was awaited did not come in time
    * `:storage` - the store could not write or read
    * `:read_only` - the store is open for reading only
    * `:locked` - another process holds the store's folder
    * `:foreign` - the folder or file is not EventSeal's, or is of an unknown version
    * `:corrupt` - stored bytes are not what was written
    * `:untrusted` - a signature that is asked for is missing or wrong
    * `:unsigned` - the event is durable, but its receipt could not be signed
    * `:malformed` - bytes or text given from outside are not of format 1
    * `:cancelled` - the run was cancelled
  """

  @type reason ::
          :invalid
          | :conflict
          | :retracted
          | :settled
          | :revision
          | :count
          | :closed
          | :not_found
          | :nothing_to_seal
          | :overloaded
          | :stale
          | :timeout
          | :storage
          | :read_only
          | :locked
          | :foreign
          | :corrupt
          | :untrusted
          | :unsigned
          | :malformed
          | :cancelled

  @type t :: %__MODULE__{reason: reason, field: atom | nil, rule: String.t() | nil, detail: String.t() | nil}

  defexception [:reason, :field, :rule, :detail]

  @texts %{
    invalid: "invalid",
    conflict: "this euid stands in the flow already, with other fields",
    retracted: "this euid was retracted and is spent",
    settled: "the event has left the pool and can no longer be changed",
    revision: "the event was amended since",
    count: "the flow has accepted another number of events than expected",
    closed: "the flow is closed",
    not_found: "not found",
    nothing_to_seal: "no event of the flow can be fixed yet",
    overloaded: "too much is waiting; try again later",
    stale: "another writer has moved the flow's head",
    timeout: "timed out",
    storage: "the store failed",
    read_only: "the store is open for reading only",
    locked: "the store's folder is held by another process",
    foreign: "not a store or file of this format version",
    corrupt: "stored bytes are not what was written",
    untrusted: "not to be believed",
    unsigned: "the receipt is not signed",
    malformed: "not of format event-seal/1",
    cancelled: "cancelled"
  }

  @doc "Builds an error; `fields` are the struct's."
  @spec new(reason, keyword) :: t
  def new(reason, fields \\ []) when is_map_key(@texts, reason), do: struct!(%__MODULE__{reason: reason}, fields)

  @rules %{
    empty: "must not be empty",
    too_long: "is too long",
    control: "must not hold control characters",
    range: "is out of range",
    reserved: "must not begin with $; such kinds are the library's own"
  }

  @refusals %{
    count: "a container holds 1 to 1048576 events",
    full: "positions end at 2^53-1",
    recorded_at: "recorded_at must not fall along a flow, nor be after sealed_at",
    close: "a flow ends by one event of kind $close, and by nothing else",
    seams: "height 0, first position 1 and no block before come together",
    range: "times and counters are within ±(2^53-1)"
  }

  @doc false
  # What the native part answers: see EventSeal.Native.
  @spec from_native(tuple) :: t
  def from_native({:malformed, at, what}), do: new(:malformed, detail: "byte #{at}: #{what}")

  def from_native({:invalid, field, rule}),
    do: new(:invalid, field: field, rule: Map.get(@rules, rule, to_string(rule)))

  def from_native({:refused, :closed}), do: new(:closed)
  def from_native({:refused, reason}), do: new(:invalid, rule: Map.get(@refusals, reason, to_string(reason)))
  def from_native({:corrupt, what, nil}), do: new(:corrupt, detail: to_string(what))
  def from_native({:corrupt, what, index}), do: new(:corrupt, detail: "#{what} #{index} behind the last block")

  @doc false
  # A native result, its failure as an error.
  @spec native({:ok, value} | {:error, tuple}) :: {:ok, value} | {:error, t} when value: term
  def native({:ok, _} = ok), do: ok
  def native({:error, failure}), do: {:error, from_native(failure)}

  @doc false
  # A result of the file system, its failure as an error that names the path.
  @spec posix(result | {:error, :file.posix() | atom}, Path.t()) :: result | {:error, t} when result: term
  def posix({:error, reason}, path), do: {:error, new(:storage, detail: "#{path}: #{:file.format_error(reason)}")}
  def posix(result, _path), do: result

  @doc false
  # Reduces up to the first error, which is then the outcome.
  @spec reduce(Enumerable.t(), acc, (term, acc -> {:ok, acc} | {:error, t})) :: {:ok, acc} | {:error, t} when acc: term
  def reduce(items, acc, fun) do
    Enum.reduce_while(items, {:ok, acc}, fn item, {:ok, acc} ->
      case fun.(item, acc) do
        {:ok, _} = ok -> {:cont, ok}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  @impl true
  def message(%__MODULE__{} = error) do
    [
      error.field && "#{error.field}: ",
      @texts[error.reason],
      error.rule && ": #{error.rule}",
      error.detail && " (#{error.detail})"
    ]
    |> Enum.reject(&is_nil/1)
    |> Enum.join()
  end
end
