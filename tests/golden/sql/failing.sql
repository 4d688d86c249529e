-- A row that cannot be computed goes to the dead letters alone; its neighbours are not hurt.
CREATE STREAM t (a BIGINT, b BIGINT);
CREATE PIPELINE p AS SELECT a / b AS q FROM t;
--- input t
{"a": 6, "b": 3}
{"a": 1, "b": 0}
{"a": 8, "b": 2}
{"a": 9223372036854775808, "b": 2}
{"a": 1, "a": 2, "b": 3}
{"a": "1", "b": 3}
"a text"
--- output p.dlq
@0 {"a": 1, "b": 0} {x-dlq-reason: Divide by zero error}
@0 {"a": 9223372036854775808, "b": 2} {x-dlq-reason: column 'a' is BIGINT, which 9223372036854776000 is not}
@0 {"a": 1, "a": 2, "b": 3} {x-dlq-reason: member 'a' is there twice}
@0 {"a": "1", "b": 3} {x-dlq-reason: column 'a' is BIGINT, which '1' is not}
@0 "a text" {x-dlq-reason: the value is no JSON object: invalid type: string "a text", expected an object at line 1 column 8}
--- output p
@0 {"q":2}
@0 {"q":4}
