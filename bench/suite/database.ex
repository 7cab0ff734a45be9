defmodule Bench.Database do
  @moduledoc false
  # EventSeal over `EventSeal.Store.Postgres` in the bench's own cluster, and what is done there without it: a bare COPY, and
  # a table whose trigger makes a chain.

  alias Bench.{Callers, Postgres, Samples}
  alias EventSeal.{Chain, Event}
  alias EventSeal.Postgres.{Pool, Value}
  alias EventSeal.Store.Postgres.Parts

  # What is written first where nobody thinks of two writers: the last row is read, and no lock taken.
  @chain """
  CREATE TABLE IF NOT EXISTS naive (number bigserial PRIMARY KEY, flow text NOT NULL, at bigint NOT NULL, kind text NOT NULL,
    body bytea NOT NULL, before bytea NOT NULL, id bytea NOT NULL);
  CREATE INDEX IF NOT EXISTS naive_flow ON naive (flow, number);
  CREATE OR REPLACE FUNCTION naive() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    NEW.before := coalesce((SELECT id FROM naive WHERE flow = NEW.flow ORDER BY number DESC LIMIT 1), '');
    NEW.id := sha256(NEW.before || NEW.body);
    RETURN NEW;
  END $$;
  CREATE OR REPLACE TRIGGER naive BEFORE INSERT ON naive FOR EACH ROW EXECUTE FUNCTION naive();
  TRUNCATE naive;
  """

  @forks "SELECT count(*) - count(DISTINCT (flow, before)) FROM naive"

  # Two blocks or events that follow the same one; and each event that is not where a flow counts to.
  @own_forks """
  SELECT (SELECT count(*) - count(DISTINCT (flow, previous)) FROM block)
    + (SELECT coalesce(sum(abs(top - count)), 0) FROM (SELECT max(n) AS top, count(*) FROM event GROUP BY flow) AS f)
  """

  # Of the events of one closed flow of suite 1: commitments, event hashes and ids, each from what is recorded below it.
  @verify """
  SELECT count(*) FILTER (WHERE body_is AND hash_is AND id = h('link', g || coalesce(i1, g) || coalesce(i2, g) || coalesce(i3, g)
      || hash || coalesce(e1, g) || coalesce(e2, g) || coalesce(e3, g)))
  FROM (
    SELECT id, hash, h('body', body) = substr(frame, 33, 32) AS body_is, h('event', frame) = hash AS hash_is,
      (SELECT h('flow', genesis) FROM flow) AS g,
      lag(id, 1) OVER w AS i1, lag(id, 2) OVER w AS i2, lag(id, 3) OVER w AS i3,
      lead(hash, 1) OVER w AS e1, lead(hash, 2) OVER w AS e2, lead(hash, 3) OVER w AS e3
    FROM event WINDOW w AS (ORDER BY n)
  ) AS e
  """

  @doc "A new store in a schema of its own, for the time of a function of its tree's name and its schema."
  @spec open(Postgres.t(), (atom, String.t() -> result)) :: result when result: var
  def open(postgres, fun) do
    schema = "bench_#{System.unique_integer([:positive])}"
    opts = [url: Postgres.url(postgres) <> "&schema=#{schema}"]
    {:ok, _versions} = EventSeal.Store.Postgres.setup(opts)

    try do
      Bench.Store.open({EventSeal.Store.Postgres, opts}, &fun.(&1, schema))
    after
      {_, 0} = Postgres.psql(postgres, "DROP SCHEMA #{schema} CASCADE")
    end
  end

  @doc "How many events of a store follow one that another follows."
  @spec forks(Postgres.t(), String.t()) :: non_neg_integer
  def forks(postgres, schema), do: Postgres.count(postgres, "SET search_path = #{schema}; #{@own_forks}")

  @doc "Recomputes a store's only flow, which is closed, by a window query: how many events are as they were sealed."
  @spec verify(Postgres.t(), String.t()) :: non_neg_integer
  def verify(postgres, schema), do: Postgres.count(postgres, "SET search_path = #{schema}; #{@verify}")

  @doc "So many clients append to so many flows of a naive chain. Events a second, and how many forks there are."
  @spec naive(Postgres.t(), pos_integer, pos_integer, number, pos_integer) :: [number]
  def naive(postgres, clients, flows, seconds, bytes) do
    {_, 0} = Postgres.psql(postgres, "SET client_min_messages = error; #{@chain}")
    body = Postgres.hex(bytes)

    insert =
      "INSERT INTO naive (flow, at, kind, body) VALUES ('patient/' || :client_id % #{flows}, 1, 'vital', '\\x#{body}');\n"

    [rate, _median] = Postgres.pgbench(postgres, insert, clients, seconds)
    [rate, Postgres.count(postgres, @forks)]
  end

  @doc """
  So many callers COPY the rows of so many events into a table without any index, all of them a transaction. Events a second.
  """
  @spec copy(Postgres.t(), pos_integer, pos_integer, number, pos_integer) :: float
  def copy(postgres, callers, batch, seconds, bytes) do
    {_, 0} =
      Postgres.psql(
        postgres,
        "CREATE TABLE copied (flow bigint, n bigint, frame bytea, hash bytea, id bytea, body bytea)"
      )

    job = {:copy_in, "COPY copied FROM STDIN (FORMAT binary)", rows(batch, bytes)}
    spec = EventSeal.Postgres.child_spec({__MODULE__, url: Postgres.url(postgres), pool: callers})
    {:ok, client} = Supervisor.start_link([spec], strategy: :one_for_one)

    [calls, _median] = Callers.run(callers, seconds, fn _caller, _n -> {:ok, _} = Pool.run(__MODULE__, job, 60_000) end)

    Supervisor.stop(client)
    {_, 0} = Postgres.psql(postgres, "DROP TABLE copied")
    calls * batch
  end

  # What a store keeps of these events: as they are sealed, packed once.
  defp rows(count, bytes) do
    rows =
      for {[frame, hash, id, body], n} <- Enum.with_index(sealed(count, bytes), 1) do
        values = [int8: 1, int8: n, bytea: frame, bytea: hash, bytea: id, bytea: body]
        [<<length(values)::16>> | for({type, value} <- values, do: Value.encode(type, value))]
      end

    IO.iodata_to_binary([<<"PGCOPY\n", 255, "\r\n", 0, 0::32, 0::32>>, rows, <<-1::16>>])
  end

  defp sealed(count, bytes) do
    {:ok, chain} = Chain.open("patient/1", created_at: 0, nonce: <<0::128>>)
    {:ok, [{chain, _runs}]} = Chain.settle_drafts([{chain, for(n <- 1..(count + 3), do: draft(n, bytes))}])
    {:ok, block, _chain} = Chain.seal(chain, sealed_at: count)
    {:ok, _front, {[_units, frames, hashes, ids, _lengths, bodies], spans}} = Parts.split(block)

    for {{frame, frame_size, body, body_size, nil}, at} <- Enum.with_index(spans) do
      [binary_part(frames, frame, frame_size), binary_part(hashes, 32 * at, 32), binary_part(ids, 32 * at, 32)] ++
        [binary_part(bodies, body, body_size)]
    end
  end

  defp draft(n, bytes) do
    {:ok, draft} = Event.draft(Bench.Store.event(n, Bench.Store.body(bytes)), euid: <<n::128>>)
    Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
  end

  @doc "Events a second of a window query over a store's only flow."
  @spec window(Postgres.t(), String.t(), pos_integer) :: float
  def window(postgres, schema, events), do: Samples.rate(events, fn -> ^events = verify(postgres, schema) end)
end
