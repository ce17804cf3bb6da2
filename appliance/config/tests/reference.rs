//! `docs/reference/config.md` is what the definitions generate.

use std::path::Path;

#[test]
fn the_reference_page_equals_the_generated_text() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/config.md");
    let generated = cloister_config::reference_page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &generated).expect("the page can be written");
    }
    #[expect(clippy::disallowed_methods, reason = "a page of this tree")]
    let page = std::fs::read_to_string(&path).expect("the page is there");
    assert_eq!(page, generated, "write it anew with UPDATE_REFERENCE=1");
}
