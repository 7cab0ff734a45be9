defmodule EventSeal.Batch.Singles do
  @moduledoc """
  The commonest batch on a short way: single events, new for certain, to flows that are in memory and let nothing wait in a
  pool.

  Nothing has to be looked up, packed or let go for them, so the steps of `EventSeal.Batch` that do so are left out. What
  becomes of each flow is the same: the same functions do it.
  """

  alias EventSeal.{Chain, Error, Flow, Receipt}
  alias EventSeal.Flow.{Requests, Stages}

  @typep flows :: %{optional(String.t()) => Flow.t()}
  @typep replies :: [{from :: term, {:ok, Receipt.t()}}]

  @doc "The flows as they would be, and the replies, newest first; `:other` if a request is of another kind."
  @spec run(flows, [EventSeal.Batch.request()], map) :: {:ok, flows, replies} | {:error, Error.t()} | :other
  def run(in_memory, requests, ctx) do
    with true <- ctx.window == 0 and not Map.get(ctx, :signs, false),
         {:ok, flows, replies} <- take(requests, in_memory, ctx),
         {:ok, flows} <- settle(flows, ctx) do
      {:ok, flows, replies}
    else
      {:error, error} -> {:error, error}
      _ -> :other
    end
  end

  # Nothing is drawn for a batch that begins with something else.
  defp take([{_from, {:append, _id, draft, nil}} | _] = requests, in_memory, ctx) when elem(draft, 0) == nil,
    do: take(requests, in_memory, :crypto.strong_rand_bytes(26 * length(requests)), ctx, {%{}, []})

  defp take(_requests, _in_memory, _ctx), do: :other

  @spec take([EventSeal.Batch.request()], flows, binary, map, {flows, replies}) :: {:ok, flows, replies} | :other
  defp take([], _in_memory, <<>>, _ctx, {flows, replies}), do: {:ok, flows, replies}

  defp take([{from, {:append, id, draft, nil}} | requests], in_memory, random, ctx, {flows, replies})
       when elem(draft, 0) == nil do
    <<own::binary-26, random::binary>> = random

    with %Flow{} = flow <- taken_up(flows, in_memory, id),
         {:ok, flow, receipt} <- Requests.append(flow, draft, nil, own, ctx) do
      take(requests, in_memory, random, ctx, {Map.put(flows, id, flow), [{from, {:ok, receipt}} | replies]})
    else
      _ -> :other
    end
  end

  defp take(_requests, _in_memory, _random, _ctx, _taken), do: :other

  defp taken_up(flows, in_memory, id) do
    case flows do
      %{^id => flow} -> flow
      _ -> with %{^id => %{waiting: 0} = flow} <- in_memory, do: Flow.begin(flow, %{})
    end
  end

  defp settle(flows, ctx) do
    asked = Map.to_list(flows)

    with {:ok, settled} <-
           asked |> Enum.map(fn {_id, flow} -> {flow.chain, Stages.drafts(flow)} end) |> Chain.settle_drafts() do
      {:ok, asked |> Enum.zip_with(settled, &settled(&1, &2, ctx)) |> Map.new()}
    end
  end

  defp settled({id, flow}, {chain, runs}, ctx), do: {id, Stages.taken(flow, chain, runs, ctx)}
end
