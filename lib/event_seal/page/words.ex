defmodule EventSeal.Page.Words do
  @moduledoc false
  # Counts, times, digests and the classes of faults, in words.

  alias EventSeal.Fault

  # What a reader who knows neither hashes nor this library is told of each class of `EventSeal.Fault`.
  @classes %{
    read: {"Cannot be read", "The stored bytes could not be read, so nothing of them was verified."},
    format: {"Not in the format", "The stored bytes are not of the form in which events are kept."},
    genesis: {"Another flow's beginning", "The record that a flow begins with is not the one of its other blocks."},
    height: {"Block missing or out of place", "A block is missing, doubled or not where it belongs."},
    position: {"Event missing or out of place", "An event is missing, doubled or not where it belongs."},
    commitment: {"Body changed", "The body of this event, what was written in it, is not what was sealed."},
    body_missing: {"Body removed", "The body of this event was taken away, and no erasure is recorded."},
    event_hash: {"Event changed", "The time, place, author or kind of this event is not what was sealed."},
    late: {"Wrong mark for lateness", "The event is marked late and is not, or is late and not marked."},
    recorded_at: {"Time of recording falls", "An event claims to be recorded before the one in front of it."},
    sealed_at:
      {"Time of sealing falls", "A block claims to be sealed before its events or before the block in front of it."},
    epoch: {"Writer's term falls", "A block was sealed by a writer whose term had ended."},
    when_range: {"Wrong range of times", "The range of times on a block is not that of its events."},
    id: {"Id does not follow", "The id that ties this event to those around it does not follow from them."},
    provisional:
      {"Provisional id does not follow", "The id that ties this event to those before it does not follow from them."},
    root: {"Block does not hold its events", "The digest over all events of a block is not theirs."},
    log: {"Not as logged", "The log of the store says something else of this place, or nothing."},
    block_hash: {"Block's header changed", "The header of a block is not what was sealed."},
    previous:
      {"Does not follow the block before", "The block names another block before it than the one that stands there."},
    seam: {"Does not fit its neighbour", "What a block says of the events next to it is not what stands there."},
    close: {"Closing is wrong", "Events stand behind the closing of the flow, or its closing is none."},
    missing: {"Missing", "Events or blocks that should be there are not."},
    checkpoint:
      {"Checkpoint changed",
       "A signed state of the log cannot be read, or is not the same in the two stores that keep it."},
    row:
      {"Row out of place", "A row of the database belongs to no flow, block or log, or is none that a writer leaves."},
    tables: {"Tables changed", "What keeps the database's tables from being changed is not as it was set up."},
    rolled_back: {"Rolled back", "The flow is not, or no longer, what was known of it from elsewhere."}
  }

  @spec class(Fault.class()) :: {title :: String.t(), explanation :: String.t()}
  def class(class), do: Map.fetch!(@classes, class)

  @spec number(integer) :: String.t()
  def number(integer), do: integer |> Integer.to_string() |> String.replace(~r/(?<=\d)(?=(\d{3})+$)/, ",")

  @spec count(integer, String.t(), String.t() | nil) :: String.t()
  def count(number, one, many \\ nil)
  def count(1, one, _many), do: "1 " <> one
  def count(number, one, many), do: number(number) <> " " <> (many || one <> "s")

  @doc "Microseconds since the UNIX epoch, in UTC; parts of a second only where there are any."
  @spec time(integer) :: String.t()
  def time(microseconds) do
    at = DateTime.from_unix!(microseconds, :microsecond)
    at = if rem(microseconds, 1_000_000) == 0, do: DateTime.truncate(at, :second), else: at
    "#{DateTime.to_date(at)} #{DateTime.to_time(at)}"
  end

  @doc "The same, to the second."
  @spec second(integer) :: String.t()
  def second(microseconds), do: time(microseconds - Integer.mod(microseconds, 1_000_000))

  @spec duration(non_neg_integer) :: String.t()
  def duration(microseconds) when microseconds < 10_000, do: "less than 0.01 s"

  def duration(microseconds) when microseconds < 60_000_000,
    do: :erlang.float_to_binary(microseconds / 1_000_000, decimals: 2) <> " s"

  def duration(microseconds) do
    minutes = div(microseconds, 60_000_000)
    days = if minutes >= 1_440, do: "#{div(minutes, 1_440)} d ", else: ""
    hours = if minutes >= 60, do: "#{minutes |> div(60) |> rem(24)} h ", else: ""
    "#{days}#{hours}#{rem(minutes, 60)} min"
  end

  @doc "What a fault has as recorded or recomputed."
  @spec datum(Fault.datum()) :: String.t()
  def datum(nil), do: "nothing"
  def datum(integer) when is_integer(integer), do: Integer.to_string(integer)
  def datum(digest), do: Base.encode16(digest, case: :lower)
end
