defmodule EventSeal.Store.Postgres.Draft do
  @moduledoc false
  # What a group of commits will insert, and the flows as they will be then: pure, on top of flows as they were read. A
  # commit that is refused leaves no trace.

  alias EventSeal.Store

  defmodule Flow do
    @moduledoc false
    # What must be known of a flow to add to it: `turn` is the journal's last, `pool` the seqs that can still be put again.
    @enforce_keys [:id, :number]
    defstruct [:id, :number, height: 0, fixed: 0, closed: false, turn: 0, next_seq: 1, through: 0, pool: MapSet.new()]
  end

  @tables [:flow, :spent, :journal, :block, :event, :leaf, :checkpoint]
  @enforce_keys [:flows, :numbers]
  defstruct [:flows, :numbers, rows: Map.new(@tables, &{&1, []})]

  @type t :: %__MODULE__{}

  @doc "A draft on these flows (`nil` for one that is not there); `numbers` are for those that begin."
  @spec new(%{optional(Store.flow()) => struct | nil}, [pos_integer]) :: t
  def new(flows, numbers), do: %__MODULE__{flows: flows, numbers: numbers}

  @doc "Adds a commit, or says why not."
  @spec add(t, [tuple]) :: {:ok, t} | {:error, atom}
  def add(draft, ops) do
    Enum.reduce_while(ops, {:ok, draft}, fn op, {:ok, draft} ->
      case step(op, draft) do
        {:ok, _draft} = ok -> {:cont, ok}
        {:error, _reason} = error -> {:halt, error}
      end
    end)
  end

  defp step({:expect, id, {:turn, turn}}, draft) do
    if match?(%Flow{turn: ^turn}, Map.fetch!(draft.flows, id)), do: {:ok, draft}, else: {:error, :stale}
  end

  defp step({:expect, id, expected}, draft) do
    found = with %Flow{height: height} <- Map.fetch!(draft.flows, id), do: height
    if (found || :none) == expected, do: {:ok, draft}, else: {:error, :stale}
  end

  defp step({:open, id, genesis}, %{numbers: [number | numbers]} = draft) do
    if Map.fetch!(draft.flows, id) do
      {:error, :stale}
    else
      draft = put_flow(%{draft | numbers: numbers}, %Flow{id: id, number: number})
      {:ok, insert(draft, :flow, [{number, id, Store.shard(id), genesis}])}
    end
  end

  defp step({:put, id, seq, stage, meta, data}, draft) do
    with {:ok, flow} <- open(draft, id), :ok <- admits(flow, seq, data) do
      pool = if stage == :pool, do: MapSet.put(flow.pool, seq), else: MapSet.delete(flow.pool, seq)
      data = if data != :keep, do: data
      {:ok, change(draft, %{flow | pool: pool, next_seq: max(flow.next_seq, seq + 1)}, seq, stage, meta, data)}
    end
  end

  defp step({:drop, id, seq, euid}, draft) do
    with {:ok, flow} <- open(draft, id), :ok <- admits(flow, seq, :keep) do
      draft = insert(draft, :spent, [{flow.number, euid}])
      {:ok, change(draft, %{flow | pool: MapSet.delete(flow.pool, seq)}, seq, :gone, "", nil)}
    end
  end

  defp step({:block, id, info, {front, content}}, draft) do
    with {:ok, flow} <- open(draft, id) do
      if info.height == flow.height and info.first == flow.fixed + 1 do
        {:ok,
         draft
         |> change(extended(flow, info), info.through, :block, "", nil)
         |> sealed(id, info, front, content)}
      else
        {:error, :stale}
      end
    end
  end

  defp step({:leaf, bytes}, draft), do: {:ok, insert(draft, :leaf, [bytes])}
  defp step({:checkpoint, bytes}, draft), do: {:ok, insert(draft, :checkpoint, [bytes])}

  # A new entry comes after all that were ever used; only one of the pool may be put again.
  defp admits(flow, seq, data) do
    cond do
      seq in flow.pool -> :ok
      seq >= flow.next_seq and data != :keep -> :ok
      true -> {:error, :stale}
    end
  end

  # A flow's next turn: whoever inserts it has made this change, and nobody else can.
  defp change(draft, flow, seq, stage, meta, data) do
    flow = %{flow | turn: flow.turn + 1}
    row = {flow.number, flow.turn, seq, Atom.to_string(stage), flow.next_seq, meta, data}
    draft |> put_flow(flow) |> insert(:journal, [row])
  end

  @doc false
  def extended(flow, info) do
    %{
      flow
      | height: info.height + 1,
        fixed: info.first + info.count - 1,
        closed: info.closes,
        through: info.through,
        next_seq: max(flow.next_seq, info.through + 1),
        pool: MapSet.reject(flow.pool, &(&1 <= info.through))
    }
  end

  # A block's events are handed on together; a kept part has none.
  defp sealed(draft, id, info, front, content) do
    flow = Map.fetch!(draft.flows, id)
    digests = if is_binary(content), do: content
    block = {flow.number, front, flow.turn, info.through, flow.next_seq, info.when_max, digests}
    events = for {sections, spans} <- [content], do: {flow.number, info.first, sections, spans}
    draft |> insert(:block, [block]) |> insert(:event, events)
  end

  defp open(draft, id) do
    case Map.fetch!(draft.flows, id) do
      nil -> {:error, :not_found}
      %Flow{closed: true} -> {:error, :closed}
      flow -> {:ok, flow}
    end
  end

  defp put_flow(draft, flow), do: %{draft | flows: Map.put(draft.flows, flow.id, flow)}

  defp insert(draft, table, rows), do: %{draft | rows: Map.update!(draft.rows, table, &[rows | &1])}

  @doc "The rows of a table, in the order of their commits."
  @spec rows(t, atom) :: [term]
  def rows(draft, table), do: draft.rows |> Map.fetch!(table) |> Enum.reverse() |> Enum.concat()
end
