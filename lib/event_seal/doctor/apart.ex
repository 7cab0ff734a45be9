defmodule EventSeal.Doctor.Apart do
  @moduledoc false
  # What is intact but follows from nothing that was saved, as files for `event_seal.verify --file`: blocks in runs, packed as
  # they were sealed, with the tail behind them; events that stand alone as lines of the interchange form. What is damaged
  # itself goes into files that nothing reads but a human. Names are made of digests; a flow's id is never part of one.

  alias EventSeal.{Chain, Interchange, Record, Verdict, Verification}
  alias EventSeal.Doctor

  @doc "Sorts what is apart into `{runs of blocks with their bytes, damaged bytes, entries}`; `runs` are `[{first block's height, [binary]}]`."
  @spec sort(Doctor.Chain.t(), reference) :: %{runs: [[tuple]], damaged: [binary], entries: [Chain.Entry.t()]}
  def sort(examined, pool) do
    blocks = for {:block, piece} <- examined.apart, {:ok, bytes} <- [Doctor.Chain.bytes(piece)], do: {piece, bytes}
    {intact, damaged} = Enum.split_with(blocks, fn {_piece, bytes} -> intact?(examined.flow, bytes, pool) end)
    entries = for {:entry, entry} <- examined.apart, do: entry

    runs =
      intact
      |> Enum.sort_by(fn {piece, _} -> piece.height end)
      |> Enum.chunk_while([], &run/2, &{:cont, Enum.reverse(&1), []})

    with_tail(
      %{runs: Enum.reject(runs, &(&1 == [])), damaged: Enum.map(damaged, &elem(&1, 1)), entries: entries},
      examined
    )
  end

  defp intact?(flow, bytes, pool) do
    asked = [%{flow: flow, pieces: [bytes], alone: true, more: true}]

    with {:ok, _header} <- Chain.header(bytes),
         {:ok, %Verdict{faults: faults}, _edges} <- Verification.run(asked, bodies: true, pool: pool) do
      Doctor.Chain.holds?(faults)
    else
      {:error, _malformed} -> false
    end
  end

  defp run({piece, _} = block, [{last, _} | _] = run) when piece.height != last.height + 1,
    do: {:cont, Enum.reverse(run), [block]}

  defp run(block, run), do: {:cont, [block | run]}

  # Behind the flow's last block the events that are not sealed make a tail.
  defp with_tail(%{runs: [_ | _] = runs, entries: [entry | _] = entries} = sorted, examined) do
    {piece, block} = runs |> List.last() |> List.last()

    with true <- piece.first + piece.count == entry.n,
         {:ok, _chain} <- Chain.restore(examined.genesis, block, nil, entries),
         {:ok, tail} <- Chain.tail(examined.genesis, block, entries) do
      tail_piece = %{piece | height: piece.height + 1, first: entry.n, count: length(entries)}
      %{sorted | runs: List.update_at(runs, -1, &(&1 ++ [{tail_piece, tail}])), entries: []}
    else
      _does_not_follow -> sorted
    end
  end

  defp with_tail(sorted, _examined), do: sorted

  @doc "The positions in it, ascending."
  @spec positions(map) :: [pos_integer]
  def positions(sorted) do
    blocks = for run <- sorted.runs, {piece, _bytes} <- run, n <- piece.first..(piece.first + piece.count - 1), do: n
    Enum.sort(blocks ++ Enum.map(sorted.entries, & &1.n))
  end

  @doc "Writes the files of a flow; `name` is what they begin with."
  @spec write(Path.t(), String.t(), Doctor.Chain.t(), map) :: :ok
  def write(dir, name, examined, sorted) do
    for [{piece, _} | _] = run <- sorted.runs,
        do: put(dir, "#{name}-#{piece.height}.blocks", Enum.map(run, &elem(&1, 1)))

    for {bytes, index} <- Enum.with_index(sorted.damaged), do: put(dir, "#{name}-#{index}.damaged", bytes)
    if sorted.entries != [], do: put(dir, "#{name}.jsonl", lines(examined, sorted.entries))
    if examined.loose != [], do: put(dir, "#{name}-pool.jsonl", pool(examined))
    :ok
  end

  # The library writes lines of containers alone, whose positions follow from what stands before: each event is laid out as
  # if it were the first, and its line given the position that it had.
  defp lines(examined, entries) do
    genesis = examined.genesis || unknown(examined.flow)
    {:ok, header} = Interchange.header(genesis, false)
    [header | for(entry <- entries, do: line(genesis, entry))]
  end

  defp line(genesis, entry) do
    {:ok, tail} = Chain.tail(genesis, nil, [entry])
    {:ok, ~s({"n":1,) <> rest} = Interchange.lines(tail)
    [~s({"n":#{entry.n},), rest]
  end

  # Events that have no position yet need not keep one: as they would settle in a flow of their own.
  defp pool(examined) do
    {:ok, chain} = Chain.restore(unknown(examined.flow), nil, nil, [])
    frames = for {meta, data} <- examined.loose, do: {elem(Record.decode_pool(meta), 2), data}
    {:ok, _chain, entries} = Chain.settle(chain, frames)
    {:ok, tail} = Chain.tail(chain.genesis, nil, entries)
    {:ok, header} = Interchange.header(chain.genesis, false)
    {:ok, lines} = Interchange.lines(tail)
    [header, lines]
  end

  # A flow whose beginning is lost: its events' own values hold all the same.
  defp unknown(flow) do
    {:ok, chain} = Chain.open(flow, created_at: 0, nonce: <<0::128>>)
    chain.genesis
  end

  @doc "A new file, its owner's alone."
  @spec put(Path.t(), String.t(), iodata) :: :ok
  def put(dir, name, bytes) do
    path = Path.join(dir, name)
    File.mkdir_p!(dir)
    File.chmod!(dir, 0o700)
    File.touch!(path)
    File.chmod!(path, 0o600)
    File.write!(path, bytes)
  end
end
