CREATE STREAM moves (account VARCHAR, amount BIGINT);
CREATE PIPELINE p AS SELECT array_agg(balance) AS balances FROM
  (SELECT account, sum(amount) AS balance FROM moves GROUP BY account) AS balances EMIT CHANGES;
--- error
line 2, column 22: array_agg(balances.balance) over results that change: count, sum, avg, min and max can take a row back, without DISTINCT
