defmodule EventSeal.ApartCrashTest do
  # A VM with a store and a verification store is killed, under load and at operations on the files of either. Whatever came
  # over until then, neither is at fault, and after a restart nothing is behind.
  use ExUnit.Case, async: false

  alias EventSeal.{Apart, Instance, KeptStore, Signer, Store}
  alias EventSeal.Crash.{Load, Vm}

  @kills 4
  @operations 12
  @moduletag :capture_log

  @tag :tmp_dir
  @tag timeout: 600_000
  test "after kill -9 the verification store catches up, and no fault is named that is none", %{tmp_dir: dir} do
    {:ok, _key} = Signer.File.generate(Path.join(dir, "log.key"), "clinic.example/log")
    :rand.seed(:exsss, {ExUnit.configuration()[:seed], 0, 0})
    empty(dir)
    behind = for round <- 1..(@kills + @operations), do: round(round, dir)
    IO.puts("\nkill -9 of two stores, #{length(behind)} times; behind after it: #{Enum.join(behind, " ")}")
  end

  # A kill may come before there is a verification store, and what was not there yet cannot be compared.
  defp empty(dir) do
    {:ok, tree} = dir |> then(&plan(0, &1)) |> Load.start()
    assert Apart.sync(Instance.fetch!(Load.name())) == :ok
    Supervisor.stop(tree)
  end

  defp round(round, dir) do
    plan = plan(round, dir)
    path = Path.join(dir, "plan")
    if plan.kill_at, do: Vm.kill_itself(plan, path), else: Vm.kill_under_load(plan, path, false)

    assert {:ok, %{faults: [], fault_count: 0} = killed} =
             KeptStore.verdict(Path.join(dir, "store"), Path.join(dir, "apart"))

    {:ok, tree} = Load.start(plan)
    assert Apart.sync(Instance.fetch!(Load.name())) == :ok
    assert caught_up() > 0 or round == 1
    assert {:ok, %{verification: %{error: nil}}} = EventSeal.health(Load.name())
    Supervisor.stop(tree)
    killed.behind
  end

  # What was open is sealed by itself after a start, and comes over, too.
  defp caught_up do
    case EventSeal.verify(Load.name()) do
      {:ok, %{faults: [], kept: kept, behind: 0}} -> kept
      {:ok, %{faults: []}} -> caught_up()
    end
  end

  defp plan(round, dir) do
    workers =
      for id <- 1..3 do
        log = Path.join(dir, "log.#{round}.#{id}")
        File.touch!(log)
        flows = for more <- 1..3, do: {"worker#{id}/flow#{round}.#{more}", 1, []}
        %{id: id, flows: flows, next_flow: "#{round}.4", log: log}
      end

    %{
      store: disk(dir, "store"),
      more: [
        verification: disk(dir, "apart"),
        checkpoints: [signer: {Signer.File, Path.join(dir, "log.key")}, every: 60]
      ],
      kill_at: if(round > @kills, do: {40 + 7 * round, Enum.random([:before, :half, :after])}),
      window: 0,
      seed: round,
      round: round,
      workers: workers
    }
  end

  # Small, so that journals are rotated on both sides.
  defp disk(dir, name), do: {Store.Disk, [dir: Path.join(dir, name), journal_bytes: 65_536, segment_bytes: 262_144]}
end
