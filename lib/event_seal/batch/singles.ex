defmodule EventSeal.Batch.Singles do
  @moduledoc """
  The commonest batch on a short way: single events, new for certain, each to a flow of its own that is in memory and lets
  nothing wait in a pool.

  Nothing has to be looked up, packed or let go for them, so the steps of `EventSeal.Batch` that do so are left out. What
  becomes of each flow is the same: the same functions do it.
  """

  alias EventSeal.{Chain, Error, Flow, Receipt}
  alias EventSeal.Flow.{Requests, Stages}

  @type asked :: {String.t(), Flow.t(), {from :: term, {:ok, Receipt.t()}}}

  @doc "The flows as they would be, and the replies, newest first; `:other` if a request is of another kind."
  @spec run(%{optional(String.t()) => Flow.t()}, [EventSeal.Batch.request()], map) ::
          {:ok, %{optional(String.t()) => Flow.t()}, [{term, term}]} | {:error, Error.t()} | :other
  def run(in_memory, requests, ctx) do
    with true <- ctx.window == 0 and not Map.get(ctx, :signs, false),
         {:ok, asked} <- take(requests, in_memory, ctx),
         true <- each_alone?(asked),
         {:ok, settled} <- settle(asked) do
      {:ok, taken(asked, settled, ctx), Enum.map(asked, &elem(&1, 2))}
    else
      {:error, error} -> {:error, error}
      _ -> :other
    end
  end

  # Nothing is drawn for a batch that begins with something else.
  defp take([{_from, {:append, _id, draft, nil}} | _] = requests, in_memory, ctx) when elem(draft, 0) == nil,
    do: take(requests, in_memory, :crypto.strong_rand_bytes(26 * length(requests)), ctx, [])

  defp take(_requests, _in_memory, _ctx), do: :other

  @spec take([EventSeal.Batch.request()], map, binary, map, [asked]) :: {:ok, [asked]} | :other
  defp take([], _in_memory, <<>>, _ctx, asked), do: {:ok, asked}

  defp take([{from, {:append, id, draft, nil}} | requests], in_memory, random, ctx, asked) when elem(draft, 0) == nil do
    <<own::binary-26, random::binary>> = random

    with %{^id => %{waiting: 0} = flow} <- in_memory,
         {:ok, flow, receipt} <- flow |> Flow.begin(%{}) |> Requests.append(draft, nil, own, ctx) do
      take(requests, in_memory, random, ctx, [{id, flow, {from, {:ok, receipt}}} | asked])
    else
      _ -> :other
    end
  end

  defp take(_requests, _in_memory, _random, _ctx, _asked), do: :other

  defp each_alone?([_]), do: true
  defp each_alone?(asked), do: asked |> Map.new(fn {id, _flow, _reply} -> {id, true} end) |> map_size() == length(asked)

  defp settle(asked),
    do: asked |> Enum.map(fn {_id, flow, _} -> {flow.chain, Stages.drafts(flow)} end) |> Chain.settle_drafts()

  defp taken(asked, settled, ctx) do
    asked
    |> Enum.zip_with(settled, fn {id, flow, _reply}, {chain, runs} -> {id, Stages.taken(flow, chain, runs, ctx)} end)
    |> Map.new()
  end
end
