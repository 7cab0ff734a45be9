defmodule EventSeal.PrivacyTest do
  # What a patient's event holds stays out of status reports, crash reports and logs.
  use ExUnit.Case, async: false
  import ExUnit.CaptureLog

  alias EventSeal.{Instance, Store}

  @secret "Sesame 4711 has the flu"

  setup do
    name = Module.concat(__MODULE__, "T#{System.unique_integer([:positive])}")
    start_supervised!({EventSeal, name: name, store: Store.Memory, writers: 1})
    {:ok, writer, _} = Instance.writer(Instance.fetch!(name), 0)
    EventSeal.append!(name, "patient/1", %{when: 1, kind: "note", body: @secret, who: @secret})
    %{name: name, writer: writer}
  end

  test "a writer's status holds no event", %{writer: writer} do
    refute holds_secret?(:sys.get_status(writer))
  end

  test "a writer that crashes reports no event", %{name: name, writer: writer} do
    ref = Process.monitor(writer)

    log =
      capture_log(fn ->
        :sys.suspend(writer)
        waiting = Task.async(fn -> EventSeal.append(name, "patient/1", %{when: 1, kind: "note", body: @secret}) end)
        # A request that no caller of the facade can make.
        send(writer, {:"$gen_call", {self(), make_ref()}, {:append, "patient/1", {@secret}, nil}})
        wait_for_message(writer)
        :sys.resume(writer)
        assert {:error, %{reason: :storage} = error} = Task.await(waiting)
        refute holds_secret?(error)
        assert_receive {:DOWN, ^ref, _, _, reason}
        refute holds_secret?(reason)
        Logger.flush()
      end)

    assert log =~ "EventSeal.Writer"
    refute log =~ "Sesame"
    refute log =~ Base.encode16(@secret)
    refute log =~ shown(:binary.bin_to_list(@secret))
  end

  test "an event that is inspected shows neither body nor who", %{name: name} do
    {:ok, event} = EventSeal.event(name, "patient/1", hd(euids(name)))
    assert event.body == @secret
    refute shown(event) =~ "Sesame"
  end

  defp euids(name), do: for(event <- EventSeal.stream(name, "patient/1"), do: event.euid)

  # How many messages wait is all that a sensitive process tells.
  defp wait_for_message(pid) do
    unless match?({_, n} when n >= 2, Process.info(pid, :message_queue_len)) do
      Process.sleep(1)
      wait_for_message(pid)
    end
  end

  # In the bytes of the term: a body among other bytes is not printed as text.
  defp holds_secret?(term), do: :binary.match(:erlang.term_to_binary(term), "Sesame") != :nomatch

  defp shown(term), do: inspect(term, limit: :infinity, printable_limit: :infinity, structs: true)
end
