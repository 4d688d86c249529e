CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM SESSION(t, ts, INTERVAL '1' SECOND)
  GROUP BY k, window_start, window_end EMIT EVERY INTERVAL '1' SECOND;
--- error
line 3, column 3: EMIT EVERY over SESSION is not supported: EMIT ON WINDOW CLOSE
