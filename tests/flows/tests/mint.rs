//! Building a bundle twice gives identical bytes.

use anyhow::Result;
use cloister_domain::Hasher;
use cloister_flows::Scene;
use std::{fs::File, io::Read as _, path::Path};

fn digest(path: &Path) -> Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().to_string()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[test]
fn building_twice_gives_identical_bytes() -> Result<()> {
    let scene = Scene::enrolled()?;
    let tree = scene.tree("v1")?;
    let first = digest(&scene.facility.sign("publisher", &tree, "1.0.0", 1)?)?;
    let again = digest(&scene.facility.sign("publisher", &tree, "1.0.0", 1)?)?;
    assert_eq!(first, again);
    let other = digest(&scene.facility.sign("publisher", &tree, "1.0.1", 2)?)?;
    assert_ne!(first, other, "another version is another volume");
    Ok(())
}
