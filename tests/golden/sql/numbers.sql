-- Numbers come out as they went in, to the last bit; what a type cannot hold fails.
CREATE STREAM t (d DOUBLE, r REAL, n BIGINT);
CREATE PIPELINE p AS SELECT d, r, n FROM t;
--- input t
{"d": 119646.25200000001, "r": 0.1, "n": 9223372036854775807}
{"d": 3270014.3636363638, "r": 16777216, "n": -9223372036854775808}
{"d": 5e-324, "r": 3.4028235e38, "n": 0}
{"d": 18446744073709551615, "r": -0.0, "n": -1}
{"r": 1e39}
{"d": 1e400}
{"n": 9223372036854775808}
--- output p.dlq
@0 {"r": 1e39} {x-dlq-reason: column 'r' is REAL, which 1000000000000000000000000000000000000000 is not}
@0 {"d": 1e400} {x-dlq-reason: the value is no JSON object: number out of range at line 1 column 11}
@0 {"n": 9223372036854775808} {x-dlq-reason: column 'n' is BIGINT, which 9223372036854776000 is not}
--- output p
@0 {"d":119646.25200000001,"r":0.1,"n":9223372036854775807}
@0 {"d":3270014.3636363638,"r":16777216.0,"n":-9223372036854775808}
@0 {"d":5e-324,"r":3.4028235e+38,"n":0}
@0 {"d":1.8446744073709552e+19,"r":-0.0,"n":-1}
