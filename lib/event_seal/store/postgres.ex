defmodule EventSeal.Store.Postgres do
  @moduledoc """
  A store in PostgreSQL 15 or newer: the same chain, byte for byte, in rows that SQL can query and that the database lets
  nobody change.

      {EventSeal, name: Clinic, store: {EventSeal.Store.Postgres, url: "postgres://writer@db.example/clinic"}}

  `mix event_seal.setup --store URL` makes the tables, or prints how (`priv/postgres`); a login that is granted
  `event_seal_writer` can then append, and change nothing; `event_seal_reader` is for verification and for analysts. In another
  schema the roles bear its name: `ward_writer`, so who may write in one can do nothing in the other.

  ## Options

    * `:url` - where the database is, and who we are there; see `EventSeal.Postgres`. `schema=NAME` in it names the schema
      (default `event_seal`)
    * `:password`, `:connect_timeout`, `:cancel_wait`, `:backoff` - see `EventSeal.Postgres`
    * `:pool` - how many connections (default 8)
    * `:timeout` - how long a question waits for a connection and its answer, in ms (default 60000)
    * `:statement_timeout`, `:lock_timeout` - what the server gives a statement and a wait for a lock, in ms (default 60000
      and 10000)
    * `:sweep` - how often the journal is emptied of what is not needed any more, in ms (default 10000; `:infinity`: never)
    * `:client` - the module to be asked, if not `EventSeal.Postgres`; see its callbacks

  ## How it is kept

  Events are rows, inserted when they are sealed, that hold the frame as it is hashed; their other columns are generated
  from it. Blocks are rows without a second copy of them. What is not sealed stands in a journal, change by change. Nothing
  is ever updated, and all of a commit is inserted in one round trip and one transaction. Two writers cannot fork a flow: each
  change takes the flow's next turn, each block its next height, and these are keys.

  ## Many writers

  Any number of trees, on any number of nodes, may write to one database at once, to the same flows too. No lock is held
  until a caller commits: whoever builds upon a flow that another has changed meanwhile is told by the keys, reads it again and
  asks itself again what its callers asked, so that they are answered as if one tree had done it all. Who was too late
  several times takes a turn that changes nothing, so that a tree which writes a flow without a pause has to read it, too. A caller is
  told `:stale` only where others were faster again and again; nothing was done then. A flow whose events come through one node
  needs no second try, so flows are best spread over nodes by patient, but need not be.

  Each tree's blocks bear an epoch, which grows whenever another tree seals a flow's next block.

  Of what a node had in its pool and sandbox when it went, nothing is lost; it settles and is sealed when its tree starts again, or
  any other does, or somebody asks for it. One node, not each of them, should have `checkpoints:` and `verification:`: it
  covers what all of them wrote.

  ## When a connection breaks

  When the connection breaks in the midst of a commit, the next one finds out whether it was done; callers wait for that.

  ## A verification store

  What verifies the events may be kept a second time (`EventSeal.Apart`) in another schema, database or server, by a login of
  its own, beside events in PostgreSQL or in a folder. Best is another server, under another administrator; least another schema:

      mix event_seal.setup --store postgres://dba@db.example/clinic
      mix event_seal.setup --store 'postgres://dba@kept.example/kept?schema=kept'

      GRANT event_seal_writer TO clinic;    -- on db.example
      GRANT kept_writer TO keeper;          -- on kept.example

      {EventSeal,
       name: Clinic,
       store: {EventSeal.Store.Postgres, url: "postgres://clinic@db.example/clinic"},
       verification:
         {EventSeal.Store.Postgres, url: "postgres://keeper@kept.example/kept?schema=kept", password: &Vault.keeper/0}}

  Roles belong to a whole server, so in one server give it another schema name, in another database too: `clinic` is no
  `kept_writer`, and neither writes nor reads there. `mix event_seal.verify --store URL --verification URL` compares the two.
  """

  @behaviour EventSeal.Store

  alias EventSeal.{Error, Postgres}
  alias EventSeal.Postgres.Settings
  alias EventSeal.Store.Postgres.{Client, Committer, Locate, Migration, Parts, Reader, Survey, Sweeper}

  @defaults [client: Postgres, pool: 8, timeout: 60_000, statement_timeout: 60_000, lock_timeout: 10_000, sweep: 10_000]
  @own [:client, :statement_timeout, :lock_timeout, :sweep, :schema]
  @pause 200
  @tries 100
  @most 1_000

  @impl true
  def child_spec({name, opts}) do
    opts = validate(opts)
    client = %Client{module: opts[:client], name: Module.concat(name, "Client"), schema: opts[:schema]}
    # Raises for what is wrong before anything runs.
    spec = client.module.child_spec({client.name, Keyword.drop(opts, @own)})
    %{id: name, start: {__MODULE__, :start_link, [name, client, spec, opts[:schema], opts[:sweep]]}, type: :supervisor}
  end

  @doc false
  @spec start_link(atom, Client.t(), Supervisor.child_spec(), String.t(), timeout) :: Supervisor.on_start()
  def start_link(name, client, spec, schema, sweep) do
    :persistent_term.put({__MODULE__, name}, client)
    committer = %{id: Committer, start: {Committer, :start_link, [name, client, schema]}}
    sweeper = %{id: Sweeper, start: {Sweeper, :start_link, [client, sweep]}}
    children = [spec, committer | if(sweep == :infinity, do: [], else: [sweeper])]

    # Why it cannot start is what its starter wants to know, not where.
    case Supervisor.start_link(children, strategy: :rest_for_one) do
      {:error, {:shutdown, {:failed_to_start_child, Committer, %Error{} = error}}} -> {:error, error}
      started -> started
    end
  end

  @impl true
  def shared?, do: true

  @impl true
  def commit(name, ops) when is_list(ops) do
    case Error.reduce(ops, {[], 0}, &pack/2) do
      {:ok, {packed, size}} -> GenServer.call(name, {:commit, Enum.reverse(packed), size}, :infinity)
      {:error, _} = error -> error
    end
  end

  # Cut apart by the caller, so that the committer has little left to do.
  defp pack({:block, flow, info, block}, {ops, size}) when is_binary(flow) do
    block = IO.iodata_to_binary(block)

    with {:ok, front, content} <- Parts.split(block), true <- fits?(info, front, content) do
      {:ok, {[{:block, flow, Map.delete(info, :euids), {front, content}} | ops], size + byte_size(block)}}
    else
      _other -> invalid()
    end
  end

  defp pack(op, {ops, size}), do: if(op?(op), do: {:ok, {[op | ops], size + size(op)}}, else: invalid())

  defp fits?(%{height: height, first: first, count: count, closes: closes, euids: euids}, front, content) do
    <<_::binary-2, flags, _, own_count::32, own_height::64, own_first::64, _::binary>> =
      binary_part(front, byte_size(front) - 448, 448)

    {own_height, own_first, own_count, flags == 1} == {height, first, count, closes} and euids?(content, euids)
  end

  # A kept part names no event.
  defp euids?(digests, _euids) when is_binary(digests), do: true

  defp euids?({[_units, frames | _], spans}, euids),
    do: euids == for({at, _size, _, _, _} <- spans, into: "", do: binary_part(frames, at, 16))

  defp op?({:expect, flow, {:turn, turn}}), do: is_binary(flow) and is_integer(turn)
  defp op?({:expect, flow, height}), do: is_binary(flow) and (height == :none or is_integer(height))
  defp op?({:open, flow, genesis}), do: is_binary(flow) and is_binary(genesis)

  defp op?({:put, flow, seq, stage, meta, data}),
    do:
      is_binary(flow) and is_integer(seq) and stage in [:pool, :tail] and is_binary(meta) and
        (is_binary(data) or data == :keep)

  defp op?({:drop, flow, seq, <<_::binary-16>>}), do: is_binary(flow) and is_integer(seq)
  defp op?({kind, bytes}) when kind in [:leaf, :checkpoint], do: is_binary(bytes)
  defp op?(_other), do: false

  defp size(op), do: op |> Tuple.to_list() |> Enum.reduce(64, &if(is_binary(&1), do: byte_size(&1) + &2, else: &2))

  defp invalid,
    do: {:error, Error.new(:invalid, field: :ops, rule: "must be operations of EventSeal.Store, with packed blocks")}

  @impl true
  def recover(_name, []), do: %{waiting: [], damage: []}
  def recover(name, shards), do: %{waiting: waiting(name, shards, @tries), damage: []}

  # Whoever asks cannot go on without it.
  defp waiting(name, shards, tries) do
    case Reader.waiting(client(name), shards) do
      {:ok, waiting} ->
        waiting

      {:error, _error} when tries > 0 ->
        Process.sleep(@pause)
        waiting(name, shards, tries - 1)

      {:error, error} ->
        exit({error.reason, {__MODULE__, :recover, [name]}})
    end
  end

  @impl true
  def head(name, flow, asked), do: Reader.head(client(name), flow, asked)

  @impl true
  def blocks(name, flow, positions), do: Reader.blocks(client(name), flow, positions)

  @impl true
  def flows(name, after_flow, limit, what), do: Reader.flows(client(name), after_flow, limit, what)

  @impl true
  def log(name, query), do: Reader.log(client(name), query)

  @impl true
  def lease(name, shards), do: GenServer.call(name, {:lease, Enum.to_list(shards)}, :infinity)

  @impl true
  def survey(name, flow, most), do: Survey.faults(client(name), flow, most)

  @impl true
  def rows(name, faults), do: Locate.rows(client(name), faults)

  @doc """
  Empties the journal now of what stands in blocks, was replaced or retracted; how many rows are gone. What was retracted is
  off the disk when the database has run `VACUUM` on the table `journal` after that.
  """
  @spec sweep(EventSeal.Store.name()) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def sweep(name) do
    with {:error, error} <- Sweeper.sweep(client(name)), do: {:error, Client.storage(error)}
  end

  @doc "The SQL that makes the tables, `{version, text}`; nothing is done. Options as the store's."
  @spec sql(keyword) :: [{pos_integer, String.t()}]
  def sql(opts), do: Migration.sql(validate(opts)[:schema])

  @doc """
  Whether the tables are as they were made, as a verification does, and whether what is generated from a row's bytes is what they
  say: every row is read for that. The faults, at most 1000 of a sort. Options as the store's.
  """
  @spec check(keyword) :: {:ok, [EventSeal.Fault.t()]} | {:error, Error.t()}
  def check(opts) do
    opts = validate(opts)

    alone(Keyword.drop(opts, @own), fn name ->
      client = %Client{module: Postgres, name: name, schema: opts[:schema]}

      with {:ok, faults} <- Survey.faults(client, nil, @most),
           {:ok, columns} <- Survey.columns(client, @most),
           do: {:ok, faults ++ columns}
    end)
  end

  @doc "Makes the tables, or brings them to this version; the versions that were applied. Options as the store's."
  @spec setup(keyword) :: {:ok, [pos_integer]} | {:error, Error.t()}
  def setup(opts) do
    opts = validate(opts)

    # The schema may not be there yet.
    alone(Keyword.drop(opts, [:parameters | @own]), fn name ->
      with {:error, error} <- Migration.run(name, opts[:schema]), do: {:error, Client.storage(error)}
    end)
  end

  # With one connection that nobody else has.
  defp alone(opts, fun) do
    name = Module.concat(__MODULE__, "Setup#{System.unique_integer([:positive])}")
    spec = Postgres.child_spec({name, Keyword.put(opts, :pool, 1)})

    with {:ok, supervisor} <- Supervisor.start_link([spec], strategy: :one_for_one) do
      result = fun.(name)
      Supervisor.stop(supervisor)
      result
    end
  end

  # The store is there as long as its committer is.
  defp client(name) do
    if Process.whereis(name) == nil, do: exit({:noproc, {__MODULE__, name}})
    :persistent_term.get({__MODULE__, name})
  end

  defp validate(opts) do
    opts = Keyword.merge(@defaults, opts)
    {schema, opts} = schema(opts)

    # A flow's events are asked for in order, and lie so. What is asked here is over before it could be compiled.
    parameters =
      [search_path: "#{schema}, pg_temp", enable_bitmapscan: "off", jit: "off"] ++
        for(key <- [:statement_timeout, :lock_timeout], do: {key, "#{opts[key]}"})

    for {key, value} <- opts,
        not valid?(key, value),
        do: raise(ArgumentError, "option #{inspect(key)} of EventSeal.Store.Postgres has a wrong value")

    opts ++ [schema: schema, parameters: parameters]
  end

  # It is ours, and nothing that a client knows.
  defp schema(opts) do
    {schema, url} = Settings.take_parameter(opts[:url], "schema")
    schema = schema || Migration.schema()
    unless Migration.schema?(schema), do: raise(ArgumentError, "schema in the :url must be a plain lower-case name")
    {schema, Keyword.put(opts, :url, url)}
  end

  defp valid?(:client, client), do: is_atom(client)
  defp valid?(:sweep, wait), do: wait == :infinity or (is_integer(wait) and wait > 0)
  defp valid?(key, wait) when key in [:statement_timeout, :lock_timeout], do: is_integer(wait) and wait >= 0
  defp valid?(_others, _value), do: true
end
