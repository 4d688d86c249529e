-- The latest row of a table for each row of a stream; the table's records of a step come first.
CREATE STREAM orders (ts TIMESTAMP, item BIGINT, n BIGINT, WATERMARK FOR ts AS ts);
CREATE TABLE items (id BIGINT, name VARCHAR, price DOUBLE, PRIMARY KEY (id)) WITH (format = 'json');
CREATE PIPELINE priced AS
  SELECT orders.item, items.name, n * price AS total FROM orders LEFT JOIN items ON orders.item = items.id;
CREATE PIPELINE dear AS
  SELECT o.item, i.name FROM orders AS o JOIN items AS i ON i.id = o.item AND i.price > o.n;
CREATE PIPELINE sales AS
  WITH priced AS (SELECT ts, name, n * price AS total FROM orders JOIN items ON item = id)
  SELECT name, window_end, sum(total) AS total FROM TUMBLE(priced, ts, INTERVAL '10' SECOND)
  GROUP BY name, window_start, window_end;
--- explain priced
sink: results
  project: item@0, name@3, CAST(n@1 AS Float64) * price@4
    left lookup: the latest row with the key item@0
      stream orders (topic orders): item, n
      table items (topic items): id, name, price
--- explain sales
sink: results
  project: name@0, window_end@2, sum(priced.total)@3
    group: by name, window_start, window_end compute sum(priced.total); gives out when the window closes
      project: name@1, total@2, window_start@3, window_end@4
        windows: tumbling, 10000 ms
          project: ts@0, name@4, CAST(n@2 AS Float64) * price@5
            inner lookup: the latest row with the key item@1
              stream orders (topic orders): ts, item, n
              table items (topic items): id, name, price
--- input items
[1] {"name": "pen", "price": 1.5}
[2] {"name": "ink", "price": 4}
[x] {"name": "a key that is no number"}
[07] {"name": "a number that is written otherwise"}
{"name": "no key"}
...
[1] {"name": "quill", "price": 2}
[2] (tombstone)
...
[2] {"name": "ink", "price": 5}
--- input orders
[a] {"ts": 1000, "item": 1, "n": 2}
[b] {"ts": 2000, "item": 2, "n": 3}
[c] {"ts": 3000, "item": 3, "n": 1}
[d] {"ts": 4000, "n": 1}
...
[a] {"ts": 5000, "item": 1, "n": 2}
[b] {"ts": 6000, "item": 2, "n": 3}
...
[b] {"ts": 30000, "item": 2, "n": 3}
--- output priced.dlq
@0 [x] {"name": "a key that is no number"} {x-dlq-reason: column 'id' is BIGINT, which 'x' is not}
@0 [07] {"name": "a number that is written otherwise"} {x-dlq-reason: column 'id' is BIGINT, which '07' is not}
@0 {"name": "no key"} {x-dlq-reason: a record of a table needs a key: it says which row it is}
--- output priced
@1000 [a] {"item":1,"name":"pen","total":3.0}
@2000 [b] {"item":2,"name":"ink","total":12.0}
@3000 [c] {"item":3,"name":null,"total":null}
@4000 [d] {"item":null,"name":null,"total":null}
@5000 [a] {"item":1,"name":"quill","total":4.0}
@6000 [b] {"item":2,"name":null,"total":null}
@30000 [b] {"item":2,"name":"ink","total":15.0}
--- output dear.dlq
@0 [x] {"name": "a key that is no number"} {x-dlq-reason: column 'id' is BIGINT, which 'x' is not}
@0 [07] {"name": "a number that is written otherwise"} {x-dlq-reason: column 'id' is BIGINT, which '07' is not}
@0 {"name": "no key"} {x-dlq-reason: a record of a table needs a key: it says which row it is}
--- output dear
@2000 [b] {"item":2,"name":"ink"}
@30000 [b] {"item":2,"name":"ink"}
--- output sales.dlq
@0 [x] {"name": "a key that is no number"} {x-dlq-reason: column 'id' is BIGINT, which 'x' is not}
@0 [07] {"name": "a number that is written otherwise"} {x-dlq-reason: column 'id' is BIGINT, which '07' is not}
@0 {"name": "no key"} {x-dlq-reason: a record of a table needs a key: it says which row it is}
--- output sales
@9999 [ink] {"name":"ink","window_end":"1970-01-01T00:00:10.000Z","total":12.0}
@9999 [pen] {"name":"pen","window_end":"1970-01-01T00:00:10.000Z","total":3.0}
@9999 [quill] {"name":"quill","window_end":"1970-01-01T00:00:10.000Z","total":4.0}
