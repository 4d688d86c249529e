//! Cargo.toml files, read line by line: just enough to see dependencies, lints and features.

use crate::source;
use std::fs;

/// What the rules need to know of one crate.
pub(crate) struct Manifest {
    /// The directory of the crate, from the root of the project.
    pub(crate) dir: String,
    /// The name of the package.
    pub(crate) package: String,
    /// All dependencies, of every kind and for every target.
    pub(crate) dependencies: Vec<Dependency>,
    /// Whether the lints of the workspace apply.
    pub(crate) workspace_lints: bool,
    /// Whether there is a `[features]` section or an optional dependency.
    pub(crate) has_features: bool,
}

/// One dependency of a crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The name it goes by in this crate.
    pub(crate) name: String,
    /// Whether only tests and benches of the crate see it.
    pub(crate) dev: bool,
    /// Whether version and features come from the workspace.
    pub(crate) from_workspace: bool,
}

/// One `key = value` with the section it stands in.
struct Entry {
    section: String,
    key: String,
    value: String,
}

impl Manifest {
    /// Reads the text of a Cargo.toml.
    pub(crate) fn parse(dir: &str, text: &str) -> Self {
        let entries = entries(text);
        let value = |section: &str, key: &str| {
            entries
                .iter()
                .find(|e| e.section == section && e.key == key)
                .map(|e| e.value.as_str())
        };
        let optional = |e: &Entry| {
            dependency_section(&e.section).is_some()
                && (e.value.replace(' ', "").contains("optional=true")
                    || (e.key.ends_with("optional") && e.value == "true"))
        };
        Self {
            dir: dir.to_owned(),
            package: value("package", "name")
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
            dependencies: dependencies(&entries),
            workspace_lints: value("lints", "workspace") == Some("true"),
            has_features: entries
                .iter()
                .any(|e| e.section == "features" || optional(e)),
        }
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> String {
        format!("{}/Cargo.toml", self.dir)
    }
}

/// The manifests of all members of the workspace.
pub(crate) fn all() -> Vec<Manifest> {
    let read = |path: &str| {
        fs::read_to_string(source::root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    members(&read("Cargo.toml"))
        .iter()
        .map(|dir| Manifest::parse(dir, &read(&format!("{dir}/Cargo.toml"))))
        .collect()
}

/// The directories a workspace lists as its members.
pub(crate) fn members(root: &str) -> Vec<String> {
    let entries = entries(root);
    let list = entries
        .iter()
        .find(|e| e.section == "workspace" && e.key == "members");
    let list = list.map_or("", |e| e.value.as_str());
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn entries(text: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut section = String::new();
    let mut depth = 0;
    for line in text.lines().map(|line| without_comment(line).trim()) {
        if depth > 0 {
            let last = found.last_mut().expect("a bracket was opened by an entry");
            last.value.push_str(line);
            depth += brackets(line);
        } else if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).trim().to_owned();
            // A section without a key counts too: `[features]` alone is a finding.
            found.push(Entry {
                section: section.clone(),
                key: String::new(),
                value: String::new(),
            });
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            depth += brackets(&value);
            found.push(Entry {
                section: section.clone(),
                key,
                value,
            });
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

fn brackets(text: &str) -> i32 {
    let mut quoted = false;
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    depth
}

/// For a section of dependencies: whether they are for development, and the one it is about.
fn dependency_section(section: &str) -> Option<(bool, &str)> {
    let at = section.find("dependencies")?;
    let name = &section[at + "dependencies".len()..];
    let dev = section[..at].ends_with("dev-");
    Some((dev, name.trim_start_matches('.').trim_matches('"')))
}

fn dependencies(entries: &[Entry]) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    for entry in entries {
        let Some((dev, section_name)) = dependency_section(&entry.section) else {
            continue;
        };
        let (name, rest) = if section_name.is_empty() {
            let (name, rest) = entry.key.split_once('.').unwrap_or((&entry.key, ""));
            (name.trim().trim_matches('"'), rest.trim())
        } else {
            (section_name, entry.key.as_str())
        };
        if name.is_empty() {
            continue;
        }
        let from_workspace = (rest == "workspace" && entry.value == "true")
            || (rest.is_empty() && entry.value.replace(' ', "").contains("workspace=true"));
        match found.iter_mut().find(|d| d.name == name && d.dev == dev) {
            Some(known) => known.from_workspace |= from_workspace,
            None => found.push(Dependency {
                name: name.to_owned(),
                dev,
                from_workspace,
            }),
        }
    }
    found
}
