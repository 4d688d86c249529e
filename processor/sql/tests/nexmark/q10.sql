-- Partitions of files are the business of whoever reads the topic; their names are columns here.
CREATE PIPELINE q10 AS
  SELECT auction, bidder, price, date_time, extra,
    to_char(date_time, '%Y-%m-%d') AS dt, to_char(date_time, '%H:%M') AS hm
  FROM bid;
