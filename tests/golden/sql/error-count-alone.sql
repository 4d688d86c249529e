CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, window_end FROM COUNT_WINDOW(t, 10);
--- error
line 3, column 3: SELECT over COUNT_WINDOW before GROUP BY: the bounds of its windows are known for groups only
