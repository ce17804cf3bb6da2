//! How a command fails: one sentence, a stable code, and an exit code that a script can use.

use std::{io::Write, process::ExitCode};

use cloister_domain::{Class, Coded, usage_line};
use cloister_wire::Problem;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    problem: Problem,
    exit: u8,
}

impl Failure {
    /// The line was not understood.
    pub(crate) fn usage(message: &str) -> Self {
        Self { problem: Problem::new(Class::Refused, "cli.usage", message), exit: 2 }
    }

    /// The words of the line are none of this command's.
    #[must_use]
    pub fn line(error: &clap::Error) -> Self {
        Self::usage(&usage_line(&error.to_string()))
    }

    /// The output could not be written.
    pub(crate) fn output() -> Self {
        Self {
            problem: Problem::new(Class::Fault, "cli.output", "the output could not be written"),
            exit: 1,
        }
    }

    /// A typed error of a library.
    pub(crate) fn of(error: &(impl Coded + ?Sized)) -> Self {
        Self::from(Problem::of(error))
    }

    /// A daemon ended the conversation too early or said something unexpected.
    pub(crate) fn conversation(daemon: &str) -> Self {
        let message = format!("{daemon} did not answer as expected; see its journal");
        Self::from(Problem::new(Class::Fault, "cli.conversation", message))
    }

    /// A check of records found a fault.
    pub(crate) fn verification(message: impl Into<String>) -> Self {
        Self { problem: Problem::new(Class::Corrupt, "record.verification", message), exit: 5 }
    }

    /// Prints the failure: as JSON to `stdout`, or as a sentence to `stderr`.
    pub fn show(&self, json: bool, stdout: &mut dyn Write, stderr: &mut dyn Write) {
        let written = if json {
            let body = serde_json::json!({ "problem": self.problem });
            writeln!(stdout, "{body}")
        } else {
            writeln!(stderr, "cloister: {} [{}]", self.problem.message, self.problem.code)
        };
        // Nobody is left to be told when the terminal itself is gone.
        written.unwrap_or_default();
    }

    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.class {
            Class::Refused if problem.code.starts_with("approval.") => 4,
            Class::Refused => 7,
            Class::Corrupt => 5,
            Class::Busy | Class::Fault => 1,
        };
        Self { problem, exit }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_told_in_one() {
        for words in [&["cloister"][..], &["cloister", "frob\n"], &["cloister", "discard", "x"]] {
            let error = crate::Arguments::try_parse_from(words).expect_err("not understood");
            let failure = Failure::line(&error);
            assert_eq!((failure.exit, failure.problem.code.as_str()), (2, "cli.usage"));
            let mut told = Vec::new();
            failure.show(false, &mut Vec::new(), &mut told);
            let told = String::from_utf8(told).expect("UTF-8");
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.ends_with("; see --help [cli.usage]\n"), "{told}");
        }
    }
}
