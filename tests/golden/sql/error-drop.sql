DROP STREAM t;
--- error
line 1, column 1: expected CREATE STREAM, CREATE TABLE, CREATE PIPELINE, INFER SCHEMA or a query, found 'DROP'
