//! What may be served, as the log says it.

use super::*;

/// A log with a trust root and release `g`, judged.
fn begun() -> Log {
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0").judged();
    log
}

fn faults(log: &Log) -> Vec<Fault> {
    verify(&log.export(), &trust()).faults
}

fn unapproved(seq: u64, approvals: &[u64]) -> Vec<Fault> {
    vec![Fault::Unapproved { seq, needed: 2, approvals: Numbers(approvals.to_vec()) }]
}

#[test]
fn a_new_release_is_approved_by_two_who_did_not_import_it() {
    assert_eq!(faults(begun().activate()), unapproved(3, &[]));
    assert_eq!(faults(begun().approve("ada", 9).activate()), unapproved(4, &[3]));
    let twice = faults(begun().approve("ada", 9).approve("ada", 9).activate());
    assert_eq!(twice, unapproved(5, &[3, 4]), "one person");
    // Who imported it, by user and by person.
    for operator in [json!({"operator": "ada"}), json!({"operator": "x", "persons": ["y", "ada"]})]
    {
        let mut log = begun();
        let mut facts = operator;
        facts["import"] = 1.into();
        log.add_about(Event::MediaSeen, "import/1/received", &[], &facts);
        log.approve("ada", 9).approve("bob", 10).activate();
        assert_eq!(faults(&log), unapproved(6, &[5]));
    }
    // What the facility asks for beyond two.
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0");
    log.add_about(Event::PolicyChange, "policy/1", &[], &json!({"approvals_needed": 3}));
    log.judged().approve("ada", 9).approve("bob", 10).activate();
    let approvals = Numbers(vec![4, 5]);
    assert_eq!(faults(&log), [Fault::Unapproved { seq: 6, needed: 3, approvals }]);
    let said = faults(&log)[0].to_string();
    assert!(said.contains("record 6") && said.contains("record 4, record 5"), "{said}");
    // Nor does a facility that asks for one change the rule.
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0");
    log.add_about(Event::PolicyChange, "policy/1", &[], &json!({"approvals_needed": 1}));
    assert_eq!(faults(log.judged().approve("ada", 9).activate()), unapproved(5, &[4]));
}

#[test]
fn an_approval_is_of_what_was_judged_and_comes_after_it() {
    let other = Digest::of(b"other");
    let changes: [fn(&mut Approval, Digest); 4] = [
        |approval, other| approval.package = other,
        |approval, other| approval.bundle = GenerationId(other),
        |approval, other| approval.policy = other,
        |approval, other| approval.evidence = other,
    ];
    for change in changes {
        let mut log = begun();
        log.approve("ada", 9).decide("bob", 10, |approval| change(approval, other)).activate();
        assert_eq!(faults(&log), unapproved(5, &[3]));
    }
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0").approve("ada", 9).judged();
    assert_eq!(faults(log.approve("bob", 10).activate()), unapproved(5, &[4]));
    // A verdict that says another policy than its package is over.
    let mut log = begun();
    let about = [("bundle", Digest::of(b"g")), ("package", package())];
    let facts = json!({"import": 1, "verdict": "passed", "policy": other});
    log.add_about(Event::Evaluation, "import/1/evaluation/other", &about, &facts);
    assert_eq!(faults(log.approve("ada", 9).approve("bob", 10).activate()), unapproved(6, &[]));
    // Signed by nobody whom the root knows by that name, it is no approval.
    let mut log = begun();
    log.approve("ada", 9).approve("bob", 9).activate();
    let mut expected = vec![Fault::Person { seq: 4 }];
    expected.extend(unapproved(5, &[3]));
    assert_eq!(faults(&log), expected);
}

#[test]
fn one_rejection_outweighs_all_approvals() {
    let mut log = begun();
    log.decide("ada", 9, |approval| approval.decision = Decision::Reject);
    log.approve("ada", 9).approve("bob", 10).activate();
    assert_eq!(faults(&log), [Fault::Rejected { seq: 6, rejection: 3 }]);
    // Of another package it says nothing about this one.
    let mut log = begun();
    log.decide("ada", 9, |approval| {
        approval.decision = Decision::Reject;
        approval.package = Digest::of(b"other");
    });
    assert_eq!(faults(log.approve("ada", 9).approve("bob", 10).activate()), []);
}

#[test]
fn a_verdict_that_does_not_stand_carries_nothing() {
    let unjudged = |log: &Log, seq: u64| assert_eq!(faults(log), [Fault::Unjudged { seq }]);
    let mut bare = Log::default();
    bare.add(Event::AnchorEnrolment, "anchor/0").approve("ada", 9).approve("bob", 10);
    unjudged(bare.activate(), 3);
    // Judged again, whatever was approved.
    let asked = |log: &mut Log| {
        let bundle = [("bundle", Digest::of(b"g"))];
        let act = format!("import/1/evaluate/{}", log.0.len());
        log.add_about(Event::EvaluationAsked, &act, &bundle, &json!({"import": 1}));
    };
    let mut log = begun();
    log.approve("ada", 9).approve("bob", 10);
    asked(&mut log);
    unjudged(log.activate(), 6);
    let mut log = begun();
    log.approve("ada", 9).approve("bob", 10);
    asked(&mut log);
    assert_eq!(faults(log.evaluated("passed").approve("ada", 9).activate()), unapproved(8, &[7]));
    let mut log = begun();
    asked(&mut log);
    log.evaluated("passed").approve("ada", 9).approve("bob", 10).activate();
    assert_eq!(faults(&log), []);
    // Found bad, or another package.
    let mut log = begun();
    unjudged(log.evaluated("refused").approve("ada", 9).approve("bob", 10).activate(), 6);
    for because in [
        json!({"import": 2, "package": package()}),
        json!({"import": 1, "package": Digest::of(b"q")}),
        json!({"import": 1}),
        json!(null),
    ] {
        let mut log = begun();
        log.approve("ada", 9).approve("bob", 10);
        let facts = json!({"kind": "activate", "because": because});
        let bundle = [("bundle", Digest::of(b"g"))];
        log.add_about(Event::ActivationIntent, "activation/1/intent", &bundle, &facts);
        unjudged(&log, 5);
    }
    let mut log = begun();
    log.approve("ada", 9).approve("bob", 10);
    let because = json!({"import": 1, "package": package()});
    let facts = json!({"kind": "activate", "because": because});
    let bundle = [("bundle", Digest::of(b"h"))];
    log.add_about(Event::ActivationIntent, "activation/1/intent", &bundle, &facts);
    unjudged(&log, 5);
}

#[test]
fn what_is_returned_to_was_served() {
    let other = [("bundle", Digest::of(b"other"))];
    let intent = |log: &mut Log, kind: &str, about: &[(&str, Digest)]| {
        let facts = json!({"kind": kind});
        log.add_about(Event::ActivationIntent, "activation/9/intent", about, &facts);
    };
    let outcome = |log: &mut Log, said: &str, about: &[(&str, Digest)]| {
        let facts = json!({"outcome": said});
        log.add_about(Event::ActivationOutcome, "activation/9/outcome", about, &facts);
    };
    let g = Digest::of(b"g");
    let mut log = good();
    intent(&mut log, "rollback", &[("bundle", g)]);
    outcome(&mut log, "promoted", &[("bundle", g), ("active", g)]);
    assert_eq!(faults(&log), []);
    for (kind, about, fault) in [
        ("rollback", &other[..], Fault::NeverServed { seq: 9 }),
        ("rollback", &[], Fault::NeverServed { seq: 9 }),
        ("leap", &[("bundle", g)], Fault::Kind { seq: 9 }),
    ] {
        let mut log = good();
        intent(&mut log, kind, about);
        assert_eq!(faults(&log), [fault]);
    }
    let never = Fault::NeverServed { seq: 10 };
    let wrong = Fault::Outcome { seq: 10 };
    let h = Digest::of(b"other");
    for (said, about, expected) in [
        ("returned", &[("bundle", g), ("active", g)][..], vec![]),
        ("aborted", &[("bundle", g)], vec![]),
        ("returned", &[("bundle", g), ("active", h)], vec![never.clone()]),
        ("aborted", &[("bundle", g), ("active", h)], vec![never]),
        ("promoted", &[("bundle", g), ("active", h)], vec![wrong.clone()]),
        ("promoted", &[("bundle", h), ("active", h)], vec![wrong.clone()]),
        ("vanished", &[("bundle", g)], vec![wrong]),
    ] {
        let mut log = good();
        intent(&mut log, "rollback", &[("bundle", g)]);
        outcome(&mut log, said, about);
        assert_eq!(faults(&log), expected, "{said}");
    }
    // What was not promoted was not served: its intent alone promotes nothing.
    let mut log = begun();
    log.approve("ada", 9).approve("bob", 10).activate();
    log.add_about(
        Event::ActivationOutcome,
        "activation/5/outcome",
        &[("bundle", g)],
        &json!({"outcome": "returned"}),
    );
    intent(&mut log, "rollback", &[("bundle", g)]);
    assert_eq!(faults(&log), [Fault::NeverServed { seq: 7 }]);
}

/// A receipt shows the outcome alone.
#[test]
fn an_outcome_is_of_the_kind_that_its_intent_was() {
    let about = [("bundle", Digest::of(b"g"))];
    for (kind, expected) in [
        (json!("rollback"), vec![]),
        (json!("activate"), vec![Fault::Outcome { seq: 10 }]),
        (json!(null), vec![Fault::Outcome { seq: 10 }]),
    ] {
        let mut log = good();
        let facts = json!({"kind": "rollback"});
        log.add_about(Event::ActivationIntent, "activation/9/intent", &about, &facts);
        let facts = json!({"kind": kind, "outcome": "promoted"});
        log.add_about(Event::ActivationOutcome, "activation/9/outcome", &about, &facts);
        assert_eq!(faults(&log), expected);
    }
}

#[test]
fn each_new_release_has_a_summary_that_says_what_the_log_says() {
    let approved = || {
        let mut log = begun();
        log.approve("ada", 9).approve("bob", 10).activate();
        log
    };
    let summary = |log: &mut Log| log.summarise(&[2, 3, 4]);
    let wrong = |seq: u64| vec![Fault::Summary { seq }];
    let mut log = approved();
    let digest = summary(&mut log);
    assert_eq!(faults(log.promoted(Some(digest))), []);
    assert_eq!(faults(approved().promoted(None)), wrong(6), "missing");
    let mut log = approved();
    summary(&mut log);
    assert_eq!(faults(&log), wrong(6), "the outcome is missing");
    assert_eq!(faults(log.promoted(None)), wrong(7), "not named");
    let mut log = approved();
    let digest = summary(&mut log);
    log.add(Event::KeyChange, "key/1");
    assert_eq!(faults(log.promoted(Some(digest))), [wrong(7), wrong(8)].concat(), "not beside it");
    for inputs in [&[2, 3][..], &[3, 4, 2], &[2, 3, 4, 5], &[1, 3, 4]] {
        let mut log = approved();
        let digest = log.summarise(inputs);
        assert_eq!(faults(log.promoted(Some(digest))), wrong(7), "{inputs:?}");
    }
    // Signed by another, which is a fault of its own.
    let mut log = approved();
    summary(&mut log);
    let record = Record::parse(&log.0.pop().expect("there")).expect("our own");
    let unsigned = Envelope { signatures: Vec::new(), ..record.envelope };
    let text = unsigned.sign_with(&key(2)).to_json();
    let digest = Digest::of(&text);
    log.0.push(text);
    let found: Vec<&str> = faults(log.promoted(Some(digest))).iter().map(Fault::code).collect();
    assert_eq!(found, ["record.export.entry"]);
    // A return has none.
    let mut log = good();
    log.add(Event::ActivationIntent, "activation/2/intent");
    let digest = summary(&mut log);
    assert_eq!(faults(log.promoted(Some(digest))), wrong(11));
    let mut log = good();
    log.add(Event::ActivationIntent, "activation/2/intent");
    assert_eq!(faults(log.promoted(Some(digest))), wrong(10), "named and not there");
}

#[test]
fn what_persons_said_of_another_log_or_of_the_future_carries_nothing() {
    for log in [
        LogHead { origin: "enclave/two".to_owned(), size: 1 },
        LogHead { origin: ORIGIN.to_owned(), size: 5 },
    ] {
        let mut made = begun();
        made.approve("ada", 9).decide("bob", 10, |approval| approval.log = log).activate();
        assert_eq!(faults(&made), unapproved(5, &[3]));
    }
    let now = LogHead { origin: ORIGIN.to_owned(), size: 4 };
    let mut made = begun();
    made.approve("ada", 9).decide("bob", 10, |approval| approval.log = now).activate();
    assert_eq!(faults(&made), []);
}

#[test]
fn a_canary_is_approved_like_what_all_are_to_be_served() {
    let start = |log: &mut Log| {
        let because = json!({"import": 1, "package": package()});
        let facts = json!({"kind": "canary", "because": because});
        let bundle = [("bundle", Digest::of(b"g"))];
        log.add_about(Event::ActivationIntent, "activation/9/intent", &bundle, &facts);
    };
    let end = |log: &mut Log, said: &str| {
        let bundle = [("bundle", Digest::of(b"g"))];
        let facts = json!({"outcome": said});
        log.add_about(Event::ActivationOutcome, "activation/9/outcome", &bundle, &facts);
    };
    let mut log = begun();
    log.approve("ada", 9);
    start(&mut log);
    assert_eq!(faults(&log), unapproved(4, &[3]));
    let canary = |said: &str| {
        let mut log = begun();
        log.approve("ada", 9).approve("bob", 10);
        start(&mut log);
        end(&mut log, said);
        log
    };
    assert_eq!(faults(&canary("begun")), []);
    assert_eq!(faults(&canary("aborted")), []);
    assert_eq!(faults(&canary("promoted")), [Fault::Outcome { seq: 6 }]);
    // It was for some: nobody returns to it, and the approvals hold for all.
    let mut log = canary("begun");
    log.add(Event::ActivationIntent, "activation/2/intent");
    assert_eq!(faults(&log), [Fault::NeverServed { seq: 7 }]);
    assert_eq!(faults(canary("begun").activate()), []);
    let mut log = good();
    log.add(Event::ActivationIntent, "activation/9/intent");
    end(&mut log, "begun");
    assert_eq!(faults(&log), [Fault::Outcome { seq: 10 }]);
}

#[test]
fn what_a_shadow_found_is_approved_anew() {
    let [evidence, manifest, policy] =
        ["more", "g", "policy"].map(|name| Digest::of(name.as_bytes()));
    let text = json!({"evidence": evidence, "manifest": manifest, "policy": policy}).to_string();
    let more = Digest::of(text.as_bytes());
    let tried = |about: &[(&str, Digest)]| {
        let mut log = begun();
        log.approve("ada", 9).approve("bob", 10);
        log.add_about(Event::TrialEnded, "trial/1/end", about, &json!({"import": 1}));
        log
    };
    let about = [("bundle", manifest), ("package", more)];
    assert_eq!(faults(tried(&about).activate()), [Fault::Unjudged { seq: 6 }]);
    let activate = |log: &mut Log| {
        let facts = json!({"kind": "activate", "because": {"import": 1, "package": more}});
        log.add_about(Event::ActivationIntent, "activation/8/intent", &about[..1], &facts);
    };
    let anew = |approval: &mut Approval| {
        (approval.package, approval.evidence) = (more, evidence);
    };
    let mut log = tried(&about);
    log.decide("ada", 9, anew);
    activate(&mut log);
    assert_eq!(faults(&log), unapproved(7, &[6]));
    let mut log = tried(&about);
    log.decide("ada", 9, anew).decide("bob", 10, anew);
    activate(&mut log);
    // The report is among what the summary stands on.
    let summary = log.summarise(&[2, 5, 6, 7]);
    assert_eq!(faults(log.promoted(Some(summary))), []);
    // One that ended without a package changed nothing.
    assert_eq!(faults(tried(&about[..1]).activate()), []);
}

#[test]
fn below_the_floor_is_returned_to_by_the_leave_of_two_once() {
    let down = |log: &mut Log| {
        let facts = json!({"kind": "downgrade"});
        let about = [("bundle", Digest::of(b"g")), ("from", Digest::of(b"h"))];
        let act = format!("activation/{}/intent", log.0.len());
        log.add_about(Event::ActivationIntent, &act, &about, &facts);
    };
    let refused = |log: &Log, seq: u64, leaves: &[u64]| {
        let leaves = Numbers(leaves.to_vec());
        assert_eq!(faults(log), [Fault::Leave { seq, needed: 2, leaves }]);
    };
    let two = |log: &mut Log| {
        log.allow("ada", 9, |_| {}).allow("bob", 10, |_| {});
    };
    let mut log = good();
    two(&mut log);
    down(&mut log);
    assert_eq!(faults(&log), []);
    log.promoted(None);
    down(&mut log);
    refused(&log, 13, &[]);
    let mut log = good();
    down(&mut log);
    refused(&log, 9, &[]);
    let mut log = good();
    log.allow("ada", 9, |_| {}).allow("ada", 9, |_| {});
    down(&mut log);
    refused(&log, 11, &[9, 10]);
    // Of other releases.
    let mut log = good();
    log.allow("ada", 9, |_| {}).allow("bob", 10, |consent| {
        let h = GenerationId(Digest::of(b"h"));
        consent.matter = Matter::Downgrade { to: h, from: h };
    });
    down(&mut log);
    refused(&log, 11, &[9]);
    let mut log = good();
    log.allow("ada", 9, |_| {}).allow("bob", 10, |consent| {
        let g = GenerationId(Digest::of(b"g"));
        consent.matter = Matter::Downgrade { to: g, from: g };
    });
    down(&mut log);
    refused(&log, 11, &[9]);
    // What never served is not made to by any leave.
    let mut log = begun();
    two(&mut log);
    down(&mut log);
    assert_eq!(faults(&log), [Fault::NeverServed { seq: 5 }]);
    // Another switch used them up.
    let mut log = good();
    two(&mut log);
    log.add(Event::ActivationIntent, "activation/2/intent").promoted(None);
    down(&mut log);
    refused(&log, 13, &[]);
}
