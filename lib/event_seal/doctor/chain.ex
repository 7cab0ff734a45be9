defmodule EventSeal.Doctor.Chain do
  @moduledoc false
  # What of one flow holds together: the blocks from the first on that follow from each other, and the events behind them
  # that are not sealed. A flow can go on behind a block only if the three events behind it are there: where they are lost,
  # the block is opened again, and its events wait to be sealed anew.

  alias EventSeal.{Chain, Error, Kept, Record, Store, Verification}
  alias EventSeal.Chain.Container
  alias EventSeal.Doctor.Flip
  alias EventSeal.Segments.Files
  alias EventSeal.Store.Piece

  @local [:commitment, :event_hash, :format, :late, :body_missing]

  defstruct [
    :flow,
    :genesis,
    kept: [],
    entries: [],
    pool: [],
    loose: [],
    apart: [],
    faults: [],
    known: 0,
    mended: 0,
    by_kept: 0,
    closed: false
  ]

  @type t :: %__MODULE__{
          flow: String.t(),
          genesis: binary | nil,
          kept: [{Piece.t(), integer}],
          entries: [Chain.Entry.t()],
          pool: [{binary, binary}],
          loose: [{binary, binary}],
          apart: [{:block, Piece.t()} | {:entry, Chain.Entry.t()}],
          faults: [EventSeal.Fault.t()],
          known: non_neg_integer,
          mended: non_neg_integer,
          by_kept: non_neg_integer,
          closed: boolean
        }

  @doc """
  Examines a flow as a store shows it. `remains` are blocks that the store does not show, `apart` its verification store, or nil.

  `kept` are the blocks that follow from each other, last first, each with the greatest `when` up to it; `entries` and
  `pool` what follows them; `loose` the pool of a flow whose beginning is lost; `apart` what is intact but does not follow;
  `known` the last position that the flow is known to have had; `mended` how many of the kept blocks had one byte changed,
  `by_kept` how many hold with what the verification store has of them.
  """
  @spec examine(Store.t(), String.t(), [Piece.t()], reference, Store.t() | nil) :: t
  def examine(store, flow, remains, pool, apart) do
    head = head(store, flow)
    pieces = pieces(store, flow, remains)
    examined = %__MODULE__{flow: flow, genesis: genesis(head, pieces) || genesis_apart(apart, flow)}
    {pooled, settled} = entries(head)
    examined = pieces |> Enum.reduce({examined, nil}, &block(&1, &2, {pool, apart})) |> elem(0)

    known =
      Enum.max([0, head.fixed | Enum.map(settled, & &1.n) ++ Enum.map(present(pieces), &(&1.first + &1.count - 1))])

    {pooled, loose} = if examined.genesis, do: {pooled, []}, else: {[], pooled}
    follow(%{examined | pool: pooled, loose: loose, known: known}, settled)
  end

  defp head(store, flow) do
    case Store.head(store, flow) do
      {:ok, head} -> head
      {:error, %Error{}} -> %Store.Head{flow: flow, genesis: ""}
    end
  end

  # Each height once, what the store shows first.
  defp pieces(store, flow, remains) do
    shown = with {:error, _reason} <- Store.blocks(store, flow, {1, :infinity}), do: {:ok, []}
    (present(elem(shown, 1)) ++ remains) |> Enum.uniq_by(& &1.height) |> Enum.sort_by(& &1.height)
  end

  defp present(pieces), do: Enum.reject(pieces, &(&1.at == :lost))

  defp genesis(%{genesis: genesis}, _pieces) when genesis != "", do: genesis

  defp genesis(_head, pieces) do
    Enum.find_value(pieces, fn piece ->
      with {:ok, bytes} <- bytes(piece), {:ok, header} <- Chain.header(bytes), do: header.genesis, else: (_ -> nil)
    end)
  end

  defp genesis_apart(apart, flow) do
    with {:ok, part} <- part(apart, flow, 0),
         {:ok, %{genesis: genesis}} <- Kept.read(part),
         do: genesis,
         else: (_ -> nil)
  end

  defp part(nil, _flow, _height), do: :error

  defp part(apart, flow, height) do
    with {:ok, pieces} <- Store.blocks(apart, flow, {1, :infinity}),
         %Piece{} = piece <- Enum.find(pieces, &(&1.height == height)),
         do: Store.read(piece)
  end

  defp entries(head) do
    {pooled, settled} = Enum.split_with(head.entries, fn {_seq, stage, _meta, _data} -> stage == :pool end)
    {for({_seq, :pool, meta, data} <- pooled, do: {meta, data}), Record.settled(settled)}
  end

  @doc "A block's bytes: as they were written, if no more than one of them was changed since, else as they stand."
  @spec bytes(Piece.t()) :: {:ok, binary} | :error
  def bytes(piece), do: with({:ok, bytes, _state} <- read(piece), do: {:ok, bytes})

  # What was mended from the verification store lies in memory.
  defp read(%Piece{at: {:binary, bytes}}), do: {:ok, bytes, :by_kept}

  defp read(%Piece{at: {:file, path, offset, length}}) do
    with {:ok, fd} <- Files.open(path, :read) do
      read = Files.pread(fd, offset - 4, length + 4)
      Files.close(fd)
      with({:ok, <<sum::32, bytes::binary-size(length)>>} <- read, do: checked(bytes, sum), else: (_short -> :error))
    else
      {:error, _reason} -> :error
    end
  end

  defp checked(bytes, sum) do
    with false <- :erlang.crc32(bytes) == sum,
         {:ok, mended} <- Flip.mend(bytes, sum),
         {:ok, _header} <- Chain.header(mended),
         {:ok, %{fault_count: 0}, _edge} <- alone(mended) do
      {:ok, mended, :mended}
    else
      true -> {:ok, bytes, :intact}
      _beyond -> {:ok, bytes, :damaged}
    end
  end

  defp alone(bytes) do
    {:ok, header} = Chain.header(bytes)
    Verification.run([%{flow: header.flow, pieces: [bytes], alone: true, more: true}], bodies: true, threads: 1)
  end

  @doc "Whether the chain holds beside these faults, and goes on proving the other events: they are of single ones."
  @spec holds?([EventSeal.Fault.t()]) :: boolean
  def holds?(faults), do: Enum.all?(faults, &(&1.class in @local))

  # Once one does not follow, none behind it does.
  defp block(piece, {%{apart: [_ | _]} = examined, edge}, _by), do: {apart(examined, piece), edge}

  defp block(piece, {examined, edge}, {pool, apart}) do
    case best(follows(examined, piece, edge, pool), fn ->
           follows(examined, by_kept(examined, piece, apart), edge, pool)
         end) do
      nil -> {apart(examined, piece), edge}
      found -> keep(examined, found)
    end
  end

  # As it lies there if nothing is wrong with it, else what has fewer faults.
  defp best({_piece, _state, _header, [], _next} = found, _other), do: found

  defp best(found, other) do
    Enum.min_by(Enum.reject([other.(), found], &is_nil/1), &length(elem(&1, 3)), fn -> nil end)
  end

  defp follows(_examined, nil, _edge, _pool), do: nil

  defp follows(examined, piece, edge, pool) do
    with {:ok, bytes, state} <- read(piece),
         {:ok, header} <- Chain.header(bytes),
         {:ok, verdict, [next]} <- verify(examined.flow, bytes, edge, pool: pool),
         true <- holds?(verdict.faults),
         do: {piece, state, header, verdict.faults, next},
         else: (_does_not_follow -> nil)
  end

  # The block as it lies there, with the digests that the verification store has of it.
  defp by_kept(examined, piece, apart) do
    with {:ok, part} <- part(apart, examined.flow, piece.height),
         {:ok, bytes} <- Piece.found(piece),
         {:ok, mended} <- Kept.mend(part, bytes),
         do: %{piece | at: {:binary, mended}},
         else: (_no_help -> nil)
  end

  defp keep(examined, {piece, state, header, faults, next}) do
    when_max = Enum.max([header.when_max | for({_piece, when_max} <- Enum.take(examined.kept, 1), do: when_max)])
    kept = [{%{piece | first: header.first, count: header.count}, when_max} | examined.kept]
    examined = %{examined | kept: kept, faults: examined.faults ++ faults, closed: header.closes}
    {count(examined, state), next}
  end

  defp count(examined, :mended), do: %{examined | mended: examined.mended + 1}
  defp count(examined, :by_kept), do: %{examined | by_kept: examined.by_kept + 1}
  defp count(examined, _state), do: examined

  defp apart(examined, piece), do: %{examined | apart: [{:block, piece} | examined.apart]}

  defp verify(flow, bytes, edge, opts) do
    Verification.run([%{flow: flow, pieces: [bytes], from: edge, more: true}], [bodies: true] ++ opts)
  end

  # What settled behind the last block, as far as no position is missing.
  defp follow(examined, settled) do
    {following, others} = split(settled, fixed(examined) + 1, [])

    case restored(examined, following) do
      :ok -> %{examined | entries: following, apart: Enum.reverse(examined.apart) ++ apart_entries(others)}
      :error -> reopened(examined, settled)
    end
  end

  defp apart_entries(entries), do: for(entry <- entries, do: {:entry, entry})

  defp split([%{n: n} = entry | rest], n, following), do: split(rest, n + 1, [entry | following])
  defp split(others, _n, following), do: {Enum.reverse(following), others}

  defp fixed(%{kept: []}), do: 0
  defp fixed(%{kept: [{piece, _} | _]}), do: piece.first + piece.count - 1

  defp restored(%{genesis: nil}, entries), do: if(entries == [], do: :ok, else: :error)

  defp restored(examined, entries) do
    if sound?(examined), do: behind(examined, entries), else: :error
  end

  # What comes next is linked to the hashes and times of a flow's last events: they must be beyond doubt.
  defp sound?(%{kept: []}), do: true
  defp sound?(%{closed: true}), do: true

  defp sound?(%{kept: [{piece, _} | _], faults: faults}),
    do: not Enum.any?(faults, &(&1.position >= piece.first and &1.class in [:event_hash, :format, :late]))

  defp behind(examined, entries) do
    {block, when_max} = last(examined)
    with {:error, _error} <- Chain.restore(examined.genesis, block, when_max, entries), do: :error, else: (_ -> :ok)
  end

  defp last(%{kept: []}), do: {nil, nil}

  defp last(%{kept: [{piece, when_max} | _]}) do
    {:ok, bytes} = bytes(piece)
    {bytes, when_max}
  end

  # The last block's events wait again, and the block is kept apart. Where there is none, nothing that settled follows.
  defp reopened(%{kept: []} = examined, settled),
    do: %{examined | apart: Enum.reverse(examined.apart) ++ apart_entries(settled)}

  defp reopened(%{kept: [{piece, _when_max} | kept]} = examined, settled) do
    {:ok, block} = bytes(piece)
    examined = %{examined | kept: kept, closed: false, apart: examined.apart ++ [{:block, piece}]}

    with {:ok, entries} <- unsealed(block), :ok <- restored(examined, entries) do
      %{examined | entries: entries, apart: Enum.reverse(examined.apart) ++ apart_entries(settled)}
    else
      _damaged -> reopened(examined, settled)
    end
  end

  # The provisional ids of sealed events are kept nowhere, but follow from what the block records.
  defp unsealed(block) do
    with {:ok, header} <- Chain.header(block),
         {:ok, ids} <- Chain.Provisional.of(block),
         events = Container.events(block),
         true <- Enum.all?(events, fn {_frame, _hash, body} -> body != nil end) do
      {:ok, [events, ids, header.first..(header.first + header.count - 1)] |> Enum.zip_with(&entry/1)}
    end
  end

  defp entry([{frame, hash, body}, provisional, n]) do
    %Chain.Entry{n: n, euid: Record.euid(frame), frame: frame, hash: hash, provisional: provisional, body: body}
  end
end
