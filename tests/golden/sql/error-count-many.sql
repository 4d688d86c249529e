CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT k, count(*) AS c FROM COUNT_WINDOW(t, 1000, 1)
  GROUP BY k, window_start, window_end;
--- error
line 3, column 54: a row would be in 1000 windows, over the limit of 100: make the slide longer
