-- The two largest of each kind and window; ties by arrival.
CREATE STREAM t (ts TIMESTAMP, kind VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE top AS
  SELECT kind, n, r, window_end FROM
    (SELECT *, row_number() OVER (PARTITION BY kind, window_start, window_end ORDER BY n DESC) AS r
     FROM TUMBLE(t, ts, INTERVAL '10' SECOND)) AS ranked
  WHERE r <= 2;
--- explain top
sink: results
  project: kind@0, n@1, r@3, window_end@2
    filter: r@3 <= 2
      project: kind@0, n@1, window_end@3, row_number() PARTITION BY [t.kind, window_start, window_end] ORDER BY [t.n DESC NULLS FIRST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW@4
        rank: the first 2 of each group by n@1 desc; when the window closes
          project: kind@1, n@2, window_start@3, window_end@4
            windows: tumbling, 10000 ms
              stream t (topic t): ts, kind, n
--- input t
{"ts": 1000, "kind": "a", "n": 5}
{"ts": 2000, "kind": "a", "n": 7}
{"ts": 3000, "kind": "b", "n": 1}
...
{"ts": 4000, "kind": "a", "n": 6}
{"ts": 5000, "kind": "b"}
{"ts": 12000, "kind": "b", "n": 9}
{"ts": 30000, "kind": "a", "n": 0}
--- output top
@9999 [a] {"kind":"a","n":7,"r":1,"window_end":"1970-01-01T00:00:10.000Z"}
@9999 [a] {"kind":"a","n":6,"r":2,"window_end":"1970-01-01T00:00:10.000Z"}
@9999 [b] {"kind":"b","n":null,"r":1,"window_end":"1970-01-01T00:00:10.000Z"}
@9999 [b] {"kind":"b","n":1,"r":2,"window_end":"1970-01-01T00:00:10.000Z"}
@19999 [b] {"kind":"b","n":9,"r":1,"window_end":"1970-01-01T00:00:20.000Z"}
