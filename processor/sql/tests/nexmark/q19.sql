CREATE PIPELINE q19 AS
  SELECT * FROM
    (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS r FROM bid) AS ranked
  WHERE r <= 10
  EMIT CHANGES;
