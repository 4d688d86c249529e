-- Results that are held back are ranked when they come out.
CREATE STREAM moves (ts TIMESTAMP, account VARCHAR, amount BIGINT, WATERMARK FOR ts AS ts);
CREATE PIPELINE leaders AS
  SELECT account, balance, r FROM
    (SELECT *, row_number() OVER (ORDER BY balance DESC, account) AS r FROM
      (SELECT account, sum(amount) AS balance FROM moves GROUP BY account) AS balances) AS ranked
  WHERE r <= 1
  EMIT EVERY INTERVAL '10' SECOND;
--- explain leaders
sink: changes of keyed results
  filter: r@2 <= 1
    project: account@0, balance@1, row_number() ORDER BY [balances.balance DESC NULLS FIRST, balances.account ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW@2
      changes every 10000 ms of event time
        top: the first 1 of all by balance@1 desc, account@0; gives out every change; keeps all rows
          project: account@0, sum(moves.amount)@1
            group: by account compute sum(moves.amount); gives out every change
              stream moves (topic moves): account, amount
--- input moves
{"ts": 1000, "account": "a", "amount": 5}
...
{"ts": 2000, "account": "b", "amount": 7}
...
{"ts": 3000, "account": "b", "amount": -7}
...
{"ts": 11000, "account": "b", "amount": 9}
...
{"ts": 21000, "account": "a", "amount": 1}
--- output leaders
@1000 [1] {"account":"a","balance":5,"r":1}
@11000 [1] {"account":"b","balance":9,"r":1}
