-- EventSeal in PostgreSQL, version 1. FORMAT.md says what the bytes mean, ARCHITECTURE.md how the tables are used.
--
-- mix event_seal.setup runs this in one transaction, as the role that shall own the tables; with another schema than
-- event_seal the name is replaced, in those of the roles, too. What a host may do is granted to three roles, which are to be
-- granted to its logins:
--
--   event_seal_writer   inserts and reads, and nothing else
--   event_seal_reader   reads, for verification and for analysts
--   event_seal_sweeper  nobody logs in as this one: as it, sweep() takes out of the journal what is not needed any more
--
-- Nothing here is ever updated. Triggers refuse UPDATE, DELETE and TRUNCATE even to the tables' owner, so that a mistake
-- changes nothing; who drops a trigger is found by the verification.

CREATE SCHEMA event_seal;

SET LOCAL search_path = event_seal, pg_temp;

-- Roles belong to the whole cluster: another database may have made them already.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['event_seal_writer', 'event_seal_reader', 'event_seal_sweeper'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- Somebody else has made it this very moment.
      END;
    END IF;
    -- The limits on a transaction's time, for a login of that name; the store's own connections ask for them themselves.
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = ''60s''', name, current_database());
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET lock_timeout = ''10s''', name, current_database());
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = ''60s''', name,
      current_database());
  END LOOP;
END $$;

CREATE TABLE migration (
  version integer PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- Reading packed bytes: integers are big-endian, offsets count from 0 as in FORMAT.md. Times are µs since 1970.

CREATE FUNCTION u16(bytes bytea, at integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  (get_byte(bytes, at) << 8) | get_byte(bytes, at + 1);

CREATE FUNCTION i32(bytes bytea, at integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  (get_byte(bytes, at) << 24) | (get_byte(bytes, at + 1) << 16) | (get_byte(bytes, at + 2) << 8)
    | get_byte(bytes, at + 3);

CREATE FUNCTION i64(bytes bytea, at integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  (get_byte(bytes, at)::bigint << 56) | (get_byte(bytes, at + 1)::bigint << 48)
    | (get_byte(bytes, at + 2)::bigint << 40) | (get_byte(bytes, at + 3)::bigint << 32)
    | (get_byte(bytes, at + 4)::bigint << 24) | (get_byte(bytes, at + 5)::bigint << 16)
    | (get_byte(bytes, at + 6)::bigint << 8) | get_byte(bytes, at + 7)::bigint;

-- Where in a frame its version stands, behind its kind (offset 67); then comes where it happened, then who it was.
CREATE FUNCTION version_at(frame bytea) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  69 + u16(frame, 67);

-- Texts are UTF-8 whatever the database's settings are, so these are immutable. What is in PL/pgSQL calls nothing of this
-- schema: a restore runs it without a search path.
CREATE FUNCTION text_at(bytes bytea, at integer) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN convert_from(substr(bytes, at + 3, (get_byte(bytes, at) << 8) | get_byte(bytes, at + 1)), 'UTF8');
END $$;

-- Mostly a kind is ASCII without a backslash, and then its escaped form is itself: that takes a third of the time.
CREATE FUNCTION kind(frame bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN length(encode(substr(frame, 70, u16(frame, 67)), 'escape')) = u16(frame, 67)
    THEN encode(substr(frame, 70, u16(frame, 67)), 'escape') ELSE text_at(frame, 67) END;

CREATE FUNCTION place(frame bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE get_byte(frame, version_at(frame) + 2) WHEN 1 THEN text_at(frame, version_at(frame) + 3) END;

CREATE FUNCTION who_there(frame bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  at integer := 71 + ((get_byte(frame, 67) << 8) | get_byte(frame, 68));
BEGIN
  at := at + CASE get_byte(frame, at)
    WHEN 0 THEN 1 WHEN 1 THEN 3 + ((get_byte(frame, at + 1) << 8) | get_byte(frame, at + 2)) ELSE 9 END;
  IF get_byte(frame, at) = 0 AND get_byte(frame, at + 1) = 0 THEN RETURN NULL; END IF;
  RETURN convert_from(substr(frame, at + 3, (get_byte(frame, at) << 8) | get_byte(frame, at + 1)), 'UTF8');
END $$;

-- Where neither a place nor a person is named, that is seen at once.
CREATE FUNCTION who(frame bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN get_byte(frame, version_at(frame) + 2) <> 0 OR u16(frame, version_at(frame) + 3) <> 0
    THEN who_there(frame) END;

-- One row a flow: its number stands for it in the other tables.
CREATE SEQUENCE flow_number;

CREATE TABLE flow (
  number bigint PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE,
  shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 1023),
  genesis bytea NOT NULL
);

-- Sealed events. The frame is what is hashed; all that can be read of it is generated from it, so that SQL and the
-- verification never see two truths. body is the salted body: 16 bytes of salt, its length as 8 bytes, and the body.
CREATE TABLE event (
  flow bigint NOT NULL,
  n bigint NOT NULL,
  frame bytea NOT NULL,
  hash bytea NOT NULL,
  id bytea NOT NULL,
  body bytea,
  erased integer, -- of a body that was erased, how many units of 64 bytes it had
  euid bytea NOT NULL GENERATED ALWAYS AS (substr(frame, 1, 16)) STORED,
  happened_at bigint NOT NULL GENERATED ALWAYS AS (i64(frame, 16)) STORED,
  recorded_at bigint NOT NULL GENERATED ALWAYS AS (i64(frame, 24)) STORED,
  late boolean NOT NULL GENERATED ALWAYS AS (get_byte(frame, 64) = 1) STORED,
  kind text NOT NULL GENERATED ALWAYS AS (kind(frame)) STORED,
  version integer NOT NULL GENERATED ALWAYS AS (u16(frame, version_at(frame))) STORED,
  place text GENERATED ALWAYS AS (place(frame)) STORED,
  latitude_e7 integer GENERATED ALWAYS AS (CASE get_byte(frame, version_at(frame) + 2)
    WHEN 2 THEN i32(frame, version_at(frame) + 3) END) STORED,
  longitude_e7 integer GENERATED ALWAYS AS (CASE get_byte(frame, version_at(frame) + 2)
    WHEN 2 THEN i32(frame, version_at(frame) + 7) END) STORED,
  who text GENERATED ALWAYS AS (who(frame)) STORED,
  PRIMARY KEY (flow, n)
);

CREATE INDEX event_euid ON event (flow, euid) WITH (deduplicate_items = off);

-- Sealed blocks, without a second copy of their events: front is the packed block up to its seams (preamble, genesis
-- record, header, seams), and the rest is generated from it. Who inserts a flow's next height has sealed that block:
-- there cannot be two. A verification store has kept parts (FORMAT.md) instead, whose fronts are alike.
CREATE TABLE block (
  flow bigint NOT NULL,
  front bytea NOT NULL,
  turn bigint NOT NULL,     -- of the journal: all that the block took up stands there up to this turn
  through bigint NOT NULL,  -- entries of the journal with a seq up to this are in blocks
  next_seq bigint NOT NULL, -- the lowest seq that was never used
  when_top bigint,          -- the greatest happened_at up to this block
  digests bytea,            -- in a verification store: event hashes and ids, in the place of events
  height bigint NOT NULL GENERATED ALWAYS AS (i64(front, length(front) - 440)) STORED,
  first bigint NOT NULL GENERATED ALWAYS AS (i64(front, length(front) - 432)) STORED,
  count integer NOT NULL GENERATED ALWAYS AS (i32(front, length(front) - 444)) STORED,
  closes boolean NOT NULL GENERATED ALWAYS AS (get_byte(front, length(front) - 446) = 1) STORED,
  epoch bigint NOT NULL GENERATED ALWAYS AS (i64(front, length(front) - 424)) STORED,
  sealed_at bigint NOT NULL GENERATED ALWAYS AS (i64(front, length(front) - 400)) STORED,
  previous bytea NOT NULL GENERATED ALWAYS AS (substr(front, length(front) - 359, 32)) STORED,
  root bytea NOT NULL GENERATED ALWAYS AS (substr(front, length(front) - 327, 32)) STORED,
  hash bytea NOT NULL GENERATED ALWAYS AS (substr(front, 33, 32)) STORED,
  PRIMARY KEY (flow, height)
);

CREATE UNIQUE INDEX block_first ON block (flow, first);

-- What is not sealed yet, change by change; a flow's turns are 1, 2, 3 …, and who inserts the next one has made that change.
-- stage: pool, tail (settled), gone (retracted), block (what stands up to seq was sealed). data is NULL where it stays as
-- it was.
CREATE TABLE journal (
  flow bigint NOT NULL,
  turn bigint NOT NULL,
  seq bigint NOT NULL,
  stage text NOT NULL CHECK (stage IN ('pool', 'tail', 'gone', 'block')),
  next_seq bigint NOT NULL,
  meta bytea NOT NULL,
  data bytea,
  PRIMARY KEY (flow, turn)
);

-- What stands here for a minute only is not compressed: that takes more time than all the rest of a commit.
ALTER TABLE journal ALTER meta SET STORAGE EXTERNAL, ALTER data SET STORAGE EXTERNAL;

-- Names of events that were retracted: they are never used again.
CREATE TABLE spent (
  flow bigint NOT NULL,
  euid bytea NOT NULL,
  PRIMARY KEY (flow, euid)
);

-- The store-wide log: leaves and signed checkpoints, numbered from 0 without a gap.
CREATE TABLE leaf (
  index bigint PRIMARY KEY,
  data bytea NOT NULL
);

CREATE TABLE checkpoint (
  index bigint PRIMARY KEY,
  data bytea NOT NULL
);

-- Under which epoch a shard of the flows was taken for writing, by whom.
CREATE TABLE lease (
  shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 1023),
  epoch bigint NOT NULL,
  holder bytea NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (shard, epoch)
);

-- One row a commit: by it a writer whose connection broke learns whether its commit was done. An id is the writer's 16
-- bytes, and a number that it counts up.
CREATE TABLE mark (
  id bytea PRIMARY KEY,
  made_at timestamptz NOT NULL DEFAULT now(),
  done boolean NOT NULL DEFAULT true -- false: the writer asked before the commit came, which is refused then
);

CREATE INDEX mark_made_at ON mark (made_at);

-- What every commit begins with. It shares a lock with other commits and with nobody else, for the one round trip that it
-- takes: take() waits for all commits that are under way.
CREATE FUNCTION begin_commit(mark_id bytea) RETURNS void LANGUAGE plpgsql SET search_path = event_seal, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared('lease'::regclass::oid::bigint);
  INSERT INTO mark (id) VALUES (mark_id);
END $$;

-- Takes shards for writing; the epoch. A holder that has them all already keeps its own.
CREATE FUNCTION take(asked smallint[], own bytea) RETURNS bigint LANGUAGE plpgsql
  SET search_path = event_seal, pg_temp AS $$
DECLARE
  last record;
BEGIN
  PERFORM pg_advisory_xact_lock('lease'::regclass::oid::bigint);
  SELECT max(epoch) AS epoch, coalesce(bool_and(holder = own) AND count(*) = cardinality(asked)
      AND count(DISTINCT epoch) = 1, false) AS kept INTO last
    FROM (SELECT DISTINCT ON (shard) epoch, holder FROM lease WHERE shard = ANY (asked) ORDER BY shard, epoch DESC) AS l;
  IF NOT last.kept THEN
    INSERT INTO lease (shard, epoch, holder) SELECT unnest(asked), coalesce(last.epoch, 0) + 1, own;
    RETURN coalesce(last.epoch, 0) + 1;
  END IF;
  RETURN last.epoch;
END $$;

-- Whether a commit was done. If not, its mark is made here, so that it will not be done later either: a server that was
-- paused, or a network that was cut, may still bring it. If somebody is doing it just now, this waits for the outcome.
CREATE FUNCTION settle(mark_id bytea) RETURNS boolean LANGUAGE plpgsql SET search_path = event_seal, pg_temp AS $$
BEGIN
  INSERT INTO mark (id, done) VALUES (mark_id, false) ON CONFLICT DO NOTHING;
  RETURN (SELECT done FROM mark WHERE id = mark_id);
END $$;

-- Takes a flow's next turn, and changes nothing. Who writes a flow without a pause knows it by heart, and is faster than
-- whoever has to read it first, again and again: after this both have to read it.
CREATE FUNCTION knock(flow_number bigint) RETURNS void LANGUAGE plpgsql SET search_path = event_seal, pg_temp AS $$
BEGIN
  FOR i IN 1 .. 20 LOOP
    BEGIN
      INSERT INTO journal (flow, turn, seq, stage, next_seq, meta)
      SELECT flow_number, greatest(j.turn, b.turn, 0) + 1, s.next, 'gone', s.next, ''
      FROM (SELECT max(turn) AS turn, max(next_seq) AS next_seq FROM journal WHERE flow = flow_number) AS j
      LEFT JOIN (SELECT turn, next_seq, closes FROM block WHERE flow = flow_number ORDER BY height DESC LIMIT 1) AS b ON true,
        LATERAL (SELECT greatest(j.next_seq, b.next_seq, 1) AS next) AS s
      WHERE b.closes IS NOT TRUE;
      RETURN;
    EXCEPTION WHEN unique_violation THEN
      NULL; -- Somebody was faster here, too.
    END;
  END LOOP;
END $$;

-- Leaves and checkpoints get the next numbers. The lock is held until the commit that adds them has ended, and is taken
-- last in it.
CREATE FUNCTION add_to_log(leaves bytea[], checkpoints bytea[]) RETURNS void LANGUAGE plpgsql
  SET search_path = event_seal, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock('leaf'::regclass::oid::bigint);
  INSERT INTO leaf SELECT coalesce((SELECT max(l.index) + 1 FROM leaf AS l), 0) + at - 1, given
    FROM unnest(leaves) WITH ORDINALITY AS u (given, at);
  INSERT INTO checkpoint SELECT coalesce((SELECT max(c.index) + 1 FROM checkpoint AS c), 0) + at - 1, given
    FROM unnest(checkpoints) WITH ORDINALITY AS u (given, at);
END $$;

-- Takes out of the journal what stands in blocks, what was replaced, and what was retracted. A flow's last turn stays, or
-- its block knows it. What was retracted is gone from the disk when VACUUM has run after this.
CREATE FUNCTION sweep() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = event_seal, pg_temp AS $$
DECLARE
  gone bigint;
BEGIN
  WITH seen AS (
    SELECT flow, turn, seq, stage, data IS NULL AS kept,
      max(turn) OVER (PARTITION BY flow) AS last,
      max(turn) FILTER (WHERE stage <> 'block') OVER (PARTITION BY flow, seq) AS newest,
      max(turn) FILTER (WHERE stage = 'gone' OR data IS NOT NULL) OVER (PARTITION BY flow, seq) AS filled
    FROM journal
  ), sealed AS (
    SELECT f.flow, b.turn, b.through
    FROM (SELECT DISTINCT flow FROM journal) AS f,
      LATERAL (SELECT turn, through FROM block WHERE block.flow = f.flow ORDER BY height DESC LIMIT 1) AS b
  )
  DELETE FROM journal AS j USING seen AS s LEFT JOIN sealed AS b USING (flow)
  WHERE j.flow = s.flow AND j.turn = s.turn AND (
    (s.turn <= b.turn AND s.seq <= b.through)
    OR (s.stage <> 'block' AND s.turn < s.newest AND (s.kept OR s.turn < s.filled))
    OR (s.stage = 'gone' AND s.turn < s.last)
  );
  GET DIAGNOSTICS gone = ROW_COUNT;
  -- A writer's last eight stay, however long it is away: it may still have to ask about what was under way. No network keeps
  -- a commit that was given up for an hour.
  DELETE FROM mark AS m WHERE made_at < now() - interval '1 hour' AND EXISTS (
    SELECT FROM mark WHERE id > m.id AND id <= substr(m.id, 1, 16) || '\xffffffffffffffff' OFFSET 7);
  RETURN gone;
END $$;

-- The database refuses change.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('journal', 'mark') AND current_user = 'event_seal_sweeper' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% on %.%: what EventSeal keeps is never changed', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = '42501';
END $$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['migration', 'flow', 'event', 'block', 'journal', 'spent', 'leaf', 'checkpoint', 'lease',
                              'mark'] LOOP
    EXECUTE format('CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION refuse()', name);
    -- Also where a session plays the part of a replica, and other triggers sleep.
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER refuse', name);
  END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA event_seal FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA event_seal FROM PUBLIC;
REVOKE ALL ON SCHEMA event_seal FROM PUBLIC;

GRANT USAGE ON SCHEMA event_seal TO event_seal_writer, event_seal_reader, event_seal_sweeper;
GRANT SELECT ON ALL TABLES IN SCHEMA event_seal TO event_seal_writer, event_seal_reader;
GRANT EXECUTE ON FUNCTION u16, i32, i64, text_at, version_at, kind, place, who, who_there TO event_seal_writer, event_seal_reader;
GRANT INSERT ON flow, event, block, journal, spent, leaf, checkpoint, lease, mark TO event_seal_writer;
GRANT USAGE ON SEQUENCE flow_number TO event_seal_writer;
GRANT EXECUTE ON FUNCTION begin_commit, take, settle, knock, add_to_log, sweep TO event_seal_writer;
GRANT SELECT ON block TO event_seal_sweeper;
GRANT SELECT, DELETE ON journal, mark TO event_seal_sweeper;

-- Whoever owns a function lends it his rights; this one's owner may empty the journal, and no more.
DO $$
DECLARE
  lent boolean := NOT pg_has_role(current_user, 'event_seal_sweeper', 'MEMBER');
BEGIN
  IF lent THEN EXECUTE format('GRANT event_seal_sweeper TO %I', current_user); END IF;
  GRANT CREATE ON SCHEMA event_seal TO event_seal_sweeper;
  ALTER FUNCTION sweep OWNER TO event_seal_sweeper;
  REVOKE CREATE ON SCHEMA event_seal FROM event_seal_sweeper;
  IF lent THEN EXECUTE format('REVOKE event_seal_sweeper FROM %I', current_user); END IF;
END $$;

INSERT INTO migration (version) VALUES (1);
