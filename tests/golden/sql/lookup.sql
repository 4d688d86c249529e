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
--- explain sales
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
