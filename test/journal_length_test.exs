defmodule EventSeal.JournalLengthTest do
  # However many flows stay open, and for however long, the journal stays short. bench/soak.exs does the same at length.
  use ExUnit.Case, async: true

  alias EventSeal.{Store, Verdict}

  @flows 2_000
  @rounds 120
  @journal 262_144

  @tag :tmp_dir
  test "thousands of open flows, some of them closed now and then", %{tmp_dir: dir} do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, 0, 0})
    store = {Store.Disk, dir: dir, journal_bytes: @journal, segment_bytes: 1_048_576}
    start_supervised!({EventSeal, name: __MODULE__, store: store, pool_window: 0})

    {lengths, closed} = Enum.map_reduce(1..@rounds, MapSet.new(), fn _, closed -> {longest(dir), visit(closed)} end)

    # One group more than the limit, a batch of a hundred events, and as much again as room for the next.
    assert Enum.max(lengths) < 2 * (@journal + 131_072), "seed #{seed}"
    assert generation(dir) > 10
    assert MapSet.size(closed) > 50
    assert {:ok, verdict} = EventSeal.verify(__MODULE__)
    assert Verdict.ok?(verdict)
    assert verdict.events == @rounds * 100 + MapSet.size(closed)
  end

  # A flow that is closed makes room for one that begins.
  defp visit(closed) do
    flows = for _ <- 1..100, do: open(:rand.uniform(@flows), closed)

    {:ok, _} =
      EventSeal.append_many(__MODULE__, for(flow <- flows, do: {flow, %{when: 1, kind: "vital", body: "37.2"}}))

    leaving = for flow <- Enum.uniq(flows), :rand.uniform(100) == 1, do: flow
    for flow <- leaving, do: {:ok, _} = EventSeal.close(__MODULE__, flow)
    MapSet.union(closed, MapSet.new(leaving))
  end

  defp open(number, closed) do
    flow = "patient/#{number}"
    if flow in closed, do: open(number + @flows, closed), else: flow
  end

  defp longest(dir), do: dir |> journals() |> Enum.map(&size/1) |> Enum.max()
  defp size(path), do: with({:ok, %{size: size}} <- File.stat(path), do: size, else: (_gone -> 0))
  defp journals(dir), do: Path.wildcard(Path.join(dir, "journal-*"))

  defp generation(dir) do
    "journal-" <> hex = dir |> journals() |> Enum.max() |> Path.basename()
    String.to_integer(hex, 16)
  end
end
