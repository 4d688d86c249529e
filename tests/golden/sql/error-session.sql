CREATE STREAM t (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT k, window_end FROM SESSION(t, ts, INTERVAL '7' SECOND);
--- error
line 2, column 22: SELECT over SESSION before GROUP BY: the bounds of its windows are known for groups only
