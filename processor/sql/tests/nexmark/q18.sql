CREATE PIPELINE q18 AS
  SELECT auction, bidder, price, channel, url, date_time, extra
  FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS r FROM bid) AS ranked
  WHERE r <= 1
  EMIT CHANGES;
