CREATE TABLE t (k DOUBLE, n BIGINT,
  PRIMARY KEY (k));
--- error
line 2, column 16: column 'k' cannot be the key of the record: make it VARCHAR, VARBINARY, SMALLINT, INT or BIGINT
