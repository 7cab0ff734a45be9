defmodule EventSeal.PowerLossTest do
  # Power is lost before every operation on the files, and again before every one of the recovery that follows: what was
  # acknowledged is there, what was not is there whole or not at all.
  use ExUnit.Case, async: false

  import EventSeal.StoreCase

  alias EventSeal.{PowerFiles, Store}
  alias EventSeal.Store.Disk

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 240_000

  setup do
    PowerFiles.start()
  end

  @commits [
    [{:open, "a", "g"}, {:put, "a", 1, :pool, "m", "1"}, {:put, "a", 2, :tail, "m", "2"}, {:leaf, "1"}],
    [{:put, "a", 1, :tail, "m", :keep}, {:put, "a", 3, :tail, "m", "3"}, {:put, "a", 4, :pool, "m", "4"}, {:leaf, "2"}],
    :block_0,
    :rotate,
    [{:drop, "a", 4, <<0::64, 4::64>>}, {:put, "a", 5, :tail, "m", "5"}, {:leaf, "4"}],
    :rotate,
    :block_1,
    [{:open, "b", "h"}, {:put, "b", 1, :pool, "m", "1"}, {:leaf, "6"}]
  ]

  defp commit(:block_0), do: [block("a", 0, 1, [1, 2], filler: :binary.copy("x", 3000)), {:leaf, "3"}]
  defp commit(:block_1), do: [block("a", 1, 3, [3], filler: :binary.copy("y", 3000)), {:leaf, "5"}]
  defp commit(ops), do: ops

  # What the disk holds of what was never synced is up to the disk.
  defp disks do
    any = fn -> Enum.random([:synced, :done]) end
    [synced, done] = for answer <- [:synced, :done], do: fn -> answer end
    [{synced, synced}, {synced, done}, {done, synced}, {any, any}]
  end

  defp open!(dir), do: start!({Disk, [dir: dir, files: PowerFiles, segment_bytes: 4096]})

  defp state(store) do
    for flow <- ["a", "b"] do
      blocks =
        with {:ok, pieces} <- Store.blocks(store, flow, {1, :infinity}),
             do: for(piece <- pieces, do: {piece.height, piece.first, piece.count, Store.read(piece)})

      {Store.head(store, flow, for(seq <- 1..9, do: euid(seq))), blocks}
    end
  end

  # The files of fingerprints are made by another process, meanwhile.
  defp strike(dir, fun) do
    images = :ets.new(:images, [:public, :ordered_set])

    PowerFiles.watch(fn operation, path ->
      unless path =~ ".euids" do
        for {contents, names} <- disks() do
          number = :ets.info(images, :size)
          image = "#{dir}-#{number}"
          PowerFiles.image(dir, image, contents, names)
          :ets.insert(images, {number, image, fun.(), {operation, Path.basename(path)}})
        end
      end
    end)

    images
  end

  test "at any operation, and again while the store is opened", %{tmp_dir: tmp} do
    seed = :rand.seed(:exsss) |> :rand.export_seed_s()
    dir = Path.join(tmp, "store")
    acknowledged = :counters.new(1, [])
    images = strike(dir, fn -> :counters.get(acknowledged, 1) end)
    store = open!(dir)

    states =
      for commit <- @commits, into: %{0 => [{{:error, %{EventSeal.Error.new(:not_found) | detail: nil}}, nil}]} do
        if commit == :rotate, do: :ok = Disk.rotate(store.name), else: :ok = Store.commit(store, commit(commit))
        if commit != :rotate, do: :counters.add(acknowledged, 1, 1)
        {:counters.get(acknowledged, 1), state(store)}
      end

    PowerFiles.unwatch()
    stop!(store)

    for {number, image, count, at} <- :ets.tab2list(images) do
      if File.exists?(image), do: PowerFiles.settle(image)
      twice = if rem(number, 29) == 0 and count > 0, do: strike(image, fn -> count end)
      check(image, count, states, {seed, at})
      PowerFiles.unwatch()

      for {_number, again, ^count, then} <- (twice && :ets.tab2list(twice)) || [] do
        check(again, count, states, {seed, at, then})
        File.rm_rf!(again)
      end

      File.rm_rf!(image)
    end

    assert :ets.info(images, :size) > 200
  end

  defp check(image, count, states, at) do
    store = open!(image)
    {:ok, %{leaves: leaves}} = Store.log(store, :size)
    assert {at, true} == {at, leaves in [count, count + 1]}
    if leaves > 0, do: assert({at, state(store)} == {at, states[leaves]})
    assert {at, []} == {at, Enum.reject(Disk.report(store.name), &(&1.what == :torn_tail))}
    PowerFiles.unwatch()
    assert :ok = Store.commit(store, [{:leaf, "goes on"}])
    stop!(store)
  end

  test "after a first start that was killed, the folder's own name is synced before anything is answered", %{
    tmp_dir: tmp
  } do
    dir = Path.join(tmp, "store")
    File.mkdir_p!(dir)
    store = open!(dir)
    :ok = Store.commit(store, [{:open, "a", "g"}, {:leaf, "1"}])
    expected = state(store)
    PowerFiles.image(dir, dir <> "-image", fn -> :synced end, fn -> :synced end)
    stop!(store)
    assert expected == state(open!(dir <> "-image"))
  end
end
