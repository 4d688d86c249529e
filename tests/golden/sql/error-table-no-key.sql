CREATE TABLE t (k VARCHAR, n BIGINT);
--- error
line 1, column 14: table 't' has no PRIMARY KEY (column): the key of the record
