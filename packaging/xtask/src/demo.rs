//! `./x demo`: the whole life of an update, with the real daemons, told as a story.

mod audit;
mod export;
mod sticks;
mod trials;
mod witness;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_domain::counted;
use cloister_stage::{
    Options, Unit, ask,
    facility::{APPROVERS, Facility, Outcome, import_number},
    journal::{self, OwnMounts},
    outside, programs,
    release::{Recipe, add_fresh_bytes, checkout, read_file},
    stick::Stick,
    tamper,
};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};
use serde_json::Value;

use crate::{
    interrupt::Interrupts,
    prove::kills::{Breach, Log},
    story::{Story, figure},
};

/// What both releases are asked; their documents differ in the answer.
const QUESTION: &str = "Where is the assembly point?";
/// Words of a prompt, of a document and of a file's name, none of which the journal may hold.
const CANARIES: [&str; 3] = ["canary-heliotrope", "canary-vermilion", "canary-cerulean"];
/// What is asked of the facility's own documents. The small model answers this one from its passage;
/// many others it does not.
const OWN_QUESTION: &str = "Where is the ladder store?";
/// How often a kill that came too late for a switch is tried again.
const SWITCHES_MAX: u32 = 5;
/// What the journal must hold: the code of a refusal that the story caused.
const CONTROL: &str = "bundle.digest";

/// Plays the story; with `stay`, leaves the appliance running until interrupted.
///
/// # Errors
/// When a step does not come out as told, or the process is asked to end before the story has.
pub(crate) fn run(stay: bool, out: &mut dyn Write) -> Result<()> {
    on_scratch_root(out, |folder, story| play(folder, stay, story))
}

/// Plays the same acts and writes what an auditor takes away to `out_folder`, with the public keys.
///
/// # Errors
/// When `out_folder` is there and not an empty folder, and as [`run`].
pub(crate) fn export(out_folder: &Path, out: &mut dyn Write) -> Result<()> {
    export::must_be_new(out_folder)?;
    on_scratch_root(out, |scratch, story| {
        let (demo, _key) = act(scratch, story)?;
        export::hand_out(&demo, out_folder, story)?;
        story.end("The export is complete; README.txt in it says how it is read.")
    })
}

/// Plays on a scratch root that is gone afterwards, unless the story does not come out as told.
fn on_scratch_root(
    out: &mut dyn Write,
    play: impl FnOnce(&Path, &mut Story<'_>) -> Result<()>,
) -> Result<()> {
    let interrupts = Interrupts::hear()?;
    let folder = std::env::temp_dir().join(format!("cloister-demo-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let mounts = OwnMounts::enter(&folder);
    let mut story = Story::new(out, &interrupts);
    // What it returns with has stopped every daemon.
    let played = play(&folder, &mut story);
    drop(mounts);
    match played {
        Ok(()) => Ok(fs::remove_dir_all(&folder)?),
        Err(_broken_off) if interrupts.was_asked() => {
            fs::remove_dir_all(&folder)?;
            bail!("interrupted; every daemon has ended, and {} is removed", folder.display())
        }
        Err(error) => {
            story.tell(&format!("the scratch root is kept: {}", folder.display()))?;
            Err(error)
        }
    }
}

/// The facility with everything that the story needs on the way.
struct Demo {
    facility: Facility,
    embedding: Option<PathBuf>,
    python: PathBuf,
    first: PathBuf,
    second: PathBuf,
}

fn play(folder: &Path, stay: bool, story: &mut Story<'_>) -> Result<()> {
    let (mut demo, key) = act(folder, story)?;
    if stay {
        return remain(&demo, &key, story);
    }
    journal_is_silent(&mut demo, story)?;
    story.end("The demo is complete; nothing is left running.")
}

/// What an auditor finds in the log, and how it is audited; with the file of a reader's API key.
fn act(folder: &Path, story: &mut Story<'_>) -> Result<(Demo, PathBuf)> {
    let mut demo = mint(folder, story)?;
    import(&mut demo, story)?;
    let key = serve(&demo, story)?;
    switch(&demo, &key, story)?;
    trials::failing_release(&demo, &key, story)?;
    refuse(&demo, story)?;
    crash(&demo, &key, story)?;
    sticks::play(&demo.facility, demo.embedding.as_deref(), story)?;
    audit::play(&demo, story)?;
    witness::play(&demo, story)?;
    Ok((demo, key))
}

fn mint(folder: &Path, story: &mut Story<'_>) -> Result<Demo> {
    story.chapter("The connected side mints keys, a trust root and two releases")?;
    // An engine that does not come back is given up soon; the story does not wait twenty seconds.
    let extra = "\n[update]\nengine_away_s = 2\n".to_owned();
    let options = Options { journal: true, extra, ..Options::default() };
    let facility = Facility::found(folder, &options)?;
    witness::appoint(&facility)?;
    story.tell(
        "keys for three root officers (two must sign), a publisher, an importer, two approvers",
    )?;
    let embedding = match outside::minilm() {
        Ok(folder) => Some(folder),
        Err(error) => {
            story.tell(&format!(
                "no embedding model can be had, so search goes by words alone: {error}"
            ))?;
            None
        }
    };
    let first_tree = Recipe::demo("v1", embedding.clone()).lay_out(&facility, "v1")?;
    let second_tree = Recipe::demo("v2", embedding.clone()).lay_out(&facility, "v2")?;
    let first = facility.publish(&first_tree, "1.0.0", 1)?;
    let second = facility.publish(&second_tree, "2.0.0", 2)?;
    for (name, volume) in [("v1", &first), ("v2", &second)] {
        let bytes = cloister_domain::ByteCount(fs::metadata(volume)?.len());
        story.tell(&format!("{name}: {bytes}, sha256 {}", digest(volume)?))?;
    }
    // Not of the version above: its volume must stay as the importer admitted it.
    let once = digest(&facility.sign("publisher", &first_tree, "0.9.0", 1)?)?;
    let twice = digest(&facility.sign("publisher", &first_tree, "0.9.0", 1)?)?;
    ensure!(once == twice, "building twice gave different bytes");
    story.tell("building the same release twice gave identical bytes")?;
    let python = outside::python()?;
    Ok(Demo { facility, embedding, python, first, second })
}

fn import(demo: &mut Demo, story: &mut Story<'_>) -> Result<()> {
    story.chapter("The appliance starts, and officers enrol the trust root")?;
    demo.facility.stage.start()?;
    let facility = &demo.facility;
    story.tell("seven processes, each with its own socket")?;
    let place =
        if facility.stage.has_journal() { "a private journald" } else { "JSON lines on stderr" };
    story.tell(&format!("they log to {place}"))?;
    let enrolled = facility.enrol()?;
    story.tell(&format!(
        "the root file, sha256 {}, is record 0",
        text(&enrolled, "/enrolled/root")
    ))?;
    story.tell("in words, which the officers compare with the paper that came by another way:")?;
    let words: Vec<&str> = text(&enrolled, "/words").split(' ').collect();
    for line in words.chunks(8) {
        story.tell(&format!("  {}", line.join(" ")))?;
    }

    story.chapter("A stick is plugged in; the import is killed in the middle and goes on")?;
    let stick = Stick::plug_in(facility.home(), "stick-1", std::slice::from_ref(&demo.first))?;
    story.tell(&format!("the stick: {}", stick.way().words()))?;
    interrupt(facility, stick.folder())?;
    story.tell(
        "intaked, which reads the stick, was killed while it copied; the same command again:",
    )?;
    let outcome = facility.import(stick.folder())?;
    let seen = outcome.seen()?;
    story.tell(&format!(
        "the release is signed by {}, whom the root of version {} knows",
        list(&seen["signers"]),
        seen["root_version"]
    ))?;
    let import = outcome.done()?.clone();
    story.tell(&format!(
        "it came in whole, as generation {}",
        text(&import, "/summary/generation")
    ))?;

    story.chapter("What the idle engine measured of the candidate, and the bounds")?;
    tell_figures(&import, story)?;

    story.chapter("One approver alone is refused; two are enough")?;
    let number = import_number(&import)?;
    facility.approve_as(APPROVERS[0], &number)?.done()?;
    refused(&facility.cloister(&["activate", &number])?, "with one of two approvals", story)?;
    facility.approve_as(APPROVERS[1], &number)?.done()?;
    let switched = facility.cloister(&["activate", &number])?;
    tell_switch(switched.done()?, story)
}

/// Starts an import and kills intaked once a tenth is copied.
fn interrupt(facility: &Facility, path: &Path) -> Result<()> {
    let mut child = Command::new(programs()?.join("cloister"))
        .arg("--config")
        .arg(facility.stage.config_path())
        .args(["--json", "import"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("no output")?;
    for line in BufReader::new(stdout).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let bytes =
            |name: &str| event.pointer(&format!("/progress/{name}")).and_then(Value::as_u64);
        if let (Some(done), Some(total)) = (bytes("done_bytes"), bytes("total_bytes"))
            && done * 10 > total
        {
            facility.stage.kill(Unit::Intaked)?;
            break;
        }
    }
    child.wait()?;
    Ok(())
}

fn serve(demo: &Demo, story: &mut Story<'_>) -> Result<PathBuf> {
    let facility = &demo.facility;
    story.chapter("The official openai client asks")?;
    let key = facility.api_key("reader", &["open"])?;
    let said = demo.client(&key, &["models"])?;
    story.tell(&format!("models: {}", list(&said["models"])))?;
    let said = demo.client(&key, &["stream", "Tell me about a pump.", "--max-tokens", "24"])?;
    story
        .tell(&format!("an answer came in {} pieces, {} tokens", said["pieces"], said["tokens"]))?;
    if demo.embedding.is_some() {
        let said = demo.client(&key, &["embed", "a cat", "a kitten"])?;
        story.tell(&format!("embeddings of width {}", said["width"]))?;
    }
    let said = demo.client(&key, &["ask", QUESTION])?;
    story.tell(&format!("\"{QUESTION}\" -> {}", said["answer"]))?;
    let id = text(&said, "/citations/0/id").to_owned();
    story.tell(&format!("it cites passage {id} (label {})", text(&said, "/citations/0/label")))?;
    let opened = demo.client(&key, &["cite", &id])?;
    story.tell(&format!(
        "the passage can be opened: {} bytes of text",
        text(&opened, "/text").len()
    ))?;
    let said = demo.client(&key, &["ask", "Which wine goes with zebra pralines?"])?;
    ensure!(said["evidence"] == false, "an answer without evidence: {said}");
    story.tell(&format!("asked about what no document holds -> {}", text(&said, "/answer")))?;
    let said = demo.client(&key, &["ask", "How much does the hall crane lift?"])?;
    let labels = said["citations"].as_array().context("no citations")?;
    ensure!(
        labels.iter().all(|citation| citation["label"] == "open"),
        "a restricted passage was shown"
    );
    story.tell("a reader without the label gets no hit in the restricted documents")?;

    own_documents(demo, &key, story)?;
    Ok(key)
}

fn own_documents(demo: &Demo, key: &Path, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story.chapter("The facility adds and deletes its own documents")?;
    let own = checkout().join("tests/fixtures/demo/facility");
    let added = facility.cloister(&["corpus", "add", utf8(&own)?, "--label", "open"])?;
    added.done()?;
    story.tell(&format!("{} added", counted(added.said.len() as u64, "document")))?;
    let said = demo.client(key, &["ask", OWN_QUESTION])?;
    story.tell(&format!("\"{OWN_QUESTION}\" -> {}", said["answer"]))?;
    let found = said["citations"].as_array().context("no citations")?;
    // The passage that the answer names, or else the best one that was found.
    let cited = found.iter().find(|passage| passage["cited"] == true).or(found.first());
    let cited = cited.context("nothing was found in the facility's own documents")?;
    let opened = demo.client(key, &["cite", text(cited, "/id")])?;
    story.tell(&format!(
        "from {} (label {}): \"{}\"",
        text(cited, "/name"),
        text(cited, "/label"),
        sentences(text(&opened, "/text"))
    ))?;
    let deleted = facility.cloister(&["corpus", "delete", text(cited, "/document")])?;
    let receipt = deleted.done()?;
    story.tell(&format!(
        "that document was deleted: receipt {}, {}",
        text(receipt, "/removed"),
        counted(receipt["chunks"].as_u64().unwrap_or_default(), "passage")
    ))
}

/// A passage on one line, without its headings.
fn sentences(passage: &str) -> String {
    let lines = passage.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

fn switch(demo: &Demo, key: &Path, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story
        .chapter("The second release is promoted while the first serves; then back; then forth")?;
    let mut asking = demo.command(key, &["loop", QUESTION])?;
    let mut child = asking.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stick = Stick::plug_in(facility.home(), "stick-2", std::slice::from_ref(&demo.second))?;
    let outcome = facility.import(stick.folder())?;
    let import = outcome.done()?.clone();
    tell_figures(&import, story)?;
    let number = import_number(&import)?;
    trials::shadow(facility, &number, story)?;
    facility.approve(&number)?;
    trials::canary(demo, key, &number, story)?;
    tell_switch(facility.cloister(&["activate", &number])?.done()?, story)?;
    let said = demo.client(key, &["ask", QUESTION])?;
    story.tell(&format!("now: {}", said["answer"]))?;
    tell_switch(facility.cloister(&["rollback"])?.done()?, story)?;
    let said = demo.client(key, &["ask", QUESTION])?;
    story.tell(&format!("rolled back: {}", said["answer"]))?;
    tell_switch(facility.cloister(&["activate", &number])?.done()?, story)?;
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "a request failed during the switches");
    let mut answers = std::collections::BTreeMap::<String, (u64, String)>::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let said: Value = serde_json::from_str(line)?;
        let answer = text(&said, "/answer").to_owned();
        let entry =
            answers.entry(text(&said, "/generation").to_owned()).or_insert((0, answer.clone()));
        ensure!(entry.1 == answer, "one release gave two answers: {} and {answer}", entry.1);
        entry.0 += 1;
    }
    for (generation, (count, _)) in &answers {
        let short: String = generation.chars().take(12).collect();
        story.tell(&format!(
            "asked all the while: {count} answers came from {short}, each of them its own; none failed"
        ))?;
    }
    Ok(())
}

fn refuse(demo: &Demo, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story.chapter("What must not come in is refused and recorded")?;
    let third = Recipe::demo("v2", None).lay_out(facility, "third")?;
    // Chunks that the shelf has already are not read again, so the altered one must be new.
    add_fresh_bytes(&third)?;
    let altered = facility.home().join("altered.clb");
    tamper::flip_a_bit(&facility.publish(&third, "3.0.0", 3)?, &altered, 64 << 10)?;
    refused(&facility.import(&altered)?, "a tampered chunk", story)?;
    let foreign = facility.sign("stranger", &third, "3.0.1", 4)?;
    refused(&facility.import(&foreign)?, "a wrong signer", story)?;
    refused(&facility.import(&demo.first)?, "the first release again", story)?;
    let link = facility.home().join("link.clb");
    tamper::symlink_inside(&demo.second, &link)?;
    refused(&facility.import(&link)?, "an archive with a symbolic link", story)?;
    let good = Recipe::demo("v2", demo.embedding.clone());
    let noisy = facility.home().join("noisy");
    let made = Command::new(programs()?.join("cloister-tune"))
        .args(["noise", "--model", utf8(&good.model)?, "--out", utf8(&noisy)?])
        .args(["--amplitude", "0.3", "--seed", "1"])
        .status()?;
    ensure!(made.success(), "cloister-tune failed");
    let tree = Recipe { model: noisy, ..good }.lay_out(facility, "worse")?;
    let worse = facility.publish(&tree, "3.0.2", 5)?;
    let outcome = facility.import(&worse)?;
    refused(&outcome, "a worse model", story)
}

fn crash(demo: &Demo, key: &Path, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story.chapter(
        "The box fails: every daemon is killed during a switch, and again while serving",
    )?;
    kill_during_a_switch(facility, story)?;
    let said = demo.client(key, &["ask", QUESTION])?;
    story.tell(&format!("it answers: {}", said["answer"]))?;
    let before = facility.active()?;
    facility.stage.kill_all()?;
    let log = settled(facility, story)?;
    ensure!(facility.active()? == before, "the active release changed by a crash while serving");
    let said = demo.client(key, &["ask", QUESTION])?;
    story.tell(&format!("killed while serving: it answers again: {}", said["answer"]))?;
    story.tell(&format!("the log has {} intents, each with one outcome", log.intents()))
}

/// Kills every daemon once the log holds an intent that has no outcome yet.
fn kill_during_a_switch(facility: &Facility, story: &mut Story<'_>) -> Result<()> {
    for _try in 0..SWITCHES_MAX {
        let before = facility.active()?;
        // A rollback writes what was asked for, then the intent, and last the outcome.
        let asked = head(facility)?.size + 1;
        let mut back = facility.begin(&["rollback"])?;
        let mut size = asked;
        while size <= asked && back.try_wait()?.is_none() {
            size = head(facility)?.size;
        }
        facility.stage.kill_all()?;
        back.wait()?;
        let log = settled(facility, story)?;
        if size != asked + 1 {
            story.tell("the switch was over before the kill; once more")?;
            continue;
        }
        let outcome = log.last_outcome().context("no switch is in the log")?;
        let moved = facility.active()? != before;
        ensure!(
            moved == (outcome == "promoted"),
            "the log says {outcome}, and the shelf says otherwise"
        );
        story.tell("killed during a switch: its intent stood in the log, without an outcome")?;
        let which = if moved { "new" } else { "old" };
        return story.tell(&format!(
            "back again: the outcome is recorded as {outcome}; the {which} release is active, and whole"
        ));
    }
    bail!("every switch was over before the kill")
}

fn journal_is_silent(demo: &mut Demo, story: &mut Story<'_>) -> Result<()> {
    story.chapter("The journal holds nothing that people wrote")?;
    let folder = demo.facility.home().join(CANARIES[2]);
    fs::create_dir(&folder)?;
    let text = format!("The {} is kept in the blue cupboard of room 9.\n", CANARIES[1]);
    fs::write(folder.join(format!("{}.md", CANARIES[2])), text)?;
    demo.facility.cloister(&["corpus", "add", utf8(&folder)?, "--label", "open"])?.done()?;
    let key = demo.facility.api_key("canary", &["open"])?;
    demo.client(&key, &["ask", &format!("Where is the {} kept? {}", CANARIES[1], CANARIES[0])])?;
    let absent = demo.facility.import(&folder.join("absent"))?;
    ensure!(absent.exit != 0, "a file that is not there was imported");
    demo.facility.stage.stop()?;
    let logged = journal::logged(demo.facility.stage.root())?.to_lowercase();
    ensure!(logged.contains(CONTROL), "the control was not logged, so the search proves nothing");
    for canary in CANARIES {
        ensure!(!logged.contains(canary), "{canary} was logged");
    }
    story.tell(&format!(
        "{} lines searched, at level debug: a refusal's code is there; the words of a prompt, of a document and of a file's name are not",
        logged.lines().count()
    ))
}

fn remain(demo: &Demo, key: &Path, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    let config = facility.stage.config_path();
    let cloister = programs()?.join("cloister");
    story.tell("")?;
    story.tell(&format!("API       http://{}/v1", facility.address()?))?;
    story.tell(&format!("key file  {}", key.display()))?;
    story.tell(&format!("log key   {}", head(facility)?.log_key))?;
    story.tell(&format!("root file {}", facility.root_file().display()))?;
    story.tell(&format!("a Python with the openai package: {}", demo.python.display()))?;
    story.tell("in another shell:")?;
    let line = format!("alias cloister='{} --config {}'", cloister.display(), config.display());
    story.tell(&format!("  {line}"))?;
    story.tell(&format!("  export CLOISTER_KEY_FILE='{}'", key.display()))?;
    story.tell("then try:")?;
    for words in ["status", &format!("ask {QUESTION:?}"), "rollback"] {
        story.tell(&format!("  cloister {words}"))?;
    }
    story.end("The appliance stays until you press Ctrl-C.")?;
    story.interrupts().wait();
    Ok(())
}

impl Demo {
    fn command(&self, key: &Path, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.python);
        command
            .arg(checkout().join("tests/clients/openai_client.py"))
            .arg(format!("http://{}/v1", self.facility.address()?))
            .arg(key)
            .args(words);
        Ok(command)
    }

    /// One action of the official client, which must be answered.
    fn client(&self, key: &Path, words: &[&str]) -> Result<Value> {
        let output = self.command(key, words)?.stdin(Stdio::null()).output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success(),
            "the client was refused: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_str(said.lines().last().context("the client said nothing")?)?)
    }
}

fn tell_figures(import: &Value, story: &mut Story<'_>) -> Result<()> {
    for measured in import["figures"].as_array().context("no figures")? {
        let (title, write) = figure(text(measured, "/name"));
        let value = |name: &str| measured[name].as_i64().map(write);
        let candidate = value("candidate").context("a figure without a value")?;
        let beside = [("active", "the active one"), ("bound", "bound")].map(|(name, words)| {
            value(name).map_or_else(String::new, |value| format!("{words} {value}"))
        });
        let [active, bound] = beside;
        let line = format!("{title:<27} {candidate:>19}   {bound:<26} {active}");
        story.tell(line.trim_end())?;
    }
    Ok(())
}

fn tell_switch(answer: &Value, story: &mut Story<'_>) -> Result<()> {
    let switched = &answer["switched"];
    let short: String = text(switched, "/generation").chars().take(12).collect();
    let ms = switched["microseconds"].as_u64().unwrap_or(0) / 1000;
    story
        .tell(&format!("active is now {short}: one rename, {ms} ms, record {}", switched["record"]))
}

fn refused(outcome: &Outcome, what: &str, story: &mut Story<'_>) -> Result<()> {
    ensure!(outcome.exit != 0 && !outcome.code().is_empty(), "{what} was not refused: {outcome:?}");
    story.tell(&format!("{what}: refused, {}", outcome.code()))
}

/// Waits until the appliance answers and every intent has its outcome; what the log tells of them.
fn settled(facility: &Facility, story: &Story<'_>) -> Result<Log> {
    let mut log = Log::default();
    for _try in 0..300 {
        story.interrupts().go_on()?;
        let answers = facility.cloister(&["status"])?.exit == 0;
        let read = match log.read(facility) {
            Err(breach) if breach.is::<Breach>() => return Err(breach),
            read => read.is_ok(),
        };
        if answers && read && !log.is_open() {
            return Ok(log);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bail!("the appliance did not come back")
}

/// The state of the log.
struct Head {
    size: u64,
    root: cloister_domain::Digest,
    log_key: String,
}

fn head(facility: &Facility) -> Result<Head> {
    let reply: Reply<Answer> = ask(&facility.stage.socket(Unit::Recordd), &Request::Head)?;
    let Answer::Head { size, log_key, root, .. } = reply? else { bail!("recordd gave no head") };
    Ok(Head { size, root, log_key })
}

/// The texts of a list, as people write one.
fn list(value: &Value) -> String {
    let texts: Vec<&str> =
        value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(", ")
}

fn digest(path: &Path) -> Result<String> {
    Ok(cloister_domain::Digest::of(&read_file(path)?).to_string())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}
