CREATE STREAM t (kind VARCHAR, n BIGINT);
CREATE PIPELINE p AS SELECT kind, n FROM
  (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY n) AS r FROM t) AS ranked WHERE r <= 2
  EMIT EVERY INTERVAL '1' SECOND;
--- error
line 2, column 22: EMIT EVERY of a ranking without a window is not supported: EMIT CHANGES
