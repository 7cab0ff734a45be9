defmodule EventSeal.Store do
  @moduledoc """
  What keeps the flows: a behaviour of eight callbacks, and the dispatcher through which all of them are called. An adapter whose
  places have names, as a database's rows have, may say them: `survey/3` and `rows/2` are optional.

  An adapter never interprets a frame, a `meta`, a `data` or a block: they are bytes that it gives back as they came. A block is
  a packed container (FORMAT.md), so it may keep a block's sections apart.

  ## A commit

  `commit/2` takes a list of operations, and does all of them or none. When it returns `:ok`, they survive `kill -9` and
  power loss (`EventSeal.Store.Memory` apart). Operations take effect in their order:

    * `{:expect, flow, height | :none}` - a precondition: the flow has that many blocks sealed, or is unknown
    * `{:expect, flow, {:turn, turn}}` - a precondition, where a store is `shared?/1`: nobody has changed the flow since it
      had this turn
    * `{:open, flow, genesis}` - a new flow with its genesis record
    * `{:put, flow, seq, :pool | :tail, meta, data | :keep}` - an entry that is not sealed, under the key `(flow, seq)`.
      `seq` grows along a flow and is never used again. An entry of the pool may be put again, to amend or to settle it;
      `:keep` leaves its data as it is. An entry of the tail is settled: it stays until a block takes it
    * `{:drop, flow, seq, euid}` - an entry of the pool goes, and its euid is spent for ever
    * `{:block, flow, info, block}` - a sealed block (iodata). `info` is `%{height:, first:, count:, through:, when_max:,
      euids:, closes:}`: all entries with a `seq` up to `through` leave, `euids` holds 16 bytes for each event
    * `{:leaf, bytes}`, `{:checkpoint, bytes}` - the next item of the store-wide log

  ## When a commit fails

    * `:stale` - a precondition did not hold, or an operation does not follow from the state (a block out of turn, a `seq`
      used before, a flow opened twice): nothing changed
    * `:not_found` - an operation names a flow that is not there: nothing changed
    * `:closed` - an operation would change a closed flow: nothing changed
    * `:invalid` - the operation is not one of the above: nothing changed
    * `:storage` - the bytes could not be made durable: nothing changed, and the next commit may well succeed
    * `:read_only` - the store refuses every write until it is opened again. Was this the commit that met the fault, its
      detail says that its outcome is unknown: what it held may be there once the store is opened again, or not

  If the store's process is not there or dies, every function exits as `GenServer.call/3` does. Was it a commit, its outcome
  is unknown, and the caller has to start anew from what is stored.
  """

  alias EventSeal.{Error, Fault, Telemetry}
  alias EventSeal.Store.{Head, Piece, Sheaf}

  @enforce_keys [:module, :name]
  defstruct [:module, :name]

  @shards 1024

  @type t :: %__MODULE__{module: module, name: name}
  @type name :: atom
  @type flow :: String.t()
  @type euid :: <<_::128>>
  @type stage :: :pool | :tail
  @type info :: %{
          height: non_neg_integer,
          first: pos_integer,
          count: pos_integer,
          through: non_neg_integer,
          when_max: integer | nil,
          euids: binary,
          closes: boolean
        }
  @type op ::
          {:expect, flow, non_neg_integer | :none | {:turn, non_neg_integer}}
          | {:open, flow, genesis :: binary}
          | {:put, flow, seq :: pos_integer, stage, meta :: binary, data :: binary | :keep}
          | {:drop, flow, seq :: pos_integer, euid}
          | {:block, flow, info, iodata}
          | {:leaf, binary}
          | {:checkpoint, binary}
  @type shards :: Range.t() | [0..1023]
  @type waiting :: %{flow: flow, pool: non_neg_integer, tail: non_neg_integer}
  @type damage :: %{what: atom, file: String.t(), offset: non_neg_integer | nil}
  @type positions :: {from :: pos_integer, to :: pos_integer | :infinity}
  @type log_query ::
          :size
          | {:leaves, from :: non_neg_integer, count :: non_neg_integer}
          | {:checkpoints, non_neg_integer, non_neg_integer}

  @doc "The supervised process, or tree, that holds the store of this name."
  @callback child_spec({name, keyword}) :: Supervisor.child_spec()
  @callback commit(name, [op]) :: :ok | {:error, Error.t()} | {:stale, [flow]}
  @callback recover(name, shards) :: %{waiting: [waiting], damage: [damage]}
  @callback head(name, flow, [euid] | :unsealed) :: {:ok, Head.t()} | {:error, Error.t()}
  @callback blocks(name, flow, positions) :: {:ok, [Piece.t()]} | {:error, Error.t()}
  @callback flows(name, flow | {flow, hint :: term} | nil, pos_integer, :ids | :blocks | :spent) ::
              {:ok, [flow] | [{flow, [Piece.t()] | nil} | Sheaf.t()] | [{flow, [euid]}]} | {:error, Error.t()}
  @callback log(name, log_query) :: {:ok, [binary] | map} | {:error, Error.t()}
  @callback lease(name, shards) :: {:ok, epoch :: pos_integer} | {:error, Error.t()}
  @doc "Whether several trees may write at once; one that does not say so has one."
  @callback shared?() :: boolean
  @callback survey(name, flow | nil, most :: pos_integer) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  @callback rows(name, [Fault.t()]) :: {:ok, [String.t() | nil]} | {:error, Error.t()}
  @optional_callbacks shared?: 0, survey: 3, rows: 2

  @doc "The handle of the store that runs under `name`; `name` is the atom that its `child_spec/1` was given."
  @spec handle(module, name) :: t
  def handle(module, name) when is_atom(module) and is_atom(name) do
    Telemetry.load()
    %__MODULE__{module: module, name: name}
  end

  @doc "How many shards the flows are spread over: a number that never changes."
  @spec shards :: 1024
  def shards, do: @shards

  @doc "The shard of a flow, 0 to 1023."
  @spec shard(flow) :: 0..1023
  def shard(flow) when is_binary(flow), do: :erlang.phash2(flow, @shards)

  @doc "Commits the operations, all or none; see the moduledoc for what each error leaves."
  @spec commit(t, [op]) :: :ok | {:error, Error.t()}
  def commit(store, ops), do: with({:stale, _flows} <- attempt(store, ops), do: {:error, Error.new(:stale)})

  @doc "The same for whoever would try again: a store that is `shared?/1` says which flows somebody else has changed."
  @spec attempt(t, [op]) :: :ok | {:error, Error.t()} | {:stale, [flow]}
  def attempt(store, ops), do: span(store, :commit, fn -> store.module.commit(store.name, ops) end)

  @doc """
  What was there when the store was opened: `waiting` has the flows of these shards with entries that are not sealed, and
  their numbers, in byte order of the id; `damage` the places that could not be read as they were written.
  """
  @spec recover(t, shards) :: %{waiting: [waiting], damage: [damage]}
  def recover(store, shards), do: span(store, :recover, fn -> store.module.recover(store.name, shards) end)

  @doc """
  One consistent state of a flow, `:not_found` if it is unknown; `found` tells of the `euids` asked for. Is `:unsealed`
  asked for, and nothing is, then genesis and last block need not be read, and may be `nil`.
  """
  @spec head(t, flow, [euid] | :unsealed) :: {:ok, Head.t()} | {:error, Error.t()}
  def head(store, flow, asked \\ []), do: span(store, :head, fn -> store.module.head(store.name, flow, asked) end)

  @doc """
  The blocks that hold the positions `from` to `to` (or `:infinity`), by ascending height; those that damage has taken, and
  that may hold some of them, too.
  """
  @spec blocks(t, flow, positions) :: {:ok, [Piece.t()]} | {:error, Error.t()}
  def blocks(store, flow, positions),
    do: span(store, :blocks, fn -> store.module.blocks(store.name, flow, positions) end)

  @doc """
  Up to `limit` flows after the given one (`nil`: from the first), in byte order of the id: `[flow]`, or with `:blocks`
  `[{flow, pieces}]`, where a closed flow of few blocks, which are all there is of it, has them, and any other `nil`. Closed
  flows of small blocks may come together, as one `EventSeal.Store.Sheaf`; a store that makes such goes on from its cursor.
  With `:spent` those that have euids that were retracted, with these: `[{flow, euids}]`. Each such question may read all there is.
  """
  @spec flows(t, flow | {flow, hint :: term} | nil, pos_integer, :ids | :blocks | :spent) ::
          {:ok, [flow] | [{flow, [Piece.t()] | nil} | Sheaf.t()] | [{flow, [euid]}]} | {:error, Error.t()}
  def flows(store, after_flow, limit, what \\ :ids),
    do: span(store, :flows, fn -> store.module.flows(store.name, after_flow, limit, what) end)

  @doc """
  The store-wide log: `:size` gives `%{leaves: n, checkpoints: m}`, else the items from index `from` (the first is 0),
  at most `count`, in the order of their commits.
  """
  @spec log(t, log_query) ::
          {:ok, [binary] | %{leaves: non_neg_integer, checkpoints: non_neg_integer}} | {:error, Error.t()}
  def log(store, query), do: span(store, :log, fn -> store.module.log(store.name, query) end)

  @doc "Takes the shards for writing; the epoch grows whenever another node takes them (one tree: always 1)."
  @spec lease(t, shards) :: {:ok, pos_integer} | {:error, Error.t()}
  def lease(store, shards), do: span(store, :lease, fn -> store.module.lease(store.name, shards) end)

  @doc """
  Whether several trees, on one node or many, may write to it at once. Then a head has a `turn`: a flow begins with 0, and
  each `:put`, `:drop` and `:block` is one more. Whoever builds upon a head expects its turn, and is told `:stale` when
  somebody else was faster.
  """
  @spec shared?(t) :: boolean
  def shared?(%__MODULE__{module: module}),
    do: offers?(module, :shared?, 0) and module.shared?()

  @doc """
  What is kept and belongs to nothing, so that whoever follows flows, blocks and log never meets it, and what of the store
  itself is not as it was made; with a flow, of that one alone. Up to `most` of each sort.
  """
  @spec survey(t, flow | nil, pos_integer) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def survey(store, flow, most),
    do: optional(store, :survey, 3, {:ok, []}, fn -> store.module.survey(store.name, flow, most) end)

  @doc "The place of each fault by its name, or nil."
  @spec rows(t, [Fault.t()]) :: {:ok, [String.t() | nil]} | {:error, Error.t()}
  def rows(store, faults),
    do: optional(store, :rows, 2, {:ok, Enum.map(faults, & &1.row)}, fn -> store.module.rows(store.name, faults) end)

  @doc "The bytes of a piece; `:corrupt` if they are not what was written, `:storage` if they cannot be read."
  @spec read(Piece.t()) :: {:ok, binary} | {:error, Error.t()}
  def read(%Piece{} = piece), do: Piece.read(piece)

  defp optional(store, callback, arity, without, fun) do
    if offers?(store.module, callback, arity), do: span(store, callback, fun), else: without
  end

  defp offers?(module, callback, arity),
    do: Code.ensure_loaded?(module) and function_exported?(module, callback, arity)

  defp span(store, callback, fun) do
    Telemetry.span([:event_seal, :store, callback], %{store: store.name, module: store.module}, fun)
  end
end
