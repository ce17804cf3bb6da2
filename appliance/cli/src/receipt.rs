//! `records receipt` and `records verify-receipt`: records that leave the enclave, on a stick or on paper.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use cloister_daemon::files;
use cloister_domain::{Digest, counted};
use cloister_record::{
    Export, Fault, FormerKey, LogProof, Receipt, Record, SUMMARY, Signer, VerifierKey, event_name,
};
use cloister_wire::record::Event;
use qrcode::{EcLevel, QrCode, types::Color};

use crate::{Failure, print_json, records, say};

/// The largest text of receipts.
const RECEIPT_BYTES_MAX: u64 = 4 << 20;
/// The folder of receipts beside the log of an export.
const BESIDE: &str = "receipts";
/// White modules around a code (ISO/IEC 18004, section 5.3.8).
const QUIET: usize = 4;

/// Which records, and in which form.
#[derive(Debug, Args)]
pub struct ReceiptOf {
    /// The folder of an export.
    export: PathBuf,
    /// The records' positions; default: what was trusted last, with the number of the newest stick, and
    /// what was switched last.
    index: Vec<u64>,
    /// The log's verifier key, known from elsewhere.
    #[arg(long, value_name = "KEY")]
    log_key: String,
    /// Write a page of QR codes to this new file (SVG) instead of the text.
    #[arg(long, value_name = "FILE")]
    qr: Option<PathBuf>,
}

/// A receipt, and what an auditor brought along.
#[derive(Debug, Args)]
pub struct VerifyReceipt {
    /// The text, or the lines that were read off the codes.
    receipt: PathBuf,
    /// The logs that are believed, and which witnesses must have cosigned (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The log's verifier key, where the policy names no log.
    #[arg(long, value_name = "KEY")]
    log_key: Option<String>,
}

/// Writes receipts as text or as codes.
pub(crate) fn receipt(said: &ReceiptOf, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let log = records::verifier_key(&said.log_key)?;
    let export = records::read_export(&said.export)?;
    let proved = cloister_record::prove_chosen(&export, &log, |_size, entries| {
        let chosen = if said.index.is_empty() { newest(entries) } else { said.index.clone() };
        with_successions(chosen, entries)
    });
    let proved = proved.map_err(|fault| Failure::of(&fault))?;
    let text: String =
        proved.into_iter().map(|(proof, record)| Receipt::new(proof, record).to_text()).collect();
    let Some(page) = &said.qr else {
        return write!(out, "{text}").map_err(|_detail| Failure::output());
    };
    let parts = cloister_record::parts(&text);
    let svg = svg(&parts).ok_or_else(|| Failure::usage("a part does not fit a code"))?;
    fs::write(page, svg).map_err(|_detail| Failure::output())?;
    if json {
        return print_json(&serde_json::json!({ "codes": parts.len(), "page": page }), out);
    }
    let codes = counted(u64::try_from(parts.len()).unwrap_or(u64::MAX), "code");
    say!(out, "wrote {codes} to {}", page.display());
    Ok(())
}

/// The newest record of trust and the newest outcome.
fn newest(entries: &[&[u8]]) -> Vec<u64> {
    let (mut trust, mut outcome) = (None, None);
    for (seq, entry) in (0..).zip(entries) {
        match Record::parse(entry).map(|record| record.event) {
            Ok(Event::TrustUpdate) => trust = Some(seq),
            Ok(Event::ActivationOutcome) => outcome = Some(seq),
            _ => {}
        }
    }
    let found: Vec<u64> = trust.into_iter().chain(outcome).collect();
    if found.is_empty() && !entries.is_empty() { vec![0] } else { found }
}

/// `chosen`, and the records with which another key took over from the one that signed the first of them:
/// whoever knows the last key alone is shown whose the others were.
fn with_successions(mut chosen: Vec<u64>, entries: &[&[u8]]) -> Vec<u64> {
    let first = chosen.iter().min().copied().unwrap_or(u64::MAX);
    let later = successions(entries).into_iter().filter(|seq| *seq > first);
    for seq in later {
        if !chosen.contains(&seq) {
            chosen.push(seq);
        }
    }
    chosen
}

/// Positions of the records with which another key took over.
fn successions(entries: &[&[u8]]) -> Vec<u64> {
    let is_one = |entry: &[u8]| {
        Record::parse(entry).is_ok_and(|record| record.event == Event::KeySuccession)
    };
    (0u64..).zip(entries).filter(|(_, entry)| is_one(entry)).map(|(seq, _)| seq).collect()
}

/// Checks receipts, as a text or as the lines of its codes.
pub(crate) fn verify(said: &VerifyReceipt, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let policy = records::policy(&said.policy)?;
    let text = crate::read(&said.receipt, RECEIPT_BYTES_MAX, "the receipt")?;
    let text = String::from_utf8(text).map_err(|_bytes| Failure::usage("a receipt is text"))?;
    let text = if text.starts_with("cloister-receipt/") {
        cloister_record::join_parts(&text).map_err(|error| Failure::of(&error))?
    } else {
        text
    };
    let receipts = Receipt::parse_all(&text).map_err(|error| Failure::of(&error))?;
    let mut shown = Vec::new();
    // All receipts are asked for each of a log's keys before the one of now, so once for each log.
    let mut formers: BTreeMap<String, Vec<FormerKey>> = BTreeMap::new();
    for receipt in &receipts {
        let log = records::log_of(receipt.checkpoint(), &policy, said.log_key.as_deref())?;
        let former = formers
            .entry(log.to_string())
            .or_insert_with(|| Receipt::former_keys(&receipts, &log, &policy));
        let checked = receipt.check_among(&log, former, &policy);
        let (record, witnessed) = checked
            .map_err(|error| Failure::verification(format!("do not believe it: {error}")))?;
        let about = record.subject.iter();
        let about: BTreeMap<&str, Digest> =
            about.map(|(name, sha256)| (name.as_str(), *sha256)).collect();
        let about = serde_json::json!(about);
        let facts = match record.signer {
            Signer::Host { facts, .. } => facts,
            Signer::Person(_) | Signer::Summary(_) => serde_json::Map::new(),
        };
        shown.push(serde_json::json!({
            "log": log.name(),
            "index": receipt.index(),
            "size": witnessed.checkpoint.size,
            "event": event_name(record.event),
            "about": about,
            "facts": facts,
            "witnesses": witnessed.by.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        }));
    }
    if json {
        return print_json(&serde_json::json!({ "receipts": shown }), out);
    }
    for one in shown {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        say!(out, "good        record {} of {} of {}", one["index"], one["size"], text("log"));
        say!(out, "            {} {}", text("event"), one["facts"]);
        for (name, sha256) in one["about"].as_object().into_iter().flatten() {
            say!(
                out,
                "            {} {}",
                name.escape_default(),
                sha256.as_str().unwrap_or_default()
            );
        }
        say!(out, "            witnesses {}", one["witnesses"]);
    }
    Ok(())
}

/// Writes to `receipts/` of an export what leaves the enclave of each promotion: a receipt, and the summary
/// as other tools read it. How many receipts there are.
pub(crate) fn write_beside(
    folder: &Path,
    export: &Export,
    log: &VerifierKey,
) -> Result<u64, Failure> {
    let (files, target) = (of_promotions(export, log)?, folder.join(BESIDE));
    for (name, bytes) in &files {
        fs::create_dir_all(&target).map_err(|_detail| Failure::output())?;
        files::write_atomic(&target.join(name), bytes, 0o644)
            .map_err(|error| Failure::of(&error))?;
    }
    let receipts = files.keys().filter(|name| name.ends_with(".receipt")).count();
    Ok(u64::try_from(receipts).unwrap_or(u64::MAX))
}

/// What is wrong with the receipts that lie beside the log of a good export, if any do.
pub(crate) fn check_beside(
    folder: &Path,
    export: &Export,
    log: &VerifierKey,
) -> Result<Vec<Fault>, Failure> {
    let target = folder.join(BESIDE);
    if !target.exists() {
        return Ok(Vec::new());
    }
    let unread = |_detail| Failure::usage("the export cannot be read");
    let (mut due, mut faults) = (of_promotions(export, log)?, Vec::new());
    for entry in fs::read_dir(&target).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let name = entry.file_name().into_string().unwrap_or_default();
        match due.remove(&name) {
            None => faults.push(Fault::Extra),
            Some(bytes) => {
                // What is larger than all that the log gives is none of it.
                let found = files::read_limited(&entry.path(), bytes.len() as u64);
                if found.ok() != Some(bytes) {
                    faults.push(Fault::Receipt { name });
                }
            }
        }
    }
    faults.extend(due.into_keys().map(|name| Fault::Receipt { name }));
    Ok(faults)
}

/// The files that leave the enclave of each promotion, by their names.
fn of_promotions(export: &Export, log: &VerifierKey) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut after = 0;
    let proved = cloister_record::prove_chosen(export, log, |_size, entries| {
        let promotions = promotions(entries);
        after = promotions.len();
        promotions.into_iter().chain(successions(entries)).collect()
    });
    let mut proved: Vec<(LogProof, &[u8])> = proved.map_err(|fault| Failure::of(&fault))?;
    let successions: Vec<(u64, String)> = proved
        .split_off(after)
        .into_iter()
        .map(|(proof, record)| (proof.index, Receipt::new(proof, record).to_text()))
        .collect();
    let mut files = BTreeMap::new();
    for (proof, record) in proved {
        let index = proof.index;
        let parsed = Record::parse(record).map_err(|error| Failure::of(&error))?;
        if parsed.event == Event::VerificationSummary {
            // Named like the outcome that it is for.
            files.insert(format!("{}.vsa.json", index + 1), record.to_vec());
        } else {
            let mut text = Receipt::new(proof, record).to_text();
            let later = successions.iter().filter(|(seq, _)| *seq > index);
            later.for_each(|(_, succession)| text += succession);
            files.insert(format!("{index}.receipt"), text.into_bytes());
        }
    }
    Ok(files)
}

/// Positions of outcomes that promoted something, and of the summaries before them.
fn promotions(entries: &[&[u8]]) -> Vec<u64> {
    let mut found = Vec::new();
    for (seq, entry) in (0u64..).zip(entries) {
        let Ok(record) = Record::parse(entry) else { continue };
        let Signer::Host { facts, .. } = &record.signer else { continue };
        let promoted = facts.get("outcome").is_some_and(|outcome| outcome == "promoted");
        if record.event == Event::ActivationOutcome && promoted {
            found.extend(record.about(SUMMARY).and_then(|_digest| seq.checked_sub(1)));
            found.push(seq);
        }
    }
    found
}

/// The code of one part: its side in modules, and which of them are dark.
fn code(part: &str) -> Option<(usize, Vec<bool>)> {
    let code = QrCode::with_error_correction_level(part.as_bytes(), EcLevel::M).ok()?;
    let dark = code.to_colors().into_iter().map(|colour| colour == Color::Dark).collect();
    Some((code.width(), dark))
}

/// A page with the codes of all parts, two a row, each with its number.
fn svg(parts: &[String]) -> Option<String> {
    use std::fmt::Write as _;
    let codes: Vec<(usize, Vec<bool>)> =
        parts.iter().map(|part| code(part)).collect::<Option<_>>()?;
    let side = codes.iter().map(|(width, _)| width + 2 * QUIET).max().unwrap_or(0);
    let height = (side + 6) * codes.len().div_ceil(2);
    let width = 2 * side;
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{width}v{height}H0z\"/>\n"
    );
    for (number, (width, dark)) in codes.iter().enumerate() {
        let (left, top) = ((number % 2) * side + QUIET, (number / 2) * (side + 6) + QUIET);
        let mut path = String::new();
        for (place, _dark) in dark.iter().enumerate().filter(|(_, dark)| **dark) {
            let (x, y) = (left + place % width, top + place / width);
            write!(path, "M{x} {y}h1v1h-1z").ok()?;
        }
        let (x, y) = (left, top + side - QUIET + 3);
        writeln!(
            page,
            "<path d=\"{path}\"/><text x=\"{x}\" y=\"{y}\" font-size=\"4\">{} of {}</text>",
            number + 1,
            codes.len()
        )
        .ok()?;
    }
    Some(page + "</svg>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decoder of others reads off a code, four dots a module.
    fn decoded(part: &str) -> String {
        let (width, dark) = code(part).expect("it fits");
        let side = (width + 2 * QUIET) * 4;
        let is_dark = |x: usize, y: usize| {
            let (x, y) = ((x / 4).checked_sub(QUIET), (y / 4).checked_sub(QUIET));
            match (x, y) {
                (Some(x), Some(y)) if x < width && y < width => dark[y * width + x],
                _ => false,
            }
        };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| {
            if is_dark(x, y) { 0 } else { 255 }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "one code");
        grids[0].decode().expect("read").1
    }

    #[test]
    fn codes_are_read_by_a_decoder_of_others() {
        let text = "c2sp.org/tlog-proof@v1\n\u{2014} a line\n".repeat(40);
        let parts = cloister_record::parts(&text);
        assert!(parts.len() > 2);
        let read: Vec<String> = parts.iter().map(|part| decoded(part)).collect();
        assert_eq!(cloister_record::join_parts(&read.join("\n")), Ok(text));
        let page = svg(&parts).expect("they fit");
        assert_eq!(page.matches("<text").count(), parts.len());
    }
}
