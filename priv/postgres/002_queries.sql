-- EventSeal in PostgreSQL, version 2: what a DBA or an analyst asks. All of it only reads. Times are UTC.

SET LOCAL search_path = event_seal, pg_temp;

CREATE FUNCTION at_time(us bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  timestamp '1970-01-01' + us::double precision * interval '1 microsecond';

-- A salted body's body: behind 16 bytes of salt and 8 of its length.
CREATE FUNCTION unsalted(body bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  substr(body, 25, i64(body, 16)::integer);

-- The event of each frame in a record of the journal (FORMAT.md, "Journal"), n for those that have settled.
CREATE FUNCTION frames_of(meta bytea) RETURNS TABLE (n bigint, frame bytea) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  count integer;
  at integer;
BEGIN
  CASE get_byte(meta, 0)
    WHEN 1 THEN RETURN QUERY SELECT NULL::bigint, substr(meta, 10);
    WHEN 2 THEN RETURN QUERY SELECT event_seal.i64(meta, 1), substr(meta, 74);
    ELSE
      count := event_seal.i32(meta, 9);
      at := 13 + 69 * count;
      FOR i IN 0 .. count - 1 LOOP
        RETURN QUERY SELECT event_seal.i64(meta, 1) + i, substr(meta, at + 1, 64 * get_byte(meta, 13 + i));
        at := at + 64 * get_byte(meta, 13 + i);
      END LOOP;
  END CASE;
END $$;

-- What of the journal still counts: the last change of each entry that no block holds.
CREATE VIEW unsealed AS
SELECT e.flow, e.seq, e.stage, e.meta
FROM (SELECT DISTINCT ON (flow, seq) flow, seq, stage, meta FROM journal WHERE stage <> 'block'
      ORDER BY flow, seq, turn DESC) AS e
WHERE e.stage <> 'gone' AND e.seq > coalesce(greatest((SELECT max(through) FROM block WHERE flow = e.flow),
  (SELECT max(seq) FROM journal WHERE flow = e.flow AND stage = 'block')), -1);

-- Every event with its stage. An event of the pool has no position yet.
CREATE VIEW events AS
SELECT f.id AS flow, e.n, 'fixed' AS stage, at_time(e.happened_at) AS happened_at, at_time(e.recorded_at) AS recorded_at,
  e.late, e.kind, e.version, e.place, e.latitude_e7, e.longitude_e7, e.who, unsalted(e.body) AS body, e.euid
FROM event AS e JOIN flow AS f ON f.number = e.flow
UNION ALL
SELECT f.id, u.n, CASE j.stage WHEN 'pool' THEN 'pool' ELSE 'sandbox' END, at_time(i64(u.frame, 16)),
  at_time(i64(u.frame, 24)), get_byte(u.frame, 64) = 1, text_at(u.frame, 67), u16(u.frame, version_at(u.frame)),
  place(u.frame), CASE get_byte(u.frame, version_at(u.frame) + 2) WHEN 2 THEN i32(u.frame, version_at(u.frame) + 3) END,
  CASE get_byte(u.frame, version_at(u.frame) + 2) WHEN 2 THEN i32(u.frame, version_at(u.frame) + 7) END, who(u.frame), NULL,
  substr(u.frame, 1, 16)
FROM unsealed AS j JOIN flow AS f ON f.number = j.flow, LATERAL frames_of(j.meta) AS u;

-- Each flow: how far it is sealed, what waits behind, whether it is closed. Those with an open tail come by
-- WHERE sandbox > 0.
CREATE VIEW flows AS
SELECT f.id AS flow, coalesce(b.first + b.count - 1, 0) AS fixed, coalesce(u.sandbox, 0) AS sandbox, coalesce(u.pool, 0) AS pool,
  coalesce(b.height + 1, 0) AS blocks, coalesce(b.closes, false) AS closed, at_time(b.sealed_at) AS sealed_at
FROM flow AS f
LEFT JOIN LATERAL (SELECT * FROM block WHERE flow = f.number ORDER BY height DESC LIMIT 1) AS b ON true
LEFT JOIN (SELECT j.flow, count(*) FILTER (WHERE j.stage = 'tail') AS sandbox, count(*) FILTER (WHERE j.stage = 'pool') AS pool
           FROM unsealed AS j, LATERAL frames_of(j.meta) GROUP BY j.flow) AS u ON u.flow = f.number;

-- Fixed events by place and kind.
CREATE VIEW counts AS
SELECT place, kind, count(*) AS events, at_time(min(happened_at)) AS first, at_time(max(happened_at)) AS last
FROM event GROUP BY place, kind;

-- H[role](x) of suite 1 (FORMAT.md, "Hashing").
CREATE FUNCTION h(role text, x bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  sha256(sha256(convert_to('event-seal/1 ' || role, 'UTF8')) || sha256(convert_to('event-seal/1 ' || role, 'UTF8')) || x);

-- How far the last checkpoint covers each flow of suite 1: up to the greatest position that a leaf before it speaks of.
CREATE VIEW coverage AS
SELECT f.id AS flow, coalesce(max(i64(l.data, CASE get_byte(l.data, 0) WHEN 1 THEN 42 ELSE 34 END)), 0) AS covered
FROM flow AS f LEFT JOIN leaf AS l
  ON get_byte(l.data, 0) IN (1, 2) AND substr(l.data, 3, 32) = h('flow', f.genesis)
  AND l.index < (SELECT split_part(convert_from(substr(c.data, 3 + u16(c.data, 0)), 'UTF8'), E'\n', 2)::bigint
                 FROM checkpoint AS c ORDER BY c.index DESC LIMIT 1)
WHERE get_byte(f.genesis, 0) = 1
GROUP BY f.id;

REVOKE ALL ON FUNCTION at_time, unsalted, frames_of, h FROM PUBLIC;
GRANT EXECUTE ON FUNCTION at_time, unsalted, frames_of, h TO event_seal_writer, event_seal_reader;
GRANT SELECT ON unsealed, events, flows, counts, coverage TO event_seal_writer, event_seal_reader;

INSERT INTO migration (version) VALUES (2);
