defmodule Ward do
  @moduledoc "A hospital ward that keeps its patients' movements in EventSeal, as an application of any sort would."

  @doc "Writes down that a patient came to a bed; returns the receipt."
  def admit(patient, bed) do
    EventSeal.append(Ward.Events, flow(patient), %{
      when: DateTime.utc_now(),
      where: {:place, "ward/7/bed/#{bed}"},
      who: "nurse/ines",
      kind: "admission",
      body: "bed #{bed}"
    })
  end

  @doc "Settles and seals all that can be fixed of a patient's flow."
  def seal(patient) do
    {:ok, _} = EventSeal.settle(Ward.Events, flow(patient))
    EventSeal.seal(Ward.Events, flow(patient))
  end

  @doc "The bodies of a patient's events, in order, whatever their stage."
  def stays(patient), do: Enum.map(EventSeal.stream(Ward.Events, flow(patient)), & &1.body)

  @doc "Verifies every flow as it is stored."
  def verify, do: EventSeal.verify(Ward.Events)

  defp flow(patient), do: "patient/#{patient}"
end
