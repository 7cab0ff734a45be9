-- EventSeal in PostgreSQL, version 4: the log held against the flows and its checkpoints, in plain SQL. All of it only reads.

SET LOCAL search_path = event_seal, pg_temp;

-- The root of the RFC 6962 tree over the first so many leaves (FORMAT.md, "Log"), for each of these sizes that the log has.
CREATE FUNCTION log_roots(sizes bigint[]) RETURNS TABLE (size bigint, root bytea) LANGUAGE plpgsql STABLE
  SET search_path = event_seal, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  peaks bytea[] := '{}'; -- of the greatest whole trees, from the left
  l record; node bytea; left_of bigint;
BEGIN
  IF 0 = ANY (sizes) THEN RETURN QUERY SELECT 0::bigint, sha256(''); END IF;
  FOR l IN SELECT index, data FROM leaf WHERE index BETWEEN 0 AND (SELECT max(s) FROM unnest(sizes) AS s) - 1 ORDER BY index LOOP
    node := sha256('\x00' || l.data);
    left_of := l.index;
    WHILE left_of % 2 = 1 LOOP
      node := sha256('\x01' || peaks[cardinality(peaks)] || node);
      peaks := trim_array(peaks, 1);
      left_of := left_of / 2;
    END LOOP;
    peaks := peaks || node;
    IF l.index + 1 = ANY (sizes) THEN
      FOR i IN REVERSE cardinality(peaks) - 1 .. 1 LOOP
        node := sha256('\x01' || peaks[i] || node);
      END LOOP;
      RETURN QUERY SELECT l.index + 1, node;
    END IF;
  END LOOP;
END $$;

-- Each stored checkpoint with the size and the root that it says, and the root that the leaves have. Who signed it SQL does not
-- check.
CREATE VIEW checkpoints AS
WITH c AS (
  SELECT index, text_at(data, 0) AS key, split_part(note, E'\n', 1) AS origin, split_part(note, E'\n', 2)::bigint AS size,
    decode(split_part(note, E'\n', 3), 'base64') AS root
  FROM (SELECT index, data, convert_from(substr(data, 3 + u16(data, 0)), 'UTF8') AS note FROM checkpoint) AS n)
SELECT c.index, c.key, c.origin, c.size, c.root, coalesce(c.root = r.root, false) AS holds
FROM c LEFT JOIN log_roots(ARRAY(SELECT size FROM c)) AS r ON r.size = c.size;

-- What the leaves of suite 1 bind: of a block (1), of a tail (2) or by a decision (5).
CREATE VIEW bindings AS
SELECT index, get_byte(data, 0) AS kind, substr(data, 3, 32) AS genesis,
  CASE get_byte(data, 0) WHEN 1 THEN i64(data, 34) END AS height,
  CASE get_byte(data, 0) WHEN 1 THEN i64(data, 42) ELSE i64(data, 34) END AS last,
  CASE get_byte(data, 0) WHEN 1 THEN substr(data, 51, 32) ELSE substr(data, 43, 32) END AS digest
FROM leaf
WHERE (length(data), get_byte(data || '\x00', 0)) IN ((82, 1), (74, 2), (106, 5)) AND get_byte(data || '\x0000', 1) = 1;

-- The provisional id of each position of a flow that a leaf binds, as it follows from what is sealed, or as the journal has it.
CREATE FUNCTION provisionals(flow_number bigint, g bytea, positions bigint[]) RETURNS TABLE (n bigint, digest bytea)
  LANGUAGE sql STABLE SET search_path = event_seal, pg_temp AS $$
  SELECT p.n, provisional(g,
    ARRAY[coalesce((SELECT id FROM event WHERE flow = flow_number AND event.n = p.n - 3), g)],
    ARRAY(SELECT coalesce((SELECT hash FROM event WHERE flow = flow_number AND event.n = p.n + i), g)
          FROM generate_series(-2, 0) AS i ORDER BY i), 1, p.n)
  FROM unnest(positions) AS p (n) WHERE EXISTS (SELECT FROM event WHERE flow = flow_number AND event.n = p.n)
  UNION ALL
  SELECT t.n, t.provisional FROM (
    SELECT coalesce((SELECT max(first + count - 1) FROM block WHERE flow = flow_number), 0) + row_number() OVER () AS n,
      s.provisional FROM settled(flow_number) AS s) AS t
  WHERE t.n = ANY (positions) AND NOT EXISTS (SELECT FROM settled(flow_number) AS s WHERE s.hash IS NULL)
$$;

-- The log against the flows, both ways, and against its checkpoints (FORMAT.md, "Verification", steps 11 to 16): of each flow
-- the lowest position where they disagree. A flow that is not there bears its genesis; a fault of the log itself the name log,
-- and a leaf's index or a checkpoint's size. What verify() finds of a flow is not said again.
CREATE FUNCTION verify_log() RETURNS TABLE (flow text, n bigint, class text) LANGUAGE sql STABLE
  SET search_path = event_seal, pg_temp AS $$
  WITH f AS MATERIALIZED (
    SELECT number, id, h('flow', genesis) AS g FROM flow WHERE get_byte(genesis, 0) = 1
  ), decision AS MATERIALIZED (
    SELECT index, genesis, last FROM bindings WHERE kind = 5
  ), l AS MATERIALIZED ( -- a leaf, what the one before it said of the same place, and whether a later decision took it back
    SELECT b.*, b.genesis IN (SELECT genesis FROM decision) AND EXISTS (
        SELECT FROM decision AS d WHERE d.genesis = b.genesis AND d.index > b.index) AS decided,
      b.genesis IN (SELECT genesis FROM decision) AND EXISTS (
        SELECT FROM decision AS d WHERE d.genesis = b.genesis AND d.index > b.index AND d.last < b.last) AS void,
      lag(b.last) OVER of_kind AS tip, lag(b.digest) OVER of_place AS said, lag(b.last) OVER of_place AS said_last,
      lag(b.decisions) OVER of_place AS said_decisions, row_number() OVER of_place AS nth,
      row_number() OVER (PARTITION BY genesis, kind = 1, coalesce(height, last) ORDER BY index DESC) AS nth_last
    FROM (SELECT *, count(*) FILTER (WHERE kind = 5) OVER (PARTITION BY genesis ORDER BY index) AS decisions FROM bindings) AS b
    WINDOW of_kind AS (PARTITION BY genesis, kind = 1 ORDER BY index),
      of_place AS (PARTITION BY genesis, kind = 1, coalesce(height, last) ORDER BY index)
  ), placed AS MATERIALIZED ( -- with the lowest position that it concerns: behind the leaf of the block before
    SELECT l.*, CASE WHEN l.kind <> 1 THEN l.last WHEN l.height = 0 THEN 1 ELSE coalesce(o.last + 1, l.last) END AS n
    FROM l LEFT JOIN l AS o ON o.kind = 1 AND o.nth = 1 AND o.genesis = l.genesis AND o.height = l.height - 1
  ), tails AS MATERIALIZED ( -- the leaf that binds a position
    SELECT f.number, f.id, f.g, l.last AS n, l.digest, l.void FROM l JOIN f ON f.g = l.genesis WHERE l.kind <> 1 AND l.nth_last = 1
  ), made AS MATERIALIZED (
    SELECT t.number, p.n, p.digest FROM (SELECT number, g, array_agg(n) AS positions FROM tails GROUP BY number, g) AS t,
      LATERAL provisionals(t.number, t.g, t.positions) AS p
  ), differing AS MATERIALIZED (
    SELECT f.id, b.first AS n, b.first + b.count - 1 AS last
    FROM block AS b JOIN f ON f.number = b.flow
    LEFT JOIN l ON l.kind = 1 AND l.nth_last = 1 AND l.genesis = f.g AND l.height = b.height AND NOT l.void
    WHERE (b.hash, b.first + b.count - 1) IS DISTINCT FROM (l.digest, l.last)
    UNION ALL
    SELECT t.id, t.n, t.n FROM tails AS t JOIN made USING (number, n) WHERE NOT t.void AND t.digest <> made.digest
  ), unmet AS MATERIALIZED (
    SELECT l.genesis, f.id, l.n, l.last
    FROM placed AS l LEFT JOIN f ON f.g = l.genesis
    LEFT JOIN block AS b ON l.kind = 1 AND b.flow = f.number AND b.height = l.height
    LEFT JOIN made ON l.kind <> 1 AND made.number = f.number AND made.n = l.last
    WHERE NOT l.decided AND b.flow IS NULL AND made.n IS NULL
  ), forks AS ( -- the first tail that falls, or leaves of one place that say different things
    SELECT genesis, CASE WHEN kind <> 1 AND last < tip THEN last + 1 ELSE n END AS n
    FROM placed WHERE (kind = 2 AND last < tip) OR (said_decisions = decisions AND (said, said_last) <> (digest, last))
  )
  SELECT id, min(n), 'log' FROM differing
  WHERE NOT EXISTS (SELECT FROM verify(differing.id) AS v WHERE v.n BETWEEN differing.n AND differing.last) GROUP BY id
  UNION
  SELECT coalesce((SELECT id FROM f WHERE g = genesis), 'genesis ' || encode(genesis, 'hex')), min(n), 'log'
  FROM unmet -- what stands behind blocks that are gone was not looked at
  WHERE id IS NULL OR NOT EXISTS (SELECT FROM verify(unmet.id) AS v WHERE v.class = 'read' AND v.n <= unmet.last) GROUP BY genesis
  UNION
  SELECT coalesce((SELECT id FROM f WHERE g = genesis), 'genesis ' || encode(genesis, 'hex')), min(n), 'log'
  FROM forks GROUP BY genesis
  UNION
  SELECT 'log', index, 'log' FROM leaf
  WHERE data = '' OR length(data) <> CASE get_byte(data || '\x00', 0) WHEN 1 THEN 82 WHEN 2 THEN 74 WHEN 3 THEN 82 WHEN 5 THEN 106
      ELSE length(data) END
    OR (get_byte(data || '\x00', 0) IN (1, 2, 3, 5) AND get_byte(data || '\x0000', 1) NOT IN (1, 2))
  UNION
  SELECT 'log', size, CASE WHEN size > (SELECT count(*) FROM leaf) THEN 'rolled_back' ELSE 'log' END
  FROM checkpoints WHERE NOT holds
$$;

REVOKE ALL ON FUNCTION log_roots, provisionals, verify_log FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log_roots, provisionals, verify_log TO event_seal_writer, event_seal_reader;
GRANT SELECT ON checkpoints, bindings TO event_seal_writer, event_seal_reader;

INSERT INTO migration (version) VALUES (4);
