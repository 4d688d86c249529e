-- Query 20 with bounds of time: the bid came within the hour behind the beginning of its auction.
CREATE PIPELINE q20_bounded AS
  SELECT auction, bidder, price, channel, url, b.date_time AS bid_date_time, b.extra AS bid_extra,
    item_name, description, initial_bid, reserve, a.date_time AS auction_date_time, expires, seller, category,
    a.extra AS auction_extra
  FROM bid AS b JOIN auction AS a ON b.auction = a.id
    AND b.date_time BETWEEN a.date_time AND a.date_time + INTERVAL '1' HOUR
  WHERE a.category = 10;
