use cloister_domain::{Digest, GenerationId, LogHead, RecordIndex};
use cloister_wire::{
    Problem,
    fit::{Part as FitPart, Term},
    intake::Summary,
    review::{Attestation, FileChange, NumberChange, Part, PartChange, Review, Signer, Step},
    supply::{ImportState, Inspected, Inspection, Package},
};

use cloister_wire::supply::Figure;

use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn generation(text: &str) -> GenerationId {
    GenerationId(digest(text))
}

fn difference_of(a: &str) -> Difference {
    let text = || a.to_owned();
    Difference {
        active: Some(Named {
            generation: generation("old"),
            name: text(),
            version: "1.0.0".to_owned(),
            counter: 1,
        }),
        parts: Part::ALL
            .into_iter()
            .zip([
                Change::Changed,
                Change::Same,
                Change::Added,
                Change::Absent,
                Change::Removed,
                Change::Changed,
                Change::Same,
                Change::Absent,
            ])
            .map(|(part, change)| PartChange {
                part,
                change,
                active_bytes: ByteCount(if change == Change::Added { 0 } else { 4096 }),
                candidate_bytes: ByteCount(if change == Change::Removed { 0 } else { 8192 }),
            })
            .collect(),
        files: vec![FileChange {
            path: text(),
            change: Change::Changed,
            active: Some(digest("a")),
            candidate: Some(digest("b")),
        }],
        files_left_out: 3,
        words: vec![WordsChange {
            name: "licences".to_owned(),
            same: vec!["MIT".to_owned()],
            added: vec![text()],
            removed: Vec::new(),
        }],
        numbers: vec![NumberChange {
            name: "policy.golden-passed-min".to_owned(),
            active: Some(4),
            candidate: None,
        }],
    }
}

fn provenance_of(a: &str) -> Provenance {
    let text = || a.to_owned();
    Provenance {
        chain: vec![Link {
            text: "manifest".to_owned(),
            version: 2,
            sha256: digest("manifest"),
            role: text(),
            needed: 1,
            signers: vec![
                Signer { key: digest("key").to_string(), person: Some(text()) },
                Signer { key: text(), person: None },
            ],
        }],
        stick: 4,
        time_floor: Some("2030-01-31T00:00:00Z".to_owned()),
        attestations: vec![Attestation {
            predicate_type: text(),
            sha256: digest("statement"),
            bytes: ByteCount(77),
        }],
        steps: vec![Step { state: ImportState::Receiving, record: RecordIndex(3) }],
    }
}

fn summary_of(a: &str) -> Summary {
    let text = || a.to_owned();
    Summary {
        generation: generation("new"),
        name: text(),
        version: text(),
        counter: 2,
        signers: vec![text()],
        root_version: 1,
        plain_bytes: ByteCount(8192),
        stored_bytes: ByteCount(4096),
        present_bytes: ByteCount(0),
        files: vec![(text(), ByteCount(8192))],
        fit: vec![Term::amount(
            "disk",
            "bytes",
            vec![FitPart { what: text(), amount: 1 }],
            0,
            Some(9),
        )],
    }
}

/// An import in which `a` stands for every name and text.
fn import(a: &str) -> Import {
    let text = || a.to_owned();
    let figure = |name: &str, passed, bound| Figure {
        name: name.to_owned(),
        candidate: 722,
        active: Some(700),
        beside: Some(generation("b")),
        bound,
        passed,
    };
    Import {
        import: ImportId(7),
        state: ImportState::Refused,
        summary: Some(summary_of(a)),
        inspection: Some(Inspection {
            tool: text(),
            accepted: 1,
            refused: 1,
            not_scanned: 0,
            files: vec![Inspected {
                file: 0,
                sha256: digest("b"),
                kind: Some(text()),
                code: Some(text()),
                scan: Scan::Off,
            }],
        }),
        figures: vec![
            figure("heldout-millibits-per-byte", false, Some(720)),
            figure(a, true, None),
        ],
        imported_by: vec![text()],
        approved_by: vec![text()],
        approvals_needed: 2,
        package: Some(Package {
            digest: digest("package"),
            policy: digest("policy"),
            evidence: digest("evidence"),
            log: LogHead { origin: text(), size: 12 },
        }),
        trials: Vec::new(),
        problem: Some(Problem::new(cloister_domain::Class::Refused, "x.y", a)),
        review: Some(Box::new(Review {
            difference: difference_of(a),
            provenance: provenance_of(a),
        })),
    }
}

fn page_of(import: &Import) -> String {
    sheet::page("Review of import 7", &all(import))
}

fn text_of(import: &Import) -> String {
    let mut out = Vec::new();
    sheet::show(&all(import), &mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[test]
fn the_page_is_the_one_that_was_read_over() {
    let page = page_of(&import("demo"));
    let kept = include_str!("page.html");
    assert!(page == kept, "the page is not the kept one (src/review/page.html); it is:\n{page}");
}

#[test]
fn whatever_a_release_calls_itself_the_page_has_no_markup_but_its_own() {
    let plain = page_of(&import("demo"));
    for hostile in [
        "<script>alert(1)</script>",
        "</td></tr></table><img src=x onerror=alert(1)>",
        "\"><a href='javascript:x'>",
        "<!--",
        "]]>&lt;",
        "</style><style>@import url(//e.vil)</style>",
        "&#60;b&#62;",
        "\u{1b}[2J\u{202e}\r\nnew line",
    ] {
        let page = page_of(&import(hostile));
        let tags = |page: &str| -> Vec<String> {
            let tags = page.split('<').skip(1);
            tags.map(|rest| rest.split('>').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(tags(&page), tags(&plain), "{hostile:?} adds no tag");
        assert_eq!(page.lines().count(), plain.lines().count(), "{hostile:?} adds no line");
        assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "{hostile:?}");
        assert!(!page.contains('\u{202e}'), "nothing turns the line around");
    }
    let page = page_of(&import("a&b'c"));
    assert!(page.contains("a&amp;b&#39;c"));
}

#[test]
fn the_page_loads_and_runs_nothing() {
    let page = page_of(&import("demo"));
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    assert!(page.contains("@page{size:A4;"));
    for active in [
        "<script", "<link", "<img", "<iframe", "<object", "<form", "src=", "href=", "url(",
        "@import", " on",
    ] {
        let markup: String = page
            .split('<')
            .skip(1)
            .filter_map(|rest| rest.split('>').next())
            .map(|tag| format!("<{tag}>"))
            .collect();
        assert!(!markup.contains(active), "{active}");
    }
    assert!(!sheet_style(&page).contains("url("));
}

fn sheet_style(page: &str) -> &str {
    page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("one style")
}

#[test]
fn on_a_terminal_each_line_is_one_whatever_the_names() {
    let plain = text_of(&import("demo"));
    let hostile = text_of(&import("\u{1b}[2J\r\nTo sign\u{202e}"));
    assert_eq!(hostile.lines().count(), plain.lines().count());
    assert!(!hostile.chars().any(|c| c.is_control() && c != '\n'));
    assert!(!hostile.contains('\u{202e}'));
    for part in ["Difference to demo 1.0.0", "chat template", "ADDED", "NOT GOOD", "To sign"] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    // The columns of a block stand below each other.
    let heads = plain.lines().find(|line| line.contains("part ")).expect("the heads");
    let model = plain.lines().find(|line| line.starts_with("  model ")).expect("the first row");
    assert_eq!(heads.find("difference"), model.find("CHANGED"));
}
