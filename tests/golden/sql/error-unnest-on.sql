CREATE STREAM t (ts TIMESTAMP, k VARCHAR, l BIGINT[], WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS
  SELECT x FROM t LEFT JOIN UNNEST(l) AS u(x) ON x > 1;
--- error
line 3, column 29: write CROSS JOIN UNNEST(...), or LEFT JOIN UNNEST(...) ON TRUE, and WHERE for the rest
