defmodule EventSeal.Await do
  @moduledoc """
  Waits until an event is fixed: asks its writer to be told, looks at the store, and sleeps until one of them says so.
  """

  alias EventSeal.{Error, Event, Instance, Reader, Store, Writer}

  @look 500

  @doc "The fixed event; `:timeout` if it was not fixed in time, `:not_found` if there is no such event (any more)."
  @spec fixed(Instance.t(), String.t(), binary, timeout) :: {:ok, Event.t()} | {:error, Error.t()}
  def fixed(instance, flow, euid, timeout) do
    until = if timeout == :infinity, do: :infinity, else: now() + timeout
    wait(instance, flow, euid, until)
  end

  defp wait(instance, flow, euid, until) do
    case watch(instance, flow, euid, left(until)) do
      {:ok, pid, ref} -> watched(instance, flow, euid, until, {pid, ref})
      # The writer is restarting, or too busy.
      :error -> pause(instance, flow, euid, until)
    end
  end

  defp watched(instance, flow, euid, until, {pid, ref}) do
    monitor = Process.monitor(pid)

    result =
      with {:ok, %Event{stage: stage}} when stage != :fixed <- Reader.event(instance.store, flow, euid),
           do: sleep(instance, ref, monitor, until)

    Process.demonitor(monitor, [:flush])
    Writer.unwatch(pid, ref)
    forget(ref)
    if result == :again, do: wait(instance, flow, euid, until), else: result
  end

  # What another tree fixes this one's writer does not know of.
  defp sleep(instance, ref, monitor, until) do
    wait = if Store.shared?(instance.store), do: min(left(until), @look), else: left(until)

    receive do
      {^ref, :left} -> :again
      {:DOWN, ^monitor, _, _, _} -> :again
    after
      wait -> if left(until) == 0, do: {:error, Error.new(:timeout)}, else: :again
    end
  end

  defp watch(instance, flow, euid, timeout) do
    with {:ok, pid, _waiting} <- Instance.writer(instance, Instance.owner(instance, flow)),
         do: watch(pid, make_ref(), flow, euid, timeout),
         else: (_ -> :error)
  end

  defp watch(pid, ref, flow, euid, timeout) do
    Writer.watch(pid, flow, euid, ref, timeout)
    {:ok, pid, ref}
  catch
    :exit, _ ->
      Writer.unwatch(pid, ref)
      :error
  end

  defp pause(instance, flow, euid, until) do
    case left(until) do
      0 ->
        with {:ok, %Event{stage: stage}} when stage != :fixed <- Reader.event(instance.store, flow, euid),
             do: {:error, Error.new(:timeout)}

      left ->
        Process.sleep(min(left, 20))
        wait(instance, flow, euid, until)
    end
  end

  defp forget(ref) do
    receive do
      {^ref, :left} -> :ok
    after
      0 -> :ok
    end
  end

  defp left(:infinity), do: :infinity
  defp left(until), do: max(until - now(), 0)

  defp now, do: System.monotonic_time(:millisecond)
end
