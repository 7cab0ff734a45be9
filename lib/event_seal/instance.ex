defmodule EventSeal.Instance do
  @moduledoc """
  One running tree: its store, its options, and where its writers are. The process owns the table of writers, no more.

  What waits at a writer is counted by its callers, in a counter that the writer brings with it: when it dies, what it was
  waiting for is gone, and the count with it. What is held unsealed each writer says of itself.
  """
  use GenServer

  alias EventSeal.{Error, Store}

  @enforce_keys [:name, :store, :apart, :options, :clock, :writers, :table, :changed, :sealed, :last, :held]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          name: atom,
          store: Store.t(),
          apart: Store.t() | nil,
          options: keyword,
          clock: EventSeal.Clock.t(),
          writers: pos_integer,
          table: atom,
          changed: :ets.table() | nil,
          sealed: :ets.table() | nil,
          last: :atomics.atomics_ref(),
          held: :atomics.atomics_ref()
        }

  @doc "The name under which an instance's store runs."
  @spec store_name(atom) :: atom
  def store_name(name), do: Module.concat(name, "Store")

  @doc false
  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @doc "The running instance of this name; ArgumentError if none was ever started."
  @spec fetch!(atom) :: t
  def fetch!(name) do
    with nil <- :persistent_term.get({__MODULE__, name}, nil) do
      raise ArgumentError, "no EventSeal runs under the name #{if is_atom(name), do: inspect(name), else: "given"}"
    end
  end

  @doc "Which writer a flow belongs to, 0 to `writers` − 1."
  @spec owner(t, String.t()) :: non_neg_integer
  def owner(instance, flow), do: rem(Store.shard(flow), instance.writers)

  @doc "The shards of a writer."
  @spec shards(t, non_neg_integer) :: [0..1023]
  def shards(instance, index), do: Enum.take_every(index..(Store.shards() - 1)//1, instance.writers)

  @doc "Where a writer is, and the counter of what waits there (1: events, 2: bytes)."
  @spec writer(t, non_neg_integer) :: {:ok, pid, :counters.counters_ref()} | {:error, Error.t()}
  def writer(instance, index) do
    case :ets.lookup(instance.table, index) do
      [{_index, pid, waiting}] -> {:ok, pid, waiting}
      [] -> gone()
    end
  rescue
    # The table goes with its owner, when the tree stops or restarts.
    ArgumentError -> gone()
  end

  @doc "A writer, as it starts, says where it is."
  @spec enlist(t, non_neg_integer, :counters.counters_ref()) :: true
  def enlist(instance, index, waiting), do: :ets.insert(instance.table, {index, self(), waiting})

  @doc "A writer says how many events and bytes it holds unsealed."
  @spec hold(t, non_neg_integer, {non_neg_integer, non_neg_integer}) :: :ok
  def hold(instance, index, {events, bytes}) do
    :atomics.put(instance.held, 2 * index + 1, events)
    :atomics.put(instance.held, 2 * index + 2, bytes)
  end

  @doc """
  Counts events and bytes in at a writer, or refuses them: if too much waits there, or, for a request that `grows?` it, if
  too much is held unsealed.
  """
  @spec admit(t, :counters.counters_ref(), pos_integer, non_neg_integer, boolean) :: :ok | {:error, Error.t()}
  def admit(instance, waiting, events, bytes, grows?) do
    :counters.add(waiting, 1, events)
    :counters.add(waiting, 2, bytes)

    cond do
      # Waiting would not help it.
      over?(instance.options[:queue], events, bytes) ->
        refuse(waiting, events, bytes, "queue: this request alone is more than it takes")

      over?(instance.options[:queue], :counters.get(waiting, 1), :counters.get(waiting, 2)) ->
        refuse(waiting, events, bytes, "queue")

      grows? and full?(instance, events, bytes) ->
        refuse(waiting, events, bytes, "pool")

      true ->
        :ok
    end
  end

  @doc "Counts out what a writer has answered."
  @spec leave(:counters.counters_ref(), non_neg_integer, non_neg_integer) :: :ok
  def leave(waiting, events, bytes) do
    :counters.sub(waiting, 1, events)
    :counters.sub(waiting, 2, bytes)
  end

  @doc "A writer notes that positions were taken in a flow: its tail belongs in the log."
  @spec note(t, String.t()) :: true
  def note(%{changed: nil}, _flow), do: true
  def note(%{changed: changed}, flow), do: :ets.insert(changed, {flow})

  @doc "The flows that were noted since this was asked last."
  @spec changed(t) :: [String.t()]
  def changed(%{changed: changed}), do: taken(changed)

  @doc "A writer notes that a block of a flow was sealed: its part belongs in the verification store."
  @spec note_sealed(t, String.t()) :: true
  def note_sealed(%{sealed: nil}, _flow), do: true
  def note_sealed(%{sealed: sealed}, flow), do: :ets.insert(sealed, {flow})

  @doc "The flows of which that was noted since this was asked last."
  @spec sealed(t) :: [String.t()]
  def sealed(%{sealed: sealed}), do: taken(sealed)

  defp taken(table) do
    flows = for {flow} <- :ets.tab2list(table), do: flow
    for flow <- flows, do: :ets.delete(table, flow)
    flows
  end

  @doc "The store's time: the clock's, but never before what it was."
  @spec now(t) :: integer
  def now(%{clock: {module, argument}} = instance), do: forward(instance.last, module.now(argument))

  @doc "Notes whether the alarm is set; whether it was before."
  @spec alarm(t, boolean) :: boolean
  def alarm(instance, set?), do: :atomics.exchange(instance.last, 2, if(set?, do: 1, else: 0)) == 1

  @doc "The clock's monotonic time."
  @spec tick(t) :: integer
  def tick(%{clock: {module, argument}}), do: module.monotonic(argument)

  @impl true
  def init(options) do
    name = options[:name]
    table = Module.concat(name, "Writers")
    :ets.new(table, [:named_table, :public, read_concurrency: true])
    writers = options[:writers] || 2 * System.schedulers_online()
    {module, _opts} = options[:store]

    :persistent_term.put({__MODULE__, name}, %__MODULE__{
      name: name,
      store: Store.handle(module, store_name(name)),
      apart: apart(name, options[:verification]),
      options: options,
      clock: options[:clock],
      writers: writers,
      table: table,
      changed: noted(options[:checkpoints]),
      sealed: noted(options[:verification]),
      last: last(name),
      held: :atomics.new(2 * writers, signed: false)
    })

    {:ok, nil}
  end

  defp apart(_name, nil), do: nil
  defp apart(name, {module, _opts}), do: Store.handle(module, Module.concat(name, "Verification"))

  defp noted(nil), do: nil
  defp noted(_asked), do: :ets.new(:noted, [:public, write_concurrency: true])

  # The alarm outlives the tree that set it, in this VM; so must the note of it, or nothing clears it.
  defp last(name) do
    last = :atomics.new(2, signed: true)
    with %{last: before} <- :persistent_term.get({__MODULE__, name}, nil), do: copy_alarm(before, last)
    last
  end

  defp copy_alarm(before, last), do: :atomics.put(last, 2, :atomics.get(before, 2))

  defp full?(instance, events, bytes) do
    {events, bytes} =
      Enum.reduce(1..instance.writers, {events, bytes}, fn index, {events, bytes} ->
        {events + :atomics.get(instance.held, 2 * index - 1), bytes + :atomics.get(instance.held, 2 * index)}
      end)

    over?(instance.options[:pool], events, bytes)
  end

  defp over?(limits, events, bytes), do: events > limits[:max_events] or bytes > limits[:max_bytes]

  defp refuse(waiting, events, bytes, what) do
    leave(waiting, events, bytes)
    {:error, Error.new(:overloaded, detail: what)}
  end

  defp forward(last, now) do
    case :atomics.get(last, 1) do
      before when before >= now ->
        before

      before ->
        if :atomics.compare_exchange(last, 1, before, now) == :ok, do: now, else: forward(last, now)
    end
  end

  defp gone, do: {:error, Error.new(:storage, detail: "the writer is not running; nothing was accepted")}
end
