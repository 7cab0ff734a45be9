defmodule EventSeal.Store.Postgres.Sweeper do
  @moduledoc false
  # Has the journal emptied of what is not needed any more, again and again.

  use GenServer

  require Logger
  alias EventSeal.Store.Postgres.Client

  @sweep "SELECT sweep()"

  @doc false
  def start_link(client, every), do: GenServer.start_link(__MODULE__, {client, every})

  @doc "Sweeps now; how many rows are gone."
  @spec sweep(Client.t()) :: {:ok, non_neg_integer} | {:error, EventSeal.Postgres.Error.t()}
  def sweep(client) do
    with {:ok, [%{rows: [[count]]}]} <- Client.run(client, [{@sweep, []}], timeout: 600_000), do: {:ok, count}
  end

  @impl true
  def init({client, every}), do: {:ok, later(%{client: client, every: every, said: nil})}

  @impl true
  def handle_info(:sweep, state) do
    said =
      case sweep(state.client) do
        {:ok, _count} -> nil
        {:error, error} -> say(Exception.message(error), state.said)
      end

    {:noreply, later(%{state | said: said})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Once for each cause.
  defp say(text, text), do: text

  defp say(text, _before) do
    Logger.warning("EventSeal's journal is not swept: #{text}")
    text
  end

  defp later(state) do
    Process.send_after(self(), :sweep, state.every)
    state
  end
end
