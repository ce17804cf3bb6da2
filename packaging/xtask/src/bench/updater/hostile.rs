//! Archives that are made to hurt: the worst that one of them costs. `./x hostile` judges any others
//! in the same way, and the tests hold every class of them against the daemons.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use cloister_bundle::container::{self, Member};
use cloister_stage::{
    judge::{Judge, Verdict},
    release::read_file,
    sample, tamper,
};
use tar::{EntryType, Header};

use super::super::{Figure, RUNS, tell};

pub(super) fn measure(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let wish = sample::Wish { seed: 1, volumes: 1, model: true, ballast: 0 };
    let sample = sample::write(&scratch.join("sample"), &wish)?;
    let [volume] = sample.volumes.as_slice() else { unreachable!("one volume") };
    let archives = archives(&scratch.join("archives"), volume)?;
    let mut judge = Judge::new(&scratch.join("judge"), read_file(&sample.root)?)?;
    let (mut slowest, mut largest, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for _run in 0..RUNS {
        let (mut wall_s, mut peak_bytes, mut outside_bytes) = (0.0f64, 0, 0);
        for archive in &archives {
            let judged = judge.offer(archive)?;
            let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
            ensure!(judged.verdict == Verdict::Refused, "{name} is {}", judged.verdict.word());
            writeln!(
                log,
                "{name}: {} after {:.1} ms, {} KiB",
                judged.code,
                judged.took.as_secs_f64() * 1e3,
                judged.peak_bytes() >> 10
            )?;
            wall_s = wall_s.max(judged.took.as_secs_f64());
            peak_bytes = judged.peak_bytes().max(peak_bytes);
            outside_bytes += judged.outside_bytes;
        }
        slowest.push(wall_s);
        largest.push(f64::from(u32::try_from(peak_bytes >> 10)?) / 1024.0);
        outside.push(f64::from(u32::try_from(outside_bytes)?));
    }
    for (name, runs) in
        [("hostile.wall", &slowest), ("hostile.memory", &largest), ("hostile.outside", &outside)]
    {
        tell(log, name, runs)?;
    }
    Ok(vec![
        Figure::new("hostile.wall", "s", &slowest).must(1.0),
        Figure::new("hostile.memory", "MiB", &largest).must(48.0),
        Figure::new("hostile.outside", "B", &outside).must(0.0),
    ])
}

/// Headers that promise 2 GiB of a name or of attributes, members that promise more than they may,
/// trust metadata as wide as it may be, links, nothing but zeros, a valid volume cut off or followed by
/// something.
fn archives(folder: &Path, valid: &Path) -> Result<Vec<PathBuf>> {
    const HUGE: u64 = 2 << 30;
    fs::create_dir_all(folder)?;
    let bytes = read_file(valid)?;
    let mut made = Vec::new();
    let mut put = |name: &str, parts: &[&[u8]], length: u64| -> Result<()> {
        let path = folder.join(name);
        let mut file = File::create(&path)?;
        for part in parts {
            file.write_all(part)?;
        }
        // Zeros that take no room.
        file.set_len(length.max(file.metadata()?.len()))?;
        made.push(path);
        Ok(())
    };
    let head = &bytes[..1024];
    put("pax.clb", &[&header(EntryType::XHeader, "clb/00-head", HUGE)], HUGE)?;
    put("pax-behind-head.clb", &[head, &header(EntryType::XHeader, "x", HUGE)], HUGE)?;
    put("global.clb", &[head, &header(EntryType::XGlobalHeader, "g", HUGE)], HUGE)?;
    put("long-name.clb", &[head, &header(EntryType::GNULongName, "././@LongLink", HUGE)], HUGE)?;
    let metadata = |bytes| container::header(&Member::Meta.name(), bytes);
    put("huge-meta.clb", &[head, &metadata(HUGE)?], HUGE)?;
    let nested = vec![b'['; 4 << 20];
    let largest = metadata(4 << 20)?;
    put("nested-meta.clb", &[head, &largest, &nested], 0)?;
    let wide = wide()?;
    let exact = metadata(wide.len() as u64)?;
    put("wide-meta.clb", &[head, &exact, &wide], 0)?;
    put("zeros.clb", &[], HUGE)?;
    put("cut.clb", &[&bytes[..bytes.len() / 2]], 0)?;
    put("followed.clb", &[&bytes, b"more"], HUGE)?;
    let link = folder.join("link.clb");
    tamper::symlink_inside(valid, &link)?;
    made.push(link);
    Ok(made)
}

fn header(kind: EntryType, name: &str, size: u64) -> [u8; 512] {
    let mut header = Header::new_ustar();
    header.set_path(name).expect("a short name");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    header.set_cksum();
    *header.as_bytes()
}

/// Trust metadata that nobody signed, of which a tree takes many times the text: a root and a list, each
/// near the longest that is read, of nothing but short texts.
fn wide() -> Result<Vec<u8>> {
    let texts = |bytes: usize| {
        let texts = vec![r#""a""#; bytes / 4].join(",");
        format!(r#"{{"signed":[{texts}],"signatures":[]}}"#).into_bytes()
    };
    let (root, targets) = (texts(1_040_000), texts(2_900_000));
    let files: [(&str, &[u8]); 4] = [
        ("2.root.json", &root),
        ("snapshot.json", b"{}"),
        ("targets.json", &targets),
        ("timestamp.json", b"{}"),
    ];
    Ok(container::archive(files)?)
}
