-- Every row is in three windows; one that is late for some of them counts in the others.
CREATE STREAM t (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT window_start, window_end, sum(n) AS s, count(*) AS c
  FROM HOP(t, ts, INTERVAL '1' SECOND, INTERVAL '3' SECOND)
  GROUP BY window_start, window_end;
--- input t
{"ts": 3500, "n": 1}
{"ts": 5200, "n": 10}
{"ts": 4900, "n": 100}
{"ts": 1000, "n": 1000}
{"ts": 20000, "n": 5}
--- output p.late
@0 {"ts": 1000, "n": 1000} {x-late-window: 1000..4000}
--- output p
@3999 {"window_start":"1970-01-01T00:00:01.000Z","window_end":"1970-01-01T00:00:04.000Z","s":1,"c":1}
@4999 {"window_start":"1970-01-01T00:00:02.000Z","window_end":"1970-01-01T00:00:05.000Z","s":1,"c":1}
@5999 {"window_start":"1970-01-01T00:00:03.000Z","window_end":"1970-01-01T00:00:06.000Z","s":111,"c":3}
@6999 {"window_start":"1970-01-01T00:00:04.000Z","window_end":"1970-01-01T00:00:07.000Z","s":110,"c":2}
@7999 {"window_start":"1970-01-01T00:00:05.000Z","window_end":"1970-01-01T00:00:08.000Z","s":10,"c":1}
