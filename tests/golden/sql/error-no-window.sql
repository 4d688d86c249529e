CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k, count(*) AS c FROM t GROUP BY k;
--- error
line 2, column 22: a GROUP BY without a window never ends: write EMIT CHANGES, or group by window_start and window_end of a window function
