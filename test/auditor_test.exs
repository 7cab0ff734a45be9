defmodule EventSeal.AuditorTest do
  use ExUnit.Case, async: false

  alias EventSeal.{Error, ManualClock, Store}

  @moduletag :tmp_dir
  @moduletag :capture_log

  setup %{tmp_dir: dir} do
    {:ok, _} = Application.ensure_all_started(:sasl)
    name = :"audited-#{System.unique_integer([:positive])}"
    on_exit(fn -> :alarm_handler.clear_alarm({EventSeal, name}) end)
    %{name: name, dir: Path.join(dir, "store"), note: Path.join(dir, "audit")}
  end

  defp start(context, opts \\ []) do
    {audit, opts} = Keyword.pop(opts, :audit, [])
    audit = Keyword.merge([file: context.note, pause: 3_600_000], audit)
    tree = [name: context.name, store: {Store.Disk, dir: context.dir}, pool_window: 0, audit: audit] ++ opts
    start_supervised!({EventSeal, tree}, id: context.name)
  end

  defp fill(name, flows) do
    items =
      for flow <- 1..flows, n <- 1..5, do: {"patient/#{flow}", %{when: n, kind: "vital", body: "body #{flow}.#{n}"}}

    {:ok, _} = EventSeal.append_many(name, items)
    for flow <- 1..flows, do: {:ok, 2} = EventSeal.seal(name, "patient/#{flow}")
  end

  defp health(name), do: elem(EventSeal.health(name), 1)

  # Once all these flows were there when a pass began.
  defp whole(name, flows) do
    with %{last: %{flows: ^flows}} = health <- health(name), do: health, else: (_not_yet -> nil)
  end

  defp wait(fun, tries \\ 1_000) do
    cond do
      found = fun.() -> found
      tries == 0 -> flunk("it did not come")
      true -> Process.sleep(10) && wait(fun, tries - 1)
    end
  end

  # A body that stands in a segment, changed where it lies; and back again.
  defp edit(dir, from, to) do
    for path <- Path.wildcard(dir <> "/segments/*.segment"), {at, _} <- :binary.matches(File.read!(path), from) do
      {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
      :ok = :file.pwrite(file, at, to)
      :ok = :file.close(file)
    end
  end

  defp alarms(name), do: for({{EventSeal, ^name}, what} <- :alarm_handler.get_alarms(), do: what)

  test "everything is looked at, again and again, and a note of it survives a restart", context do
    start(context, audit: [pause: 10])
    fill(context.name, 20)
    assert %{last: last, left: 0, faults: [], error: nil} = wait(fn -> whole(context.name, 20) end)
    assert %{events: 100, faults: 0} = last
    assert last.begun <= last.ended
    wait(fn -> health(context.name).last.ended > last.ended end)
    stop_supervised!(context.name)

    assert %{mode: mode} = File.stat!(context.note)
    assert Bitwise.band(mode, 0o777) == 0o600
    clock = ManualClock.start!()
    start(context, clock: clock)
    assert %{flows: 20, events: 100} = health(context.name).last
  end

  test "a pass goes on where it was, not at the beginning", context do
    start(context)
    fill(context.name, 50)
    stop_supervised!(context.name)
    # As if it had come as far as this flow: the 9 behind it in byte order are left.
    cursor = Base.encode16("patient/5", case: :lower)
    File.write!(context.note, "event-seal-audit/1\nnow 17 41 #{cursor}\nlast -\n")
    start(context)
    last = wait(fn -> health(context.name).last end)
    behind = Enum.count(1..50, &("patient/#{&1}" > "patient/5"))
    assert %{begun: 17, flows: flows, events: events} = last
    assert {flows, events} == {41 + behind, 5 * behind}
  end

  test "a fault is named, alarms, and stays until a pass finds none", context do
    start(context)
    fill(context.name, 5)
    stop_supervised!(context.name)
    edit(context.dir, "body 3.1", "body X.X")
    start(context, audit: [pause: 10])

    assert [%{flow: "patient/3", position: 1, class: :commitment} | _] =
             wait(fn -> Enum.at([health(context.name).faults] -- [[]], 0) end)

    wait(fn -> health(context.name).last end)
    assert [%{first: :commitment}] = alarms(context.name)
    assert %{faults: 1} = health(context.name).last

    edit(context.dir, "body X.X", "body 3.1")
    wait(fn -> health(context.name).last.faults == 0 end)
    assert health(context.name).faults == []
    assert alarms(context.name) == []
  end

  test "it keeps to its budget", context do
    start(context)
    fill(context.name, 40)
    stop_supervised!(context.name)
    File.rm!(context.note)
    begun = System.monotonic_time(:millisecond)
    start(context, audit: [max_rate: {100, :events}])
    wait(fn -> health(context.name).last end)
    assert System.monotonic_time(:millisecond) - begun >= 1_500
  end

  test "a store that cannot be read makes it wait, and say so", context do
    clock = ManualClock.start!()
    start(context, clock: clock)
    wait(fn -> health(context.name).last end)
    File.mkdir_p!(context.note <> ".part")
    ManualClock.advance(clock, 3_600_000)
    assert %Error{reason: :storage} = wait(fn -> health(context.name).error end)
    File.rmdir!(context.note <> ".part")
    ManualClock.advance(clock, 60_000)
    wait(fn -> health(context.name).error == nil end)
  end

  test "another's file is not written over, and without the option there is no audit", context do
    File.write!(context.note, "a letter\n")
    Process.flag(:trap_exit, true)
    opts = [name: context.name, store: Store.Memory]
    assert {:error, reason} = EventSeal.start_link(opts ++ [audit: [file: context.note]])
    assert inspect(reason) =~ "not the note of an audit"
    assert File.read!(context.note) == "a letter\n"
    {:ok, _} = EventSeal.start_link(opts)
    assert {:error, %Error{reason: :invalid, field: :audit}} = EventSeal.health(context.name)
  end

  test "no flow shows in its process's state", context do
    start(context)
    fill(context.name, 3)
    wait(fn -> health(context.name).last end)
    refute inspect(:sys.get_status(Module.concat(context.name, "Auditor")), limit: :infinity) =~ "patient"
  end
end
