CREATE STREAM t (ts TIMESTAMP, k VARCHAR, l BIGINT[], WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT unnest(l) AS x FROM t;
--- error
line 3, column 3: unnest() in SELECT is not supported: FROM ... CROSS JOIN UNNEST(list) AS name(element)
