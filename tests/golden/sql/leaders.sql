-- The two accounts with the highest balances: results that change are ranked, what one leaves another takes.
CREATE STREAM moves (account VARCHAR, amount BIGINT);
CREATE PIPELINE leaders AS
  SELECT account, balance, r FROM
    (SELECT *, row_number() OVER (ORDER BY balance DESC, account) AS r FROM
      (SELECT account, sum(amount) AS balance FROM moves GROUP BY account HAVING sum(amount) > 0) AS balances) AS ranked
  WHERE r <= 2
  EMIT CHANGES;
--- explain leaders
sink: changes of keyed results
  filter: r@2 <= 2
    project: account@0, balance@1, row_number() ORDER BY [balances.balance DESC NULLS FIRST, balances.account ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW@2
      top: the first 2 of all by balance@1 desc, account@0; gives out every change; keeps all rows
        project: account@0, sum(moves.amount)@1
          filter: sum(moves.amount)@1 > 0
            group: by account compute sum(moves.amount); gives out every change
              stream moves (topic moves): account, amount
--- input moves
{"account": "a", "amount": 5}
...
{"account": "b", "amount": 7}
...
{"account": "c", "amount": 1}
...
{"account": "b", "amount": -7}
...
{"account": "c", "amount": -1}
--- output leaders
@0 [1] {"account":"a","balance":5,"r":1}
@0 [1] {"account":"b","balance":7,"r":1}
@0 [2] {"account":"a","balance":5,"r":2}
@0 [1] {"account":"a","balance":5,"r":1}
@0 [2] {"account":"c","balance":1,"r":2}
@4000000000000 [2] (tombstone)
