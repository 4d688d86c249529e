//! Avro as `apache-avro` writes it, and what nobody writes.

use crate::rig::{Record, Rig, plan};
use apache_avro::types::Value as Avro;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use flowstone_processor::rfc3339::parse_ms;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every kind that there is, columns and others.
const SCHEMA: &str = r#"{"type": "record", "name": "All", "namespace": "a.b", "fields": [
  {"name": "flag", "type": "boolean"},
  {"name": "small", "type": ["null", "int"]},
  {"name": "passed", "type": {"type": "map", "values": {"type": "array", "items": "string"}}},
  {"name": "big", "type": "long"},
  {"name": "half", "type": "float"},
  {"name": "whole", "type": ["double", "null"]},
  {"name": "word", "type": ["null", "string", {"type": "enum", "name": "Suit", "symbols": ["x", "yy"]}]},
  {"name": "suit", "type": "Suit"},
  {"name": "inner", "type": ["null", {"type": "record", "name": "Inner", "fields": [
     {"name": "again", "type": ["null", "Inner"]}, {"name": "n", "type": "long"}]}]},
  {"name": "day", "type": {"type": "int", "logicalType": "date"}},
  {"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "us", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
  {"name": "list", "type": ["null", {"type": "array", "items": ["null", "long"]}]},
  {"name": "four", "type": {"type": "fixed", "name": "Four", "size": 4}},
  {"name": "raw", "type": ["null", "bytes"]}
]}"#;

const COLUMNS: [(&str, &str); 13] = [
    ("flag", "BOOLEAN"),
    ("small", "SMALLINT"),
    ("big", "BIGINT"),
    ("half", "REAL"),
    ("whole", "DOUBLE"),
    ("word", "VARCHAR"),
    ("suit", "VARCHAR"),
    ("day", "DATE"),
    ("ms", "TIMESTAMP"),
    ("us", "TIMESTAMP"),
    ("list", "BIGINT[]"),
    ("four", "VARBINARY"),
    ("raw", "VARBINARY"),
];

/// A pipeline that gives out these columns as they are read.
fn rig(columns: &[(&str, &str)], options: &str) -> Rig {
    let declared: Vec<String> = columns.iter().map(|(n, t)| format!("{n} {t}")).collect();
    let names: Vec<&str> = columns.iter().map(|(n, _)| *n).collect();
    let sql = format!(
        "CREATE STREAM t ({}) WITH (format = 'avro', schema = '{SCHEMA}'{options}); CREATE PIPELINE p AS \
         SELECT {} FROM t",
        declared.join(", "),
        names.join(", ")
    );
    Rig::new(&plan(&sql).remove(0), &[(1024, 0)])
}

fn union(at: u32, value: Avro) -> Avro {
    Avro::Union(at, Box::new(value))
}

fn maybe(value: Option<Avro>) -> Avro {
    value.map_or(union(0, Avro::Null), |v| union(1, v))
}

#[derive(Clone, Debug)]
struct Row {
    flag: bool,
    small: Option<i16>,
    words: Vec<String>,
    big: i64,
    half: f32,
    whole: Option<f64>,
    word: Option<Result<String, u32>>,
    suit: u32,
    depth: usize,
    day: i32,
    ms: i64,
    us: Option<i64>,
    list: Option<Vec<Option<i64>>>,
    four: [u8; 4],
    raw: Option<Vec<u8>>,
}

const SUITS: [&str; 2] = ["x", "yy"];
/// Times that have four digits of a year.
const TIMES: std::ops::Range<i64> = -2_000_000_000_000..4_000_000_000_000;

fn row() -> impl Strategy<Value = Row> {
    let first = (
        any::<bool>(),
        prop::option::of(any::<i16>()),
        prop::collection::vec(".{0,5}", 0..3),
        any::<i64>(),
        -1e6f32..1e6,
        prop::option::of(-1e9f64..1e9),
        prop::option::of(prop_oneof![".{0,9}".prop_map(Ok), (0u32..2).prop_map(Err)]),
        0u32..2,
    );
    let second = (
        0usize..4,
        -20_000i32..40_000,
        TIMES,
        prop::option::of(TIMES),
        prop::option::of(prop::collection::vec(prop::option::of(any::<i64>()), 0..5)),
        any::<[u8; 4]>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..6)),
    );
    (first, second).prop_map(|(a, b)| {
        let (flag, small, words, big, half, whole, word, suit) = a;
        let (depth, day, ms, us, list, four, raw) = b;
        Row {
            flag,
            small,
            words,
            big,
            half,
            whole,
            word,
            suit,
            depth,
            day,
            ms,
            us,
            list,
            four,
            raw,
        }
    })
}

fn suit(at: u32) -> Avro {
    Avro::Enum(at, SUITS[at as usize].into())
}

impl Row {
    fn avro(&self) -> Avro {
        let words = self.words.iter().cloned().map(Avro::String).collect();
        let inner = (0..self.depth).fold(union(0, Avro::Null), |inner, n| {
            let fields = vec![("again".into(), inner), ("n".into(), Avro::Long(n as i64))];
            union(1, Avro::Record(fields))
        });
        let word = match &self.word {
            None => union(0, Avro::Null),
            Some(Ok(text)) => union(1, Avro::String(text.clone())),
            Some(Err(at)) => union(2, suit(*at)),
        };
        let long = |n: &Option<i64>| maybe(n.map(Avro::Long));
        let list = self
            .list
            .as_ref()
            .map(|l| Avro::Array(l.iter().map(long).collect()));
        let fields = [
            ("flag", Avro::Boolean(self.flag)),
            ("small", maybe(self.small.map(|n| Avro::Int(n.into())))),
            (
                "passed",
                Avro::Map([("k".to_string(), Avro::Array(words))].into()),
            ),
            ("big", Avro::Long(self.big)),
            ("half", Avro::Float(self.half)),
            (
                "whole",
                self.whole
                    .map_or(union(1, Avro::Null), |v| union(0, Avro::Double(v))),
            ),
            ("word", word),
            ("suit", suit(self.suit)),
            ("inner", inner),
            ("day", Avro::Date(self.day)),
            ("ms", Avro::TimestampMillis(self.ms)),
            (
                "us",
                maybe(self.us.map(|ms| Avro::TimestampMicros(ms * 1000 + 999))),
            ),
            ("list", maybe(list)),
            ("four", Avro::Fixed(4, self.four.to_vec())),
            ("raw", maybe(self.raw.clone().map(Avro::Bytes))),
        ];
        Avro::Record(
            fields
                .map(|(name, value)| (name.to_string(), value))
                .to_vec(),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        to_avro_datum(&Schema::parse_str(SCHEMA).unwrap(), self.avro()).unwrap()
    }

    /// What the columns must show.
    fn json(&self) -> Value {
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let word = self.word.as_ref().map(|w| match w {
            Ok(text) => text.clone(),
            Err(at) => SUITS[*at as usize].into(),
        });
        json!({
            "flag": self.flag, "small": self.small, "big": self.big, "half": f64::from(self.half),
            "whole": self.whole, "word": word, "suit": SUITS[self.suit as usize],
            "day": i64::from(self.day) * 86_400_000, "ms": self.ms, "us": self.us, "list": self.list,
            "four": hex(&self.four), "raw": self.raw.as_ref().map(|b| hex(b)),
        })
    }
}

fn record(value: Vec<u8>) -> Record {
    Record {
        value: Some(value),
        ..Record::default()
    }
}

fn results(rig: &mut Rig) -> Vec<Value> {
    rig.run();
    let values = rig.values("p");
    let read = |v: &String| with_numbers(serde_json::from_str(v).unwrap());
    values.iter().map(read).collect()
}

/// Times and days as milliseconds since 1970, and a small float as it is. Years beyond four digits, which
/// only damaged values have, stay text.
fn with_numbers(mut row: Value) -> Value {
    for name in ["day", "ms", "us"] {
        if let Some(Value::String(text)) = row.get(name) {
            let behind = if text.len() == 10 { "T00:00:00Z" } else { "" };
            if let Some(ms) = parse_ms(&format!("{text}{behind}")) {
                row[name] = ms.into();
            }
        }
    }
    // Written with as few digits as tell it from others of its size.
    if let Some(half) = row.get("half").and_then(Value::as_f64) {
        row["half"] = f64::from(half as f32).into();
    }
    row
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_are_those_that_were_written(
        rows in prop::collection::vec(row(), 1..20), wanted in prop::collection::vec(any::<bool>(), 13),
    ) {
        // Others are passed over.
        let columns: Vec<_> = COLUMNS.iter().zip(&wanted).filter(|(_, w)| **w).map(|(c, _)| *c).collect();
        prop_assume!(!columns.is_empty());
        let mut rig = rig(&columns, "");
        let records: Vec<_> = rows.iter().map(|r| record(r.bytes())).collect();
        rig.send(1024, &records);
        let expected: Vec<Value> = rows.iter().map(|r| {
            let all = r.json();
            let shown = columns.iter().map(|(name, _)| (name.to_string(), all[*name].clone()));
            Value::Object(shown.collect())
        }).collect();
        let shown = |v: &Value| v.to_string();
        let found = results(&mut rig);
        prop_assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected.iter().map(shown).collect::<Vec<_>>());
        prop_assert!(rig.values("p.dlq").is_empty());
    }

    /// Of a damaged value the others around it know nothing.
    #[test]
    fn what_cannot_be_read_goes_to_the_dead_letters_alone(
        good in row(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), with in 1u8..=255,
        more in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let whole = good.bytes();
        let mut flipped = whole.clone();
        flipped[flip.index(whole.len())] ^= with;
        let bad = [whole[..cut.index(whole.len())].to_vec(), [&whole[..], &more].concat()];
        let mut rig = rig(&COLUMNS, "");
        rig.send(1024, &[record(whole.clone()), record(bad[0].clone()), record(flipped), record(bad[1].clone()),
            record(whole)]);
        let found = results(&mut rig);
        let letters = rig.values("p.dlq").len();
        prop_assert!(found.len() + letters == 5 && letters >= 2, "{found:?}");
        let expected = good.json().to_string();
        prop_assert_eq!(&found.first().unwrap().to_string(), &expected);
        prop_assert_eq!(&found.last().unwrap().to_string(), &expected);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rig = rig(&COLUMNS, "");
        rig.send(1024, &[record(bytes)]);
        prop_assert_eq!(results(&mut rig).len() + rig.values("p.dlq").len(), 1);
    }
}

#[test]
fn values_may_begin_with_the_number_of_their_schema() {
    let mut rig = rig(&[("big", "BIGINT")], ", schema_id = 7");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let value = proptest::strategy::ValueTree::current(&row().new_tree(&mut runner).unwrap());
    let with = |id: u8| record([&[0, 0, 0, 0, id][..], &value.bytes()].concat());
    rig.send(
        1024,
        &[with(7), with(8), record(value.bytes()), record(vec![0, 0])],
    );
    assert_eq!(results(&mut rig), [json!({"big": value.big})]);
    let letters = rig.values("p.dlq").len();
    assert_eq!(letters, 3);
}

fn refused(columns: &str, options: &str) -> String {
    let sql = format!("CREATE STREAM t ({columns}) WITH (format = 'avro'{options})");
    flowstone_sql::plan_file(&sql)
        .err()
        .expect("it is refused")
        .to_string()
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let own = format!(", schema = '{SCHEMA}'");
    for (columns, options, what) in [
        ("a INT", "", "needs the schema"),
        ("a INT", ", schema = 'nonsense'", "no JSON"),
        ("a INT", r#", schema = '"long"'"#, "not that of a record"),
        (
            "a INT",
            r#", schema = '{"type": "record", "name": "r", "fields": [{"name": "a", "type": "foo"}]}'"#,
            "no type 'foo'",
        ),
        (
            "a INT",
            r#", schema = '{"type": "record", "name": "r", "fields": [{"name": "a", "type":
            {"type": "array", "items": "null"}}]}'"#,
            "may take no bytes",
        ),
        (
            "a INT",
            r#", schema = '{"type": "record", "name": "r", "fields": [{"name": "l", "type": {"type":
            "array", "items": {"type": "record", "name": "s", "fields": [{"name": "x", "type": "s"},
            {"name": "y", "type": "s"}, {"name": "z", "type": "s"}]}}}]}'"#,
            "never ends",
        ),
        (
            "a TIMESTAMP",
            r#", schema = '{"type": "record", "name": "r", "fields": [{"name": "a", "type":
            {"type": "long", "logicalType": "time-micros"}}]}'"#,
            "cannot be read as this type",
        ),
        ("nope INT", &own, "no field 'nope'"),
        ("big VARCHAR", &own, "cannot be read as this type"),
        ("inner VARCHAR", &own, "cannot be read as this type"),
        ("word INT", &own, "cannot be read as this type"),
        ("list VARCHAR[]", &own, "cannot be read as this type"),
        ("day TIMESTAMP", &own, "cannot be read as this type"),
        (
            "big BIGINT",
            &format!("{own}, delimiter = ';'"),
            "no option 'delimiter'",
        ),
    ] {
        let said = refused(columns, options);
        assert!(
            said.contains(what) && said.contains("line 1"),
            "{columns} {options}: {said}"
        );
    }
}

/// A few bytes claim many elements, and much depth.
#[test]
fn claims_without_bytes_end() {
    let schema = r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"},
        {"name": "l", "type": {"type": "array", "items": "long"}}, {"name": "r", "type": ["null", "r"]}]}"#;
    let sql = format!(
        "CREATE STREAM t (a BIGINT, l BIGINT[]) WITH (format = 'avro', schema = '{schema}'); \
         CREATE PIPELINE p AS SELECT a, l FROM t"
    );
    let mut rig = Rig::new(&plan(&sql).remove(0), &[(1024, 0)]);
    let many = [&[2u8][..], &[0xff; 8], &[0x7f]].concat();
    let deep = [&[2u8, 0][..], &[2, 2, 0].repeat(5000)].concat();
    rig.send(1024, &[record(many), record(deep), record(vec![2, 0, 0])]);
    assert_eq!(results(&mut rig), [json!({"a": 1, "l": []})]);
    assert_eq!(rig.values("p.dlq").len(), 2);
}

/// The schema that a plan says.
fn schema_of(planned: &flowstone_sql::Planned) -> String {
    let line = planned.explained.lines().next().unwrap();
    line.strip_prefix("sink: results, avro ").unwrap().into()
}

/// Results as another implementation reads them, and as a stream reads them again.
#[test]
fn results_are_avro_that_others_read_and_streams_as_well() {
    let streams = "CREATE STREAM t (flag BOOLEAN, small SMALLINT, i INT, big BIGINT, half REAL, whole DOUBLE, word VARCHAR,
                     day DATE, ms TIMESTAMP, list BIGINT[]);";
    let columns = "flag, small, i, big, half, whole, word, day, ms, list";
    let query = format!(
        "SELECT {columns}, named_struct('a', big, 'b', word) AS pair, big + 0.5 AS other FROM t"
    );
    let sql = format!(
        "{streams} CREATE PIPELINE p WITH (format = 'avro', schema_id = 258) AS {query}; \
         CREATE PIPELINE q AS {query};"
    );
    let planned = plan(&sql);
    let text = schema_of(&planned[0]);
    let schema = Schema::parse_str(&text).unwrap();
    let again = format!(
        "CREATE STREAM u (flag BOOLEAN, small SMALLINT, i INT, big BIGINT, half REAL, whole DOUBLE, word VARCHAR,
           day DATE, ms TIMESTAMP, list BIGINT[], other DOUBLE) WITH (format = 'avro', schema_id = 258, schema = '{text}');
         CREATE PIPELINE r AS SELECT {columns}, other FROM u"
    );
    let values = [
        json!({"flag": true, "small": -7, "i": 1 << 20, "big": i64::MIN, "half": 0.5, "whole": -1e300, "word": "h\u{e9}",
               "day": "2026-01-31", "ms": "2026-01-31T10:00:00.123Z", "list": [1, null, -3]}),
        json!({"big": 64, "list": [], "word": ""}),
        json!({}),
    ];
    let records: Vec<Record> = values.iter().map(|v| Record::of(v.to_string())).collect();
    let run = |planned: &flowstone_sql::Planned, records: &[Record]| {
        let mut rig = Rig::new(planned, &[(1024, 0)]);
        rig.send(1024, records);
        rig.run();
        assert!(
            rig.outs.iter().all(|o| o.topic.len() == 1),
            "{:?}",
            rig.outs
        );
        rig.outs
    };
    let json_of = |outs: &[crate::rig::Out]| -> Vec<Value> {
        let values = outs.iter().map(|o| o.value.as_deref().unwrap());
        values.map(|v| serde_json::from_str(v).unwrap()).collect()
    };
    let avro = run(&planned[0], &records);
    let plain = json_of(&run(&planned[1], &records));
    for (out, plain) in avro.iter().zip(&plain) {
        let (id, mut datum) = out.bytes.as_deref().unwrap().split_at(5);
        assert_eq!(id, [0, 0, 0, 1, 2]);
        let read = from_avro_datum(&schema, &mut datum, None).unwrap();
        assert!(datum.is_empty(), "nothing is left");
        let read = Value::try_from(read).unwrap();
        for name in [
            "flag", "small", "i", "big", "half", "whole", "word", "list", "pair", "other",
        ] {
            assert_eq!(read[name], plain[name], "{name}");
        }
        assert_eq!(read["ms"].is_null(), plain["ms"].is_null());
    }
    let records: Vec<Record> = avro
        .iter()
        .map(|o| record(o.bytes.clone().unwrap()))
        .collect();
    let mut plain = plain;
    plain
        .iter_mut()
        .for_each(|p| drop(p.as_object_mut().unwrap().remove("pair")));
    assert_eq!(json_of(&run(&plan(&again)[0], &records)), plain);
}

#[test]
fn a_column_that_avro_has_no_name_for_is_refused() {
    let refused = |options: &str, query: &str| {
        let sql =
            format!("CREATE STREAM t (n BIGINT); CREATE PIPELINE p WITH ({options}) AS {query}");
        flowstone_sql::plan_file(&sql).err().unwrap().message
    };
    let said = refused("format = 'avro'", "SELECT n + 1 FROM t");
    assert!(said.contains("with AS"), "{said}");
    let said = refused(
        "format = 'avro'",
        "SELECT named_struct('a', n, 'a', n) AS x FROM t",
    );
    assert!(said.contains("one field 'a'"), "{said}");
    let said = refused("schema_id = 1", "SELECT n FROM t");
    assert!(said.contains("no option 'schema_id'"), "{said}");
}
