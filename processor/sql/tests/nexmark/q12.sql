CREATE PIPELINE q12 AS
  SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
  FROM TUMBLE((SELECT *, now() AS p_time FROM bid), p_time, INTERVAL '10' SECOND)
  GROUP BY bidder, window_start, window_end;
