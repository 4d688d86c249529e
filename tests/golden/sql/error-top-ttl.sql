CREATE STREAM t (kind VARCHAR, n BIGINT);
CREATE PIPELINE p WITH (state_ttl_ms = 1000) AS SELECT kind, c FROM
  (SELECT *, row_number() OVER (ORDER BY c DESC) AS r FROM
    (SELECT kind, count(*) AS c FROM t GROUP BY kind) AS counts) AS ranked WHERE r <= 2
  EMIT CHANGES;
--- error
line 2, column 49: state_ttl_ms would take rows away from under a ranking: leave it out
