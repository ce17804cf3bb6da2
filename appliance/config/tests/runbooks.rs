//! What the runbooks tell somebody to write into the configuration is one, beside what the package lays
//! down.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the documents are the checkout's own")]

use std::{collections::BTreeMap, fs, path::Path};

use cloister_config::{Config, Role, User};
use cloister_domain::Coded as _;

/// The blocks of TOML in a document, each with its sections. Lines without one belong to `[peers]`, which
/// the package's file has already.
fn blocks(text: &str) -> Vec<String> {
    let fenced = text.split("```").skip(1).step_by(2);
    let blocks = fenced.filter_map(|block| block.strip_prefix("toml\n"));
    // What stands for a key is left open.
    let blocks = blocks.map(|block| block.replace('…', "0"));
    blocks
        .map(|block| if block.starts_with('[') { block } else { format!("[peers]\n{block}") })
        .collect()
}

/// The text of `packaging/units/cloister.toml` with each block's lines put into their sections.
fn with(blocks: &[String]) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packaged = fs::read_to_string(top.join("packaging/units/cloister.toml")).unwrap();
    let (mut order, mut sections) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    for text in std::iter::once(&packaged).chain(blocks) {
        let mut section = String::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                section = line.split('#').next().unwrap().trim().to_owned();
                continue;
            }
            let key = line.split('=').next().unwrap().trim().to_owned();
            let lines = sections.entry(section.clone()).or_default();
            lines.retain(|there| there.split('=').next().unwrap().trim() != key);
            lines.push(line.to_owned());
            if !order.contains(&section) {
                order.push(section.clone());
            }
        }
    }
    order.iter().map(|name| format!("{name}\n{}\n", sections[name].join("\n"))).collect()
}

#[test]
fn what_runbooks_say_of_the_configuration_is_one() {
    let runbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
    let set_up = fs::read_to_string(runbooks.join("set-up.md")).unwrap();
    let begun = blocks(&set_up);
    let config = Config::parse(&with(&begun)).unwrap();
    assert_eq!(config.record.origin, "hospital-north/appliance-1");
    assert_eq!(config.record.witnesses.len(), 1);
    let user = |name: &str| User::Name(name.to_owned());
    assert_eq!(config.peers.of(Role::Intaked), [user("ada")]);
    assert_eq!(config.peers.of(Role::Updaterd), [user("cloister-intaked")]);
    let approvers = ["ada", "bob", "carl"].map(user);
    assert_eq!(config.operators.of(Role::Updaterd), approvers);
    assert!(approvers.iter().all(|one| config.operators.of(Role::Recordd).contains(one)));
    // A second `[peers]` behind what is there, as nobody is to write it.
    let twice = with(&begun) + "[peers]\ngatewayd = [\"ada\"]\n";
    assert_eq!(Config::parse(&twice).unwrap_err().code(), "config.syntax");
    let mut seen = 0;
    for entry in fs::read_dir(runbooks).unwrap() {
        let path = entry.unwrap().path();
        let all = blocks(&fs::read_to_string(&path).unwrap());
        seen += all.len();
        let text = with(&[begun.as_slice(), all.as_slice()].concat());
        assert!(Config::parse(&text).is_ok(), "{}", path.display());
    }
    assert!(seen > begun.len(), "other runbooks have blocks too");
}
