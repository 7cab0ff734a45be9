defmodule EventSeal.Verifier.Apart do
  @moduledoc false
  # The events' store held against a verification store (`EventSeal.Apart`): block by block the same header, seams, event
  # hashes and ids; and the same log (`Logs`). Of the events' store's blocks no more is read than these; whether that follows
  # from frames and bodies the verification of the store itself says.
  #
  # The verification store is read first, always: then whatever it has must be in the events' store. What that has beyond is
  # late, as long as the verification store's log does not speak of it.

  alias EventSeal.{Error, Fault, Kept, Store, Verdict}
  alias EventSeal.Store.Piece
  alias EventSeal.Verifier.Apart.{Logs, Pace}

  @page 1_000
  # Of so many positions a flow's blocks are looked up at a time.
  @positions 65_536
  @whole "verification store"

  @enforce_keys [:store, :apart, :logs, :pace, :max_faults]
  defstruct [:store, :apart, :logs, :pace, :max_faults, late: {-1, MapSet.new()}, verdict: %Verdict{kept: 0}]

  @type t :: %__MODULE__{}

  @doc """
  Begins; what the stores' logs are is read before any flow. `opts` are the verifier's: `:apart`, `:max_faults`, `:max_rate`,
  `:progress`.
  """
  @spec open(Store.t(), keyword, EventSeal.Checkpoint.t() | nil) :: t
  def open(store, opts, outside) do
    apart = opts[:apart]
    logs = Logs.open(store, apart, outside)
    %__MODULE__{store: store, apart: apart, logs: logs, pace: Pace.new(opts), max_faults: opts[:max_faults]}
  end

  @doc "Compares one flow's blocks that hold the positions `from` to `to`."
  @spec flow(t, Store.flow(), {pos_integer, pos_integer | :infinity}) :: t
  def flow(state, flow, positions), do: stretch(state, flow, positions, {-1, nil})

  # `done` is the last block that was looked at: its height, and where its part lies, or is, if both agree on it.
  defp stretch(state, _flow, {from, to}, _done) when from > to, do: state

  defp stretch(state, flow, {from, to}, done) do
    until = min(to, from + @positions - 1)
    kept = pieces(state.apart, flow, {from, until})
    events = pieces(state.store, flow, {from, until})

    if kept == %{} and events == %{} do
      state
    else
      {state, done} = heights(state, flow, events, kept, done)
      stretch(state, flow, {until + 1, to}, done)
    end
  end

  # Of a block that lies in two stretches the first is enough.
  defp heights(state, flow, events, kept, {done, _before} = last) do
    heights = Map.keys(Map.merge(events, kept)) |> Enum.sort() |> Enum.drop_while(&(&1 <= done))
    same = same(heights, events, kept)

    Enum.reduce(heights, {state, last}, fn height, {state, {_height, before}} ->
      {state, agreed} =
        if MapSet.member?(same, height),
          do: {compared(state, kept[height]), kept[height]},
          else: pair(state, flow, height, events[height], kept[height], part_of(before))

      {state, {height, agreed}}
    end)
  end

  defp same(heights, events, kept) do
    both = for height <- heights, there?(events[height]), there?(kept[height]), do: height
    same = Kept.same?(for height <- both, do: {events[height].at, kept[height].at})
    for {height, true} <- Enum.zip(both, same), into: MapSet.new(), do: height
  end

  # What is read by a function is compared one by one, so that it does not all lie in memory.
  defp there?(piece), do: piece != nil and (match?({:binary, _}, piece.at) or match?({:file, _, _, _}, piece.at))

  defp part_of(%Piece{} = piece), do: with({:ok, part} <- read(piece), do: part, else: (_ -> nil))
  defp part_of(part), do: part

  defp pieces(store, flow, positions) do
    case Store.blocks(store, flow, positions) do
      {:ok, pieces} -> Map.new(pieces, &{&1.height, &1})
      {:error, %Error{reason: reason}} when reason in [:not_found, :corrupt] -> %{}
      {:error, error} -> raise error
    end
  end

  defp pair(state, flow, height, events, nil, before), do: late(state, flow, height, events, before)
  defp pair(state, flow, height, nil, kept, before), do: gone(state, flow, height, kept, before)

  defp pair(state, flow, height, events, kept, before) do
    state = compared(state, kept)

    case {part(events), read(kept)} do
      {{:ok, part}, {:ok, same}} when part == same -> {state, part}
      {{:ok, part}, {:ok, bytes}} -> differ(state, flow, height, Kept.compare(part, bytes, height, before), part, bytes)
      {{:ok, part}, :error} -> {fault(state, flow, events.first, height, :read, hash(part), nil, :verification), part}
      {{:error, class}, :error} -> {fault(state, flow, events.first, height, class, nil, nil, :both), nil}
      {{:error, class}, {:ok, bytes}} -> unreadable(state, flow, height, {class, bytes}, before)
    end
  end

  defp unreadable(state, flow, height, {class, bytes}, before) do
    holds? = Kept.flaw(bytes, height, before) == {:ok, nil}
    side = if holds?, do: :events, else: :both
    first = with {:ok, %{first: first}} <- Kept.read(bytes), do: first, else: (_ -> 0)
    {fault(state, flow, first, height, class, nil, hash(bytes), side), if(holds?, do: bytes)}
  end

  defp differ(state, flow, height, {{class, position, recorded, kept}, side}, part, bytes) do
    {logs, side} = if side == :either, do: Logs.between(state.logs, hash(part), hash(bytes)), else: {state.logs, side}
    state = fault(%{state | logs: logs}, flow, position, height, class, recorded, kept, side)
    {state, %{events: bytes, verification: part}[side]}
  end

  # As they are found: damage and forgery are named alike.
  defp part(piece) do
    case with({:ok, place} <- Piece.place(piece), do: Kept.cut(place)) do
      {:ok, part} -> {:ok, part}
      {:error, %Error{reason: :malformed}} -> {:error, :format}
      {:error, error} -> with(:error <- unread(piece, error), do: {:error, :read})
    end
  end

  defp read(piece) do
    with {:error, _damaged} <- Store.read(piece), {:error, error} <- Piece.found(piece), do: unread(piece, error)
  end

  # Of a server that does not answer nothing is lost.
  defp unread(%{at: {:read, _length, _fun}}, %Error{reason: :storage} = error), do: raise(error)
  defp unread(_piece, _error), do: :error

  defp hash(<<_::binary-32, hash::binary-32, _::binary>>), do: hash
  defp hash(_short), do: nil

  # Looked for again behind the size of the log: the verification store has a block before it has its leaf.
  defp late(state, flow, height, events, before) do
    %{leaves: size} = ok!(Store.log(state.apart, :size))

    case {pieces(state.apart, flow, {events.first, events.first}), part(events)} do
      {%{^height => kept}, _part} -> pair(state, flow, height, events, kept, before)
      # Named by the verification of the events' store; here it is not known what it would have been.
      {_none, {:error, _class}} -> {state, nil}
      {_none, {:ok, part}} -> late_or_missing(state, {flow, events.first, height}, {part, before}, size)
    end
  end

  defp late_or_missing(state, {flow, first, height}, {part, before}, size) do
    {late?, late} = Logs.late?(state.logs, hash(part), size, state.late)
    state = compared(%{state | late: late}, %{count: 0})

    if late?,
      do: {update_in(state.verdict.behind, &(&1 + 1)), part},
      else: {fault(state, flow, first, height, :missing, hash(part), nil, lacking(part, height, before)), part}
  end

  # One that does not follow from what was kept was not taken.
  defp lacking(_part, height, nil) when height > 0, do: :either

  defp lacking(part, height, before),
    do: if(Kept.flaw(part, height, before) == {:ok, nil}, do: :verification, else: :events)

  defp gone(state, flow, height, kept, before) do
    state = compared(state, kept)

    with {:ok, bytes} <- read(kept), {:ok, flaw} <- Kept.flaw(bytes, height, before) do
      {logs, side} = if flaw, do: {state.logs, :verification}, else: Logs.between(state.logs, nil, hash(bytes))
      {fault(%{state | logs: logs}, flow, kept.first, height, :missing, nil, hash(bytes), side), bytes}
    else
      _unreadable -> {fault(state, flow, kept.first, height, :missing, nil, nil, :verification), nil}
    end
  end

  @doc "Compares all flows behind `cursor`, through `last` (nil: to the end)."
  @spec flows(t, Store.flow() | nil, Store.flow() | nil) :: t
  def flows(state, cursor, last) do
    # A flow is not in one page of both: it is compared when the first of them shows it.
    kept = page(state.apart, cursor)
    events = page(state.store, cursor)
    through = Enum.min(through(kept) ++ through(events) ++ List.wrap(last), fn -> nil end)
    flows = Enum.uniq(Enum.sort(kept ++ events)) |> Enum.filter(&(through == nil or &1 <= through))
    state = Enum.reduce(flows, state, &flow(&2, &1, {1, :infinity}))
    if through == nil or through == last, do: state, else: flows(state, through, last)
  end

  defp page(store, cursor), do: ok!(Store.flows(store, cursor, @page))

  # Beyond a full page there may be more.
  defp through(flows), do: if(length(flows) == @page, do: [List.last(flows)], else: [])

  @doc "Compares the logs; and names damage that the verification store found in its own files."
  @spec log(t) :: t
  def log(state) do
    state = if Store.recover(state.apart, []).damage == [], do: state, else: add(state, of_store())
    rows = for fault <- ok!(Store.survey(state.apart, nil, state.max_faults)), do: %{fault | side: :verification}
    state = Enum.reduce(rows, state, &add(&2, &1))
    {logs, faults, behind} = Logs.compare(state.logs)
    state = put_in(state.verdict.behind, state.verdict.behind + behind)
    Enum.reduce(faults, %{state | logs: logs}, &add(&2, &1))
  end

  @doc """
  What was found, of a part of the store or of all. A verification store that cannot be asked is a fault of its own, and no end
  of the verification.
  """
  @spec run(t, (t -> t)) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def run(state, compare) do
    {:ok, compare.(state).verdict}
  rescue
    error in Error -> broken(state, error)
  catch
    :cancelled -> {:error, Error.new(:cancelled)}
    :exit, _ -> broken(state, Error.new(:storage, detail: "the store is not running"))
  end

  defp broken(state, error),
    do: if(answers?(state.apart), do: {:error, error}, else: {:ok, add(state, of_store()).verdict})

  defp answers?(store) do
    match?({:ok, _size}, Store.log(store, :size))
  catch
    :exit, _ -> false
  end

  defp of_store, do: %Fault{flow: @whole, position: 0, class: :read, side: :verification}

  defp compared(state, piece) do
    state = update_in(state.verdict.kept, &(&1 + 1))
    %{state | pace: Pace.wait(state.pace, piece.count)}
  end

  defp fault(state, flow, position, block, class, recorded, kept, side) do
    fault = %Fault{flow: flow, position: position, block: block, class: class, recorded: recorded, recomputed: kept}
    add(state, %{fault | side: side})
  end

  defp add(state, fault) do
    %{state | verdict: Verdict.add(state.verdict, %Verdict{fault_count: 1, faults: [fault]}, state.max_faults)}
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
