CREATE STREAM t (k VARCHAR, m MONEY);
--- error
line 1, column 29: type MONEY is not supported: there are BOOLEAN, SMALLINT, INT, BIGINT, REAL, DOUBLE, VARCHAR, VARBINARY, DATE and TIMESTAMP, and lists of them such as BIGINT[]
