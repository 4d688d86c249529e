CREATE STREAM a (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE STREAM b (ts TIMESTAMP, k VARCHAR, n BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT n FROM a ASOF JOIN b MATCH_CONDITION (a.ts <= b.ts) ON a.k = b.k;
--- error
line 3, column 22: an ASOF JOIN takes MATCH_CONDITION (a.ts >= b.ts) or (a.ts > b.ts) over the columns that the streams have a WATERMARK for, and equalities in ON: filter in a query of its own
