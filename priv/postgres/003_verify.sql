-- EventSeal in PostgreSQL, version 3: a verification of a flow in plain SQL, so that the database's own people can check a
-- patient's flow without us. All of it only reads.

SET LOCAL search_path = event_seal, pg_temp;

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

-- The events of a flow that have settled and are in no block, in order, as the journal records them (FORMAT.md, "Journal"). What
-- is no event has no frame.
CREATE FUNCTION settled(flow_number bigint) RETURNS TABLE (frame bytea, hash bytea, provisional bytea, body bytea)
  LANGUAGE plpgsql STABLE SET search_path = event_seal, pg_temp AS $$
#variable_conflict use_column
DECLARE
  j record; count integer; at integer; body_at integer; units integer; body_units integer;
BEGIN
  FOR j IN
    SELECT u.meta, (SELECT data FROM journal WHERE flow = flow_number AND seq = u.seq AND data IS NOT NULL
                    ORDER BY turn DESC LIMIT 1) AS data
    FROM unsealed AS u WHERE u.flow = flow_number AND u.stage = 'tail' ORDER BY u.seq
  LOOP
    IF get_byte(j.meta || '\x00', 0) = 2 THEN
      RETURN QUERY SELECT sound_frame(substr(j.meta, 74)), substr(j.meta, 10, 32), substr(j.meta, 42, 32), j.data;
    ELSIF get_byte(j.meta || '\x00', 0) = 3 AND length(j.meta) >= 13 THEN
      count := i32(j.meta, 9);
      at := 13 + 69 * count;
      body_at := 0;
      FOR i IN 0 .. count - 1 LOOP
        EXIT WHEN length(j.meta) < 13 + 5 * count;
        units := get_byte(j.meta, 13 + i);
        body_units := i32(j.meta, 13 + count + 4 * i);
        RETURN QUERY SELECT sound_frame(substr(j.meta, at + 1, 64 * units)), substr(j.meta, 14 + 5 * count + 32 * i, 32),
          substr(j.meta, 14 + 37 * count + 32 * i, 32), substr(j.data, body_at + 1, 64 * body_units);
        at := at + 64 * units;
        body_at := body_at + 64 * body_units;
      END LOOP;
    ELSE
      RETURN QUERY SELECT NULL::bytea, NULL::bytea, NULL::bytea, NULL::bytea;
    END IF;
  END LOOP;
END $$;

-- A frame, if it can be one: NULL if not.
CREATE FUNCTION sound_frame(frame bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN length(frame) % 64 = 0 AND length(frame) BETWEEN 128 AND 1920 THEN
    CASE WHEN get_byte(frame, 64) < 2 AND abs(i64(frame, 16)::numeric) < 9007199254740992
      AND abs(i64(frame, 24)::numeric) < 9007199254740992 THEN frame END END;

-- The provisional id of the i-th event of a tail (FORMAT.md, "Ids"): ids and hashes begin three and two before the tail.
CREATE FUNCTION provisional(g bytea, ids bytea[], hashes bytea[], i integer, n bigint) RETURNS bytea
  LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  h('provisional', g || ids[i] || hashes[i] || hashes[i + 1] || hashes[i + 2] || int8send(n)
    || decode(repeat('00', 24), 'hex'));

-- What of a flow has settled and is not sealed, behind a block whose last ids and hashes these are, and which says what is to
-- come. top and recorded_top are the greatest times before it, exact whether they are known.
CREATE FUNCTION verify_tail(flow_number bigint, g bytea, fixed bigint, ids bytea[], hashes bytea[], expected bytea[],
  top bigint, recorded_top bigint, exact boolean) RETURNS TABLE (n bigint, class text) LANGUAGE plpgsql STABLE
  SET search_path = event_seal, pg_temp AS $$
DECLARE
  e record; count integer := 0; one bytea; other bytea; own bytea; commitment bytea; recorded bytea[] := '{}';
  own_ids bytea[] := ids; own_hashes bytea[] := hashes;
BEGIN
  FOR e IN SELECT * FROM settled(flow_number) LOOP
    IF e.frame IS NULL THEN
      RETURN QUERY SELECT fixed + 1, 'format';
      IF expected IS NOT NULL THEN RETURN QUERY SELECT fixed + 1, 'missing'; END IF;
      RETURN;
    END IF;
  END LOOP;

  FOR e IN SELECT * FROM settled(flow_number) LOOP
    count := count + 1;
    one := h('event', e.frame);
    other := one;
    IF coalesce(e.body, '') = '' THEN
      RETURN QUERY SELECT fixed + count, 'body_missing';
    ELSE
      commitment := h('body', e.body);
      IF commitment <> substr(e.frame, 33, 32) THEN
        RETURN QUERY SELECT fixed + count, 'commitment';
        other := h('event', overlay(e.frame PLACING commitment FROM 33 FOR 32));
      END IF;
    END IF;
    IF e.hash NOT IN (one, other) THEN
      RETURN QUERY SELECT fixed + count, 'event_hash';
      own := one;
      exact := false;
    ELSE
      own := e.hash;
      IF text_at(e.frame, 67) = '$close' THEN RETURN QUERY SELECT fixed + count, 'close'; END IF;
      IF (get_byte(e.frame, 64) = 1) <> coalesce(i64(e.frame, 16) < top, false) AND (exact OR i64(e.frame, 16) < top) THEN
        RETURN QUERY SELECT fixed + count, 'late';
      END IF;
      IF i64(e.frame, 24) < recorded_top THEN RETURN QUERY SELECT fixed + count, 'recorded_at'; END IF;
      top := greatest(top, i64(e.frame, 16));
      recorded_top := i64(e.frame, 24);
    END IF;
    IF expected[count] NOT IN (e.hash, own) THEN RETURN QUERY SELECT fixed + count, 'seam'; END IF;
    hashes := hashes || e.hash;
    own_hashes := own_hashes || own;
    recorded := recorded || e.provisional;
  END LOOP;

  FOR i IN 1 .. count LOOP
    IF recorded[i] NOT IN (provisional(g, ids, hashes, i, fixed + i), provisional(g, own_ids, own_hashes, i, fixed + i)) THEN
      RETURN QUERY SELECT fixed + i, 'provisional';
    END IF;
    ids := ids || h('link', g || ids[i + 2] || ids[i + 1] || ids[i] || hashes[i + 2] || hashes[i + 3] || hashes[i + 4]
      || hashes[i + 5]);
    own_ids := own_ids || h('link', g || own_ids[i + 2] || own_ids[i + 1] || own_ids[i] || own_hashes[i + 2]
      || own_hashes[i + 3] || own_hashes[i + 4] || own_hashes[i + 5]);
  END LOOP;
  IF count < cardinality(expected) THEN RETURN QUERY SELECT fixed + count + 1, 'missing'; END IF;
END $$;

-- Verifies a flow without EventSeal: its faults, none if it is as it was settled and sealed. Suite 1 alone, since PostgreSQL
-- knows no BLAKE3. Each layer is recomputed from the recorded layer below it, and a mismatch is a fault only if it fails also
-- with what that layer should be (FORMAT.md, "Verification", steps 1 to 10). What the log says verify_log() tells.
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
  sound boolean; exact boolean := true;
  tail bytea[]; fixed bigint; -- hashes of what has settled, behind what is sealed
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

  tail := ARRAY(SELECT hash FROM settled(f.number));
  fixed := coalesce((SELECT max(first + count - 1) FROM block WHERE flow = f.number), 0);

  FOR b IN SELECT * FROM block WHERE flow = f.number ORDER BY block.height LOOP
    header := substr(b.front, length(b.front) - 447, 192);
    seams := substr(b.front, length(b.front) - 255, 256);
    IF b.height > height AND b.first > position THEN
      -- Blocks are gone. This one is held against what it says of them itself.
      RETURN QUERY SELECT position, 'read';
      previous_hash := b.previous;
      own_previous_hash := b.previous;
      last_ids := ARRAY[substr(seams, 1, 32), substr(seams, 33, 32), substr(seams, 65, 32)];
      own_last_ids := last_ids;
      last_hashes := ARRAY[substr(seams, 97, 32), substr(seams, 129, 32)];
      own_last_hashes := last_hashes;
      expected := NULL;
      exact := false;
      height := b.height;
      position := b.first;
    END IF;
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

    -- What comes behind is read from there, sealed or settled.
    own_seams := (SELECT string_agg(d, '' ORDER BY at) FROM unnest(own_last_ids || own_last_hashes) WITH ORDINALITY AS u (d, at)) || (
      SELECT string_agg(coalesce((SELECT hash FROM event WHERE flow = f.number AND event.n = b.first + b.count + i),
        tail[(b.first + b.count + i - fixed)::integer], substr(seams, 161 + 32 * i, 32)), '' ORDER BY i) FROM generate_series(0, 2) AS i);
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
    exact := exact AND sound;
  END LOOP;
  RETURN QUERY SELECT * FROM verify_tail(f.number, g, position - 1, last_ids, last_hashes, expected, top, recorded_top, exact);
END $$;

REVOKE ALL ON FUNCTION merkle_root, id_near, hash_near, link, settled, sound_frame, provisional, verify_tail, verify FROM PUBLIC;
GRANT EXECUTE ON FUNCTION merkle_root, id_near, hash_near, link, settled, sound_frame, provisional, verify_tail, verify
  TO event_seal_writer, event_seal_reader;

INSERT INTO migration (version) VALUES (3);
