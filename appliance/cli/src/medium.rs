//! What lies on a medium, for the person who put it in.

use std::io::Write;

use cloister_domain::counted;
use cloister_wire::{
    Problem,
    intake::{Fate, ForeignName, Medium, Piece, Place, Said},
};

use crate::{Failure, say};

/// Volumes, what is done with each, and what is not looked at.
pub(crate) fn show(medium: &Medium, out: &mut dyn Write) -> Result<(), Failure> {
    let mounted = if medium.read_only { "read-only" } else { "NOT mounted read-only" };
    say!(out, "medium      {}, {mounted}", medium.filesystem);
    for piece in &medium.volumes {
        let size = piece.bytes.map_or_else(String::new, |bytes| format!(" ({bytes})"));
        say!(out, "  {}{size}: {}", name(piece.name.as_ref()), fate(piece));
    }
    for ignored in &medium.ignored {
        say!(out, "  {}: not looked at", ignored.name.expose());
    }
    let listed = u64::try_from(medium.ignored.len()).unwrap_or(u64::MAX);
    if let more @ 1.. = medium.ignored_count.saturating_sub(listed) {
        say!(out, "  and {}, not looked at", counted(more, "more name"));
    }
    for parked in &medium.parked {
        let release = parked.generation.0.short();
        say!(out, "import {:>4} waits for volumes of release {release}", parked.import);
    }
    Ok(())
}

fn name(name: Option<&ForeignName>) -> &str {
    match name {
        Some(ForeignName { name }) => name.expose(),
        None => "the device",
    }
}

/// One volume that is refused while what lies beside it is looked at.
pub(crate) fn show_refused(
    file: Option<&ForeignName>,
    problem: &Problem,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    say!(out, "refused     {}: {problem}", name(file));
    Ok(())
}

fn fate(piece: &Piece) -> String {
    let words = |place: &Place| {
        let release = place.generation.0.short();
        format!("volume {} of {} of release {release}", place.volume, place.volumes)
    };
    match &piece.fate {
        Fate::Read(place) => words(place),
        Fate::OtherRelease(place) => format!("{}, another release; left alone", words(place)),
        Fate::Trust => String::from("trust metadata"),
        Fate::Refused(problem) => format!("refused: {problem}"),
    }
}

/// What a manifest says, before anybody looked at a signature.
pub(crate) fn show_said(said: &Said, out: &mut dyn Write) -> Result<(), Failure> {
    say!(out, "says        {} {} (counter {})", said.name, said.version, said.counter);
    say!(out, "            generation {}", said.generation);
    say!(
        out,
        "            {} in {}, {} stored",
        said.plain_bytes,
        counted(said.files, "file"),
        said.stored_bytes
    );
    say!(out, "            licences {}", said.licences.join(", "));
    for key in &said.keys {
        say!(out, "            signed by key {key} (not checked)");
    }
    Ok(())
}
