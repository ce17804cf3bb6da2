//! Minting: `cloister-mint build` of 1 GiB, the same bytes every time.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{facility::RELEASE, programs};

use super::{
    super::{Figure, NoPeer, RUNS, Usage, tell, usage_of},
    CPU, PEAK, Room, each,
    peers::MAKERS,
};

pub(super) fn measure(
    room: &Room<'_>,
    tree: &Path,
    weights: &Path,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    let ours = ours(room, tree)?;
    writeln!(log, "mint.bf16: the volumes of {RUNS} builds are the same to the byte")?;
    tell(log, "mint.bf16.cpu ours", &each(&ours, CPU))?;
    tell(log, "mint.bf16.memory ours", &each(&ours, PEAK))?;
    let cpu = || Figure::new("mint.bf16.cpu", "s", &each(&ours, CPU));
    let memory = || Figure::new("mint.bf16.memory", "MiB", &each(&ours, PEAK));
    let mut figures = vec![cpu().must(6.0).aim(5.0), memory().must(160.0).aim(128.0)];
    for peer in &MAKERS {
        let folder = room.scratch.join("peer");
        let run = || {
            let usage = peer.prepare(&folder, weights, true)?.made();
            fs::remove_dir_all(&folder)?;
            Ok(usage)
        };
        match (0..RUNS).map(|_run| run()).collect::<Result<Vec<Usage>>>() {
            Err(error) if error.is::<NoPeer>() => {
                writeln!(log, "{}: {error}", peer.name)?;
                figures.push(cpu().without(peer.name));
            }
            runs => {
                let runs = runs?;
                writeln!(log, "{} runs:\n{}", peer.name, peer.prepare)?;
                tell(log, &format!("mint.bf16.cpu {}", peer.name), &each(&runs, CPU))?;
                tell(log, &format!("mint.bf16.memory {}", peer.name), &each(&runs, PEAK))?;
                figures.push(cpu().beside(peer.name, &each(&runs, CPU)));
                figures.push(memory().beside(peer.name, &each(&runs, PEAK)));
            }
        }
    }
    Ok(figures)
}

/// Mints the tree into a new folder each time.
fn ours(room: &Room<'_>, tree: &Path) -> Result<Vec<Usage>> {
    let (mut runs, mut first) = (Vec::new(), None);
    for run in 0..RUNS {
        let out = room.scratch.join(format!("minted-{run}"));
        runs.push(usage_of(&format!(
            "'{mint}' build '{tree}' --name {RELEASE} --version 1.0.0 --counter 1 \
             --licence 'Apache-2.0 OR MIT' --key '{key}' --out '{out}'; sync '{out}'/*",
            mint = programs()?.join("cloister-mint").display(),
            tree = tree.display(),
            key = room.facility.key("publisher").display(),
            out = out.display(),
        ))?);
        let made = only_file(&out)?;
        match &first {
            None => first = Some(made),
            Some(first) => {
                usage_of(&format!("cmp '{}' '{}'", first.display(), made.display()))
                    .context("two builds of one tree differ")?;
                fs::remove_dir_all(&out)?;
            }
        }
    }
    fs::remove_dir_all(room.scratch.join("minted-0"))?;
    Ok(runs)
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?;
    let file = files.next().context("nothing was minted")??.path();
    ensure!(files.next().is_none(), "more than one volume was minted");
    Ok(file)
}
