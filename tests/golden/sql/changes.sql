-- A result that changes: one record for each change, a tombstone when a group leaves the result.
CREATE STREAM moves (account VARCHAR, amount BIGINT);
CREATE PIPELINE balances AS
  SELECT account, sum(amount) AS balance FROM moves GROUP BY account HAVING sum(amount) <> 0
  EMIT CHANGES;
--- explain balances
sink: changes of keyed results
  project: account@0, sum(moves.amount)@1
    filter: sum(moves.amount)@1 != 0
      group: by account compute sum(moves.amount); gives out every change
        stream moves (topic moves): account, amount
--- input moves
{"account": "a", "amount": 5}
{"account": "b", "amount": 1}
{"account": "a", "amount": 2}
...
{"account": "a", "amount": -7}
{"account": "b", "amount": 0}
...
{"account": "a", "amount": 1}
--- output balances
@0 [a] {"account":"a","balance":7}
@0 [b] {"account":"b","balance":1}
@0 [a] (tombstone)
@0 [a] {"account":"a","balance":1}
