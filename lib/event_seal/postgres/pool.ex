defmodule EventSeal.Postgres.Pool do
  @moduledoc false
  # Who may use which connection. Jobs wait here, first come, first served, until one is free or their time is over; each
  # connection answers their callers itself.

  use GenServer
  alias EventSeal.Postgres.{Connection, Error, Session}

  # Waiting does not help where we are not let in, where there is no such database, or where somebody else answers.
  @hopeless ["28000", "28P01", "3D000", "08P01"]

  defstruct free: [], busy: %{}, waiting: :queue.new(), known: MapSet.new(), last: nil

  @doc false
  def start_link(name), do: GenServer.start_link(__MODULE__, nil, name: name)

  @doc "Runs a job. It waits for a connection and for its answer `timeout` ms, then for the answer to its cancelling."
  @spec run(atom, Session.job(), pos_integer) :: Session.outcome()
  def run(name, job, timeout) do
    GenServer.call(name, {:run, job, now() + timeout}, :infinity)
  catch
    :exit, _ -> {:error, Error.new("08007", "the client was stopped")}
  end

  @impl true
  def init(nil) do
    Process.flag(:sensitive, true)
    {:ok, %__MODULE__{}}
  end

  @impl true
  def handle_call({:run, job, until}, from, %{free: []} = state) do
    if hopeless?(state) do
      {:reply, {:error, state.last}, state}
    else
      timer = Process.send_after(self(), {:late, from}, max(until - now(), 0))
      {:noreply, %{state | waiting: :queue.in({from, job, until, timer}, state.waiting)}}
    end
  end

  def handle_call({:run, job, until}, from, %{free: [connection | free]} = state),
    do: {:noreply, give(%{state | free: free}, connection, from, job, until)}

  defp give(state, connection, from, job, until) do
    Connection.ask(connection, from, job, until)
    %{state | busy: Map.put(state.busy, connection, from)}
  end

  @impl true
  def handle_info({:free, connection}, state) do
    state = %{know(state, connection) | busy: Map.delete(state.busy, connection), last: nil}
    {:noreply, next(%{state | free: [connection | List.delete(state.free, connection)]})}
  end

  # Whatever it was doing, it has answered for.
  def handle_info({:lost, connection, error}, state) do
    state = know(%{forget(state, connection) | last: error}, connection)
    {:noreply, if(hopeless?(state), do: refuse(state), else: state)}
  end

  def handle_info({:again, from, job, until}, state) do
    case handle_call({:run, job, until}, from, state) do
      {:noreply, _state} = waits ->
        waits

      {:reply, reply, state} ->
        GenServer.reply(from, reply)
        {:noreply, state}
    end
  end

  def handle_info({:late, from}, state) do
    why = if state.last, do: state.last, else: Error.new("08001", "all connections are in use")
    {late, waiting} = state.waiting |> :queue.to_list() |> Enum.split_with(&(elem(&1, 0) == from))
    for {from, _job, _until, _timer} <- late, do: GenServer.reply(from, {:error, why})
    {:noreply, %{state | waiting: :queue.from_list(waiting)}}
  end

  def handle_info({:DOWN, _ref, :process, connection, _reason}, state) do
    if from = state.busy[connection],
      do: GenServer.reply(from, {:error, Error.new("08007", "the connection's process died")})

    {:noreply, %{forget(state, connection) | known: MapSet.delete(state.known, connection)}}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)

  def format_status(status) do
    Map.new(status, fn
      {:state, %{free: free, busy: busy}} -> {:state, %{free: length(free), busy: map_size(busy)}}
      {:log, _} -> {:log, []}
      {key, _} when key in [:message, :state] -> {key, :not_shown}
      other -> other
    end)
  end

  defp know(state, connection) do
    unless connection in state.known, do: Process.monitor(connection)
    %{state | known: MapSet.put(state.known, connection)}
  end

  defp forget(state, connection),
    do: %{state | free: List.delete(state.free, connection), busy: Map.delete(state.busy, connection)}

  defp next(%{free: [connection | free]} = state) do
    case :queue.out(state.waiting) do
      {{:value, {from, job, until, timer}}, waiting} ->
        Process.cancel_timer(timer)
        give(%{state | free: free, waiting: waiting}, connection, from, job, until)

      {:empty, _waiting} ->
        state
    end
  end

  defp hopeless?(%{last: %Error{code: code}} = state),
    do: code in @hopeless and state.free == [] and state.busy == %{}

  defp hopeless?(_state), do: false

  defp refuse(state) do
    for {from, _job, _until, timer} <- :queue.to_list(state.waiting) do
      Process.cancel_timer(timer)
      GenServer.reply(from, {:error, state.last})
    end

    %{state | waiting: :queue.new()}
  end

  defp now, do: System.monotonic_time(:millisecond)
end
