defmodule EventSeal.Postgres do
  @moduledoc """
  A small client of PostgreSQL, on OTP's `gen_tcp` and `ssl` alone.

      {EventSeal.Postgres, {Clinic.Database, url: "postgres://writer@db.example/clinic", password: {:env, "PGPASSWORD"}}}

      {:ok, [%{rows: [[3]]}]} = EventSeal.Postgres.run(Clinic.Database, [{"SELECT $1 + 1", [int8: 2]}])

  What it does: SCRAM-SHA-256, bound to the server's certificate where there is TLS; TLS, verified unless the URL says
  otherwise; prepared statements, sent behind each other and answered in one turn; binary parameters, arrays, COPY BINARY;
  errors with their SQLSTATE (`EventSeal.Postgres.Error`); a pool; cancelling; connecting anew. It never sends a password in
  the clear, nor as MD5.

  ## Options

    * `:url` - `postgres://USER@HOST:PORT/DATABASE`, or with a folder of sockets `postgres://USER@/DATABASE?host=/run/postgresql`
      (required). Its parameters, as libpq knows them: `sslmode` (`verify-full`, the default; `verify-ca`; `require`,
      which verifies nothing; `disable`), `sslrootcert`, `sslcert`, `sslkey`, `application_name`, `options`
    * `:password` - a function of no argument that returns it, or `{:env, name}`; `PGPASSWORD`, if that is set, unless given.
      It must not stand in the URL: child specifications are shown in reports of crashes
    * `:parameters` - the server's settings for these sessions, `[search_path: "ward"]`
    * `:pool` - how many connections (default 5)
    * `:timeout` - how long a call waits for a connection and for its answer, in ms (default 15000)
    * `:connect_timeout` - how long one attempt to connect may take, in ms (default 5000)
    * `:cancel_wait` - how long a server has to answer a request to cancel, in ms, before its connection is given up (5000)
    * `:backoff` - the first and the longest wait between two attempts to connect, in ms (default `{100, 10_000}`)

  ## When a server is gone

  A call waits for a connection within its time. Was it asked when the connection broke, the error is `08007`: it was done
  or not; any other error (`EventSeal.Postgres.Error.undone?/1`) says that nothing was done. Nothing is asked twice.

  ## Another client in its place

  What the store asks for are the two callbacks of this module. A host that has another client gives a module with them:
  `{EventSeal.Store.Postgres, client: MyClient, …}`.
  """

  alias EventSeal.Postgres.{Connection, Error, Pool, Session, Settings, Value}

  @type statement :: {sql :: String.t(), [{Value.type(), term}]}
  @type result :: %{rows: [[term]], count: non_neg_integer}
  @type option :: {:snapshot, boolean} | {:timeout, pos_integer}

  @doc "The supervised client of a name."
  @callback child_spec({name :: atom, keyword}) :: Supervisor.child_spec()

  @doc """
  Runs statements as one transaction: all are done, or none. With `snapshot: true` they only read, all of one moment. An error
  must be `08007` (in `EventSeal.Postgres.Error`) where it is not known whether they were done.
  """
  @callback run(name :: atom, [statement], [option]) :: {:ok, [result]} | {:error, Error.t()}

  @begin "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
  @most_parameters 65_535
  @copy_header <<"PGCOPY\n", 255, "\r\n", 0, 0::32, 0::32>>

  @doc "The client as a child of a supervisor: `{EventSeal.Postgres, {name, options}}`."
  @spec child_spec({atom, keyword}) :: Supervisor.child_spec()
  def child_spec({name, opts}) do
    settings = Settings.new(opts)
    %{id: name, start: {__MODULE__, :start_link, [name, settings]}, type: :supervisor}
  end

  @doc false
  @spec start_link(atom, Settings.t()) :: Supervisor.on_start()
  def start_link(name, settings) do
    :persistent_term.put({__MODULE__, name}, settings.timeout)

    connections =
      for n <- 1..settings.pool, do: %{id: n, start: {Connection, :start_link, [{name, settings}]}, shutdown: 6_000}

    pool = %{id: Pool, start: {Pool, :start_link, [name]}}
    Supervisor.start_link([pool | connections], strategy: :rest_for_one)
  end

  @doc """
  Runs statements, each `{sql, [{type, value}]}` with `$1`, `$2` … for the values (`EventSeal.Postgres.Value` has the types),
  in one round trip and as one transaction. Of a statement that returns rows they are in `rows`, `count` says how many rows it
  returned or changed.

  Options: `:snapshot` (only reads, all of one moment), `:timeout` (ms).
  """
  @spec run(atom, [statement], [option]) :: {:ok, [result]} | {:error, Error.t()}
  def run(name, statements, opts \\ []) do
    if opts[:snapshot] do
      with {:ok, results} <- statements([{@begin, []} | statements] ++ [{"COMMIT", []}], name, opts),
           do: {:ok, results |> Enum.drop(1) |> Enum.drop(-1)}
    else
      statements(statements, name, opts)
    end
  end

  defp statements(statements, name, opts) do
    with {:ok, results} <- job(name, {:statements, Enum.map(statements, &packed/1)}, opts),
         do: Enum.reduce_while(results, {:ok, []}, &unpacked/2) |> in_order()
  end

  # Packed by the caller, so that a connection hands on one binary, however many values there are.
  defp packed({sql, values}) do
    count = length(values)
    if count > @most_parameters, do: raise(ArgumentError, "a statement has more than #{@most_parameters} parameters")
    oids = for {type, _value} <- values, do: Value.oid(type)
    {sql, oids, IO.iodata_to_binary([<<count::16>> | for({type, value} <- values, do: Value.encode(type, value))])}
  end

  defp unpacked({types, rows, count}, {:ok, results}) do
    case decoded(rows, types, []) do
      {:ok, rows} -> {:cont, {:ok, [%{rows: rows, count: count} | results]}}
      :error -> {:halt, {:error, Error.new("08P01", "a row is not of its types")}}
    end
  end

  defp decoded([], _types, rows), do: {:ok, Enum.reverse(rows)}

  defp decoded([row | rest], types, rows),
    do: with({:ok, row} <- Value.row(types, row), do: decoded(rest, types, [row | rows]))

  defp in_order({:ok, results}), do: {:ok, Enum.reverse(results)}
  defp in_order(error), do: error

  @doc "Runs a text of SQL, which may hold many statements, as a migration does. What it returns is not looked at."
  @spec script(atom, iodata, [option]) :: :ok | {:error, Error.t()}
  def script(name, sql, opts \\ []) do
    with {:ok, _results} <- job(name, {:script, sql}, opts), do: :ok
  end

  @doc "Runs `COPY … FROM STDIN (FORMAT binary)` with rows of these types; how many there were."
  @spec copy_in(atom, String.t(), [Value.type()], Enumerable.t(), [option]) ::
          {:ok, non_neg_integer} | {:error, Error.t()}
  def copy_in(name, sql, types, rows, opts \\ []) do
    data = for row <- rows, do: [<<length(types)::16>> | Enum.zip_with(types, row, &Value.encode/2)]

    with {:ok, [{_types, _rows, count}]} <- job(name, {:copy_in, sql, [@copy_header, data, <<-1::16>>]}, opts),
         do: {:ok, count}
  end

  @doc "Runs `COPY … TO STDOUT (FORMAT binary)`; the rows, read as of these types."
  @spec copy_out(atom, String.t(), [Value.type()], [option]) :: {:ok, [[term]]} | {:error, Error.t()}
  def copy_out(name, sql, types, opts \\ []) do
    with {:ok, [{_types, [data], _count}]} <- job(name, {:copy_out, sql}, opts) do
      case copied(data, types) do
        {:ok, _rows} = ok -> ok
        :error -> {:error, Error.new("08P01", "what was copied is not of its types")}
      end
    end
  end

  defp copied(<<"PGCOPY\n", 255, "\r\n", 0, _flags::32, size::32, _more::binary-size(size), rows::binary>>, types),
    do: copied(rows, types, [])

  defp copied(_data, _types), do: :error

  defp copied(<<-1::signed-16>>, _types, rows), do: {:ok, Enum.reverse(rows)}

  defp copied(data, types, rows) do
    with {:ok, size} <- row_size(data, 2, length(types)),
         <<row::binary-size(size), rest::binary>> <- data,
         {:ok, row} <- Value.row(types, row) do
      copied(rest, types, [row | rows])
    else
      _other -> :error
    end
  end

  defp row_size(_data, at, 0), do: {:ok, at}

  defp row_size(data, at, left) do
    case data do
      <<_::binary-size(at), -1::signed-32, _::binary>> -> row_size(data, at + 4, left - 1)
      <<_::binary-size(at), size::32, _::binary>> -> row_size(data, at + 4 + size, left - 1)
      _short -> :error
    end
  end

  @spec job(atom, Session.job(), [option]) :: Session.outcome()
  defp job(name, job, opts) do
    timeout = Keyword.get_lazy(opts, :timeout, fn -> :persistent_term.get({__MODULE__, name}, 15_000) end)
    Pool.run(name, job, timeout)
  end
end
