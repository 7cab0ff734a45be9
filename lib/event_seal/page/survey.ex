defmodule EventSeal.Page.Survey do
  @moduledoc false
  # What a page shows, read from a store that goes on meanwhile. A flow's state is taken first and verified then, so that
  # nothing is shown that the verification did not reach.

  alias EventSeal.{Chain, Checkpoint, Error, Event, Fault, Reader, Record, Stamp, Store, Verdict, Verifier}
  alias EventSeal.Log.Tree
  alias EventSeal.Stamp.Kept
  alias EventSeal.Store.{Head, Piece}

  @flows 200
  @events 2_000
  @unreadable [:corrupt, :malformed, :storage]
  # Classes that concern a block as a whole: they are marked at it, not at the event that it begins with.
  @of_block [:read, :format, :genesis, :height, :root, :block_hash, :when_range, :previous, :epoch]

  @type checkpoint ::
          %{last: Checkpoint.t(), tree: Tree.t(), leaves: non_neg_integer, holds: boolean, stamp: Stamp.t() | nil}
          | Error.t()
          | nil
  @type row :: %{
          flow: String.t() | nil,
          faults: non_neg_integer,
          head: %{fixed: integer, sandbox: integer, pool: integer, blocks: integer, closed: boolean} | nil
        }
  @typedoc """
  A stretch of a timeline. `events` are those shown, `left_out` how many are not; `faults` those of the stretch as a whole;
  `block` is `nil` for what no block holds, `header` also for a block that cannot be read.
  """
  @type part :: %{
          stage: Event.stage(),
          first: pos_integer | nil,
          last: non_neg_integer | nil,
          block: non_neg_integer | nil,
          header: map | nil,
          covered: boolean,
          events: [{Event.t(), [Fault.t()]}],
          left_out: non_neg_integer,
          faults: [Fault.t()]
        }

  @doc "The whole store: every flow with a fault, and the first of the others."
  @spec store(Store.t(), keyword) :: {:ok, map} | {:error, Error.t()}
  def store(store, opts) do
    Reader.reading(fn ->
      with {:ok, verdict} <- Verifier.run(store, opts),
           {:ok, checkpoint} <- checkpoint(store, opts[:anchors]) do
        rows = rows(store, verdict)
        {:ok, survey(verdict, checkpoint, %{flows: rows, flows_left_out: max(verdict.flows - length(rows), 0)})}
      end
    end)
  end

  defp survey(verdict, checkpoint, rest) do
    ok = Verdict.ok?(verdict) and match?(%{holds: true}, checkpoint || %{holds: true})
    # Of so many faults that not all were kept, an event or a flow that bears none may have one all the same.
    all = verdict.fault_count == length(verdict.faults)
    at = System.os_time(:microsecond)
    Map.merge(rest, %{at: at, verdict: verdict, checkpoint: checkpoint, ok: ok, all_faults: all})
  end

  defp rows(store, verdict) do
    faulty = Enum.frequencies_by(verdict.faults, & &1.flow)
    worst = Enum.sort_by(faulty, fn {flow, faults} -> {-faults, flow} end)

    others =
      store |> Reader.flows(after: nil, page: @flows) |> Stream.reject(&is_map_key(faulty, &1)) |> Enum.take(@flows)

    Enum.map(worst ++ Enum.map(others, &{&1, 0}), fn {flow, faults} -> row(store, flow, faults) end)
  end

  defp row(store, flow, faults) do
    case flow && Store.head(store, flow) do
      {:ok, head} -> %{flow: flow, faults: faults, head: counts(head)}
      _unknown -> %{flow: flow, faults: faults, head: nil}
    end
  end

  defp counts(head) do
    pool = Enum.count(head.entries, &(elem(&1, 1) == :pool))
    waiting = %{sandbox: Record.settled_count(head.entries), pool: pool}
    Map.merge(waiting, %{fixed: head.fixed, blocks: head.height, closed: head.closed})
  end

  # The log is read as far as it was signed, and its root compared. What cannot be read is told, not passed over.
  @spec checkpoint(Store.t(), Stamp.anchors() | nil) :: {:ok, checkpoint} | {:error, Error.t()}
  defp checkpoint(store, anchors) do
    with {:ok, %Checkpoint{} = last} <- Checkpoint.last(store),
         {:ok, %{leaves: leaves}} <- Store.log(store, :size),
         {:ok, tree} <- Tree.open(store, last.size),
         {:ok, stamp} <- stamp(store, tree, anchors) do
      holds = Tree.head(tree) == {last.size, last.root}
      {:ok, %{last: last, tree: tree, leaves: leaves, holds: holds, stamp: stamp}}
    else
      {:ok, nil} -> {:ok, nil}
      {:error, %Error{reason: reason} = error} when reason in @unreadable -> {:ok, error}
      {:error, _} = error -> error
    end
  end

  # Of a log that is another one now it says nothing.
  defp stamp(store, tree, anchors) do
    with {:ok, {%{size: size, root: root}, stamp}} <- Kept.last(store, anchors),
         {:ok, made} <- Tree.root(tree, store, size) do
      {:ok, if(made == root, do: stamp)}
    else
      {:error, %Error{reason: :not_found}} -> {:ok, nil}
      none_or_error -> none_or_error
    end
  end

  @doc "One flow, as a timeline. Bodies are left out unless `bodies: true` is given."
  @spec flow(Store.t(), String.t(), keyword) :: {:ok, map} | {:error, Error.t()}
  def flow(store, flow, opts) do
    {bodies, opts} = Keyword.pop(opts, :bodies, false)
    {anchors, opts} = Keyword.pop(opts, :anchors)

    Reader.reading(fn ->
      with {:ok, head, pieces} <- state(store, flow),
           {:ok, verdict} <- Verifier.run(store, [flow: flow] ++ opts),
           {:ok, checkpoint} <- checkpoint(store, anchors) do
        {:ok, survey(verdict, checkpoint, timeline(head, pieces, verdict, checkpoint, bodies))}
      end
    end)
  end

  defp state(store, flow) do
    case Store.head(store, flow) do
      {:ok, head} -> with {:ok, pieces} <- pieces(store, flow, head.fixed), do: {:ok, head, pieces}
      {:error, %Error{reason: reason}} when reason in @unreadable -> damaged(store, flow)
      {:error, _} = error -> error
    end
  end

  # Its blocks may be there, though its state cannot be read.
  defp damaged(store, flow) do
    {:ok, pieces} = with {:error, _} <- Store.blocks(store, flow, {1, :infinity}), do: {:ok, []}
    fixed = Enum.reduce(pieces, 0, fn piece, _last -> last(piece) end)
    {:ok, %Head{flow: flow, genesis: nil, fixed: fixed, height: length(pieces), whole: false}, pieces}
  end

  defp pieces(_store, _flow, 0), do: {:ok, []}
  defp pieces(store, flow, fixed), do: Store.blocks(store, flow, {1, fixed})

  defp last(piece), do: piece.first + piece.count - 1

  defp timeline(head, pieces, verdict, checkpoint, bodies) do
    {pool, sandbox} = head |> Reader.unsealed() |> Enum.split_with(&(&1.stage == :pool))
    settled = head.fixed + length(sandbox)
    by_position = Enum.group_by(verdict.faults, & &1.position)
    newest = settled + length(pool) - @events + 1
    shown = %{from: newest, faults: by_position, tree: tree(checkpoint), bodies: bodies}
    blocks = Enum.map(pieces, &block(&1, shown))
    parts = blocks ++ unsealed(:sandbox, sandbox, head.fixed + 1, shown) ++ unsealed(:pool, pool, settled + 1, shown)
    placed = Enum.flat_map(parts, fn part -> part.faults ++ Enum.flat_map(part.events, &elem(&1, 1)) end)

    %{
      flow: head.flow,
      head: counts(head),
      whole: head.whole,
      parts: parts,
      elsewhere: verdict.faults -- placed,
      covered: covered(head, shown.tree),
      bodies: bodies
    }
  end

  defp tree(%{tree: tree, holds: true}), do: tree
  defp tree(_none), do: nil

  # The last position that the checkpoint tells of.
  defp covered(%{genesis: genesis}, tree) when is_nil(genesis) or is_nil(tree), do: 0

  defp covered(%{genesis: genesis}, tree) do
    case Chain.restore(genesis, nil, nil, []) do
      {:ok, chain} -> Tree.tail(tree, chain.digest)
      {:error, _} -> 0
    end
  end

  defp block(piece, shown) do
    {first, last} = {piece.first, last(piece)}
    faults = within(shown.faults, first, last)
    part = %{stage: :fixed, first: first, last: last, block: piece.height, header: nil, covered: false}

    with true <- last >= shown.from or faults != [],
         {:ok, bytes} <- Piece.found(piece),
         {:ok, header} <- Chain.header(bytes),
         {:ok, events} <- Chain.events(bytes) do
      covered = shown.tree != nil and Tree.block(shown.tree, header.hash) != nil
      fill(%{part | header: header, covered: covered}, events, faults, shown)
    else
      _not_shown_or_not_read -> Map.merge(part, %{events: [], left_out: piece.count, faults: faults})
    end
  end

  defp within(by_position, first, last) do
    for {position, faults} <- by_position, position in first..last//1, fault <- faults, do: fault
  end

  defp unsealed(_stage, [], _first, _shown), do: []

  defp unsealed(stage, events, first, shown) do
    last = first + length(events) - 1
    faults = if stage == :pool, do: [], else: within(shown.faults, first, last)
    part = %{stage: stage, first: first, last: last, block: nil, header: nil, covered: false}
    [fill(part, events, faults, shown)]
  end

  defp fill(part, events, faults, shown) do
    {whole, single} = Enum.split_with(faults, &(part.block != nil and &1.class in @of_block))
    single = Enum.group_by(single, & &1.position)

    events =
      for {event, at} <- Enum.with_index(events, part.first), at >= shown.from or is_map_key(single, event.n) do
        {if(shown.bodies, do: event, else: %{event | body: nil, salt: nil}), Map.get(single, event.n, [])}
      end

    left_out = part.last - part.first + 1 - length(events)
    Map.merge(part, %{events: events, left_out: left_out, faults: whole})
  end
end
