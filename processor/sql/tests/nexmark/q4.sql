CREATE PIPELINE q4 AS
  SELECT q.category, avg(q.final) AS average
  FROM (SELECT max(b.price) AS final, a.category
        FROM auction AS a JOIN bid AS b ON a.id = b.auction
          AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '5' MINUTE AND b.date_time <= a.expires
        GROUP BY a.id, a.category) AS q
  GROUP BY q.category
  EMIT CHANGES;
