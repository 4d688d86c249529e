CREATE STREAM t (ts TIMESTAMP, k VARCHAR, l BIGINT[], WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT x FROM UNNEST(l) AS u(x);
--- error
line 3, column 17: UNNEST stands behind a stream: write FROM stream CROSS JOIN UNNEST(list) AS name(element)
