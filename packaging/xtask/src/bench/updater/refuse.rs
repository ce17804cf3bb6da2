//! What a volume costs that is refused: one bit of 1 GiB is wrong, or the signer is nobody.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::facility::Facility;

use super::{
    super::{Figure, NoPeer, RUNS, tell},
    CPU, Room, each,
    peers::LOOKERS,
    usage::Meter,
};

/// One damage: the member that it falls into, or nothing where the volume is another signer's.
struct Case {
    member: Option<&'static str>,
    cpu: &'static str,
    read: &'static str,
}

const CASES: [Case; 4] = [
    Case { member: Some("clb/10-meta"), cpu: "refuse.metadata.cpu", read: "refuse.metadata.read" },
    Case {
        member: Some("clb/20-manifest"),
        cpu: "refuse.manifest.cpu",
        read: "refuse.manifest.read",
    },
    Case { member: Some("clb/40-index"), cpu: "refuse.index.cpu", read: "refuse.index.read" },
    Case { member: None, cpu: "refuse.unsigned.cpu", read: "refuse.unsigned.read" },
];

pub(super) fn measure(
    room: &mut Room<'_>,
    tree: &Path,
    volume: &Path,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    room.fresh()?;
    let facility = &room.facility;
    let members = members(volume)?;
    let mut figures = Vec::new();
    let strangers = facility.sign("stranger", tree, "9.0.0", 9)?;
    for case in &CASES {
        let (mut cpu, mut read) = (Vec::new(), Vec::new());
        for _run in 0..RUNS {
            let refusal = match case.member {
                None => refused(facility, &strangers)?,
                Some(name) => {
                    let member = members.iter().find(|member| member.name == name);
                    let member = member.context("no such member")?;
                    with_a_wrong_bit(volume, member.from + member.bytes / 2, || {
                        refused(facility, volume)
                    })?
                }
            };
            writeln!(log, "{}: {}", case.cpu, refusal.code)?;
            cpu.push(refusal.cpu_s);
            read.push(mib(refusal.read_bytes));
        }
        tell(log, case.cpu, &cpu)?;
        tell(log, case.read, &read)?;
        figures.push(Figure::new(case.cpu, "s", &cpu).must(0.05).aim(0.02));
        figures.push(Figure::new(case.read, "MiB", &read).must(5.0).aim(1.0));
        if case.member == Some("clb/20-manifest") {
            beside_lookers(
                room.scratch,
                tree,
                &Figure::new(case.cpu, "s", &cpu),
                &mut figures,
                log,
            )?;
        }
    }
    fs::remove_file(strangers)?;
    figures.extend(a_bad_chunk(facility, tree, volume, &members, log)?);
    Ok(figures)
}

fn beside_lookers(
    scratch: &Path,
    tree: &Path,
    ours: &Figure,
    figures: &mut Vec<Figure>,
    log: &mut dyn Write,
) -> Result<()> {
    let folder = scratch.join("peer");
    for peer in &LOOKERS {
        let ready = match peer.prepare(&folder, &tree.join("provenance/weights.gguf"), false) {
            Err(error) if error.is::<NoPeer>() => {
                figures.push(ours.clone().without(peer.name));
                continue;
            }
            ready => ready?,
        };
        let runs = (0..RUNS).map(|_run| ready.look()).collect::<Result<Vec<_>>>()?;
        fs::remove_dir_all(&folder)?;
        tell(log, &format!("refuse.manifest.cpu {}", peer.name), &each(&runs, CPU))?;
        figures.push(ours.clone().beside(peer.name, &each(&runs, CPU)));
    }
    Ok(())
}

/// The chunk in the middle of the weights: what is read behind it, and what is written that no chunk
/// before it holds.
fn a_bad_chunk(
    facility: &Facility,
    tree: &Path,
    volume: &Path,
    members: &[Member],
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    let bad = members.len() / 2;
    let (member, last) = (&members[bad], members.last().context("no member")?);
    ensure!(member.name.starts_with("c/"), "half of the members are chunks");
    // The weights come last and lie raw, so that the plain bytes from here on are those stored.
    let from_here: u64 = members[bad..].iter().map(|member| member.bytes).sum();
    let before = bytes_below(tree)?.checked_sub(from_here).context("weights that are packed")?;
    let (mut behind, mut written) = (Vec::new(), Vec::new());
    for _run in 0..RUNS {
        let refusal_at = |member: &Member| {
            let wrong = member.from + member.bytes / 2;
            with_a_wrong_bit(volume, wrong, || refused(facility, volume))
        };
        // Behind the last chunk lies nothing: what is read beside the volume then is the index, which
        // intaked reads from a file of its own.
        let beside = refusal_at(last)?.read_bytes.saturating_sub(last.from + last.bytes);
        let refusal = refusal_at(member)?;
        writeln!(log, "refuse.chunk: {}, {beside} bytes read beside the volume", refusal.code)?;
        let end = member.from + member.bytes;
        behind.push(mib(refusal.read_bytes.saturating_sub(end + beside)));
        written.push(mib(refusal.written_bytes.saturating_sub(before)));
    }
    tell(log, "refuse.chunk.behind", &behind)?;
    tell(log, "refuse.chunk.written", &written)?;
    Ok(vec![
        Figure::new("refuse.chunk.behind", "MiB", &behind).must(0.1).aim(0.1),
        Figure::new("refuse.chunk.written", "MiB", &written).must(0.1).aim(0.1),
    ])
}

/// What a refusal took.
struct Refusal {
    code: String,
    cpu_s: f64,
    read_bytes: u64,
    written_bytes: u64,
}

fn refused(facility: &Facility, volume: &Path) -> Result<Refusal> {
    let meter = Meter::of(&facility.stage)?;
    let before = (meter.read_bytes()?, meter.written_bytes()?);
    let (used, outcome) = meter.measure(|| facility.import(volume))?;
    ensure!(outcome.exit != 0, "a damaged volume was taken");
    Ok(Refusal {
        code: outcome.code().to_owned(),
        cpu_s: used.usage.cpu_s,
        read_bytes: meter.read_bytes()? - before.0,
        written_bytes: meter.written_bytes()? - before.1,
    })
}

/// Does `act` while one bit of `volume` is wrong.
fn with_a_wrong_bit<T>(volume: &Path, place: u64, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = OpenOptions::new().read(true).write(true).open(volume)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 1], place)?;
    let done = act();
    file.write_all_at(&byte, place)?;
    done
}

/// Where a member's content lies in a volume.
struct Member {
    name: String,
    from: u64,
    bytes: u64,
}

fn members(volume: &Path) -> Result<Vec<Member>> {
    let mut archive = tar::Archive::new(File::open(volume)?);
    let mut members = Vec::new();
    for entry in archive.entries_with_seek()?.raw(true) {
        let entry = entry?;
        let name = String::from_utf8(entry.path_bytes().into_owned())?;
        members.push(Member { name, from: entry.raw_file_position(), bytes: entry.size() });
    }
    Ok(members)
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "a figure with three decimals")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
