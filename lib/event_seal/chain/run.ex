defmodule EventSeal.Chain.Run do
  @moduledoc """
  Settled events of one flow that no block holds yet, one after the other, as a store keeps them: `record` has positions,
  frames and digests (FORMAT.md, "Journal"), `bodies` their salted bodies. Of a single event `bodies` is `nil` if its body is
  not there.
  """

  alias EventSeal.Chain.Entry
  alias EventSeal.Error

  @enforce_keys [:n, :count, :record, :bodies]
  defstruct @enforce_keys

  @typedoc "`n` is the position of the first of its `count` events."
  @type t :: %__MODULE__{n: pos_integer, count: pos_integer, record: binary, bodies: binary | nil}

  @doc "The run of a stored record and its bodies. Raises an `EventSeal.Error` (`:corrupt`) if the record is none."
  @spec new(binary, binary | nil) :: t
  def new(<<2, n::64, _::binary-64, _frame::binary>> = record, bodies),
    do: %__MODULE__{n: n, count: 1, record: record, bodies: bodies}

  def new(<<3, n::64, count::32, _::binary>> = record, bodies) when is_binary(bodies),
    do: %__MODULE__{n: n, count: count, record: record, bodies: bodies}

  def new(_record, _bodies), do: corrupt()

  @doc "A single event as a run."
  @spec of(Entry.t()) :: t
  def of(%Entry{n: n, body: body} = entry) do
    record = record(n, entry.frame, entry.hash, entry.provisional)
    %__MODULE__{n: n, count: 1, record: record, bodies: body}
  end

  @doc "The record of a single event."
  @spec record(pos_integer, binary, <<_::256>>, <<_::256>>) :: binary
  def record(n, frame, <<hash::binary-32>>, <<provisional::binary-32>>),
    do: <<2, n::64, hash::binary, provisional::binary, frame::binary>>

  @doc "The events of a run, oldest first. Raises as `new/2` does."
  @spec entries(t) :: [Entry.t()]
  def entries(%{record: <<2, n::64, hash::binary-32, provisional::binary-32, frame::binary>>, bodies: body}),
    do: [entry(n, frame, hash, provisional, body)]

  def entries(%{record: <<3, n::64, count::32, rest::binary>>, bodies: bodies}) do
    sizes = 4 * count
    digests = 32 * count

    with <<units::binary-size(count), body_units::binary-size(sizes), hashes::binary-size(digests),
           provisionals::binary-size(digests), frames::binary>> <- rest,
         sizes = Enum.zip(for(<<unit <- units>>, do: 64 * unit), for(<<unit::32 <- body_units>>, do: 64 * unit)),
         true <- Enum.sum(Enum.map(sizes, &elem(&1, 0))) == byte_size(frames),
         true <- Enum.sum(Enum.map(sizes, &elem(&1, 1))) == byte_size(bodies) do
      entries(sizes, n, {hashes, provisionals, frames, bodies})
    else
      _ -> corrupt()
    end
  end

  def entries(_run), do: corrupt()

  defp entries([], _n, _left), do: []

  defp entries([{frame_size, body_size} | sizes], n, {hashes, provisionals, frames, bodies}) do
    <<hash::binary-32, hashes::binary>> = hashes
    <<provisional::binary-32, provisionals::binary>> = provisionals
    <<frame::binary-size(frame_size), frames::binary>> = frames
    <<body::binary-size(body_size), bodies::binary>> = bodies
    [entry(n, frame, hash, provisional, body) | entries(sizes, n + 1, {hashes, provisionals, frames, bodies})]
  end

  defp entry(n, <<euid::binary-16, _::binary>> = frame, hash, provisional, body),
    do: %Entry{n: n, euid: euid, frame: frame, hash: hash, provisional: provisional, body: body}

  defp entry(_n, _frame, _hash, _provisional, _body), do: corrupt()

  @doc "The euids of a run's events with their positions. Raises as `new/2` does."
  @spec euids(t) :: [{<<_::128>>, pos_integer}]
  def euids(%{record: <<2, n::64, _::binary-64, euid::binary-16, _::binary>>}), do: [{euid, n}]

  def euids(%{record: <<3, n::64, count::32, rest::binary>>}) do
    others = 68 * count

    case rest do
      <<units::binary-size(count), _::binary-size(others), frames::binary>> -> euids(units, n, frames)
      _ -> corrupt()
    end
  end

  def euids(_run), do: corrupt()

  defp euids(<<>>, _n, <<>>), do: []

  defp euids(<<unit, units::binary>>, n, <<euid::binary-16, rest::binary>>) when unit > 0 do
    others = 64 * unit - 16

    case rest do
      <<_::binary-size(others), frames::binary>> -> [{euid, n} | euids(units, n + 1, frames)]
      _ -> corrupt()
    end
  end

  defp euids(_units, _n, _frames), do: corrupt()

  @doc "The bytes of its frames and salted bodies."
  @spec bytes(t) :: non_neg_integer
  def bytes(%{record: <<2, _::binary>> = record, bodies: bodies}), do: byte_size(record) - 73 + byte_size(bodies || "")

  def bytes(%{count: count, record: record, bodies: bodies}),
    do: byte_size(record) - 13 - 69 * count + byte_size(bodies)

  @spec corrupt() :: no_return
  defp corrupt, do: raise(Error.new(:corrupt, detail: "an unsealed event's record"))
end

defimpl Inspect, for: EventSeal.Chain.Run do
  def inspect(run, _opts), do: "#EventSeal.Chain.Run<#{run.count} from #{run.n}>"
end
