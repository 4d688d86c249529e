//! Which crate may use which, and where the parts live that only one place may know.

use crate::manifest::{Dependency, Manifest};
use crate::source::{self, Source};

/// Our crates, lower ones first. This table is the law.
const LAYERS: &[Layer] = &[
    layer("flowstone-wire", "client/wire", &[]),
    layer("flowstone-storage", "storage", &["flowstone-wire"]),
    layer(
        "flowstone-tier",
        "storage/tier",
        &["flowstone-wire", "flowstone-storage"],
    ),
    layer("flowstone-processor", "processor", &["flowstone-wire"]),
    layer(
        "flowstone-sql",
        "processor/sql",
        &["flowstone-wire", "flowstone-processor"],
    ),
    layer(
        "flowstone-core",
        "broker/core",
        &["flowstone-wire", "flowstone-storage", "flowstone-processor"],
    ),
    layer(
        "flowstone-peer",
        "broker/peer",
        &["flowstone-wire", "flowstone-core"],
    ),
    layer(
        "flowstone-query",
        "broker/query",
        &["flowstone-wire", "flowstone-processor", "flowstone-sql"],
    ),
    layer("flowstone-client", "client", &["flowstone-wire"]),
    layer("flowstone", "broker", BELOW_BROKER),
    layer("flowstone-tests", "tests", BELOW_TESTS),
    layer("flowstone-benches", "benches", BELOW_TESTS),
];

const BELOW_BROKER: &[&str] = &[
    "flowstone-wire",
    "flowstone-storage",
    "flowstone-tier",
    "flowstone-processor",
    "flowstone-sql",
    "flowstone-core",
    "flowstone-peer",
    "flowstone-query",
    "flowstone-client",
];

const BELOW_TESTS: &[&str] = &[
    "flowstone-wire",
    "flowstone-storage",
    "flowstone-tier",
    "flowstone-processor",
    "flowstone-sql",
    "flowstone-core",
    "flowstone-peer",
    "flowstone-query",
    "flowstone-client",
    "flowstone",
];

/// They see everything and are seen by nobody, not even for development.
const SEEN_BY_NOBODY: &[&str] = &["flowstone-tests", "flowstone-benches"];

/// Parts of others that are named in few places, so that they can be exchanged there.
const PARTS: &[Part] = &[
    Part {
        name: "tokio",
        packages: &[
            "flowstone",
            "flowstone-client",
            "flowstone-tier",
            "flowstone-peer",
            "flowstone-query",
            "flowstone-tests",
            "flowstone-benches",
        ],
        places: &[
            "broker/src/",
            "broker/peer/",
            "broker/query/",
            "broker/tests/",
            "broker/benches/",
            "client/src/",
            "client/tests/",
            "client/benches/",
            "client/examples/",
            "storage/tier/",
            "tests/",
            "benches/",
        ],
    },
    Part {
        name: "monoio",
        packages: &["flowstone"],
        places: &["broker/src/"],
    },
    Part {
        name: "quinn",
        // A bench has what quinn does by itself beside ours.
        packages: &["flowstone-peer", "flowstone-benches"],
        places: &["broker/peer/"],
    },
    Part {
        name: "rustls",
        // The tier's tests have a server that speaks TLS; a bench as above.
        packages: &["flowstone-peer", "flowstone-tier", "flowstone-benches"],
        places: &["broker/peer/", "storage/tier/tests/"],
    },
    Part {
        name: "rcgen",
        // The tier's tests have a server that speaks TLS.
        packages: &["flowstone-peer", "flowstone-tier"],
        places: &["broker/peer/", "storage/tier/tests/"],
    },
    Part {
        name: "redb",
        packages: &["flowstone-storage", "flowstone"],
        places: &["storage/src/", "broker/src/catalog"],
    },
];

struct Layer {
    package: &'static str,
    dir: &'static str,
    may_use: &'static [&'static str],
}

const fn layer(
    package: &'static str,
    dir: &'static str,
    may_use: &'static [&'static str],
) -> Layer {
    Layer {
        package,
        dir,
        may_use,
    }
}

struct Part {
    name: &'static str,
    packages: &'static [&'static str],
    places: &'static [&'static str],
}

/// Members of the workspace and rows of the table are the same.
pub(crate) fn members(manifests: &[Manifest]) -> Vec<String> {
    let has_row = |m: &Manifest| {
        LAYERS
            .iter()
            .any(|l| l.package == m.package && l.dir == m.dir)
    };
    let has_member = |l: &Layer| {
        manifests
            .iter()
            .any(|m| m.package == l.package && m.dir == l.dir)
    };
    let strangers = manifests.iter().filter(|m| !has_row(m)).map(|m| {
        format!(
            "{}: package `{}` is not in LAYERS: give it a row there",
            m.path(),
            m.package
        )
    });
    let gone = LAYERS.iter().filter(|l| !has_member(l)).map(|l| {
        format!(
            "Cargo.toml: `{}` in {} is no member: drop its row from LAYERS",
            l.package, l.dir
        )
    });
    strangers.chain(gone).collect()
}

/// A crate uses only what its row allows.
pub(crate) fn edges(manifest: &Manifest) -> Vec<String> {
    let row = LAYERS.iter().find(|l| l.package == manifest.package);
    let may_use = row.map_or(&[][..], |l| l.may_use);
    let mut found = Vec::new();
    for Dependency { name, dev, .. } in &manifest.dependencies {
        let ours = LAYERS.iter().any(|l| l.package == name);
        let advice = if SEEN_BY_NOBODY.contains(&name.as_str()) {
            "is seen by nobody: move what is needed into the crate it belongs to"
        } else if ours && !dev && !may_use.contains(&name.as_str()) {
            "is not below it: turn the dependency round, or put the meaning into flowstone-wire"
        } else {
            continue;
        };
        found.push(format!(
            "{}: `{}` uses `{name}`, which {advice}",
            manifest.path(),
            manifest.package
        ));
    }
    found
}

/// Versions and features are chosen once, in the root Cargo.toml.
pub(crate) fn workspace_dependencies(manifest: &Manifest) -> Vec<String> {
    let own = manifest.dependencies.iter().filter(|d| !d.from_workspace);
    own.map(|d| {
        format!(
            "{}: `{}` has its own version: name it in [workspace.dependencies] and write \
             `{}.workspace = true`",
            manifest.path(),
            d.name,
            d.name
        )
    })
    .collect()
}

/// Lints are chosen once, in the root Cargo.toml.
pub(crate) fn workspace_lints(manifest: &Manifest) -> Vec<String> {
    let advice = format!("{}: add `[lints]` with `workspace = true`", manifest.path());
    if manifest.workspace_lints {
        Vec::new()
    } else {
        vec![advice]
    }
}

/// One program: what is optional is chosen at run time.
pub(crate) fn cargo_features(manifest: &Manifest) -> Vec<String> {
    let advice = "drop [features] and `optional = true`: what is optional is chosen at run time";
    let finding = format!("{}: {advice}", manifest.path());
    if manifest.has_features {
        vec![finding]
    } else {
        Vec::new()
    }
}

/// Parts are dependencies only of the crates that may name them.
pub(crate) fn part_dependencies(manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    for part in PARTS
        .iter()
        .filter(|p| !p.packages.contains(&manifest.package.as_str()))
    {
        if manifest.dependencies.iter().any(|d| d.name == part.name) {
            let (path, name, packages) = (manifest.path(), part.name, part.packages);
            found.push(format!(
                "{path}: `{name}` belongs to {packages:?} only: go through them"
            ));
        }
    }
    found
}

/// Parts are named only in their places.
pub(crate) fn part_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for part in PARTS {
        if part
            .places
            .iter()
            .any(|place| source.path.starts_with(place))
        {
            continue;
        }
        for line in source::lines_with_word(&source.code, part.name) {
            let advice = format!(
                "`{}` is named only in {:?}: move this there",
                part.name, part.places
            );
            found.push(source.finding(line, &advice));
        }
    }
    found
}
