defmodule EventSeal.SmallStore do
  @moduledoc false
  # A store of two hundred real events with a bit of everything in it: both suites, open and closed flows, one of the pool
  # alone and one of the sandbox alone, one that the journal alone knows, retractions and log leaves, before and after a
  # rotation, finished segments with the files beside them, and a journal that still holds things.

  alias EventSeal.{Checkpoint, FastFiles, Instance, ManualClock, Native, Signer, Store}
  alias EventSeal.Log.Tree
  alias EventSeal.Store.Disk

  @segment_bytes 32_768
  @name __MODULE__

  @doc "Options of the store, to open it with."
  def options(dir), do: [dir: dir, files: FastFiles, segment_bytes: @segment_bytes]

  @doc "Makes it in `dir`, closed in order."
  def make!(dir) do
    with_host(dir, :sha256, fn ->
      append("ward/a", 1..90)
      seal("ward/a")
      append("ward/s", 1..2)
      {:ok, _} = EventSeal.settle(@name, "ward/s")
      leaf(1)
    end)

    with_host(dir, :blake3, fn ->
      append("ward/b", 1..97)
      close("ward/b")
      retract(append("ward/p", 1..5))
      append("ward/a", 91..92)
      {:ok, _} = EventSeal.settle(@name, "ward/a")
      retract(append("ward/a", 93..94))
      :ok = Disk.rotate(Instance.store_name(@name))
      wait_for_fingerprints(dir)
      # The journal's, from here on.
      append("ward/a", 95..95)
      seal("ward/a")
      append("ward/a", 96..96)
      seal("ward/a")
      append("ward/s", 3..3)
      {:ok, _} = EventSeal.settle(@name, "ward/s")
      append("ward/n", 1..1)
      retract(append("ward/p", 6..7))
      append("ward/n", 2..2)
      leaf(2)
    end)
  end

  @doc "Lets it grow by another day: what the day before left is a part of it."
  def another_day!(dir) do
    with_host(dir, :sha256, fn ->
      append("ward/a", 97..110)
      seal("ward/a")
      append("ward/s", 4..5)
      {:ok, _} = EventSeal.settle(@name, "ward/s")
      :ok = Disk.rotate(Instance.store_name(@name))
      append("ward/a", 111..120)
      seal("ward/a")
      append("ward/t", 1..1)
      {:ok, _} = EventSeal.settle(@name, "ward/t")
      wait_for_fingerprints(dir)
    end)
  end

  @doc "The flows of the store."
  def flows, do: for(letter <- ~w(a b n p s), do: "ward/#{letter}")

  defp with_host(dir, suite, fun) do
    block = [max_events: 6, max_bytes: 1_000_000, max_age: :infinity]

    {:ok, host} =
      EventSeal.start_link(
        name: @name,
        store: {Disk, options(dir)},
        suite: suite,
        writers: 1,
        block: block,
        pool_window: 3_600_000,
        clock: ManualClock.start!()
      )

    fun.()
    Supervisor.stop(host)
  end

  defp append(flow, numbers) do
    items = for n <- numbers, do: {flow, %{when: 1_000 * n, kind: "k", body: "b#{n}"}}
    {:ok, receipts} = EventSeal.append_many(@name, items)
    {flow, Enum.map(receipts, & &1.euid)}
  end

  # The last of each are taken back, the others stay.
  defp retract({flow, euids}) do
    for euid <- Enum.take(euids, -2), do: {:ok, _} = EventSeal.retract(@name, flow, euid)
  end

  defp seal(flow) do
    {:ok, _} = EventSeal.settle(@name, flow)
    {:ok, _} = EventSeal.seal(@name, flow)
  end

  defp close(flow), do: {:ok, _} = EventSeal.close(@name, flow)

  # The log changes hands: another key is announced, and signs.
  defp leaf(number) do
    store = Store.handle(Disk, Instance.store_name(@name))
    [{_, before}, {key, verifier}] = for n <- [number - 1, number], do: key(n)
    leaf = Native.key_change_leaf(before, verifier)
    {:ok, tree} = Tree.open(store)
    {:ok, size} = Native.log_push(tree, [leaf])
    {^size, root} = Tree.head(tree)
    {:ok, checkpoint} = Signer.checkpoint({Signer.File, key, verifier}, size, root)
    :ok = Store.commit(store, [{:leaf, leaf}, {:checkpoint, Checkpoint.pack(checkpoint)}])
  end

  defp key(number) do
    {:ok, {secret, _verifier}} = Native.key_texts("ward.example/log", :log, :binary.copy(<<number>>, 32))
    {:ok, key} = Native.key_open(secret)
    key
  end

  # They are made by a process of their own.
  defp wait_for_fingerprints(dir) do
    finished = length(Path.wildcard(dir <> "/segments/*.segment")) - 1
    made = length(Path.wildcard(dir <> "/segments/*.{euids,index}"))

    if made < 2 * finished do
      Process.sleep(10)
      wait_for_fingerprints(dir)
    end
  end
end
