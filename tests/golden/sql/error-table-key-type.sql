CREATE TABLE t (k DOUBLE, n BIGINT,
  PRIMARY KEY (k));
--- error
