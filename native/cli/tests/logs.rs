//! Logs: what was done to one, and which keys were given → what the program says.

mod run;

use event_seal_core::note::Purpose;
use run::signed::{Signed, key, log_key, signer, witness};
use run::{Ran, faults, file, report, run, verify};
use std::path::Path;

fn with(path: &Path, options: &[&str]) -> Ran {
    run([&["verify", path.to_str().unwrap()], options].concat())
}

#[test]
fn a_log_signed_by_the_key_verifies_and_names_who_signed() {
    let path = file("honest.leaves", Signed::new().log(&[1, 3]));
    let ran = with(&path, &["--key", &key(&log_key()), "--witness", &key(&witness())]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(
        ran.out
            .contains("  3 leaves, 2 checkpoints: of the flows nothing is said\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("No fault"), "{}", ran.out);
    let signed = format!("Signed by {}: the first 3 leaves.\n", key(&log_key()));
    assert!(ran.out.contains(&signed), "{}", ran.out);
    assert!(ran.out.contains("  cosigned by witness.example/w+"));
}

#[test]
fn leaves_behind_the_last_checkpoint_are_not_said_to_be_signed() {
    let path = file("longer.leaves", Signed::new().log(&[2]));
    let ran = with(&path, &["--key", &key(&log_key())]);
    assert_eq!(ran.status, 0);
    assert!(ran.out.contains(": the first 2 leaves.\n"), "{}", ran.out);
}

#[test]
fn without_a_key_it_holds_together_and_the_signature_is_said_to_be_unchecked() {
    let path = file("keyless.leaves", Signed::new().log(&[3]));
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("signature not checked: no --key was given.\n"),
        "{}",
        ran.out
    );
    let report = report(&path);
    let counts = serde_json::json!({"leaves": 3, "unknown": 0, "checkpoints": 1});
    assert_eq!((&report["kind"], &report["log"]), (&"log".into(), &counts));
    assert_eq!(report["signature"], "not_checked");
    assert_eq!(report["signed"]["size"], 3);
    assert_eq!(report["signed"]["through"], serde_json::Value::Null);
}

#[test]
fn one_without_checkpoints_is_never_reported_like_a_signed_one() {
    let path = file("unsigned.leaves", Signed::new().log(&[]));
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("Unsigned: the file agrees with itself"),
        "{}",
        ran.out
    );
    let ran = with(&path, &["--key", &key(&log_key())]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("NOT SIGNED"), "{}", ran.out);
}

#[test]
fn a_wrong_key_and_a_missing_witness_fail() {
    let path = file("wrong.leaves", Signed::new().log(&[3]));
    let other = signer("clinic.example/log", Purpose::Log, 9);
    let ran = with(&path, &["--key", &key(&other)]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.out
            .contains("NOT SIGNED AS ASKED: no key that was given has signed its checkpoint."),
        "{}",
        ran.out
    );
    let unknown = signer("witness.example/other", Purpose::Witness, 8);
    let ran = with(&path, &["--key", &key(&log_key()), "--witness", &key(&unknown)]);
    assert_eq!(ran.status, 1);
}

#[test]
fn what_was_changed_is_named() {
    let honest = Signed::new().log(&[3]);
    let mut forged = honest.clone();
    // In the first leaf's block hash.
    forged[64 + 4 + 50] ^= 1;
    let path = file("forged.leaves", forged);
    assert_eq!(faults(&path), [(3, "log".to_owned())]);
    let ran = with(&path, &["--key", &key(&log_key())]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("log, position 3: log"), "{}", ran.out);
    assert!(
        ran.out.contains("but something here does not hold"),
        "{}",
        ran.out
    );
    let path = file("cut.leaves", &honest[..honest.len() - 1]);
    assert_eq!(faults(&path), [(3, "format".to_owned())]);
    let path = file("stump.leaves", &honest[..63]);
    assert_eq!(verify(&path).status, 1);
}

#[test]
fn an_unknown_version_fails_with_its_number_and_an_empty_log_is_nothing() {
    let mut bytes = Signed::new().log(&[3]);
    bytes[7] = b'2';
    let ran = verify(&file("version.leaves", bytes));
    assert_eq!(ran.status, 1);
    assert!(
        ran.out.contains("version 2 of the log format is not known"),
        "{}",
        ran.out
    );
    let mut empty = b"EVSEALL1".to_vec();
    empty.resize(64, 0);
    let ran = verify(&file("empty.leaves", empty));
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("There was nothing to verify."), "{}", ran.out);
}

#[test]
fn show_prints_leaves_and_checkpoints() {
    let path = file("shown.leaves", Signed::new().log(&[3]));
    let ran = run(["show", path.to_str().unwrap()]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("leaf 2: block 2 up to position 15 of "),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("checkpoint\n  clinic.example/log\n  3\n"),
        "{}",
        ran.out
    );
    let cut = file("shown-cut.leaves", &Signed::new().log(&[3])[..200]);
    let ran = run(["show", cut.to_str().unwrap()]);
    assert!(ran.out.contains("no item 1: item at byte "), "{}", ran.out);
}
