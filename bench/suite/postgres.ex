defmodule Bench.Postgres do
  @moduledoc false
  # A PostgreSQL cluster of the bench's own, durable as it comes, reached through a socket in its folder. Its clients are
  # psql and pgbench. Rows are chained by SHA-256, a flow at a time.

  @enforce_keys [:dir, :server]
  defstruct @enforce_keys

  @type t :: %__MODULE__{}

  @settings [
    "listen_addresses=",
    "max_connections=300",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "unix_socket_permissions=0777"
  ]

  # One chain a flow: the flow's last row is read under its lock, so that no two rows follow the same one.
  @chain """
  CREATE TABLE event (flow text, n bigint, at bigint NOT NULL, kind text NOT NULL, body bytea NOT NULL, id bytea NOT NULL,
    PRIMARY KEY (flow, n));
  CREATE FUNCTION chain() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE before record;
  BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.flow, 0));
    SELECT n, id INTO before FROM event WHERE flow = NEW.flow ORDER BY n DESC LIMIT 1;
    NEW.n := coalesce(before.n, 0) + 1;
    NEW.id := sha256(coalesce(before.id, ''::bytea) || int8send(NEW.n) || NEW.body);
    RETURN NEW;
  END $$;
  CREATE TRIGGER chain BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION chain();
  """

  @verify """
  SELECT count(*) FILTER (WHERE id = again) FROM
    (SELECT id, sha256(coalesce(lag(id) OVER (ORDER BY n), ''::bytea) || int8send(n) || body) AS again FROM event) AS e;
  """

  @doc "Where a program of PostgreSQL's is; nil if it is not here. Debian keeps the server's out of PATH."
  @spec program(String.t()) :: Path.t() | nil
  def program(name) do
    "/usr/lib/postgresql/*/bin/#{name}" |> Path.wildcard() |> Enum.sort(:desc) |> List.first() ||
      System.find_executable(name)
  end

  @doc "A new cluster below the folder."
  @spec start(Path.t()) :: t
  def start(dir) do
    for name <- ["initdb", "postgres", "psql", "pgbench"],
        program(name) == nil,
        do: raise("PostgreSQL's #{name} is not installed")

    dir = Path.join(dir, "postgres")
    File.mkdir_p!(dir)
    if root?(), do: {_, 0} = System.cmd("chown", ["postgres", dir])
    run!(as_owner([program("initdb"), "-D", data(dir), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]))
    log = dir <> ".log"
    settings = Enum.flat_map(["unix_socket_directories=#{dir}" | @settings], &["-c", &1])
    server = Bench.Peer.serve(as_owner([program("postgres"), "-D", data(dir) | settings]), log, "INT")
    postgres = %__MODULE__{dir: dir, server: server}
    Bench.Peer.wait(fn -> match?({_, 0}, psql(postgres, "SELECT 1")) end, log)
    {_, 0} = psql(postgres, @chain)
    postgres
  end

  @spec stop(t) :: :ok
  def stop(postgres), do: Bench.Peer.shut(postgres.server)

  @doc """
  So many clients append events by themselves, or `batch` of them in one statement. Returns events a second, and the
  median duration of a statement in microseconds.
  """
  @spec append(t, pos_integer, pos_integer, number, pos_integer) :: [float]
  def append(postgres, clients, batch, seconds, bytes) do
    [transactions, median] = pgbench(postgres, insert(batch, bytes), clients, seconds)
    [transactions * batch, median]
  end

  @doc "So many clients run a script of pgbench's. Returns transactions a second, and their median duration in microseconds."
  @spec pgbench(t, String.t(), pos_integer, number) :: [float]
  def pgbench(postgres, text, clients, seconds) do
    script = Path.join(postgres.dir, "script.sql")
    log = Path.join(postgres.dir, "transactions")
    File.write!(script, text)

    run!(
      [program("pgbench"), "-h", postgres.dir, "-U", "bench", "-n", "-M", "prepared", "-f", script] ++
        ["-c", to_string(clients), "-j", to_string(min(clients, System.schedulers_online()))] ++
        ["-T", to_string(max(ceil(seconds), 1)), "-l", "--log-prefix=#{log}", "postgres"]
    )
    |> read(log)
  end

  defp insert(1, bytes) do
    "INSERT INTO event (flow, at, kind, body) VALUES ('patient/' || :client_id, 1, 'vital', '\\x#{hex(bytes)}');\n"
  end

  defp insert(batch, bytes) do
    "INSERT INTO event (flow, at, kind, body) SELECT 'patient/' || :client_id, n, 'vital', '\\x#{hex(bytes)}' " <>
      "FROM generate_series(1, #{batch}) AS n;\n"
  end

  @doc "A body of so many bytes, as SQL writes it."
  @spec hex(pos_integer) :: String.t()
  def hex(bytes), do: String.duplicate("62", bytes)

  # pgbench's log has a line a transaction; the third number is how many microseconds it took.
  defp read(said, log) do
    [_, tps] = Regex.run(~r/^tps = ([\d.]+)/m, said) || raise "pgbench: #{String.slice(said, -200, 200)}"
    lines = log |> then(&Path.wildcard(&1 <> ".*")) |> Enum.flat_map(&lines/1)
    times = for line <- lines, do: line |> String.split() |> Enum.at(2) |> String.to_integer()
    [String.to_float(tps), Bench.Samples.median(times) * 1.0]
  end

  defp lines(path) do
    lines = path |> File.read!() |> String.split("\n", trim: true)
    File.rm!(path)
    lines
  end

  @doc "One flow of so many events, chained; what is verified."
  @spec fill(t, pos_integer, pos_integer) :: t
  def fill(postgres, events, bytes) do
    body = "'\\x#{hex(bytes)}'"

    {_, 0} =
      psql(postgres, """
      TRUNCATE event;
      ALTER TABLE event DISABLE TRIGGER chain;
      DO $$ DECLARE id bytea := ''; BEGIN
        FOR n IN 1..#{events} LOOP
          id := sha256(id || int8send(n) || #{body}::bytea);
          INSERT INTO event VALUES ('patient/1', n, n, 'vital', #{body}, id);
        END LOOP;
      END $$;
      """)

    {_, 0} = psql(postgres, "VACUUM ANALYZE event")
    postgres
  end

  @doc "Recomputes the chain by a window query: how many events are as they were chained."
  @spec verify(t) :: non_neg_integer
  def verify(postgres), do: count(postgres, @verify)

  @doc "The number that SQL says."
  @spec count(t, String.t()) :: integer
  def count(postgres, sql) do
    {said, 0} = psql(postgres, sql)
    said |> String.trim() |> String.to_integer()
  end

  @doc "Where a client finds it."
  @spec url(t) :: String.t()
  def url(postgres), do: "postgres://bench@/postgres?host=#{postgres.dir}"

  @doc "Runs SQL by psql: what it says, and its status."
  @spec psql(t, String.t()) :: {String.t(), non_neg_integer}
  def psql(postgres, sql) do
    arguments = ["-h", postgres.dir, "-U", "bench", "-d", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]
    System.cmd(program("psql"), arguments, stderr_to_stdout: true)
  end

  # PostgreSQL will not run as root.
  defp as_owner(command) do
    if root?(), do: ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups" | command], else: command
  end

  defp root?, do: match?({"0\n", 0}, System.cmd("id", ["-u"]))

  defp data(dir), do: Path.join(dir, "data")

  defp run!([program | arguments]) do
    case System.cmd(program, arguments, stderr_to_stdout: true) do
      {said, 0} -> said
      {said, _} -> raise "#{Path.basename(program)}: #{String.slice(said, -400, 400)}"
    end
  end
end
