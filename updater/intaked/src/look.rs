//! Looking without importing: what a medium's volumes say of themselves, whether their signatures
//! hold, and what an import would come to. Nothing is recorded or kept.

use std::{collections::BTreeSet, fs::File};

use cloister_attest::dsse::Envelope;
use cloister_bundle::{
    BundleError, Manifest, VolumeHead,
    handover::{FILL_CHUNKS_MAX, Missing, Plan, Purpose, Seen},
};
use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, printable};
use cloister_quarantine::{Head, Parts, QuarantineError, Source};
use cloister_wire::intake::{Event, Forecast, Said};

use crate::{
    IntakeError,
    import::{offer, open_index, read_index},
    medium::Medium,
    reader::{Reader, identities},
    survey::Survey,
    trust,
    updaterd::Updaterd,
};

/// Shows the client what lies on the medium, and of each release there what it says of itself and
/// whether this appliance would believe it, by the head of each volume. The first that it would not is
/// the end's problem.
pub(crate) fn inspect(
    config: &Config,
    medium: &Medium,
    client: &Connection,
) -> Result<Event, IntakeError> {
    let mut survey = Survey::of(medium, &identities(config)?);
    let parked = Updaterd::connect(config)?.parked()?;
    tell(client, &Event::Medium(survey.told(parked, None)))?;
    let single = survey.is_single();
    let distrusted = trust::judge(config, &mut survey, false, client)?;
    let releases = survey.releases().into_iter();
    let several: Vec<_> = releases.filter(|release| survey.count(*release) > 1).collect();
    let (mut verdict, mut unreadable) = (distrusted.map_or(Ok(()), Err), Ok(()));
    let mut showing =
        Showing { config, medium, client, good: BTreeSet::new(), said: BTreeSet::new() };
    for found in survey.found {
        let (mut source, place) = match found.opened {
            Ok(opened) => opened,
            Err(error) => {
                unreadable = unreadable.and(Err(error));
                continue;
            }
        };
        let (release, number) = (place.volume.bundle, place.volume.volume);
        let head = source.head(place).map_err(IntakeError::from);
        match head.and_then(|head| showing.show(head)) {
            Ok(()) => {}
            Err(error @ IntakeError::Client(_)) => return Err(error),
            Err(error) => {
                if !single {
                    let problem = error.problem();
                    tell(client, &Event::Refused { name: found.name, problem })?;
                }
                let named = several.contains(&release);
                verdict = verdict.and(Err(if named { error.in_volume(number) } else { error }));
            }
        }
    }
    verdict.and(unreadable).map(|()| Event::Inspected)
}

/// What was shown of a medium, and found good.
struct Showing<'a> {
    config: &'a Config,
    medium: &'a Medium,
    client: &'a Connection,
    /// Heads that updaterd would believe, by the release that the volume claims and by their bytes:
    /// volumes of one release have the same, and none is judged twice.
    good: BTreeSet<(GenerationId, Digest)>,
    /// Manifests whose words were shown.
    said: BTreeSet<Digest>,
}

impl Showing<'_> {
    fn show(&mut self, head: Head) -> Result<(), IntakeError> {
        let key = (head.volume.bundle, head.signed());
        if self.good.contains(&key) {
            return Ok(());
        }
        // What cannot be read says nothing; updaterd names what is wrong with it.
        if let (true, Ok(said)) =
            (self.said.insert(Digest::of(&head.manifest)), said(&head.manifest))
        {
            tell(self.client, &Event::Says(said))?;
        }
        let offer = offer(head, self.medium, Purpose::Inspect);
        let seen = Updaterd::connect(self.config)?.offer(offer)?;
        let first = self.good.iter().all(|(release, _)| *release != key.0);
        self.good.insert(key);
        if first { tell(self.client, &Event::Seen(seen.summary)) } else { Ok(()) }
    }
}

/// What a manifest says, whoever signed it.
fn said(envelope: &[u8]) -> Result<Said, QuarantineError> {
    let envelope = Envelope::parse(envelope).map_err(BundleError::Manifest)?;
    let manifest = Manifest::of(&envelope)?;
    let release = manifest.release();
    Ok(Said {
        generation: manifest.generation(),
        name: release.name.clone(),
        version: release.version.clone(),
        counter: release.release_counter,
        // Whoever wrote the stick chose these bytes.
        keys: envelope.signatures.iter().map(|one| printable(one.keyid.as_bytes())).collect(),
        licences: release.licences.clone(),
        plain_bytes: ByteCount(release.index.plain_bytes),
        stored_bytes: ByteCount(release.index.stored_bytes),
        files: u64::try_from(release.files.len()).expect("a count fits 64 bits"),
    })
}

/// Says what an import of the medium would read, and what would be missing afterwards. It refuses
/// what the import would refuse before it reads a chunk.
pub(crate) fn check(
    config: &Config,
    medium: &Medium,
    into: Option<ImportId>,
    client: &Connection,
) -> Result<Event, IntakeError> {
    let parked = Updaterd::connect(config)?.parked()?;
    let mut survey = Survey::of(medium, &identities(config)?);
    let chosen = survey.choose(&parked, into);
    let trust_alone = survey.is_trust_alone() && into.is_none();
    let told = survey.told(parked, chosen.as_ref().ok().copied());
    tell(client, &Event::Medium(told))?;
    let distrusted = trust::judge(config, &mut survey, false, client)?;
    if trust_alone {
        return distrusted.map_or(Ok(Event::Inspected), Err);
    }
    let chosen = chosen?;
    let mut outlook: Option<Outlook> = None;
    for found in survey.found {
        let Ok((mut source, place)) = found.opened else { continue };
        if place.volume.bundle != chosen {
            continue;
        }
        let head = source.head(place)?;
        let updaterd = Updaterd::connect(config)?;
        let volume = head.volume.clone();
        let seen = updaterd.offer(offer(head, medium, Purpose::Check))?;
        if outlook.is_none() {
            tell(client, &Event::Seen(seen.summary.clone()))?;
        }
        let next = Outlook::after(outlook.take(), config, &updaterd, seen, &volume, &mut source)?;
        tell(client, &Event::Forecast(next.forecast))?;
        outlook = Some(next);
    }
    let outlook = outlook.ok_or(IntakeError::NoVolume)?;
    let Outlook { import, missing, needed_bytes, .. } = outlook;
    Ok(Event::Checked { import, missing, needed_bytes })
}

/// What an import would come to after the volumes so far.
struct Outlook {
    import: Option<ImportId>,
    forecast: Forecast,
    parts: Parts,
    missing: Missing,
    needed_bytes: ByteCount,
}

impl Outlook {
    fn after(
        before: Option<Self>,
        config: &Config,
        updaterd: &Updaterd,
        seen: Seen,
        volume: &VolumeHead,
        source: &mut Source<Reader<'_>>,
    ) -> Result<Self, IntakeError> {
        for expected in &seen.attestations {
            source.attestation(*expected)?;
        }
        let aside = read_index(source, seen.index, config)?;
        let index = open_index(aside, seen.index, &seen.files)?;
        let carried = source.carried(volume.chunks)?;
        let carried = carried.as_ref();
        let (mut parts, needed_bytes) = match before {
            Some(before) => (before.parts, before.needed_bytes),
            None => {
                let import = seen.import.unwrap_or(ImportId(0));
                let generation = seen.summary.generation;
                // The folder of an import is named by its number; import 0 has none.
                let folder = import.to_string();
                let plan = Plan { import, generation, folder, files: seen.files };
                let parts = Parts::look(&config.paths.quarantine(), &plan, &index)?;
                let held = parts.held_bytes(&index)?;
                (parts, ByteCount(index.plain_bytes().saturating_sub(held)))
            }
        };
        let wanted = parts.wanted(&index, volume, carried)?;
        let left_out = carried.map_or_else(Vec::new, |bits| parts.left_out(volume, bits));
        let filled = on_the_shelf(updaterd, index.file(), seen.index.bytes, &left_out)?;
        parts.suppose(volume, carried);
        parts.suppose_filled(&index, &left_out, &filled)?;
        let count = |chunks: &[u64]| u64::try_from(chunks.len()).expect("a count fits 64 bits");
        let forecast = Forecast {
            volume: volume.volume,
            chunks: volume.chunks,
            read_chunks: wanted.chunks,
            read_bytes: wanted.stored_bytes,
            left_out_chunks: count(&left_out),
            filled_chunks: count(&filled),
        };
        let missing = parts.missing(&index, volume)?;
        Ok(Self { import: seen.import, forecast, parts, missing, needed_bytes })
    }
}

/// Which of the chunks that a thin volume leaves out the shelf has.
fn on_the_shelf(
    updaterd: &Updaterd,
    index: &File,
    bytes: ByteCount,
    left_out: &[u64],
) -> Result<Vec<u64>, IntakeError> {
    let mut there = Vec::new();
    if !left_out.is_empty() {
        updaterd.show_index(index, bytes)?;
    }
    for some in left_out.chunks(FILL_CHUNKS_MAX) {
        there.extend(updaterd.fill(some)?);
    }
    Ok(there)
}

fn tell(client: &Connection, event: &Event) -> Result<(), IntakeError> {
    client.write(event).map_err(IntakeError::Client)
}
