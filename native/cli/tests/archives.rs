//! Archives: what was done to one, and which keys were given → what the program says.

mod run;

use event_seal_core::note::Purpose;
use run::signed::{FLOW, Signed, key, log_key, signer, witness};
use run::{Ran, file, report, run, verify};
use std::path::Path;

fn with(path: &Path, options: &[&str]) -> Ran {
    run([&["verify", path.to_str().unwrap()], options].concat())
}

#[test]
fn an_archive_signed_by_the_key_verifies_and_names_who_signed() {
    let path = file("honest.archive", Signed::new().archive(2));
    let ran = with(&path, &["--key", &key(&log_key()), "--witness", &key(&witness())]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(
        ran.out
            .contains("1 flow, 3 blocks, 15 events: 15 fixed, 0 provisional\n")
    );
    let signed = format!("Signed up to position 15 by {}: leaf 2 of 3.\n", key(&log_key()));
    assert!(ran.out.contains(&signed), "{}", ran.out);
    let cosigned = format!("  cosigned by {}, 2023-11-14T22:13:20.000000Z\n", key(&witness()));
    assert!(ran.out.contains(&cosigned), "{}", ran.out);
    assert!(!ran.out.contains("part of a flow"));
}

#[test]
fn a_proof_of_an_earlier_block_reaches_no_further() {
    let path = file("earlier.archive", Signed::new().archive(1));
    let ran = with(&path, &["--key", &key(&log_key())]);
    assert!(ran.out.contains("Signed up to position 10 by "), "{}", ran.out);
    assert_eq!(ran.status, 0);
}

#[test]
fn without_a_key_the_chain_is_verified_and_the_signature_said_to_be_unchecked() {
    let path = file("keyless.archive", Signed::new().archive(2));
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    let said =
        "Signed by clinic.example/log and witness.example/w, signature not checked: no --key was given.\n";
    assert!(ran.out.contains(said), "{}", ran.out);
    let report = report(&path);
    assert_eq!(report["signature"], "not_checked");
    assert_eq!(
        (&report["kind"], &report["flow"]),
        (&"archive".into(), &FLOW.into())
    );
    assert_eq!(report["signed"]["key"], serde_json::Value::Null);
}

#[test]
fn an_archive_without_a_proof_is_never_reported_like_a_signed_one() {
    let path = file("unsigned.archive", Signed::new().archive_with(0, ""));
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("Unsigned: the file agrees with itself"),
        "{}",
        ran.out
    );
    let ran = with(&path, &["--key", &key(&log_key())]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.out
            .contains("NOT SIGNED: nothing here is signed by the key.\n"),
        "{}",
        ran.out
    );
    // So is a file of another kind that bears no signature.
    let blocks = file("unsigned.blocks", Signed::new().blocks.concat());
    assert_eq!(with(&blocks, &["--key", &key(&log_key())]).status, 1);
}

#[test]
fn a_wrong_key_a_missing_witness_and_a_quorum_that_is_not_reached_fail() {
    let path = file("wrong.archive", Signed::new().archive(2));
    let (own, other) = (
        key(&log_key()),
        key(&signer("clinic.example/log", Purpose::Log, 9)),
    );
    let foreign = key(&signer("other.example/log", Purpose::Log, 9));
    let (witness, absent) = (key(&witness()), key(&signer("w2", Purpose::Witness, 3)));
    for options in [
        vec!["--key", other.as_str()],
        vec!["--key", &foreign],
        vec!["--key", &own, "--witness", &absent],
        vec!["--key", &own, "--witness", &absent, "--witness", &witness],
    ] {
        let ran = with(&path, &options);
        assert_eq!(ran.status, 1, "{options:?}: {}", ran.out);
        assert!(ran.out.contains("NOT SIGNED AS ASKED: "), "{}", ran.out);
    }
    for options in [
        vec!["--key", own.as_str(), "--key", &foreign],
        vec![
            "--key",
            &own,
            "--witness",
            &absent,
            "--witness",
            &witness,
            "--quorum",
            "1",
        ],
        vec!["--key", &own, "--witness", &absent, "--quorum", "0"],
    ] {
        assert_eq!(with(&path, &options).status, 0, "{options:?}");
    }
}

#[test]
fn keys_that_make_no_policy_are_said_to_and_nothing_runs() {
    let path = file("keys.archive", Signed::new().archive(2));
    let (own, witness) = (key(&log_key()), key(&witness()));
    for options in [
        vec!["--key", "nonsense"],
        vec!["--witness", witness.as_str()],
        vec!["--key", &witness],
        vec!["--key", &own, "--key", &own],
        vec!["--key", &own, "--witness", &witness, "--quorum", "2"],
        vec!["--key", &own, "--quorum", "1"],
    ] {
        let ran = with(&path, &options);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{options:?}");
        assert!(!ran.err.is_empty());
    }
}

#[test]
fn no_byte_of_an_archive_can_change_unnoticed() {
    let honest = Signed::new().archive(2);
    let key = key(&log_key());
    for at in (0..honest.len())
        .step_by(211)
        .chain(honest.len() - 20..honest.len() - 15)
    {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        let witness = run::signed::key(&witness());
        let ran = with(
            &file("changed.archive", &bytes),
            &["--key", &key, "--witness", &witness],
        );
        assert_eq!(ran.status, 1, "byte {at}: {}", ran.out);
    }
    for end in (64..honest.len()).step_by(307) {
        let ran = with(&file("cut.archive", &honest[..end]), &["--key", &key]);
        assert_eq!(ran.status, 1, "{end}: {}", ran.out);
    }
}

#[test]
fn an_unknown_version_fails_with_its_number() {
    let mut bytes = Signed::new().archive(2);
    bytes[7] = b'2';
    let ran = verify(&file("version.archive", &bytes));
    assert_eq!(ran.status, 1);
    assert!(
        ran.out.contains("version 2 of the archive format is not known"),
        "{}",
        ran.out
    );
}

#[test]
fn show_prints_the_containers_and_the_proof() {
    let path = file("shown.archive", Signed::new().archive(2));
    let ran = run(["show", path.to_str().unwrap()]);
    assert_eq!(ran.status, 0);
    for text in [
        "flow patient/7, sha256",
        "block 2: events 11 to 15",
        "proof of block 2\n",
        "  index 2\n",
    ] {
        assert!(ran.out.contains(text), "{text}: {}", ran.out);
    }
}
