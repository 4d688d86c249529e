-- The first row of each id within ten seconds; a row that comes when its id may be forgotten is late.
CREATE STREAM t (ts TIMESTAMP, id VARCHAR FROM KEY, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE PIPELINE once AS SELECT id, n FROM DEDUP(t, ts, INTERVAL '10' SECOND, id);
CREATE PIPELINE counted AS
  SELECT window_end, count(*) AS c FROM TUMBLE((SELECT ts, n FROM DEDUP(t, ts, INTERVAL '10' SECOND, id, n % 2)), ts,
    INTERVAL '1' MINUTE) GROUP BY window_start, window_end;
--- explain once
sink: results
  project: id@1, n@2
    the first row of each id@1; known for 10000 ms
      stream t (topic t): ts, id, n
--- explain counted
sink: results
  project: window_end@1, count(Int64(1))@2
    group: by window_start, window_end compute count(Int64(1)); gives out when the window closes
      project: window_start@1, window_end@2
        windows: tumbling, 60000 ms
          project: ts@0
            the first row of each id@1, n@2 % 2; known for 10000 ms
              stream t (topic t): ts, id, n
--- input t
[a] {"ts": 1000, "n": 1}
[b] {"ts": 2000, "n": 2}
[a] {"ts": 9000, "n": 3}
[a] {"ts": 500, "n": 4}
{"ts": 3000, "n": 5}
{"ts": 3000, "n": 7}
...
[b] {"ts": 17001, "n": 6}
[a] {"ts": 12000, "n": 8}
[b] {"ts": 12001, "n": 10}
[c] {"ts": 1999, "n": 9}
...
[a] {"ts": 120000, "n": 11}
--- output once.late
@0 [c] {"ts": 1999, "n": 9} {x-late-window: 1999..11999}
--- output once
@1000 [a] {"id":"a","n":1}
@2000 [b] {"id":"b","n":2}
@3000 {"id":null,"n":5}
@12000 [a] {"id":"a","n":8}
@12001 [b] {"id":"b","n":10}
--- output counted.late
@0 [c] {"ts": 1999, "n": 9} {x-late-window: 1999..11999}
--- output counted
@59999 {"window_end":"1970-01-01T00:01:00.000Z","c":6}
