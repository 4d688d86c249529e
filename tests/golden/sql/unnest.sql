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
sink: results
  project: id@0, tag@2
    a row for each element of tags@1
      stream posts (topic posts): id, tags
--- explain kept
sink: results
  project: id@0, point@2
    a row for each element of points@1; rows without one are kept
      stream posts (topic posts): id, points
--- explain pairs
sink: results
  filter: point@2 > 1
    project: id@0, tag@3, point@4
      a row for each element of points@2
        a row for each element of tags@1
          stream posts (topic posts): id, tags, points
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
--- output tagged.dlq
@0 {"ts": 5000, "id": 5, "tags": "a"} {x-dlq-reason: column 'tags' is a list of VARCHAR, which 'a' is not}
@0 {"ts": 6000, "id": 6, "tags": ["a", 6, {}]} {x-dlq-reason: column 'tags' is a list of VARCHAR, which [6] is not}
@0 {"ts": 8000, "id": 8, "points": [1, 2 {x-dlq-reason: the value is no JSON object: EOF while parsing a list at line 1 column 37}
--- output tagged
@1000 {"id":1,"tag":"a"}
@1000 {"id":1,"tag":"b"}
@2000 {"id":2,"tag":"a"}
@2000 {"id":2,"tag":null}
@30000 {"id":9,"tag":"c"}
@3000 {"id":10,"tag":"late"}
@3000 {"id":10,"tag":"later"}
--- output kept.dlq
@0 {"ts": 7000, "id": 7, "points": [[1]]} {x-dlq-reason: column 'points' is a list of BIGINT, which [a list] is not}
@0 {"ts": 8000, "id": 8, "points": [1, 2 {x-dlq-reason: the value is no JSON object: EOF while parsing a list at line 1 column 37}
--- output kept
@1000 {"id":1,"point":1}
@1000 {"id":1,"point":2}
@1000 {"id":1,"point":3}
@2000 {"id":2,"point":null}
@3000 {"id":3,"point":4}
@4000 {"id":4,"point":null}
@5000 {"id":5,"point":null}
@6000 {"id":6,"point":null}
@30000 {"id":9,"point":5}
@30000 {"id":9,"point":null}
@3000 {"id":10,"point":null}
--- output pairs.dlq
@0 {"ts": 5000, "id": 5, "tags": "a"} {x-dlq-reason: column 'tags' is a list of VARCHAR, which 'a' is not}
@0 {"ts": 6000, "id": 6, "tags": ["a", 6, {}]} {x-dlq-reason: column 'tags' is a list of VARCHAR, which [6] is not}
@0 {"ts": 7000, "id": 7, "points": [[1]]} {x-dlq-reason: column 'points' is a list of BIGINT, which [a list] is not}
@0 {"ts": 8000, "id": 8, "points": [1, 2 {x-dlq-reason: the value is no JSON object: EOF while parsing a list at line 1 column 37}
--- output pairs
@1000 {"id":1,"tag":"a","point":2}
@1000 {"id":1,"tag":"a","point":3}
@1000 {"id":1,"tag":"b","point":2}
@1000 {"id":1,"tag":"b","point":3}
@30000 {"id":9,"tag":"c","point":5}
--- output popular.dlq
@0 {"ts": 5000, "id": 5, "tags": "a"} {x-dlq-reason: column 'tags' is a list of VARCHAR, which 'a' is not}
@0 {"ts": 6000, "id": 6, "tags": ["a", 6, {}]} {x-dlq-reason: column 'tags' is a list of VARCHAR, which [6] is not}
@0 {"ts": 8000, "id": 8, "points": [1, 2 {x-dlq-reason: the value is no JSON object: EOF while parsing a list at line 1 column 37}
--- output popular.late
@0 {"ts": 3000, "id": 10, "tags": ["late", "later"]} {x-late-window: 0..10000}
--- output popular
@9999 {"tag":null,"c":1}
@9999 [a] {"tag":"a","c":2}
@9999 [b] {"tag":"b","c":1}
--- output whole.dlq
@0 {"ts": 5000, "id": 5, "tags": "a"} {x-dlq-reason: column 'tags' is a list of VARCHAR, which 'a' is not}
@0 {"ts": 6000, "id": 6, "tags": ["a", 6, {}]} {x-dlq-reason: column 'tags' is a list of VARCHAR, which [6] is not}
@0 {"ts": 7000, "id": 7, "points": [[1]]} {x-dlq-reason: column 'points' is a list of BIGINT, which [a list] is not}
@0 {"ts": 8000, "id": 8, "points": [1, 2 {x-dlq-reason: the value is no JSON object: EOF while parsing a list at line 1 column 37}
--- output whole
@1000 {"id":1,"tags":["a","b"],"c":3}
@2000 {"id":2,"tags":["a",null],"c":0}
