//! Functions whose results may be larger than what they are made of.

use crate::rig::{Record, Rig, plan};
use serde_json::json;

/// A pipeline over records `{"s": "..."}`.
fn rig(query: &str) -> Rig {
    let sql =
        format!("CREATE STREAM t (s VARCHAR, n BIGINT, l VARCHAR[]); CREATE PIPELINE p AS {query}");
    Rig::new(&plan(&sql).remove(0), &[(1024, 0)])
}

fn record(s: &str) -> Record {
    Record::of(json!({"s": s, "n": 7, "l": [s, s]}).to_string())
}

/// Sends a record between two small ones; the small ones come out, and it goes to the dead letters for this reason.
fn fails_alone(query: &str, large: &str, reason: &str) {
    let mut rig = rig(query);
    rig.send(1024, &[record("x"), record(large), record("y")]);
    rig.run();
    assert_eq!(rig.values("p").len(), 2, "{query}");
    let letters: Vec<_> = rig.outs.iter().filter(|o| o.topic == "p.dlq").collect();
    assert_eq!(letters.len(), 1, "{query}");
    let found = &letters[0].headers["x-dlq-reason"];
    assert!(found.contains(reason), "{query}: {found}");
}

#[test]
fn a_record_that_a_function_would_make_too_much_of_goes_to_the_dead_letters_alone() {
    let many = "a".repeat(100_000);
    let fails = |expr: &str, name: &str| {
        let query = format!("SELECT octet_length({expr}) AS size FROM t");
        fails_alone(&query, &many, &format!("{name} would make up to"));
    };
    fails("replace(s, 'a', s)", "replace");
    fails("replace(s, '', s)", "replace");
    fails("regexp_replace(s, 'a', s, 'g')", "regexp_replace");
    fails(
        "regexp_replace(s, '^a+$', rpad('', 4000, '\\0'))",
        "regexp_replace",
    );
    fails(
        "array_to_string(string_to_array(s, NULL), s)",
        "array_to_string",
    );
    let list = "array_to_string(array_replace_all(string_to_array(s, NULL), 'a', s), '')";
    fails(list, "array_replace_all");
    fails(
        "array_to_string(string_to_array(s, NULL, 'a'), ',', s)",
        "array_to_string",
    );
    let query = "SELECT levenshtein(s, s) AS d FROM t";
    fails_alone(query, &many, "levenshtein of texts that are too long");
    let groups = format!("{}a{}|", "(".repeat(200), ")".repeat(200)).repeat(4);
    let query = format!(
        "SELECT cardinality(regexp_match(s, '{groups}')) AS c FROM t WHERE s IN ('x', 'y', s)"
    );
    fails_alone(&query, &many, "regexp_match would make up to");
}

/// Texts that double with every query of WITH.
#[test]
fn what_doubles_fails_when_it_is_too_large_and_not_later() {
    let doubled = |expr: &str, times: usize| {
        let step = |n: usize| format!(", c{n} AS (SELECT {expr} AS s FROM c{})", n - 1);
        let steps: String = (1..=times).map(step).collect();
        format!("WITH c0 AS (SELECT s FROM t){steps} SELECT octet_length(s) AS size FROM c{times}")
    };
    let mut rig_of_few = rig(&doubled("s || s", 4));
    rig_of_few.send(1024, &[record("ab")]);
    rig_of_few.run();
    assert_eq!(rig_of_few.values("p"), [r#"{"size":32}"#]);
    for (expr, name) in [
        ("s || s", "||"),
        ("concat(s, s)", "concat"),
        ("concat_ws(s, s, s)", "concat_ws"),
        ("overlay(s placing s from 1 for 0)", "overlay"),
        ("encode(s, 'hex')", "encode"),
        ("array_to_string(make_array(s, s), '')", "make_array"),
        (
            "array_to_string(array_append(make_array(s), s), '')",
            "array_append",
        ),
        (
            "named_struct('a', s, 'b', s)['a'] || 'x' || s",
            "named_struct",
        ),
    ] {
        let mut rig = rig(&doubled(expr, 30));
        rig.send(1024, &[record("ab")]);
        rig.run();
        let letters: Vec<_> = rig.outs.iter().filter(|o| o.topic == "p.dlq").collect();
        assert_eq!((letters.len(), rig.values("p").len()), (1, 0), "{expr}");
        let reason = &letters[0].headers["x-dlq-reason"];
        let found = reason.contains(&format!("{name} would make up to"));
        assert!(
            found || reason.contains("array_to_string would"),
            "{expr}: {reason}"
        );
    }
}

/// Constants are computed when a query is planned.
#[test]
fn constants_are_within_the_same_bounds() {
    let step = |n: usize| format!(", c{n} AS (SELECT s || s AS s, n FROM c{})", n - 1);
    let steps: String = (1..=40).map(step).collect();
    let query = format!(
        "CREATE STREAM t (n BIGINT); CREATE PIPELINE p AS WITH c0 AS (SELECT 'ab' AS s, n FROM t){steps} \
         SELECT s, n FROM c40"
    );
    // It is refused, or each record fails: nothing takes a terabyte, and no constant is large in every row.
    if let Ok((_, planned)) = flowstone_sql::plan_file(&query) {
        let mut rig = Rig::new(&planned[0], &[(1024, 0)]);
        rig.send(1024, &[Record::of(r#"{"n":1}"#)]);
        rig.run();
        assert_eq!((rig.values("p").len(), rig.values("p.dlq").len()), (0, 1));
    }
    for (expr, reason) in [
        ("CAST(NULL AS BIGINT[1000000000])", "leave the size out"),
        ("CAST(l AS VARCHAR[1000000000])", "leave the size out"),
        (
            "arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
            "a type of single values",
        ),
        (
            "arrow_cast('a', 'Dictionary(Int32, Utf8)')",
            "a type of single values",
        ),
        ("CAST(l AS VARCHAR)", "take array_to_string"),
        ("CAST(make_array(l) AS VARCHAR[])", "take array_to_string"),
        ("arrow_cast(l, 'Utf8')", "take array_to_string"),
    ] {
        let sql = format!(
            "CREATE STREAM t (l VARCHAR[]); CREATE PIPELINE p AS SELECT {expr} AS x FROM t"
        );
        let error = flowstone_sql::plan_file(&sql).err().unwrap();
        assert!(error.message.contains(reason), "{expr}: {error}");
    }
}

#[test]
fn within_bounds_functions_say_what_they_say() {
    let query = "SELECT s || n AS a, s || NULL AS b, NULL || s AS c, concat(s, NULL, n) AS d, concat_ws('-', s, n) AS e, \
                 replace(s, 'b', 'cd') AS f, l || 'z' AS g, l || l AS h, lpad(s, 5, '.') AS i, s || s FROM t \
                 WHERE s || s <> 'xx'";
    let mut rig = rig(query);
    rig.send(1024, &[record("ab"), record("x")]);
    rig.run();
    let expected = concat!(
        r#"{"a":"ab7","b":null,"c":null,"d":"ab7","e":"ab-7","f":"acd","g":["ab","ab","z"],"#,
        r#""h":["ab","ab","ab","ab"],"i":"...ab","t.s || t.s":"abab"}"#
    );
    assert_eq!(rig.values("p"), [expected]);
}

/// A large row beside many elements, and beside many rows of a join: what is computed at once is bounded, and what
/// comes out as well.
#[test]
fn a_large_row_that_would_be_there_many_times_fails_alone_and_within_memory() {
    let large = "a".repeat(3 << 20);
    let sql = "CREATE STREAM t (s VARCHAR, l BIGINT[]);
               CREATE PIPELINE p AS SELECT s, x FROM t CROSS JOIN UNNEST(l) AS a(x);";
    let mut rig = Rig::new(&plan(sql).remove(0), &[(1024, 0)]);
    let record = |s: &str| Record::of(json!({"s": s, "l": vec![1; 5000]}).to_string());
    rig.send(1024, &[record(&large), record("y")]);
    rig.run();
    assert_eq!(
        (rig.values("p").len(), rig.values("p.dlq").len()),
        (5000, 1)
    );

    let sql = "CREATE STREAM a (ts TIMESTAMP, k BIGINT, s VARCHAR, WATERMARK FOR ts AS ts);
               CREATE STREAM b (ts TIMESTAMP, k BIGINT, n BIGINT, WATERMARK FOR ts AS ts);
               CREATE PIPELINE p AS
                 SELECT octet_length(s) AS size, n FROM a JOIN b ON a.k = b.k AND a.ts = b.ts";
    let mut rig = Rig::new(&plan(sql).remove(0), &[(1024, 0), (1025, 1)]);
    // What a state entry takes; 3,000 times that is more than a column can be.
    let large = "a".repeat(900_000);
    let row = |ts: i64, s: &str, n: i64| {
        Record::of(json!({"ts": ts, "k": 1, "s": s, "n": n}).to_string())
    };
    let many: Vec<Record> = (0..3000).map(|n| row(0, "", n)).collect();
    rig.send(1025, &many);
    rig.run();
    rig.send(1024, &[row(0, &large, 0)]);
    rig.run();
    assert_eq!(rig.values("p")[2999], r#"{"size":900000,"n":2999}"#);
    assert!(rig.values("p.dlq").is_empty());
}

/// What is foreseen is more than there is: many rows are computed a few at a time, and do not fail for it.
#[test]
fn many_rows_that_might_be_too_much_together_are_not() {
    let mut rig = rig(
        "SELECT octet_length(regexp_replace(s, 'b', 'a text of more than forty characters, as it seems', 'g')) AS n, \
                       array_to_string(array_replace_all(l, 'x', s), ',') IS NULL AS m FROM t",
    );
    let text = "a".repeat(2_000);
    for _ in 0..20 {
        rig.send(1024, &vec![record(&text); 50]);
    }
    rig.limits.max_records = 1_000;
    rig.run();
    assert_eq!(rig.values("p"), vec![r#"{"n":2000,"m":false}"#; 1_000]);
}

/// One large row that is stored, met by many small ones.
#[test]
fn a_large_row_that_many_rows_meet_is_taken_in_pieces() {
    let large = "a".repeat(900_000);
    let sql = "CREATE TABLE a (k VARCHAR, s VARCHAR, PRIMARY KEY (k)); CREATE STREAM b (k VARCHAR FROM KEY, n BIGINT);
               CREATE PIPELINE p AS SELECT octet_length(s) AS size, n FROM b JOIN a ON a.k = b.k";
    let mut lookup = Rig::new(&plan(sql).remove(0), &[(1024, 0), (1025, 1)]);
    let sql = "CREATE STREAM a (ts TIMESTAMP, k VARCHAR FROM KEY, s VARCHAR, WATERMARK FOR ts AS ts);
               CREATE STREAM b (ts TIMESTAMP, k VARCHAR FROM KEY, n BIGINT, WATERMARK FOR ts AS ts);
               CREATE PIPELINE p AS SELECT octet_length(s) AS size, n FROM a JOIN b ON a.k = b.k AND a.ts = b.ts";
    let mut join = Rig::new(&plan(sql).remove(0), &[(1024, 0), (1025, 1)]);
    for rig in [&mut lookup, &mut join] {
        let row = |n: i64, s: &str| Record {
            key: Some("k".into()),
            ..Record::of(json!({"ts": 0, "n": n, "s": s}).to_string())
        };
        rig.send(1024, &[row(0, &large)]);
        rig.run();
        let small: Vec<Record> = (0..3_000).map(|n| row(n, "")).collect();
        rig.send(1025, &small);
        rig.run();
        assert_eq!(rig.values("p").len(), 3_000);
        assert_eq!(rig.values("p")[2_999], r#"{"size":900000,"n":2999}"#);
    }
}
