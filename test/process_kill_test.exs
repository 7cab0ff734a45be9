defmodule EventSeal.ProcessKillTest do
  # Any process of the tree may die at any moment: nothing that was acknowledged is lost, doubled or out of order, no
  # caller is taken along, and whoever asks again with the same euid gets on.
  use ExUnit.Case, async: true

  alias EventSeal.{Event, Store, Verdict}

  @callers 8
  @events 60
  @kills 12
  @flows 5

  @tag :tmp_dir
  @tag :capture_log
  @tag timeout: 300_000
  test "processes killed under load lose nothing that was acknowledged", %{tmp_dir: dir} do
    name = __MODULE__.Tree
    options = [name: name, store: {Store.Disk, dir: Path.join(dir, "store")}, pool_window: 20, writers: 3]
    start_supervised!({EventSeal, options ++ [block: [max_age: 10, max_events: 8]]})

    callers = for caller <- 1..@callers, do: Task.async(fn -> append_all(name, caller) end)
    killer = Task.async(fn -> for n <- 1..@kills, do: kill(name, n) end)
    acknowledged = Enum.flat_map(callers, &Task.await(&1, :infinity))
    Task.await(killer, :infinity)
    flows = Enum.map(1..@flows, &"patient/#{&1}")
    Enum.each(flows, &insist(fn -> EventSeal.settle(name, &1) end))

    for flow <- flows do
      stored = for event <- EventSeal.stream(name, flow), do: {event.euid, event.recorded_at}
      assert length(Enum.uniq_by(stored, &elem(&1, 0))) == length(stored)

      for caller <- 1..@callers do
        own = for {^caller, %{flow: ^flow} = receipt} <- acknowledged, do: {receipt.euid, receipt.recorded_at}
        assert Enum.filter(stored, &(&1 in own)) == own
      end
    end

    assert length(acknowledged) == @callers * @events
    assert {:ok, verdict} = EventSeal.verify(name)
    assert Verdict.ok?(verdict)
    assert verdict.events == @callers * @events + @kills
  end

  @tag :capture_log
  test "a waiting caller is told when the event is fixed, although its writer was killed meanwhile" do
    name = __MODULE__.Waiting
    start_supervised!({EventSeal, name: name, store: Store.Memory, writers: 1})
    %{euid: euid} = EventSeal.append!(name, "patient/1", vital(1))
    waiting = Task.async(fn -> EventSeal.await_fixed(name, "patient/1", euid, timeout: :infinity) end)
    for _ <- 1..3, do: name |> writers() |> Enum.each(&stop/1)
    insist(fn -> EventSeal.close(name, "patient/1", euid: <<1::128>>) end)
    assert {:ok, %Event{stage: :fixed}} = Task.await(waiting)
  end

  defp append_all(name, caller) do
    for n <- 1..@events do
      flow = "patient/#{rem(caller + n, @flows) + 1}"
      {:ok, receipt} = insist(fn -> EventSeal.append(name, flow, vital(n), euid: <<caller::64, n::64>>) end)
      {caller, receipt}
    end
  end

  # An error here may mean done or not done; the same euid makes it safe to ask again.
  defp insist(fun) do
    case fun.() do
      {:ok, _} = ok ->
        ok

      {:error, %{reason: reason}} when reason in [:storage, :timeout] ->
        Process.sleep(1)
        insist(fun)
    end
  end

  # Between two kills something gets through: otherwise only the restarts would be tested.
  defp kill(name, n) do
    insist(fn -> EventSeal.append(name, "patient/1", vital(n), euid: <<0::64, n::64>>) end)
    Process.sleep(:rand.uniform(30))
    with [_ | _] = victims <- victims(name), do: victims |> Enum.random() |> stop()
  end

  defp victims(name) do
    writers(name) ++ for({_, pid, _, _} <- children(name), is_pid(pid), do: pid)
  end

  defp writers(name) do
    for {EventSeal.Writer, supervisor, _, _} <- children(name),
        is_pid(supervisor),
        {_, pid, _, _} <- children(supervisor),
        is_pid(pid),
        do: pid
  end

  # The supervisor itself may be on its way down.
  defp children(supervisor) do
    Supervisor.which_children(supervisor)
  catch
    :exit, _ -> []
  end

  defp stop(pid) do
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^ref, _, _, _} -> :ok)
  end

  defp vital(n), do: %{when: n, kind: "vital", body: "body #{n}"}
end
