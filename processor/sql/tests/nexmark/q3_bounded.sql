-- Query 3 with bounds of time: the seller came within the hour before or after the auction.
CREATE PIPELINE q3_bounded AS
  SELECT p.name, p.city, p.state, a.id
  FROM auction AS a JOIN person AS p ON a.seller = p.id
    AND p.date_time BETWEEN a.date_time - INTERVAL '1' HOUR AND a.date_time + INTERVAL '1' HOUR
  WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');
