CREATE STREAM t (ts TIMESTAMP, k VARCHAR, l BIGINT[], WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT x FROM t CROSS JOIN UNNEST(k) AS u(x);
--- error
line 3, column 37: UNNEST takes a list, which t.k is not
