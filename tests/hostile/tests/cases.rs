//! Every named case is refused with a code of its class, within the bounds of memory and time.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use cloister_hostile::{Base, Enclave, cases};

/// No hostile archive may take more.
const PEAK_MIB_MAX: u64 = 48;
const TIME_MAX: Duration = Duration::from_secs(1);

/// This process's `VmHWM` and `VmRSS`, in KiB.
fn memory() -> (u64, u64) {
    let text = String::from_utf8(
        cloister_stage::release::read_file("/proc/self/status".as_ref()).unwrap(),
    )
    .unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmHWM:"), field("VmRSS:"))
}

#[test]
fn every_case_is_refused_with_a_code_of_its_class_and_within_bounds() {
    let base = Base::new().unwrap();
    let mut enclave = Enclave::new(&base.root).unwrap();
    enclave.learn(&base.bytes);
    assert!(enclave.offer(&base.bytes).is_ok(), "the undamaged volume is accepted");
    let (mut wrong, mut classes, mut count) = (Vec::new(), BTreeMap::<String, u64>::new(), 0u64);
    cases::all(&base, &mut |case| {
        // Sets the peak back (proc_pid_clear_refs(5)).
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let (_, before) = memory();
        let begun = Instant::now();
        let said = enclave.offer(case.bytes);
        let took = begun.elapsed();
        // The kernel sums its counters late, so the peak may lie a little below.
        let grown = memory().0.saturating_sub(before) >> 10;
        count += 1;
        *classes.entry(case.name.split('/').next().unwrap().to_owned()).or_default() += 1;
        match said {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(refusal) if !case.allows(refusal.code) => {
                wrong.push(format!("{}: {}, not {:?}", case.name, refusal.code, case.codes));
            }
            Err(_) if grown > PEAK_MIB_MAX => wrong.push(format!("{}: {grown} MiB", case.name)),
            Err(_) if took > TIME_MAX => wrong.push(format!("{}: {took:?}", case.name)),
            Err(_) => {}
        }
    })
    .unwrap();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 2_500, "{count} cases: {classes:?}");
}
