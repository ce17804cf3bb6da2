//! Documents name verbs and flags that the commands have: whoever follows a runbook at night gets no
//! `cli.usage`.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the documents are the checkout's own")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};

/// The documents that tell somebody what to type.
fn documents() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![top.join("README.md"), top.join("docs/threat-model.md")];
    for folder in ["docs/runbooks", "docs/formats"] {
        found.extend(fs::read_dir(top.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    found
}

/// What stands in fences and between backticks, a command each, without comments.
fn typed(text: &str) -> Vec<String> {
    let (mut typed, mut fenced, mut begun) = (Vec::new(), false, String::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let line = line.split(" #").next().unwrap();
            if let Some(goes_on) = line.trim_end().strip_suffix('\\') {
                begun.push_str(goes_on);
                continue;
            }
            begun.push_str(line);
            typed.extend(begun.split("&&").flat_map(|part| part.split(';')).map(str::to_owned));
            begun.clear();
        } else {
            typed.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    typed
}

/// The line with each text in quotation marks as one word.
fn in_one_word_each(line: &str) -> String {
    let parts = line.split(['"', '\'']).enumerate();
    parts.map(|(number, part)| if number % 2 == 1 { "QUOTED" } else { part }).collect()
}

/// What is wrong with the words behind a command's name.
fn fault<'words>(command: &Command, words: impl Iterator<Item = &'words str>) -> Option<String> {
    let (mut at, mut values, mut places) = (command, 0, 0);
    let mut flags: Vec<_> = command.get_arguments().collect();
    for word in words.take_while(|word| !matches!(*word, "|" | ">" | "…")) {
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, at)| (name, Some(at)));
            let Some(known) = flags.iter().find(|known| known.get_long() == Some(name)) else {
                return Some(format!("`{}` has no flag --{name}", at.get_name()));
            };
            let takes = known.get_action().takes_values() && value.is_none();
            values = usize::from(takes);
        } else if values > 0 {
            values -= 1;
        } else if at.has_subcommands() && word.chars().all(|c| c.is_ascii_uppercase()) {
            // A place for a word; what follows it is nobody's.
            return None;
        } else if at.has_subcommands() {
            let Some(verb) = at.find_subcommand(word) else {
                return Some(format!("`{}` has no verb {word}", at.get_name()));
            };
            at = verb;
            flags.extend(verb.get_arguments());
        } else {
            places += 1;
            let taken = at.get_positionals().count();
            let many = at
                .get_positionals()
                .any(|place| place.get_num_args().is_some_and(|n| n.max_values() > 1));
            if places > taken && !many {
                return Some(format!(
                    "`{}` takes {taken} words, and {word} is one more",
                    at.get_name()
                ));
            }
        }
    }
    None
}

#[test]
fn documents_name_verbs_and_flags_that_the_commands_have() {
    let mut commands =
        [cloister_cli::Arguments::command(), cloister_mint::cli::Arguments::command()];
    commands.iter_mut().for_each(Command::build);
    let (mut seen, mut faults) = ([0, 0], Vec::new());
    for path in documents() {
        for line in typed(&fs::read_to_string(&path).unwrap()) {
            let line = in_one_word_each(&line);
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let names = ["cloister", "cloister-mint"];
            let Some(which) = names.iter().position(|known| *known == name) else { continue };
            seen[which] += 1;
            let fault = fault(&commands[which], words);
            faults.extend(fault.map(|fault| format!("{}: {line}: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    assert!(seen[0] > 80 && seen[1] > 30, "the documents are not read: {seen:?}");
}
