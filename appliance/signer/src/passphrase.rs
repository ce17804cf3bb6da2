//! Where passphrases and PINs come from: a terminal that does not show them, or a file's lines.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write as _},
    os::fd::AsFd as _,
    path::Path,
};

use cloister_domain::Secret;
use nix::sys::termios::{self, LocalFlags, SetArg};
use zeroize::{Zeroize as _, Zeroizing};

use crate::SignerError;

/// The longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 1024;
/// The largest file of passphrases, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Whoever is asked.
#[derive(Debug)]
pub enum Passphrases {
    /// The person at the terminal.
    Terminal,
    /// The lines of a file, one for each key that asks, in the order in which they ask. `/dev/fd/N`
    /// is a file too: a script hands the lines through a pipe and nothing is ever on a disk.
    Lines(Vec<Secret>),
    /// Nobody: a key that needs a passphrase is refused.
    Nobody,
}

impl Passphrases {
    /// The lines of `file` if one is given, else the terminal.
    ///
    /// # Errors
    /// [`SignerError::File`], [`SignerError::TooLong`].
    pub fn from_file_or_terminal(file: Option<&Path>) -> Result<Self, SignerError> {
        file.map_or(Ok(Self::Terminal), Self::lines)
    }

    fn lines(path: &Path) -> Result<Self, SignerError> {
        let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX + 1]);
        let mut file = File::open(path).map_err(SignerError::File)?;
        let mut count = 0;
        // Into memory that is there already: a vector that grows leaves copies behind.
        while let Some(room) = bytes.get_mut(count..).filter(|room| !room.is_empty()) {
            match file.read(room) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SignerError::File(error)),
            }
        }
        if count > FILE_BYTES_MAX {
            return Err(SignerError::TooLong { max: FILE_BYTES_MAX as u64 });
        }
        let text = bytes.get(..count).unwrap_or_default();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // Backwards, so that taking the next one is a pop.
        let lines = text.rsplit(|byte| *byte == b'\n').map(|line| Secret::new(line.to_vec()));
        Ok(Self::Lines(lines.collect()))
    }

    /// The passphrase or PIN of what `what` names.
    ///
    /// # Errors
    /// [`SignerError::NobodyToAsk`], [`SignerError::BrokenOff`], [`SignerError::File`].
    pub(crate) fn ask(&mut self, what: &str) -> Result<Secret, SignerError> {
        match self {
            Self::Terminal => {
                let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
                prompt(&mut opened.map_err(|_none| SignerError::NobodyToAsk)?, what)
            }
            Self::Lines(lines) => lines.pop().ok_or(SignerError::NobodyToAsk),
            Self::Nobody => Err(SignerError::NobodyToAsk),
        }
    }

    /// A new passphrase: a person types it twice, a file says it once.
    ///
    /// # Errors
    /// As [`Passphrases::ask`], and [`SignerError::PassphraseTwice`].
    pub(crate) fn ask_new(&mut self, what: &str) -> Result<Secret, SignerError> {
        let first = self.ask(&format!("New passphrase for {what}"))?;
        if matches!(self, Self::Terminal) && self.ask("The same again")? != first {
            return Err(SignerError::PassphraseTwice);
        }
        Ok(first)
    }
}

/// A terminal that shows nothing of what is typed, until dropped.
struct Hidden<'a> {
    terminal: &'a mut File,
    before: termios::Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a mut File) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal.as_fd())?;
        let mut hidden = before.clone();
        // Signals off too: a process that dies here would leave a terminal that shows nothing.
        hidden
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        termios::tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &self.before)
            .unwrap_or_default();
    }
}

fn prompt(terminal: &mut File, what: &str) -> Result<Secret, SignerError> {
    // Hidden first: what a script or a quick hand types on seeing the prompt is neither shown nor
    // thrown away.
    let hidden = Hidden::new(terminal).map_err(SignerError::File)?;
    write!(hidden.terminal, "{what}: ").map_err(SignerError::File)?;
    let typed = typed(hidden.terminal);
    drop(hidden);
    writeln!(terminal).map_err(SignerError::File)?;
    typed
}

fn typed(terminal: &mut File) -> Result<Secret, SignerError> {
    const BREAK: u8 = 3;
    const END: u8 = 4;
    const KILL_LINE: u8 = 21;
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX));
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte) {
            Ok(0) => return Err(SignerError::BrokenOff),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SignerError::File(error)),
        }
        match byte[0] {
            b'\n' | b'\r' => return Ok(Secret::new(line.to_vec())),
            BREAK | END => return Err(SignerError::BrokenOff),
            KILL_LINE => line.zeroize(),
            8 | 127 => {
                // The last character, however many bytes it has in UTF-8.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            other if line.len() < PASSPHRASE_BYTES_MAX => line.push(other),
            _ => return Err(SignerError::TooLong { max: PASSPHRASE_BYTES_MAX as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;

    use super::*;

    #[test]
    fn the_terminal_shows_nothing_of_what_is_typed() {
        let pty = openpty(None, None).expect("a terminal");
        let (mut person, mut terminal) = (File::from(pty.master), File::from(pty.slave));
        let typing = std::thread::spawn(move || {
            let mut shown = [0; 5];
            person.read_exact(&mut shown).expect("the prompt");
            assert_eq!(&shown, b"PIN: ");
            person.write_all("wrong\x15se\u{e4}\x7fcret!\x7f\n".as_bytes()).expect("typed");
            let mut after = [0; 2];
            person.read_exact(&mut after).expect("what follows");
            (person, after)
        });
        let secret = prompt(&mut terminal, "PIN").expect("a line");
        let (_person, after) = typing.join().expect("typed");
        assert_eq!(secret.expose(), b"secret");
        assert_eq!(&after, b"\r\n");
        let flags = termios::tcgetattr(terminal.as_fd()).expect("flags").local_flags;
        assert!(flags.contains(LocalFlags::ECHO | LocalFlags::ISIG));
    }

    /// What a prompt comes to when a person types `keys`.
    fn typed_at_a_prompt(keys: Vec<u8>) -> Result<Secret, SignerError> {
        let pty = openpty(None, None).expect("a terminal");
        let (mut person, mut terminal) = (File::from(pty.master), File::from(pty.slave));
        let typing = std::thread::spawn(move || {
            let mut shown = [0; 5];
            person.read_exact(&mut shown).expect("the prompt");
            // A terminal takes no more than its buffer at a time; nobody reads what is beyond the end.
            keys.chunks(512).for_each(|some| person.write_all(some).unwrap_or_default());
            person
        });
        let secret = prompt(&mut terminal, "PIN");
        typing.join().expect("typed");
        secret
    }

    #[test]
    fn a_person_can_break_off_and_cannot_type_for_ever() {
        for broken in [b"sec\x03ret\n", b"sec\x04ret\n"] {
            let typed = typed_at_a_prompt(broken.to_vec());
            assert!(matches!(typed, Err(SignerError::BrokenOff)));
        }
        let longest = [&[b'a'; PASSPHRASE_BYTES_MAX][..], b"\n"].concat();
        let typed = typed_at_a_prompt(longest).expect("the longest");
        assert_eq!(typed.expose().len(), PASSPHRASE_BYTES_MAX);
        let longer = [&[b'a'; PASSPHRASE_BYTES_MAX + 1][..], b"\n"].concat();
        assert!(matches!(typed_at_a_prompt(longer), Err(SignerError::TooLong { .. })));
    }

    /// What the process of [`at_a_terminal`] ends its last line with.
    const DONE: &str = "done\r\n";

    /// Not a test of its own: a process with a terminal, which `script` gives it.
    #[test]
    fn person_at_a_terminal() {
        if std::env::var_os("CLOISTER_SIGNER_TERMINAL").is_some() {
            let said = match Passphrases::Terminal.ask_new("a key") {
                Ok(secret) => String::from_utf8_lossy(secret.expose()).into_owned(),
                Err(error) => cloister_domain::Coded::code(&error).to_owned(),
            };
            writeln!(io::stderr(), "{said} done").expect("a terminal");
        }
    }

    /// All that a person sees who types one of `lines` at each prompt for a new passphrase.
    fn at_a_terminal(lines: [&str; 2]) -> String {
        let test = std::env::current_exe().expect("this test");
        let test = format!(
            "{} --exact passphrase::tests::person_at_a_terminal --nocapture",
            test.display()
        );
        let mut script = std::process::Command::new("script")
            .args(["-qec", &test, "/dev/null"])
            .env("CLOISTER_SIGNER_TERMINAL", "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("script, which every Debian has");
        let mut keys = script.stdin.take().expect("a pipe");
        let mut screen = script.stdout.take().expect("a pipe");
        let mut shown = String::new();
        let mut until = |end: &str| {
            let mut byte = [0];
            while !shown.ends_with(end) && screen.read(&mut byte).expect("a screen") == 1 {
                shown.push(char::from(byte[0]));
            }
            assert!(shown.ends_with(end), "{shown}");
        };
        for (prompt, line) in ["New passphrase for a key: ", "The same again: "].iter().zip(lines) {
            until(prompt);
            writeln!(keys, "{line}").expect("typed");
        }
        until(DONE);
        drop(keys);
        script.wait().expect("ended");
        shown
    }

    #[test]
    fn a_new_passphrase_is_typed_twice() {
        let different = at_a_terminal(["five words", "four words"]);
        assert!(different.ends_with("signer.passphrase.twice done\r\n"), "{different}");
        let same = at_a_terminal(["five words", "five words"]);
        assert!(same.ends_with("five words done\r\n"), "{same}");
        assert_eq!(same.matches("five words").count(), 1, "only the test says it: {same}");
    }

    #[test]
    fn a_file_of_lines_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, vec![b'a'; FILE_BYTES_MAX]).expect("written");
        assert!(Passphrases::from_file_or_terminal(Some(&path)).is_ok());
        std::fs::write(&path, vec![b'a'; FILE_BYTES_MAX + 1]).expect("written");
        let refused = Passphrases::from_file_or_terminal(Some(&path));
        assert!(matches!(refused, Err(SignerError::TooLong { .. })));
    }

    #[test]
    fn each_key_takes_the_next_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines");
        std::fs::write(&path, "one\ntwo words\n").expect("written");
        let mut lines = Passphrases::from_file_or_terminal(Some(&path)).expect("lines");
        assert_eq!(lines.ask("a").expect("a line").expose(), b"one");
        assert_eq!(lines.ask_new("b").expect("a line").expose(), b"two words");
        assert!(matches!(lines.ask("c"), Err(SignerError::NobodyToAsk)));
        assert!(matches!(Passphrases::Nobody.ask("d"), Err(SignerError::NobodyToAsk)));
    }
}
