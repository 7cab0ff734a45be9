defmodule EventSeal.ManualClock do
  @moduledoc false
  # A clock that a test moves: timers fire when it is moved past them, so no test sleeps or depends on how fast it runs.
  use Agent

  @day 1_800_000_000_000_000

  def start!(now \\ @day) do
    {:ok, clock} = ExUnit.Callbacks.start_supervised({Agent, fn -> new(now) end}, id: make_ref())
    {__MODULE__, clock}
  end

  @doc "A clock that ends with its caller."
  def start_link(now \\ @day) do
    {:ok, clock} = Agent.start_link(fn -> new(now) end)
    {__MODULE__, clock}
  end

  defp new(now), do: %{now: now, tick: 0, timers: %{}}

  def now(clock), do: Agent.get(clock, & &1.now)
  def monotonic(clock), do: Agent.get(clock, & &1.tick)

  def send_after(clock, pid, message, microseconds) do
    ref = make_ref()
    Agent.update(clock, &put_in(&1.timers[ref], {&1.tick + microseconds, pid, message}))
    ref
  end

  def cancel(clock, ref), do: Agent.update(clock, &%{&1 | timers: Map.delete(&1.timers, ref)})

  @doc "Moves both times on."
  def advance({__MODULE__, clock}, milliseconds) do
    microseconds = milliseconds * 1000
    Agent.update(clock, &fire(%{&1 | now: &1.now + microseconds, tick: &1.tick + microseconds}))
  end

  @doc "Sets the time of day, as an operator or NTP does."
  def set({__MODULE__, clock}, now), do: Agent.update(clock, &%{&1 | now: now})

  @doc "How long each timer still waits, in microseconds."
  def waits({__MODULE__, clock}) do
    Agent.get(clock, fn state -> for {_ref, {tick, _, _}} <- state.timers, do: tick - state.tick end)
  end

  defp fire(state) do
    {due, later} = Enum.split_with(state.timers, fn {_ref, {tick, _pid, _message}} -> tick <= state.tick end)

    Enum.each(Enum.sort_by(due, fn {_ref, {tick, _, _}} -> tick end), fn {_ref, {_, pid, message}} ->
      send(pid, message)
    end)

    %{state | timers: Map.new(later)}
  end
end
