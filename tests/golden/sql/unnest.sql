-- A row for each element of a list; a list that is null or empty gives none, or one with a null.
CREATE STREAM posts (ts TIMESTAMP, id BIGINT, tags VARCHAR[], points BIGINT ARRAY, WATERMARK FOR ts AS ts);
CREATE PIPELINE tagged AS SELECT id, tag FROM posts CROSS JOIN UNNEST(tags) AS t(tag);
CREATE PIPELINE kept AS SELECT id, p.point FROM posts AS p0 LEFT JOIN UNNEST(p0.points) AS p(point) ON TRUE;
CREATE PIPELINE pairs AS
  SELECT id, tag, point FROM posts CROSS JOIN UNNEST(tags) AS t(tag) CROSS JOIN UNNEST(points) AS point WHERE point > 1;
CREATE PIPELINE popular AS
  WITH tagged AS (SELECT ts, tag FROM posts CROSS JOIN UNNEST(tags) AS t(tag))
  SELECT tag, count(*) AS c FROM TUMBLE(tagged, ts, INTERVAL '10' SECOND) GROUP BY tag, window_start, window_end;
CREATE PIPELINE whole AS SELECT id, tags, cardinality(points) AS c FROM posts WHERE array_has(tags, 'a');
--- explain tagged
--- explain kept
--- explain pairs
--- input posts
{"ts": 1000, "id": 1, "tags": ["a", "b"], "points": [1, 2, 3]}
{"ts": 2000, "id": 2, "tags": ["a", null], "points": []}
{"ts": 3000, "id": 3, "tags": [], "points": [4]}
{"ts": 4000, "id": 4, "points": null}
{"ts": 5000, "id": 5, "tags": "a"}
{"ts": 6000, "id": 6, "tags": ["a", 6, {}]}
{"ts": 7000, "id": 7, "points": [[1]]}
{"ts": 8000, "id": 8, "points": [1, 2
...
{"ts": 30000, "id": 9, "tags": ["c"], "points": [5, null]}
{"ts": 3000, "id": 10, "tags": ["late", "later"]}
