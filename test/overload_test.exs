defmodule EventSeal.OverloadTest do
  # More callers than the disk can serve: what waits is bounded, the rest is refused at once, and nothing that was
  # accepted is lost. How fast that is stands in bench/overload.exs.
  use ExUnit.Case, async: false

  alias EventSeal.{Error, FaultyFiles, Instance, Store, Verdict}

  @callers 1_000
  @each 5
  @queue 200

  @tag :tmp_dir
  @tag timeout: 300_000
  test "a thousand callers on a slow disk", %{tmp_dir: dir} do
    FaultyFiles.start()
    FaultyFiles.watch(fn operation, _path -> if operation == :datasync, do: Process.sleep(10) end)
    store = {Store.Disk, dir: Path.join(dir, "store"), files: FaultyFiles}

    start_supervised!(
      {EventSeal, name: __MODULE__, store: store, pool_window: 0, writers: 2, queue: [max_events: @queue]}
    )

    watcher = Task.async(fn -> longest_queue(0) end)
    callers = for caller <- 1..@callers, do: Task.async(fn -> for n <- 1..@each, do: insist(caller, n, 0) end)
    {receipts, refused} = callers |> Enum.flat_map(&Task.await(&1, :infinity)) |> Enum.unzip()
    send(watcher.pid, :stop)

    # A writer's timer and the store's answer may wait there too.
    assert Task.await(watcher) <= @queue + 3
    assert Enum.sum(refused) > 0
    stored = for flow <- EventSeal.flows(__MODULE__), event <- EventSeal.stream(__MODULE__, flow), do: event.euid
    assert Enum.sort(stored) == Enum.sort(for receipt <- receipts, do: receipt.euid)
    assert {:ok, verdict} = EventSeal.verify(__MODULE__)
    assert Verdict.ok?(verdict)
    for {_pid, waiting} <- writers(), place <- 1..2, do: assert(:counters.get(waiting, place) == 0)
    assert {:ok, _} = EventSeal.append(__MODULE__, "patient/1", event())
  end

  # The writer does nothing meanwhile: whoever is answered did not wait for it.
  test "who comes too much is refused while the writer stands still, by events and by bytes" do
    start_supervised!(
      {EventSeal, name: __MODULE__, store: Store.Memory, writers: 1, queue: [max_events: 3, max_bytes: 2_000]}
    )

    [{writer, waiting}] = writers()
    :sys.suspend(writer)
    first = for _ <- 1..3, do: Task.async(fn -> EventSeal.append(__MODULE__, "patient/1", event()) end)
    until(fn -> :counters.get(waiting, 1) == 3 end)

    for _ <- 1..@callers,
        do: assert({:error, %Error{reason: :overloaded}} = EventSeal.append(__MODULE__, "patient/1", event()))

    :sys.resume(writer)
    for task <- first, do: assert({:ok, _} = Task.await(task))

    :sys.suspend(writer)

    heavy =
      Task.async(fn -> EventSeal.append(__MODULE__, "patient/1", %{event() | body: String.duplicate("b", 1_500)}) end)

    until(fn -> :counters.get(waiting, 1) == 1 end)
    assert {:error, %Error{reason: :overloaded}} = EventSeal.append(__MODULE__, "patient/1", event())
    :sys.resume(writer)
    assert {:ok, _} = Task.await(heavy)
    assert {:ok, _} = EventSeal.append(__MODULE__, "patient/1", event())
  end

  defp event, do: %{when: 1, kind: "vital", body: "37.2"}

  defp insist(caller, n, refused) do
    case EventSeal.append(__MODULE__, "patient/#{rem(caller * n, 50)}", event()) do
      {:ok, receipt} ->
        {receipt, refused}

      {:error, %Error{reason: :overloaded}} ->
        Process.sleep(:rand.uniform(20))
        insist(caller, n, refused + 1)
    end
  end

  defp longest_queue(longest) do
    receive do
      :stop -> longest
    after
      1 ->
        lengths = for {pid, _waiting} <- writers(), {_, length} <- [Process.info(pid, :message_queue_len)], do: length
        longest_queue(Enum.max([longest | lengths]))
    end
  end

  defp writers do
    instance = Instance.fetch!(__MODULE__)

    for index <- 0..(instance.writers - 1),
        {:ok, pid, waiting} <- [Instance.writer(instance, index)],
        do: {pid, waiting}
  end

  defp until(fun) do
    unless fun.() do
      Process.sleep(1)
      until(fun)
    end
  end
end
