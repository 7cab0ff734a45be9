defmodule EventSeal.PostgresServer do
  @moduledoc false
  # A PostgreSQL server of the tests' own: a private data folder, a free port on loopback, and its end with the VM's, or when
  # it is stopped. PostgreSQL does not run as root; there another user runs it.

  alias EventSeal.{Postgres, Signer}
  alias EventSeal.Store.Postgres.Migration

  @enforce_keys [:dir, :port, :password]
  defstruct [:dir, :port, :password, :process, :settings]

  @owner "owner"
  @tables "SELECT relname::text FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'"
  # The server is killed, not the machine: what it gave to the system is there, synced or not.
  @settings ["fsync=off", "max_connections=60", "log_min_messages=fatal", "logging_collector=off"]

  @doc "A server that all tests share; it ends with them."
  def shared do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      :global.trans({__MODULE__, self()}, fn ->
        with nil <- :persistent_term.get(__MODULE__, nil), do: start_shared()
      end)
    end
  end

  defp start_shared do
    parent = self()
    # The process lives on when the test that asked first has ended.
    spawn(fn ->
      server = start!()
      ExUnit.after_suite(fn _ -> stop!(server) end)
      send(parent, {:started, server})
      Process.sleep(:infinity)
    end)

    receive do
      {:started, server} -> tap(server, &:persistent_term.put(__MODULE__, &1))
    after
      120_000 -> raise "PostgreSQL did not start"
    end
  end

  @doc """
  A new server, ready. Options: `:settings`, further `name=value`; `:initdb`, what it is told, too; `:tls`, the certificate
  and key as PEM.
  """
  def start!(opts \\ []) do
    dir = Path.join(System.tmp_dir!(), "event_seal_pg_#{System.pid()}_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    password = Base.encode16(:crypto.strong_rand_bytes(8)) <> "ü ß"
    File.write!(dir <> "/password", password)
    own(dir)
    initdb = ["-D", dir <> "/data", "-U", @owner, "-A", "scram-sha-256", "--pwfile", dir <> "/password", "-N"]
    run!(as_owner([program("initdb") | initdb] ++ ["-E", "UTF8", "--no-locale"] ++ Keyword.get(opts, :initdb, [])))
    server = %__MODULE__{dir: dir, port: free_port(), password: password}
    begin(%{server | settings: @settings ++ Keyword.get(opts, :settings, []) ++ tls(dir, opts[:tls])})
  end

  @doc "Starts it again where it was."
  def begin(server) do
    settings = [
      "listen_addresses=127.0.0.1",
      "port=#{server.port}",
      "unix_socket_directories=#{server.dir}" | server.settings
    ]

    arguments = ["-D", server.dir <> "/data" | Enum.flat_map(settings, &["-c", &1])]
    process = serve(as_owner([program("postgres") | arguments]), server.dir <> "/log")
    await(%{server | process: process}, 600)
  end

  @doc "Ends it as a host does (`INT`), at once (`QUIT`), or by `KILL`; returns when it has ended."
  def halt!(server, signal \\ "INT") do
    pids = os_pids(server)
    System.cmd("kill", ["-s", signal, hd(pids)])
    # Its children notice by themselves, a moment later.
    wait(fn -> not Enum.any?(pids, &alive?/1) end, 600)
    cleared(server)
  end

  @doc "What is left of one that has ended is put away."
  def cleared(server) do
    if Port.info(server.process), do: Port.close(server.process)
    File.rm(server.dir <> "/data/postmaster.pid")
    server
  end

  @doc "Whether it has ended by itself."
  def ended?(server) do
    case File.read(server.dir <> "/data/postmaster.pid") do
      {:ok, text} -> not (text |> String.split("\n") |> hd() |> alive?())
      {:error, :enoent} -> true
    end
  end

  @doc "Pauses the server and all its sessions, or lets them go on."
  def signal_all(server, signal) do
    for pid <- os_pids(server), do: System.cmd("kill", ["-s", signal, pid], stderr_to_stdout: true)
    :ok
  end

  @doc "Ends it, and removes all there is of it."
  def stop!(server) do
    if Port.info(server.process) && File.exists?(server.dir <> "/data/postmaster.pid"), do: halt!(server, "QUIT")
    File.rm_rf!(server.dir)
    :ok
  end

  @doc "Options for a client of it. `parameters` go into the URL."
  def options(server, parameters \\ [sslmode: "disable"], opts \\ []) do
    user = Keyword.get(opts, :user, @owner)
    database = Keyword.get(opts, :database, "postgres")
    port = Keyword.get(opts, :port, server.port)
    host = Keyword.get(opts, :host, "127.0.0.1")
    url = "postgres://#{user}@#{host}:#{port}/#{database}?#{URI.encode_query(parameters)}"
    password = Keyword.get(opts, :password, server.password)
    [url: url, password: fn -> password end] ++ Keyword.drop(opts, [:user, :database, :port, :host, :password])
  end

  @doc "A client of it, under the test's supervisor; its name."
  def client!(server, parameters \\ [sslmode: "disable"], opts \\ []) do
    name = :"client_#{System.unique_integer([:positive])}"
    ExUnit.Callbacks.start_supervised!({Postgres, {name, options(server, parameters, opts)}})
    name
  end

  @doc """
  A new store's tables in a schema of their own; options of a store that writes there with a writer's rights alone. `:database`
  names another database, which must be there.
  """
  def store!(server, opts \\ []) do
    schema = "ward_#{System.unique_integer([:positive])}"
    where = Keyword.take(opts, [:database])

    # What belongs to the whole cluster is changed by one at a time.
    :global.trans({{__MODULE__, server.port}, self()}, fn ->
      as_owner!(server, where, fn owner ->
        {:ok, [1 | _]} = Migration.run(owner, schema)
        login = "writer_#{schema}"
        :ok = Postgres.script(owner, "CREATE ROLE #{login} LOGIN PASSWORD 'writes' IN ROLE #{schema}_writer")
      end)
    end)

    options(
      server,
      [sslmode: "disable", schema: schema],
      [user: "writer_#{schema}", password: "writes", pool: 4] ++ opts
    )
  end

  @doc "A tree over a new store, under the test's supervisor, its log signed by a key in the folder: its name, and the store's options."
  def tree!(dir, opts) do
    store = store!(shared(), sweep: :infinity)
    key = Path.join(dir, "log.key")
    {:ok, _} = Signer.File.generate(key, "clinic.example/log")
    name = :"ward_#{System.unique_integer([:positive])}"
    checkpoints = [signer: {Signer.File, key}, every: :infinity]
    tree = [name: name, store: {EventSeal.Store.Postgres, store}, pool_window: 0, checkpoints: checkpoints]
    ExUnit.Callbacks.start_supervised!({EventSeal, tree ++ opts})
    {name, store}
  end

  @doc "These options as they can stand in a file, for another VM (`EventSeal.Crash.Load.store/1`)."
  def written(opts), do: {EventSeal.Store.Postgres, Keyword.update!(opts, :password, & &1.())}

  @doc "Waits until nobody but us has a session: what a client that is gone had sent is done by then, or never will be."
  def wait_for_sessions!(server) do
    as_owner!(server, fn owner ->
      others = {"SELECT count(*) FROM pg_stat_activity WHERE usename <> $1", [text: @owner]}
      wait(fn -> match?({:ok, [%{rows: [[0]]}]}, Postgres.run(owner, [others])) end, 600)
    end)
  end

  @doc "What a function does with a client that may do everything; `:database` and other options of a client."
  def as_owner!(server, opts \\ [], fun) do
    name = :"owner_#{System.unique_integer([:positive])}"

    {:ok, supervisor} =
      Supervisor.start_link([{Postgres, {name, options(server, [sslmode: "disable"], [pool: 1] ++ opts)}}],
        strategy: :one_for_one
      )

    result = fun.(name)
    Supervisor.stop(supervisor)
    result
  end

  @doc "The URL of a store's options with the password in it, as somebody may well type it."
  def url(opts), do: String.replace(opts[:url], ~r{//([^@]*)@}, "//\\1:#{opts[:password].()}@")

  @doc "The schema that a store's options name."
  def schema(opts), do: URI.decode_query(URI.parse(opts[:url]).query)["schema"]

  @doc """
  What a superuser does behind a store of these options, one statement after the other: what refuses change is off meanwhile,
  and on again. Each must change something.
  """
  def tamper!(server, opts, statements) do
    %{path: "/" <> database} = URI.parse(opts[:url])

    as_owner!(server, [database: database, parameters: [search_path: schema(opts)]], fn owner ->
      {:ok, [%{rows: tables}]} = Postgres.run(owner, [{@tables, [text: schema(opts)]}])
      switch = fn what -> for [table] <- tables, do: {"ALTER TABLE #{table} #{what} TRIGGER refuse", []} end
      statements = for sql <- List.wrap(statements), do: {sql, []}
      {:ok, results} = Postgres.run(owner, switch.("DISABLE") ++ statements ++ switch.("ENABLE ALWAYS"))
      changed = results |> Enum.drop(length(tables)) |> Enum.take(length(statements))
      for {%{count: 0}, {sql, _}} <- Enum.zip(changed, statements), do: raise("nothing was changed by #{sql}")
      :ok
    end)
  end

  @doc "Runs one of PostgreSQL's own programs as the owner."
  def tool!(server, name, arguments) do
    at = ["-h", "127.0.0.1", "-p", to_string(server.port), "-U", @owner]
    run!(as_owner(["env", "PGPASSWORD=#{server.password}", program(name) | at ++ arguments]))
  end

  @doc "A place for a copy of it, not begun."
  def beside(server) do
    dir = server.dir <> "_copy"
    File.mkdir_p!(dir)
    own(dir)
    %{server | dir: dir, port: free_port(), process: nil}
  end

  @doc "Waits until something is so."
  def wait(fun, left) do
    cond do
      fun.() -> :ok
      left == 0 -> raise "it did not come about"
      true -> Process.sleep(50) && wait(fun, left - 1)
    end
  end

  # The server's, then its children's.
  defp os_pids(server) do
    [pid | _] = server.dir |> Path.join("data/postmaster.pid") |> File.read!() |> String.split("\n")
    {children, _} = System.cmd("ps", ["-o", "pid=", "--ppid", pid])
    [pid | String.split(children)]
  end

  # One that has ended and that nobody has asked about yet is a zombie.
  defp alive?(pid) do
    {state, _} = System.cmd("ps", ["-o", "stat=", "-p", pid])
    String.trim(state) != "" and not String.starts_with?(state, "Z")
  end

  # It is ready when its file says so.
  defp await(server, left) do
    path = Path.join(server.dir, "data/postmaster.pid")

    cond do
      match?({:ok, _}, File.read(path)) and File.read!(path) =~ ~r/^ready/m -> server
      left == 0 -> raise "PostgreSQL did not start: #{File.read!(server.dir <> "/log")}"
      true -> Process.sleep(50) && await(server, left - 1)
    end
  end

  # A shell between ends it when its own standard input ends: it never outlives this VM.
  defp serve(command, log) do
    script = ~S(log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & read -r _; kill -s QUIT $! 2>/dev/null; wait $!)
    Port.open({:spawn_executable, System.find_executable("sh")}, [:binary, args: ["-c", script, "sh", log | command]])
  end

  defp tls(_dir, nil), do: []

  defp tls(dir, {certificate, key}) do
    for {name, pem} <- [{"server.crt", certificate}, {"server.key", key}], do: write!(Path.join(dir, name), pem)
    ["ssl=on", "ssl_cert_file=#{dir}/server.crt", "ssl_key_file=#{dir}/server.key"]
  end

  @doc "A file that only the server's user may read."
  def write!(path, text) do
    File.write!(path, text)
    File.chmod!(path, 0o600)
    own(path)
  end

  defp own(path), do: if(root?(), do: run!(["chown", "-R", "postgres", path]))

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  # Debian keeps the server's programs out of PATH.
  defp program(name) do
    "/usr/lib/postgresql/*/bin/#{name}" |> Path.wildcard() |> Enum.sort(:desc) |> List.first() ||
      System.find_executable(name) || raise "PostgreSQL's #{name} is not installed"
  end

  defp as_owner(command) do
    if root?(), do: ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups" | command], else: command
  end

  defp root?, do: match?({"0\n", 0}, System.cmd("id", ["-u"]))

  defp run!([program | arguments]) do
    case System.cmd(program, arguments, stderr_to_stdout: true) do
      {said, 0} -> said
      {said, _} -> raise "#{Path.basename(program)}: #{String.slice(said, -400, 400)}"
    end
  end
end
