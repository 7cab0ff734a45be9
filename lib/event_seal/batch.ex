defmodule EventSeal.Batch do
  @moduledoc """
  Requests to many flows taken through one commit: each native call serves the whole batch.

  Nothing is changed here and nothing is written: what comes back is the flows as they would be, the operations for the
  store, and the replies to give once it has done them. The store is only read, for flows that are not in memory and for
  euids that callers gave.

  A request is `{from, body}`; `from` is nil for what the writer asks itself. Bodies:

    * `{:append, flow, draft, expect}` - `{:many, [{flow, draft, expect}]}`, all or none
    * `{:amend, flow, euid, changes, revision}` - `{:retract, flow, euid, revision}`
    * `{:settle, flow}` - `{:seal, flow}` - `{:close, flow, draft, expect}` - `{:due, flow}`
  """

  alias EventSeal.Batch.Singles
  alias EventSeal.{Chain, Error, Event, Flow, Record, Store}
  alias EventSeal.Chain.{Container, Run}
  alias EventSeal.Flow.{Requests, Stages, Stored}

  @enforce_keys [:ctx, :flows]
  defstruct [:ctx, :flows, refused: %{}, frames: %{}, replies: [], rest: [], ops: [], random: <<>>]

  @type request :: {from :: term, body :: tuple}

  @typedoc """
  `flows` are those touched, `refused` those that could not be read, with the error; `frames`, where receipts are signed,
  those of the events that are spoken of; `replies` are `{from, reply}`, newest first; `rest` the requests that have to come
  in a later batch.
  """
  @type t :: %__MODULE__{
          ctx: map,
          flows: %{optional(String.t()) => Flow.t()},
          refused: %{optional(String.t()) => Error.t()},
          frames: %{optional({String.t(), binary}) => Record.frame()},
          replies: [{term, term}],
          rest: [request],
          ops: [tuple],
          random: binary
        }

  @doc "Takes requests, oldest first, through the flows that are in memory; `ctx` is `EventSeal.Flow`'s, with `store`."
  @spec run(%{optional(String.t()) => Flow.t()}, [request], map) :: {:ok, t} | {:error, Error.t()}
  def run(in_memory, requests, ctx) do
    with {:ok, batch} <- settled(in_memory, requests, ctx),
         {:ok, batch} <- seal(batch) do
      batch = Enum.reduce(batch.flows, batch, &kept/2)
      {:ok, %{batch | replies: Enum.map(batch.replies, &count(&1, batch.flows))}}
    end
  end

  defp settled(in_memory, requests, ctx) do
    case Singles.run(in_memory, requests, ctx) do
      {:ok, flows, replies} -> {:ok, %__MODULE__{ctx: ctx, flows: flows, replies: replies}}
      {:error, error} -> {:error, error}
      :other -> requests |> touch(in_memory, ctx) |> accept(requests) |> settle_all()
    end
  end

  defp settle_all(batch) do
    with {:ok, batch} <- take_directly(batch),
         {:ok, batch} <- frame(batch),
         do: settle(batch)
  end

  defp kept({id, flow}, batch) do
    own = Stored.ops(flow)
    keep(id, Flow.turned(flow, own), %{batch | ops: own ++ batch.ops})
  end

  defp keep(_id, %{turn: nil}, batch), do: batch
  defp keep(id, flow, batch), do: %{batch | flows: %{batch.flows | id => flow}}

  @doc "The flows that a request's body names, each with the euid that its caller gave, or nil."
  @spec names(tuple) :: [{String.t(), binary | nil}]
  def names({:append, flow, draft, _expect}), do: [{flow, elem(draft, 0)}]
  def names({:many, items}), do: Enum.map(items, fn {flow, draft, _expect} -> {flow, elem(draft, 0)} end)
  def names({:amend, flow, euid, _changes, _revision}), do: [{flow, euid}]
  def names({:retract, flow, euid, _revision}), do: [{flow, euid}]
  def names({:close, flow, draft, _expect}), do: [{flow, elem(draft, 0)}]
  def names({_settle_seal_due, flow}), do: [{flow, nil}]

  # Every flow the requests name, read from the store where that is needed: once a flow, however many ask.
  defp touch(requests, in_memory, ctx) do
    named =
      for {_from, body} <- requests, {flow, euid} <- names(body), reduce: %{} do
        named -> Map.update(named, flow, List.wrap(euid), &(List.wrap(euid) ++ &1))
      end

    Enum.reduce(named, %__MODULE__{ctx: ctx, flows: %{}}, fn {id, euids}, batch ->
      case take_up(in_memory, id, euids, ctx) do
        {:ok, flow, known} -> %{batch | flows: Map.put(batch.flows, id, Flow.begin(flow, known))}
        {:error, error} -> %{batch | refused: Map.put(batch.refused, id, error)}
      end
    end)
  end

  defp take_up(in_memory, id, euids, ctx) do
    case in_memory do
      %{^id => flow} -> flow |> indexed(euids) |> look_up(euids, ctx)
      _ -> load(id, euids, ctx)
    end
  end

  defp indexed(flow, []), do: flow
  defp indexed(flow, _euids), do: Flow.index(flow)

  defp look_up(flow, euids, ctx) do
    with [_ | _] = unknown <- Flow.unknown(flow, euids),
         {:ok, head} <- Store.head(ctx.store, flow.id, unknown),
         {:ok, known} <- known(head, ctx) do
      {:ok, flow, known}
    else
      [] -> {:ok, flow, %{}}
      {:error, _} = error -> error
    end
  end

  defp load(id, euids, ctx) do
    with {:ok, head} <- Store.head(ctx.store, id, euids),
         {:ok, flow} <- Stored.load(head, ctx),
         {:ok, known} <- known(head, ctx) do
      {:ok, indexed(flow, euids), known}
    else
      {:error, %Error{reason: :not_found}} -> {:ok, Flow.new(id, if(ctx[:shared], do: 0)), %{}}
      {:error, error} -> {:error, error}
    end
  end

  # The store names blocks that may hold an euid; only the block itself says so.
  defp known(%{found: found}, _ctx) when found == %{}, do: {:ok, %{}}

  defp known(head, ctx) do
    spent = for {euid, :spent} <- head.found, into: %{}, do: {euid, :spent}
    heights = for {_euid, heights} when is_list(heights) <- head.found, height <- heights, uniq: true, do: height

    with {:ok, events} <- sealed(head, heights, ctx) do
      found = for {event, frame} <- events, is_map_key(head.found, event.euid), do: {event.euid, {draft(event), frame}}
      {:ok, Enum.into(found, spent)}
    end
  end

  defp sealed(_head, [], _ctx), do: {:ok, []}

  defp sealed(head, heights, ctx) do
    with {:ok, pieces} <- Store.blocks(ctx.store, head.flow, {1, head.fixed}) do
      pieces |> Enum.filter(&(&1.height in heights)) |> Enum.reduce_while({:ok, []}, &read(&1, &2, ctx))
    end
  end

  defp read(piece, {:ok, events}, ctx) do
    with {:ok, block} <- Store.read(piece), {:ok, more} <- Chain.events(block) do
      {:cont, {:ok, with_frames(more, block, ctx) ++ events}}
    else
      {:error, error} -> {:halt, {:error, error}}
    end
  end

  defp with_frames(events, block, %{signs: true}),
    do: Enum.zip_with(events, Container.events(block), fn event, {frame, _hash, _body} -> {event, frame} end)

  defp with_frames(events, _block, _ctx), do: for(event <- events, do: {event, nil})

  # As the caller's own fields went in; a body that is not there cannot be compared.
  defp draft(event) do
    {:ok, draft} = Event.draft(%{event | body: event.body || ""}, library: true, euid: event.euid, max_body: :infinity)
    {euid, at, _, _, kind, version, where, who, _, _} = draft
    {euid, at, event.recorded_at, event.revision, kind, version, where, who, event.salt, event.body}
  end

  defp accept(batch, requests) do
    drafts = Enum.reduce(requests, 0, fn {_from, body}, count -> count + length(names(body)) end)
    requests |> take(%{batch | random: :crypto.strong_rand_bytes(26 * drafts)})
  end

  defp take([], batch), do: batch

  defp take([{from, body} = request | requests], batch) do
    case one(body, batch) do
      {:ok, batch, reply} -> take(requests, reply(batch, from, reply))
      {:error, error} -> take(requests, reply(batch, from, {:error, error}))
      :wait -> %{batch | rest: [request | requests]}
    end
  end

  defp reply(batch, nil, _reply), do: batch
  defp reply(batch, from, reply), do: %{batch | replies: [{from, reply} | batch.replies]}

  defp one({:many, items}, batch), do: many(items, batch, [])

  defp one(body, batch) do
    id = elem(body, 1)

    case batch.refused do
      %{^id => error} -> {:error, error}
      _ -> batch.flows |> Map.fetch!(id) |> ask(body, batch) |> put(id, remember(batch, id, body))
    end
  end

  # Events that are new for certain, one after the other in a flow, go in together.
  defp many([], batch, receipts), do: {:ok, batch, {:ok, Enum.reverse(receipts)}}

  defp many([{id, draft, nil} | _] = items, batch, receipts) when elem(draft, 0) == nil do
    {drafts, rest} = alike(items, id, [])

    case together(id, drafts, batch) do
      {:ok, batch, {:ok, more}} -> many(rest, batch, more ++ receipts)
      refused -> refused
    end
  end

  defp many([{id, draft, expect} | rest], batch, receipts) do
    case one({:append, id, draft, expect}, batch) do
      {:ok, batch, {:ok, receipt}} -> many(rest, batch, [receipt | receipts])
      refused -> refused
    end
  end

  defp alike([{id, draft, nil} | items], id, drafts) when elem(draft, 0) == nil, do: alike(items, id, [draft | drafts])
  defp alike(items, _id, drafts), do: {Enum.reverse(drafts), items}

  defp together(id, drafts, batch) do
    bytes = 26 * length(drafts)
    <<random::binary-size(bytes), left::binary>> = batch.random

    case batch.refused do
      %{^id => error} ->
        {:error, error}

      _ ->
        with {:ok, flow, receipts} <- Requests.append_new(Map.fetch!(batch.flows, id), drafts, random, batch.ctx),
             do: {:ok, %{batch | flows: %{batch.flows | id => flow}, random: left}, {:ok, receipts}}
    end
  end

  # What a receipt will speak of, if the event is here already: what is retracted is not any more when it is signed.
  defp remember(%{ctx: %{signs: true}} = batch, id, body) do
    with [{_flow, <<_::128>> = euid}] <- names(body),
         <<_::binary>> = frame <- Flow.frame(Map.fetch!(batch.flows, id), euid) do
      %{batch | frames: Map.put(batch.frames, {id, euid}, frame)}
    else
      _ -> batch
    end
  end

  defp remember(batch, _id, _body), do: batch

  defp ask(flow, {:append, _, draft, expect}, batch), do: Requests.append(flow, draft, expect, random(batch), batch.ctx)
  defp ask(flow, {:close, _, draft, expect}, batch), do: Requests.close(flow, draft, expect, random(batch), batch.ctx)

  defp ask(flow, {:amend, _, euid, changes, guard}, batch),
    do: Requests.amend(flow, euid, changes, guard, random(batch))

  defp ask(flow, {:retract, _, euid, guard}, _batch), do: Requests.retract(flow, euid, guard)
  defp ask(flow, {:due, _}, _batch), do: {:ok, flow}
  defp ask(flow, {what, _}, _batch), do: Requests.finish(flow, what)

  defp put({:ok, flow, receipt}, id, batch), do: {:ok, put_flow(batch, id, flow), {:ok, receipt}}
  defp put({:ok, flow}, id, batch), do: {:ok, put_flow(batch, id, flow), {:count, id}}
  defp put({:same, receipt}, _id, batch), do: {:ok, batch, {:ok, receipt}}
  defp put({:error, error}, _id, _batch), do: {:error, error}
  defp put(:wait, _id, _batch), do: :wait

  # A slice is used once: whatever was asked, its bytes are gone.
  defp put_flow(%{random: <<_::binary-26, random::binary>>} = batch, id, flow),
    do: %{batch | flows: Map.put(batch.flows, id, flow), random: random}

  defp put_flow(batch, id, flow), do: %{batch | flows: Map.put(batch.flows, id, flow)}

  defp random(%{random: <<slice::binary-26, _::binary>>}), do: slice

  # Without a pool one call does all that is new.
  defp take_directly(batch) do
    asked = for {_id, flow, _drafts} = asked <- asked(batch), Stages.direct?(flow, batch.ctx), do: asked

    with {:ok, settled} <- Chain.settle_drafts(Enum.map(asked, fn {_id, flow, drafts} -> {flow.chain, drafts} end)) do
      {:ok, Enum.zip_reduce(asked, settled, batch, &taken/3)}
    end
  end

  defp taken({id, flow, _drafts}, {chain, runs}, batch) do
    batch = %{batch | flows: %{batch.flows | id => Stages.taken(flow, chain, runs, batch.ctx)}}
    spoken_of(batch, id, fn -> for(run <- runs, entry <- Run.entries(run), do: entry.frame) end)
  end

  defp asked(batch) do
    for {id, %{step: %{drafts: [_ | _]}} = flow} <- batch.flows, do: {id, flow, Stages.drafts(flow)}
  end

  # One call packs all events of a suite.
  defp frame(batch) do
    asked = for {_id, flow, _drafts} = asked <- asked(batch), not Stages.direct?(flow, batch.ctx), do: asked

    asked
    |> Enum.group_by(fn {_id, flow, _drafts} -> flow.chain.suite end)
    |> Enum.reduce_while({:ok, batch}, fn {suite, asked}, {:ok, batch} ->
      case Chain.frames(suite, Enum.flat_map(asked, fn {_id, _flow, drafts} -> drafts end)) do
        {:ok, frames} -> {:cont, {:ok, framed(asked, frames, batch)}}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp framed([], [], batch), do: batch

  defp framed([{id, flow, drafts} | asked], frames, batch) do
    {own, frames} = Enum.split(frames, length(drafts))
    batch = %{batch | flows: Map.put(batch.flows, id, Stages.framed(flow, own, batch.ctx))}
    framed(asked, frames, spoken_of(batch, id, fn -> Enum.map(own, &elem(&1, 0)) end))
  end

  # What a receipt will speak of.
  defp spoken_of(%{ctx: %{signs: true}} = batch, id, frames) do
    %{batch | frames: for(frame <- frames.(), into: batch.frames, do: {{id, Record.euid(frame)}, frame})}
  end

  defp spoken_of(batch, _id, _frames), do: batch

  defp settle(batch) do
    {ready, flows} = Enum.reduce(batch.flows, {[], batch.flows}, &ready(&1, &2, batch.ctx))

    with {:ok, settled} <- Chain.settle_many(Enum.map(ready, fn {_id, flow, frames} -> {flow.chain, frames} end)) do
      flows =
        Enum.zip_reduce(ready, settled, flows, fn {id, flow, _frames}, {chain, entries}, flows ->
          Map.put(flows, id, Stages.settled(flow, chain, entries, batch.ctx))
        end)

      {:ok, %{batch | flows: flows}}
    end
  end

  # A pool that lets nothing go has perhaps let go of what was retracted: or it would be due for ever.
  defp ready({_id, %{waiting: 0}}, acc, _ctx), do: acc

  defp ready({id, flow}, {ready, flows}, ctx) do
    case Stages.ready(flow, ctx) do
      {flow, []} -> {ready, %{flows | id => flow}}
      {flow, frames} -> {[{id, flow, frames} | ready], flows}
    end
  end

  defp seal(batch) do
    due = for {id, flow} <- batch.flows, Stages.seal?(flow, batch.ctx), do: {id, flow}

    Error.reduce(due, batch, fn {id, flow}, batch ->
      with {:ok, flow} <- Stages.seal(flow, batch.ctx), do: {:ok, %{batch | flows: %{batch.flows | id => flow}}}
    end)
  end

  defp count({from, {:count, id}}, flows), do: {from, {:ok, Flow.finished(Map.fetch!(flows, id))}}
  defp count(reply, _flows), do: reply
end
