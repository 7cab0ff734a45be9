defmodule EventSeal.Flow do
  @moduledoc """
  What one flow has unsealed, as a pure state: the pool, what is settled, and the chain; and every decision about it.

  A writer takes a flow through one batch of requests in this order. What it commits is `ops/1`; if the commit fails, the
  state before `begin/2` still stands.

    1. `begin/2`, then `append/5`, `amend/5`, `retract/3`, `finish/2` or `close/5` for each request
    2. `drafts/1` and `framed/3`: the events asked for, packed all at once, enter the pool
    3. `ready/2` and `settled/4`: what the pool lets go takes its positions
    4. `seal/2`: what is due is fixed in blocks
    5. `ops/1`: what the store has to keep; `due/2`: when something happens by itself

  `ctx` is the batch's: `at` (the store's time, µs), `tick` (monotonic, µs), `window` (µs), `block` (`max_events`,
  `max_bytes`, `max_age` in µs or `:infinity`), `suite`, `epoch`.
  """

  alias EventSeal.{Chain, Error, Event, Receipt, Record}

  @max_revision 65_535

  defstruct [
    :id,
    :chain,
    :ripe_since,
    :step,
    :last_at,
    :when_max,
    opened: false,
    complete: true,
    spent: %{},
    next_seq: 1,
    accepted: 0,
    pool: :queue.new(),
    waiting: 0,
    pool_bytes: 0,
    open: :queue.new(),
    open_bytes: 0,
    held: %{},
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

  @typedoc "What a store knows of an euid that the flow does not hold: spent, or sealed with these fields."
  @type known :: %{optional(<<_::128>>) => :spent | Event.draft()}

  @typedoc """
  `held` has each unsealed euid: the pooled event, or its position once settled. `complete` says that no other euid was
  ever accepted, so that none has to be looked up; `spent` then has those that were retracted. `pool` and `open` are
  queues, oldest first, of `{seq, euid, tick}` and `{seq, euid, bytes, when}`. `when_max` is that of the sealed events.
  """
  @type t :: %__MODULE__{
          id: String.t(),
          chain: Chain.t() | nil,
          ripe_since: integer | nil,
          step: map | nil,
          last_at: integer | nil,
          when_max: integer | nil,
          opened: boolean,
          complete: boolean,
          spent: %{optional(binary) => true},
          next_seq: seq,
          accepted: non_neg_integer,
          pool: :queue.queue(),
          waiting: non_neg_integer,
          pool_bytes: non_neg_integer,
          open: :queue.queue(),
          open_bytes: non_neg_integer,
          held: %{optional(binary) => pooled | pos_integer},
          generation: non_neg_integer
        }

  @doc "A flow of which the store knows nothing. It begins with its first event."
  @spec new(String.t()) :: t
  def new(id), do: %__MODULE__{id: :binary.copy(id)}

  @doc "A flow as the store has it (`EventSeal.Store.Head`). What settled since its last block is recomputed."
  @spec load(map, ctx) :: {:ok, t} | {:error, Error.t()}
  def load(head, ctx) do
    {pooled, settled} = Enum.split_with(head.entries, fn {_seq, stage, _meta, _data} -> stage == :pool end)

    with {:ok, chain} <- Chain.restore(head.genesis, head.last_block, head.when_max, Enum.map(settled, &entry/1)) do
      flow = %__MODULE__{
        id: head.flow,
        chain: chain,
        opened: true,
        complete: false,
        next_seq: head.next_seq,
        accepted: chain.n,
        last_at: chain.recorded_at,
        when_max: head.when_max
      }

      flow = settled |> Enum.map(fn {seq, _, _, _} -> seq end) |> Enum.zip(Enum.reverse(chain.open)) |> reopen(flow)
      {:ok, pooled |> Enum.reduce(flow, &repool(&1, &2, ctx)) |> ripen(ctx)}
    end
  end

  @doc "Begins a batch; `known` answers for the euids that `unknown/2` asked about."
  @spec begin(t, known) :: t
  def begin(flow, known) do
    step = %{
      known: known,
      height: flow.chain && flow.chain.height,
      drafts: [],
      busy: %{},
      changed: [],
      drops: [],
      moving: [],
      tail: [],
      through: 0,
      blocks: [],
      finish: nil,
      closing: nil,
      settled: 0,
      fixed: []
    }

    %{flow | step: step, generation: flow.generation + 1}
  end

  @doc "Which of these euids have to be looked up in the store before a batch that names them."
  @spec unknown(t, [binary]) :: [binary]
  def unknown(%{complete: true}, _euids), do: []
  def unknown(flow, euids), do: Enum.reject(euids, &is_map_key(flow.held, &1))

  @doc """
  Takes an event on. `random` is 26 bytes: salt and what an euid is drawn from.

  `{:same, receipt}`: the very event was accepted before. `:wait`: it has to come in a later batch, since it depends on
  what this one has yet to compute.
  """
  @spec append(t, Event.draft(), non_neg_integer | nil, <<_::208>>, ctx) ::
          {:ok, t, Receipt.t()} | {:same, Receipt.t()} | {:error, Error.t()} | :wait
  def append(%{step: %{finish: finish}}, _draft, _expect, _random, _ctx) when finish != nil, do: :wait

  def append(flow, draft, expect, random, ctx) do
    with :new <- seen(flow, elem(draft, 0), draft),
         :ok <- still_open(flow),
         :ok <- counted(flow, expect) do
      add(flow, :append, draft, random, ctx)
    end
  end

  @doc "Changes an event of the pool; `changes` are `{index in the draft, value}`, `revision` the one it must have or nil."
  @spec amend(t, binary, [{non_neg_integer, term}], non_neg_integer | nil, <<_::208>>) ::
          {:ok, t, Receipt.t()} | {:error, Error.t()} | :wait
  def amend(flow, euid, changes, guard, <<salt::binary-16, _::binary>>) do
    with {:ok, {_seq, _tick, _deadline, frame, body, _}} <- pooled(flow, euid, guard),
         {:ok, revision} <- next_revision(frame) do
      draft =
        Enum.reduce(changes, Record.draft(frame, body), fn {index, value}, draft -> put_elem(draft, index, value) end)

      draft = draft |> put_elem(3, revision) |> put_elem(8, salt)
      {:ok, ask(flow, :amend, draft, euid), receipt(flow.id, draft)}
    end
  end

  @doc "Takes an event out of the pool; its euid is spent."
  @spec retract(t, binary, non_neg_integer | nil) :: {:ok, t, Receipt.t()} | {:error, Error.t()} | :wait
  def retract(flow, euid, guard) do
    with {:ok, {seq, _tick, _deadline, frame, body, _}} <- pooled(flow, euid, guard) do
      euid = Record.euid(frame)
      step = %{flow.step | drops: [{seq, euid} | flow.step.drops], busy: Map.put(flow.step.busy, euid, true)}
      waiting = flow.waiting - 1

      flow = %{
        flow
        | step: step,
          held: Map.delete(flow.held, euid),
          spent: if(flow.complete, do: Map.put(flow.spent, euid, true), else: flow.spent),
          accepted: flow.accepted - 1,
          waiting: waiting,
          pool: if(waiting == 0, do: :queue.new(), else: flow.pool),
          pool_bytes: flow.pool_bytes - byte_size(frame) - byte_size(body)
      }

      {:ok, flow, receipt(flow.id, Record.draft(frame, body))}
    end
  end

  @doc "Has the whole pool settled (`:settle`), or what can be fixed sealed (`:seal`), at the end of this batch."
  @spec finish(t, :settle | :seal) :: {:ok, t} | {:error, Error.t()} | :wait
  def finish(%{chain: nil}, _), do: {:error, Error.new(:not_found)}
  def finish(%{step: %{finish: nil}} = flow, what), do: {:ok, put_in(flow.step.finish, what)}
  def finish(_flow, _what), do: :wait

  @doc "Has the flow closed at the end of this batch, by a `$close` event; a `when` of nil is now."
  @spec close(t, Event.draft(), non_neg_integer | nil, <<_::208>>, ctx) ::
          {:ok, t, Receipt.t()} | {:same, Receipt.t()} | {:error, Error.t()} | :wait
  def close(%{step: %{finish: finish}}, _draft, _expect, _random, _ctx) when finish != nil, do: :wait

  def close(flow, draft, expect, random, ctx) do
    draft = if elem(draft, 1), do: draft, else: put_elem(draft, 1, closed_when(flow, draft, ctx))

    with :new <- seen(flow, elem(draft, 0), draft),
         :ok <- still_open(flow),
         :ok <- if(flow.chain, do: :ok, else: {:error, Error.new(:not_found)}),
         :ok <- counted(flow, expect),
         {:ok, flow, receipt} <- add(flow, :close, draft, random, ctx) do
      {:ok, put_in(flow.step.finish, :close), receipt}
    end
  end

  @doc "The events that this batch took on, in order, to be packed."
  @spec drafts(t) :: [Event.draft()]
  def drafts(%{step: %{drafts: asked}}), do: asked |> Enum.reverse() |> Enum.map(&elem(&1, 1))

  @doc "Puts the packed events of `drafts/1` into the pool."
  @spec framed(t, [Chain.frame()], ctx) :: t
  def framed(flow, frames, ctx) do
    flow.step.drafts |> Enum.reverse() |> Enum.zip(frames) |> Enum.reduce(flow, &pool(&1, &2, ctx))
  end

  @doc "Takes out of the pool what is due, oldest first, or all of it if that was asked for."
  @spec ready(t, ctx) :: {t, [Chain.frame()]}
  def ready(%{waiting: 0} = flow, _ctx), do: {flow, []}

  def ready(flow, ctx) do
    until = if flow.step.finish in [:settle, :close], do: :infinity, else: ctx.tick
    {moving, pool} = pop(flow.pool, until, flow.held, [])
    frames = Enum.map(moving, fn {_seq, _tick, _deadline, frame, body, _generation} -> {frame, body} end)
    {%{flow | pool: pool, step: %{flow.step | moving: moving}}, frames}
  end

  @doc "Takes up what `EventSeal.Chain.settle/2` made of `ready/2`."
  @spec settled(t, Chain.t(), [Chain.Entry.t()], ctx) :: t
  def settled(flow, chain, entries, ctx) do
    flow.step.moving |> Enum.zip(entries) |> Enum.reduce(%{flow | chain: chain}, &settle/2) |> ripen(ctx)
  end

  @doc "Seals what is due, or was asked for, in as many blocks as its size needs; and closes, if that was asked for."
  @spec seal(t, ctx) :: {:ok, t} | {:error, Error.t()}
  def seal(%{chain: nil} = flow, _ctx), do: {:ok, flow}

  def seal(flow, ctx) do
    cond do
      seal?(flow, ctx) -> with {:ok, flow} <- seal_block(flow, ctx), do: seal(flow, ctx)
      flow.step.closing -> seal_close(flow, ctx)
      true -> {:ok, ripen(flow, ctx)}
    end
  end

  @doc "How many events `finish/2` had settle, or be fixed."
  @spec finished(t) :: non_neg_integer
  def finished(%{step: %{finish: :seal, fixed: fixed}}), do: length(fixed)
  def finished(%{step: %{settled: settled}}), do: settled

  @doc "The euids of what leaves with the batch: fixed, or retracted."
  @spec left(t) :: [binary]
  def left(%{step: step}), do: Enum.map(step.drops, &elem(&1, 1)) ++ step.fixed

  @doc "What the batch has the store keep, oldest first."
  @spec ops(t) :: [tuple]
  def ops(%{step: step} = flow) do
    preconditions(flow) ++
      Enum.reverse(for({seq, euid} <- step.drops, do: {:drop, flow.id, seq, euid})) ++
      tail_ops(flow) ++ pool_ops(flow) ++ Enum.reverse(step.blocks)
  end

  @doc "The flow after its batch is committed."
  @spec committed(t) :: t
  def committed(flow) do
    complete = flow.complete and flow.step.blocks == []
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

  # An euid that was drawn here is new; one that was given may stand anywhere in the flow.
  defp seen(_flow, nil, _draft), do: :new

  defp seen(flow, euid, draft) do
    case flow.held do
      %{^euid => {_seq, _tick, _deadline, frame, body, _}} -> compare(flow, draft, Record.draft(frame, body))
      %{^euid => n} -> compare(flow, draft, settled_draft(flow, n))
      _ -> seen_before(flow, euid, draft)
    end
  end

  defp seen_before(%{step: step} = flow, euid, draft) do
    case step.known do
      _ when is_map_key(step.busy, euid) -> :wait
      _ when is_map_key(flow.spent, euid) -> {:error, Error.new(:retracted)}
      %{^euid => :spent} -> {:error, Error.new(:retracted)}
      %{^euid => stored} -> compare(flow, draft, stored)
      _ -> :new
    end
  end

  # An amendment of this batch is not in `held` yet.
  defp compare(flow, draft, stored) do
    cond do
      is_map_key(flow.step.busy, elem(stored, 0)) -> :wait
      same?(draft, stored) -> {:same, receipt(flow.id, stored)}
      true -> {:error, Error.new(:conflict)}
    end
  end

  # A body that was erased cannot be compared; everything else still is.
  defp same?({_, at, _, _, kind, version, where, who, _, body}, {_, at, _, _, kind, version, where, who, _, stored}),
    do: stored == nil or stored == body

  defp same?(_draft, _stored), do: false

  defp settled_draft(flow, n) do
    entry = Enum.find(flow.chain.open, &(&1.n == n))
    Record.draft(entry.frame, entry.body)
  end

  defp still_open(%{chain: %Chain{closed: true}}), do: {:error, Error.new(:closed)}
  defp still_open(_flow), do: :ok

  defp counted(_flow, nil), do: :ok
  defp counted(%{accepted: accepted}, accepted), do: :ok
  defp counted(_flow, _expect), do: {:error, Error.new(:count)}

  # A repeated close without a time of its own means the close that stands.
  defp closed_when(flow, draft, ctx) do
    case Map.get(flow.step.known, elem(draft, 0)) do
      stored when is_tuple(stored) -> elem(stored, 1)
      _ -> recorded_at(flow, ctx)
    end
  end

  defp add(flow, how, {given, at, _, _, kind, version, where, who, _, body}, <<salt::binary-16, ten::binary>>, ctx) do
    recorded_at = recorded_at(flow, ctx)
    euid = given || Event.uuid7(recorded_at, ten)
    draft = {euid, at, recorded_at, 0, kind, version, where, who, salt, body}

    with {:ok, flow} <- begun(flow, recorded_at, ctx) do
      flow = ask(%{flow | accepted: flow.accepted + 1, last_at: recorded_at}, how, draft, given)
      {:ok, flow, receipt(flow.id, draft)}
    end
  end

  defp recorded_at(%{last_at: nil}, ctx), do: ctx.at
  defp recorded_at(%{last_at: last_at}, ctx), do: max(ctx.at, last_at)

  # The genesis is drawn when the flow's first event appears.
  defp begun(%{chain: nil} = flow, at, ctx) do
    with {:ok, chain} <- Chain.open(flow.id, suite: ctx.suite, created_at: at), do: {:ok, %{flow | chain: chain}}
  end

  defp begun(flow, _at, _ctx), do: {:ok, flow}

  # Only an euid that somebody else can know makes a later request of the same batch wait.
  defp ask(%{step: step} = flow, how, draft, named) do
    busy = if named, do: Map.put(step.busy, elem(draft, 0), true), else: step.busy
    %{flow | step: %{step | drafts: [{how, draft} | step.drafts], busy: busy}}
  end

  defp pooled(%{step: %{finish: finish}}, _euid, _guard) when finish != nil, do: :wait

  defp pooled(flow, euid, guard) do
    case flow.held do
      _ when is_map_key(flow.step.busy, euid) -> :wait
      %{^euid => {_, _, _, frame, _, _} = pooled} -> guarded(pooled, Record.revision(frame), guard)
      %{^euid => _n} -> {:error, Error.new(:settled)}
      _ when is_map_key(flow.spent, euid) -> {:error, Error.new(:retracted)}
      _ -> gone(flow.step.known, euid)
    end
  end

  defp gone(known, euid) do
    case known do
      %{^euid => :spent} -> {:error, Error.new(:retracted)}
      %{^euid => _sealed} -> {:error, Error.new(:settled)}
      _ -> {:error, Error.new(:not_found)}
    end
  end

  defp guarded(pooled, revision, guard) when guard in [nil, revision], do: {:ok, pooled}
  defp guarded(_pooled, _revision, _guard), do: {:error, Error.new(:revision)}

  defp next_revision(frame) do
    case Record.revision(frame) do
      @max_revision -> {:error, Error.new(:revision, rule: "an event is amended at most #{@max_revision} times")}
      revision -> {:ok, revision + 1}
    end
  end

  defp receipt(id, draft),
    do: %Receipt{flow: id, euid: elem(draft, 0), recorded_at: elem(draft, 2), revision: elem(draft, 3)}

  defp pool({{:append, _draft}, {frame, body}}, flow, ctx) do
    # The key is cut loose from what the caller's euid may be a part of.
    <<euid::binary-16, _::binary>> = frame
    euid = :binary.copy(euid)
    seq = flow.next_seq
    tick = ctx.tick + ctx.window
    pooled = {seq, tick, Record.recorded_at(frame) + ctx.window, frame, body, flow.generation}

    %{
      flow
      | next_seq: seq + 1,
        held: Map.put(flow.held, euid, pooled),
        pool: :queue.in({seq, euid, tick}, flow.pool),
        waiting: flow.waiting + 1,
        pool_bytes: flow.pool_bytes + byte_size(frame) + byte_size(body),
        step: %{flow.step | changed: [euid | flow.step.changed]}
    }
  end

  defp pool({{:amend, draft}, {frame, body}}, flow, _ctx) do
    {seq, tick, deadline, old_frame, old_body, _} = Map.fetch!(flow.held, elem(draft, 0))
    euid = Record.euid(old_frame)
    grown = byte_size(frame) + byte_size(body) - byte_size(old_frame) - byte_size(old_body)

    %{
      flow
      | held: Map.replace!(flow.held, euid, {seq, tick, deadline, frame, body, flow.generation}),
        pool_bytes: flow.pool_bytes + grown,
        step: %{flow.step | changed: [euid | flow.step.changed]}
    }
  end

  defp pool({{:close, _draft}, frame}, flow, _ctx), do: put_in(flow.step.closing, frame)

  # First in, first out: an event whose time has come waits for the one before it. What was retracted is skipped.
  defp pop(queue, until, held, taken) do
    case :queue.peek(queue) do
      {:value, {seq, euid, tick}} when tick <= until ->
        pop(:queue.drop(queue), until, held, still_pooled(held, euid, seq) ++ taken)

      _ ->
        {Enum.reverse(taken), queue}
    end
  end

  defp still_pooled(held, euid, seq) do
    case held do
      %{^euid => {^seq, _, _, _, _, _} = pooled} -> [pooled]
      _ -> []
    end
  end

  defp settle({{seq, _tick, _deadline, frame, body, generation}, entry}, flow) do
    <<_::binary-16, at::signed-64, _::binary>> = frame
    bytes = byte_size(frame) + byte_size(body)
    euid = entry.euid
    kept = {seq, entry, generation == flow.generation}
    step = flow.step

    %{
      flow
      | held: Map.replace!(flow.held, euid, entry.n),
        waiting: flow.waiting - 1,
        pool_bytes: flow.pool_bytes - bytes,
        open: :queue.in({seq, euid, bytes, at}, flow.open),
        open_bytes: flow.open_bytes + bytes,
        step: %{step | tail: [kept | step.tail], settled: step.settled + 1}
    }
  end

  # Since when the oldest event that can be fixed could have been.
  defp ripen(flow, ctx) do
    case Chain.fixable(flow.chain) do
      0 -> %{flow | ripe_since: nil}
      _ when flow.ripe_since == nil -> %{flow | ripe_since: ctx.tick}
      _ -> flow
    end
  end

  defp seal?(flow, ctx) do
    fixable = Chain.fixable(flow.chain)

    fixable > 0 and
      (flow.step.finish == :seal or fixable >= ctx.block.max_events or fixable_bytes(flow) >= ctx.block.max_bytes or
         seal_due(flow, ctx) <= ctx.tick)
  end

  # All but the last three, which wait for what comes.
  defp fixable_bytes(flow) do
    {_, bytes} =
      Enum.reduce(1..3, {flow.open, flow.open_bytes}, fn _, {open, bytes} ->
        {:value, {_seq, _euid, size, _when}} = :queue.peek_r(open)
        {:queue.drop_r(open), bytes - size}
      end)

    bytes
  end

  defp seal_block(flow, ctx) do
    most = min(Chain.fixable(flow.chain), ctx.block.max_events)
    {taken, open, bytes} = take(flow.open, most, ctx.block.max_bytes, [], 0)
    opts = [sealed_at: recorded_at(flow, ctx), epoch: ctx.epoch, max_events: length(taken)]

    with {:ok, block, chain} <- Chain.seal(flow.chain, opts) do
      {:ok, fixed(%{flow | open: open, open_bytes: flow.open_bytes - bytes}, chain, Enum.reverse(taken), block, ctx)}
    end
  end

  # At least one event, however long.
  defp take(queue, 0, _room, taken, bytes), do: {taken, queue, bytes}
  defp take(queue, _left, room, taken, bytes) when bytes >= room, do: {taken, queue, bytes}

  defp take(queue, left, room, taken, bytes) do
    {{:value, {_seq, _euid, size, _when} = item}, queue} = :queue.out(queue)
    take(queue, left - 1, room, [item | taken], bytes + size)
  end

  defp seal_close(flow, ctx) do
    with {:ok, entries, block, chain} <-
           Chain.close(flow.chain, flow.step.closing, sealed_at: recorded_at(flow, ctx), epoch: ctx.epoch) do
      [%{euid: euid, frame: frame}] = entries
      sealed = :queue.to_list(:queue.in({flow.next_seq, euid, 0, elem(Record.draft(frame, nil), 1)}, flow.open))
      flow = %{flow | next_seq: flow.next_seq + 1, open: :queue.new(), open_bytes: 0}
      flow = fixed(flow, chain, sealed, block, ctx)
      {:ok, put_in(flow.step.closing, nil)}
    end
  end

  defp fixed(%{step: step} = flow, chain, sealed, block, ctx) do
    euids = Enum.map(sealed, &elem(&1, 1))
    {through, _, _, _} = List.last(sealed)
    when_max = sealed |> Enum.map(&elem(&1, 3)) |> Enum.max() |> at_least(flow.when_max)

    info = %{
      height: chain.height - 1,
      first: chain.fixed - length(sealed) + 1,
      count: length(sealed),
      through: through,
      when_max: when_max,
      euids: IO.iodata_to_binary(euids),
      closes: chain.closed
    }

    step = %{
      step
      | blocks: [{:block, flow.id, info, block} | step.blocks],
        through: through,
        fixed: euids ++ step.fixed
    }

    aged? = seal_due(flow, ctx) <= ctx.tick
    ripe_since = if Chain.fixable(chain) > 0, do: if(aged?, do: flow.ripe_since, else: ctx.tick)
    held = Map.drop(flow.held, euids)
    %{flow | chain: chain, when_max: when_max, held: held, step: step, ripe_since: ripe_since}
  end

  defp preconditions(%{opened: false, step: %{drafts: []}}), do: []

  defp preconditions(%{opened: false} = flow),
    do: [{:expect, flow.id, :none}, {:open, flow.id, flow.chain.genesis}]

  defp preconditions(%{step: %{blocks: []}}), do: []
  defp preconditions(flow), do: [{:expect, flow.id, flow.step.height}]

  # What a block of the same commit takes up needs no entry of its own.
  defp tail_ops(%{step: step} = flow) do
    for {seq, entry, changed?} <- Enum.reverse(step.tail), seq > step.through do
      meta = Record.encode_tail(entry.n, entry.frame, entry.hash, entry.provisional)
      {:put, flow.id, seq, :tail, meta, if(changed?, do: entry.body, else: :keep)}
    end
  end

  defp pool_ops(%{step: step} = flow) do
    for euid <- Enum.reverse(step.changed), {seq, _, deadline, frame, body, _} <- [Map.get(flow.held, euid)] do
      {:put, flow.id, seq, :pool, Record.encode_pool(deadline, frame), body}
    end
  end

  defp pool_due(%{waiting: 0}), do: :infinity

  defp pool_due(flow) do
    {:value, {_seq, _euid, tick}} = :queue.peek(flow.pool)
    tick
  end

  defp seal_due(%{ripe_since: nil}, _ctx), do: :infinity
  defp seal_due(_flow, %{block: %{max_age: :infinity}}), do: :infinity
  defp seal_due(flow, ctx), do: flow.ripe_since + ctx.block.max_age

  defp entry({_seq, :tail, meta, data}) do
    {n, frame, hash, provisional} = Record.decode_tail(meta)

    %Chain.Entry{
      n: n,
      euid: Record.euid(frame),
      frame: frame,
      hash: hash,
      provisional: provisional,
      body: data
    }
  end

  defp reopen(settled, flow) do
    Enum.reduce(settled, flow, fn {seq, entry}, flow ->
      <<_::binary-16, at::signed-64, _::binary>> = entry.frame
      bytes = byte_size(entry.frame) + byte_size(entry.body)

      %{
        flow
        | held: Map.put(flow.held, entry.euid, entry.n),
          open: :queue.in({seq, entry.euid, bytes, at}, flow.open),
          open_bytes: flow.open_bytes + bytes
      }
    end)
  end

  # Across a restart only the time of day says how much of the window is left: never more than the whole of it.
  defp repool({seq, :pool, meta, body}, flow, ctx) do
    {deadline, _revision, frame} = Record.decode_pool(meta)
    tick = ctx.tick + min(max(deadline - ctx.at, 0), ctx.window)
    euid = Record.euid(frame)

    %{
      flow
      | held: Map.put(flow.held, euid, {seq, tick, deadline, frame, body, 0}),
        pool: :queue.in({seq, euid, tick}, flow.pool),
        waiting: flow.waiting + 1,
        pool_bytes: flow.pool_bytes + byte_size(frame) + byte_size(body),
        accepted: flow.accepted + 1,
        last_at: at_least(Record.recorded_at(frame), flow.last_at)
    }
  end

  defp at_least(time, nil), do: time
  defp at_least(time, other), do: max(time, other)
end
