defmodule EventSeal.Writer.Watches do
  @moduledoc """
  Who wants to be told when an event leaves pool and sandbox; a watcher that dies is forgotten.
  """

  defstruct by_event: %{}, by_ref: %{}

  @type ref :: reference
  @type t :: %__MODULE__{
          by_event: %{optional({String.t(), binary}) => [{pid, ref, monitor :: reference}]},
          by_ref: %{optional(ref) => {String.t(), binary}}
        }

  @doc "Has `{ref, :left}` sent to `pid` when the event leaves."
  @spec put(t, String.t(), binary, ref, pid) :: t
  def put(watches, flow, euid, ref, pid) do
    watch = {pid, ref, Process.monitor(pid)}

    %{
      watches
      | by_event: Map.update(watches.by_event, {flow, euid}, [watch], &[watch | &1]),
        by_ref: Map.put(watches.by_ref, ref, {flow, euid})
    }
  end

  @doc "Takes a watch back, if it is still there."
  @spec drop(t, ref) :: t
  def drop(watches, ref) do
    case Map.pop(watches.by_ref, ref) do
      {nil, _} -> watches
      {event, by_ref} -> %{watches | by_ref: by_ref, by_event: without(watches.by_event, event, ref)}
    end
  end

  @doc "Takes back the watch of the process whose monitor went off."
  @spec down(t, monitor :: reference) :: t
  def down(watches, monitor) do
    refs = for {_event, list} <- watches.by_event, {_pid, ref, ^monitor} <- list, do: ref
    Enum.reduce(refs, watches, &drop(&2, &1))
  end

  @doc "Tells whoever waited for one of these events."
  @spec left(t, String.t(), [binary]) :: t
  def left(%{by_event: by_event} = watches, _flow, _euids) when by_event == %{}, do: watches

  def left(watches, flow, euids) do
    for euid <- euids, {pid, ref, _} <- Map.get(watches.by_event, {flow, euid}, []), reduce: watches do
      watches ->
        send(pid, {ref, :left})
        drop(watches, ref)
    end
  end

  @doc "Tells whoever waits for any event of these flows: what has become of it is not known."
  @spec unsure(t, [String.t()]) :: t
  def unsure(watches, flows) do
    for {flow, euid} <- Map.keys(watches.by_event), flow in flows, reduce: watches do
      watches -> left(watches, flow, [euid])
    end
  end

  defp without(by_event, event, ref) do
    {gone, left} = Enum.split_with(Map.fetch!(by_event, event), fn {_pid, watched, _monitor} -> watched == ref end)
    Enum.each(gone, fn {_pid, _ref, monitor} -> Process.demonitor(monitor, [:flush]) end)
    if left == [], do: Map.delete(by_event, event), else: Map.put(by_event, event, left)
  end
end
