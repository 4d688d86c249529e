-- Results so far, at most every ten seconds of event time, the last ones when their window closes.
CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE minutes AS
  SELECT k, window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(t, ts, INTERVAL '25' SECOND)
  GROUP BY k, window_start, window_end EMIT EVERY INTERVAL '10' SECOND;
CREATE PIPELINE totals AS
  SELECT k, sum(n) AS s FROM t GROUP BY k HAVING sum(n) > 4 EMIT EVERY INTERVAL '10' SECOND;
--- explain minutes
sink: changes of keyed results
  project: k@0, window_end@2, count(Int64(1))@3, sum(t.n)@4
    changes every 10000 ms of event time
      group: by k, window_start, window_end compute count(Int64(1)), sum(t.n); gives out every change
        project: k@1, n@2, window_start@3, window_end@4
          windows: tumbling, 25000 ms
            stream t (topic t): ts, k, n
--- explain totals
sink: changes of keyed results
  project: k@0, sum(t.n)@1
    filter: sum(t.n)@1 > 4
      changes every 10000 ms of event time
        group: by k compute sum(t.n); gives out every change
          stream t (topic t): k, n
--- input t
{"ts": 1000, "k": "a", "n": 1}
...
{"ts": 2000, "k": "a", "n": 5}
{"ts": 3000, "k": "b", "n": 2}
...
{"ts": 9999, "k": "a", "n": 3}
...
{"ts": 12000, "k": "a", "n": -8}
...
{"ts": 26000, "k": "b", "n": 7}
{"ts": 24000, "k": "a", "n": 1}
...
{"ts": 60000, "k": "c", "n": 0}
--- output minutes.late
@0 {"ts": 24000, "k": "a", "n": 1} {x-late-window: 0..25000}
--- output minutes
@1000 [["a","1970-01-01T00:00:00.000Z","1970-01-01T00:00:25.000Z"]] {"k":"a","window_end":"1970-01-01T00:00:25.000Z","c":1,"s":1}
@12000 [["a","1970-01-01T00:00:00.000Z","1970-01-01T00:00:25.000Z"]] {"k":"a","window_end":"1970-01-01T00:00:25.000Z","c":4,"s":1}
@3000 [["b","1970-01-01T00:00:00.000Z","1970-01-01T00:00:25.000Z"]] {"k":"b","window_end":"1970-01-01T00:00:25.000Z","c":1,"s":2}
@26000 [["b","1970-01-01T00:00:25.000Z","1970-01-01T00:00:50.000Z"]] {"k":"b","window_end":"1970-01-01T00:00:50.000Z","c":1,"s":7}
@60000 [["c","1970-01-01T00:00:50.000Z","1970-01-01T00:01:15.000Z"]] {"k":"c","window_end":"1970-01-01T00:01:15.000Z","c":1,"s":0}
--- output totals
@26000 [b] {"k":"b","s":9}
