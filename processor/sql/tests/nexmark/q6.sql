CREATE PIPELINE q6 AS
  SELECT q.seller, avg(q.price) OVER
    (PARTITION BY q.seller ORDER BY q.date_time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS average
  FROM (SELECT a.id, a.seller, b.price, b.date_time,
          row_number() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC) AS r
        FROM auction AS a JOIN bid AS b ON a.id = b.auction
          AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '5' MINUTE AND b.date_time <= a.expires) AS q
  WHERE r <= 1;
