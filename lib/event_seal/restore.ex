defmodule EventSeal.Restore do
  @moduledoc """
  Brings archives and interchange files back into a store: ids and block hashes come out equal, for they are taken as they
  are. With the store's log file (`log.leaves`, as `EventSeal.Export` writes it) the log's root and its checkpoints too; then
  each block that the log knows must be in the files.

  All files are verified before anything is committed. A flow that the store has already is left as it is if it is the very
  same, and refused with the others if it is not. A file in which bodies are not shown, a packet say, cannot be brought back:
  the bodies are elsewhere. Without a log file each block's leaf is committed with the block, in the order of the files.

  What `run/3` reports: `flows` and `events` that were brought back, `there` (flows that were there already), `leaves` and
  `checkpoints` of the log.
  """

  alias EventSeal.{Archive, Chain, Checkpoint, Error, Interchange, Native, Record, Store, Verdict}
  alias EventSeal.Chain.Container
  alias EventSeal.Export.LogFile

  defstruct flows: 0, events: 0, there: 0, leaves: 0, checkpoints: 0

  @type t :: %__MODULE__{
          flows: non_neg_integer,
          events: non_neg_integer,
          there: non_neg_integer,
          leaves: non_neg_integer,
          checkpoints: non_neg_integer
        }

  @commit_bytes 8_388_608
  @preamble 64

  @doc "What a file holds by how it begins, nil if it is none of what can be brought back."
  @spec kind(Path.t()) :: {:ok, :archive | :log | :interchange | nil} | {:error, Error.t()}
  def kind(path) do
    case Interchange.beginning(path) do
      {:ok, <<"EVSEAL", kind, version, _::binary>>} when kind in [?A, ?L] -> versioned(path, kind, version)
      {:ok, text} -> {:ok, if(text =~ ~r/\A{[^\n]*"format"\s*:\s*"event-seal\//, do: :interchange)}
      {:error, _} = error -> error
    end
  end

  defp versioned(_path, ?A, ?1), do: {:ok, :archive}
  defp versioned(_path, ?L, ?1), do: {:ok, :log}
  defp versioned(path, _kind, version), do: {:error, Interchange.unknown(path, version)}

  @doc """
  Brings the files, `{kind, path}`, back into a store that nobody writes to meanwhile. Options: `:key`, `:witnesses`,
  `:quorum` as `EventSeal.Archive.verify/2`; with a key every flow must come in an archive that is signed by it.
  """
  @spec run(Store.t(), [{:archive | :log | :interchange, Path.t()}], keyword) :: {:ok, t} | {:error, Error.t()}
  def run(store, files, opts \\ []) do
    {logs, flows} = Enum.split_with(files, &match?({:log, _}, &1))

    with :ok <- each(flows, &verified(&1, opts)),
         {:ok, log} <- log(store, logs, flows),
         {:ok, new} <- new(store, flows) do
      restore(store, new, log, %__MODULE__{there: length(flows) - length(new)})
    end
  rescue
    error in Error -> {:error, error}
  end

  defp verified({:archive, path}, opts) do
    with {:ok, %{verdict: verdict}} <- Archive.verify(path, opts), do: whole(verdict, path)
  end

  defp verified({:interchange, path}, opts) do
    with :ok <-
           if(opts[:key], do: {:error, Error.new(:untrusted, detail: "#{path}: nothing in it is signed")}, else: :ok),
         {:ok, verdict} <- Interchange.verify_files([path]),
         do: whole(verdict, path)
  end

  defp whole(verdict, path) do
    cond do
      not Verdict.ok?(verdict) -> {:error, Error.new(:corrupt, detail: "#{path}: #{verdict.fault_count} faults")}
      verdict.bodies_not_shown > 0 -> invalid("#{path}: #{verdict.bodies_not_shown} bodies are not shown")
      true -> :ok
    end
  end

  defp invalid(rule), do: {:error, Error.new(:invalid, field: :file, rule: rule)}

  # The leaves that the log file has of blocks, once each checkpoint in it holds for the leaves before it.
  defp log(_store, [], _flows), do: {:ok, nil}
  defp log(_store, [_, _ | _], _flows), do: invalid("there is more than one log file")

  defp log(store, [{:log, path}], flows) do
    with {:ok, %{leaves: 0, checkpoints: 0}} <- Store.log(store, :size),
         {:ok, sizes} <- LogFile.reduce(path, %{}, &sizes/2),
         tree = Native.log_tree(),
         leaves = flows |> Stream.flat_map(&containers/1) |> Enum.flat_map(&block_leaf/1),
         known = MapSet.new(leaves),
         {:ok, _count} <- LogFile.reduce(path, 0, &leaf(tree, sizes, known, &1, &2)) do
      {:ok, {path, Enum.reject(leaves, fn {hash, _leaf} -> Native.log_block(tree, hash) end)}}
    else
      {:ok, %{leaves: _}} -> invalid("the store has a log already")
      {:error, _} = error -> error
    end
  end

  defp block_leaf(container) do
    {:ok, header} = Chain.header(container)
    if header.stage == :fixed, do: [{header.hash, made(header)}], else: []
  end

  defp made(header) do
    {:ok, %{digest: digest}} = Chain.restore(header.genesis, nil, nil, [])
    Native.block_leaf(header.suite, digest, header.height, header.first + header.count - 1, header.hash)
  end

  defp sizes({:leaf, _leaf}, sizes), do: {:ok, sizes}

  defp sizes({:checkpoint, item}, sizes) do
    with {:ok, checkpoint} <- Checkpoint.unpack(item), do: {:ok, Map.put(sizes, checkpoint.size, checkpoint.root)}
  end

  defp leaf(tree, sizes, known, {:leaf, leaf}, count) do
    with {:ok, size} <- Error.native(Native.log_push(tree, [leaf])),
         {:ok, said} <- Error.native(Native.read_leaf(leaf)) do
      cond do
        Map.get(sizes, size, root(tree)) != root(tree) ->
          log_differs()

        elem(said, 0) == :block and {elem(said, 5), leaf} not in known ->
          invalid("the log knows a block that no file holds")

        true ->
          {:ok, count + 1}
      end
    end
  end

  # Each checkpoint's size was come to, and its root seen, while the leaves were read.
  defp leaf(tree, sizes, _known, {:checkpoint, _item}, count) do
    if Enum.all?(sizes, fn {size, _root} -> size <= elem(Native.log_head(tree), 0) end),
      do: {:ok, count},
      else: log_differs()
  end

  defp root(tree), do: elem(Native.log_head(tree), 1)
  defp log_differs, do: {:error, Error.new(:corrupt, detail: "the log is not what its checkpoints say")}

  defp new(store, flows) do
    Enum.reduce_while(flows, {:ok, []}, fn file, {:ok, new} ->
      case there?(store, file) do
        false -> {:cont, {:ok, [file | new]}}
        true -> {:cont, {:ok, new}}
        {:error, _} = error -> {:halt, error}
      end
    end)
    |> then(fn outcome -> with {:ok, new} <- outcome, do: {:ok, Enum.reverse(new)} end)
  end

  # A last block or tail stands for all before it.
  defp there?(store, {_kind, path} = file) do
    last = file |> containers() |> Enum.to_list() |> List.last()
    {:ok, header} = Chain.header(last)

    with {:ok, head} <- Store.head(store, header.flow),
         {:ok, tail} <- Archive.tail(head) do
      if head.genesis == header.genesis and last == if(tail == "", do: head.last_block, else: tail),
        do: true,
        else: invalid("#{path}: the store has this flow already, with other events")
    else
      {:error, %Error{reason: :not_found}} -> false
      {:error, _} = error -> error
    end
  end

  defp restore(store, files, log, report) do
    report = Enum.reduce(files, report, &flow(store, log, &1, &2))
    restore_log(store, log, report)
  end

  defp flow(store, log, file, report) do
    events = file |> containers() |> Stream.transform({false, nil}, &ops(log, &1, &2)) |> commit(store)
    %{report | flows: report.flows + 1, events: report.events + events}
  end

  # The operations of a container; the first opens the flow.
  defp ops(log, container, {opened, when_max}) do
    {:ok, header} = Chain.header(container)
    opening = if opened, do: [], else: [{:expect, header.flow, :none}, {:open, header.flow, header.genesis}]
    when_max = if header.stage == :fixed, do: max(header.when_max, when_max || header.when_max), else: when_max
    own = if header.stage == :fixed, do: block(log, header, container, when_max), else: tail(header, container)
    {opening ++ own, {true, when_max}}
  end

  defp block(log, header, block, when_max) do
    info = %{
      height: header.height,
      first: header.first,
      count: header.count,
      through: header.first + header.count - 1,
      when_max: when_max,
      euids: Container.euids(block),
      closes: header.closes
    }

    [{:block, header.flow, info, block} | if(log, do: [], else: [{:leaf, made(header)}])]
  end

  defp tail(header, tail) do
    {:ok, events} = Chain.events(tail)

    for {{frame, hash, body}, event} <- Enum.zip(Container.events(tail), events) do
      {:put, header.flow, event.n, :tail, Record.encode_tail(event.n, frame, hash, event.provisional), body}
    end
  end

  # In commits of some megabytes. Returns how many events went in.
  defp commit(ops, store) do
    ops
    |> Stream.chunk_while({[], 0}, &chunk/2, fn {ops, _bytes} -> {:cont, Enum.reverse(ops), nil} end)
    |> Stream.each(fn ops -> with {:error, error} <- Store.commit(store, ops), do: raise(error) end)
    |> Enum.reduce(0, fn ops, events -> events + (ops |> Enum.map(&events/1) |> Enum.sum()) end)
  end

  defp events({:block, _flow, info, _block}), do: info.count
  defp events({:put, _flow, _seq, _stage, _meta, _body}), do: 1
  defp events(_other), do: 0

  defp chunk(op, {ops, bytes}) do
    case {[op | ops], bytes + size(op)} do
      {ops, bytes} when bytes >= @commit_bytes -> {:cont, Enum.reverse(ops), {[], 0}}
      more -> {:cont, more}
    end
  end

  defp size(op), do: op |> Tuple.to_list() |> Enum.map(&if(is_binary(&1), do: byte_size(&1), else: 64)) |> Enum.sum()

  defp restore_log(store, nil, report) do
    with {:ok, %{leaves: leaves}} <- Store.log(store, :size), do: {:ok, %{report | leaves: leaves}}
  end

  # Behind the log's own leaves come those of blocks that were sealed after it was written down.
  defp restore_log(store, {path, later}, report) do
    with {:ok, ops} <- LogFile.reduce(path, [], fn item, ops -> {:ok, [item | ops]} end) do
      ops = Enum.reduce(later, ops, fn {_hash, leaf}, ops -> [{:leaf, leaf} | ops] end)
      ops |> Enum.reverse() |> commit(store)
      {leaves, checkpoints} = Enum.split_with(ops, &match?({:leaf, _}, &1))
      {:ok, %{report | leaves: length(leaves), checkpoints: length(checkpoints)}}
    end
  end

  # A file's containers, lazily.
  defp containers({:interchange, path}) do
    with {:ok, text} <- File.read(path), {:ok, containers} <- Native.interchange_containers(text) do
      containers
    else
      _changed -> raise(Error.new(:malformed, detail: "#{path} changed while it was read"))
    end
  end

  defp containers({:archive, path}) do
    Stream.resource(fn -> opened(path) end, &next(&1, path), fn {file, _at, _end} -> :file.close(file) end)
  end

  defp opened(path) do
    with {:ok, file} <- :file.open(path, [:raw, :binary, :read]),
         {:ok, preamble} <- :file.read(file, @preamble),
         {:ok, {containers, _proof, _height, _part}} <- Native.archive_sizes(preamble) do
      {file, @preamble, @preamble + containers}
    else
      _changed -> raise(Error.new(:malformed, detail: "#{path} changed while it was read"))
    end
  end

  defp next({_file, at, at} = done, _path), do: {:halt, done}

  defp next({file, at, last}, path) do
    with {:ok, <<_::binary-16, length::64>>} when at + length <= last <- :file.pread(file, at, 24),
         {:ok, container} when byte_size(container) == length <- :file.pread(file, at, length) do
      {[container], {file, at + length, last}}
    else
      _changed -> raise(Error.new(:malformed, detail: "#{path} changed while it was read"))
    end
  end

  defp each(list, fun) do
    Enum.find_value(list, :ok, fn item ->
      with :ok <- fun.(item), do: nil
    end)
  end
end
