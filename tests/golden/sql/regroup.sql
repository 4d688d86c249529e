-- How many accounts have a balance of each class: an account that moves to another class leaves its own.
CREATE STREAM moves (account VARCHAR, amount BIGINT);
CREATE PIPELINE classes AS
  SELECT balance / 10 AS class, count(*) AS accounts, max(balance) AS highest, avg(balance) AS average FROM
    (SELECT account, sum(amount) AS balance FROM moves GROUP BY account) AS balances
  GROUP BY balance / 10 EMIT CHANGES;
--- explain classes
sink: changes of keyed results
  project: balances.balance / Int64(10)@0, count(Int64(1))@1, max(balances.balance)@2, avg(balances.balance)@3
    group again: by balances.balance / Int64(10) compute count(Int64(1)), max(balances.balance), avg(balances.balance); gives out every change
      project: sum(moves.amount)@1
        group: by account compute sum(moves.amount); gives out every change
          stream moves (topic moves): account, amount
--- input moves
{"account": "a", "amount": 5}
...
{"account": "b", "amount": 7}
...
{"account": "b", "amount": 7}
...
{"account": "a", "amount": 10}
--- output classes
@0 [0] {"class":0,"accounts":1,"highest":5,"average":5.0}
@0 [0] {"class":0,"accounts":2,"highest":7,"average":6.0}
@0 [1] {"class":1,"accounts":1,"highest":14,"average":14.0}
@0 [0] {"class":0,"accounts":1,"highest":5,"average":5.0}
@0 [1] {"class":1,"accounts":2,"highest":15,"average":14.5}
@0 [0] (tombstone)
