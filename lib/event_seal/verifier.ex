defmodule EventSeal.Verifier do
  @moduledoc """
  Verifies what a store holds, flow by flow, from the stored bytes, while the store goes on.

  It reads each flow's state once, consistently: its blocks never move, and its unsealed events are read with them. It
  knows nothing of writers.
  """

  alias EventSeal.{Chain, Checkpoint, Error, Fault, Heads, Record, Store, Verdict, Verification}
  alias EventSeal.Store.Sheaf
  alias EventSeal.Verifier.{Apart, Ledger, Rows}

  # As much as one native call is given: large enough to be cheap, small enough to keep memory in bounds. What lies in a
  # file is read by the call itself, a little at a time, so it weighs less than what lies in memory.
  @batch_bytes 32 * 1024 * 1024
  @file_weight 16
  @batch_flows 2_000
  # How many blocks are read by functions at once.
  @reads 4
  # What is kept of each block while its flow is checked, and how many of a flow are looked up at a time.
  @piece_weight 2_048
  @blocks 4_096
  # About what an event weighs, with its frame, hash, id and body.
  @event_weight 32
  @page 1_000
  @unreadable [:corrupt, :malformed, :storage]

  @doc """
  Verifies a store, or one flow of it. A whole store, at once, is held against its log as well, and the log against its
  checkpoints.

  Options: `:flow`, `:range` (`first..last` positions of that flow; the blocks that hold them are checked alone) or `:since`
  (a position of it that was verified before), `:since` without a flow (a checkpoint's text, with `:key`: only what it does
  not cover is looked at, with the block before that), `:after` (a flow: those behind it) and `:for` (ms; the verdict's `next` is
  then the flow to go on after, `nil` once all is done), `:head` (the path of a file of `EventSeal.Heads`),
  `:checkpoint` (the path of a file with a checkpoint that was kept elsewhere) with `:key` (the verifier key or keys of the
  log), `:anchors` (whose time stamps are believed, `t:EventSeal.Stamp.anchors/0`: then one must be there), `:apart` (a
  verification store, with which all of that is compared; see `EventSeal.Apart`), `:threads`, `:max_rate` (`{count, :events}`
  or `{count, :bytes}` a second), `:max_faults` (1,000), `:progress` (a function
  of `%{flows: …, events: …, bytes: …}`, called about ten times a second; if it returns `:cancel`, the verification ends as
  `:cancelled`).
  """
  @spec run(Store.t(), keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def run(store, opts) do
    opts = Keyword.merge([bodies: true, max_faults: 1_000], opts)
    run = %{store: store, opts: opts, pool: Verification.pool(opts), batch: batch(opts[:max_rate])}
    run = Map.merge(run, %{verdict: %Verdict{}, flows: [], count: 0, bytes: 0, under_way: nil, ledger: nil, apart: nil})
    all(Map.put(run, :stop, if(opts[:for], do: System.monotonic_time(:millisecond) + opts[:for])))
  end

  defp all(run) do
    with {:ok, heads} <- heads(run.opts[:head]),
         {:ok, known} <- known(run.opts),
         {:ok, run} <- apart(run, known),
         {:ok, run} <- ledger(run, known),
         {:ok, run} <- flows(run),
         {:ok, run} <- finish(run),
         {:ok, run} <- surveyed(run),
         {:ok, run} <- rest(run),
         {:ok, run} <- compared(run),
         {:ok, run} <- rolled_back(run, heads),
         do: {:ok, in_order(Rows.named(run.verdict, run.store, run.opts[:apart]))}
  rescue
    error in Error -> {:error, error}
  after
    Verification.abandon(run.pool)
  end

  # Under a budget a native call gets about what a second allows, so that `for:` and heads are not looked at long before.
  defp batch(nil), do: {@batch_bytes, @batch_flows}
  defp batch({rate, :events}), do: {min(rate * @event_weight, @batch_bytes), min(rate, @batch_flows)}
  defp batch({rate, :bytes}), do: {min(div(rate, @file_weight), @batch_bytes), @batch_flows}

  defp heads(nil), do: {:ok, %{}}
  defp heads(path), do: Heads.read(path)

  # A checkpoint that was kept elsewhere.
  defp known(opts) do
    case {opts[:checkpoint], opts[:since]} do
      {nil, since} when not is_binary(since) -> {:ok, nil}
      {nil, since} -> believed(:since, since, opts[:key])
      {path, _} -> with {:ok, note} <- Error.posix(File.read(path), path), do: believed(:checkpoint, note, opts[:key])
    end
  end

  defp believed(what, note, key) do
    with {:ok, checkpoint} <- Checkpoint.open(note, key: key), do: {:ok, {what, checkpoint}}
  end

  defp apart(%{opts: opts} = run, known) do
    outside = with {_what, checkpoint} <- known, do: checkpoint
    {:ok, if(opts[:apart], do: %{run | apart: Apart.open(run.store, opts, outside)}, else: run)}
  end

  # What was verified is compared: a flow, those up to where the time ran out, or all; at the end the logs, too.
  defp compared(%{apart: nil} = run), do: {:ok, run}

  defp compared(%{opts: opts, verdict: verdict} = run) do
    with {:ok, found} <- Apart.run(run.apart, &compare(&1, opts, verdict.next)),
         do: {:ok, %{run | verdict: Verdict.add(verdict, found, opts[:max_faults])}}
  end

  defp compare(apart, opts, next) do
    cond do
      opts[:flow] -> Apart.flow(apart, opts[:flow], span(opts[:range] || since(opts[:since])))
      next -> Apart.flows(apart, opts[:after], next)
      true -> apart |> Apart.flows(opts[:after], nil) |> Apart.log()
    end
  end

  defp since(since) when since in [nil, 0], do: nil
  defp since(since), do: {since, :infinity}

  # What the log says of flows that are not looked at is not held against them.
  defp ledger(run, known) do
    if Enum.any?([:flow, :after, :for], &(run.opts[&1] != nil)) do
      {:ok, run}
    else
      with {:ok, ledger, faults} <- Ledger.open(run.store, known, run.opts[:anchors]),
           do: {:ok, found(%{run | ledger: ledger}, faults)}
    end
  end

  # What no flow leads to: of a store that is verified in parts, in the first of them.
  defp surveyed(%{opts: opts} = run) do
    if opts[:after] != nil or opts[:range] != nil do
      {:ok, run}
    else
      with {:ok, faults} <- Store.survey(run.store, opts[:flow], opts[:max_faults]), do: {:ok, found(run, faults)}
    end
  end

  defp rest(run) do
    max_faults = run.opts[:max_faults]

    with {:ok, rest} <- Ledger.rest(run.ledger, max_faults) do
      # Of the events that were looked at.
      rest = %{rest | covered: max(rest.covered - run.verdict.unseen, 0)}
      {:ok, %{run | verdict: Verdict.add(run.verdict, rest, max_faults)}}
    end
  end

  defp rolled_back(run, heads) when heads == %{}, do: {:ok, run}

  defp rolled_back(run, heads) do
    with {:ok, faults} <- Heads.faults(run.store, heads), do: {:ok, found(run, faults)}
  end

  defp in_order(verdict), do: %{verdict | faults: Enum.sort_by(verdict.faults, &{&1.flow, &1.position})}

  defp flows(run) do
    case Keyword.fetch(run.opts, :flow) do
      {:ok, flow} -> one(run, flow)
      :error -> pages(put_in(run.verdict.damage, Store.recover(run.store, []).damage), run.opts[:after])
    end
  end

  defp one(run, flow) do
    case {run.opts[:range], run.opts[:since]} do
      {nil, since} when since in [nil, 0] -> whole(run, flow)
      {nil, since} -> with({:ok, head} <- Store.head(run.store, flow), do: since(run, head, since, settled(head)))
      {range, nil} -> with({:ok, head} <- Store.head(run.store, flow), do: part(run, head, range))
    end
  end

  # The position itself is looked at again: what was there must not have gone.
  defp since(run, head, since, last) when since <= last, do: gather(run, head, since..last)

  defp since(run, head, since, last) do
    gone = %Fault{flow: head.flow, position: last + 1, class: :missing, recorded: since, recomputed: last}
    {:ok, found(run, [gone])}
  end

  # Where no event stands, nothing was verified: that is not the same as nothing wrong.
  defp part(run, head, first..last//_) do
    if first > settled(head), do: {:error, Error.new(:not_found)}, else: gather(run, head, first..last)
  end

  defp pages(run, cursor) do
    case Store.flows(run.store, cursor, @page, :blocks) do
      {:ok, []} ->
        {:ok, run}

      {:ok, flows} ->
        {run, rest} = unended(run, flows)
        with {:ok, %{verdict: %{next: nil}} = run} <- page(run, rest), do: pages(run, behind(List.last(flows)))

      {:error, _} = error ->
        error
    end
  end

  defp behind(%Sheaf{} = sheaf), do: Sheaf.cursor(sheaf)
  defp behind({flow, _blocks}), do: flow

  # All but the closed flows that the checkpoint covers to their end.
  defp unended(%{ledger: %{base: base}} = run, flows) when base > 0 do
    closed = Enum.flat_map(flows, &ending/1)
    ends = for {_flow, last, at} <- closed, do: {elem(piece(at), 1), last}
    {ended, others} = closed |> Enum.zip(Ledger.pass_ended(run.ledger, ends)) |> Enum.split_with(&elem(&1, 1))
    unseen = Enum.sum(for {{_flow, last, _at}, true} <- ended, do: last)
    run = put_in(run.verdict.unseen, run.verdict.unseen + unseen)
    open = for {_flow, blocks} = open when blocks in [nil, []] <- flows, do: open
    {run, for({{flow, _last, _at}, false} <- others, do: {flow, nil}) ++ open}
  end

  defp unended(run, flows), do: {run, flows}

  # Of closed flows: where each ends, and where its last block lies.
  defp ending(%Sheaf{} = sheaf), do: for({flow, last, places} <- Sheaf.each(sheaf), do: {flow, last, List.last(places)})
  defp ending({flow, [_ | _] = blocks}), do: [{flow, last(blocks), List.last(blocks).at}]
  defp ending(_open), do: []

  defp page(run, []), do: {:ok, run}

  defp page(run, [%Sheaf{} = sheaf | flows]) do
    {now, later} = Enum.split(sheaf.flows, room(run))

    with {:ok, run} <- flush_if_full({:ok, bundle(run, %{sheaf | flows: now})}) do
      rest = if later == [], do: flows, else: [%{sheaf | flows: later} | flows]
      if late?(run), do: {:ok, put_in(run.verdict.next, now |> List.last() |> elem(0))}, else: page(run, rest)
    end
  end

  defp page(run, [{flow, blocks} | flows]) do
    with {:ok, run} <- flow(run, flow, blocks) do
      if late?(run), do: {:ok, put_in(run.verdict.next, flow)}, else: page(run, flows)
    end
  end

  # So many flows of a sheaf are added at a time; each of them is small.
  defp room(%{batch: {bytes, flows}} = run), do: max(min(flows - run.count, div(bytes - run.bytes, @piece_weight)), 1)

  defp bundle(run, %Sheaf{flows: flows} = sheaf) do
    count = length(flows)
    %{run | flows: [sheaf | run.flows], count: run.count + count, bytes: run.bytes + count * @piece_weight}
  end

  defp flow(%{ledger: %{base: base}} = run, flow, _blocks) when base > 0, do: newer(run, flow)
  defp flow(run, flow, nil), do: whole(run, flow)
  defp flow(run, flow, blocks), do: closed(run, flow, blocks)

  # What came since the checkpoint, with the block before it. Where less is there than it covers, all of the flow is looked at.
  defp newer(run, flow) do
    with {:ok, %{intact: true, whole: true, genesis: genesis} = head} when genesis != nil <-
           Store.head(run.store, flow, :unsealed),
         {fixed, n} when n > 0 <- Ledger.reach(run.ledger, head.genesis),
         last when last >= n and head.fixed >= fixed <- settled(head),
         {:ok, first} <- newer_from(run, head, fixed, {fixed, n} == {head.fixed, last}) do
      unseen = min(first - 1, last)
      :ok = Ledger.pass(run.ledger, head.genesis, first)
      passed = put_in(run.verdict.unseen, run.verdict.unseen + unseen)
      known = Map.put(known(head, nil), :alone, first > 1)
      if unseen == last, do: {:ok, passed}, else: or_damaged(gather(passed, head, first..last, known), run, flow)
    else
      _all -> whole(run, flow)
    end
  end

  # Behind its end where nothing came, at its beginning where no block is covered.
  defp newer_from(_run, head, _fixed, true), do: {:ok, settled(head) + 1}
  defp newer_from(_run, _head, 0, false), do: {:ok, 1}

  defp newer_from(run, head, fixed, false) do
    with {:ok, [piece | _]} <- Store.blocks(run.store, head.flow, {fixed, fixed}), do: {:ok, piece.first}
  end

  defp late?(run), do: run.stop != nil and System.monotonic_time(:millisecond) >= run.stop

  defp closed(run, flow, blocks) do
    last = last(blocks)
    add(run, %{flow: flow, pieces: [], fixed: last, last: last, closed: true}, Enum.map(blocks, &piece(&1.at)))
  end

  defp whole(run, flow), do: or_damaged(read(run, flow), run, flow)

  defp or_damaged(outcome, run, flow) do
    with {:error, %Error{reason: reason}} when reason in @unreadable <- outcome, do: damaged(run, flow)
  end

  defp read(run, flow) do
    with {:ok, head} <- Store.head(run.store, flow, :unsealed), do: gather(run, head, nil)
  end

  # The flow's state cannot be read as it was written. Its blocks may still be, and then say best what is wrong; where
  # they hold, what is not sealed is what cannot be read.
  defp damaged(run, flow) do
    with {:ok, run} <- finish(run),
         {:ok, blocks} <- Store.blocks(run.store, flow, {1, :infinity}),
         {:ok, checked} <- add(run, %{flow: flow, pieces: [], more: true}, Enum.map(blocks, &piece(&1.at))),
         {:ok, checked} <- finish(checked) do
      last = last(blocks)
      known? = checked.verdict.fault_count > run.verdict.fault_count
      {:ok, if(known?, do: checked, else: fault(checked, flow, last + 1, :read))}
    else
      {:error, %Error{reason: reason}} when reason in @unreadable -> {:ok, fault(run, flow, 0, :read)}
      {:error, _} = error -> error
    end
  end

  defp last(blocks), do: Enum.reduce(blocks, 0, fn block, _last -> block.first + block.count - 1 end)

  defp gather(run, head, range), do: gather(run, head, range, known(head, range))

  defp gather(run, head, range, known) do
    {first, last} = span(range)
    {run, tail} = tail(run, head, last)
    known = if unfollowed?(head, tail), do: %{alone: first > 1, more: true}, else: known
    flow = Map.merge(%{flow: head.flow, pieces: []}, known)
    stretch(run, flow, head, {first, min(last, head.fixed)}, -1, tail)
  end

  # Of very many blocks only some are held at a time. What two stretches share belongs to the first.
  defp stretch(run, flow, head, {from, to}, height, tail) do
    until = min(to, from + @blocks * max(div(head.fixed, max(head.height, 1)), 1) - 1)

    with {:ok, blocks} <- Store.blocks(run.store, head.flow, {from, until}) do
      blocks = Enum.drop_while(blocks, &(&1.height <= height))
      pieces = Enum.map(blocks, &piece(&1.at))
      height = Enum.reduce(blocks, height, fn block, _height -> block.height end)

      if until == to do
        add(run, flow, pieces ++ tail)
      else
        with {:ok, run, flow} <- sections(run, flow, pieces),
             do: stretch(run, flow, head, {until + 1, to}, height, tail)
      end
    else
      # What came before it is checked already.
      {:error, %Error{reason: reason}} when height >= 0 and reason in @unreadable ->
        {:ok, fault(run, head.flow, from, :read)}

      {:error, _} = error ->
        error
    end
  end

  # Behind a block that is damaged beyond reading no tail can be laid out; the block is the fault, not the tail.
  defp unfollowed?(head, tail), do: tail == [] and not (head.intact and head.whole)

  # A range is checked alone: of what stands before and behind it nothing is said.
  defp known(head, nil), do: %{fixed: head.fixed, last: settled(head), closed: head.closed}
  defp known(head, first..last//_), do: %{alone: first > 1, more: last < settled(head)}

  defp span(nil), do: {1, :infinity}
  defp span({_from, _to} = positions), do: positions
  defp span(first..last//_), do: {first, last}

  # One that is lost is one that cannot be read: a fault where it should stand, and its neighbours are checked all the same.
  defp piece({:binary, bytes} = at), do: {@piece_weight + byte_size(bytes), at}
  defp piece({:file, _path, _offset, length} = at), do: {@piece_weight + div(length, @file_weight), at}
  defp piece({:read, length, _fun} = at), do: {@piece_weight + length, at}
  defp piece(:lost), do: {@piece_weight, {:file, "", 0, 1}}

  defp settled(head), do: head.fixed + Record.settled_count(head.entries)

  defp tail(run, %{fixed: fixed}, last) when last <= fixed, do: {run, []}
  defp tail(run, %{whole: false} = head, _last), do: {fault(run, head.flow, head.fixed + 1, :read), []}
  defp tail(run, %{intact: false, last_block: nil, height: height}, _last) when height > 0, do: {run, []}

  # What cannot even be laid out as a tail is a fault of the flow, not of the run.
  defp tail(run, head, _last) do
    with {:ok, entries} <- entries(head),
         {:ok, tail} <- Chain.tail(head.genesis, head.last_block, entries) do
      {run, for(bytes <- List.wrap(tail), do: piece({:binary, bytes}))}
    else
      {:error, _} when not head.intact -> {run, []}
      {:error, _} -> {fault(run, head.flow, head.fixed + 1, :format), []}
    end
  end

  defp entries(head) do
    {:ok, Record.settled(head.entries)}
  rescue
    error in Error -> {:error, error}
  end

  defp fault(run, flow, position, class) do
    found(run, [%Fault{flow: flow, position: position, class: class}])
  end

  defp found(run, faults) do
    found = %Verdict{fault_count: length(faults), faults: faults}
    %{run | verdict: Verdict.add(run.verdict, found, run.opts[:max_faults])}
  end

  # A flow goes in whole if it fits; a long one is cut.
  defp add(run, flow, pieces) do
    {now, later} = fill(pieces, elem(run.batch, 0) - run.bytes, [])

    cond do
      later == [] -> {:ok, put(run, %{flow | pieces: now}, pieces)} |> flush_if_full()
      run.flows != [] -> with {:ok, run} <- flush(run), do: add(run, flow, pieces)
      true -> with {:ok, run, flow} <- section(run, flow, now), do: add(run, flow, later)
    end
  end

  defp sections(run, flow, []), do: {:ok, run, flow}

  defp sections(run, flow, pieces) do
    {now, later} = fill(pieces, elem(run.batch, 0), [])
    with {:ok, run, flow} <- section(run, flow, now), do: sections(run, flow, later)
  end

  # What another follows: that begins at the edge where this ended.
  defp section(run, flow, pieces) do
    section = flow |> Map.drop([:fixed, :last, :closed]) |> Map.merge(%{pieces: pieces, more: true})

    with {:ok, run} <- finish(run),
         {:ok, run, [edge]} <- outcome(begin(%{run | flows: [section]})),
         do: {:ok, run, flow |> Map.put(:from, edge) |> Map.delete(:alone)}
  end

  # At least one piece is taken, however large.
  defp fill([{size, piece} | rest], room, taken) when taken == [] or size <= room,
    do: fill(rest, room - size, [piece | taken])

  defp fill(rest, _room, taken), do: {Enum.reverse(taken), rest}

  defp put(run, flow, pieces) do
    bytes = Enum.reduce(pieces, 0, fn {size, _}, sum -> sum + size end)
    %{run | flows: [flow | run.flows], count: run.count + 1, bytes: run.bytes + bytes}
  end

  defp flush_if_full({:ok, run}) do
    {bytes, flows} = run.batch
    if run.bytes >= bytes or run.count >= flows, do: flush(run), else: {:ok, run}
  end

  # What comes next is gathered while this is under way.
  defp flush(%{flows: []} = run), do: {:ok, run}

  defp flush(run) do
    flows = Enum.reverse(run.flows)
    with {:ok, run, _edges} <- outcome(%{run | flows: []}), do: {:ok, begin(%{run | flows: flows})}
  end

  defp finish(run) do
    with {:ok, run} <- flush(run), {:ok, run, _edges} <- outcome(run), do: {:ok, run}
  end

  defp begin(run) do
    opts = Keyword.merge(run.opts, pool: run.pool, progress: progress(run), held: run.ledger && run.ledger.held)
    flows = present(run.flows)
    %{run | under_way: Verification.start(flows, opts), flows: [], count: 0, bytes: 0}
  end

  # What is read by a function is read here, as much as one native call is given, some at a time.
  defp present(flows) do
    case for %{pieces: pieces} <- flows, {:read, _length, fun} <- pieces, do: fun do
      [] ->
        flows

      reads ->
        {flows, []} = Enum.map_reduce(flows, read_all(reads), &present/2)
        flows
    end
  end

  defp present(%{pieces: _} = flow, blocks) do
    {pieces, blocks} = Enum.map_reduce(flow.pieces, blocks, &present_piece/2)
    {%{flow | pieces: pieces}, blocks}
  end

  # A sheaf's blocks lie in files.
  defp present(sheaf, blocks), do: {sheaf, blocks}

  defp present_piece({:read, _length, _fun}, [block | blocks]), do: {block, blocks}
  defp present_piece(at, blocks), do: {at, blocks}

  defp read_all(reads) do
    for {:ok, read} <- Task.async_stream(reads, & &1.(), max_concurrency: @reads, timeout: :infinity) do
      case read do
        {:ok, block} -> {:binary, block}
        {:error, %Error{reason: :corrupt}} -> elem(piece(:lost), 1)
        {:error, error} -> raise error
      end
    end
  end

  defp outcome(%{under_way: nil} = run), do: {:ok, run, []}

  defp outcome(run) do
    with {:ok, verdict, edges} <- Verification.await(run.under_way),
         {:ok, strays} <- Ledger.strays(run.ledger) do
      verdict = found(%{run | verdict: Verdict.add(run.verdict, verdict, run.opts[:max_faults])}, strays).verdict

      case run.opts[:progress] && run.opts[:progress].(Map.take(verdict, [:flows, :events, :bytes])) do
        :cancel -> {:error, Error.new(:cancelled)}
        _ -> {:ok, %{run | verdict: verdict, under_way: nil}, edges}
      end
    end
  end

  defp progress(run) do
    with fun when is_function(fun, 1) <- run.opts[:progress] do
      fn {events, bytes} ->
        fun.(%{flows: run.verdict.flows, events: run.verdict.events + events, bytes: run.verdict.bytes + bytes})
      end
    end
  end
end
