-- Windows stay open longer; what comes after that is kept in p.late with the window it missed.
CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '10' SECOND)
  GROUP BY k, window_start, window_end
  EMIT ON WINDOW CLOSE ALLOW LATENESS INTERVAL '5' SECOND;
--- input t
{"ts": 1000, "k": "a"}
{"ts": 14000, "k": "a"}
[original] {"ts": 2000, "k": "a"}
{"ts": 15000, "k": "a"}
@77 [original] {"ts": 3000, "k": "a"}
{"ts": 30000, "k": "a"}
--- output p.late
@77 [original] {"ts": 3000, "k": "a"} {x-late-window: 0..10000}
--- output p
@9999 [a] {"k":"a","window_end":"1970-01-01T00:00:10.000Z","c":2}
@19999 [a] {"k":"a","window_end":"1970-01-01T00:00:20.000Z","c":2}
