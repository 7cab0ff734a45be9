defmodule EventSeal.Reader do
  @moduledoc """
  Reads events, in any stage, from what a store holds: only what was committed, and never through a writer.
  """

  alias EventSeal.{Chain, Error, Event, Record, Store}

  @doc "The event of an euid (16 bytes) or at a position."
  @spec event(Store.t(), String.t(), binary | pos_integer) :: {:ok, Event.t()} | {:error, Error.t()}
  def event(store, flow, euid) when is_binary(euid) do
    reading(fn ->
      with {:ok, head} <- Store.head(store, flow, [euid]) do
        head |> unsealed() |> Enum.find(&(&1.euid == euid)) |> or_sealed(store, head, euid)
      end
    end)
  end

  def event(store, flow, n) when is_integer(n) do
    reading(fn ->
      with {:ok, head} <- Store.head(store, flow) do
        if n > head.fixed,
          do: head |> unsealed() |> Enum.find(&(&1.n == n)) |> found(head),
          else: at(store, head, n)
      end
    end)
  end

  @doc "What is known of a flow as a whole; see `EventSeal.head/2`."
  @spec head(Store.t(), String.t()) :: {:ok, map} | {:error, Error.t()}
  def head(store, flow) do
    reading(fn ->
      with {:ok, %{intact: true, whole: true} = head} <- Store.head(store, flow),
           {:ok, chain} <- Chain.restore(head.genesis, nil, nil, []),
           {:ok, last} <- if(head.last_block, do: Chain.header(head.last_block), else: {:ok, nil}) do
        {:ok, shown(head, chain, last)}
      else
        {:ok, _damaged} -> unread()
        {:error, _} = error -> error
      end
    end)
  end

  @doc "The flow's events, lazily; see `EventSeal.stream/3`."
  @spec stream(Store.t(), String.t(), keyword) :: Enumerable.t()
  def stream(store, flow, opts) do
    # The store is asked when the stream is run, each time anew.
    Stream.flat_map([store], fn store ->
      head = ok!(reading(fn -> Store.head(store, flow) end))
      [sealed(store, head, opts), waiting(head, opts)] |> Stream.concat() |> Stream.filter(&wanted?(&1, opts))
    end)
  end

  @doc "The flows' ids in byte order, lazily; see `EventSeal.flows/2`."
  @spec flows(Store.t(), keyword) :: Enumerable.t()
  def flows(store, opts) do
    Stream.resource(
      fn -> opts[:after] end,
      fn cursor ->
        case ok!(reading(fn -> Store.flows(store, cursor, opts[:page]) end)) do
          [] -> {:halt, cursor}
          flows -> {flows, List.last(flows)}
        end
      end,
      fn _ -> :ok end
    )
  end

  defp or_sealed(%Event{} = event, _store, _head, _euid), do: {:ok, event}

  defp or_sealed(nil, store, head, euid) do
    case head.found do
      %{^euid => heights} when is_list(heights) -> among(store, head, heights, &(&1.euid == euid))
      _ -> found(nil, head)
    end
  end

  defp among(store, head, heights, wanted?) do
    with {:ok, pieces} <- Store.blocks(store, head.flow, {1, head.fixed}) do
      pieces
      |> Enum.filter(&(&1.height in heights))
      |> Enum.find_value(found(nil, head), &in_block(&1, wanted?))
    end
  end

  defp at(store, head, n) do
    with {:ok, pieces} <- Store.blocks(store, head.flow, {n, n}),
         do: Enum.find_value(pieces, found(nil, head), &in_block(&1, fn event -> event.n == n end))
  end

  defp in_block(piece, wanted?) do
    with {:ok, block} <- Store.read(piece),
         {:ok, events} <- Chain.events(block) do
      event = Enum.find(events, wanted?)
      event && {:ok, event}
    end
  end

  defp sealed(store, head, opts) do
    last = min(opts[:to], head.fixed)

    if :fixed in opts[:stages] and opts[:from] <= last do
      pieces = ok!(reading(fn -> Store.blocks(store, head.flow, {opts[:from], last}) end))
      Stream.flat_map(pieces, &events(&1, opts))
    else
      []
    end
  end

  defp events(piece, opts) do
    block = ok!(reading(fn -> Store.read(piece) end))
    header = ok!(Chain.header(block))

    # A block knows its range of times: one that is outside need not be taken apart.
    if before?(header.when_max, opts[:since]) or before?(opts[:until], header.when_min),
      do: [],
      else: ok!(Chain.events(block))
  end

  defp waiting(head, opts) do
    if :sandbox in opts[:stages] or :pool in opts[:stages],
      do: Stream.concat(unsealed(head), Stream.flat_map([head], &rest/1)),
      else: []
  end

  # Behind those that can be read come those that cannot.
  defp rest(%{whole: true}), do: []
  defp rest(_head), do: raise(elem(unread(), 1))

  @doc "The events of a state that no block holds yet, in their order."
  @spec unsealed(Store.Head.t()) :: [Event.t()]
  def unsealed(head), do: Enum.flat_map(head.entries, &unsealed_events(&1, head.flow))

  defp unsealed_events({_seq, :pool, meta, data}, flow) do
    {_deadline, _revision, frame} = Record.decode_pool(meta)
    [%{Record.event(frame, data) | flow: flow, stage: :pool, late: nil}]
  end

  defp unsealed_events(tail, flow) do
    for entry <- Record.settled([tail]) do
      event = %{Record.event(entry.frame, entry.body) | flow: flow, stage: :sandbox, n: entry.n}
      %{event | hash: entry.hash, provisional: entry.provisional}
    end
  end

  defp wanted?(event, opts) do
    event.stage in opts[:stages] and placed?(event.n, opts[:from], opts[:to]) and
      not before?(event.when, opts[:since]) and not before?(opts[:until], event.when)
  end

  # An event of the pool has no position yet: it comes after all that have one.
  defp placed?(nil, _from, to), do: to == :infinity
  defp placed?(n, from, to), do: n >= from and n <= to

  defp before?(nil, _), do: false
  defp before?(_, nil), do: false
  defp before?(time, other), do: time < other

  defp shown(head, chain, last) do
    {pool, tail} = Enum.split_with(head.entries, fn {_seq, stage, _meta, _data} -> stage == :pool end)
    settled = head.fixed + Record.settled_count(tail)

    %{
      flow: head.flow,
      suite: chain.suite,
      created_at: chain.created_at,
      genesis: chain.digest,
      accepted: settled + length(pool),
      pool: length(pool),
      settled: settled,
      fixed: head.fixed,
      blocks: head.height,
      block_hash: last && last.hash,
      provisional: provisional(List.last(tail)),
      closed: head.closed
    }
  end

  defp provisional(nil), do: nil
  defp provisional(tail), do: List.last(Record.settled([tail])).provisional

  # What cannot be read may be what was asked for.
  defp found(nil, %{whole: false}), do: unread()
  defp found(nil, _head), do: {:error, Error.new(:not_found)}
  defp found(event, _head), do: {:ok, event}

  defp unread, do: {:error, Error.new(:corrupt, detail: "some of the flow's events cannot be read")}

  @doc "Runs `fun`; a store that is stopping or restarting is an error, not the caller's end."
  @spec reading((() -> result)) :: result | {:error, Error.t()} when result: term
  def reading(fun) do
    fun.()
  rescue
    error in Error -> {:error, error}
  catch
    :exit, _ -> {:error, Error.new(:storage, detail: "the store is not running")}
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
