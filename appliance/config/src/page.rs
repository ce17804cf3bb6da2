//! The reference page, made from the definitions that the reader uses.

use std::fmt::Write as _;

use crate::section::SECTIONS;

/// The text of `docs/reference/config.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(INTRODUCTION);
    for section in SECTIONS {
        let about = sentence(section.about);
        write!(page, "\n## [{}]\n\n{about}\n\n", section.name).expect(STRING);
        page.push_str("| key | takes | default | what and why |\n|---|---|---|---|\n");
        for key in section.keys {
            let (wanted, about) = ((key.wanted)(), sentence(key.about));
            writeln!(page, "| `{}` | {wanted} | `{}` | {about} |", key.name, key.default)
                .expect(STRING);
        }
    }
    page
}

const STRING: &str = "writing to a string cannot fail";

const INTRODUCTION: &str = "\
# Configuration

One TOML file, `/etc/cloister/cloister.toml` unless a daemon is started with `--config PATH`. Every
key may be left out; an unknown section or key is refused, with the nearest known name. Changes take
effect when a daemon is started again.

This page is made from the definitions in `appliance/config`; a test keeps it equal to them. After
changing a definition, write it anew with
`UPDATE_REFERENCE=1 cargo test -p cloister-config --test reference`.
";

fn sentence(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
