//! The checkout keeps its own rules.

use cloister_tidy::{
    Finding, Tree, broken_links, codes_without_a_row, error_page, expose_sites, forbidden_words,
    layers, lengths, missing_pages, owners, pure_dependencies, stale_edits, unit_files,
    unknown_codes, unsafe_sites,
};

fn clean(findings: &[Finding]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn arrows_between_crates_point_down() {
    clean(&layers(&Tree::read().unwrap().root).unwrap());
}

#[test]
fn pure_crates_name_only_what_computes() {
    clean(&pure_dependencies(&Tree::read().unwrap().root).unwrap());
}

#[test]
fn sole_owners_are_sole() {
    clean(&owners(&Tree::read().unwrap().root).unwrap());
}

#[test]
fn files_are_short() {
    clean(&lengths(&Tree::read().unwrap()));
}

#[test]
fn nothing_is_left_unfinished() {
    clean(&forbidden_words(&Tree::read().unwrap()));
}

#[test]
fn unsafe_stands_in_listed_files_only() {
    clean(&unsafe_sites(&Tree::read().unwrap()));
}

#[test]
fn what_proofs_break_stands_where_they_look_for_it() {
    clean(&stale_edits(&Tree::read().unwrap()).unwrap());
}

#[test]
fn every_way_out_of_sensitive_is_listed() {
    let tree = Tree::read().unwrap();
    clean(&expose_sites(&tree, tree.text("tests/tidy/expose.txt").unwrap()));
}

#[test]
fn the_page_of_error_codes_is_that_of_the_sources() {
    let tree = Tree::read().unwrap();
    let same = error_page(&tree) == tree.text("docs/reference/errors.md").unwrap();
    assert!(same, "run `cargo run -p cloister-tidy > docs/reference/errors.md`");
}

#[test]
fn every_error_code_has_one_text() {
    let page = error_page(&Tree::read().unwrap());
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split(" | ").collect())
        .collect();
    assert!(rows.len() > 300, "{}", rows.len());
    for row in rows {
        let text = row.last().unwrap().trim_end_matches('|').trim();
        // A code whose text is another's in part holds what its variants say, and no empty places.
        let whole = text.split(" / ").all(|part| !part.trim().is_empty());
        assert!(row.len() == 3 && whole, "{row:?}");
    }
}

#[test]
fn every_code_that_can_be_given_is_on_the_page() {
    let tree = Tree::read().unwrap();
    clean(&codes_without_a_row(&tree, tree.text("docs/reference/errors.md").unwrap()));
}

#[test]
fn documents_name_codes_and_settings_that_exist() {
    let tree = Tree::read().unwrap();
    let text = |path| tree.text(path).unwrap();
    let (page, settings) = (text("docs/reference/errors.md"), text("docs/reference/config.md"));
    clean(&unknown_codes(&tree, page, settings));
}

#[test]
fn links_of_documents_lead_somewhere() {
    clean(&broken_links(&Tree::read().unwrap()));
}

#[test]
fn pages_that_somebody_is_sent_to_exist_and_are_packed() {
    clean(&missing_pages(&Tree::read().unwrap()));
}

#[test]
fn units_are_closed() {
    clean(&unit_files(&Tree::read().unwrap()));
}
