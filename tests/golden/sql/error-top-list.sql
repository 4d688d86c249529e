CREATE STREAM t (kind VARCHAR, tags VARCHAR[]);
CREATE PIPELINE p AS SELECT kind FROM
  (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY tags) AS r FROM t) AS ranked WHERE r <= 2
  EMIT CHANGES;
--- error
line 2, column 22: ORDER BY of type List(Utf8) is not supported here
