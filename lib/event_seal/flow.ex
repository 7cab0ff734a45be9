defmodule EventSeal.Flow do
  @moduledoc """
  What one flow has unsealed, as a pure state: the pool, what is settled, and the chain.

  A writer takes a flow through one batch of requests in this order. What it commits is `EventSeal.Flow.Stored.ops/1`; if
  the commit fails, the state before `begin/2` still stands.

    1. `EventSeal.Flow.Stored.load/2` or `new/1`, if the flow is not in memory; `begin/2`
    2. `EventSeal.Flow.Requests`: what is asked, one by one, and what is answered
    3. `EventSeal.Flow.Stages`: what was asked for enters the pool, what is due settles and is sealed
    4. `EventSeal.Flow.Stored.ops/1`, and `committed/1` once the store has done it
    5. `due/2`: when something happens by itself

  `ctx` is the batch's: `at` (the store's time, µs), `tick` (monotonic, µs), `window` (µs), `block` (`max_events`,
  `max_bytes`, `max_age` in µs or `:infinity`), `suite`, `epoch`; `signs`: whether receipts are signed; `shared`: whether
  other trees may write to the store.
  """

  alias EventSeal.{Chain, Event, Record}
  alias EventSeal.Chain.Run

  # Retracted euids that a flow without blocks has at hand.
  @spent 1_000

  defstruct [
    :id,
    :chain,
    :ripe_since,
    :step,
    :last_at,
    :when_max,
    :turn,
    :epoch,
    opened: false,
    complete: true,
    spent: %{},
    next_seq: 1,
    accepted: 0,
    pool: :queue.new(),
    waiting: 0,
    gone: 0,
    pool_bytes: 0,
    open: [],
    open_bytes: 0,
    held: %{},
    indexed: 0,
    generation: 0
  ]

  # An event of the pool: `tick` is when it settles by the monotonic clock, `deadline` by the store's; `generation` is the
  # batch in which its bytes last changed, so that they are written once.
  @typep pooled :: {seq, tick :: integer, deadline :: integer, Record.frame(), binary, generation :: integer}
  @typep seq :: pos_integer

  @type ctx :: %{
          :at => integer,
          :tick => integer,
          :window => non_neg_integer,
          :block => %{max_events: pos_integer, max_bytes: pos_integer, max_age: non_neg_integer | :infinity},
          :suite => Chain.suite(),
          :epoch => pos_integer,
          optional(atom) => term
        }

  @typedoc """
  What a store knows of an euid that the flow does not hold: spent, or sealed with these fields, and the frame where
  receipts are signed.
  """
  @type known :: %{optional(<<_::128>>) => :spent | {Event.draft(), Record.frame() | nil}}

  @typedoc """
  `held` has the unsealed euids: the pooled event, or its position once settled; what settled at once, without a pool, is in
  it up to the position `indexed` only, until somebody asks by euid. `complete` says that no other euid was ever accepted,
  so that none has to be looked up; `spent` then has those that were retracted. `pool` is a queue, oldest first, of
  `{seq, euid, tick}`, of which `waiting` are still in it, and at most `gone` were retracted; `open` has the seq under which
  each run of the chain's `open` is stored. `when_max` is that of the sealed events. In a store that is shared, `turn` is the
  store's, and `epoch` the one under which blocks are sealed, where another tree has sealed under a later one than ours.
  """
  @type t :: %__MODULE__{
          id: String.t(),
          chain: Chain.t() | nil,
          ripe_since: integer | nil,
          step: map | nil,
          last_at: integer | nil,
          when_max: integer | nil,
          turn: non_neg_integer | nil,
          epoch: pos_integer | nil,
          opened: boolean,
          complete: boolean,
          spent: %{optional(binary) => true},
          next_seq: seq,
          accepted: non_neg_integer,
          pool: :queue.queue(),
          waiting: non_neg_integer,
          gone: non_neg_integer,
          pool_bytes: non_neg_integer,
          open: [seq],
          open_bytes: non_neg_integer,
          held: %{optional(binary) => pooled | pos_integer},
          indexed: non_neg_integer,
          generation: non_neg_integer
        }

  @doc "A flow of which the store knows nothing. It begins with its first event."
  @spec new(String.t(), 0 | nil) :: t
  def new(id, turn \\ nil), do: %__MODULE__{id: :binary.copy(id), turn: turn}

  @doc "Begins a batch; `known` answers for the euids that `unknown/2` asked about."
  @spec begin(t, known) :: t
  def begin(flow, known) do
    step = %{
      known: known,
      height: flow.chain && flow.chain.height,
      stored: if(flow.chain, do: flow.chain.n, else: 0),
      drafts: [],
      busy: %{},
      changed: [],
      drops: [],
      moving: [],
      tail: %{},
      blocks: [],
      finish: nil,
      closing: nil,
      settled: 0,
      fixed: []
    }

    %{flow | step: step, generation: flow.generation + 1}
  end

  @doc "The flow with every unsealed euid in `held`."
  @spec index(t) :: t
  def index(%{chain: nil} = flow), do: flow
  def index(%{chain: %{n: n}, indexed: n} = flow), do: flow

  def index(%{chain: chain} = flow) do
    runs = Enum.take_while(chain.open, &(&1.n + &1.count - 1 > flow.indexed))
    held = for run <- runs, {euid, n} <- Run.euids(run), into: flow.held, do: {euid, n}
    %{flow | held: held, indexed: chain.n}
  end

  @doc "Which of these euids have to be looked up in the store before a batch that names them."
  @spec unknown(t, [binary]) :: [binary]
  def unknown(%{complete: true}, _euids), do: []
  def unknown(flow, euids), do: Enum.reject(euids, &is_map_key(flow.held, &1))

  @doc "The frame of an event that is accepted already, if it is."
  @spec frame(t, binary) :: Record.frame() | nil
  def frame(flow, euid) do
    case flow.held do
      %{^euid => {_seq, _tick, _deadline, frame, _body, _generation}} -> frame
      %{^euid => n} -> settled(flow, n).frame
      _ -> with {_draft, frame} <- flow.step.known[euid], do: frame, else: (_ -> nil)
    end
  end

  @doc "The settled event at a position that no block holds yet."
  @spec settled(t, pos_integer) :: Chain.Entry.t()
  def settled(flow, n) do
    run = Enum.find(flow.chain.open, &(&1.n <= n))
    run |> Run.entries() |> Enum.at(n - run.n)
  end

  @doc "How many events the batch had settle, or be fixed."
  @spec finished(t) :: non_neg_integer
  def finished(%{step: %{finish: :seal, fixed: fixed}}), do: fixed |> IO.iodata_length() |> div(16)
  def finished(%{step: %{settled: settled}}), do: settled

  @doc "Whether events took positions in the batch."
  @spec moved?(t) :: boolean
  def moved?(%{step: step}), do: step.settled > 0 or step.fixed != []

  @doc "Whether the batch sealed a block."
  @spec sealed?(t) :: boolean
  def sealed?(%{step: step}), do: step.blocks != []

  @doc "The euids of what leaves with the batch: fixed, or retracted."
  @spec left(t) :: [binary]
  def left(%{step: step}) do
    Enum.map(step.drops, &elem(&1, 1)) ++ for(<<euid::binary-16 <- IO.iodata_to_binary(step.fixed)>>, do: euid)
  end

  @doc "The flow in the turn that these operations bring it to."
  @spec turned(t, [tuple]) :: t
  def turned(%{turn: nil} = flow, _ops), do: flow
  def turned(flow, ops), do: %{flow | turn: flow.turn + Enum.count(ops, &(elem(&1, 0) in [:put, :drop, :block]))}

  @doc "The flow after its batch is committed."
  @spec committed(t) :: t
  def committed(flow) do
    # A flow in which much is retracted does not keep it all in memory: the store is asked, then.
    complete = flow.complete and flow.step.blocks == [] and map_size(flow.spent) <= @spent
    %{flow | step: nil, opened: flow.chain != nil, complete: complete, spent: if(complete, do: flow.spent, else: %{})}
  end

  @doc "The monotonic time at which something happens by itself, or `:infinity`."
  @spec due(t, ctx) :: integer | :infinity
  def due(flow, ctx), do: min(pool_due(flow), seal_due(flow, ctx))

  @doc "Whether nothing will happen to the flow by itself, so that it need not be kept in memory."
  @spec idle?(t) :: boolean
  def idle?(%{chain: nil}), do: true
  def idle?(flow), do: flow.waiting == 0 and Chain.fixable(flow.chain) == 0

  @doc "How many events and bytes the flow holds unsealed."
  @spec size(t) :: {non_neg_integer, non_neg_integer}
  def size(%{chain: nil}), do: {0, 0}
  def size(flow), do: {flow.waiting + flow.chain.n - flow.chain.fixed, flow.pool_bytes + flow.open_bytes}

  @doc "The time of what happens now, µs: the store's, but never before the flow's last."
  @spec recorded_at(t, ctx) :: integer
  def recorded_at(%{last_at: nil}, ctx), do: ctx.at
  def recorded_at(%{last_at: last_at}, ctx), do: max(ctx.at, last_at)

  @doc "Notes since when the oldest event that can be fixed could have been."
  @spec ripen(t, ctx) :: t
  def ripen(flow, ctx) do
    case Chain.fixable(flow.chain) do
      0 -> %{flow | ripe_since: nil}
      _ when flow.ripe_since == nil -> %{flow | ripe_since: ctx.tick}
      _ -> flow
    end
  end

  defp pool_due(%{waiting: 0}), do: :infinity

  defp pool_due(flow) do
    {:value, {_seq, _euid, tick}} = :queue.peek(flow.pool)
    tick
  end

  @doc "The monotonic time at which a block is sealed for its age, or `:infinity`."
  @spec seal_due(t, ctx) :: integer | :infinity
  def seal_due(%{ripe_since: nil}, _ctx), do: :infinity
  def seal_due(_flow, %{block: %{max_age: :infinity}}), do: :infinity
  def seal_due(flow, ctx), do: flow.ripe_since + ctx.block.max_age

  @doc "The later of a time and one that may not be there."
  @spec latest(integer, integer | nil) :: integer
  def latest(time, nil), do: time
  def latest(time, other), do: max(time, other)
end
