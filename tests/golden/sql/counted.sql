-- Every three rows of a kind, and after every second row the last four.
CREATE STREAM t (ts TIMESTAMP, kind VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE threes AS
  SELECT kind, window_start, window_end, sum(n) AS s, count(*) AS c FROM COUNT_WINDOW(t, 3) WHERE n <> 100
  GROUP BY kind, window_start, window_end;
CREATE PIPELINE fours AS
  SELECT window_end, sum(n) AS s, count(*) AS c FROM COUNT_WINDOW(t, 4, 2) GROUP BY window_start, window_end;
--- explain threes
--- explain fours
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
