defmodule EventSeal.Record do
  @moduledoc """
  The bytes in which a store keeps an event that no block holds yet.

  A store is given two binaries for each and looks into neither: `data`, the salted body exactly as it was hashed, and
  `meta`, these records (integers big-endian):

      pool    01 ‖ i64 deadline (µs) ‖ frame
      tail    02 ‖ u64 n ‖ event hash[32] ‖ provisional id[32] ‖ frame
      run     03 ‖ u64 first n ‖ u32 count ‖ frame sizes ‖ salted body sizes ‖ event hashes ‖ provisional ids ‖ frames

  The frame is the one that was hashed (FORMAT.md, "Frame"). See FORMAT.md, "Journal".
  """

  alias EventSeal.Chain.{Entry, Run}
  alias EventSeal.{Error, Event}

  @type frame :: binary

  @doc "The record of an event in the pool; `deadline` is when it settles by itself, in µs since the UNIX epoch."
  @spec encode_pool(integer, frame) :: binary
  def encode_pool(deadline, frame), do: <<1, deadline::signed-64, frame::binary>>

  @doc "Takes a pool record apart. Raises an `EventSeal.Error` (`:corrupt`) if it is none."
  @spec decode_pool(binary) :: {deadline :: integer, revision :: 0..65_535, frame}
  def decode_pool(<<1, deadline::signed-64, frame::binary>>), do: {deadline, revision(frame), frame}
  def decode_pool(_), do: corrupt()

  @doc "The record of a settled event."
  @spec encode_tail(pos_integer, frame, <<_::256>>, <<_::256>>) :: binary
  defdelegate encode_tail(n, frame, hash, provisional), to: Run, as: :record

  @doc "Takes a tail record apart. Raises an `EventSeal.Error` (`:corrupt`) if it is none."
  @spec decode_tail(binary) :: {n :: pos_integer, frame, hash :: <<_::256>>, provisional :: <<_::256>>}
  def decode_tail(<<2, n::64, hash::binary-32, provisional::binary-32, frame::binary>>),
    do: {n, frame, hash, provisional}

  def decode_tail(_), do: corrupt()

  @doc """
  The settled events among a store's entries, `{seq, :pool | :tail, meta, data}`, in their order. Raises as `decode_tail/1`
  does.
  """
  @spec settled([{integer, :pool | :tail, binary, binary}]) :: [Entry.t()]
  def settled(entries), do: Enum.flat_map(runs(entries), &Run.entries/1)

  @doc "The same, as they are stored."
  @spec runs([{integer, :pool | :tail, binary, binary}]) :: [Run.t()]
  def runs(entries), do: for({_seq, :tail, meta, data} <- entries, do: Run.new(meta, data))

  @doc "How many events of the flow a store's entries hold that have settled."
  @spec settled_count([{integer, :pool | :tail, binary, binary}]) :: non_neg_integer
  def settled_count(entries), do: Enum.sum(for {_seq, :tail, meta, _data} <- entries, do: count(meta))

  defp count(<<3, _n::64, count::32, _::binary>>), do: count
  defp count(_meta), do: 1

  @doc "The euid in a frame."
  @spec euid(frame) :: <<_::128>>
  def euid(<<euid::binary-16, _::binary>>), do: euid
  def euid(_), do: corrupt()

  @doc "The time of appearance in a frame."
  @spec recorded_at(frame) :: integer
  def recorded_at(<<_::binary-24, recorded_at::signed-64, _::binary>>), do: recorded_at
  def recorded_at(_), do: corrupt()

  @doc "How often the event of a frame was amended."
  @spec revision(frame) :: 0..65_535
  def revision(<<_::binary-65, revision::16, _::binary>>), do: revision
  def revision(_), do: corrupt()

  @doc "A frame and its salted body as the draft that they were made of; `nil` body if the salted body is not there."
  @spec draft(frame, binary | nil) :: Event.draft()
  def draft(frame, salted) do
    <<euid::binary-16, at::signed-64, recorded_at::signed-64, _commitment::binary-32, _flags, revision::16,
      kind_size::16, kind::binary-size(kind_size), version::16, rest::binary>> = frame

    {where, <<who_size::16, who::binary-size(who_size), _padding::binary>>} = where(rest)
    {salt, body} = salted(salted)
    {euid, at, recorded_at, revision, kind, version, where, if(who != "", do: who), salt, body}
  end

  @doc "A frame and its salted body as an event, with what a frame holds: no flow, position or stage."
  @spec event(frame, binary | nil) :: Event.t()
  def event(<<_::binary-32, commitment::binary-32, flags, _::binary>> = frame, salted) do
    {euid, at, recorded_at, revision, kind, version, where, who, salt, body} = draft(frame, salted)

    %Event{
      euid: euid,
      when: at,
      recorded_at: recorded_at,
      revision: revision,
      kind: kind,
      version: version,
      where: shown(where),
      who: who,
      salt: salt,
      body: body,
      commitment: commitment,
      late: flags == 1
    }
  end

  defp where(<<0, rest::binary>>), do: {nil, rest}
  defp where(<<1, size::16, place::binary-size(size), rest::binary>>), do: {place, rest}
  defp where(<<2, lat::signed-32, lon::signed-32, rest::binary>>), do: {{lat, lon}, rest}

  defp salted(<<salt::binary-16, size::64, body::binary-size(size), _padding::binary>>), do: {salt, body}
  defp salted(nil), do: {nil, nil}

  defp shown(nil), do: nil
  defp shown({lat, lon}), do: {:geo, lat / 10_000_000, lon / 10_000_000}
  defp shown(place), do: {:place, place}

  @spec corrupt() :: no_return
  defp corrupt, do: raise(Error.new(:corrupt, detail: "an unsealed event's record"))
end
