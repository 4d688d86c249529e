-- Answers within a minute of the question; a question without an answer comes when it cannot get one.
CREATE STREAM asked (ts TIMESTAMP, id BIGINT, q VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
CREATE STREAM answered (at TIMESTAMP, id BIGINT, a VARCHAR, WATERMARK FOR at AS at - INTERVAL '1' SECOND);
CREATE PIPELINE talk AS
  SELECT asked.id, q, a FROM asked LEFT JOIN answered
  ON asked.id = answered.id AND at BETWEEN ts AND ts + INTERVAL '1' MINUTE;
--- explain talk
sink: results
  project: id@1, q@2, a@5
    left join: id@1 = id@1; the right one is 0 to 60000 ms later
      stream asked (topic asked): ts, id, q
      stream answered (topic answered): at, id, a
--- input asked
{"ts": 1000, "id": 1, "q": "one"}
{"ts": 2000, "id": 2, "q": "two"}
{"ts": 3000, "id": null, "q": "nothing"}
...
{"ts": 200000, "id": 3, "q": "three"}
{"ts": 100000, "id": 2, "q": "late"}
--- input answered
{"at": 1500, "id": 1, "a": "yes"}
{"at": 900, "id": 2, "a": "too early"}
{"at": 61000, "id": 1, "a": "again"}
{"at": 61001, "id": 1, "a": "too late"}
...
{"at": 200000, "id": 9, "a": "what"}
--- output talk
@1500 {"id":1,"q":"one","a":"yes"}
@61000 {"id":1,"q":"one","a":"again"}
@2000 {"id":2,"q":"two","a":null}
@3000 {"id":null,"q":"nothing","a":null}
@100000 {"id":2,"q":"late","a":null}
