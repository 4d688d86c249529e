CREATE STREAM t (ts TIMESTAMP, k VARCHAR, l BIGINT[], WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT x FROM t RIGHT JOIN UNNEST(l) AS u(x) ON TRUE;
--- error
line 3, column 30: this kind of join with UNNEST is not supported here: leave it out
