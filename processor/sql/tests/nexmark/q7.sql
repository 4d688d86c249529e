-- The bounds of time stand behind ON; both are part of them, as in the suite, so that a bid at the very end of a
-- window is compared with the highest of both windows that it touches.
CREATE PIPELINE q7 AS
  SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
  FROM bid AS b JOIN (
    SELECT max(price) AS maxprice, window_end AS date_time
    FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND) GROUP BY window_start, window_end) AS b1
  ON b.price = b1.maxprice AND b.date_time BETWEEN b1.date_time - INTERVAL '10' SECOND AND b1.date_time;
