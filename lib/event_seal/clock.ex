defmodule EventSeal.Clock do
  @moduledoc """
  The store's clock: a behaviour, and the system's clock as its default.

  The time of day goes into the record (`recorded_at`, `sealed_at`); waiting (for a pool window, a block's age) goes by
  the monotonic time, so a time of day that is set back or forward neither holds events in the pool nor rushes them out.

  A host's tests give their own: `clock: {MyClock, argument}`; the argument comes back in each call.
  """

  @type argument :: term
  @type t :: {module, argument}

  @doc "The time of day, in microseconds since the UNIX epoch."
  @callback now(argument) :: integer

  @doc "A time that never goes back, in microseconds since any moment."
  @callback monotonic(argument) :: integer

  @doc "Sends `message` to `pid` when the monotonic time has gone on by so many microseconds."
  @callback send_after(argument, pid, message :: term, microseconds :: non_neg_integer) :: timer :: term

  @doc "Takes a timer back; its message may have been sent already."
  @callback cancel(argument, timer :: term) :: term

  @doc false
  def now(_), do: System.os_time(:microsecond)

  @doc false
  def monotonic(_), do: System.monotonic_time(:microsecond)

  @doc false
  def send_after(_, pid, message, microseconds),
    do: Process.send_after(pid, message, div(microseconds + 999, 1000))

  @doc false
  def cancel(_, timer), do: Process.cancel_timer(timer, async: true, info: false)
end
