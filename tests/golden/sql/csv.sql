-- Separated values: fields in order, quotes, empty fields, and what does not fit.
CREATE STREAM parts (name VARCHAR, size INT, weight DOUBLE, day DATE)
  WITH (format = 'csv', delimiter = ';');
CREATE PIPELINE heavy AS SELECT name, size + 1 AS size, weight, day FROM parts WHERE weight > 1 OR weight IS NULL;
--- input parts
bolt;3;1.5;2026-02-28
"nut; ""M3""";4;;2026-03-01
"";;2;
washer;5;0.5;2026-03-01
rod;x;2;2026-03-01
rod;1;2
rod;1;2;2026-03-01;9
rod;1;2;2026-02-30
rod;1;2;"2026-03-01"x
--- output heavy.dlq
@0 rod;x;2;2026-03-01 {x-dlq-reason: column 'size' is INT, which 'x' is not}
@0 rod;1;2 {x-dlq-reason: the line has 3 fields, and the stream 4 columns}
@0 rod;1;2;2026-03-01;9 {x-dlq-reason: the line has more fields than the 4 columns of the stream}
@0 rod;1;2;2026-02-30 {x-dlq-reason: column 'day' is DATE (YYYY-MM-DD), which '2026-02-30' is not}
@0 rod;1;2;"2026-03-01"x {x-dlq-reason: something stands behind a closing double quote}
--- output heavy
@0 {"name":"bolt","size":4,"weight":1.5,"day":"2026-02-28"}
@0 {"name":"nut; \"M3\"","size":5,"weight":null,"day":"2026-03-01"}
@0 {"name":"","size":null,"weight":2.0,"day":null}
