-- Query 5 with a window over the counts of windows: it is one hop long, so the end of one window lies in it.
CREATE PIPELINE q5_tumbling AS
  WITH counted AS (
    SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
    FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY auction, window_start, window_end)
  SELECT auction_bids.auction, auction_bids.num
  FROM counted AS auction_bids JOIN (
    SELECT max(num) AS maxn, window_end AS closed
    FROM TUMBLE(counted, endtime, INTERVAL '2' SECOND) GROUP BY window_start, window_end) AS max_bids
  ON auction_bids.endtime = max_bids.closed - INTERVAL '2' SECOND AND auction_bids.num >= max_bids.maxn;
