defmodule EventSeal.Verifier.Apart.Logs do
  @moduledoc false
  # The logs of the two stores, leaf by leaf and checkpoint by checkpoint; and what they say where two blocks both hold.
  #
  # Which log is right a checkpoint decides: the one that was kept elsewhere, if there is one, else those that the stores
  # have. Where it cannot, a leaf must be met by the block that it is of.

  alias EventSeal.{Chain, Checkpoint, Fault, Native, Store}
  alias EventSeal.Log.Tree
  alias EventSeal.Verifier.Ledger

  @page 4_096
  @log "log"
  # More than this a verification store is not late, but lacks: see EventSeal.Apart.
  @most 100_000
  @shown 100

  @enforce_keys [:store, :apart, :outside, :last]
  defstruct [:store, :apart, :outside, :last, :trees]

  @type t :: %__MODULE__{}

  @doc "The events' store's last checkpoint is read now: what it covers must be in the verification store by then."
  @spec open(Store.t(), Store.t(), Checkpoint.t() | nil) :: t
  def open(store, apart, outside) do
    last = with {:ok, last} <- Checkpoint.last(store), do: last, else: (_damaged -> nil)
    %__MODULE__{store: store, apart: apart, outside: outside, last: last}
  end

  @doc "Compares them. Returns the faults and how many leaves the verification store has not got yet."
  @spec compare(t) :: {t, [Fault.t()], non_neg_integer}
  def compare(%{store: store, apart: apart} = logs) do
    kept = ok!(Store.log(apart, :size))
    events = ok!(Store.log(store, :size))
    {logs, leaves} = leaves(logs, events.leaves, kept.leaves)
    {logs, checkpoints} = checkpoints(logs, events.checkpoints, kept.checkpoints)
    {logs, leaves ++ checkpoints, max(events.leaves - kept.leaves, 0)}
  end

  defp leaves(logs, events, kept) do
    differing = differing(logs, :leaves, min(events, kept))
    short = if kept > events, do: [{events, nil, hd(ok!(Store.log(logs.apart, {:leaves, events, 1})))}], else: []

    {logs, faults} =
      Enum.reduce(differing ++ short, {logs, []}, fn {index, leaf, other}, {logs, faults} ->
        {logs, side} = wrong_leaf(logs, leaf, other)
        class = if leaf && other, do: :log, else: :missing
        {logs, faults ++ [fault(index, class, digest(leaf), digest(other), side)]}
      end)

    covered = if logs.last, do: logs.last.size, else: 0
    lacks? = kept < covered or events - kept > @most
    {logs, if(lacks?, do: faults ++ [fault(kept, :missing, events, kept, :verification)], else: faults)}
  end

  # Where they begin to differ, each time.
  defp differing(logs, kind, to) do
    0
    |> Stream.iterate(&(&1 + @page))
    |> Stream.take_while(&(&1 < to))
    |> Stream.flat_map(fn from -> pairs(logs, {kind, from, min(@page, to - from)}) end)
    |> Stream.chunk_while(false, &differ/2, fn _differed? -> {:cont, nil} end)
    |> Enum.take(@shown)
  end

  defp pairs(logs, {kind, from, count}) do
    kept = Ledger.items(logs.apart, kind, from, count)
    [Enum.to_list(from..(from + count - 1)), Ledger.items(logs.store, kind, from, count), kept] |> Enum.zip()
  end

  defp differ({_index, same, same}, _differed?), do: {:cont, false}
  defp differ(_pair, true), do: {:cont, true}
  defp differ(pair, false), do: {:cont, pair, true}

  defp checkpoints(logs, events, kept) do
    differing = differing(logs, :checkpoints, min(events, kept))
    short = if kept > events, do: [{events, nil, hd(Ledger.items(logs.apart, :checkpoints, events, 1))}], else: []

    {logs, faults} =
      Enum.reduce(differing ++ short, {logs, []}, fn {index, one, other}, {logs, faults} ->
        {logs, side} = wrong_checkpoint(logs, one, other)
        {logs, faults ++ [fault(index, :checkpoint, digest(one), digest(other), side)]}
      end)

    needed = needed(logs, events)
    lacks = if kept < needed, do: [fault(kept, :checkpoint, needed, kept, :verification)], else: []
    {logs, faults ++ lacks}
  end

  # Before the last one was signed, all before it were apart; those of its size may be its own, cosigned later.
  defp needed(%{last: nil}, _count), do: 0
  defp needed(_logs, 0), do: 0

  defp needed(%{last: last} = logs, count) do
    with [item] when is_binary(item) <- Ledger.items(logs.store, :checkpoints, count - 1, 1),
         {:ok, %{size: size}} when size < last.size <- Checkpoint.unpack(item),
         do: count,
         else: (_of_its_size -> needed(logs, count - 1))
  end

  defp wrong_checkpoint(logs, one, other) do
    case {reads?(one), reads?(other)} do
      {false, true} -> {logs, :events}
      {true, false} -> {logs, :verification}
      {false, false} -> {logs, :both}
      # Both are signed: the log that one of them is of decides.
      {true, true} -> wrong_log(logs)
    end
  end

  defp reads?(item), do: is_binary(item) and match?({:ok, _}, Checkpoint.unpack(item))

  defp wrong_leaf(logs, leaf, other) do
    case wrong_log(logs) do
      {logs, :either} -> {logs, unmet(met?(logs.store, leaf), met?(logs.apart, other))}
      decided -> decided
    end
  end

  defp unmet(false, false), do: :both
  defp unmet(false, _other), do: :events
  defp unmet(_leaf, false), do: :verification
  defp unmet(_leaf, _other), do: :either

  # Whether the store has the block that a leaf is of; nil where it cannot be told.
  defp met?(_store, nil), do: nil
  defp met?(_store, :unreadable), do: false

  defp met?(store, leaf) do
    case Native.read_leaf(leaf) do
      {:ok, {:block, _suite, genesis, _height, last, hash}} -> block?(store, genesis, last, hash)
      {:ok, _other} -> nil
      {:error, _malformed} -> false
    end
  end

  defp block?(store, genesis, last, hash) do
    Enum.any?(EventSeal.Heads.flows(store), fn flow ->
      with {:ok, %{genesis: record}} <- Store.head(store, flow),
           {:ok, %{digest: ^genesis}} <- Chain.restore(record, nil, nil, []),
           {:ok, [piece | _]} <- Store.blocks(store, flow, {last, last}),
           {:ok, <<_::binary-32, ^hash::binary-32, _::binary>>} <- Store.read(piece),
           do: true,
           else: (_other -> false)
    end)
  end

  @doc """
  Which side is wrong where two blocks, of these hashes, both hold in themselves: the one that the log does not know. nil
  stands for a block that is not there.
  """
  @spec between(t, binary | nil, binary | nil) :: {t, EventSeal.Kept.side()}
  def between(logs, events, kept) do
    {logs, wrong} = wrong_log(logs)

    case trusted(logs, wrong) do
      nil -> {logs, :either}
      tree -> {logs, unknown(known?(tree, events), known?(tree, kept))}
    end
  end

  defp known?(_tree, nil), do: false
  defp known?(tree, hash), do: Tree.block(tree, hash) != nil

  defp unknown(false, true), do: :events
  defp unknown(true, false), do: :verification
  # A block that the log does not know, and of which the events' store has none either.
  defp unknown(false, false), do: :verification
  defp unknown(true, true), do: :either

  defp trusted(%{trees: {_tree, kept}}, :events), do: kept
  defp trusted(%{trees: {tree, _kept}}, :verification), do: tree

  defp trusted(%{trees: {tree, kept}} = logs, :either) do
    size = min(elem(Tree.head(tree), 0), elem(Tree.head(kept), 0))
    if Tree.root(tree, logs.store, size) == Tree.root(kept, logs.apart, size), do: tree
  end

  # The side whose log is not what the checkpoints say.
  defp wrong_log(%{trees: nil} = logs), do: wrong_log(%{logs | trees: {tree(logs.store), tree(logs.apart)}})

  defp wrong_log(logs) do
    case judge(logs, List.wrap(logs.outside)) do
      :either -> {logs, judge(logs, stored(logs))}
      decided -> {logs, decided}
    end
  end

  # The verification store may have got another since its leaves were read.
  defp stored(%{trees: {_tree, kept}} = logs) do
    own = with {:ok, %Checkpoint{} = own} <- Checkpoint.last(logs.apart), do: own, else: (_none -> nil)
    own = if own && own.size <= elem(Tree.head(kept), 0), do: own
    Enum.reject([logs.last, own], &is_nil/1)
  end

  defp judge(%{trees: {tree, kept}} = logs, checkpoints) do
    events_wrong? = Enum.any?(checkpoints, &(Tree.root(tree, logs.store, &1.size) != {:ok, &1.root}))
    kept_wrong? = Enum.any?(checkpoints, &(Tree.root(kept, logs.apart, &1.size) != {:ok, &1.root}))

    case {events_wrong?, kept_wrong?} do
      {true, false} -> :events
      {false, true} -> :verification
      _undecided -> :either
    end
  end

  # As far as it can be read.
  defp tree(store) do
    tree = Native.log_tree()
    _as_far = Tree.follow(tree, store)
    tree
  end

  @doc """
  Whether the block of this hash is one that the verification store, whose log has `size` leaves, has not got yet: its leaf
  stands behind. `late` is what was found last: a size, and the hashes behind it.
  """
  @spec late?(t, binary, non_neg_integer, {integer, MapSet.t()}) :: {boolean, {integer, MapSet.t()}}
  def late?(logs, hash, size, {of, hashes} = late) do
    if of == size and MapSet.member?(hashes, hash), do: {true, late}, else: late?(logs, hash, size)
  end

  defp late?(logs, hash, size) do
    events = ok!(Store.log(logs.store, :size)).leaves
    hashes = if events - size > @most, do: MapSet.new(), else: behind(logs.store, size, events, MapSet.new())
    {MapSet.member?(hashes, hash), {size, hashes}}
  end

  defp behind(_store, to, to, hashes), do: hashes

  defp behind(store, from, to, hashes) do
    leaves = ok!(Store.log(store, {:leaves, from, min(@page, to - from)}))
    new = for leaf <- leaves, {:ok, {:block, _, _, _, _, hash}} <- [Native.read_leaf(leaf)], into: hashes, do: hash
    if leaves == [], do: new, else: behind(store, from + length(leaves), to, new)
  end

  defp digest(item) when is_binary(item), do: :crypto.hash(:sha256, [0, item])
  defp digest(_none), do: nil

  defp fault(index, class, recorded, kept, side),
    do: %Fault{flow: @log, position: index, class: class, recorded: recorded, recomputed: kept, side: side}

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
