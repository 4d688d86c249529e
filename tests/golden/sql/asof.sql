-- The price that held when a trade was made: the latest one that is not after it.
CREATE STREAM trades (ts TIMESTAMP, symbol VARCHAR, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
CREATE STREAM prices (at TIMESTAMP, symbol VARCHAR, price DOUBLE, WATERMARK FOR at AS at - INTERVAL '1' SECOND);
CREATE PIPELINE valued AS
  SELECT t.symbol, n, price, n * price AS worth FROM trades AS t ASOF JOIN prices AS p
  MATCH_CONDITION (t.ts >= p.at) ON t.symbol = p.symbol;
CREATE PIPELINE before AS
  SELECT t.symbol, n, price FROM trades AS t ASOF JOIN (SELECT * FROM prices WHERE price > 1) AS p
  MATCH_CONDITION (p.at + INTERVAL '2' SECOND < t.ts) ON t.symbol = p.symbol;
CREATE PIPELINE minutes AS
  WITH valued AS (SELECT t.ts, t.symbol, n * price AS worth FROM trades AS t ASOF JOIN prices AS p
    MATCH_CONDITION (t.ts >= p.at) ON t.symbol = p.symbol)
  SELECT symbol, window_end, sum(worth) AS worth FROM TUMBLE(valued, ts, INTERVAL '1' MINUTE)
  GROUP BY symbol, window_start, window_end;
--- explain valued
sink: results
  project: symbol@1, n@2, price@5, CAST(n@2 AS Float64) * price@5
    asof join: symbol@1 = symbol@1; the latest right one that is not later
      stream trades (topic trades): ts, symbol, n
      stream prices (topic prices): at, symbol, price
--- explain before
sink: results
  project: symbol@1, n@2, price@5
    asof join: symbol@1 = symbol@1; the latest right one that is at least 2001 ms earlier
      stream trades (topic trades): ts, symbol, n
      filter: price@2 > 1
        stream prices (topic prices): at, symbol, price
--- explain minutes
sink: results
  project: symbol@0, window_end@2, sum(valued.worth)@3
    group: by symbol, window_start, window_end compute sum(valued.worth); gives out when the window closes
      project: symbol@1, worth@2, window_start@3, window_end@4
        windows: tumbling, 60000 ms
          project: ts@0, symbol@1, CAST(n@2 AS Float64) * price@5
            asof join: symbol@1 = symbol@1; the latest right one that is not later
              stream trades (topic trades): ts, symbol, n
              stream prices (topic prices): at, symbol, price
--- input trades
[t1] {"ts": 500, "symbol": "A", "n": 1}
[t2] {"ts": 2000, "symbol": "A", "n": 2}
[t3] {"ts": 3999, "symbol": "A", "n": 3}
{"ts": 4000, "symbol": "B", "n": 4}
{"ts": 4000, "n": 5}
...
[t6] {"ts": 70000, "symbol": "A", "n": 6}
[t7] {"ts": 4000, "symbol": "A", "n": 7}
...
{"ts": 200000, "symbol": "C", "n": 8}
--- input prices
{"at": 1000, "symbol": "A", "price": 1}
{"at": 4000, "symbol": "A", "price": 4}
{"at": 2000, "symbol": "A", "price": 2}
{"at": 4001, "symbol": "B", "price": 3}
{"at": 4000, "price": 9}
...
{"at": 70000, "symbol": "B", "price": 5}
...
{"at": 200000, "symbol": "C", "price": 6}
--- output valued.late
@0 {"at": 2000, "symbol": "A", "price": 2} {x-late-window: 2000..2000}
--- output valued
@500 [t1] {"symbol":"A","n":1,"price":null,"worth":null}
@2000 [t2] {"symbol":"A","n":2,"price":1.0,"worth":2.0}
@3999 [t3] {"symbol":"A","n":3,"price":1.0,"worth":3.0}
@4000 {"symbol":null,"n":5,"price":null,"worth":null}
@4000 [t7] {"symbol":"A","n":7,"price":4.0,"worth":28.0}
@4000 {"symbol":"B","n":4,"price":null,"worth":null}
@70000 [t6] {"symbol":"A","n":6,"price":4.0,"worth":24.0}
--- output before.late
@0 {"at": 2000, "symbol": "A", "price": 2} {x-late-window: 2000..2000}
--- output before
@500 [t1] {"symbol":"A","n":1,"price":null}
@2000 [t2] {"symbol":"A","n":2,"price":null}
@3999 [t3] {"symbol":"A","n":3,"price":null}
@4000 {"symbol":null,"n":5,"price":null}
@4000 {"symbol":"B","n":4,"price":null}
@4000 [t7] {"symbol":"A","n":7,"price":null}
@70000 [t6] {"symbol":"A","n":6,"price":4.0}
@200000 {"symbol":"C","n":8,"price":null}
--- output minutes.late
@0 {"at": 2000, "symbol": "A", "price": 2} {x-late-window: 2000..2000}
--- output minutes
@59999 {"symbol":null,"window_end":"1970-01-01T00:01:00.000Z","worth":null}
@59999 [A] {"symbol":"A","window_end":"1970-01-01T00:01:00.000Z","worth":33.0}
@59999 [B] {"symbol":"B","window_end":"1970-01-01T00:01:00.000Z","worth":null}
@119999 [A] {"symbol":"A","window_end":"1970-01-01T00:02:00.000Z","worth":24.0}
