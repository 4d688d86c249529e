CREATE STREAM t (k VARCHAR, K VARCHAR);
--- error
line 1, column 29: column 'k' is there twice
