-- Sessions join where a late row closes the gap; each user has sessions of their own.
CREATE STREAM clicks (ts TIMESTAMP, who VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND);
CREATE PIPELINE visits AS
  SELECT who, window_start, window_end, count(*) AS clicks
  FROM SESSION(clicks, ts, INTERVAL '5' SECOND)
  GROUP BY who, window_start, window_end;
--- input clicks
{"ts": 1000, "who": "ann"}
{"ts": 9000, "who": "ann"}
{"ts": 2000, "who": "bob"}
...
{"ts": 5000, "who": "ann"}
{"ts": 60000, "who": "bob"}
{"ts": 30000, "who": "ann"}
--- output visits.late
@0 {"ts": 30000, "who": "ann"} {x-late-window: 30000..35000}
--- output visits
@6999 [bob] {"who":"bob","window_start":"1970-01-01T00:00:02.000Z","window_end":"1970-01-01T00:00:07.000Z","clicks":1}
@13999 [ann] {"who":"ann","window_start":"1970-01-01T00:00:01.000Z","window_end":"1970-01-01T00:00:14.000Z","clicks":3}
