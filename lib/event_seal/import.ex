defmodule EventSeal.Import do
  @moduledoc """
  Imports events from JSON Lines files of the import form (FORMAT.md, "Import"), one event a line.

  Every file is read through and checked before anything is kept, so a bad line in one of them leaves the store as it
  was. An event that brings no euid gets one derived from the file's SHA-256 and the line's number: importing the same
  file again adds nothing, and an interrupted import goes on where it stopped when it is run again. Order is kept: an
  event's position follows its line. At the end each flow of the files is settled and sealed, and left open.

  Memory stays bounded by a batch of lines and the flows' ids.

  What `run/3` reports:

    * `files` - how many were read
    * `lines` - events in them, the bad ones left out
    * `added` - how many of these the store did not have yet
    * `flows` - how many flows they belong to
    * `bad` - the bad lines, `%{file: path, line: number, field: field or nil, rule: rule}`, at most 1,000 of them;
      `bad_count` is not capped
    * `kept` - `false` if bad lines kept everything out
    * `microseconds` - how long it took
  """

  alias EventSeal.{Error, Native}
  alias EventSeal.Import.Lines

  defstruct files: 0, lines: 0, added: 0, flows: 0, bad: [], bad_count: 0, kept: true, microseconds: 0

  @type bad_line :: %{file: Path.t(), line: pos_integer, field: atom | nil, rule: String.t()}
  @type t :: %__MODULE__{
          files: non_neg_integer,
          lines: non_neg_integer,
          added: non_neg_integer,
          flows: non_neg_integer,
          bad: [bad_line],
          bad_count: non_neg_integer,
          kept: boolean,
          microseconds: non_neg_integer
        }

  @max_bad 1_000
  @max_body 67_108_864
  # Large, since a commit's cost is shared by its events; well below what a writer's queue takes unless it is set lower.
  @batch 4_000
  @sealers 64
  @patience 6_000

  @doc """
  Imports `paths`, in their order, into the running `EventSeal` of that name.

  Options: `:skip_bad` (`true` leaves bad lines out and keeps the others; `false` unless given), `:max_body` (bytes, as
  the store's; 67,108,864), `:progress` (a function of `%{step: :check | :import | :seal, events: count}`).

  A file that cannot be read, or an event that the store refuses (its flow is closed, say, or its own euid stands there
  with other fields), is an error; what was imported before it stays.
  """
  @spec run(GenServer.name(), [Path.t()], keyword) :: {:ok, t} | {:error, Error.t()}
  def run(name, paths, opts \\ []) do
    started = System.monotonic_time(:microsecond)
    opts = Keyword.merge([skip_bad: false, max_body: @max_body, progress: fn _ -> :ok end], opts)

    with {:ok, files, report} <- check(paths, opts),
         {:ok, report} <- keep(name, files, report, opts) do
      {:ok, %{report | microseconds: System.monotonic_time(:microsecond) - started}}
    end
  end

  @doc """
  Reads a file of the import form without a store: calls `fun` with each batch of its events and the accumulator.

  An event is `{line, flow, event, euid}`, `event` a map as `EventSeal.append/4` takes it. A bad line ends the reading
  with an error of reason `:malformed`.
  """
  @spec reduce(Path.t(), acc, ([{pos_integer, String.t(), map, <<_::128>>}], acc -> acc)) ::
          {:ok, acc} | {:error, Error.t()}
        when acc: term
  def reduce(path, acc, fun) do
    opts = [max_body: @max_body]

    with {:ok, {_, []}, digest} <- read(path, {0, []}, &{:ok, bad_lines(&1, &2, path)}, opts),
         {:ok, acc, ^digest} <- read(path, acc, &{:ok, fun.(events(&1, digest), &2)}, opts) do
      {:ok, acc}
    else
      {:ok, {_, [bad | _]}, _digest} -> {:error, Error.new(:malformed, detail: describe(bad))}
      {:ok, _acc, _other_digest} -> {:error, changed(path)}
      {:error, _} = error -> error
    end
  end

  @doc """
  The euid of the event on a line of a file with that SHA-256: a UUIDv8 (RFC 9562, section 5.8).

      iex> <<_::48, version::4, _::12, variant::2, _::62>> = EventSeal.Import.euid(<<0::256>>, 1)
      iex> {version, variant}
      {8, 2}
  """
  @spec euid(<<_::256>>, pos_integer) :: <<_::128>>
  def euid(<<digest::binary-32>>, line) do
    <<a::48, _::4, b::12, _::2, c::62, _::binary>> = :crypto.hash(:sha256, <<digest::binary, line::64>>)
    <<a::48, 8::4, b::12, 2::2, c::62>>
  end

  @doc """
  A bad line in words; never with what stood there.

      iex> EventSeal.Import.describe(%{file: "ward.jsonl", line: 7, field: :when, rule: "range"})
      "ward.jsonl line 7: when: range"
  """
  @spec describe(bad_line) :: String.t()
  def describe(%{field: nil} = bad), do: "#{bad.file} line #{bad.line}: #{bad.rule}"
  def describe(bad), do: "#{bad.file} line #{bad.line}: #{bad.field}: #{bad.rule}"

  defp check(paths, opts) do
    Enum.reduce_while(paths, {:ok, [], %__MODULE__{}}, fn path, {:ok, files, report} ->
      case read(path, {report, []}, &check_batch(&1, &2, path, opts), opts) do
        {:ok, {report, marks}, digest} ->
          file = %{path: path, digest: digest, marks: marks |> Enum.reverse() |> List.to_tuple()}
          {:cont, {:ok, files ++ [file], %{report | files: report.files + 1}}}

        {:error, _} = error ->
          {:halt, error}
      end
    end)
  end

  defp check_batch(parsed, {report, marks}, path, opts) do
    {bad_count, bad} = bad_lines(parsed, {report.bad_count, report.bad}, path)
    lines = report.lines + length(parsed) - (bad_count - report.bad_count)
    opts[:progress].(%{step: :check, events: lines})
    {:ok, {%{report | lines: lines, bad: bad, bad_count: bad_count}, mark(Enum.reverse(parsed)) ++ marks}}
  end

  # One event of each batch, to find by it how far an earlier import came: the last whose euid the file's digest gives.
  defp mark([{line, {:ok, {flow, draft}}} | _]) when elem(draft, 0) == nil, do: [{line, flow}]
  defp mark([_ | parsed]), do: mark(parsed)
  defp mark([]), do: []

  defp bad_lines(parsed, {count, kept}, path) do
    bad = for {line, {:error, {field, rule}}} <- parsed, do: %{file: path, line: line, field: field, rule: "#{rule}"}
    {count + length(bad), kept ++ Enum.take(bad, max(@max_bad - count, 0))}
  end

  defp keep(name, files, report, opts) do
    if report.bad_count == 0 or opts[:skip_bad],
      do: import_files(name, files, report, opts),
      else: {:ok, %{report | lines: 0, kept: false}}
  end

  # `before` holds what each flow had accepted before its first line came: the difference is what was added.
  defp import_files(name, files, report, opts) do
    with {:ok, {before, _done}} <- Error.reduce(files, {%{}, 0}, &import_file(name, &1, &2, opts)),
         {:ok, now} <- seal(name, Map.keys(before), opts) do
      {:ok, %{report | flows: map_size(before), added: now - Enum.sum(Map.values(before))}}
    end
  end

  defp import_file(name, %{path: path, digest: digest} = file, acc, opts) do
    with {:ok, there} <- there(name, file, 0, tuple_size(file.marks)),
         {:ok, acc, ^digest} <- read(path, acc, &import_batch(name, file, events(&1, digest), there, &2, opts), opts) do
      {:ok, acc}
    else
      {:ok, _acc, _other_digest} -> {:error, changed(path)}
      {:error, _} = error -> error
    end
  end

  # Lines go in in their order, so of those with a derived euid all up to one that is there are there: the last line known
  # to be there, 0 if none is. A look at a few marks spares a look at every event.
  defp there(_name, _file, low, low), do: {:ok, 0}

  defp there(name, file, low, high) do
    middle = div(low + high, 2)
    {line, flow} = elem(file.marks, middle)

    case EventSeal.event(name, flow, euid(file.digest, line)) do
      {:ok, _event} -> with({:ok, later} <- there(name, file, middle + 1, high), do: {:ok, max(line, later)})
      {:error, %Error{reason: :not_found}} -> there(name, file, low, middle)
      {:error, _} = error -> error
    end
  end

  defp import_batch(name, file, events, there, {before, done}, opts) do
    new = Enum.reject(events, fn {line, _, _, euid} -> line <= there and euid == euid(file.digest, line) end)

    with {:ok, before} <- Error.reduce(events, before, &first_sight(name, elem(&1, 1), &2)),
         {:ok, _} <- Error.reduce(Enum.chunk_every(new, @batch), nil, &append_batch(name, file.path, &1, &2)) do
      opts[:progress].(%{step: :import, events: done + length(events)})
      {:ok, {before, done + length(events)}}
    end
  end

  defp first_sight(_name, flow, before) when is_map_key(before, flow), do: {:ok, before}

  defp first_sight(name, flow, before),
    do: with({:ok, count} <- accepted(name, flow), do: {:ok, Map.put(before, flow, count)})

  defp append_batch(name, path, events, nil), do: with(:ok <- append(name, path, events, @patience), do: {:ok, nil})

  defp append(name, path, events, patience) do
    case EventSeal.append_many(name, Enum.map(events, fn {_, flow, event, euid} -> {flow, event, euid: euid} end)) do
      {:ok, _receipts} -> :ok
      {:error, %Error{reason: :overloaded}} when patience > 0 -> wait_and_append(name, path, events, patience)
      {:error, error} -> name_line(name, path, events, error)
    end
  end

  defp wait_and_append(name, path, events, patience) do
    Process.sleep(10)
    append(name, path, events, patience - 1)
  end

  # What was imported and then retracted stays retracted.
  defp name_line(_name, _path, [_event], %Error{reason: :retracted}), do: :ok

  # A batch is refused whole, without its line. What stands before that line may go in, and was going to.
  defp name_line(_name, path, [{line, _, _, _}], error),
    do: {:error, %{error | detail: Enum.join(["#{path} line #{line}" | List.wrap(error.detail)], ": ")}}

  defp name_line(name, path, events, _error) do
    {first, second} = Enum.split(events, div(length(events), 2))
    with :ok <- append(name, path, first, @patience), do: append(name, path, second, @patience)
  end

  defp seal(name, flows, opts) do
    flows
    |> Task.async_stream(&seal_flow(name, &1), max_concurrency: @sealers, ordered: false, timeout: :infinity)
    |> Error.reduce({0, 0}, fn {:ok, sealed}, {flows, events} ->
      with {:ok, count} <- sealed do
        opts[:progress].(%{step: :seal, events: events + count})
        {:ok, {flows + 1, events + count}}
      end
    end)
    |> case do
      {:ok, {_flows, events}} -> {:ok, events}
      {:error, _} = error -> error
    end
  end

  defp seal_flow(name, flow) do
    with :ok <- whole(EventSeal.settle(name, flow)), :ok <- whole(EventSeal.seal(name, flow)), do: accepted(name, flow)
  end

  # Of a closed flow all is fixed already.
  defp whole({:ok, _count}), do: :ok
  defp whole({:error, %Error{reason: :closed}}), do: :ok
  defp whole({:error, _} = error), do: error

  defp accepted(name, flow) do
    case EventSeal.head(name, flow) do
      {:ok, head} -> {:ok, head.accepted}
      {:error, %Error{reason: :not_found}} -> {:ok, 0}
      {:error, _} = error -> error
    end
  end

  defp events(parsed, digest) do
    for {line, {:ok, {flow, draft}}} <- parsed do
      {given, at, _, _, kind, version, where, who, _, body} = draft
      event = %{when: at, where: where(where), who: who, kind: kind, version: version, body: body}
      {line, flow, event, given || euid(digest, line)}
    end
  end

  defp where(nil), do: nil
  defp where({latitude, longitude}), do: {:geo, latitude / 10_000_000, longitude / 10_000_000}
  defp where(place), do: {:place, place}

  defp read(path, acc, fun, opts), do: Lines.reduce(path, acc, &fun.(parse(&1, opts), &2))

  defp parse(lines, opts) do
    {long, whole} = Enum.split_with(lines, &match?({_, :too_long}, &1))
    parsed = whole |> Enum.map(&elem(&1, 1)) |> Native.import_lines()
    checked = Enum.zip_with(whole, parsed, fn {line, _}, result -> {line, allow(result, opts[:max_body])} end)
    Enum.sort(checked ++ for({line, :too_long} <- long, do: {line, {:error, {nil, "line too long"}}}))
  end

  # The form has no limit to a body, a store has.
  defp allow({:ok, {_flow, draft}}, max_body) when byte_size(elem(draft, 9)) > max_body,
    do: {:error, {:body, "must be at most #{max_body} bytes"}}

  defp allow(result, _max_body), do: result

  defp changed(path), do: Error.new(:malformed, detail: "#{path} changed while it was read")
end
