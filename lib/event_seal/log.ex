defmodule EventSeal.Log do
  @moduledoc """
  The process that signs checkpoints of the store-wide log (FORMAT.md, "Log"), on a schedule and when asked.

  A block's leaf is committed with the block. At a checkpoint a leaf is added for the tail of each flow whose last position
  has changed since the checkpoint before; then the root over all leaves is signed and kept. It reads flows from the store
  and never asks a writer; writers only note which flows have changed. After a start nobody has noted anything, so the
  first checkpoint looks at every flow.

  It signs nothing that does not extend what was signed before: if the stored leaves do not have the root of the last
  checkpoint any more, it refuses, and sets the alarm `{EventSeal.Log, name}`.
  """
  use GenServer

  require Logger
  alias EventSeal.{Apart, Chain, Checkpoint, Error, Heads, Instance, Native, Reader, Record, Signer, Stamp, Store}
  alias EventSeal.Log.Tree
  alias EventSeal.Stamp.Kept

  @commit 1_000

  @doc false
  def child_spec(name), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [name]}}

  @doc false
  def start_link(name), do: GenServer.start_link(__MODULE__, name, name: name(name))

  defp name(name), do: Module.concat(name, "Log")

  @doc "Signs a checkpoint now, or returns the last one if nothing was added to the log since."
  @spec checkpoint(Instance.t()) :: {:ok, Checkpoint.t()} | {:error, Error.t()}
  def checkpoint(instance), do: call(instance, :checkpoint)

  @doc "Adds signature lines of witnesses to the last checkpoint; those that do not hold under the policy are refused."
  @spec add_cosignatures(Instance.t(), String.t(), keyword) :: {:ok, Checkpoint.t()} | {:error, Error.t()}
  def add_cosignatures(instance, lines, policy), do: call(instance, {:add, lines, policy})

  @doc "What an authority is asked to stamp; `EventSeal.stamp_request/2`."
  @spec stamp_request(Instance.t(), keyword) :: {:ok, binary} | {:error, Error.t()}
  def stamp_request(instance, opts), do: call(instance, {:stamp_request, opts})

  @doc "Keeps an authority's answer with the checkpoint that it is of, if it holds; `EventSeal.add_stamp/4`."
  @spec add_stamp(Instance.t(), binary, binary, Stamp.anchors()) :: {:ok, Stamp.t()} | {:error, Error.t()}
  def add_stamp(instance, request, response, anchors), do: call(instance, {:stamp, request, response, anchors})

  @doc "The tree, and the last checkpoint (or nil)."
  @spec tree(Instance.t()) :: {:ok, Tree.t(), Checkpoint.t() | nil} | {:error, Error.t()}
  def tree(instance), do: call(instance, :tree)

  @doc "How far the last checkpoint covers a flow: `EventSeal.coverage/2`."
  @spec coverage(Instance.t(), Store.flow()) :: {:ok, map} | {:error, Error.t()}
  def coverage(%{store: store} = instance, flow) do
    with {:ok, tree, last} <- tree(instance),
         {:ok, head} <- Store.head(store, flow),
         {:ok, chain} <- Chain.restore(head.genesis, nil, nil, []),
         size = if(last, do: last.size),
         {:ok, covered} <- Tree.covered(tree, store, chain.digest, size || 0) do
      n = head.fixed + Record.settled_count(head.entries)
      {:ok, %{n: n, covered: covered, checkpoint: size}}
    end
  end

  defp call(instance, what) do
    if instance.options[:checkpoints],
      do: GenServer.call(name(instance.name), what, :infinity),
      else: {:error, Error.new(:invalid, field: :checkpoints, rule: "must name a signer when the tree is started")}
  catch
    :exit, _ -> {:error, Error.new(:storage, detail: "the log is not running")}
  end

  @impl true
  def init(name) do
    instance = Instance.fetch!(name)
    {module, argument} = instance.options[:checkpoints][:signer]

    case Signer.open(module, argument) do
      {:ok, signer} ->
        state = %{
          instance: instance,
          store: instance.store,
          signer: signer,
          tree: nil,
          last: nil,
          all: true,
          refuses: nil
        }

        {:ok, state, {:continue, :open}}

      {:error, error} ->
        {:stop, error}
    end
  end

  @impl true
  def handle_continue(:open, state) do
    schedule(state)

    case Reader.reading(fn -> open(state) end) do
      {:ok, state} -> {:noreply, state}
      {:error, error} -> {:noreply, refuse(state, error)}
    end
  end

  defp open(state) do
    with {:ok, tree} <- Tree.open(state.store),
         {:ok, last} <- Checkpoint.last(state.store),
         :ok <- extends(tree, state.store, last),
         do: {:ok, %{state | tree: tree, last: last}}
  end

  defp extends(_tree, _store, nil), do: :ok

  defp extends(tree, store, %{size: size, root: root}) do
    case Tree.root(tree, store, size) do
      {:ok, ^root} -> :ok
      {:error, %Error{reason: :storage}} = error -> error
      _other -> {:error, Error.new(:corrupt, detail: "the log is not what the last checkpoint says")}
    end
  end

  # Nothing is signed any more; a person has to look, and to start the tree again.
  defp refuse(state, error) do
    Logger.error("EventSeal #{inspect(state.instance.name)} signs no checkpoints: #{Exception.message(error)}")

    if Process.whereis(:alarm_handler),
      do: :alarm_handler.set_alarm({{__MODULE__, state.instance.name}, error.reason})

    %{state | refuses: error}
  end

  @impl true
  def handle_call(_what, _from, %{refuses: %Error{} = error} = state), do: {:reply, {:error, error}, state}
  def handle_call(:tree, _from, state), do: {:reply, {:ok, state.tree, state.last}, state}

  def handle_call(:checkpoint, _from, state) do
    case sign(state) do
      {:ok, state} -> {:reply, {:ok, state.last}, state}
      {:error, error, state} -> {:reply, {:error, error}, state}
    end
  end

  def handle_call({:add, _lines, _policy}, _from, %{last: nil} = state) do
    {:reply, {:error, Error.new(:not_found, detail: "no checkpoint was signed yet")}, state}
  end

  def handle_call({:add, lines, policy}, _from, %{last: last} = state) do
    witnesses = Keyword.fetch!(policy, :witnesses)

    with {:ok, note} <- Signer.native(Native.note_with(last.note, lines)),
         {:ok, checkpoint} <- Checkpoint.open(note, key: last.key, witnesses: witnesses, quorum: policy[:quorum] || 1),
         {:ok, state} <- keep(state, {:ok, checkpoint}) do
      {:reply, {:ok, checkpoint}, state}
    else
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  def handle_call({:stamp_request, opts}, _from, state),
    do: {:reply, Reader.reading(fn -> Kept.request(state.store, opts) end), state}

  def handle_call({:stamp, request, response, anchors}, _from, state) do
    case Reader.reading(fn -> Kept.add(state.store, request, response, anchors) end) do
      {:ok, stamp, last} -> {:reply, {:ok, stamp}, %{state | last: last}}
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  @impl true
  def handle_info(:sign, %{refuses: nil} = state) do
    schedule(state)

    case sign(state) do
      {:ok, state} ->
        {:noreply, state}

      {:error, error, state} ->
        Logger.error("EventSeal #{inspect(state.instance.name)}: no checkpoint: #{Exception.message(error)}")
        {:noreply, state}
    end
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp schedule(%{instance: %{options: options, clock: {clock, argument}}}) do
    every = options[:checkpoints][:every]
    if every != :infinity, do: clock.send_after(argument, self(), :sign, every * 1_000)
  end

  defp sign(state) do
    {flows, state} = changed(state)

    with {:ok, state} <- reading(fn -> tails(state, flows) end, state),
         {:ok, state} <- reading(fn -> key_change(state) end, state) do
      reading(fn -> sign_root(state) end, state)
    else
      # Which flows have changed is not known any more.
      {:error, error, state} -> {:error, error, %{state | all: true}}
    end
  end

  defp reading(fun, state) do
    with {:error, error} <- Reader.reading(fun), do: {:error, error, state}
  end

  # A flow that changes from here on is noted again, if it is this tree that changes it.
  defp changed(%{all: true} = state) do
    Instance.changed(state.instance)
    {Reader.flows(state.store, after: nil, page: @commit), %{state | all: Store.shared?(state.store)}}
  end

  defp changed(state), do: {Instance.changed(state.instance), state}

  defp tails(state, flows) do
    flows
    |> Stream.flat_map(&tail(state, &1))
    |> Stream.chunk_every(@commit)
    |> Enum.reduce_while({:ok, state}, fn leaves, {:ok, state} ->
      case Store.commit(state.store, for(leaf <- leaves, do: {:leaf, leaf})) do
        :ok -> {:cont, {:ok, state}}
        {:error, _} = error -> {:halt, error}
      end
    end)
    |> then(fn outcome ->
      with {:ok, state} <- outcome, {:ok, _tree} <- Tree.follow(state.tree, state.store), do: outcome
    end)
  end

  # What cannot be read is a fault for the verification to name; the others' tails are no less true.
  defp tail(state, flow) do
    case Heads.of(state.store, flow) do
      {:ok, {chain, %{n: n, provisional: provisional}}} when n > 0 ->
        if n > Tree.tail(state.tree, chain.digest),
          do: [Native.tail_leaf(chain.suite, chain.digest, n, provisional)],
          else: []

      {:error, %Error{reason: reason} = error} when reason not in [:corrupt, :malformed, :not_found] ->
        raise error

      _nothing ->
        []
    end
  end

  defp key_change(%{last: %{key: old}, signer: {_module, _state, new}} = state) when old != new do
    with :ok <- Store.commit(state.store, [{:leaf, Native.key_change_leaf(old, new)}]), do: {:ok, state}
  end

  defp key_change(state), do: {:ok, state}

  defp sign_root(%{signer: {_module, _state, key}} = state) do
    with {:ok, tree} <- Tree.follow(state.tree, state.store) do
      case {Tree.head(tree), state.last} do
        {{size, root}, %{size: size, root: root, key: ^key}} -> {:ok, state}
        {{size, root}, _last} -> keep(state, signed(state, size, root))
      end
    end
  end

  # What it covers is in the verification store by then, where there is one that works: what that lacks of it later was
  # taken from it.
  defp signed(state, size, root) do
    Apart.sync(state.instance)
    Signer.checkpoint(state.signer, size, root)
  end

  defp keep(state, signed) do
    with {:ok, checkpoint} <- signed,
         :ok <- Store.commit(state.store, [{:checkpoint, Checkpoint.pack(checkpoint)}]),
         do: {:ok, %{state | last: checkpoint}}
  end
end
