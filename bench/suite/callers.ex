defmodule Bench.Callers do
  @moduledoc false
  # So many processes that call as fast as they are answered.

  @doc """
  Calls `call.(caller, n)` for so many seconds, then `finish.(caller)`, whose time counts too. Returns the calls a second and
  their median duration in microseconds.
  """
  @spec run(pos_integer, number, (pos_integer, pos_integer -> term), (pos_integer -> term)) :: [float]
  def run(callers, seconds, call, finish \\ fn _caller -> :ok end) do
    stop = System.monotonic_time(:nanosecond) + round(seconds * 1_000_000_000)

    {took, times} =
      Bench.Samples.timed(fn ->
        1..callers
        |> Enum.map(&Task.async(fn -> loop(&1, 1, stop, call, finish, []) end))
        |> Enum.flat_map(&Task.await(&1, :infinity))
      end)

    [length(times) * 1_000_000 / took, Bench.Samples.median(times)]
  end

  defp loop(caller, n, stop, call, finish, times) do
    {took, _} = Bench.Samples.timed(fn -> call.(caller, n) end)

    if System.monotonic_time(:nanosecond) < stop do
      loop(caller, n + 1, stop, call, finish, [took | times])
    else
      finish.(caller)
      [took | times]
    end
  end
end
