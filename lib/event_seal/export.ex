defmodule EventSeal.Export do
  @moduledoc """
  Writes a store's flows as interchange files (FORMAT.md, "Interchange"), one flow a file, for `EventSeal.Interchange` or
  any other verifier to check.

  Settled and fixed events go out; the pool is no part of the chain and stays. The stored bytes are read block by block,
  so memory stays bounded by a block; the host may go on writing meanwhile.
  """

  alias EventSeal.{Archive, Chain, Error, Interchange, Record, Store}
  alias EventSeal.Export.{FileName, LogFile}

  defstruct flows: 0, events: 0, in_pool: 0, bytes: 0, microseconds: 0

  @type t :: %__MODULE__{
          flows: non_neg_integer,
          events: non_neg_integer,
          in_pool: non_neg_integer,
          bytes: non_neg_integer,
          microseconds: non_neg_integer
        }

  @page 1_000

  @doc """
  Exports every flow of the store into the folder `out`, which is made if it is not there. A file of an earlier export of
  the same flow is replaced, whole, when the new one is.

  Options: `:format` (`:interchange` unless given; `:archive` writes `EventSeal.Archive`s, and beside them the store's log as
  `log.leaves`: FORMAT.md, "Log file"; of a flow of which nothing is settled there is no archive), `:progress` (a function of `%{flows: count, events: count}`). What is reported: `flows`, `events`, `in_pool`
  (events left out since they are still in the pool), `bytes` written, `microseconds`.
  """
  @spec run(Store.t(), Path.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def run(store, out, opts \\ []) do
    started = System.monotonic_time(:microsecond)
    progress = Keyword.get(opts, :progress, fn _ -> :ok end)

    with :ok <- Error.posix(File.mkdir_p(out), out),
         {:ok, writer} <- writer(Keyword.get(opts, :format, :interchange), store, out),
         {:ok, report} <- pages(store, {out, writer}, nil, %__MODULE__{}, progress) do
      {:ok, %{report | microseconds: System.monotonic_time(:microsecond) - started}}
    end
  end

  defp writer(:interchange, _store, _out), do: {:ok, {".jsonl", &lines/3}}

  # The log first: what it knows is in the blocks that are read after it.
  defp writer(:archive, store, out) do
    with {:ok, log} <- Archive.log(store),
         {:ok, _bytes} <- LogFile.write(store, &write(Path.join(out, "log.leaves"), &1)),
         do: {:ok, {".archive", &Archive.write(&1, store, &2, &3, log)}}
  end

  defp pages(store, out, cursor, report, progress) do
    case Store.flows(store, cursor, @page) do
      {:ok, []} ->
        {:ok, report}

      {:ok, flows} ->
        with {:ok, report} <- Error.reduce(flows, report, &flow(store, out, &1, &2, progress)),
             do: pages(store, out, List.last(flows), report, progress)

      {:error, _} = error ->
        error
    end
  end

  defp flow(store, {out, {suffix, write}}, flow, report, progress) do
    with {:ok, head} <- Store.head(store, flow),
         {settled, in_pool} = Enum.split_with(head.entries, &match?({_, :tail, _, _}, &1)),
         {:ok, blocks} <- Store.blocks(store, flow, {1, head.fixed}),
         path = Path.join(out, FileName.of(flow, suffix)),
         {:ok, bytes} <-
           if(suffix == ".archive" and blocks == [] and settled == [],
             do: {:ok, 0},
             else: write(path, &write.(&1, head, blocks))
           ) do
      report = %{
        report
        | flows: report.flows + 1,
          events: report.events + head.fixed + Record.settled_count(settled),
          in_pool: report.in_pool + length(in_pool),
          bytes: report.bytes + bytes
      }

      progress.(Map.take(report, [:flows, :events]))
      {:ok, report}
    end
  end

  defp lines(put, head, blocks) do
    with {:ok, line} <- Interchange.header(head.genesis, head.closed),
         {:ok, bytes} <- put.(line, 0),
         {:ok, bytes} <- Error.reduce(blocks, bytes, &block(put, &1, &2)),
         true <- head.whole || {:error, Error.new(:corrupt, detail: "events of a flow cannot be read")},
         {:ok, tail} <- Chain.tail(head.genesis, head.last_block, Record.settled(head.entries)) do
      if tail, do: container(put, tail, bytes), else: {:ok, bytes}
    end
  end

  defp block(put, piece, bytes), do: with({:ok, block} <- Store.read(piece), do: container(put, block, bytes))
  defp container(put, container, bytes), do: with({:ok, lines} <- Interchange.lines(container), do: put.(lines, bytes))

  # Under its own name a file is whole, or not there.
  defp write(path, fun) do
    part = path |> Path.dirname() |> Path.join(".part")

    with {:ok, file} <- Error.posix(:file.open(part, [:raw, :binary, :write]), part) do
      written =
        fun.(fn text, bytes ->
          with :ok <- Error.posix(:file.write(file, text), part), do: {:ok, bytes + IO.iodata_length(text)}
        end)

      closed = Error.posix(:file.close(file), part)
      with {:ok, bytes} <- written, :ok <- closed, :ok <- Error.posix(File.rename(part, path), path), do: {:ok, bytes}
    end
  end
end
