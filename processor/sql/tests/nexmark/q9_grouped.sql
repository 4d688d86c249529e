-- Query 9 as a grouping that changes, for auctions that are open for up to five minutes.
CREATE PIPELINE q9_grouped AS
  SELECT a.id, a.item_name, a.expires, a.seller, a.category,
    first_value(b.bidder ORDER BY b.price DESC, b.date_time) AS bidder,
    max(b.price) AS price,
    first_value(b.date_time ORDER BY b.price DESC, b.date_time) AS bid_date_time,
    first_value(b.extra ORDER BY b.price DESC, b.date_time) AS bid_extra
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
    AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '5' MINUTE AND b.date_time <= a.expires
  GROUP BY a.id, a.item_name, a.expires, a.seller, a.category
  EMIT CHANGES;
