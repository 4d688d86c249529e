CREATE STREAM t (k VARCHAR,
  l BIGINT[]) WITH (format = 'csv');
--- error
line 2, column 3: a list is read from JSON and Avro only: give VARCHAR
