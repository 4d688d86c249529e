CREATE STREAM t (k VARCHAR) WITH (topic = 't', format = 'xml');
--- error
line 1, column 57: option 'format' is 'xml': give one of json, csv, raw, avro
