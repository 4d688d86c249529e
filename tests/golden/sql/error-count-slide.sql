CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM COUNT_WINDOW(t, 10, 11)
  GROUP BY k, window_start, window_end;
--- error
line 3, column 52: rows between two windows would be in none: slide is at most the rows of a window
