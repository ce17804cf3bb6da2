//! Enrolment, and the way of a bundle from a stick's head into quarantine.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use cloister_attest::dsse::Envelope;
use cloister_bundle::{
    BundleError, FileEntry, Manifest, Table, VolumeHead,
    handover::{Complete, Expected, Offer, Plan, PlannedFile, Purpose, Seen},
};
use cloister_daemon::files::sync_folder;
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{NewImport, Series, StateError, TrustFile};
use cloister_verify::{TrustState, Verified, VerifyError};
use cloister_wire::{Problem, intake::Summary, record::Event, supply::ImportState};
use serde_json::json;

use crate::{
    adopt, anchor,
    arriving::Arriving,
    books, catch_up, consent,
    core::{Core, is_refusal, vector_text},
    error::ActError,
    filler::Filler,
    inventory,
    look::Look,
    parked, preflight,
    quarantine::Quarantine,
};

/// Two users share a quarantine folder by its group.
const QUARANTINE_MODE: u32 = 0o770;

/// Reads a stored manifest, whose signatures were judged when it was stored.
pub(crate) fn manifest(envelope: &[u8]) -> Result<Manifest, ActError> {
    let envelope = Envelope::parse(envelope).map_err(BundleError::Manifest)?;
    Ok(Manifest::of(&envelope)?)
}

/// Enrols the trust root: record 0, then the database.
pub(crate) fn enrol(
    core: &Core,
    root: &str,
    confirmed: Digest,
) -> Result<(Digest, RecordIndex), ActError> {
    let _act = core.act();
    if core.enrolled().is_some() {
        let subject = [("trust-root", confirmed)];
        return Err(core.record_refusal("enrol", &subject, StateError::Enrolled.into()));
    }
    let trust = cloister_verify::enrol(root.as_bytes(), confirmed)?;
    let digest = trust.root_digest();
    if core.is_lost()? {
        return Err(ActError::Lost);
    }
    if let Some(first) = core.recordd.first()? {
        // Only an enrolment that was cut off after its record may go on.
        let statement = Envelope::parse(first.as_bytes())
            .and_then(|envelope| cloister_attest::statement::Statement::of(&envelope));
        let same = statement.is_ok_and(|first| first.subject("trust-root") == Some(digest));
        if !same {
            return Err(ActError::NotFirst);
        }
    }
    anchor::keep(&core.config.paths.trust(), &trust)?;
    let record = core.recordd.append(&Core::entry(
        Event::AnchorEnrolment,
        format!("anchor/{digest}"),
        &[("trust-root", digest)],
        json!({
            "root_version": trust.root_version(),
            "approvals_needed": trust.approvals_needed(),
        }),
    ))?;
    if record != RecordIndex(0) {
        return Err(ActError::NotFirst);
    }
    let file = TrustFile { name: String::from("root.json"), bytes: root.as_bytes().into() };
    core.state().enrol(&file, &vector_text(&trust), record)?;
    core.take_trust(trust);
    if books::record_policy(core).and_then(|()| catch_up::catch_up(core)).is_err() {
        // The worker does it when the log answers again.
        core.wake();
    }
    Ok((digest, record))
}

/// An import that a connection receives, between its messages.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    quarantine: Quarantine<'a>,
    /// The user who has the volume imported.
    operator: String,
    verified: Verified<Manifest>,
    index: Arriving,
    planned: bool,
    /// The index, until a thin volume is filled in by it.
    table: Option<Table<File>>,
    filler: Option<Filler>,
}

/// A head that was judged good.
struct Head {
    verified: Verified<Manifest>,
    trust: TrustState,
}

/// What follows an offer on the same connection.
#[derive(Debug)]
pub(crate) enum Talk<'a> {
    /// An import.
    Import(Box<Session<'a>>),
    /// A look ahead at one.
    Look(Box<Look>),
}

/// Judges a head. For an import it leaves a record in either case, and a session. For a look, trust metadata
/// that lies beside it may be supposed to hold.
pub(crate) fn offer<'a>(
    core: &'a Core,
    offer: &Offer,
    supposed: Option<&TrustState>,
) -> Result<(Seen, Option<Talk<'a>>), ActError> {
    // Whoever only looks changes nothing, and waits for nobody.
    let act = (offer.purpose == Purpose::Import).then(|| core.act());
    // Trust comes with it: what persons said before is judged by the roots of then.
    let ready = act.as_ref().map_or(Ok(()), |_act| {
        catch_up::catch_up(core)?;
        consent::whole_log(core)
    });
    let head = match ready.and_then(|()| judge(core, offer, supposed)) {
        Ok(head) => head,
        Err(error) if offer.purpose != Purpose::Import || !is_refusal(&error) => return Err(error),
        Err(error) => return Err(refuse_offer(core, offer, error)),
    };
    let summary = summary(core, &head)?;
    match offer.purpose {
        Purpose::Import => {}
        Purpose::Check => {
            let seen = parked::check(core, summary, head.verified.get())?;
            let look = Look::new(head.verified.get().clone());
            return Ok((seen, Some(Talk::Look(Box::new(look)))));
        }
        Purpose::Inspect => {
            let files = planned_files(core, head.verified.get())?;
            return Ok((Seen { files, ..seen(None, summary, head.verified.get()) }, None));
        }
    }
    let mut standing = core.state().import_of(summary.generation)?;
    if let Some(discarded) = standing.take_if(|import| parked::is_discarded(import)) {
        parked::finish_discard(core, &discarded)?;
    }
    // One that was activated has come to its end: its release left the shelf, and comes again.
    standing.take_if(|import| import.state == ImportState::Activated);
    let import = match standing {
        Some(unfinished) => {
            preflight::judge_reserve(core)?;
            // The publishers may have signed the same release anew, and the first signatures count no more.
            if matches!(unfinished.state, ImportState::Receiving | ImportState::Received) {
                core.state().sign_anew(unfinished.import, &offer.manifest.0)?;
            }
            unfinished.import
        }
        None => begin(core, offer, &summary)?,
    };
    drop(act);
    let quarantine = core.begin_receiving(import).ok_or(ActError::Receiving { import })?;
    // Whoever had it until now may have brought the import to its end.
    if !may_go_on(core.state().import(import)?.state) {
        return Err(ActError::Receiving { import });
    }
    let seen = seen(Some(import), summary, head.verified.get());
    let operator = operator(offer.operator);
    import_by(core, import, &operator)?;
    let session = Session {
        quarantine,
        operator,
        verified: head.verified,
        index: Arriving::default(),
        planned: false,
        table: None,
        filler: None,
    };
    Ok((seen, Some(Talk::Import(Box::new(session)))))
}

/// Whether a volume of an import that stands there is taken once more.
const fn may_go_on(state: ImportState) -> bool {
    matches!(state, ImportState::Receiving | ImportState::Received | ImportState::Evaluating)
}

fn judge(core: &Core, offer: &Offer, supposed: Option<&TrustState>) -> Result<Head, ActError> {
    let supposed = supposed.filter(|_state| offer.purpose != Purpose::Import);
    let trust = supposed.cloned().map_or_else(|| core.trust_of_turn(), Ok)?;
    let volume = VolumeHead::parse(&offer.head.0)?;
    let newer = trust.refresh(&offer.meta.0)?;
    if offer.purpose == Purpose::Import {
        // Kept even if the release is refused: revocations travel this way.
        core.keep_trust(&newer)?;
        parked::end_revoked(core)?;
    }
    let verified = newer.judge(&offer.manifest.0)?;
    let manifest = verified.get();
    let generation = manifest.generation();
    if volume.bundle != generation {
        return Err(ActError::OtherRelease);
    }
    let release = manifest.release();
    let state = core.state();
    if let Some((held, of)) = state.counter(&release.name)? {
        let offered = release.release_counter;
        if offered < held || (offered == held && of != generation) {
            return Err(VerifyError::Rollback { offered, held }.into());
        }
    }
    if offer.purpose != Purpose::Inspect && state.is_rejected(generation)? {
        return Err(ActError::Rejected);
    }
    if offer.purpose != Purpose::Inspect
        && let Some(there) = state.import_of(generation)?
        && !may_go_on(there.state)
        // What left the shelf, swept or damaged, may come again.
        && (there.state != ImportState::Activated || core.shelf.shelved(generation)?.is_some())
    {
        return Err(ActError::AlreadyHeld { import: there.import, state: there.state });
    }
    drop(state);
    let max = core.config.update.import_bytes_max;
    let bytes = ByteCount(release.index.plain_bytes);
    if bytes > max {
        return Err(ActError::TooLarge { bytes, max });
    }
    Ok(Head { verified, trust: newer })
}

/// The refusal with its record; what is not a refusal leaves none.
fn refuse_offer(core: &Core, offer: &Offer, error: ActError) -> ActError {
    if !is_refusal(&error) {
        return error;
    }
    // The name that the refused bytes give themselves; nobody vouches for it.
    let generation = manifest(&offer.manifest.0).ok().map(|manifest| manifest.generation());
    if let Some(refused) = parked::refuse_overtaken(core, generation, &error) {
        return refused.err().unwrap_or(error);
    }
    refuse_unseen(core, generation, &error.problem()).err().unwrap_or(error)
}

/// Records a volume that was refused before it became an import. The caller holds the right to act.
fn refuse_unseen(
    core: &Core,
    generation: Option<GenerationId>,
    problem: &Problem,
) -> Result<(), ActError> {
    if core.enrolled().is_none() {
        // Before the enrolment there is no log to write to.
        return Ok(());
    }
    core.make_room();
    let import = ImportId(core.draw(Series::Import)?);
    let record = core.record_import_refused(import, generation, problem)?;
    Ok(core.state().receive_refused(import, generation, problem, record)?)
}

/// A volume was wrong before its head could be offered.
pub(crate) fn abort_unseen(
    core: &Core,
    problem: &Problem,
    resumable: bool,
) -> Result<(), ActError> {
    let _act = core.act();
    if resumable { Ok(()) } else { refuse_unseen(core, None, problem) }
}

/// Stores a new import, if it fits the machine and the facility.
fn begin(core: &Core, offer: &Offer, summary: &Summary) -> Result<ImportId, ActError> {
    if let Err(lacking) = preflight::judge(&summary.fit) {
        return Err(refuse_offer(core, offer, lacking.into()));
    }
    let import = ImportId(core.draw(Series::Import)?);
    let record = core.recordd.append(&Core::entry(
        Event::MediaSeen,
        format!("import/{import}/seen"),
        &[("bundle", summary.generation.0), ("head", Digest::of(&offer.head.0))],
        json!({
            "import": import,
            "name": summary.name,
            "version": summary.version,
            "counter": summary.counter,
            "signers": summary.signers,
            "root_version": summary.root_version,
            "filesystem": offer.filesystem,
            "read_only": offer.read_only,
            "operator": operator(offer.operator),
            "persons": books::persons(core, &[operator(offer.operator)]),
        }),
    ))?;
    let manifest = &offer.manifest.0;
    let operators = &books::operated_by(core, &operator(offer.operator));
    let new = NewImport { import, summary, manifest, operators, record };
    core.state().receive(&new)?;
    Ok(import)
}

/// Keeps who imports a volume. Whoever was not named in a record of the import yet is named in one: who
/// operated an import never approves it, also after the database was lost.
fn import_by(core: &Core, import: ImportId, operator: &str) -> Result<(), ActError> {
    let _act = core.act();
    let (known, operators) = (core.state().operators(import)?, books::operated_by(core, operator));
    if operators.iter().all(|one| known.contains(one)) {
        return Ok(());
    }
    let generation = core.state().import(import)?.generation;
    let subject: Vec<(&str, Digest)> = generation.iter().map(|id| ("bundle", id.0)).collect();
    let number = core.draw(Series::Refusal)?;
    let entry = Core::entry(
        Event::MediaSeen,
        format!("import/{import}/operator/{number}"),
        &subject,
        json!({
            "import": import,
            "operator": operator,
            "persons": books::persons(core, &[operator.to_owned()]),
        }),
    );
    core.in_two_writes(|| {
        core.recordd.append(&entry)?;
        Ok(core.state().imported_by(import, &operators)?)
    })
}

/// The name of a user of this machine; the number of one that has none.
fn operator(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn summary(core: &Core, head: &Head) -> Result<Summary, ActError> {
    let manifest = head.verified.get();
    let release = manifest.release();
    let mut present = 0u64;
    for file in &release.files {
        if core.shelf.object(file.sha256, ByteCount(file.size))?.is_some() {
            present = present.saturating_add(file.size);
        }
    }
    Ok(Summary {
        generation: manifest.generation(),
        name: release.name.clone(),
        version: release.version.clone(),
        counter: release.release_counter,
        signers: head.verified.signers().iter().map(ToString::to_string).collect(),
        root_version: head.trust.root_version(),
        plain_bytes: ByteCount(release.index.plain_bytes),
        stored_bytes: ByteCount(release.index.stored_bytes),
        present_bytes: ByteCount(present),
        files: release
            .files
            .iter()
            .map(|file| (file.path.as_str().to_owned(), ByteCount(file.size)))
            .collect(),
        fit: preflight::worksheet(core, release, present)?,
    })
}

/// A head's answer.
pub(crate) fn seen(import: Option<ImportId>, summary: Summary, manifest: &Manifest) -> Seen {
    let release = manifest.release();
    let expected = |sha256, length| Expected { sha256, bytes: ByteCount(length) };
    Seen {
        import,
        files: Vec::new(),
        summary,
        attestations: release
            .attestations
            .iter()
            .map(|attached| expected(attached.sha256, attached.length))
            .collect(),
        index: expected(release.index.sha256, release.index.length),
    }
}

impl Session<'_> {
    /// The user who has the volume imported.
    pub(crate) fn operator(&self) -> &str {
        &self.operator
    }

    /// The import.
    pub(crate) const fn import(&self) -> ImportId {
        self.quarantine.import
    }

    fn generation(&self) -> GenerationId {
        self.verified.get().generation()
    }

    /// Takes the next part of the index; the plan once it is whole and right.
    pub(crate) fn index(&mut self, core: &Core, part: &[u8]) -> Result<Option<Plan>, ActError> {
        if self.planned {
            return Err(ActError::Order);
        }
        let index = match self.index.take(core, part, self.verified.get().release()) {
            Ok(None) => return Ok(None),
            Ok(Some(index)) => index,
            Err(error @ ActError::Bundle(_)) => {
                let _act = core.act();
                self.refuse(&error.problem())?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let plan = self.plan(core)?;
        inventory::receive_index(&core.config.paths.quarantine().join(&plan.folder), &index)?;
        (self.planned, self.table) = (true, Some(index));
        Ok(Some(plan))
    }

    fn plan(&self, core: &Core) -> Result<Plan, ActError> {
        let folder = self.import().to_string();
        let place = core.config.paths.quarantine().join(&folder);
        for folder in [place.clone(), place.join("files"), place.join("attest")] {
            make_shared(&folder)
                .map_err(|source| ActError::Quarantine { act: "prepared", source })?;
        }
        let files = planned_files(core, self.verified.get())?;
        Ok(Plan { import: self.import(), generation: self.generation(), folder, files })
    }

    /// Finds on the shelf what a thin volume leaves out.
    pub(crate) fn fill(&mut self, core: &Core, chunks: &[u64]) -> Result<Vec<u64>, ActError> {
        if !self.planned {
            return Err(ActError::Order);
        }
        if let Some(index) = self.table.take() {
            let place = core.config.paths.quarantine().join(self.import().to_string());
            self.filler = Some(Filler::new(index, &place));
        }
        self.filler.as_mut().map_or(Err(ActError::Order), |filler| filler.fill(core, chunks))
    }

    /// A volume is copied, and others hold the rest: the import waits for them.
    pub(crate) fn parted(
        &self,
        core: &Core,
        volume: Digest,
        facts: serde_json::Value,
        problem: &Problem,
    ) -> Result<(), ActError> {
        let _act = core.act();
        let number = core.draw(Series::Refusal)?;
        core.recordd.append(&Core::entry(
            Event::MediaSeen,
            format!("import/{}/parted/{number}", self.import()),
            &[("bundle", self.generation().0), ("volume", volume)],
            facts,
        ))?;
        core.state().note_trouble(self.import(), Some(problem))?;
        Ok(())
    }

    /// Every chunk lies in quarantine: hashes the files again and makes the candidate.
    pub(crate) fn complete(
        &self,
        core: &Core,
        complete: &Complete,
    ) -> Result<GenerationId, ActError> {
        if !self.planned {
            return Err(ActError::Order);
        }
        self.received(core, complete)?;
        let adopted = adopt::adopt(core, &self.quarantine);
        // The worker evaluates what was adopted, and goes on with what a fault held up.
        core.wake();
        adopted.map(|()| self.generation())
    }

    fn received(&self, core: &Core, complete: &Complete) -> Result<(), ActError> {
        let _act = core.act();
        let import = self.import();
        if core.state().import(import)?.state != ImportState::Receiving {
            return Ok(());
        }
        // Numbered: a crash before the database took it leads to other bytes read, and a new record.
        let number = core.draw(Series::Refusal)?;
        let record = core.recordd.append(&Core::entry(
            Event::MediaSeen,
            format!("import/{import}/received/{number}"),
            &[("bundle", self.generation().0), ("volume", complete.volume)],
            json!({
                "import": import,
                "operator": self.operator,
                "persons": books::persons(core, std::slice::from_ref(&self.operator)),
                "read_bytes": complete.read_bytes,
                "resumed_chunks": complete.resumed_chunks,
            }),
        ))?;
        Ok(core.state().advance(import, ImportState::Received, record)?)
    }

    /// The volume is wrong or unreadable. One that may be read again later keeps its quarantine.
    pub(crate) fn abort(
        &self,
        core: &Core,
        problem: &Problem,
        resumable: bool,
    ) -> Result<(), ActError> {
        let _act = core.act();
        let open = core.state().import(self.import())?.state == ImportState::Receiving;
        if !open {
            // What was received is on the shelf; a volume that breaks off later changes nothing.
            return Ok(());
        }
        if !resumable {
            return self.refuse(problem);
        }
        let number = core.draw(Series::Refusal)?;
        core.recordd.append(&Core::entry(
            Event::MediaSeen,
            format!("import/{}/interrupted/{number}", self.import()),
            &[("bundle", self.generation().0)],
            json!({
                "import": self.import(),
                "operator": self.operator,
                "persons": books::persons(core, std::slice::from_ref(&self.operator)),
                "code": problem.code,
            }),
        ))?;
        core.state().note_trouble(self.import(), Some(problem))?;
        Ok(())
    }

    fn refuse(&self, problem: &Problem) -> Result<(), ActError> {
        self.quarantine.refuse(self.generation(), problem).map(drop)
    }
}

/// The files of a release, and which of them the shelf has.
pub(crate) fn planned_files(
    core: &Core,
    manifest: &Manifest,
) -> Result<Vec<PlannedFile>, ActError> {
    let planned = |file: &FileEntry| {
        let bytes = ByteCount(file.size);
        let present = core.shelf.object(file.sha256, bytes)?.is_some();
        Ok(PlannedFile { bytes, sha256: file.sha256, present })
    };
    manifest.release().files.iter().map(planned).collect()
}

/// Makes a folder that intaked writes to, and has its name last: what lies there is acknowledged, and a crash
/// may not take the folder from above it. The folder of all imports may be new as well.
fn make_shared(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    folder.ancestors().skip(1).take(2).try_for_each(sync_folder)?;
    // The group comes from the quarantine folder (set-group-id), so only the low bits are set here.
    let mode = fs::metadata(folder)?.permissions().mode();
    fs::set_permissions(folder, fs::Permissions::from_mode((mode & 0o7000) | QUARANTINE_MODE))
}
