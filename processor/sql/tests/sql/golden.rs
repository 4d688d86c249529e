//! `tests/golden/sql/*.sql`: statements, what goes in, and what must come out.
//!
//! ```text
//! statements
//! --- explain PIPELINE        its plan
//! --- error                   what is said of the statements, if they are refused
//! --- input TOPIC             a record a line: its value; `@MS` before it is its timestamp,
//!                             `[KEY]` its key; a line of `...` cuts the input into steps
//! --- output TOPIC            a record a line: `@timestamp [key] value {headers}`
//! ```
//!
//! `UPDATE=1` rewrites all but statements and input. The files must be read by a person then.

use crate::rig::{Record, Rig};
use flowstone_sql::{Planned, plan_file};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/sql")
}

#[test]
fn golden_files_say_what_happens() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no golden files in {}", dir().display());
    let mut wrong = String::new();
    for path in paths {
        let kept = std::fs::read_to_string(&path).unwrap();
        let now = rerun(&kept);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &now).unwrap();
        } else if now != kept {
            write!(wrong, "{} is now:\n{now}\n", path.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

struct Section<'t> {
    title: &'t str,
    lines: Vec<&'t str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section {
        title: "",
        lines: Vec::new(),
    }];
    for line in text.lines() {
        match line.strip_prefix("--- ") {
            Some(title) => sections.push(Section {
                title,
                lines: Vec::new(),
            }),
            None => sections.last_mut().unwrap().lines.push(line),
        }
    }
    sections
}

fn rerun(text: &str) -> String {
    let sections = sections(text);
    let statements = sections[0].lines.join("\n");
    let mut out = format!("{statements}\n");
    let planned = match plan_file(&statements) {
        Ok((_, planned)) => planned,
        Err(error) => {
            writeln!(out, "--- error\n{error}").unwrap();
            return out;
        }
    };
    for section in sections.iter().filter(|s| s.title.starts_with("explain ")) {
        let name = &section.title["explain ".len()..];
        let found = planned.iter().find(|p| p.pipeline.name() == name).unwrap();
        write!(out, "--- {}\n{}", section.title, found.explained).unwrap();
    }
    let inputs: Vec<&Section<'_>> = sections
        .iter()
        .filter(|s| s.title.starts_with("input "))
        .collect();
    for section in &inputs {
        writeln!(
            out,
            "--- {}\n{}",
            section.title,
            section.lines.join("\n").trim_end()
        )
        .unwrap();
    }
    for pipeline in planned.iter().filter(|_| !inputs.is_empty()) {
        run(pipeline, &inputs, &mut out);
    }
    out
}

fn run(planned: &Planned, inputs: &[&Section<'_>], out: &mut String) {
    let sources = planned.pipeline.sources();
    let partitions: Vec<(u32, u16)> = (0..sources.len() as u32)
        .map(|n| (1024 + n, n as u16))
        .collect();
    let mut rig = Rig::new(planned, &partitions);
    let steps = inputs
        .iter()
        .map(|s| s.lines.split(|l| *l == "...").count())
        .max()
        .unwrap_or(0);
    for step in 0..steps {
        for section in inputs {
            let topic = &section.title["input ".len()..];
            let Some(source) = sources.iter().position(|s| s == topic) else {
                continue;
            };
            let lines = section
                .lines
                .split(|l| *l == "...")
                .nth(step)
                .unwrap_or_default();
            let records: Vec<Record> = lines
                .iter()
                .filter(|l| !l.is_empty())
                .map(|l| record(l))
                .collect();
            if !records.is_empty() {
                rig.send(1024 + source as u32, &records);
            }
        }
        rig.run();
    }
    for sink in planned.pipeline.sinks() {
        let mut lines = String::new();
        for o in rig.outs.iter().filter(|o| o.topic == *sink) {
            write!(lines, "@{}", o.timestamp).unwrap();
            if let Some(key) = &o.key {
                write!(lines, " [{key}]").unwrap();
            }
            write!(lines, " {}", o.value.as_deref().unwrap_or("(tombstone)")).unwrap();
            let said = o
                .headers
                .iter()
                .filter(|(name, _)| *name == "x-dlq-reason" || name.starts_with("x-late"));
            for (name, value) in said {
                write!(lines, " {{{name}: {value}}}").unwrap();
            }
            lines.push('\n');
        }
        if !lines.is_empty() {
            write!(out, "--- output {sink}\n{lines}").unwrap();
        }
    }
}

fn record(line: &str) -> Record {
    let mut record = Record::default();
    let mut rest = line;
    if let Some(behind) = rest.strip_prefix('@') {
        let (ms, behind) = behind.split_once(' ').unwrap();
        record.timestamp = ms.parse().unwrap();
        rest = behind;
    }
    if let Some(behind) = rest.strip_prefix('[') {
        let (key, behind) = behind.split_once("] ").unwrap();
        record.key = Some(key.into());
        rest = behind;
    }
    record.value = (rest != "(tombstone)").then(|| rest.as_bytes().to_vec());
    record
}
