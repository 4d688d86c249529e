CREATE STREAM t (k VARCHAR,
  l BIGINT[]) WITH (format = 'csv');
--- error
