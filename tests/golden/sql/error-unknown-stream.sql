CREATE PIPELINE p AS
  SELECT k FROM nowhere;
--- error
line 2, column 17: there is no stream 'nowhere': write CREATE STREAM nowhere first
