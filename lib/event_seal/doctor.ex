defmodule EventSeal.Doctor do
  @moduledoc """
  Examines a store on disk that is damaged, and saves what can be saved into a new one.

  The source is read, never written. What is saved is what follows from each other, byte for byte: blocks from a flow's
  first on, the events behind them that are not sealed, the pool, spent euids, the log up to its first gap. A block in which
  one byte was changed is what it was before: the checksum says which byte, and the chain that it is right. Where more was
  hit, an event whose body no longer meets its commitment stays in its block, whose chain goes on proving the others; the
  verdict names it.

  Where there is a verification store (`EventSeal.Apart`), a block whose digests were hit takes them from there, if it holds with
  them, and a log that is lost, damaged or another than the checkpoints say is brought back from there. Frames and bodies are
  nowhere else. What was brought back so, the new store's log says too.

  A flow cannot go on behind a block whose three next events are lost, since it bears their hashes. Then its last block is
  opened again: its events are in the sandbox of the new store, with their positions, and will be sealed anew; a head that was
  known of the flow (`EventSeal.Heads`) is then `:rolled_back`, as it is. For each such flow, and each that is shorter now, the
  new store's log gets a decision leaf: the loss is on record, and what the log said before binds no more. What is intact
  but follows from nothing that was saved is kept apart, in files that `event_seal.verify --file` reads.
  """

  alias EventSeal.{Chain, Checkpoint, Error, Native, Reader, Store, Verdict, Verification, Verifier}
  alias EventSeal.Doctor.{Apart, Leaves, Saving}
  alias EventSeal.Log.Tree
  alias EventSeal.Store.Disk
  alias EventSeal.Verifier.Apart.Logs

  defstruct verdict: nil,
            saved_verdict: nil,
            flows: 0,
            blocks: 0,
            events: 0,
            pool: 0,
            spent: 0,
            mended: 0,
            by_kept: 0,
            log_kept: false,
            apart: 0,
            lost: 0,
            leaves: 0,
            log_lost: 0,
            broken: [],
            faults: [],
            changed: MapSet.new(),
            decisions: []

  @typedoc """
  `verdict` is the source's, `saved_verdict` the new store's (nil without one). `flows`, `blocks`, `events` (settled), `pool`,
  `spent`, `leaves` (and checkpoints) count what can be saved, `mended` the blocks among it in which one byte was hit, `by_kept` those that hold with the verification store's digests, `apart` the events that are intact but do not follow, `lost`
  those that are known to have been there and are not, `log_lost` the log's items behind its first gap, `log_kept` whether the log is the verification store's. `broken` has a map
  for each flow that is not whole; it and `faults`, `{genesis, fault}`, name flows by their genesis digest in hex. `changed`
  has the genesis digests of flows that are not saved as the log knew them, `decisions` what the new store's log says of them.
  """
  @type t :: %__MODULE__{}

  @page 1_000

  @doc """
  Examines a store that was opened with `mode: :examine`; with `out`, a store that was begun in a new folder, saves what can
  be saved to it, and writes what has to be kept apart to the folder `apart`. `kept` is a verification store of it, or nil.
  """
  @spec run(Store.t(), {Store.t(), apart :: Path.t()} | nil, Store.t() | nil) :: {:ok, t} | {:error, Error.t()}
  def run(store, out \\ nil, kept \\ nil) do
    pool = Verification.pool([])
    remains = Disk.remains(store.name)

    with {:ok, verdict} <- Verifier.run(store, []) do
      run = %{store: store, out: out, kept: kept, pool: pool, remains: remains, verdict: verdict}
      saving = out && %Saving{store: elem(out, 0)}
      {found, saving} = Enum.reduce(flows(store, remains), {%__MODULE__{verdict: verdict}, saving}, &flow(run, &1, &2))
      finish(run, logs(run, {found, saving}))
    end
  rescue
    error in Error -> {:error, error}
  end

  defp flows(store, remains) do
    shown = Reader.flows(store, after: nil, page: @page)
    Stream.concat(shown, for({flow, _} <- remains.blocks, match?({:error, _}, Store.head(store, flow)), do: flow))
  end

  defp flow(run, flow, {found, saving}) do
    examined =
      EventSeal.Doctor.Chain.examine(run.store, flow, Map.get(run.remains.blocks, flow, []), run.pool, run.kept)

    spent = if examined.genesis, do: run.remains.spent |> Map.get(flow, []) |> Enum.uniq(), else: []
    name = name(examined)
    sorted = Apart.sort(examined, run.pool)
    if run.out, do: Apart.write(elem(run.out, 1), name, examined, sorted)
    faults = for %{flow: ^flow} = fault <- run.verdict.faults, do: {name, fault}
    found = %{count(found, examined, spent, sorted, name) | faults: found.faults ++ faults}
    {found, if(saving && keep?(examined, spent), do: Saving.flow(saving, examined, spent), else: saving)}
  end

  defp keep?(examined, spent) do
    examined.genesis != nil and
      (examined.known == 0 or {examined.kept, examined.entries, examined.pool, spent} != {[], [], [], []})
  end

  # A flow is named by its genesis, which says nothing of whose it is.
  defp name(%{genesis: nil, flow: flow}), do: "unknown-" <> hex(:crypto.hash(:sha256, flow))

  defp name(examined), do: examined |> digests() |> hd() |> hex()

  defp digests(%{genesis: nil}), do: []

  defp digests(%{genesis: genesis}) do
    {:ok, chain} = Chain.restore(genesis, nil, nil, [])
    [chain.digest]
  end

  defp hex(digest), do: Base.encode16(digest, case: :lower)

  defp count(found, examined, spent, sorted, name) do
    last = Saving.last(examined)
    beyond = for n <- Apart.positions(sorted), n > last, uniq: true, do: n
    lost = Enum.to_list((last + 1)..examined.known//1) -- beyond

    changed? = last < examined.known or examined.apart != [] or examined.by_kept > 0
    changed = if changed?, do: digests(examined), else: []

    %{
      found
      | changed: MapSet.union(found.changed, MapSet.new(changed)),
        flows: found.flows + if(keep?(examined, spent), do: 1, else: 0),
        blocks: found.blocks + length(examined.kept),
        events: found.events + last,
        pool: found.pool + length(examined.pool),
        spent: found.spent + length(spent),
        mended: found.mended + examined.mended,
        by_kept: found.by_kept + examined.by_kept,
        apart: found.apart + length(beyond) + length(examined.loose),
        lost: found.lost + length(lost),
        broken: found.broken ++ broken(name, last, examined, length(beyond ++ examined.loose), lost)
    }
  end

  defp broken(_name, last, %{known: last}, 0, []), do: []

  defp broken(name, last, examined, apart, lost) do
    [%{flow: name, known: examined.known, saved: last, apart: apart, lost: ranges(lost)}]
  end

  defp ranges(positions) do
    positions
    |> Enum.chunk_while(nil, &range/2, &{:cont, &1, nil})
    |> Enum.reject(&is_nil/1)
  end

  defp range(n, nil), do: {:cont, n..n}
  defp range(n, first..last//_) when n == last + 1, do: {:cont, first..n}
  defp range(n, range), do: {:cont, range, n..n}

  # The log is one tree: as far as the verification store has it, it is taken from there where the store's own does not do.
  defp logs(%{kept: nil, store: store}, acc), do: log_of(store, acc)

  defp logs(%{kept: kept, store: store}, acc) do
    if better?(kept, store) do
      {found, saving} = log_of(kept, acc)
      {more, saving} = beyond(store, kept, saving)
      {%{found | log_kept: true, changed: :all, leaves: found.leaves + more}, saving}
    else
      log_of(store, acc)
    end
  end

  defp log_of(store, acc), do: Enum.reduce([:leaf, :checkpoint], acc, &log(store, &1, &2))

  defp better?(kept, store) do
    {_logs, faults, _behind} = store |> Logs.open(kept, nil) |> Logs.compare()
    Enum.any?(faults, &(&1.side == :events))
  end

  # What the store's own log has behind it; its checkpoints are of another tree, or there already.
  defp beyond(store, kept, saving) do
    {:ok, %{leaves: from}} = Store.log(kept, :size)
    {:ok, %{leaves: to}} = Store.log(store, :size)
    {taken, saving} = items(store, {:leaves, :leaf}, from, to, saving)
    {taken - from, saving}
  end

  # Behind a gap nothing has the place that it had.
  defp log(store, kind, {found, saving}) do
    query = if kind == :leaf, do: :leaves, else: :checkpoints
    {:ok, %{^query => size}} = Store.log(store, :size)
    true_ones = if kind == :leaf, do: size, else: extended(store, size, found.leaves)
    {taken, saving} = items(store, {query, kind}, 0, true_ones, saving)
    {%{found | leaves: found.leaves + taken, log_lost: found.log_lost + size - taken}, saving}
  end

  # How many checkpoints, from the first on, are of leaves that are saved, and so of the new store's log.
  defp extended(store, count, leaves) do
    tree = Native.log_tree()
    _as_far_as_it_can_be_read = Tree.follow(tree, store)

    Enum.find(0..(count - 1)//1, count, fn index ->
      with {:ok, [item]} <- Store.log(store, {:checkpoints, index, 1}),
           {:ok, %{size: size, root: root}} when size <= leaves <- Checkpoint.unpack(item),
           {:ok, ^root} <- Tree.root(tree, store, size),
           do: false,
           else: (_other -> true)
    end)
  end

  defp items(_store, _kind, from, to, saving) when from >= to, do: {from, saving}

  defp items(store, {query, kind} = kinds, from, to, saving) do
    with {:error, %Error{reason: :corrupt}} <- Store.log(store, {query, from, min(to - from, 512)}),
         {:error, %Error{reason: :corrupt}} <- Store.log(store, {query, from, 1}) do
      {from, saving}
    else
      {:ok, []} -> {from, saving}
      {:ok, items} -> items(store, kinds, from + length(items), to, saving && Saving.log(saving, kind, items))
      {:error, error} -> raise error
    end
  end

  defp finish(%{out: nil}, {found, nil}), do: {:ok, found}

  defp finish(%{out: {store, _apart}}, {found, saving}) do
    Saving.commit(saving)
    found = %{found | decisions: Leaves.add(store, found.changed)}
    with {:ok, verdict} <- Verifier.run(store, []), do: {:ok, %{found | saved_verdict: verdict}}
  end

  @doc "Whether nothing is wrong with the source."
  @spec healthy?(t) :: boolean
  def healthy?(%__MODULE__{} = found), do: Verdict.ok?(found.verdict) and found.broken == [] and found.log_lost == 0
end
