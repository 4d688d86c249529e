CREATE STREAM t (kind VARCHAR, n BIGINT);
CREATE PIPELINE p AS SELECT kind, n FROM
  (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY n) AS r FROM t) AS ranked WHERE r <= 2;
--- error
line 2, column 22: a ranking without a window never ends: write EMIT CHANGES, or PARTITION BY both window_start and window_end
