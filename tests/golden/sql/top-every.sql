-- The latest two of each kind, at most once in ten seconds.
CREATE STREAM t (ts TIMESTAMP, kind VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE top AS SELECT kind, n, r FROM
  (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY ts DESC) AS r FROM t) AS ranked WHERE r <= 2
  EMIT EVERY INTERVAL '10' SECOND;
--- explain top
sink: changes of keyed results
  filter: r@2 <= 2
    project: kind@1, n@2, row_number() PARTITION BY [t.kind] ORDER BY [t.ts DESC NULLS FIRST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW@3
      changes every 10000 ms of event time
        top: the first 2 of each kind@1 by ts@0 desc; gives out every change
          stream t (topic t): ts, kind, n
--- input t
{"ts": 1000, "kind": "a", "n": 1}
...
{"ts": 2000, "kind": "a", "n": 2}
...
{"ts": 3000, "kind": "a", "n": 3}
...
{"ts": 11000, "kind": "b", "n": 4}
...
{"ts": 21000, "kind": "a", "n": 5}
--- output top
@1000 [["a",1]] {"kind":"a","n":1,"r":1}
@3000 [["a",1]] {"kind":"a","n":3,"r":1}
@3000 [["a",2]] {"kind":"a","n":2,"r":2}
@11000 [["b",1]] {"kind":"b","n":4,"r":1}
@21000 [["a",1]] {"kind":"a","n":5,"r":1}
@21000 [["a",2]] {"kind":"a","n":3,"r":2}
