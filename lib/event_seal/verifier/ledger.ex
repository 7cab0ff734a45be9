defmodule EventSeal.Verifier.Ledger do
  @moduledoc false
  # The store-wide log, held against the store (FORMAT.md, "Verification"): each leaf has its block or its end of a flow,
  # each block has its leaf, and the log is what its checkpoints say. It is read before the flows are, so whatever it speaks
  # of must be there; what was sealed since is looked up once more.
  #
  # A fault of the log as a whole names the flow "log", and a leaf's index or a size as its position.

  alias EventSeal.{Chain, Checkpoint, Error, Fault, Heads, Native, Stamp, Store, Verdict}
  alias EventSeal.Stamp.Kept

  @page 4_096
  @log "log"

  @enforce_keys [:store, :held]
  defstruct [:store, :held, size: 0, last: nil, stamp: nil, base: 0]

  @type t :: %__MODULE__{
          store: Store.t(),
          held: reference,
          size: non_neg_integer,
          last: Checkpoint.t() | nil,
          stamp: Stamp.t() | nil,
          base: non_neg_integer
        }
  @typedoc "A checkpoint that was kept elsewhere, and whether what it covers is taken as verified."
  @type known :: {:checkpoint | :since, Checkpoint.t()} | nil

  @doc """
  Reads the log. `known` is a checkpoint that was kept elsewhere; if what it covers is taken as verified, and the log holds it,
  its size is the ledger's `base`. `anchors` whom to believe time stamps, or nil. Where a leaf cannot be read, nothing behind it has
  its place: that is a fault, and there is no ledger.
  """
  @spec open(Store.t(), known, Stamp.anchors() | nil) ::
          {:ok, t | nil, [Fault.t()]} | {:error, Error.t()}
  def open(store, known, anchors) do
    with {:ok, {stamped, stamp}} <- stamped(store, anchors), do: open(store, known, stamped, stamp)
  end

  defp open(store, known, stamped, stamp) do
    {last, stored, faults} = stored(store)
    checkpoints = Enum.reject([known && elem(known, 1), stamped | stored], &is_nil/1)
    points = for(%{size: size} <- checkpoints, do: size) |> Enum.uniq() |> Enum.sort()
    held = Native.ledger()

    case learn(store, held, {0, Native.ledger_learn(held, [])}, points, %{}) do
      {:ok, size, roots} ->
        :ok = Native.ledger_arrange(held)
        found = Enum.flat_map(checkpoints, &compare(&1, size, roots))
        {last, stamp} = if Enum.any?(found), do: {nil, nil}, else: {last, stamp}
        base = with {:since, since} <- known, [] <- compare(since, size, roots), do: since.size, else: (_ -> 0)
        ledger = %__MODULE__{store: store, held: held, size: size, last: last, stamp: stamp, base: base}
        {:ok, ledger, faults ++ Enum.uniq(found)}

      {:unreadable, size} ->
        {:ok, nil, faults ++ [fault(@log, size, :read)]}

      {:error, _} = error ->
        error
    end
  end

  # What cannot be read is a fault, and named elsewhere; only who asks for an authority's word must have it.
  defp stamped(store, anchors) do
    case Kept.last(store, anchors) do
      {:ok, found} -> {:ok, found || {nil, nil}}
      {:error, %Error{reason: :corrupt}} when anchors == nil -> {:ok, {nil, nil}}
      {:error, _} = error -> error
    end
  end

  # Those that the store has: the last, nil if that one cannot be read, all that can be, and a fault for each other.
  defp stored(store) do
    read =
      for {item, index} <- Enum.with_index(checkpoints(store)), do: {index, is_binary(item) && Checkpoint.unpack(item)}

    {good, bad} = Enum.split_with(read, fn {_index, read} -> match?({:ok, _}, read) end)
    last = with {_index, {:ok, last}} <- List.last(read), do: last, else: (_none -> nil)

    {last, for({_index, {:ok, checkpoint}} <- good, do: checkpoint),
     for({at, _} <- bad, do: fault(@log, at, :checkpoint))}
  end

  defp checkpoints(store) do
    %{checkpoints: count} = ok!(Store.log(store, :size))
    for from <- 0..(count - 1)//@page, item <- items(store, :checkpoints, from, min(@page, count - from)), do: item
  end

  @doc "So many leaves or checkpoints of a log, from an index on. One that cannot be read is `:unreadable`, and hides no other."
  @spec items(Store.t(), :leaves | :checkpoints, non_neg_integer, pos_integer) :: [binary | :unreadable]
  def items(store, kind, from, count) do
    case Store.log(store, {kind, from, count}) do
      {:ok, items} when length(items) == count -> items
      {:error, %Error{reason: :storage} = error} -> raise error
      _unreadable when count > 1 -> Enum.flat_map(from..(from + count - 1), &items(store, kind, &1, 1))
      _unreadable -> [:unreadable]
    end
  end

  # Up to each size that a checkpoint speaks of, so that the root is known there.
  defp learn(store, held, {size, {size, root}}, [size | points], roots),
    do: learn(store, held, {size, {size, root}}, points, Map.put(roots, size, root))

  defp learn(store, held, {size, _head}, points, roots) do
    # They ascend: the first is the nearest.
    count = with([next | _] <- points, do: min(@page, next - size), else: ([] -> @page))

    case Store.log(store, {:leaves, size, count}) do
      {:ok, []} ->
        {:ok, size, roots}

      {:ok, leaves} ->
        {size, _root} = head = Native.ledger_learn(held, leaves)
        learn(store, held, {size, head}, points, roots)

      {:error, %Error{reason: :corrupt}} ->
        {:unreadable, size}

      {:error, _} = error ->
        error
    end
  end

  defp compare(%{size: size}, stored, _roots) when size > stored,
    do: [%{fault(@log, size, :rolled_back) | recorded: stored, recomputed: size}]

  defp compare(%{size: size, root: root}, _stored, roots) do
    case roots do
      %{^size => ^root} -> []
      %{^size => made} -> [%{fault(@log, size, :log) | recorded: root, recomputed: made}]
    end
  end

  @doc "Up to which position what is taken as verified binds a flow, by its genesis record: its blocks, and its events."
  @spec reach(t, binary) :: {fixed :: non_neg_integer, n :: non_neg_integer}
  def reach(ledger, genesis), do: Native.ledger_reach(ledger.held, digest(genesis), ledger.base)

  @doc "What is taken as verified of a flow before a position is not looked for."
  @spec pass(t, binary, pos_integer) :: :ok
  def pass(ledger, genesis, before), do: Native.ledger_pass(ledger.held, digest(genesis), ledger.base, before)

  @doc """
  Of closed flows, each by where its last block lies and its last position: whether what is taken as verified ends with that
  very block. Then it is not looked for.
  """
  @spec pass_ended(t, [{term, pos_integer}]) :: [boolean]
  def pass_ended(ledger, flows), do: Native.ledger_pass_ended(ledger.held, flows, ledger.base)

  # Of a record that is none nothing is known.
  defp digest(genesis) do
    case Chain.restore(genesis, nil, nil, []) do
      {:ok, chain} -> chain.digest
      {:error, _} -> <<0::256>>
    end
  end

  @doc "Faults of the blocks that were looked at and that no leaf tells of, the leaves that were added meanwhile included."
  @spec strays(t | nil) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def strays(nil), do: {:ok, []}

  def strays(ledger) do
    if Native.ledger_has_strays(ledger.held),
      do: with(:ok <- follow(ledger), do: {:ok, Enum.map(Native.ledger_strays(ledger.held), &Chain.fault/1)}),
      else: {:ok, []}
  end

  defp follow(%{store: store, held: held} = ledger) do
    {size, _root} = Native.ledger_learn(held, [])

    case Store.log(store, {:leaves, size, @page}) do
      {:ok, []} -> :ok
      {:ok, leaves} -> with({_size, _root} <- Native.ledger_learn(held, leaves), do: follow(ledger))
      {:error, _} = error -> error
    end
  end

  @doc "What is left when every flow was looked at: leaves that nothing met or that are none, and how far the log covers."
  @spec rest(t | nil, pos_integer) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def rest(nil, _max_faults), do: {:ok, %Verdict{}}

  def rest(ledger, max_faults) do
    {unmet, malformed, unknown, covered} =
      Native.ledger_rest(ledger.held, if(ledger.last, do: ledger.last.size, else: 0))

    malformed = for index <- malformed, do: fault(@log, index, :log)

    with {:ok, unmet_faults} <- named(ledger.store, Enum.take(unmet, max_faults)) do
      {:ok,
       %Verdict{
         faults: Enum.take(malformed ++ unmet_faults, max_faults),
         fault_count: length(malformed) + length(unmet),
         leaves: ledger.size,
         unknown_leaves: unknown,
         checkpoint: ledger.last && ledger.last.size,
         stamp: ledger.stamp,
         since: if(ledger.base > 0, do: ledger.base),
         covered: if(ledger.last, do: covered, else: 0)
       }}
    end
  end

  # By the flow's id; one that is not there bears the digest of its genesis in the place of it.
  defp named(_store, []), do: {:ok, []}

  defp named(store, unmet) do
    genesis = Enum.map(unmet, &genesis(store, elem(&1, 0)))
    ids = ids(store, MapSet.new(genesis))

    {:ok,
     Enum.zip_with(genesis, unmet, fn genesis, {_index, position, block, recorded, other} ->
       flow = Map.get(ids, genesis) || "genesis " <> Base.encode16(genesis, case: :lower)
       Chain.fault({flow, position, block, :log, recorded, other})
     end)}
  rescue
    error in Error -> {:error, error}
  end

  defp genesis(store, index) do
    [leaf] = ok!(Store.log(store, {:leaves, index, 1}))
    {:ok, said} = Native.read_leaf(leaf)
    elem(said, 2)
  end

  defp ids(store, wanted) do
    for flow <- Heads.flows(store),
        {:ok, %{genesis: record}} <- [Store.head(store, flow)],
        {:ok, chain} <- [Chain.restore(record, nil, nil, [])],
        MapSet.member?(wanted, chain.digest),
        into: %{},
        do: {chain.digest, flow}
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)

  defp fault(flow, position, class), do: %Fault{flow: flow, position: position, class: class}
end
