//! `./x volume OUT` and `./x hostile DIR`: a small valid volume for others to damage, and what the
//! real daemons make of what they did to it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    judge::{Judge, Judgement, Verdict},
    release::read_file,
    sample,
};
use nix::sys::statvfs::statvfs;

/// Room in memory that is asked for beside the volumes': the books of some appliances.
const IN_MEMORY_BYTES: u64 = 512 << 20;

/// What sample is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// The folder for the volumes and the trust root, 1.root.json.
    out: PathBuf,
    /// Everything follows from it, the keys included.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Volumes that the release is spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=999))]
    volumes: u32,
    /// Documents only, no model: the smallest volume.
    #[arg(long)]
    documents: bool,
}

/// What is judged, and under which root.
#[derive(Debug, clap::Args)]
#[command(after_help = "One line a file, fields between tabs:
  file      its path below DIR; control characters and backslashes are escaped
  verdict   accepted: it is a candidate on the shelf (before any evaluation); refused; crashed: a daemon
            died of it or never answered
  code      the problem's code (docs/reference/errors.md); - where it was accepted
  ms        from the request to the last answer
  MiB       the peaks (VmHWM) of recordd, updaterd and intaked together, set back before each file, and
            on top those of the inspecting processes and the scanner's: the largest sum of those that
            ran at a time. They are looked at each millisecond, while they run
  outside   bytes of files that are new, changed or gone outside state/quarantine, in the appliance's
            folder and the folder around it, but for the appliance's own books: state/record/,
            state/supply.db, -wal and -shm, log/ and run/. What an accepted release puts on the
            shelf counts here
  books     bytes by which these books grew
  left      bytes left in quarantine
  records   records that it left in the log

Each file is offered alone, by its path, as an operator names one volume of a mounted stick. A volume
of a set that is offered alone is refused with intake.volume.more and keeps its place in quarantine.
A file that leaves more behind than one refusal (newer metadata, an import) costs the next one nothing:
that one meets a fresh appliance. The exit code is 0 when every file was judged, whatever the verdicts.")]
pub(crate) struct Case {
    /// The folder; files below it are judged in the order of their paths.
    dir: PathBuf,
    /// The trust root to enrol; without one, that of `./x volume` with seed 1.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Offer each folder that holds *.clb files, DIR included, as one medium, instead of files.
    #[arg(long)]
    sets: bool,
    /// Where the appliances are made; by default in memory where there is room, else in /tmp.
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// Writes the sample and names what was written.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn volume(wish: &Wish, out: &mut dyn Write) -> Result<()> {
    let of =
        sample::Wish { seed: wish.seed, volumes: wish.volumes, model: !wish.documents, ballast: 0 };
    let sample = sample::write(&wish.out, &of)?;
    for volume in &sample.volumes {
        writeln!(out, "volume  {}", volume.display())?;
    }
    writeln!(out, "root    {}", sample.root.display())?;
    Ok(())
}

/// Judges every file.
///
/// # Errors
/// When the folder cannot be listed or no appliance can be had.
pub(crate) fn judge(case: &Case, out: &mut dyn Write) -> Result<()> {
    let dir = case.dir.canonicalize().with_context(|| format!("no {}", case.dir.display()))?;
    let offers = if case.sets { media_below(&dir)? } else { files_below(&dir)? };
    let scratch = scratch(case.scratch.as_deref(), &offers)?;
    let root = match &case.root {
        Some(root) => read_file(root).with_context(|| format!("no {}", root.display()))?,
        None => {
            let wish = sample::Wish { seed: 1, volumes: 1, model: false, ballast: 0 };
            read_file(&sample::write(&scratch.path().join("sample"), &wish)?.root)?
        }
    };
    let mut judge = Judge::new(scratch.path(), root)?;
    writeln!(out, "file\tverdict\tcode\tms\tMiB\toutside\tbooks\tleft\trecords")?;
    let mut total = Total::default();
    for path in offers {
        let judged = judge.offer(&path)?;
        let name = path.strip_prefix(&dir).unwrap_or(&path).to_string_lossy().into_owned();
        let name = if name.is_empty() { ".".to_owned() } else { shown(&name) };
        line(out, &name, &judged)?;
        out.flush()?;
        total.add(&judged);
    }
    total.tell(out)
}

/// A folder for the appliances. The path of a Unix socket has 107 bytes at most, so it is short.
fn scratch(asked: Option<&Path>, offers: &[PathBuf]) -> Result<tempfile::TempDir> {
    let sizes = offers.iter().filter_map(|path| Some(fs::symlink_metadata(path).ok()?.len()));
    // Quarantine, the shelf, and as much again for what is packed well.
    let room = sizes.max().unwrap_or_default().saturating_mul(4).saturating_add(IN_MEMORY_BYTES);
    let memory = Path::new("/dev/shm");
    let fits = statvfs(memory)
        .is_ok_and(|about| about.blocks_available().saturating_mul(about.fragment_size()) >= room);
    let folder = asked.unwrap_or(if fits { memory } else { Path::new("/tmp") });
    let made = tempfile::Builder::new().prefix("cl-").tempdir_in(folder);
    made.with_context(|| format!("no scratch folder in {}", folder.display()))
}

fn line(out: &mut dyn Write, name: &str, judged: &Judgement) -> Result<()> {
    writeln!(
        out,
        "{name}\t{}\t{}\t{:.1}\t{:.1}\t{}\t{}\t{}\t{}",
        judged.verdict.word(),
        if judged.code.is_empty() { "-" } else { &judged.code },
        judged.took.as_secs_f64() * 1e3,
        mib(judged.peak_bytes()),
        judged.outside_bytes,
        judged.books_bytes,
        judged.left_bytes,
        judged.records,
    )?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Sums and peaks over all files.
#[derive(Debug, Default)]
struct Total {
    verdicts: [u64; 3],
    slowest_ms: f64,
    peak_bytes: u64,
    outside_bytes: u64,
    left_bytes: u64,
}

impl Total {
    fn add(&mut self, judged: &Judgement) {
        let place = match judged.verdict {
            Verdict::Accepted => 0,
            Verdict::Refused => 1,
            Verdict::Crashed => 2,
        };
        self.verdicts[place] += 1;
        self.slowest_ms = self.slowest_ms.max(judged.took.as_secs_f64() * 1e3);
        self.peak_bytes = self.peak_bytes.max(judged.peak_bytes());
        if judged.verdict != Verdict::Accepted {
            self.outside_bytes += judged.outside_bytes;
            self.left_bytes += judged.left_bytes;
        }
    }

    fn tell(&self, out: &mut dyn Write) -> Result<()> {
        let [accepted, refused, crashed] = self.verdicts;
        writeln!(
            out,
            "{} judged: {accepted} accepted, {refused} refused, {crashed} crashed; slowest {:.1} ms, \
             peak {:.1} MiB; of those not accepted {} bytes outside quarantine, {} bytes left in it",
            accepted + refused + crashed,
            self.slowest_ms,
            mib(self.peak_bytes),
            self.outside_bytes,
            self.left_bytes,
        )?;
        Ok(())
    }
}

/// A name on one line, without what could be mistaken for a field or a command to a terminal.
fn shown(name: &str) -> String {
    name.chars()
        .flat_map(|letter| {
            let plain = !letter.is_control() && letter != '\\' && letter != '\u{fffd}';
            let escaped = (!plain).then(|| letter.escape_default());
            plain.then_some(letter).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// Everything below `folder` that is no folder, by path.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = waiting.pop() {
        let listing = fs::read_dir(&at).with_context(|| format!("cannot list {}", at.display()))?;
        for entry in listing {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut waiting } else { &mut found };
            list.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The folders that hold volumes.
fn media_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let volumes = files_below(folder)?;
    let volumes = volumes.iter().filter(|path| path.extension().is_some_and(|end| end == "clb"));
    let mut media: Vec<PathBuf> =
        volumes.filter_map(|path| Some(path.parent()?.to_owned())).collect();
    media.sort();
    media.dedup();
    ensure!(!media.is_empty(), "no folder below {} holds a *.clb file", folder.display());
    Ok(media)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Arguments, Verb};

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(shown("a b\té.clb"), "a b\\té.clb");
        assert_eq!(shown("a\nb\u{1b}[0m\\"), "a\\nb\\u{1b}[0m\\\\");
    }

    /// How many volumes the words of `./x volume` ask for; `None` if they are not taken.
    fn volumes(words: &[&str]) -> Option<u32> {
        let words = ["x", "volume", "out"].iter().chain(words);
        match Arguments::try_parse_from(words).ok()?.verb {
            Verb::Volume(wish) => Some(wish.volumes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sample_has_one_volume_to_999() {
        assert_eq!(volumes(&[]), Some(1));
        for (asked, wanted) in [
            ("1", Some(1)),
            ("999", Some(999)),
            ("0", None),
            ("1000", None),
            ("-1", None),
            ("4294967297", None),
            ("two", None),
            ("", None),
        ] {
            assert_eq!(volumes(&[&format!("--volumes={asked}")]), wanted, "{asked}");
        }
    }

    #[test]
    fn files_are_judged_alone_and_sets_as_the_folders_that_they_lie_in() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b/1.clb", "b/2.clb", "a/deep/x.clb", "a/note.txt", "c/note.txt", "top.clb"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("made");
            fs::write(path, name).expect("written");
        }
        let below = |paths: Vec<PathBuf>| -> Vec<String> {
            let strip = |path: &PathBuf| path.strip_prefix(folder.path()).map(Path::to_owned);
            let names = paths.iter().map(|path| strip(path).expect("below"));
            names.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(below(media_below(folder.path()).expect("media")), ["", "a/deep", "b"]);
        let files = below(files_below(folder.path()).expect("files"));
        assert_eq!(
            files,
            ["a/deep/x.clb", "a/note.txt", "b/1.clb", "b/2.clb", "c/note.txt", "top.clb"]
        );
        media_below(&folder.path().join("c")).expect_err("no volume, no medium");
    }
}
