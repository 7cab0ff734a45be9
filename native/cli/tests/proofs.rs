//! Proofs of single events, and checkpoints that extend each other.

mod run;

use event_seal_core::note::Purpose;
use run::signed::{FLOW, Signed, key, log_key, signer, witness};
use run::{Ran, file, report, run, verify};
use std::path::Path;

fn with(path: &Path, options: &[&str]) -> Ran {
    run([&["verify", path.to_str().unwrap()], options].concat())
}

#[test]
fn a_proof_says_what_is_proved_whether_the_body_is_shown_and_who_signed() {
    for (show, body) in [
        (true, "its body of 40 bytes is shown"),
        (false, "its body is not shown"),
    ] {
        let path = file(&format!("{show}.proof"), Signed::new().proof(7, show));
        let ran = with(&path, &["--key", &key(&log_key()), "--witness", &key(&witness())]);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        assert!(ran.out.starts_with("Proved "), "{}", ran.out);
        assert!(
            ran.out.contains(&format!("event 7 of {FLOW}, in block 1: ")),
            "{}",
            ran.out
        );
        assert!(ran.out.contains(body), "{}", ran.out);
        assert!(
            ran.out
                .contains(&format!("by {}: leaf 1 of 3.\n", key(&log_key()))),
            "{}",
            ran.out
        );
        assert!(ran.out.contains(&format!("  cosigned by {}", key(&witness()))));
        let ran = with(&path, &["--json", "--key", &key(&log_key())]);
        let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let verdict = &json["files"][0]["verdict"];
        assert_eq!(json["files"][0]["signature"], "valid");
        assert_eq!(verdict["bodies_verified"], u64::from(show));
        assert_eq!(verdict["bodies_not_shown"], u64::from(!show));
    }
}

#[test]
fn a_proof_without_a_key_proves_nothing() {
    let path = file("keyless.proof", Signed::new().proof(7, true));
    let ran = verify(&path);
    assert_eq!(ran.status, 1);
    assert!(ran.out.starts_with("NOT PROVED "), "{}", ran.out);
    assert!(
        ran.out.contains("signature not checked: no --key was given"),
        "{}",
        ran.out
    );
    assert_eq!(report(&path)["signature"], "not_checked");
}

#[test]
fn a_wrong_key_and_a_changed_proof_fail() {
    let text = Signed::new().proof(7, true);
    let other = key(&signer("clinic.example/log", Purpose::Log, 9));
    let ran = with(&file("wrong.proof", &text), &["--key", &other]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("NOT SIGNED AS ASKED: "), "{}", ran.out);
    let own = key(&log_key());
    for (from, to) in [
        ("kind vital", "kind vitaL"),
        ("n 7\n", "n 8\n"),
        ("when 6\n", "when 7\n"),
        ("index 1\n", "index 2\n"),
        ("late false\n", ""),
        ("flow patient/7", "flow patient/8"),
    ] {
        assert!(text.contains(from), "{from}");
        let ran = with(
            &file("changed.proof", text.replacen(from, to, 1)),
            &["--key", &own],
        );
        assert_eq!(ran.status, 1, "{to}: {}", ran.out);
    }
    for end in (25..text.len()).step_by(31) {
        assert_eq!(
            with(&file("cut.proof", &text[..end]), &["--key", &own]).status,
            1,
            "{end}"
        );
    }
}

#[test]
fn an_unknown_version_of_a_proof_fails_with_its_number() {
    let text = Signed::new()
        .proof(7, true)
        .replacen("event-seal/1", "event-seal/2", 1);
    let ran = verify(&file("version.proof", text));
    assert_eq!(ran.status, 1);
    assert!(
        ran.out.contains("version 2 of the proof format is not known"),
        "{}",
        ran.out
    );
}

#[test]
fn show_prints_a_proof_and_its_body_only_if_asked() {
    let path = file("shown.proof", Signed::new().proof(7, true));
    let path = path.to_str().unwrap();
    let ran = run(["show", path]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("event 7 of patient/7") && ran.out.contains("  index 1\n"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("bbbb"));
    assert!(run(["show", "--bodies", path]).out.contains(&"b".repeat(40)));
}

fn consistency(old: &str, new: &str, options: &[&str]) -> Ran {
    let (old, new) = (file("old.checkpoint", old), file("new.request", new));
    let paths = ["consistency", old.to_str().unwrap(), new.to_str().unwrap()];
    run([&paths[..], options].concat())
}

#[test]
fn a_checkpoint_that_extends_the_one_kept_is_told_from_one_that_does_not() {
    let signed = Signed::new();
    let own = key(&log_key());
    let new = signed.request(2, &signed.checkpoint(3));
    let ran = consistency(&signed.checkpoint(2), &new, &["--key", &own]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(
        ran.out
            .starts_with("Consistent: clinic.example/log had 2 leaves and has 3"),
        "{}",
        ran.out
    );
    let other = signer("clinic.example/log", Purpose::Log, 9);
    let forged = event_seal_core::checkpoint::sign(&log_key(), 2, [7; 32]).unwrap();
    for (old, new, what) in [
        (forged.as_str(), new.as_str(), "does not extend"),
        (&signed.checkpoint(1), &new, "the way from size 2"),
        (&signed.checkpoint_by(&other, 2), &new, "OLD: "),
        (
            &signed.checkpoint(2),
            &signed.request(2, &signed.checkpoint_by(&other, 3)),
            "NEW: ",
        ),
        (&signed.checkpoint(2), "old 2", "NEW is no request"),
    ] {
        let ran = consistency(old, new, &["--key", &own]);
        assert_eq!(ran.status, 1, "{what}: {}", ran.out);
        assert!(
            ran.out.contains("NOT CONSISTENT: ") && ran.out.contains(what),
            "{what}: {}",
            ran.out
        );
    }
    assert_eq!(consistency(&signed.checkpoint(2), &new, &[]).status, 2);
    assert_eq!(
        run(["consistency", "--key", &own, "/nowhere", "/nowhere"]).status,
        2
    );
}
