defmodule EventSeal.StorePostgres.RivalsTest do
  # Several VMs write to one database at once, to the same flows, and one of them is killed in the midst of it: every caller's
  # answer is true, nothing that was acknowledged is lost or doubled, and no flow forks.
  use ExUnit.Case, async: false

  alias EventSeal.{Error, Instance, Postgres, PostgresServer, Store}
  alias EventSeal.Crash.{Load, Rival, Vm}

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 300_000

  @flows ~w(shared/1 shared/2 shared/3)
  @vms 3
  @workers 3
  @name EventSeal.StorePostgres.Rivals

  for {window, count} <- [{0, 150}, {40, 100}, {3_600_000, 100}] do
    @window window
    @count count
    test "VMs that write the same flows at once, pool window #{window}", %{tmp_dir: dir} do
      compete(dir, PostgresServer.store!(PostgresServer.shared()), @window, @count, fn -> :ok end)
    end
  end

  test "VMs that write the same flows at once, while sessions are ended and the server is killed", %{tmp_dir: dir} do
    server = PostgresServer.start!()
    on_exit(fn -> PostgresServer.stop!(server) end)
    opts = PostgresServer.store!(server, backoff: {5, 100})

    compete(dir, opts, 40, 400, fn ->
      for fault <- [:sessions, "KILL", :sessions, "QUIT"] do
        Process.sleep(300)
        strike(server, fault)
      end
    end)

    PostgresServer.stop!(server)
  end

  defp strike(server, :sessions) do
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'writer%'"
    PostgresServer.as_owner!(server, fn owner -> {:ok, _} = Postgres.run(owner, [{ended, []}]) end)
  end

  defp strike(server, signal), do: server |> PostgresServer.halt!(signal) |> PostgresServer.begin()

  # The first VM is killed, once all are at work; meanwhile something happens, and the others come to their end.
  defp compete(dir, opts, window, count, meanwhile) do
    plan = %{store: PostgresServer.written(opts), window: window, flows: @flows, seed: ExUnit.configuration()[:seed]}

    plans =
      for vm <- 1..@vms,
          do: Map.merge(plan, %{workers: workers(dir, vm), count: if(vm == 1, do: 1_000_000, else: count)})

    [doomed | others] = for {plan, n} <- Enum.with_index(plans), do: Vm.start(Rival, plan, Path.join(dir, "plan#{n}"))
    PostgresServer.wait(fn -> Enum.all?(plans, &(File.stat!(hd(&1.workers).log).size > 2_000)) end, 1_000)
    Vm.kill(doomed)
    meanwhile.()
    Enum.each(others, &Vm.await/1)
    {:ok, _} = Rival.start(@name, plan)
    check(for plan <- plans, worker <- plan.workers, do: Load.read_log(worker.log))
    Supervisor.stop(@name)
  end

  defp workers(dir, vm) do
    for worker <- 1..@workers do
      log = Path.join(dir, "log.#{vm}.#{worker}")
      File.touch!(log)
      %{id: 100 * vm + worker, log: log}
    end
  end

  defp check(logs) do
    for flow <- @flows, do: {:ok, _} = EventSeal.settle(@name, flow)
    stored = for flow <- @flows, into: %{}, do: {flow, Enum.to_list(EventSeal.stream(@name, flow))}
    by_euid = for {flow, events} <- stored, event <- events, into: %{}, do: {{flow, event.euid}, event}
    assert map_size(by_euid) == stored |> Map.values() |> Enum.map(&length/1) |> Enum.sum()
    told = Enum.map(logs, &told/1)
    assert Enum.sum(Enum.map(told, &map_size(&1.sure))) > 100

    for one <- told do
      for {at, revision} <- one.sure, do: assert(kept?(by_euid[at], revision, one.doubts[at]))
      for at <- one.gone, do: assert(by_euid[at] == nil)
      for {at, marks} <- one.seen, by_euid[at], do: assert(Map.take(by_euid[at], Map.keys(marks)) == marks)
      for {flow, euids} <- one.order, do: assert(in_order?(euids, stored[flow]))
    end

    tried = for one <- told, at <- Map.keys(one.sure) ++ Map.keys(one.doubts), into: MapSet.new(), do: at
    assert Enum.all?(Map.keys(by_euid), &(&1 in tried))
    sound()
    for one <- told, at <- Enum.take(one.retracted, 3), do: assert({:error, %Error{reason: :retracted}} = again(at))
  end

  # What a worker's log says must be so: `sure` with the revision, `gone` for certain, `doubts` where it was cut off.
  defp told(log) do
    Enum.reduce(log, %{sure: %{}, gone: [], retracted: [], doubts: %{}, seen: [], order: %{}}, &tell/2)
  end

  defp tell({{:append, items}, :ok}, told) do
    sure = for at <- items, into: told.sure, do: {at, 0}
    order = Enum.reduce(items, told.order, fn {flow, euid}, order -> Map.update(order, flow, [euid], &[euid | &1]) end)
    %{told | sure: sure, order: order}
  end

  # Whoever was refused for certain has not been served; else nobody knows.
  defp tell({op, {:error, reason, detail}}, told) when reason in [:storage, :timeout] do
    if detail =~ "not known", do: tell({op, :in_doubt}, told), else: tell({op, {:error, :stale, detail}}, told)
  end

  defp tell({{:append, items}, {:error, :stale, _}}, told), do: %{told | gone: items ++ told.gone}
  defp tell({{:amend, flow, euid, revision}, :ok}, told), do: %{told | sure: %{told.sure | {flow, euid} => revision}}

  defp tell({{:retract, flow, euid}, :ok}, told) do
    at = {flow, euid}
    %{told | sure: Map.delete(told.sure, at), gone: [at | told.gone], retracted: [at | told.retracted]}
  end

  defp tell({{:look, flow, euid}, {:seen, marks}}, told),
    do: %{told | seen: [{{flow, euid}, Map.new(marks)} | told.seen]}

  defp tell({{:append, items}, :in_doubt}, told), do: doubted(told, items)
  defp tell({{what, flow, euid}, :in_doubt}, told) when what in [:retract, :look], do: doubted(told, [{flow, euid}])
  defp tell({{:amend, flow, euid, _}, :in_doubt}, told), do: doubted(told, [{flow, euid}])
  defp tell({{:look, _flow, _euid}, {:error, :stale, _}}, told), do: told
  defp tell({{what, _flow}, _result}, told) when what in [:settle, :seal], do: told
  defp tell({{what, _, _, _}, {:error, reason, _}}, told) when what == :amend and reason in [:settled, :stale], do: told
  defp tell({{:retract, _, _}, {:error, reason, _}}, told) when reason in [:settled, :stale], do: told

  defp doubted(told, items), do: %{told | doubts: for(at <- items, into: told.doubts, do: {at, true})}

  defp kept?(nil, _revision, doubt), do: doubt == true

  defp kept?(event, revision, doubt) do
    event.body == event.euid <> <<event.revision>> and
      (event.revision == revision or (doubt == true and event.revision == revision + 1))
  end

  # Whoever is answered before it asks again has its events in that order.
  defp in_order?(newest_first, events) do
    own = MapSet.new(newest_first)
    stored = for %{euid: euid} <- events, euid in own, do: euid
    stored == Enum.filter(Enum.reverse(newest_first), &(&1 in stored))
  end

  defp sound do
    assert {:ok, %{fault_count: 0, faults: []}} = EventSeal.verify(@name)
    store = Instance.fetch!(@name).store
    {:ok, leaves} = Store.log(store, {:leaves, 0, 100_000})
    blocks = for <<1, _suite, genesis::binary-32, height::64, _::binary>> <- leaves, do: {genesis, height}
    assert blocks != [] and blocks == Enum.uniq(blocks)
  end

  defp again({flow, euid}), do: EventSeal.append(@name, flow, Rival.event(euid, 0), euid: euid)
end
