defmodule EventSeal.Writer.Agenda do
  @moduledoc """
  Which flow is due when: at most one time each, the earliest at hand, for one timer to serve them all.
  """

  defstruct times: :gb_sets.new(), of: %{}

  @typedoc "`times` has `{time, id}`, `of` each id's time."
  @type t :: %__MODULE__{times: :gb_sets.set(), of: %{optional(String.t()) => integer}}

  @doc """
  Sets a flow's time, or takes it away with `:infinity`.

      iex> alias EventSeal.Writer.Agenda
      iex> agenda = %Agenda{} |> Agenda.put("a", 7) |> Agenda.put("b", 5) |> Agenda.put("a", 3)
      iex> Agenda.next(agenda)
      3
      iex> {ids, agenda} = Agenda.take(agenda, 4)
      iex> {ids, Agenda.next(agenda), Agenda.next(Agenda.put(agenda, "b", :infinity))}
      {["a"], 5, nil}
  """
  @spec put(t, String.t(), integer | :infinity) :: t
  def put(agenda, id, time) do
    case agenda.of do
      %{^id => ^time} -> agenda
      %{^id => old} -> insert(%{agenda | times: :gb_sets.delete({old, id}, agenda.times)}, id, time)
      _ -> insert(agenda, id, time)
    end
  end

  @doc "Takes out what is due at a time, latest first."
  @spec take(t, integer) :: {[String.t()], t}
  def take(agenda, time) do
    {ids, times} = take(agenda.times, time, [])
    {ids, %{agenda | times: times, of: Map.drop(agenda.of, ids)}}
  end

  @doc "The earliest time, or nil."
  @spec next(t) :: integer | nil
  def next(agenda) do
    unless :gb_sets.is_empty(agenda.times), do: agenda.times |> :gb_sets.smallest() |> elem(0)
  end

  defp insert(agenda, id, :infinity), do: %{agenda | of: Map.delete(agenda.of, id)}

  defp insert(agenda, id, time),
    do: %{agenda | times: :gb_sets.insert({time, id}, agenda.times), of: Map.put(agenda.of, id, time)}

  defp take(times, until, ids) do
    with false <- :gb_sets.is_empty(times),
         {{time, id}, rest} when time <= until <- :gb_sets.take_smallest(times) do
      take(rest, until, [id | ids])
    else
      _ -> {ids, times}
    end
  end
end
