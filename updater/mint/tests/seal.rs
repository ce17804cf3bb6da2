//! A sealed file holds what was sealed, for whom it was sealed.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]

use std::{
    fs,
    io::{Cursor, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use clap::Parser as _;
use cloister_domain::Secret;
use cloister_mint::{cli, volume::trust_volume};
use cloister_sealed::{Identity, Opened, is_sealed};

fn mint(words: &[&str]) -> anyhow::Result<String> {
    let mut said = Vec::new();
    let words = ["cloister-mint"].iter().chain(words);
    cli::run(cli::Arguments::try_parse_from(words)?, &mut said)?;
    Ok(String::from_utf8(said)?)
}

/// Makes a key and says whom to seal for.
fn unsealing(path: &Path) -> String {
    mint(&["unsealing", "--out", path.to_str().unwrap()]).unwrap().trim().to_owned()
}

fn opened(file: &[u8], key: &Path) -> Option<Vec<u8>> {
    let identity = Identity::from_file(&Secret::new(fs::read(key).unwrap())).unwrap();
    let mut plain = Vec::new();
    Opened::new(Cursor::new(file), &[identity]).ok()?.read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[test]
fn volumes_are_sealed_in_their_places_for_several_appliances() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let keys = ["one", "two", "other"].map(path);
    let recipients = [0, 1, 2].map(|number| unsealing(&keys[number]));
    assert_eq!(fs::metadata(&keys[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let content: Vec<u8> = (0..150_000u32).flat_map(u32::to_le_bytes).collect();
    let plain = trust_volume(&content).unwrap();
    let (first, second) = (path("a.clb"), path("b.clb"));
    for volume in [&first, &second] {
        fs::write(volume, &plain).unwrap();
    }
    let (a, b) = (first.to_str().unwrap(), second.to_str().unwrap());
    mint(&["seal", "--to", &recipients[0], "--to", &recipients[1], a, b]).unwrap();
    let (one, two) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert!(is_sealed(&one) && one != two, "each seal draws its own key");
    for file in [&one, &two] {
        assert_eq!(opened(file, &keys[0]).unwrap(), plain);
        assert_eq!(opened(file, &keys[1]).unwrap(), plain);
        assert_eq!(opened(file, &keys[2]), None);
    }
    assert!(mint(&["seal", "--to", &recipients[0], a]).is_err(), "sealed already");
    // Nothing can be said of what is inside, and that is said.
    let refusal = mint(&["inspect", a]).unwrap_err().to_string();
    assert!(refusal.contains("is sealed") && refusal.contains("--inspect"), "{refusal}");
    assert!(mint(&["seal", "--to", "age1nobody", b]).is_err());
    assert!(mint(&["unsealing", "--out", keys[0].to_str().unwrap()]).is_err(), "never over a key");
}
