//! Looking without importing: what a medium's volumes say of themselves, whether their signatures
//! hold, and what an import would come to. Nothing is recorded or kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

use cloister_attest::dsse::Envelope;
use cloister_bundle::{
    BundleError, Carried, Manifest, Table, VolumeHead,
    handover::{Expected, FILL_CHUNKS_MAX, Missing, Plan, PlannedFile, Purpose, Seen},
};
use cloister_config::Config;
use cloister_daemon::Connection;
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, printable};
use cloister_quarantine::{Head, Parts, Place, QuarantineError, Source};
use cloister_wire::intake::{Event, Forecast, Said};

use crate::{
    IntakeError,
    import::{offer, open_index, read_index},
    medium::Medium,
    reader::{Reader, identities},
    survey::Survey,
    trust::{self, Supposed},
    updaterd::Updaterd,
};

/// Shows the client what lies on the medium, and of each release there what it says of itself and
/// whether this appliance would believe it, by what each volume has before its chunks. The first that
/// it would not is the end's problem.
pub(crate) fn inspect(
    config: &Config,
    medium: &Medium,
    client: &Connection,
) -> Result<Event, IntakeError> {
    let identities = identities(config)?;
    let mut survey = Survey::of(medium, &identities);
    let parked = Updaterd::connect(config)?.parked()?;
    tell(client, &Event::Medium(survey.told(parked, None)))?;
    survey.check_crowd()?;
    let single = survey.is_single();
    let releases = survey.releases().into_iter();
    let several: Vec<_> = releases.filter(|release| survey.count(*release) > 1).collect();
    let (supposed, distrusted) = trust::suppose(config, &survey, client)?;
    let (mut verdict, mut unreadable) = (distrusted.map_or(Ok(()), Err), Ok(()));
    let (good, said) = (BTreeMap::new(), BTreeSet::new());
    let mut showing = Showing { config, medium, client, supposed, good, said };
    for found in survey.take_found() {
        let (source, place) = match found.opened {
            Ok(opened) => opened,
            Err(error) => {
                unreadable = unreadable.and(Err(error));
                continue;
            }
        };
        let (release, number) = (place.volume.bundle, place.volume.volume);
        match showing.show(source, place) {
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
    supposed: Supposed<'a>,
    /// What follows heads that updaterd would believe, by the release that the volume claims and by their
    /// bytes: volumes of one release have the same, and none is judged twice.
    good: BTreeMap<(GenerationId, Digest), Following>,
    /// Manifests whose words were shown.
    said: BTreeSet<Digest>,
}

/// What a head says of the members behind it.
struct Following {
    attestations: Vec<Expected>,
    index: Expected,
    files: Vec<PlannedFile>,
}

impl Showing<'_> {
    /// Reads all that comes before the chunks.
    fn show(&mut self, mut source: Source<Reader<'_>>, place: Place) -> Result<(), IntakeError> {
        let head = source.head(place)?;
        let volume = head.volume.clone();
        let key = (volume.bundle, head.signed());
        if !self.good.contains_key(&key) {
            let following = self.judge(head)?;
            self.good.insert(key, following);
        }
        let following = self.good.get(&key).ok_or(IntakeError::OutOfTurn)?;
        before_chunks(&mut source, &volume, following, self.config).map(drop)
    }

    /// Has a head judged that was not met yet, and shows what it says.
    fn judge(&mut self, head: Head) -> Result<Following, IntakeError> {
        // What cannot be read says nothing; updaterd names what is wrong with it.
        if self.said.insert(Digest::of(&head.manifest))
            && let Ok(said) = said(&head.manifest)
        {
            tell(self.client, &Event::Says(said))?;
        }
        let release = head.volume.bundle;
        let offer = offer(head, self.medium, Purpose::Inspect, self.client);
        let Seen { summary, attestations, index, files, .. } =
            self.supposed.updaterd(self.config)?.offer(offer)?;
        if self.good.keys().all(|(shown, _)| *shown != release) {
            tell(self.client, &Event::Seen(summary))?;
        }
        Ok(Following { attestations, index, files })
    }
}

/// Reads what stands between a volume's head, which is believed, and its chunks: the index, and which
/// chunks it carries.
fn before_chunks(
    source: &mut Source<Reader<'_>>,
    volume: &VolumeHead,
    following: &Following,
    config: &Config,
) -> Result<(Table<File>, Option<Carried>), IntakeError> {
    for expected in &following.attestations {
        source.attestation(*expected)?;
    }
    let aside = read_index(source, following.index, config)?;
    let index = open_index(aside, following.index, &following.files)?;
    index.of_volume(volume).map_err(QuarantineError::from)?;
    let carried = source.carried(volume.chunks)?;
    Ok((index, carried))
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
    let identities = identities(config)?;
    let mut survey = Survey::of(medium, &identities);
    let chosen = survey.choose(&parked, into);
    let trust_alone = survey.is_trust_alone() && into.is_none();
    let told = survey.told(parked, chosen.as_ref().ok().copied());
    tell(client, &Event::Medium(told))?;
    survey.check_crowd()?;
    let (supposed, distrusted) = trust::suppose(config, &survey, client)?;
    if trust_alone {
        return distrusted.map_or(Ok(Event::Inspected), Err);
    }
    let chosen = chosen?;
    let several = survey.count(chosen) > 1;
    let mut checking = Checking { config, medium, client, supposed, outlook: None };
    let mut damaged = Ok(());
    for found in survey.take_found() {
        let (name, Ok((source, place))) = (found.name, found.opened) else { continue };
        if place.volume.bundle != chosen {
            continue;
        }
        let number = place.volume.volume;
        match checking.volume(source, place) {
            Ok(()) => {}
            // As an import does: what is wrong with one volume says nothing about the others.
            Err(error) if several && (error.is_of_the_head() || error.is_of_the_volume()) => {
                tell(client, &Event::Refused { name, problem: error.problem() })?;
                damaged = damaged.and(Err(error.in_volume(number)));
            }
            Err(error) => return Err(error),
        }
    }
    match checking.outlook {
        Some(Outlook { import, missing, needed_bytes, .. })
            if damaged.is_ok() || missing.chunks == 0 =>
        {
            Ok(Event::Checked { import, missing, needed_bytes })
        }
        _ => damaged.and(Err(IntakeError::NoVolume)),
    }
}

/// What was checked of a medium.
struct Checking<'a> {
    config: &'a Config,
    medium: &'a Medium,
    client: &'a Connection,
    supposed: Supposed<'a>,
    /// What an import would come to after the volumes so far.
    outlook: Option<Outlook>,
}

impl Checking<'_> {
    fn volume(&mut self, mut source: Source<Reader<'_>>, place: Place) -> Result<(), IntakeError> {
        let head = source.head(place)?;
        let updaterd = self.supposed.updaterd(self.config)?;
        let volume = head.volume.clone();
        let seen = updaterd.offer(offer(head, self.medium, Purpose::Check, self.client))?;
        if self.outlook.is_none() {
            tell(self.client, &Event::Seen(seen.summary.clone()))?;
        }
        let Seen { import, summary, attestations, index, files } = seen;
        let following = Following { attestations, index, files };
        let (table, carried) = before_chunks(&mut source, &volume, &following, self.config)?;
        let mut outlook = match self.outlook.take() {
            Some(outlook) => outlook,
            None => Outlook::new(self.config, import, summary.generation, &following, &table)?,
        };
        let read = Read { volume: &volume, table: &table, carried: carried.as_ref() };
        let forecast = outlook.after(&read, &updaterd, index.bytes)?;
        self.outlook = Some(outlook);
        tell(self.client, &Event::Forecast(forecast))
    }
}

/// What an import would come to after the volumes so far.
struct Outlook {
    import: Option<ImportId>,
    parts: Parts,
    missing: Missing,
    needed_bytes: ByteCount,
}

/// A volume of which everything before the chunks was read.
struct Read<'a> {
    volume: &'a VolumeHead,
    table: &'a Table<File>,
    carried: Option<&'a Carried>,
}

impl Outlook {
    /// Before any volume: what lies in quarantine.
    fn new(
        config: &Config,
        import: Option<ImportId>,
        generation: GenerationId,
        following: &Following,
        table: &Table<File>,
    ) -> Result<Self, IntakeError> {
        // The folder of an import is named by its number; import 0 has none.
        let number = import.unwrap_or(ImportId(0));
        let (folder, files) = (number.to_string(), following.files.clone());
        let plan = Plan { import: number, generation, folder, files };
        let parts = Parts::look(&config.paths.quarantine(), &plan, table)?;
        let held = parts.held_bytes(table)?;
        let needed_bytes = ByteCount(table.plain_bytes().saturating_sub(held));
        Ok(Self { import, parts, missing: Missing::default(), needed_bytes })
    }

    fn after(
        &mut self,
        read: &Read<'_>,
        updaterd: &Updaterd,
        index_bytes: ByteCount,
    ) -> Result<Forecast, IntakeError> {
        let Read { volume, table, carried } = *read;
        let wanted = self.parts.wanted(table, volume, carried)?;
        let left_out = carried.map_or_else(Vec::new, |bits| self.parts.left_out(volume, bits));
        let filled = on_the_shelf(updaterd, table.file(), index_bytes, &left_out)?;
        self.parts.suppose(volume, carried);
        self.parts.suppose_filled(table, &left_out, &filled)?;
        self.missing = self.parts.missing(table, volume)?;
        let count = |chunks: &[u64]| u64::try_from(chunks.len()).expect("a count fits 64 bits");
        Ok(Forecast {
            volume: volume.volume,
            chunks: volume.chunks,
            read_chunks: wanted.chunks,
            read_bytes: wanted.stored_bytes,
            left_out_chunks: count(&left_out),
            filled_chunks: count(&filled),
        })
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
