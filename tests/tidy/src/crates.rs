//! Rules about the arrows between crates, from `cargo metadata`.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Finding;

/// The crates that may name a dependency, where that is a rule.
const OWNERS: [(&str, &[&str]); 13] = [
    // The crash tests read the updater's database without the updater's code.
    ("rusqlite", &["cloister-corpus-store", "cloister-crash", "cloister-state"]),
    ("tantivy", &["cloister-corpus-store"]),
    ("burn", &["cloister-model", "cloister-tune"]),
    ("burn-flex", &["cloister-model", "cloister-tune"]),
    ("burn-cuda", &["cloister-model", "cloister-tune"]),
    ("cudarc", &["cloister-model"]),
    ("axum", &["cloister-gatewayd"]),
    ("tokio", &["cloister-gatewayd"]),
    ("memmap2", &["cloister-weights"]),
    // It loads a token's driver into its process: for tools that a person starts, never for a daemon.
    ("cloister-signer", &["cloister-cli", "cloister-mint"]),
    ("cryptoki", &["cloister-signer"]),
    ("systemd", &["cloister-daemon", "cloister-stage"]),
    ("tracing-journald", &["cloister-daemon"]),
];

/// What a pure crate may name beside other pure crates: crates that compute and touch nothing.
const PURE_MAY_NAME: [&str; 18] = [
    "base64",
    "bytes",
    "curve25519-dalek",
    "ed25519-dalek",
    "half",
    "hashbrown",
    "ml-dsa",
    "serde",
    "serde_json",
    "sha2",
    "spdx",
    "subtle",
    "thiserror",
    "toml",
    "unicode-normalization",
    "zeroize",
    "ryu-js",
    "fastcdc",
];

/// A crate of the workspace: its tier and what it names outside tests.
struct Member {
    tier: String,
    names: Vec<String>,
}

fn members(root: &Path) -> Result<BTreeMap<String, Member>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("asking cargo for the workspace")?;
    anyhow::ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut members = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let tier = package["metadata"]["layer"]["tier"].as_str().unwrap_or("none").to_owned();
        let names = package["dependencies"]
            .as_array()
            .context("no dependencies")?
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        members.insert(name.to_owned(), Member { tier, names });
    }
    Ok(members)
}

/// Arrows point down: pure names pure; adapters name pure and adapters; nobody names a daemon but
/// tools and tests.
///
/// # Errors
/// When cargo cannot be asked.
pub fn layers(root: &Path) -> Result<Vec<Finding>> {
    let members = members(root)?;
    let mut findings = Vec::new();
    for (name, member) in &members {
        let allowed: &[&str] = match member.tier.as_str() {
            "pure" => &["pure"],
            "adapter" | "daemon" => &["pure", "adapter"],
            "tool" => &["pure", "adapter", "tool"],
            "test" => &["pure", "adapter", "tool", "daemon", "test"],
            other => {
                findings.push(format!(
                    "{name}: tier `{other}` is none of pure, adapter, daemon, tool, test"
                ));
                continue;
            }
        };
        for other in &member.names {
            let Some(target) = members.get(other) else { continue };
            if !allowed.contains(&target.tier.as_str()) {
                findings.push(format!(
                    "{name} ({}) names {other} ({}): turn the arrow round",
                    member.tier, target.tier
                ));
            }
        }
    }
    Ok(findings)
}

/// Pure crates name only what computes.
///
/// # Errors
/// When cargo cannot be asked.
pub fn pure_dependencies(root: &Path) -> Result<Vec<Finding>> {
    let members = members(root)?;
    let pure = members.iter().filter(|(_, member)| member.tier == "pure");
    Ok(pure
        .flat_map(|(name, member)| {
            let outside = member.names.iter().filter(|other| {
                !members.contains_key(*other) && !PURE_MAY_NAME.contains(&other.as_str())
            });
            outside.map(move |other| {
                format!("{name} is pure and names {other}: move the code to an adapter")
            })
        })
        .collect())
}

/// Some dependencies have one owner, so that one place must be changed when they change.
///
/// # Errors
/// When cargo cannot be asked.
pub fn owners(root: &Path) -> Result<Vec<Finding>> {
    let members = members(root)?;
    let mut findings = Vec::new();
    for (name, member) in &members {
        for other in &member.names {
            let rule = OWNERS.iter().find(|(owned, _)| owned == other);
            if let Some((_, owners)) = rule
                && !owners.contains(&name.as_str())
            {
                findings
                    .push(format!("{name} names {other}, which belongs to {}", owners.join(", ")));
            }
        }
    }
    Ok(findings)
}
