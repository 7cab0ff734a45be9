defmodule EventSeal.BenchTest do
  # What bin/bench writes down, and reads again when only some rows are run.
  use ExUnit.Case, async: true

  {:ok, _, _} = "bench/{suite,rows}" |> Path.join("*.{ex,exs}") |> Path.wildcard() |> Kernel.ParallelCompiler.require()

  alias Bench.{Results, Samples, Targets}

  @options %{samples: 2, seconds: 1.5, events: 10, growth: 10}
  @rows ["append_64", "file_64", "hash_sha256_64"]

  @tag :tmp_dir
  test "rows that were not run stay, those that were are replaced", %{tmp_dir: dir} do
    path = Path.join(dir, "results.json")
    Results.write(path, @options, [result("append_64", 10), result("file_64", 20)], @rows)
    all = Results.write(path, @options, [result("append_64", 30)], @rows)
    assert all == [result("append_64", 30), result("file_64", 20)]
    assert Results.read(path, Bench.Machine.machine()) == all
  end

  @tag :tmp_dir
  test "results of another machine are not kept", %{tmp_dir: dir} do
    path = Path.join(dir, "results.json")
    Results.write(path, @options, [result("append_64", 10)], @rows)
    assert Results.read(path, Map.put(Bench.Machine.machine(), "cores", 0)) == []
  end

  @tag :tmp_dir
  test "what is missing keeps its reason, whatever characters that has", %{tmp_dir: dir} do
    path = Path.join(dir, "results.json")
    reason = ~S(it said "no" \ and "median": 7)
    missing = [{[{"append_64", "peer"}], {:missing, reason}}] |> Samples.take(1)
    Results.write(path, @options, missing, @rows)

    assert [%{row: "append_64", who: "peer", unit: "events/s", missing: ^reason} = read] =
             Results.read(path, Bench.Machine.machine())

    refute Map.has_key?(read, :median)
  end

  test "samples are taken in turn, and a peer that breaks off is missing" do
    test = self()
    took = fn name, value -> fn -> send(test, name) && value end end
    broken = {[{"append_64", "peer"}], fn -> raise "it\nbroke" end}

    results =
      Samples.take([{[{"append_64", "event_seal"}], took.(:a, 1)}, {[{"file_64", "file"}], took.(:b, 2)}, broken], 2)

    assert [%{median: 1}, %{median: 2}, %{missing: "broke"}] = results
    assert {:messages, [:a, :b, :a, :b]} = Process.info(self(), :messages)
  end

  test "a promise is held or missed by the medians of ours" do
    other = %{result("append_64", 100_000) | who: "postgresql"}
    lines = Targets.lines([other, result("append_64", 59_999), %{result("file_64", 100_000) | who: "file"}])
    assert Enum.any?(lines, &(&1 =~ ~r/^MISSED +append_64 +59999 /))
    assert Enum.any?(lines, &(&1 =~ ~r/^held +append_64 \/ file_64 +0.6 /))
    assert Enum.any?(lines, &(&1 =~ ~r/^not measured +append_256 /))
  end

  defp result(row, value),
    do: %{row: row, who: "event_seal", unit: "events/s", min: value - 1, median: value, max: value + 1}
end
