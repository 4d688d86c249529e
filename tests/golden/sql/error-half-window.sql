CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) GROUP BY k, window_end;
--- error
line 2, column 22: group by both window_start and window_end
