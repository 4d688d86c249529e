CREATE PIPELINE q9 AS
  SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
    auction, bidder, price, bid_date_time, bid_extra
  FROM (SELECT a.*, b.auction, b.bidder, b.price, b.date_time AS bid_date_time, b.extra AS bid_extra,
          row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time) AS r
        FROM auction AS a JOIN bid AS b ON a.id = b.auction
          AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '5' MINUTE AND b.date_time <= a.expires) AS q
  WHERE r <= 1
  EMIT CHANGES;
