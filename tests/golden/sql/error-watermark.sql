CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts + INTERVAL '5' SECOND);
--- error
line 1, column 63: a watermark is ts, or ts - INTERVAL '...' of 0 or more
