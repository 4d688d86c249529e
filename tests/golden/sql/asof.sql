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
--- explain before
--- explain minutes
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
