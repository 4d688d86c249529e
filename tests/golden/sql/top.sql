-- The two largest of each kind, as they change; ties by arrival.
CREATE STREAM t (kind VARCHAR, n BIGINT);
CREATE PIPELINE top AS
  SELECT kind, n, r FROM
    (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY n DESC NULLS LAST) AS r FROM t) AS ranked
  WHERE r <= 2
  EMIT CHANGES;
--- explain top
sink: changes of keyed results
  filter: r@2 <= 2
    project: kind@0, n@1, row_number() PARTITION BY [t.kind] ORDER BY [t.n DESC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW@2
      top: the first 2 of each kind@0 by n@1 desc nulls last; gives out every change
        stream t (topic t): kind, n
--- input t
{"kind": "a", "n": 5}
{"kind": "b"}
...
{"kind": "a", "n": 7}
{"kind": "a", "n": 5}
...
{"kind": "a", "n": 9}
{"kind": "b", "n": 1}
{"n": 0}
--- output top
@0 [["a",1]] {"kind":"a","n":5,"r":1}
@0 [["b",1]] {"kind":"b","n":null,"r":1}
@0 [["a",1]] {"kind":"a","n":7,"r":1}
@0 [["a",2]] {"kind":"a","n":5,"r":2}
@0 [["a",1]] {"kind":"a","n":9,"r":1}
@0 [["a",2]] {"kind":"a","n":7,"r":2}
@0 [["b",1]] {"kind":"b","n":1,"r":1}
@0 [["b",2]] {"kind":"b","n":null,"r":2}
@0 [[null,1]] {"kind":null,"n":0,"r":1}
