defmodule EventSeal.Verifier.Apart.Pace do
  @moduledoc false
  # The budget of a comparison: no more events a second than the verification may use; and whether it is still wanted.

  # About what an event's hash and id take, of which the budget may be.
  @event_bytes 64
  @every 100

  @enforce_keys [:rate, :progress, :begun, :asked]
  defstruct [:rate, :progress, :begun, :asked, events: 0]

  @type t :: %__MODULE__{}

  @spec new(keyword) :: t
  def new(opts) do
    now = now()
    %__MODULE__{rate: rate(opts[:max_rate]), progress: opts[:progress], begun: now, asked: now - @every}
  end

  defp rate(nil), do: nil
  defp rate({count, :events}), do: count
  defp rate({count, :bytes}), do: max(div(count, @event_bytes), 1)

  @doc "Counts events that are about to be compared, and rests where they are more than is due; throws `:cancelled`."
  @spec wait(t, non_neg_integer) :: t
  def wait(pace, events), do: %{pace | events: pace.events + events} |> ask() |> rest()

  defp ask(%{progress: progress} = pace) when is_function(progress, 1) do
    now = now()

    if now - pace.asked >= @every do
      if progress.(%{compared: pace.events}) == :cancel, do: throw(:cancelled)
      %{pace | asked: now}
    else
      pace
    end
  end

  defp ask(pace), do: pace

  defp rest(%{rate: nil} = pace), do: pace

  defp rest(%{rate: rate} = pace) do
    due = pace.begun + div(1_000 * pace.events, rate)
    left = due - now()

    if left > 0 do
      Process.sleep(min(left, @every))
      pace |> ask() |> rest()
    else
      pace
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
