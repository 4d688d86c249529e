CREATE STREAM a (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE STREAM b (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT n FROM a
  ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts);
--- error
line 4, column 13: a join without ON is not supported here: leave it out
