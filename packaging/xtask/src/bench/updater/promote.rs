//! Switching: the promotion of a release of 4 GiB that lies on the shelf, judged and approved, and the
//! way back, while somebody asks without a pause.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_domain::ImportId;
use cloister_stage::{Stage, Unit, facility::import_number, release::read_file};
use cloister_wire::{
    Reply,
    supply::{Answer, Request},
};

use super::{
    super::{Figure, RUNS, material, tell},
    Room,
    interactive::Asker,
};

/// As the figure is defined.
const BYTES: u64 = 4 << 30;
/// What the promotion's records and databases may take.
const WRITTEN_MIB_MUST: f64 = 1.0;

pub(super) fn measure(
    room: &mut Room<'_>,
    small: &Path,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    writeln!(log, "promotion: making a release of 4 GiB")?;
    let tree = material::small_tree(&room.facility, "large")?;
    fs::remove_dir_all(tree.join("evaluation"))?;
    material::random_weights(&tree.join("provenance/weights.gguf"), BYTES, 1)?;
    // More than a volume on FAT may hold.
    let volumes = room.facility.publish_with(&tree, "9.0.0", 9, &[])?;
    let folder = volumes.first().and_then(|volume| volume.parent()).context("no volume")?;
    fs::remove_dir_all(&tree)?;
    room.fresh()?;
    room.facility.promote(small)?;
    let import = import_number(room.facility.import(folder)?.done()?)?;
    fs::remove_dir_all(folder)?;
    room.facility.approve(&import)?;
    let import = ImportId(import.parse()?);
    let asker = Asker::new(&room.facility)?;
    asker.ask()?;
    let (mut there, mut written, mut back) = (Vec::new(), Vec::new(), Vec::new());
    for _run in 0..RUNS {
        let before = written_bytes(&room.facility.stage)?;
        let (took, _) = switch(&room.facility.stage, &asker, &Request::Activate { import })?;
        there.push(took);
        #[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
        let wrote = (written_bytes(&room.facility.stage)? - before) as f64 / f64::from(1 << 20);
        written.push(wrote);
        let (took, asked) = switch(&room.facility.stage, &asker, &Request::Rollback { to: None })?;
        writeln!(log, "{asked} requests during a return, none failed")?;
        back.push(took);
    }
    room.facility.stage.stop()?;
    for (name, runs) in
        [("promote.4gib", &there), ("promote.written", &written), ("return.answer", &back)]
    {
        tell(log, name, runs)?;
    }
    Ok(vec![
        Figure::new("promote.4gib", "s", &there).aim(1.0),
        Figure::new("promote.written", "MiB", &written).must(WRITTEN_MIB_MUST),
        Figure::new("return.answer", "s", &back).must(1.0).aim(0.1),
    ])
}

/// Asks for a switch while somebody asks the model without a pause: seconds from the request to the
/// first whole answer of the release that was switched to, and how many were asked. None may fail.
fn switch(stage: &Stage, asker: &Asker, request: &Request) -> Result<(f64, usize)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| asker.until(|| Ok(done.load(Ordering::SeqCst))));
        let begun = Instant::now();
        let switched = (|| {
            let reply: Reply<Answer> = cloister_stage::ask(&stage.socket(Unit::Updaterd), request)?;
            let Answer::Switched { generation, .. } = reply? else { bail!("nothing was switched") };
            while asker.answered_by()? != generation.to_string() {
                ensure!(
                    begun.elapsed().as_secs() < 60,
                    "the release that is active does not answer"
                );
            }
            Ok(begun.elapsed().as_secs_f64())
        })();
        done.store(true, Ordering::SeqCst);
        let asked = asking.join().ok().context("who asks panicked")??;
        Ok((switched?, asked.len()))
    })
}

/// Bytes that the daemons have written so far, by whatever way.
fn written_bytes(stage: &Stage) -> Result<u64> {
    let of = |unit: &Unit| -> Result<u64> {
        let path = format!("/proc/{}/io", stage.pid(*unit)?);
        let text = String::from_utf8(read_file(Path::new(&path))?)?;
        let line = text.lines().find_map(|line| line.strip_prefix("wchar:"));
        Ok(line.context("no field")?.trim().parse()?)
    };
    let writers = [Unit::Updaterd, Unit::Recordd, Unit::Corpusd];
    writers.iter().map(of).sum()
}
