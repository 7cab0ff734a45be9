defmodule EventSeal.Chain do
  @moduledoc """
  One flow's chain as pure functions: state in, state out, no process and no store.

  For hosts that keep their events in a store of their own. The application (`EventSeal`) is the first user of this
  module. A chain's life:

    * `open/2` draws up the flow's genesis
    * `frames/2` packs events, each with its body's commitment
    * `settle/2` gives them their positions, event hashes and provisional ids
    * `seal/2` fixes what has three events behind it in a block; `close/3` ends the flow and fixes all
    * `verify/2` says whether blocks and tail are what was sealed
    * `restore/4` takes up a chain again from stored bytes

  What must be kept: the genesis record once, each block, and every settled entry until a block holds it. Definitions:
  FORMAT.md, "Chain".

      iex> alias EventSeal.{Chain, Event, Verdict}
      iex> {:ok, chain} = Chain.open("patient/42", created_at: 0, nonce: <<0::128>>)
      iex> drafts =
      ...>   for n <- 1..5 do
      ...>     {:ok, draft} = Event.draft(%{when: n, kind: "vital", body: "37.2"}, euid: <<n::128>>)
      ...>     Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
      ...>   end
      iex> {:ok, frames} = Chain.frames(:sha256, drafts)
      iex> {:ok, chain, _entries} = Chain.settle(chain, frames)
      iex> Chain.fixable(chain)
      2
      iex> {:ok, block, chain} = Chain.seal(chain, sealed_at: 10)
      iex> {:ok, events} = Chain.events(block)
      iex> Enum.map(events, & &1.n)
      [1, 2]
      iex> {:ok, tail} = Chain.tail(chain, block)
      iex> [block, tail] |> Chain.verify() |> Verdict.ok?()
      true
  """

  alias EventSeal.{Error, Event, Fault, Native, Verdict}
  alias EventSeal.Chain.{Entry, Run}

  @digest 32
  @no_limit 0xFFFF_FFFF_FFFF

  @enforce_keys [:suite, :flow, :created_at, :genesis, :digest, :links, :previous, :seam]
  defstruct [
    :suite,
    :flow,
    :created_at,
    :genesis,
    :digest,
    :links,
    :previous,
    :seam,
    n: 0,
    fixed: 0,
    height: 0,
    epoch: 0,
    when_max: nil,
    recorded_at: nil,
    sealed_at: nil,
    closed: false,
    open: [],
    ids: <<>>
  ]

  @typedoc """
  `n` is the last settled position, `fixed` the last sealed one, `height` the next block's. `genesis` is the genesis
  record, `digest` its hash G. `when_max`, `recorded_at` and `sealed_at` are the greatest so far, `nil` before the first.
  `open` has what is not sealed, newest first. The other fields are the module's own.
  """
  @type t :: %__MODULE__{
          suite: suite,
          flow: String.t(),
          created_at: integer,
          genesis: binary,
          digest: <<_::256>>,
          links: binary,
          previous: <<_::256>>,
          seam: <<_::768>>,
          n: non_neg_integer,
          fixed: non_neg_integer,
          height: non_neg_integer,
          epoch: non_neg_integer,
          when_max: integer | nil,
          recorded_at: integer | nil,
          sealed_at: integer | nil,
          closed: boolean,
          open: [Run.t()],
          ids: binary
        }

  @type suite :: :sha256 | :blake3
  @typedoc "A packed event and its salted body, as `frames/2` makes them."
  @type frame :: {binary, binary}
  @typedoc "A packed block or tail: FORMAT.md, \"Packed container\"."
  @type container :: binary

  @doc """
  Begins a flow. Options: `:suite` (`:sha256` unless given), `:created_at` (µs, required), `:nonce` (16 bytes, drawn
  unless given).
  """
  @spec open(String.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def open(flow, opts) do
    suite = Keyword.get(opts, :suite, :sha256)
    nonce = Keyword.get_lazy(opts, :nonce, fn -> :crypto.strong_rand_bytes(16) end)

    with {:ok, flow} <- Event.check_flow(flow),
         {:ok, record} <- Error.native(Native.genesis(suite, Keyword.fetch!(opts, :created_at), nonce, flow)) do
      from_genesis(record)
    end
  end

  @doc "Fills in what only the writer knows: `:euid`, `:recorded_at` (µs), `:revision`, `:salt` (16 bytes)."
  @spec stamp(Event.draft(), keyword) :: Event.draft()
  def stamp({euid, at, recorded_at, revision, kind, version, where, who, salt, body}, opts) do
    {Keyword.get(opts, :euid, euid), at, Keyword.get(opts, :recorded_at, recorded_at),
     Keyword.get(opts, :revision, revision), kind, version, where, who, Keyword.get(opts, :salt, salt), body}
  end

  @doc """
  Packs events: each draft (see `t:EventSeal.Event.draft/0`, all fields filled) becomes its frame, the commitment inside,
  and its salted body.
  """
  @spec frames(suite, [Event.draft()]) :: {:ok, [frame]} | {:error, Error.t()}
  def frames(suite, drafts), do: Error.native(Native.frames(suite, drafts, work(drafts)))

  @doc """
  Gives frames the next positions of the flow, in their order. The entries returned are what a store keeps until a block
  holds them.
  """
  @spec settle(t, [frame]) :: {:ok, t, [Entry.t()]} | {:error, Error.t()}
  def settle(%__MODULE__{} = chain, frames) do
    with {:ok, [{chain, runs}]} <- settle_many([{chain, frames}]), do: {:ok, chain, Enum.flat_map(runs, &Run.entries/1)}
  end

  @doc "`settle/2` for many flows in one native call, each event a run of its own. All settle, or none."
  @spec settle_many([{t, [frame]}]) :: {:ok, [{t, [Run.t()]}]} | {:error, Error.t()}
  def settle_many(flows), do: settle_all(flows, false)

  @doc "`frames/2` and `settle_many/1` in one native call: events that came together are one run, a flow's last three apart."
  @spec settle_drafts([{t, [Event.draft()]}]) :: {:ok, [{t, [Run.t()]}]} | {:error, Error.t()}
  def settle_drafts(flows) do
    asked = Enum.map(flows, fn {chain, drafts} -> {chain.links, drafts} end)
    work = Enum.reduce(flows, 0, fn {_, drafts}, sum -> sum + 512 * length(drafts) + work(drafts) end)

    with {:ok, settled} <- Error.native(Native.settle_drafts(asked, work)) do
      {:ok,
       Enum.zip_with(flows, settled, fn {chain, _drafts}, {_, runs, _, _, _} = settled ->
         settled(chain, runs(runs, chain.n + 1), settled)
       end)}
    end
  end

  @doc "How many events of the flow have three events behind them and could be sealed now."
  @spec fixable(t) :: non_neg_integer
  def fixable(%__MODULE__{ids: ids}), do: div(byte_size(ids), @digest)

  @doc """
  Seals what can be fixed, oldest first, in one block.

  Options: `:sealed_at` (µs, required; raised to the latest `recorded_at` or `sealed_at` before it, so that times never
  fall), `:epoch` (the writer's term; the flow's last unless given), `:max_events` (4,096), `:max_bytes` (of frames and
  salted bodies; at least one event is taken), `:whole` (the runs that begin up to this position are taken whole or not at
  all; 0).
  """
  @spec seal(t, keyword) :: {:ok, container, t} | {:error, Error.t()}
  def seal(%__MODULE__{} = chain, opts),
    do: with({:ok, sealed, chain} <- seal_part(chain, opts), do: {:ok, sealed.block, chain})

  @doc "`seal/2`, which also tells of what is in the block: `:euids`, one after the other, and the greatest `when`."
  @spec seal_part(t, keyword) :: {:ok, %{block: container, euids: binary, when_max: integer}, t} | {:error, Error.t()}
  def seal_part(%__MODULE__{} = chain, opts) do
    case min(fixable(chain), Keyword.get(opts, :max_events, 4096)) do
      0 -> {:error, Error.new(:nothing_to_seal)}
      count -> seal_block(chain, count, opts)
    end
  end

  @doc """
  Ends the flow: settles `frame`, which must be of kind `$close`, and seals all that was open in one block. Options as
  `seal/2`, without limits.
  """
  @spec close(t, frame, keyword) :: {:ok, [Entry.t()], container, t} | {:error, Error.t()}
  def close(%__MODULE__{} = chain, frame, opts) do
    with {:ok, [run], sealed, chain} <- close_part(chain, frame, opts), do: {:ok, Run.entries(run), sealed.block, chain}
  end

  @doc "`close/3` as `seal_part/2` is `seal/2`, with the `$close` event's run."
  @spec close_part(t, frame, keyword) :: {:ok, [Run.t()], map, t} | {:error, Error.t()}
  def close_part(%__MODULE__{} = chain, frame, opts) do
    with {:ok, [{chain, runs}]} <- settle_all([{chain, [frame]}], true),
         {:ok, sealed, chain} <- seal_block(%{chain | closed: true}, chain.n - chain.fixed, opts) do
      {:ok, runs, sealed, chain}
    end
  end

  @doc """
  Takes up a chain from stored bytes: its genesis record, its last block (or `nil`), the greatest `when` of all its
  blocks (or `nil`) and what settled since, oldest first. Every value of it is recomputed; `:corrupt` says that one differs.
  """
  @spec restore(binary, container | nil, integer | nil, [Run.t() | Entry.t()]) :: {:ok, t} | {:error, Error.t()}
  def restore(genesis, last_block, when_max, unsealed) do
    runs = Enum.map(unsealed, &run/1)

    with {:ok, chain} <- from_genesis(genesis),
         {:ok, chain} <- after_block(chain, last_block),
         {:ok, {settled, edge}} <- Error.native(Native.restore(genesis, last_block, when_max, bytes(runs))) do
      {chain, _runs} = settled(chain, runs, settled)
      {:ok, %{chain | seam: edge || chain.seam}}
    end
  end

  @doc "The leaf of the chain's last block in a store-wide log: FORMAT.md, \"Log\"."
  @spec leaf(t) :: binary
  def leaf(%__MODULE__{height: height} = chain) when height > 0,
    do: Native.block_leaf(chain.suite, chain.digest, height - 1, chain.fixed, chain.previous)

  @doc "A container's events, oldest first, with their bodies where they are there."
  @spec events(container) :: {:ok, [Event.t()]} | {:error, Error.t()}
  def events(container) do
    with {:ok, header} <- header(container),
         {:ok, events} <- Error.native(Native.events(container)) do
      {:ok, events |> Enum.with_index(header.first) |> Enum.map(&event(&1, header))}
    end
  end

  @doc """
  A container's header: `:stage` (`:fixed` for a block, `:sandbox` for a tail), `:flow`, `:suite`, `:genesis` (the record),
  `:height`, `:first`, `:count`, `:epoch`, `:closes`, `:when_min`, `:when_max`, `:sealed_at`, `:previous`, `:root`, `:hash`,
  and the seams: `:before` (three ids and two event hashes) and `:after` (three event hashes), by position.
  """
  @spec header(container) :: {:ok, map} | {:error, Error.t()}
  def header(container) do
    with {:ok, {stage, {suite, flow, genesis}, placed, times, digests, {before, behind}}} <-
           Error.native(Native.header(container)) do
      {height, first, count, epoch, closes} = placed
      {when_min, when_max, sealed_at} = times
      {previous, root, hash} = digests

      {:ok,
       %{
         stage: stage,
         suite: suite,
         flow: flow,
         genesis: genesis,
         height: height,
         first: first,
         count: count,
         epoch: epoch,
         closes: closes,
         when_min: when_min,
         when_max: when_max,
         sealed_at: sealed_at,
         previous: previous,
         root: root,
         hash: hash,
         before: before,
         after: behind
       }}
    end
  end

  @doc "The chain's settled, unsealed events as a container, after its last block (or `nil`). `nil` if there are none."
  @spec tail(t, container | nil) :: {:ok, container | nil} | {:error, Error.t()}
  def tail(%__MODULE__{open: []}, _last_block), do: {:ok, nil}

  def tail(%__MODULE__{} = chain, last_block),
    do: tail(chain.genesis, last_block, chain.open |> Enum.reverse() |> Enum.flat_map(&Run.entries/1))

  @doc "The same from stored entries, oldest first; nothing is recomputed."
  @spec tail(binary, container | nil, [Entry.t()]) :: {:ok, container | nil} | {:error, Error.t()}
  def tail(_genesis, _last_block, []), do: {:ok, nil}

  def tail(genesis, last_block, entries) do
    rows = Enum.map(entries, &{&1.frame, &1.hash, &1.provisional, &1.body})
    Error.native(Native.tail(genesis, last_block, rows))
  end

  @doc """
  Verifies a flow's containers: its blocks from the first, in order, then its tail if it has one.

  Options: `:bodies` (`true`: a missing body is a fault; `false`, the default: it counts as not shown), `:threads` (as
  many as the machine has cores unless given), `:max_faults` (1,000).
  """
  @spec verify([container], keyword) :: Verdict.t()
  def verify(containers, opts \\ []) do
    {:ok, verdict, _edges} = EventSeal.Verification.run([%{flow: named(containers), pieces: containers}], opts)
    verdict
  end

  # The flow that the first readable container names; the others must name the same.
  defp named(containers) do
    Enum.find_value(containers, "", fn container ->
      with {:ok, %{flow: flow}} <- header(container), do: flow, else: (_ -> nil)
    end)
  end

  @doc false
  @spec fault(tuple) :: Fault.t()
  def fault({flow, position, block, class, recorded, recomputed}) do
    %Fault{
      flow: flow,
      position: position,
      block: block,
      class: class,
      recorded: recorded,
      recomputed: recomputed
    }
  end

  defp from_genesis(record) do
    with {:ok, {suite, created_at, flow, digest, links}} <- Error.native(Native.read_genesis(record)) do
      {:ok,
       %__MODULE__{
         suite: suite,
         flow: flow,
         created_at: created_at,
         genesis: record,
         digest: digest,
         links: links,
         previous: digest,
         seam: String.duplicate(digest, 5)
       }}
    end
  end

  defp after_block(chain, nil), do: {:ok, chain}

  defp after_block(chain, block) do
    with {:ok, header} <- header(block) do
      last = header.first + header.count - 1

      {:ok,
       %{
         chain
         | previous: header.hash,
           n: last,
           fixed: last,
           height: header.height + 1,
           epoch: header.epoch,
           sealed_at: header.sealed_at,
           closed: header.closes
       }}
    end
  end

  defp run(%Run{} = run), do: run
  defp run(%Entry{} = entry), do: Run.of(entry)

  defp bytes(runs), do: Enum.map(runs, &{&1.record, &1.bodies})

  defp settle_all(flows, closing) do
    asked = Enum.map(flows, fn {chain, frames} -> {chain.links, Enum.map(frames, &elem(&1, 0)), closing} end)
    work = Enum.reduce(flows, 0, fn {_, frames}, sum -> sum + 1024 * length(frames) end)

    with {:ok, settled} <- Error.native(Native.settle(asked, work)) do
      {:ok,
       Enum.zip_with(flows, settled, fn {chain, frames}, {_, records, _, _, _} = settled ->
         settled(chain, singles(records, frames, chain.n + 1), settled)
       end)}
    end
  end

  defp settled(chain, runs, {links, _records, ids, when_max, recorded_at}) do
    chain = %{
      chain
      | links: links,
        n: Enum.reduce(runs, chain.n, &(&1.count + &2)),
        when_max: when_max,
        recorded_at: recorded_at,
        open: Enum.reverse(runs, chain.open),
        ids: chain.ids <> ids
    }

    {chain, runs}
  end

  defp singles([], [], _n), do: []

  defp singles([record | records], [{_frame, body} | frames], n),
    do: [%Run{n: n, count: 1, record: record, bodies: body} | singles(records, frames, n + 1)]

  defp runs([], _n), do: []

  defp runs([{record, bodies, count} | runs], n),
    do: [%Run{n: n, count: count, record: record, bodies: bodies} | runs(runs, n + count)]

  defp seal_block(chain, max_events, opts) do
    sealed_at = Enum.max([Keyword.fetch!(opts, :sealed_at), chain.recorded_at | List.wrap(chain.sealed_at)])
    epoch = max(Keyword.get(opts, :epoch, chain.epoch), chain.epoch)
    placed = {chain.height, chain.fixed + 1, epoch, sealed_at, chain.previous, chain.closed}
    limits = {max_events, Keyword.get(opts, :max_bytes, @no_limit), Keyword.get(opts, :whole, 0)}
    runs = Enum.reverse(chain.open)
    work = Enum.reduce(runs, 0, fn run, sum -> sum + 128 * run.count + Run.bytes(run) end)
    before = {chain.digest, chain.seam}

    with {:ok, {block, seam, euids, when_max, count, rest}} <-
           Error.native(Native.seal(chain.genesis, placed, before, chain.ids, bytes(runs), limits, work)) do
      <<_::binary-32, hash::binary-32, _::binary>> = block
      <<_::binary-size(count)-unit(256), ids::binary>> = chain.ids

      chain = %{
        chain
        | open: runs |> left(count, rest) |> Enum.reverse(),
          ids: ids,
          seam: seam,
          previous: hash,
          fixed: chain.fixed + count,
          height: chain.height + 1,
          epoch: epoch,
          sealed_at: sealed_at
      }

      {:ok, %{block: block, euids: euids, when_max: when_max}, chain}
    end
  end

  defp left(runs, 0, nil), do: runs
  defp left([%{count: own} | runs], count, rest) when own <= count, do: left(runs, count - own, rest)

  defp left([run | runs], taken, {record, bodies, count}),
    do: [%Run{n: run.n + taken, count: count, record: record, bodies: bodies} | runs]

  defp event({row, n}, header) do
    {euid, times, what, {commitment, hash, id}, shown} = row
    {salt, body} = shown || {nil, nil}
    event = Event.from_native({euid, times, what})
    event = %{event | flow: header.flow, n: n, stage: header.stage}
    event = %{event | commitment: commitment, hash: hash, salt: salt, body: body}

    if header.stage == :fixed,
      do: %{event | id: id, block: header.height},
      else: %{event | provisional: id}
  end

  defp work(drafts), do: Enum.reduce(drafts, 0, fn draft, sum -> sum + 512 + byte_size(elem(draft, 9)) end)
end
