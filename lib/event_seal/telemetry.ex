defmodule EventSeal.Telemetry do
  @moduledoc false
  # The host's `:telemetry`, if it has one: nothing is a dependency and there is no second mechanism.
  @compile {:no_warn_undefined, :telemetry}

  alias EventSeal.Error

  @type event :: [atom, ...]

  @doc "Loads `:telemetry` where the host has it; called once when a tree starts, since an unloaded module emits nothing."
  @spec load :: boolean
  def load, do: Code.ensure_loaded?(:telemetry)

  @doc """
  Runs `fun` in a span: `event ++ [:start | :stop | :exception]`, as `:telemetry.span/3` emits them.

  The metadata of `:stop` says `result: :ok`, or the reason of the `EventSeal.Error` that came back.
  """
  @spec span(event, map, (() -> result)) :: result when result: term
  def span(event, metadata, fun) do
    if function_exported?(:telemetry, :span, 3) do
      :telemetry.span(event, metadata, fn ->
        result = fun.()
        {result, Map.put(metadata, :result, outcome(result))}
      end)
    else
      fun.()
    end
  end

  @doc "Emits one event, if the host has `:telemetry`."
  @spec execute(event, map, map) :: :ok
  def execute(event, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3), do: :telemetry.execute(event, measurements, metadata), else: :ok
  end

  defp outcome({:error, %Error{reason: reason}}), do: reason
  defp outcome(_result), do: :ok
end
