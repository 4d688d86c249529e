CREATE TABLE t (k VARCHAR, n BIGINT);
--- error
