CREATE PIPELINE q5 AS
  WITH counted AS (
    SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
    FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY auction, window_start, window_end)
  SELECT auction_bids.auction, auction_bids.num
  FROM counted AS auction_bids
  JOIN (SELECT max(num) AS maxn, starttime, endtime FROM counted GROUP BY starttime, endtime) AS max_bids
  ON auction_bids.starttime = max_bids.starttime AND auction_bids.endtime = max_bids.endtime
    AND auction_bids.num >= max_bids.maxn;
