defmodule EventSeal.Flow.Requests do
  @moduledoc """
  What callers may ask of a flow, and what they are told: every rule about euids, counts, revisions and closed flows.

  `ctx` is `t:EventSeal.Flow.ctx/0`. `:wait` says that a request has to come in a later batch, since it depends on what this
  one has yet to compute.
  """

  alias EventSeal.{Chain, Error, Event, Flow, Receipt, Record}

  @max_revision 65_535

  @doc """
  Takes an event on. `random` is 26 bytes: salt and what an euid is drawn from.

  `{:same, receipt}`: the very event was accepted before. `:wait`: it has to come in a later batch, since it depends on
  what this one has yet to compute.
  """
  @spec append(Flow.t(), Event.draft(), non_neg_integer | nil, <<_::208>>, Flow.ctx()) ::
          {:ok, Flow.t(), Receipt.t()} | {:same, Receipt.t()} | {:error, Error.t()} | :wait
  def append(%{step: %{finish: finish}}, _draft, _expect, _random, _ctx) when finish != nil, do: :wait

  def append(flow, draft, expect, random, ctx) do
    with :new <- seen(flow, elem(draft, 0), draft),
         :ok <- still_open(flow),
         :ok <- counted(flow, expect) do
      add(flow, :append, draft, random, ctx)
    end
  end

  @doc "Takes on events without an euid, which are new for certain; 26 bytes of `random` for each. Receipts newest first."
  @spec append_new(Flow.t(), [Event.draft(), ...], binary, Flow.ctx()) ::
          {:ok, Flow.t(), [Receipt.t()]} | {:error, Error.t()} | :wait
  def append_new(%{step: %{finish: finish}}, _drafts, _random, _ctx) when finish != nil, do: :wait

  def append_new(flow, drafts, random, ctx) do
    recorded_at = Flow.recorded_at(flow, ctx)

    with :ok <- still_open(flow),
         {:ok, flow} <- begun(flow, recorded_at, ctx) do
      {asked, receipts} = drawn(drafts, random, {recorded_at, flow.id}, flow.step.drafts, [])
      step = %{flow.step | drafts: asked}
      {:ok, %{flow | step: step, accepted: flow.accepted + length(drafts), last_at: recorded_at}, receipts}
    end
  end

  defp drawn([], <<>>, _of, asked, receipts), do: {asked, receipts}

  defp drawn([draft | drafts], <<random::binary-26, left::binary>>, {recorded_at, id} = of, asked, receipts) do
    draft = drawn(draft, random, recorded_at)
    drawn(drafts, left, of, [{:append, draft} | asked], [receipt(id, draft) | receipts])
  end

  # What only the library gives: salt, euid if the caller gave none, time of appearance.
  defp drawn({given, at, _, _, kind, version, where, who, _, body}, <<salt::binary-16, ten::binary>>, recorded_at),
    do: {given || Event.uuid7(recorded_at, ten), at, recorded_at, 0, kind, version, where, who, salt, body}

  @doc "Changes an event of the pool; `changes` are `{index in the draft, value}`, `revision` the one it must have or nil."
  @spec amend(Flow.t(), binary, [{non_neg_integer, term}], non_neg_integer | nil, <<_::208>>) ::
          {:ok, Flow.t(), Receipt.t()} | {:error, Error.t()} | :wait
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
  @spec retract(Flow.t(), binary, non_neg_integer | nil) :: {:ok, Flow.t(), Receipt.t()} | {:error, Error.t()} | :wait
  def retract(flow, euid, guard) do
    with {:ok, {seq, _tick, _deadline, frame, body, _}} <- pooled(flow, euid, guard) do
      # Spent for ever, but not its frame.
      euid = :binary.copy(Record.euid(frame))
      step = %{flow.step | drops: [{seq, euid} | flow.step.drops], busy: Map.put(flow.step.busy, euid, true)}
      waiting = flow.waiting - 1

      flow = %{
        flow
        | step: step,
          held: Map.delete(flow.held, euid),
          spent: if(flow.complete, do: Map.put(flow.spent, euid, true), else: flow.spent),
          accepted: flow.accepted - 1,
          waiting: waiting,
          gone: flow.gone + 1,
          pool_bytes: flow.pool_bytes - byte_size(frame) - byte_size(body)
      }

      {:ok, swept(flow), receipt(flow.id, Record.draft(frame, body))}
    end
  end

  # What was retracted waits in the queue for its time, but not more of it than of what was not.
  defp swept(%{waiting: 0} = flow), do: %{flow | pool: :queue.new(), gone: 0}

  defp swept(%{gone: gone, waiting: waiting} = flow) when gone > waiting + 100,
    do: %{flow | pool: :queue.filter(fn {_seq, euid, _tick} -> is_map_key(flow.held, euid) end, flow.pool), gone: 0}

  defp swept(flow), do: flow

  @doc "Has the whole pool settled (`:settle`), or what can be fixed sealed (`:seal`), at the end of this batch."
  @spec finish(Flow.t(), :settle | :seal) :: {:ok, Flow.t()} | {:error, Error.t()} | :wait
  def finish(%{chain: nil}, _), do: {:error, Error.new(:not_found)}
  def finish(%{step: %{finish: nil}} = flow, what), do: {:ok, put_in(flow.step.finish, what)}
  def finish(_flow, _what), do: :wait

  @doc "Has the flow closed at the end of this batch, by a `$close` event; a `when` of nil is now."
  @spec close(Flow.t(), Event.draft(), non_neg_integer | nil, <<_::208>>, Flow.ctx()) ::
          {:ok, Flow.t(), Receipt.t()} | {:same, Receipt.t()} | {:error, Error.t()} | :wait
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
      %{^euid => {stored, _frame}} -> compare(flow, draft, stored)
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
    entry = Flow.settled(flow, n)
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
      {stored, _frame} -> elem(stored, 1)
      _ -> Flow.recorded_at(flow, ctx)
    end
  end

  defp add(flow, how, draft, random, ctx) do
    recorded_at = Flow.recorded_at(flow, ctx)
    given = elem(draft, 0)
    draft = drawn(draft, random, recorded_at)

    with {:ok, flow} <- begun(flow, recorded_at, ctx) do
      flow = ask(%{flow | accepted: flow.accepted + 1, last_at: recorded_at}, how, draft, given)
      {:ok, flow, receipt(flow.id, draft)}
    end
  end

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
end
