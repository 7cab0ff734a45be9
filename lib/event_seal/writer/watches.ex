defmodule EventSeal.Writer.Watches do
  @moduledoc """
  Who wants to be told when an event leaves pool and sandbox; a watcher that dies is forgotten.
  """

  defstruct by_event: %{}, by_ref: %{}, by_monitor: %{}

  @type ref :: reference
  @type t :: %__MODULE__{
          by_event: %{optional({String.t(), binary}) => [{pid, ref, monitor :: reference}]},
          by_ref: %{optional(ref) => {String.t(), binary}},
          by_monitor: %{optional(reference) => ref}
        }

  @doc "Has `{ref, :left}` sent to `pid` when the event leaves."
  @spec put(t, String.t(), binary, ref, pid) :: t
  def put(watches, flow, euid, ref, pid) do
    monitor = Process.monitor(pid)
    watch = {pid, ref, monitor}

    %{
      watches
      | by_monitor: Map.put(watches.by_monitor, monitor, ref),
        by_event: Map.update(watches.by_event, {flow, euid}, [watch], &[watch | &1]),
        by_ref: Map.put(watches.by_ref, ref, {flow, euid})
    }
  end

  @doc "Takes a watch back, if it is still there."
  @spec drop(t, ref) :: t
  def drop(watches, ref) do
    case Map.pop(watches.by_ref, ref) do
      {nil, _} -> watches
      {event, by_ref} -> without(%{watches | by_ref: by_ref}, event, ref)
    end
  end

  @doc "Takes back the watch of the process whose monitor went off."
  @spec down(t, monitor :: reference) :: t
  def down(watches, monitor) do
    case watches.by_monitor do
      %{^monitor => ref} -> drop(watches, ref)
      _ -> watches
    end
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

  defp without(%{by_event: by_event} = watches, event, ref) do
    {{_pid, _ref, monitor}, left} = by_event |> Map.fetch!(event) |> List.keytake(ref, 1)
    Process.demonitor(monitor, [:flush])
    by_event = if left == [], do: Map.delete(by_event, event), else: Map.put(by_event, event, left)
    %{watches | by_event: by_event, by_monitor: Map.delete(watches.by_monitor, monitor)}
  end
end
