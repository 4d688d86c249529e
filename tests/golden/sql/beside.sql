-- What stands beside the value: key, timestamp, offset and headers; raw values pass through.
CREATE STREAM lines (line VARCHAR, k VARCHAR FROM KEY, at TIMESTAMP FROM TIMESTAMP,
                     place BIGINT FROM OFFSET, trace VARCHAR FROM HEADER 'traceparent')
  WITH (format = 'raw');
CREATE PIPELINE shown AS
  SELECT upper(line) AS line, k, at, place, trace FROM lines WHERE line NOT LIKE '%secret%';
CREATE PIPELINE plain WITH (format = 'raw') AS SELECT k || '=' || line AS line FROM lines;
--- input lines
@1700000000000 [a] first
@1700000000001 [b] a secret
@1700000000002 second
@1700000000003 [c] (tombstone)
--- output shown
@1700000000000 [a] {"line":"FIRST","k":"a","at":"2023-11-14T22:13:20.000Z","place":0,"trace":null}
@1700000000002 {"line":"SECOND","k":null,"at":"2023-11-14T22:13:20.002Z","place":2,"trace":null}
--- output plain
@1700000000000 [a] a=first
@1700000000001 [b] b=a secret
@1700000000002 (tombstone)
@1700000000003 [c] (tombstone)
