defmodule EventSeal.Store.Memory do
  @moduledoc """
  A store in ETS, for hosts' own tests, and the plainest reading of the contract: what `EventSeal.Store` says of a commit
  is `step/2` here, one clause an operation.

  Nothing is written anywhere: all is gone when its process ends. It takes no options.

  One process commits. A commit is computed on a draft first, the flows it touches in a map, and then inserted; so a
  refused one leaves no trace. `head/3` asks the process, since it reads several tables; the others read the tables.
  """

  @behaviour EventSeal.Store
  use GenServer

  alias EventSeal.{Error, Store}
  alias EventSeal.Store.{Head, Piece}

  # The tables: the flow's row is a Head without its entries' euids; blocks and euids have a row each.
  @kinds [:flows, :blocks, :euids, :log]

  @impl Store
  def child_spec({name, opts}) do
    unless opts == [], do: raise(ArgumentError, "EventSeal.Store.Memory takes no options")
    %{id: name, start: {__MODULE__, :start_link, [name]}, type: :worker}
  end

  @doc false
  def start_link(name), do: GenServer.start_link(__MODULE__, name, name: name)

  @impl Store
  def commit(name, ops) when is_list(ops), do: GenServer.call(name, {:commit, ops}, :infinity)

  @impl Store
  def recover(name, shards) do
    waiting =
      for {flow, head} <- :ets.tab2list(table(name, :flows)), head.entries != [], Store.shard(flow) in shards do
        {pool, tail} = Enum.split_with(head.entries, fn {_seq, stage, _meta, _data} -> stage == :pool end)
        %{flow: flow, pool: length(pool), tail: length(tail)}
      end

    %{waiting: waiting, damage: []}
  end

  @impl Store
  def head(name, flow, asked), do: GenServer.call(name, {:head, flow, asked}, :infinity)

  @impl Store
  def blocks(name, flow, {from, to}) do
    with {:ok, head} <- row(name, flow) do
      {:ok, for(piece <- pieces(name, head), piece.first <= to, piece.first + piece.count > from, do: piece)}
    end
  end

  @impl Store
  def flows(name, after_flow, limit, :spent) do
    spent =
      for {{flow, euid}, :spent} <- :ets.tab2list(table(name, :euids)), flow > (after_flow || ""), do: {flow, euid}

    {:ok, spent |> Enum.group_by(&elem(&1, 0), &elem(&1, 1)) |> Enum.sort() |> Enum.take(limit)}
  end

  def flows(name, after_flow, limit, what) do
    table = table(name, :flows)
    first = if after_flow, do: :ets.next(table, after_flow), else: :ets.first(table)
    flows = first |> Stream.iterate(&:ets.next(table, &1)) |> Stream.take_while(&is_binary/1) |> Enum.take(limit)
    {:ok, if(what == :ids, do: flows, else: Enum.map(flows, &{&1, all_blocks(name, &1)}))}
  end

  defp all_blocks(name, flow) do
    with {:ok, %Head{closed: true} = head} <- row(name, flow), do: pieces(name, head), else: (_open -> nil)
  end

  @impl Store
  def log(name, :size), do: {:ok, log_size(table(name, :log))}

  def log(name, {kind, from, count}) when kind in [:leaves, :checkpoints] do
    table = table(name, :log)
    last = min(from + count, log_size(table)[kind]) - 1
    {:ok, for(index <- from..last//1, do: :ets.lookup_element(table, {kind, index}, 2))}
  end

  @impl Store
  def lease(_name, _shards), do: {:ok, 1}

  @impl GenServer
  def init(name) do
    tables = Map.new(@kinds, &{&1, :ets.new(&1, [:ordered_set, :protected, read_concurrency: true])})
    :ets.new(name, [:named_table, :protected, read_concurrency: true])
    :ets.insert(name, Map.to_list(tables))
    :ets.insert(tables.log, [{{:size, :leaves}, 0}, {{:size, :checkpoints}, 0}])
    {:ok, name}
  end

  @impl GenServer
  def handle_call({:commit, ops}, _from, name) do
    draft = %{name: name, flows: %{}, blocks: [], euids: [], log: [], size: log_size(table(name, :log))}

    case Enum.reduce_while(ops, draft, &advance/2) do
      %{} = draft -> {:reply, adopt(draft), name}
      {:error, error} -> {:reply, {:error, error}, name}
    end
  end

  def handle_call({:head, flow, asked}, _from, name) do
    euids = if asked == :unsealed, do: [], else: asked
    {:reply, with({:ok, head} <- row(name, flow), do: {:ok, fill(name, head, euids)}), name}
  end

  # What the process holds is the name alone; the bodies are in the tables, which no crash report prints. The last
  # message, a commit, would be printed: it is not.
  # Elixir names this callback of OTP 25 from 1.17 on.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(GenServer)
  def format_status(status), do: Map.replace(status, :message, :not_shown)

  defp advance(op, draft) do
    case step(op, draft) do
      {:ok, draft} -> {:cont, draft}
      {:error, reason} -> {:halt, {:error, Error.new(reason)}}
    end
  end

  defp step({:expect, flow, expected}, draft) do
    found = with %Head{height: height} <- flow_of(draft, flow), do: height
    if found == expected, do: {:ok, draft}, else: {:error, :stale}
  end

  defp step({:open, flow, genesis}, draft) do
    if flow_of(draft, flow) == :none do
      {:ok, put_flow(draft, %Head{flow: flow, genesis: genesis})}
    else
      {:error, :stale}
    end
  end

  defp step({:put, flow, seq, stage, meta, data}, draft) when stage in [:pool, :tail] do
    with {:ok, head} <- open_flow(draft, flow),
         {:ok, data} <- data_of(head, seq, data) do
      entries = List.keystore(head.entries, seq, 0, {seq, stage, meta, data})
      {:ok, put_flow(draft, %{head | entries: entries, next_seq: max(head.next_seq, seq + 1)})}
    end
  end

  defp step({:drop, flow, seq, euid}, draft) do
    with {:ok, head} <- open_flow(draft, flow),
         {:ok, _data} <- data_of(head, seq, :keep) do
      draft = put_flow(draft, %{head | entries: List.keydelete(head.entries, seq, 0)})
      {:ok, %{draft | euids: [{{flow, euid}, :spent} | draft.euids]}}
    end
  end

  defp step({:block, flow, info, block}, draft) do
    with {:ok, head} <- open_flow(draft, flow) do
      if info.height == head.height and info.first == head.fixed + 1 do
        {:ok, draft |> put_flow(extend(head, info)) |> keep_block(flow, info, IO.iodata_to_binary(block))}
      else
        {:error, :stale}
      end
    end
  end

  defp step({:leaf, bytes}, draft), do: {:ok, keep_log(draft, :leaves, bytes)}
  defp step({:checkpoint, bytes}, draft), do: {:ok, keep_log(draft, :checkpoints, bytes)}
  defp step(_other, _draft), do: {:error, :invalid}

  # A new entry comes after all that were ever used; only one of the pool may be put again.
  defp data_of(head, seq, data) do
    case List.keyfind(head.entries, seq, 0) do
      {_seq, :pool, _meta, kept} -> {:ok, if(data == :keep, do: kept, else: data)}
      nil when seq >= head.next_seq and data != :keep -> {:ok, data}
      _other -> {:error, :stale}
    end
  end

  defp extend(head, info) do
    %{
      head
      | height: head.height + 1,
        fixed: head.fixed + info.count,
        closed: info.closes,
        when_max: info.when_max,
        next_seq: max(head.next_seq, info.through + 1),
        entries: Enum.drop_while(head.entries, fn {seq, _stage, _meta, _data} -> seq <= info.through end)
    }
  end

  defp keep_block(draft, flow, info, block) do
    euids = for <<euid::binary-16 <- info.euids>>, do: {{flow, :binary.copy(euid)}, info.height}
    row = {{flow, info.height}, info.first, info.count, block}
    %{draft | blocks: [row | draft.blocks], euids: euids ++ draft.euids}
  end

  defp keep_log(draft, kind, bytes) do
    row = {{kind, draft.size[kind]}, bytes}
    %{draft | log: [row | draft.log], size: Map.update!(draft.size, kind, &(&1 + 1))}
  end

  defp adopt(draft) do
    :ets.insert(table(draft.name, :blocks), draft.blocks)
    :ets.insert(table(draft.name, :euids), draft.euids)
    :ets.insert(table(draft.name, :log), draft.log ++ for({kind, size} <- draft.size, do: {{:size, kind}, size}))
    :ets.insert(table(draft.name, :flows), Map.to_list(draft.flows))
    :ok
  end

  defp open_flow(draft, flow) do
    case flow_of(draft, flow) do
      :none -> {:error, :not_found}
      %Head{closed: true} -> {:error, :closed}
      head -> {:ok, head}
    end
  end

  defp flow_of(draft, flow) do
    with :error <- Map.fetch(draft.flows, flow), {:error, _} <- row(draft.name, flow) do
      :none
    else
      {:ok, head} -> head
    end
  end

  defp put_flow(draft, head), do: %{draft | flows: Map.put(draft.flows, head.flow, head)}

  defp fill(name, head, euids) do
    %{head | last_block: last_block(name, head), found: Map.new(Enum.flat_map(euids, &found(name, head.flow, &1)))}
  end

  defp last_block(_name, %Head{height: 0}), do: nil
  defp last_block(name, head), do: :ets.lookup_element(table(name, :blocks), {head.flow, head.height - 1}, 4)

  defp found(name, flow, euid) do
    case :ets.lookup(table(name, :euids), {flow, euid}) do
      [{_key, :spent}] -> [{euid, :spent}]
      [{_key, height}] -> [{euid, [height]}]
      [] -> []
    end
  end

  defp pieces(name, head) do
    for height <- 0..(head.height - 1)//1 do
      [{_key, first, count, block}] = :ets.lookup(table(name, :blocks), {head.flow, height})
      %Piece{height: height, first: first, count: count, at: {:binary, block}}
    end
  end

  defp row(name, flow) do
    case :ets.lookup(table(name, :flows), flow) do
      [{_flow, head}] -> {:ok, head}
      [] -> {:error, Error.new(:not_found)}
    end
  end

  defp log_size(table) do
    Map.new([:leaves, :checkpoints], &{&1, :ets.lookup_element(table, {:size, &1}, 2)})
  end

  defp table(name, kind) do
    if :ets.whereis(name) == :undefined, do: exit({:noproc, {__MODULE__, name}})
    :ets.lookup_element(name, kind, 2)
  end
end
