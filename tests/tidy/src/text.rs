//! Rules about the text of files.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Finding, Tree};

/// Most production lines of a Rust file.
const LINES_MAX: usize = 600;

/// Files that may contain the keyword that opens the compiler's guard rails.
const UNSAFE_FILES: [&str; 8] = [
    "appliance/daemon/src/births.rs",
    "appliance/daemon/src/idle.rs",
    "appliance/daemon/src/inherited.rs",
    "kernels/simd/src/",
    "services/model/src/device.rs",
    "services/model/src/cuda",
    "services/weights/src/file.rs",
    "kernels/conformance/src/",
];

/// Rust files stay short enough to be read in one sitting.
#[must_use]
pub fn lengths(tree: &Tree) -> Vec<Finding> {
    let long = tree.sources.iter().filter(|source| source.path.ends_with(".rs"));
    long.filter_map(|source| {
        let lines = source.production_lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines; split it by subject", source.path))
    })
    .collect()
}

/// No unfinished work, no skipped test, no history of how the tree was made.
#[must_use]
pub fn forbidden_words(tree: &Tree) -> Vec<Finding> {
    // Written in pieces, so that this file passes its own rule.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("#[ign", "ore"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("/home", "/"),
        concat!("/work", "/"),
    ];
    let mut findings = Vec::new();
    let checked = tree.sources.iter().filter(|source| {
        let path = source.path.as_str();
        let ours = [".rs", ".md", ".toml", ".sh", ".py", ".service", ".socket"];
        ours.iter().any(|ending| path.ends_with(ending)) || path == "x"
    });
    for source in checked.filter(|source| !source.path.starts_with("tests/tidy/")) {
        for (index, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                findings.push(format!(
                    "{}:{}: `{word}`: finish it or take it out",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    findings
}

/// The keyword stands in listed files only.
#[must_use]
pub fn unsafe_sites(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| source.path.ends_with(".rs")) {
        if UNSAFE_FILES.iter().any(|listed| source.path.starts_with(listed))
            || source.path.starts_with("tests/tidy/")
        {
            continue;
        }
        for (index, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe("];
            if words.iter().any(|word| code.contains(word)) {
                findings.push(format!(
                    "{}:{}: unsafe outside the listed files",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    findings
}

/// Every place that takes content out of `Sensitive` or a key out of `Secret` is listed, by file
/// and count, in `tests/tidy/expose.txt`.
#[must_use]
pub fn expose_sites(tree: &Tree, listed: &str) -> Vec<Finding> {
    let mut found = BTreeMap::new();
    for source in tree.sources.iter().filter(|source| source.is_production_rust()) {
        let count = source
            .production_lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(_, line)| line.matches(".expose()").count())
            .sum::<usize>();
        if count > 0 {
            found.insert(source.path.clone(), count);
        }
    }
    let mut expected = BTreeMap::new();
    for line in listed.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (count, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        expected.insert(path.to_owned(), count.parse().unwrap_or(0));
    }
    let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let number = |map: &BTreeMap<String, usize>, path: &String| map.get(path).copied().unwrap_or(0);
    paths
        .into_iter()
        .filter(|path| number(&found, path) != number(&expected, path))
        .map(|path| {
            format!(
                "{path}: {} uses of .expose(), listed {}: review them, then change tests/tidy/expose.txt",
                number(&found, path),
                number(&expected, path)
            )
        })
        .collect()
}

/// Each service unit keeps its daemon from the network, from core dumps and within its memory.
#[must_use]
pub fn unit_files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let units = tree.sources.iter().filter(|source| {
        source.path.starts_with("packaging/units/") && source.path.ends_with(".service")
    });
    let mut seen = 0;
    for unit in units {
        seen += 1;
        let has = |line: &str| unit.text.lines().any(|has| has.starts_with(line));
        // A network of its own brings mounts of its own, where nobody would see what it mounts: such
        // a unit may have no socket at all instead.
        let mounts = has("Type=oneshot");
        let no_network = if mounts { "RestrictAddressFamilies=none" } else { "PrivateNetwork=yes" };
        let wanted = [no_network, "LimitCORE=0", "MemoryMax=", "NoNewPrivileges=yes"];
        for line in wanted.into_iter().filter(|line| !has(line)) {
            findings.push(format!("{}: no `{line}`", unit.path));
        }
        // A program for one connection answers and ends; every other says when it is ready.
        if !mounts && !has("Type=notify") && !has("StandardInput=socket") {
            findings.push(format!("{}: no `Type=notify`", unit.path));
        }
    }
    if seen < 7 {
        findings
            .push(format!("packaging/units holds {seen} services; seven daemons need one each"));
    }
    findings
}
