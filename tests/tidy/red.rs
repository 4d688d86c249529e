//! Tests of the test: every check goes red on a small wrong text, and stays green beside it.

use crate::manifest::{self, Dependency, Manifest};
use crate::source::Source;
use crate::{calls, functions, layers, purity, text, unsafety};

type Check = fn(&Source) -> Vec<String>;

#[track_caller]
fn red(check: Check, path: &str, wrong: &str) {
    let found = check(&Source::new(path, wrong));
    assert_eq!(found.len(), 1, "{path}:\n{wrong}\nfound: {found:?}");
}

#[track_caller]
fn green(check: Check, path: &str, right: &str) {
    let found = check(&Source::new(path, right));
    assert!(found.is_empty(), "{path}:\n{right}\nfound: {found:?}");
}

fn package(name: &str, dir: &str, rest: &str) -> Manifest {
    Manifest::parse(dir, &format!("[package]\nname = \"{name}\"\n{rest}"))
}

#[test]
fn comments_and_literals_are_blank() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x \" y") + 1"#, "f(        ) + 1"),
        (r###"f(r#"x " y"#) + 1"###, "f(          ) + 1"),
        (
            "f(b\"x\", 'y', '\\'', '\\u{1F}')",
            "f(b   ,    ,     ,         )",
        ),
        ("fn f<'a>(r#mod: &'a str) {}", "fn f<'a>(r#mod: &'a str) {}"),
        ("'\u{fc}' x", "     x"),
    ];
    for (text, code) in cases {
        assert_eq!(Source::new("storage/src/a.rs", text).code, code);
    }
    assert_eq!(
        Source::new("storage/src/a.rs", "a \"b\" // c").prose,
        "a     // c"
    );
}

#[test]
fn items_for_tests_are_not_production() {
    let text = "a();\n#[cfg(test)]\nmod tests {\n    b();\n}\nc();\n\
                #[cfg(test)]\nmod tests;\nd();\n\
                #[cfg(test)]\n#[path = \"x\"]\nfn e(\n    x: u8,\n) {\n    f();\n}\ng();\n\
                {\n    #[cfg(test)]\n    let h = i\n        .j();\n    k();\n}\n";
    let source = Source::new("storage/src/a.rs", text);
    let kept: Vec<&str> = source.production.split_whitespace().collect();
    assert_eq!(kept, ["a();", "c();", "d();", "g();", "{", "k();", "}"]);
    assert_eq!(source.production.lines().count(), text.lines().count());
    for path in [
        "storage/src/a/tests.rs",
        "tests/it/a.rs",
        "benches/src/a.rs",
    ] {
        assert!(
            Source::new(path, text).production.trim().is_empty(),
            "{path}"
        );
    }
    assert!(
        Source::new("storage/src/a.rs", "#![cfg(test)]\na();\n")
            .production
            .trim()
            .is_empty()
    );
}

#[test]
fn manifests_are_read() {
    let text = "[dependencies]\n\
                a.workspace = true\n\
                b = { workspace = true, features = [\n  \"x\", # y\n] }\n\
                c = \"1\"\n\
                [dependencies.d]\nworkspace = true\n\
                [target.'cfg(unix)'.dev-dependencies]\n\"e\" = { version = \"1\" }\n\
                [lints]\nworkspace = true\n";
    let manifest = package("flowstone", "broker", text);
    let expected = [("a", false, true), ("b", false, true), ("c", false, false)];
    let expected = expected
        .into_iter()
        .chain([("d", false, true), ("e", true, false)]);
    let expected: Vec<Dependency> = expected
        .map(|(name, dev, from_workspace)| Dependency {
            name: name.into(),
            dev,
            from_workspace,
        })
        .collect();
    assert_eq!(manifest.dependencies, expected);
    assert_eq!(
        (manifest.package.as_str(), manifest.workspace_lints),
        ("flowstone", true)
    );
    let root = "[workspace]\nmembers = [\n  \"a\", # \"b\"\n  \"c/d\",\n]\n";
    assert_eq!(manifest::members(root), ["a", "c/d"]);
}

#[test]
fn members_without_a_row_are_found() {
    let stranger = package("flowstone-extra", "extra", "");
    let found = layers::members(&[stranger]);
    assert!(found[0].contains("flowstone-extra"), "{found:?}");
    assert!(found[1].contains("flowstone-wire"), "{found:?}");
}

#[test]
fn edges_against_the_table_are_found() {
    let uses = |name, dir, rest| layers::edges(&package(name, dir, rest)).len();
    let on_core = "[dependencies]\nflowstone-core.workspace = true\n";
    assert_eq!(uses("flowstone-storage", "storage", on_core), 1);
    assert_eq!(uses("flowstone", "broker", on_core), 0);
    let on_storage = "[dependencies.flowstone-storage]\nworkspace = true\n";
    assert_eq!(uses("flowstone-processor", "processor", on_storage), 1);
    assert_eq!(
        uses(
            "flowstone-wire",
            "client/wire",
            "[dev-dependencies]\nflowstone-core = \"1\""
        ),
        0
    );
    assert_eq!(
        uses(
            "flowstone",
            "broker",
            "[dev-dependencies]\nflowstone-tests = \"1\""
        ),
        1
    );
    assert_eq!(
        uses(
            "flowstone-tests",
            "tests",
            "[dependencies]\nflowstone-benches = \"1\""
        ),
        1
    );
}

#[test]
fn manifests_against_the_rules_are_found() {
    let found = |check: fn(&Manifest) -> Vec<String>, rest| {
        check(&package("flowstone-core", "x", rest)).len()
    };
    assert_eq!(
        found(
            layers::workspace_dependencies,
            "[dependencies]\na = \"1\"\nb = { path = \"b\" }"
        ),
        2
    );
    assert_eq!(
        found(
            layers::workspace_dependencies,
            "[dependencies]\na = { workspace = true }"
        ),
        0
    );
    assert_eq!(
        found(
            layers::workspace_lints,
            "[lints.rust]\nunsafe_code = \"deny\""
        ),
        1
    );
    assert_eq!(
        found(layers::workspace_lints, "[lints]\nworkspace = true"),
        0
    );
    assert_eq!(found(layers::cargo_features, "[features]"), 1);
    assert_eq!(
        found(
            layers::cargo_features,
            "[dependencies]\na = { optional = true }"
        ),
        1
    );
    assert_eq!(
        found(
            layers::cargo_features,
            "[dependencies]\na = { features = [\"x\"] }"
        ),
        0
    );
    assert_eq!(
        found(
            layers::part_dependencies,
            "[dependencies]\ntokio.workspace = true"
        ),
        1
    );
    assert_eq!(
        found(
            layers::part_dependencies,
            "[dev-dependencies]\nredb.workspace = true"
        ),
        1
    );
    assert_eq!(
        text::package_name(&package("flowstone-utils", "x", "")).len(),
        1
    );
    assert_eq!(
        text::package_name(&package("flowstone-wire", "x", "")).len(),
        0
    );
}

#[test]
fn parts_outside_their_places_are_found() {
    red(
        layers::part_names,
        "storage/src/a.rs",
        "use tokio::sync::mpsc;\n",
    );
    red(
        layers::part_names,
        "client/src/a.rs",
        "monoio::spawn(f());\n",
    );
    red(
        layers::part_names,
        "broker/src/topics.rs",
        "fn f(d: &redb::Database) {}\n",
    );
    green(
        layers::part_names,
        "broker/src/catalog/topics.rs",
        "fn f(d: &redb::Database) {}\n",
    );
    green(
        layers::part_names,
        "broker/src/a.rs",
        "use monoio::net::TcpStream;\n",
    );
    green(
        layers::part_names,
        "storage/src/a.rs",
        "// like tokio\nlet a = \"tokio\";\n",
    );
}

#[test]
fn unsafe_code_outside_its_place_is_found() {
    red(
        unsafety::place,
        "broker/src/a.rs",
        "fn f() { unsafe { g() } }\n",
    );
    red(unsafety::place, "tests/it/a.rs", "unsafe fn f() {}\n");
    green(
        unsafety::place,
        "storage/src/sys/map.rs",
        "unsafe fn f() {}\n",
    );
    green(
        unsafety::place,
        "broker/src/a.rs",
        "// unsafe\n#![forbid(unsafe_code)]\n",
    );
    let two = "unsafe fn f() {}\nfn g() { unsafe { f() } } // unsafe\n";
    assert_eq!(
        unsafety::count(&Source::new("storage/src/sys/map.rs", two)),
        2
    );
    assert_eq!(unsafety::count(&Source::new("storage/src/a.rs", two)), 0);
}

#[test]
fn crate_roots_that_permit_unsafe_code_are_found() {
    for path in [
        "client/src/lib.rs",
        "broker/src/main.rs",
        "benches/src/bin/load.rs",
    ] {
        red(unsafety::lints, path, "//! A.\n");
        red(
            unsafety::lints,
            path,
            "//! A.\n// #![forbid(unsafe_code)]\n",
        );
        green(unsafety::lints, path, "//! A.\n#![forbid(unsafe_code)]\n");
    }
    red(unsafety::lints, "storage/src/lib.rs", "//! A.\n");
    green(
        unsafety::lints,
        "storage/src/lib.rs",
        "//! A.\n#![deny(unsafe_code)]\n",
    );
    red(
        unsafety::lints,
        "storage/src/log.rs",
        "#[allow(unsafe_code)]\nmod a;\n",
    );
    red(
        unsafety::lints,
        "storage/src/log.rs",
        "#![deny(unsafe_code)]\n",
    );
    green(
        unsafety::lints,
        "storage/src/sys/mod.rs",
        "#![allow(unsafe_code)]\n",
    );
}

#[test]
fn impure_cores_are_found() {
    let wrong = [
        "use std::time::{Duration, Instant};",
        "fn f(t: std::time::SystemTime) {}",
        "let a = Clock::now();",
        "use std::{fmt, thread};",
        "let a = std::thread::available_parallelism();",
        "use std::sync::{Arc, Mutex};",
        "a: RwLock<u8>,",
        "a: Condvar,",
        "async fn f() {}",
        "f().await;",
        "use std::{\n    fmt,\n    net::IpAddr,\n};",
        "fn f(a: std::net::IpAddr) {}",
        "monoio::spawn(f);",
        "tokio::spawn(f);",
        "let a: u8 = rand::random();",
        "let a = HashMap::new();",
        "let a = HashSet::default();",
        "a: HashMap<u8, Vec<(u8, u8)>>,",
        "let a = b.collect::<HashSet<_>>();",
        "let a = HashMap::<\n    u8,\n    u8,\n>::new();",
    ];
    for text in wrong {
        for dir in ["client/wire", "processor", "broker/core"] {
            let path = format!("{dir}/src/a.rs");
            let found = purity::check(&Source::new(&path, text));
            assert!(!found.is_empty(), "{path}: {text}");
            green(
                purity::check,
                &path,
                &format!("#[cfg(test)]\nmod tests {{\n    {text}\n}}\n"),
            );
        }
        green(purity::check, "broker/src/a.rs", text);
        green(purity::check, "processor/src/a/tests.rs", text);
    }
    let right = "use std::time::Duration;\nuse std::collections::HashMap;\n\
                 fn f(now: u64, a: HashMap<u8, fn(u8) -> u8, Fixed>, b: HashSet<u8, Fixed>) {}\n";
    green(purity::check, "processor/src/a.rs", right);
}

#[test]
fn names_that_say_nothing_are_found() {
    red(text::names, "storage/src/utils.rs", "//! A.\n");
    red(text::names, "storage/src/common/mod.rs", "//! A.\n");
    red(
        text::names,
        "storage/src/log.rs",
        "pub(crate) mod helpers;\n",
    );
    red(text::names, "storage/src/log.rs", "mod v2 {\n}\n");
    green(
        text::names,
        "storage/src/log.rs",
        "mod newest;\nfn new() {}\n// mod misc;\n",
    );
}

#[test]
fn test_modules_without_cfg_are_found() {
    red(text::test_modules, "storage/src/log.rs", "mod tests;\n");
    green(
        text::test_modules,
        "storage/src/log.rs",
        "#[cfg(test)]\nmod tests;\n",
    );
}

#[test]
fn files_that_do_not_say_what_they_are_are_found() {
    red(text::opening, "storage/src/log.rs", "use std::fmt;\n");
    red(text::opening, "storage/src/log.rs", "//!\n//! Late.\n");
    red(text::opening, "storage/src/log.rs", "");
    green(text::opening, "storage/src/log.rs", "//! The log.\n");
}

#[test]
fn long_files_are_found() {
    let lines = |count: usize| "a();\n".repeat(count);
    let tests = "#[cfg(test)]\nmod tests {\n    b();\n}\n";
    red(text::length, "storage/src/log.rs", &lines(501));
    red(
        text::length,
        "storage/src/log.rs",
        &format!("{}{tests}{}", lines(300), lines(201)),
    );
    green(
        text::length,
        "storage/src/log.rs",
        &format!("{}{tests}", lines(500)),
    );
    red(text::length, "storage/src/log/tests.rs", &lines(901));
    green(text::length, "storage/src/log/tests.rs", &lines(900));
    red(text::length, "benches/src/lib.rs", &lines(501));
}

#[test]
fn long_functions_are_found() {
    let body = |count: usize| "        a();\n".repeat(count);
    let long = format!(
        "    pub(crate) fn f(\n        a: u8,\n    ) -> u8 {{\n{}    }}\n",
        body(67)
    );
    let limit = format!("    fn f() {{\n{}    }}\n", body(68));
    red(functions::length, "storage/src/log.rs", &long);
    green(functions::length, "storage/src/log.rs", &limit);
    green(
        functions::length,
        "storage/src/log.rs",
        &format!("fn f();\nfn g() {{}}\n{limit}"),
    );
    green(
        functions::length,
        "storage/src/log.rs",
        &format!("{}fn h(\n    a: u8,\n);\n", limit.repeat(3)),
    );
    green(
        functions::length,
        "storage/src/log.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"),
    );
    green(functions::length, "tests/it/log.rs", &long);
    let literal = format!("fn f() {{\n    a(\"\n}}\n\");\n{}}}\n", body(80));
    red(functions::length, "storage/src/log.rs", &literal);
}

#[test]
fn banned_calls_are_found() {
    let wrong = [
        "a\n    .unwrap();",
        "todo!()",
        "unimplemented!()",
        "dbg!(a)",
        "thread::sleep(a)",
    ];
    for call in wrong {
        red(calls::production, "storage/src/log.rs", call);
        green(calls::production, "storage/src/log/tests.rs", call);
        green(
            calls::production,
            "storage/src/log.rs",
            &format!("/// {}\n", call.replace('\n', "")),
        );
    }
    green(
        calls::production,
        "storage/src/log.rs",
        "a.unwrap_or(1);\nb.expect(\"why\");\n",
    );
    red(
        calls::ignored,
        "tests/it/log.rs",
        "#[test]\n#[ignore]\nfn f() {}\n",
    );
    red(
        calls::ignored,
        "tests/it/log.rs",
        "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n",
    );
    green(calls::ignored, "tests/it/log.rs", "#[test]\nfn f() {}\n");
}

#[test]
fn sleeping_tests_are_found() {
    red(
        calls::sleeping_tests,
        "tests/it/log.rs",
        "std::thread::sleep(a);\n",
    );
    red(
        calls::sleeping_tests,
        "storage/src/log/tests.rs",
        "sleep(a).await;\n",
    );
    red(
        calls::sleeping_tests,
        "broker/src/a.rs",
        "b();\n#[cfg(test)]\nmod tests {\n    sleep(a);\n}\n",
    );
    green(
        calls::sleeping_tests,
        "broker/src/a.rs",
        "fn f() {\n    timer::sleep(a);\n}\n",
    );
    green(
        calls::sleeping_tests,
        "tests/it/log.rs",
        "// sleep(a)\nasleep(a);\n",
    );
    green(
        calls::sleeping_tests,
        "benches/src/lib.rs",
        "thread::sleep(a);\n",
    );
}

#[test]
fn cargo_features_are_found() {
    red(
        calls::cargo_features,
        "broker/src/a.rs",
        "#[cfg(feature = \"a\")]\nfn f() {}\n",
    );
    red(
        calls::cargo_features,
        "broker/src/a.rs",
        "#[cfg(not(feature = \"a\"))]\nfn f() {}\n",
    );
    red(
        calls::cargo_features,
        "broker/src/a.rs",
        "if cfg!(feature = \"a\") {}\n",
    );
    green(
        calls::cargo_features,
        "broker/src/a.rs",
        "#[cfg(test)]\nlet feature = 1;\n",
    );
}

#[test]
fn leftovers_are_found() {
    for word in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ] {
        red(
            text::leftovers,
            "storage/src/log.rs",
            &format!("// {word}: later\n"),
        );
        green(
            text::leftovers,
            "storage/src/log.rs",
            &format!("let a = \"{word}\";\n// {word}S\n"),
        );
    }
}

#[test]
fn unclean_white_space_is_found() {
    red(text::white_space, "storage/src/log.rs", "a();\n\tb();\n");
    red(text::white_space, "storage/src/log.rs", "a(); \nb();\n");
    red(text::white_space, "storage/src/log.rs", "a();\r\nb();\n");
    green(
        text::white_space,
        "storage/src/log.rs",
        "a();\n\n    b();\n",
    );
}
