//! `cloister-crash`: what `./x crash` runs.

use anyhow::Result;
use cloister_crash::*;
use cloister_stage::Dice;

fn main() -> Result<()> {
    let home = tempfile::Builder::new().tempdir_in("/dev/shm")?;
    let begun = std::time::Instant::now();
    let fixture = Fixture::make(home.path())?;
    eprintln!("fixture {:?}", begun.elapsed());
    let place = home.path().join("place");
    let mut appliance = Appliance::lay_out(&place, &place.join("state"))?;
    let begun = std::time::Instant::now();
    let surveyed = survey(&mut appliance, &fixture, &SCENES)?;
    eprintln!("survey {:?}", begun.elapsed());
    for (scene, calls) in &surveyed { eprintln!("{} {}", scene.name, calls.len()); }
    let mut dice = Dice::new(std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap()));
    for _ in 0..std::env::var("POINTS").map_or(40, |seed| seed.parse().unwrap()) {
        let (scene, calls) = &surveyed[dice.below(surveyed.len())];
        let act = if dice.below(2) == 0 { Act::Kill } else { Act::KillAll };
        let strikes = [Strike { after: dice.below(calls.len()) as u64, act }];
        let begun = std::time::Instant::now();
        match play(&mut appliance, &fixture, scene, &strikes, Manner::default()) {
            Ok(played) => eprintln!("{} {:?} {:?} {:?} {:?} {:?}", scene.name, strikes[0], played.struck, played.told, played.outcome, begun.elapsed()),
            Err(error) => { eprintln!("{} {:?} FAILED {error:#} {:?}", scene.name, strikes[0], begun.elapsed());
               if std::env::var("SHOW").is_ok() { for one in appliance.end()? { if let Happening::Call(call) = one {eprintln!("   {} {} {} = {}", call.unit.name(), call.name, call.about.display(), call.result)} else {eprintln!("  {one:?}")} } } }
        }
    }
    Ok(())
}
