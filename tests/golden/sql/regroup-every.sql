-- Groups that come and go between two times of giving out are not heard of; those that go behind them are taken back.
CREATE STREAM t (ts TIMESTAMP, k VARCHAR, WATERMARK FOR ts AS ts);
CREATE PIPELINE p AS SELECT c, count(*) AS g FROM (SELECT k, count(*) AS c FROM t GROUP BY k) AS counts
  GROUP BY c EMIT EVERY INTERVAL '10' SECOND;
--- explain p
sink: changes of keyed results
  project: c@0, count(Int64(1))@1
    changes every 10000 ms of event time
      group again: by c compute count(Int64(1)); gives out every change
        project: count(Int64(1))@1
          group: by k compute count(Int64(1)); gives out every change
            stream t (topic t): k
--- input t
{"ts": 1000, "k": "a"}
...
{"ts": 11000, "k": "a"}
...
{"ts": 12000, "k": "a"}
...
{"ts": 21000, "k": "b"}
...
{"ts": 31000, "k": "b"}
--- output p
@1000 [1] {"c":1,"g":1}
@11000 [2] {"c":2,"g":1}
@11000 [1] (tombstone)
@21000 [1] {"c":1,"g":1}
@12000 [3] {"c":3,"g":1}
@21000 [2] (tombstone)
@31000 [2] {"c":2,"g":1}
@31000 [1] (tombstone)
