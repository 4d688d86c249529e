CREATE STREAM t (k VARCHAR) WITH (format = 'json', fromat = 'json');
--- error
line 1, column 52: there is no option 'fromat' here; there are topic, format, for csv delimiter, and for avro schema and schema_id
