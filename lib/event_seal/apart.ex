defmodule EventSeal.Apart do
  @moduledoc """
  The process that keeps a verification store apart (option `:verification`): in another folder, on another host, under
  other credentials, it holds of each block what verifies it (`EventSeal.Kept`), and the same log and checkpoints.

  It follows the events' store and never stands in its way: blocks are sealed and appends answered whether or not the
  verification store takes its part. What that lacks is counted (`EventSeal.health/1`), brought over when it can be, also
  after a crash; a failure, or a part that is a minute late, sets the alarm `{EventSeal.Apart, name}` and emits
  `[:event_seal, :apart, :fault]`. A checkpoint is signed when all that it covers is apart, if that can be.

  So what a verification store lacks beyond the last checkpoint is what it has not got yet. One that lacks more when the tree
  starts is not late but lost, or was cut: nothing is copied into it, since the events' store would then vouch for itself. `EventSeal.Rebuild`
  makes a new one, from events that were verified, on record.
  """
  use GenServer

  require Logger
  alias EventSeal.{Checkpoint, Error, Instance, Reader, Store, Telemetry}
  alias EventSeal.Apart.Copy

  @look 200
  @retry 2_000
  # A note of a block comes just after the block: so often it is waited for before every flow is looked at.
  @tries 20
  @pause 5
  # What a crash may leave behind; beyond that, and beyond the last checkpoint, it is a loss.
  @most 100_000
  @late 60_000_000

  @doc false
  def child_spec(name) do
    start = {Supervisor, :start_link, [[own_spec(name)], [strategy: :one_for_one, max_restarts: 100]]}
    %{id: __MODULE__, start: start, type: :supervisor}
  end

  defp own_spec(name), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [name]}, shutdown: 60_000}

  @doc false
  def start_link(name), do: GenServer.start_link(__MODULE__, name, name: name(name))

  defp name(name), do: Module.concat(name, "Apart")

  @doc "Brings over what the events' store has now. An error says why it could not be; it is known to the alarm already."
  @spec sync(Instance.t()) :: :ok | {:error, Error.t()}
  def sync(%{apart: nil}), do: :ok
  def sync(instance), do: call(instance, :sync)

  @doc "How the verification store stands; see `EventSeal.health/1`."
  @spec health(Instance.t()) :: map
  def health(instance) do
    with {:error, error} <- call(instance, :health), do: %{leaves: nil, behind: nil, since: nil, error: error}
  end

  defp call(instance, what) do
    GenServer.call(name(instance.name), what, 30_000)
  catch
    :exit, _ -> {:error, Error.new(:storage, detail: "the verification store is not followed")}
  end

  @impl true
  def init(name) do
    # Whatever becomes of the verification store, what follows the events' store goes on.
    Process.flag(:trap_exit, true)
    instance = Instance.fetch!(name)
    state = %{instance: instance, store: instance.store, apart: instance.apart, holder: nil, all: true, tries: 0}

    state =
      Map.merge(state, %{
        floor: 0,
        refused: [],
        ahead: MapSet.new(),
        leaves: nil,
        checkpoints: nil,
        behind: 0,
        since: nil,
        error: nil
      })

    {:ok, state, {:continue, :look}}
  end

  @impl true
  def handle_continue(:look, state) do
    # What was covered when the tree started: what is signed while the verification store is away is not there yet.
    covered = Reader.reading(fn -> Checkpoint.last(state.store) end)
    {:noreply, schedule(%{state | floor: with({:ok, %{size: size}} <- covered, do: size, else: (_none -> 0))})}
  end

  @impl true
  def handle_info(:look, state), do: {:noreply, state |> follow(1) |> schedule()}

  def handle_info({:EXIT, holder, _reason}, %{holder: holder} = state),
    do: {:noreply, failed(%{state | holder: nil}, Error.new(:storage, detail: "the verification store stopped"))}

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  # A writer that gets no time to note what it has sealed is waited for: what is signed next must not be ahead of this.
  def handle_call(:sync, _from, state) do
    state = follow_up(state, 200 * @tries)
    {:reply, if(state.error, do: {:error, state.error}, else: :ok), state}
  end

  def handle_call(:health, _from, state),
    do: {:reply, Map.take(state, [:leaves, :behind, :since, :error]), state}

  @impl true
  def terminate(_reason, state) do
    %{holder: holder} = follow_up(state, 3 * @tries)
    if holder, do: Supervisor.stop(holder)
  end

  # A flow's id is a patient's.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)
  def format_status(status), do: Map.replace_lazy(status, :state, &Map.take(&1, [:leaves, :behind, :since, :error]))

  # After a start too: were it to die each time that it looks, it would not take the tree along.
  defp schedule(%{instance: %{clock: {clock, argument}}} = state) do
    clock.send_after(argument, self(), :look, if(state.error, do: @retry, else: @look) * 1_000)
    state
  end

  # Once, or until so many leaves are over.
  defp follow(state, tries, leaves \\ 0) do
    with {:ok, state} <- opened(state),
         {:ok, state} <- Reader.reading(fn -> copy(state) end) do
      state = if state.refused == [], do: stands(state), else: failed(state, state.refused |> hd() |> elem(1))

      if state.leaves < leaves and tries > 1 do
        Process.sleep(@pause)
        follow(state, tries - 1, leaves)
      else
        state
      end
    else
      {:error, error} -> failed(state, error)
    end
  end

  # What is there now.
  defp follow_up(state, tries) do
    case Reader.reading(fn -> Store.log(state.store, :size) end) do
      {:ok, %{leaves: leaves}} -> follow(state, tries, leaves)
      {:error, error} -> failed(state, error)
    end
  end

  defp opened(%{holder: nil, instance: instance} = state) do
    {module, opts} = instance.options[:verification]

    case Supervisor.start_link([module.child_spec({instance.apart.name, opts})], strategy: :one_for_one) do
      {:ok, holder} -> {:ok, %{state | holder: holder, all: true}}
      {:error, reason} -> {:error, reason_of(reason)}
    end
  end

  defp opened(state), do: {:ok, state}

  defp reason_of(%Error{} = error), do: error
  defp reason_of({:shutdown, {:failed_to_start_child, _id, reason}}), do: reason_of(reason)
  defp reason_of(_other), do: Error.new(:storage, detail: "the verification store could not start")

  defp copy(state) do
    with {:ok, kept} <- Store.log(state.apart, :size),
         {:ok, there} <- Store.log(state.store, :size),
         :ok <- right(state, kept, there),
         {:ok, state} <- blocks(%{state | all: state.all and kept.leaves != there.leaves}),
         {:ok, leaves, hashes} <- Copy.leaves(state.store, state.apart, kept.leaves, there.leaves, known(state)),
         {:ok, checkpoints} <- Copy.checkpoints(state.store, state.apart, kept.checkpoints, leaves) do
      state = %{state | ahead: MapSet.difference(state.ahead, MapSet.new(hashes)), leaves: leaves}
      state = %{state | checkpoints: checkpoints, behind: there.leaves - leaves}
      {:ok, if(state.behind == 0, do: %{state | tries: 0, all: false}, else: wait(state))}
    end
  end

  # Where no leaf is missing no block is: it is there before its leaf. Of blocks that were there before the flows were looked
  # at, all are copied then.
  defp known(%{all: true}), do: fn _hash -> true end
  defp known(%{ahead: ahead}), do: &MapSet.member?(ahead, &1)

  # Whoever seals notes the flow when the block is there; should it die in between, every flow is looked at.
  defp wait(%{tries: tries} = state) when tries < @tries, do: %{state | tries: tries + 1, all: false}
  defp wait(state), do: %{state | tries: 0, all: true}

  defp blocks(%{all: true} = state) do
    Instance.sealed(state.instance)
    copied(state, Copy.all(state.store))
  end

  # What could not be copied is tried again.
  defp blocks(state), do: copied(state, Enum.map(state.refused, &elem(&1, 0)) ++ Instance.sealed(state.instance))

  defp copied(state, flows) do
    with {:ok, hashes, refused} <- Copy.flows(state.store, state.apart, flows),
         do: {:ok, %{state | ahead: MapSet.union(state.ahead, hashes), refused: Enum.uniq(refused)}}
  end

  # What was there when this process looked last must be there still, and at first whatever a crash cannot have taken.
  defp right(%{leaves: nil} = state, kept, there) do
    cond do
      kept.leaves > there.leaves or kept.checkpoints > there.checkpoints ->
        {:error, Error.new(:corrupt, detail: "the events' store has lost what the verification store has")}

      kept.leaves < state.floor ->
        lost("it lacks what a checkpoint covers")

      there.leaves - kept.leaves > @most ->
        lost("it lacks more than a crash leaves")

      true ->
        same(state, kept.leaves)
    end
  end

  defp right(%{leaves: leaves, checkpoints: checkpoints}, %{leaves: leaves, checkpoints: checkpoints}, _there),
    do: :ok

  # A commit whose outcome was not known may have been done.
  defp right(%{error: %Error{}, leaves: leaves} = state, kept, _there) when kept.leaves >= leaves,
    do: same(state, kept.leaves)

  defp right(_state, _kept, _there), do: lost("it has not what it had")

  defp lost(why), do: {:error, Error.new(:corrupt, detail: "the verification store: #{why}; see EventSeal.Rebuild")}

  defp same(_state, 0), do: :ok

  defp same(state, leaves) do
    with {:ok, kept} <- Store.log(state.apart, {:leaves, leaves - 1, 1}),
         {:ok, there} <- Store.log(state.store, {:leaves, leaves - 1, 1}) do
      if kept == there, do: :ok, else: {:error, Error.new(:corrupt, detail: "the two stores' logs differ")}
    end
  end

  defp stands(%{instance: instance} = state) do
    now = Instance.tick(instance)
    since = if state.behind > 0, do: state.since || now
    late? = since != nil and now - since > @late

    cond do
      late? and state.error == nil -> failed(%{state | since: since}, Error.new(:timeout, detail: "a part is late"))
      late? -> %{state | since: since}
      true -> recovered(%{state | since: since})
    end
  end

  defp recovered(%{error: nil} = state), do: state

  defp recovered(state) do
    if Process.whereis(:alarm_handler), do: :alarm_handler.clear_alarm(alarm(state))
    %{state | error: nil}
  end

  # Which flows were noted is not known any more.
  defp failed(%{error: error} = state, error),
    do: %{state | all: true, since: state.since || Instance.tick(state.instance)}

  defp failed(state, error) do
    Logger.error("EventSeal #{inspect(state.instance.name)}, verification store: #{Exception.message(error)}")
    Telemetry.execute([:event_seal, :apart, :fault], %{}, %{name: state.instance.name, reason: error.reason})

    if Process.whereis(:alarm_handler) do
      if state.error, do: :alarm_handler.clear_alarm(alarm(state))
      :alarm_handler.set_alarm({alarm(state), error.reason})
    end

    %{state | error: error, all: true, since: state.since || Instance.tick(state.instance)}
  end

  defp alarm(state), do: {__MODULE__, state.instance.name}
end
