CREATE STREAM p (k VARCHAR);
CREATE PIPELINE p AS SELECT k FROM p;
--- error
line 2, column 17: pipeline 'p' would read its own output from 'p': choose another sink
