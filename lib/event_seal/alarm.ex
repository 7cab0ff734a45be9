defmodule EventSeal.Alarm do
  @moduledoc false
  # The alarm `{EventSeal, name}` in OTP's `:alarm_handler`, where `sasl` runs. Counts and a class only: flows are patients.
  # Where another handler was put in the place of OTP's, it is told alike.

  alias EventSeal.{Instance, Verdict}

  @doc "Sets the alarm for what a verification found."
  @spec set(Instance.t(), Verdict.t()) :: :ok
  def set(instance, verdict) do
    if there?() do
      if Instance.alarm(instance, true), do: :alarm_handler.clear_alarm({EventSeal, instance.name})
      :alarm_handler.set_alarm({{EventSeal, instance.name}, alarming(verdict)})
    end

    :ok
  end

  @doc "Clears it, once all was verified and nothing found."
  @spec clear(Instance.t()) :: :ok
  def clear(instance) do
    if there?() and Instance.alarm(instance, false), do: :alarm_handler.clear_alarm({EventSeal, instance.name})
    :ok
  end

  defp there?, do: Process.whereis(:alarm_handler) != nil

  defp alarming(%{faults: [first | _]} = verdict), do: %{faults: verdict.fault_count, first: first.class}
  defp alarming(verdict), do: %{faults: 0, damage: length(verdict.damage)}
end
