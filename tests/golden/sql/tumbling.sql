-- Attempts per address and minute, from the statement of the design.
CREATE STREAM ssh (ts TIMESTAMP, host VARCHAR, ip VARCHAR, message VARCHAR,
                   WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
  WITH (topic = 'ssh', format = 'json');
CREATE PIPELINE attempts AS
  SELECT ip, window_start, window_end, count(*) AS attempts
  FROM TUMBLE(ssh, ts, INTERVAL '1' MINUTE)
  WHERE ip IS NOT NULL GROUP BY ip, window_start, window_end
  EMIT ON WINDOW CLOSE;
--- explain attempts
sink: results
  project: ip@0, window_start@1, window_end@2, count(Int64(1))@3
    group: by ip, window_start, window_end compute count(Int64(1)); gives out when the window closes
      filter: ip@0 IS NOT NULL
        project: ip@1, window_start@2, window_end@3
          windows: tumbling, 60000 ms
            stream ssh (topic ssh): ts, ip
--- input ssh
{"ts": "2026-01-01T00:00:01Z", "ip": "10.0.0.1"}
{"ts": "2026-01-01T00:00:59.999Z", "ip": "10.0.0.1", "unknown": {"deep": [1, 2]}}
{"ts": "2026-01-01T00:00:30Z", "ip": null}
{"ts": "2026-01-01T00:01:00Z", "ip": "10.0.0.2"}
{"ts": "2026-01-01T00:00:58Z", "ip": "10.0.0.2"}
...
not json
{"ts": "2026-01-01T00:00:05Z", "ip": 7}
{"ip": "10.0.0.1"}
{"ts": "2026-01-01T00:01:05Z", "ip": "10.0.0.1"}
{"ts": "2026-01-01T00:00:59Z", "ip": "10.0.0.9"}
{"ts": "2026-01-01T00:03:00Z", "ip": "10.0.0.1"}
--- output attempts.dlq
@0 not json {x-dlq-reason: the value is no JSON object: expected ident at line 1 column 2}
@0 {"ts": "2026-01-01T00:00:05Z", "ip": 7} {x-dlq-reason: column 'ip' is VARCHAR, which 7 is not}
@0 {"ip": "10.0.0.1"} {x-dlq-reason: column 'ts' has the event time and is null: give every record a time}
--- output attempts.late
@0 {"ts": "2026-01-01T00:00:59Z", "ip": "10.0.0.9"} {x-late-window: 1767225600000..1767225660000}
--- output attempts
@1767225659999 [10.0.0.1] {"ip":"10.0.0.1","window_start":"2026-01-01T00:00:00.000Z","window_end":"2026-01-01T00:01:00.000Z","attempts":2}
@1767225659999 [10.0.0.2] {"ip":"10.0.0.2","window_start":"2026-01-01T00:00:00.000Z","window_end":"2026-01-01T00:01:00.000Z","attempts":1}
@1767225719999 [10.0.0.1] {"ip":"10.0.0.1","window_start":"2026-01-01T00:01:00.000Z","window_end":"2026-01-01T00:02:00.000Z","attempts":1}
@1767225719999 [10.0.0.2] {"ip":"10.0.0.2","window_start":"2026-01-01T00:01:00.000Z","window_end":"2026-01-01T00:02:00.000Z","attempts":1}
