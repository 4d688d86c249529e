-- Query 18 as a grouping that changes.
CREATE PIPELINE q18_grouped AS
  SELECT auction, bidder,
    last_value(price ORDER BY date_time) AS price,
    last_value(channel ORDER BY date_time) AS channel,
    last_value(url ORDER BY date_time) AS url,
    max(date_time) AS date_time,
    last_value(extra ORDER BY date_time) AS extra
  FROM bid GROUP BY auction, bidder
  EMIT CHANGES;
