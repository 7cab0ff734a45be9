defmodule EventSeal.Migrate do
  @moduledoc """
  Moves everything from one store to another, of whatever adapters: blocks, what is not sealed, and the log, as they are; so
  every id, block hash and the log's root stay the same.

  Nobody may write to either store meanwhile. It can be broken off and begun again: what is there already is compared, and
  gone on from. At the end every flow's head and the log's root are the same in both, and the new store is verified; before
  that nothing should be signed with it. An euid that was retracted is spent in the new store, too.

  What `run/3` reports: `flows`, `blocks`, `spent` euids and `leaves` that were moved, and the `verdict` of the new store.
  """

  alias EventSeal.{Chain, Error, Heads, Reader, Store, Verdict, Verifier}
  alias EventSeal.Chain.Container
  alias EventSeal.Log.Tree

  defstruct flows: 0, blocks: 0, spent: 0, leaves: 0, verdict: nil

  @type t :: %__MODULE__{
          flows: non_neg_integer,
          blocks: non_neg_integer,
          spent: non_neg_integer,
          leaves: non_neg_integer,
          verdict: Verdict.t() | nil
        }

  @page 1_000
  # Of a flow's blocks so many positions are looked up at a time.
  @positions 100_000
  # Of so many flows at a time the retracted euids: the store may have to look through all it has for them.
  @spent 100_000

  @doc "Moves what `from` holds to `to`. Options: `:progress`, as `EventSeal.Verifier.run/2` has it, for the verification."
  @spec run(Store.t(), Store.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def run(from, to, opts \\ []) do
    flows = Reader.flows(from, after: nil, page: @page)

    with {:ok, report} <- spent(from, to, nil, %__MODULE__{}),
         {:ok, report} <- Error.reduce(flows, report, &flow(from, to, &1, &2)),
         {:ok, report} <- log(from, to, report),
         :ok <- same_log(from, to),
         {:ok, verdict} <- Verifier.run(to, opts),
         do: {:ok, %{report | verdict: verdict}}
  rescue
    error in Error -> {:error, error}
  end

  # First of all, since nothing can be retracted in a flow that its last block closes.
  defp spent(from, to, after_flow, report) do
    case Store.flows(from, after_flow, @spent, :spent) do
      {:ok, []} ->
        {:ok, report}

      {:ok, flows} ->
        with {:ok, report} <- Error.reduce(flows, report, &spend(from, to, &1, &2)),
             do: spent(from, to, flows |> List.last() |> elem(0), report)

      {:error, _} = error ->
        error
    end
  end

  # An entry that comes and goes in one commit leaves only its euid, which is spent.
  defp spend(from, to, {flow, euids}, report) do
    with {:ok, %{intact: true} = head} <- Store.head(from, flow),
         :ok <- open(to, head),
         {:ok, %{genesis: genesis} = there} when genesis == head.genesis <- Store.head(to, flow, euids),
         new = Enum.reject(euids, &(there.found[&1] == :spent)),
         ops = new |> Enum.with_index(there.next_seq) |> Enum.flat_map(&spend(flow, &1)),
         :ok <- Store.commit(to, ops) do
      {:ok, %{report | spent: report.spent + length(new)}}
    else
      {:ok, %{intact: false}} -> damaged()
      {:ok, _another} -> other()
      {:error, _} = error -> error
    end
  end

  defp spend(flow, {euid, seq}), do: [{:put, flow, seq, :pool, "", ""}, {:drop, flow, seq, euid}]

  defp damaged, do: {:error, Error.new(:corrupt, detail: "a flow cannot be read whole: see the doctor")}

  defp flow(from, to, flow, report) do
    with {:ok, %{intact: true, whole: true} = head} <- Store.head(from, flow),
         :ok <- open(to, head),
         {:ok, there} <- Store.head(to, flow),
         :ok <- follows(from, head, there),
         {:ok, report, _when_max} <- blocks(from, to, head, there.fixed + 1, report, there.when_max),
         :ok <- unsealed(to, head),
         :ok <- same_head(from, to, flow) do
      {:ok, %{report | flows: report.flows + 1}}
    else
      {:ok, _damaged} -> damaged()
      {:error, _} = error -> error
    end
  end

  defp open(to, head) do
    case Store.commit(to, [{:expect, head.flow, :none}, {:open, head.flow, head.genesis}]) do
      {:error, %Error{reason: :stale}} -> :ok
      done -> done
    end
  end

  # What is there already is the beginning of what shall be there.
  defp follows(_from, %{genesis: genesis}, %{genesis: genesis, height: 0}), do: :ok

  defp follows(from, %{genesis: genesis, height: height}, %{genesis: genesis} = there) when there.height <= height do
    with {:ok, [piece]} <- Store.blocks(from, there.flow, {there.fixed, there.fixed}),
         {:ok, block} <- Store.read(piece) do
      if block == there.last_block, do: :ok, else: other()
    end
  end

  defp follows(_from, _head, _there), do: other()

  defp other, do: {:error, Error.new(:invalid, field: :to, rule: "has this flow already, with other events")}

  defp blocks(_from, _to, %{fixed: fixed}, first, report, when_max) when first > fixed, do: {:ok, report, when_max}

  defp blocks(from, to, head, first, report, when_max) do
    with {:ok, pieces} <- Store.blocks(from, head.flow, {first, min(head.fixed, first + @positions - 1)}),
         {:ok, {report, when_max}} <- Error.reduce(pieces, {report, when_max}, &block(to, head.flow, &1, &2)) do
      last = List.last(pieces)
      blocks(from, to, head, last.first + last.count, report, when_max)
    end
  end

  defp block(to, flow, piece, {report, when_max}) do
    with {:ok, block} <- Store.read(piece),
         {:ok, header} <- Chain.header(block),
         info = info(header, block, when_max),
         :ok <- Store.commit(to, [{:expect, flow, header.height}, {:block, flow, info, block}]) do
      {:ok, {%{report | blocks: report.blocks + 1}, info.when_max}}
    end
  end

  # A position serves as the key of an entry: it grows along a flow.
  defp info(header, block, when_max) do
    %{
      height: header.height,
      first: header.first,
      count: header.count,
      through: header.first + header.count - 1,
      when_max: max(header.when_max, when_max || header.when_max),
      euids: Container.euids(block),
      closes: header.closes
    }
  end

  # All of it in one commit, so it is there or it is not. Only the order of the keys matters.
  defp unsealed(to, head) do
    with {:ok, there} <- Store.head(to, head.flow) do
      cond do
        Enum.map(there.entries, &Tuple.delete_at(&1, 0)) == in_order(head) ->
          :ok

        there.entries == [] ->
          Store.commit(to, head |> in_order() |> Enum.with_index(there.next_seq) |> puts(head.flow))

        true ->
          other()
      end
    end
  end

  # What has settled comes before the pool.
  defp in_order(head) do
    head.entries |> Enum.map(&Tuple.delete_at(&1, 0)) |> Enum.sort_by(&(elem(&1, 0) == :pool))
  end

  defp puts(entries, flow),
    do: for({{stage, meta, data}, seq} <- entries, do: {:put, flow, seq, stage, meta, data})

  defp same_head(from, to, flow) do
    with {:ok, one} <- head_of(from, flow), {:ok, other} <- head_of(to, flow) do
      if one == other, do: :ok, else: other()
    end
  end

  defp head_of(store, flow) do
    with {:ok, {chain, head}} <- Heads.of(store, flow), do: {:ok, {chain.digest, head}}
  end

  defp log(from, to, report) do
    with {:ok, there} <- Store.log(to, :size),
         {:ok, leaves} <- items(from, to, :leaves, :leaf, there.leaves),
         {:ok, _checkpoints} <- items(from, to, :checkpoints, :checkpoint, there.checkpoints),
         do: {:ok, %{report | leaves: leaves - there.leaves}}
  end

  defp items(from, to, kind, op, index) do
    case Store.log(from, {kind, index, @page}) do
      {:ok, []} ->
        {:ok, index}

      {:ok, items} ->
        with :ok <- Store.commit(to, for(item <- items, do: {op, item})),
             do: items(from, to, kind, op, index + length(items))

      {:error, _} = error ->
        error
    end
  end

  defp same_log(from, to) do
    with {:ok, one} <- Tree.open(from), {:ok, other} <- Tree.open(to) do
      if Tree.head(one) == Tree.head(other),
        do: :ok,
        else: {:error, Error.new(:invalid, field: :to, rule: "has another log")}
    end
  end
end
