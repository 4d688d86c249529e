-- Every three rows of a kind, and after every second row the last four.
CREATE STREAM t (ts TIMESTAMP, kind VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE threes AS
  SELECT kind, window_start, window_end, sum(n) AS s, count(*) AS c FROM COUNT_WINDOW(t, 3) WHERE n <> 100
  GROUP BY kind, window_start, window_end;
CREATE PIPELINE fours AS
  SELECT window_end, sum(n) AS s, count(*) AS c FROM COUNT_WINDOW(t, 4, 2) GROUP BY window_start, window_end;
--- explain threes
sink: results
  project: kind@0, window_start@1, window_end@2, sum(t.n)@3, count(Int64(1))@4
    group by 3 rows every 3 rows: by kind, window_start, window_end compute sum(t.n), count(Int64(1))
      filter: n@1 != 100
        windows: 3 rows every 3 rows
          stream t (topic t): kind, n
--- explain fours
sink: results
  project: window_end@1, sum(t.n)@2, count(Int64(1))@3
    group by 4 rows every 2 rows: by window_start, window_end compute sum(t.n), count(Int64(1))
      windows: 4 rows every 2 rows
        stream t (topic t): n
--- input t
{"ts": 1000, "kind": "a", "n": 1}
{"ts": 5000, "kind": "a", "n": 2}
{"ts": 2000, "kind": "b", "n": 10}
{"ts": 3000, "kind": "a", "n": 100}
{"ts": 4000, "kind": "a", "n": 3}
...
{"ts": 6000, "kind": "b", "n": 20}
{"ts": 7000, "kind": "a", "n": 4}
{"ts": 8000, "n": 0}
...
{"ts": 9000, "kind": "b", "n": 30}
{"ts": 10000, "kind": "b", "n": 40}
--- output threes
@5000 [a] {"kind":"a","window_start":"1970-01-01T00:00:01.000Z","window_end":"1970-01-01T00:00:05.000Z","s":6,"c":3}
@9000 [b] {"kind":"b","window_start":"1970-01-01T00:00:02.000Z","window_end":"1970-01-01T00:00:09.000Z","s":60,"c":3}
--- output fours
@5000 {"window_end":"1970-01-01T00:00:05.000Z","s":113,"c":4}
@6000 {"window_end":"1970-01-01T00:00:06.000Z","s":133,"c":4}
@8000 {"window_end":"1970-01-01T00:00:08.000Z","s":27,"c":4}
@10000 {"window_end":"1970-01-01T00:00:10.000Z","s":74,"c":4}
