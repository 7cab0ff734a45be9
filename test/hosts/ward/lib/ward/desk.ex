defmodule Ward.Desk do
  @moduledoc "The ward's desk: it reads orders from standard input, a line each, and answers each with a line that begins with `> `."
  use Task, restart: :permanent

  def start_link(_), do: Task.start_link(__MODULE__, :serve, [])

  def serve do
    case IO.gets("") do
      line when is_binary(line) ->
        line |> String.trim() |> String.split(" ", parts: 3) |> answer() |> then(&IO.puts("> " <> &1))
        serve()

      _closed ->
        System.stop()
    end
  end

  defp answer(["admit", patient, bed]), do: said(Ward.admit(patient, bed))
  defp answer(["round", patient, note]), do: said(:ward_night.round(patient, note))
  defp answer(["seal", patient]), do: said(Ward.seal(patient))
  defp answer(["stays", patient]), do: Enum.join(Ward.stays(patient), ", ")
  defp answer(["verify"]), do: verdict(Ward.verify())
  defp answer(["verify", "night"]), do: verdict(:ward_night.verify())
  defp answer(["libraries"]), do: Enum.map_join(Application.loaded_applications(), " ", &elem(&1, 0))
  defp answer(["stop"]), do: System.stop() && "stopping"
  defp answer(_), do: "what?"

  defp said({:ok, _}), do: "ok"
  defp said({:error, error}), do: "error #{Exception.message(error)}"

  defp verdict({:ok, verdict}), do: "#{verdict.events} events, #{verdict.fixed} fixed, #{verdict.fault_count} faults"
  defp verdict({:error, error}), do: "error #{Exception.message(error)}"
end
