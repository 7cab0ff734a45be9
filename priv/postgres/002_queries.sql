-- EventSeal in PostgreSQL, version 2: what a DBA or an analyst asks, and a verification of a sealed flow in plain SQL. All of
-- it only reads. Times are UTC.

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
WHERE e.stage <> 'gone' AND e.seq > coalesce((SELECT max(through) FROM block WHERE flow = e.flow), -1);

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

-- H[role](x) of suite 1 (FORMAT.md, "Hashing"), and padding to units of 64 bytes.
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

-- The Merkle root over ids (FORMAT.md, "Root").
CREATE FUNCTION merkle_root(ids bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = event_seal, pg_temp AS $$
DECLARE
  count integer := cardinality(ids);
  half integer := 1;
BEGIN
  IF count = 1 THEN RETURN ids[1]; END IF;
  WHILE 2 * half < count LOOP half := 2 * half; END LOOP;
  RETURN h('node', merkle_root(ids[1:half]) || merkle_root(ids[half + 1:count]));
END $$;

-- An id or event hash by its place in a block, from 1; outside of it, from the seams.
CREATE FUNCTION id_near(ids bytea[], seams bytea, i integer) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN i >= 1 THEN ids[i] ELSE substr(seams, 32 * (i + 2) + 1, 32) END;

CREATE FUNCTION hash_near(hashes bytea[], seams bytea, i integer) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN i <= cardinality(hashes) THEN hashes[i] ELSE substr(seams, 129 + 32 * (i - cardinality(hashes)), 32) END;

-- The id at a place in a block (FORMAT.md, "Ids").
CREATE FUNCTION link(g bytea, ids bytea[], hashes bytea[], seams bytea, i integer) RETURNS bytea
  LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  h('link', g || id_near(ids, seams, i - 1) || id_near(ids, seams, i - 2) || id_near(ids, seams, i - 3)
    || hash_near(hashes, seams, i) || hash_near(hashes, seams, i + 1) || hash_near(hashes, seams, i + 2)
    || hash_near(hashes, seams, i + 3));

-- Verifies what of a flow is sealed, without EventSeal: its faults, none if it is as it was sealed. Suite 1 alone, since
-- PostgreSQL knows no BLAKE3. Each layer is recomputed from the recorded layer below it, and a mismatch is a fault only if
-- it fails also with what that layer should be (FORMAT.md, "Verification", steps 1 to 9); what the log says is not asked.
CREATE FUNCTION verify(flow_id text) RETURNS TABLE (n bigint, class text) LANGUAGE plpgsql STABLE
  SET search_path = event_seal, pg_temp AS $$
#variable_conflict use_column
DECLARE
  f flow; b block; e record;
  g bytea; header bytea; seams bytea; previous_hash bytea; own_previous_hash bytea;
  hashes bytea[]; ids bytea[]; own_hashes bytea[]; own_ids bytea[]; -- as recorded, and as they should be
  last_hashes bytea[]; last_ids bytea[]; own_last_hashes bytea[]; own_last_ids bytea[]; -- the same of the blocks before
  expected bytea[]; own_seams bytea; own_root bytea; -- what the block before said would come; what the neighbours say
  commitment bytea; one bytea; other bytea;
  height bigint := 0; position bigint := 1;
  top bigint; top_before bigint; recorded_top bigint; sealed_top bigint; least bigint; greatest_when bigint; newest bigint;
  sound boolean;
BEGIN
  SELECT * INTO f FROM flow WHERE id = flow_id;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no such flow' USING ERRCODE = 'P0002'; END IF;
  IF get_byte(f.genesis, 0) <> 1 THEN RAISE EXCEPTION 'this flow is of suite 2, BLAKE3' USING ERRCODE = '0A000'; END IF;
  g := h('flow', f.genesis);
  previous_hash := g;
  own_previous_hash := g;
  last_ids := ARRAY[g, g, g];
  last_hashes := ARRAY[g, g];
  own_last_ids := last_ids;
  own_last_hashes := last_hashes;

  FOR b IN SELECT * FROM block WHERE flow = f.number ORDER BY block.height LOOP
    header := substr(b.front, length(b.front) - 447, 192);
    seams := substr(b.front, length(b.front) - 255, 256);
    IF b.height <> height THEN RETURN QUERY SELECT position, 'height'; END IF;
    IF b.first <> position THEN RETURN QUERY SELECT position, 'position'; END IF;
    IF substr(header, 57, 32) <> g OR substr(b.front, 65, length(b.front) - 512) <> f.genesis THEN
      RETURN QUERY SELECT b.first, 'genesis';
    END IF;
    hashes := '{}'; ids := '{}'; own_hashes := '{}'; sound := true;
    top_before := top; least := NULL; greatest_when := NULL; newest := NULL;

    FOR e IN
      SELECT s.n, v.hash, v.id, v.body, v.erased, v.whole,
        CASE WHEN v.whole THEN v.frame ELSE decode(repeat('00', 128), 'hex') END AS frame
      FROM generate_series(b.first, b.first + b.count - 1) AS s (n) LEFT JOIN LATERAL
        (SELECT *, length(frame) % 64 = 0 AND length(frame) BETWEEN 64 AND 16320 AS whole FROM event
         WHERE flow = f.number AND event.n = s.n) AS v ON true ORDER BY s.n
    LOOP
      one := h('event', e.frame);
      other := one;
      IF e.body IS NULL THEN
        RETURN QUERY SELECT e.n, 'body_missing';
      ELSE
        commitment := h('body', e.body);
        IF commitment <> substr(e.frame, 33, 32) THEN
          RETURN QUERY SELECT e.n, 'commitment';
          other := h('event', overlay(e.frame PLACING commitment FROM 33 FOR 32));
        END IF;
      END IF;
      hashes := hashes || coalesce(e.hash, decode(repeat('00', 32), 'hex'));
      ids := ids || coalesce(e.id, decode(repeat('00', 32), 'hex'));
      IF hashes[cardinality(hashes)] NOT IN (one, other) THEN
        RETURN QUERY SELECT e.n, 'event_hash';
        sound := false;
        own_hashes := own_hashes || one;
      ELSE
        own_hashes := own_hashes || hashes[cardinality(hashes)];
      END IF;
      IF sound THEN
        IF (get_byte(e.frame, 64) = 1) <> coalesce(i64(e.frame, 16) < top, false) THEN RETURN QUERY SELECT e.n, 'late'; END IF;
        IF i64(e.frame, 24) < recorded_top THEN RETURN QUERY SELECT e.n, 'recorded_at'; END IF;
        least := least(least, i64(e.frame, 16));
        greatest_when := greatest(greatest_when, i64(e.frame, 16));
        newest := greatest(newest, i64(e.frame, 24));
        top := greatest(top, greatest_when);
        recorded_top := greatest(recorded_top, newest);
      END IF;
    END LOOP;

    -- What comes behind is read from there, if it is sealed.
    own_seams := (SELECT string_agg(d, '' ORDER BY at) FROM unnest(own_last_ids || own_last_hashes) WITH ORDINALITY AS u (d, at)) || (
      SELECT string_agg(coalesce((SELECT hash FROM event WHERE flow = f.number AND event.n = b.first + b.count + i),
        substr(seams, 161 + 32 * i, 32)), '' ORDER BY i) FROM generate_series(0, 2) AS i);
    own_ids := '{}';
    FOR i IN 1 .. b.count LOOP
      one := link(g, ids, hashes, seams, i);
      IF ids[i] NOT IN (one, link(g, own_ids, own_hashes, own_seams, i)) THEN
        RETURN QUERY SELECT b.first + i - 1, 'id';
        own_ids := own_ids || one;
      ELSE
        own_ids := own_ids || ids[i];
      END IF;
    END LOOP;

    own_root := substr(header, 121, 32);
    IF own_root NOT IN (merkle_root(ids), merkle_root(own_ids)) THEN
      RETURN QUERY SELECT b.first, 'root';
      own_root := merkle_root(own_ids);
    END IF;
    IF sound AND (i64(header, 32), i64(header, 40)) <> (least, greatest_when) THEN RETURN QUERY SELECT b.first, 'when_range'; END IF;
    top := greatest(top_before, i64(header, 40));
    IF sound AND b.sealed_at < newest OR b.sealed_at < sealed_top THEN RETURN QUERY SELECT b.first, 'sealed_at'; END IF;
    sealed_top := greatest(sealed_top, b.sealed_at);
    one := h('block', header);
    IF b.hash NOT IN (one, h('block', overlay(header PLACING own_root FROM 121 FOR 32))) THEN
      RETURN QUERY SELECT b.first, 'block_hash';
    ELSE
      one := b.hash;
    END IF;
    IF b.previous NOT IN (previous_hash, own_previous_hash) THEN RETURN QUERY SELECT b.first, 'previous'; END IF;
    previous_hash := b.hash;
    own_previous_hash := one;

    RETURN QUERY SELECT b.first, 'seam' FROM generate_series(1, 5) AS i
      WHERE substr(seams, 32 * i - 31, 32) NOT IN ((last_ids || last_hashes)[i], (own_last_ids || own_last_hashes)[i]);
    RETURN QUERY SELECT b.first + i - 1, 'seam' FROM generate_series(1, least(b.count, 3)) AS i
      WHERE expected[i] NOT IN (hashes[i], own_hashes[i]);
    last_ids := (last_ids || ids)[b.count + 1:];
    own_last_ids := (own_last_ids || own_ids)[b.count + 1:];
    last_hashes := (last_hashes || hashes)[b.count + 1:];
    own_last_hashes := (own_last_hashes || own_hashes)[b.count + 1:];
    expected := CASE WHEN NOT b.closes THEN ARRAY[substr(seams, 161, 32), substr(seams, 193, 32), substr(seams, 225, 32)] END;
    height := b.height + 1;
    position := b.first + b.count;
  END LOOP;
END $$;

REVOKE ALL ON FUNCTION at_time, unsalted, frames_of, h, merkle_root, verify, id_near, hash_near, link FROM PUBLIC;
GRANT EXECUTE ON FUNCTION at_time, unsalted, frames_of, h, merkle_root, verify, id_near, hash_near, link
  TO event_seal_writer, event_seal_reader;
GRANT SELECT ON unsealed, events, flows, counts, coverage TO event_seal_writer, event_seal_reader;

INSERT INTO migration (version) VALUES (2);
