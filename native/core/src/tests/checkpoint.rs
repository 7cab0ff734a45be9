//! Checkpoints: what is signed is what is believed, and nothing else.
use crate::checkpoint::{Checkpoint, Cosignature, Policy, PolicyError, Refused, SignError, cosign, sign};
use crate::log::{SIZE_MAX, empty_root};
use crate::note::{Note, Purpose, Signature, Signer, VerifierKey};
use crate::suite::Digest;
use crate::wire::text::to_base64;

const ORIGIN: &str = "clinic.example/log";
const ROOT: Digest = [3; 32];
const TIME: u64 = 1_700_000_000;

fn signer(name: &str, purpose: Purpose, seed: u8) -> Signer {
    Signer::new(name, purpose, &[seed; 32]).unwrap()
}

fn log() -> Signer {
    signer(ORIGIN, Purpose::Log, 1)
}

fn witness(seed: u8) -> Signer {
    signer("witness.example/w", Purpose::Witness, seed)
}

fn keys(signers: &[&Signer]) -> Vec<VerifierKey> {
    signers.iter().map(|signer| signer.verifier().clone()).collect()
}

fn policy(witnesses: &[&Signer], quorum: usize) -> Policy {
    Policy::new(keys(&[&log()]), keys(witnesses), quorum).unwrap()
}

fn refused(policy: &Policy, note: &str) -> Refused {
    policy.open(note).unwrap_err()
}

/// The note with each of these witnesses' lines.
fn cosigned(note: &str, witnesses: &[&Signer]) -> String {
    let lines: String = witnesses
        .iter()
        .map(|witness| cosign(witness, note, TIME).unwrap())
        .collect();
    Note::parse(note).unwrap().with(&lines).unwrap()
}

#[test]
fn what_was_signed_is_opened() {
    let (a, b) = (witness(2), witness(3));
    let note = sign(&log(), 20_852_163, ROOT).unwrap();
    assert!(note.starts_with(&format!(
        "{ORIGIN}\n20852163\n{}\n\n— {ORIGIN} ",
        to_base64(&ROOT)
    )));
    let policy = policy(&[&a, &b], 0);
    let opened = policy.open(&note).unwrap();
    let checkpoint = Checkpoint {
        origin: ORIGIN,
        size: 20_852_163,
        root: ROOT,
    };
    assert_eq!((opened.checkpoint, opened.log), (checkpoint, log().verifier()));
    assert_eq!(opened.cosignatures, []);
    let note = cosigned(&note, &[&b]);
    let [Cosignature { witness, time }] = policy.open(&note).unwrap().cosignatures[..] else {
        panic!("one witness")
    };
    assert_eq!((witness, time), (b.verifier(), TIME));
}

/// What a cosignature signs, written down by itself.
#[test]
fn a_cosignature_signs_time_and_text() {
    let note = sign(&log(), 5, ROOT).unwrap();
    let line = cosign(&witness(2), &note, TIME).unwrap();
    let note = Note::parse(&note).unwrap().with(&line).unwrap();
    let note = Note::parse(&note).unwrap();
    let (time, signature) = note.signatures[1].bytes.split_at(8);
    assert_eq!(time, TIME.to_be_bytes());
    let message = format!(
        "cosignature/v1\ntime 1700000000\n{ORIGIN}\n5\n{}\n",
        to_base64(&ROOT)
    );
    assert!(witness(2).verifier().verifies(message.as_bytes(), signature));
}

#[test]
fn every_changed_byte_is_refused() {
    let (a, b) = (witness(2), witness(3));
    let policy = policy(&[&a, &b], 2);
    let note = cosigned(&sign(&log(), 1000, ROOT).unwrap(), &[&a, &b]);
    assert!(policy.open(&note).is_ok());
    for at in 0..note.len() {
        for flip in [1, 2, 0x10, 0x20, 0x80] {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= flip;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(policy.open(&changed).is_err(), "{at} {flip}");
            }
        }
        if let (Some(cut), Some(rest)) = (note.get(..at), note.get(at..)) {
            assert!(policy.open(cut).is_err(), "{at}");
            assert!(policy.open(&format!("{cut}\n{rest}")).is_err(), "{at}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_origin_or_of_a_foreign_key_is_refused() {
    let policy = policy(&[], 0);
    let other = signer("other.example/log", Purpose::Log, 1);
    assert_eq!(refused(&policy, &sign(&other, 5, ROOT).unwrap()), Refused::Origin);
    let foreign = signer(ORIGIN, Purpose::Log, 9);
    assert_eq!(
        refused(&policy, &sign(&foreign, 5, ROOT).unwrap()),
        Refused::Unsigned
    );
    // The trusted key's signature, of a text that names another origin.
    let two = Policy::new(
        keys(&[&log(), &signer("other.example/log", Purpose::Log, 4)]),
        vec![],
        0,
    )
    .unwrap();
    let text = sign(&signer("other.example/log", Purpose::Log, 9), 5, ROOT).unwrap();
    let text = Note::parse(&text).unwrap().text;
    let note = format!("{text}\n{}", log().line(&[], text.as_bytes()));
    assert_eq!(refused(&two, &note), Refused::Unsigned);
}

/// The key of another log is trusted, too: what it is said to have signed it must have signed.
#[test]
fn a_wrong_signature_of_another_log_that_is_trusted_is_refused() {
    let other = signer("other.example/log", Purpose::Log, 4);
    let two = Policy::new(keys(&[&log(), &other]), vec![], 0).unwrap();
    let note = sign(&log(), 5, ROOT).unwrap();
    let text = Note::parse(&note).unwrap().text;
    let with = |line: &str| Note::parse(&note).unwrap().with(line).unwrap();
    assert!(two.open(&with(&other.line(&[], text.as_bytes()))).is_ok());
    let wrong = with(&other.line(&[], b"another text\n"));
    assert_eq!(refused(&two, &wrong), Refused::Signature);
    assert!(policy(&[], 0).open(&wrong).is_ok());
}

#[test]
fn a_signature_of_an_older_tree_over_a_newer_text_is_refused() {
    let (older, newer) = (sign(&log(), 5, ROOT).unwrap(), sign(&log(), 6, ROOT).unwrap());
    let a = witness(2);
    let policy = policy(&[&a], 0);
    let (text, line) = (
        Note::parse(&newer).unwrap().text,
        Note::parse(&older).unwrap().signatures[0].line(),
    );
    assert_eq!(refused(&policy, &format!("{text}\n{line}")), Refused::Signature);
    let mixed = Note::parse(&newer)
        .unwrap()
        .with(&cosign(&a, &older, TIME).unwrap())
        .unwrap();
    assert_eq!(refused(&policy, &mixed), Refused::Signature);
}

#[test]
fn distinct_witnesses_are_counted_and_a_key_counts_once() {
    let (a, b, stranger) = (witness(2), witness(3), witness(8));
    let two = policy(&[&a, &b], 2);
    let note = sign(&log(), 5, ROOT).unwrap();
    let quorum = |have| Refused::Quorum { need: 2, have };
    assert_eq!(refused(&two, &note), quorum(0));
    assert_eq!(refused(&two, &cosigned(&note, &[&a])), quorum(1));
    assert_eq!(refused(&two, &cosigned(&note, &[&a, &stranger])), quorum(1));
    let later = cosign(&a, &note, TIME + 9).unwrap();
    let twice = Note::parse(&cosigned(&note, &[&a]))
        .unwrap()
        .with(&later)
        .unwrap();
    assert_eq!(refused(&two, &twice), quorum(1));
    let opened = policy(&[&a], 1);
    assert_eq!(opened.open(&twice).unwrap().cosignatures[0].time, TIME + 9);
    assert_eq!(
        two.open(&cosigned(&note, &[&b, &stranger, &a]))
            .unwrap()
            .cosignatures
            .len(),
        2
    );
}

#[test]
fn one_key_serves_one_role() {
    let (log, a) = (log(), witness(2));
    let new =
        |logs: &[&Signer], witnesses: &[&Signer], quorum| Policy::new(keys(logs), keys(witnesses), quorum);
    assert_eq!(new(&[], &[&a], 0), Err(PolicyError::Logs));
    assert_eq!(new(&[&a], &[], 0), Err(PolicyError::Purpose));
    assert_eq!(new(&[&log], &[&log], 0), Err(PolicyError::Purpose));
    assert_eq!(new(&[&log], &[&a], 2), Err(PolicyError::Quorum));
    assert_eq!(new(&[&log], &[&a, &a], 1), Err(PolicyError::Shared));
    let renamed = signer("another.example", Purpose::Witness, 2);
    assert_eq!(new(&[&log], &[&a, &renamed], 1), Err(PolicyError::Shared));
    let as_witness = signer(ORIGIN, Purpose::Witness, 1);
    assert_eq!(new(&[&log], &[&as_witness], 1), Err(PolicyError::Shared));
    let note = sign(&log, 5, ROOT).unwrap();
    assert_eq!(cosign(&log, &note, TIME), Err(SignError::Purpose));
    assert_eq!(sign(&a, 5, ROOT), Err(SignError::Purpose));
}

/// A log's plain signature under a witness's name, and a witness's under the log's, are not what they stand for.
#[test]
fn a_signature_of_one_role_does_not_pass_in_another() {
    let a = witness(2);
    let policy = policy(&[&a], 1);
    let note = sign(&log(), 5, ROOT).unwrap();
    let text = Note::parse(&note).unwrap().text;
    let plain = a.line(&[], text.as_bytes());
    let with = |line: &str| Note::parse(&note).unwrap().with(line).unwrap();
    assert_eq!(refused(&policy, &with(&plain)), Refused::Signature);
    let log_as_witness = signer(ORIGIN, Purpose::Witness, 1);
    let line = cosign(&log_as_witness, &note, TIME).unwrap();
    assert_eq!(refused(&policy, &format!("{text}\n{line}")), Refused::Unsigned);
    assert!(matches!(refused(&policy, &with(&line)), Refused::Quorum { .. }));
}

/// Two signers of one name and purpose whose ids are the same: seeds found by trying pairs.
fn colliding() -> [Signer; 2] {
    let seed = |i: u32| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&i.to_be_bytes());
        seed
    };
    let of = |i| Signer::new("w", Purpose::Witness, &seed(i)).unwrap();
    COLLISION.map(of)
}

const COLLISION: [u32; 2] = [88_939, 106_782];

#[test]
fn keys_that_share_name_and_id_do_not_hide_each_other() {
    let [a, b] = colliding();
    assert_eq!(
        (a.verifier().name(), a.verifier().id()),
        (b.verifier().name(), b.verifier().id())
    );
    assert_ne!(a.verifier(), b.verifier());
    let note = sign(&log(), 5, ROOT).unwrap();
    for pair in [[&a, &b], [&b, &a]] {
        let both = policy(&pair, 2);
        assert_eq!(
            both.open(&cosigned(&note, &[&a, &b])).unwrap().cosignatures.len(),
            2
        );
        assert_eq!(
            both.open(&cosigned(&note, &[&b, &a])).unwrap().cosignatures.len(),
            2
        );
        assert_eq!(
            refused(&both, &cosigned(&note, &[&a])),
            Refused::Quorum { need: 2, have: 1 }
        );
    }
    // A key of the same id that is not trusted signs in vain.
    assert_eq!(
        refused(&policy(&[&a], 1), &cosigned(&note, &[&b])),
        Refused::Signature
    );
}

#[test]
fn an_unknown_key_with_a_known_name_or_id_is_left_aside() {
    let a = witness(2);
    let policy = policy(&[&a], 1);
    let note = cosigned(&sign(&log(), 5, ROOT).unwrap(), &[&a]);
    let line = |name, id| {
        Signature {
            name,
            id,
            bytes: vec![0; 72],
        }
        .line()
    };
    let lines = line("witness.example/w", [0; 4]) + &line("other", a.verifier().id());
    let more = Note::parse(&note).unwrap().with(&lines).unwrap();
    assert_eq!(policy.open(&more).unwrap(), policy.open(&note).unwrap());
    let claims = line("witness.example/w", a.verifier().id());
    let more = Note::parse(&note).unwrap().with(&claims).unwrap();
    assert_eq!(refused(&policy, &more), Refused::Signature);
}

#[test]
fn old_keys_of_a_log_stay_valid_beside_the_new_one() {
    let new = signer(ORIGIN, Purpose::Log, 5);
    let policy = Policy::new(keys(&[&log(), &new]), vec![], 0).unwrap();
    for signer in [&log(), &new] {
        let note = sign(signer, 5, ROOT).unwrap();
        assert_eq!(policy.open(&note).unwrap().log, signer.verifier());
    }
}

#[test]
fn texts_that_are_no_checkpoint_are_refused_even_if_signed() {
    let root = to_base64(&ROOT);
    let policy = policy(&[], 0);
    let open = |text: &str| match policy.open(&format!("{text}\n{}", log().line(&[], text.as_bytes()))) {
        Ok(opened) => Ok(opened.checkpoint.size),
        Err(Refused::Malformed(malformed)) => Err(malformed.what),
        Err(other) => panic!("{other:?}"),
    };
    let of = |size: &str, root: &str| format!("{ORIGIN}\n{size}\n{root}\n");
    assert_eq!(open(&of("5", &root)), Ok(5));
    assert_eq!(open(&of("9223372036854775807", &root)), Ok(SIZE_MAX));
    for size in [
        "05",
        "+5",
        "-5",
        "5 ",
        " 5",
        "",
        "0x5",
        "5.0",
        "9223372036854775808",
        "18446744073709551616",
    ] {
        assert_eq!(open(&of(size, &root)), Err("size"), "{size}");
    }
    let noncanonical = root.replace("M=", "N=");
    assert_ne!(noncanonical, root);
    for root in [
        &root[..43],
        &noncanonical,
        &to_base64(&[3; 31]),
        &to_base64(&[3; 33]),
        &format!("{root} "),
    ] {
        assert_eq!(open(&of("5", root)), Err("root"), "{root}");
    }
    assert_eq!(open(&of("0", &root)), Err("root"));
    assert_eq!(open(&of("0", &to_base64(&empty_root()))), Ok(0));
    assert_eq!(open(&format!("{ORIGIN}\n5\n")), Err("root"));
    assert_eq!(open(&format!("{ORIGIN}\n")), Err("size"));
    assert_eq!(open("\n"), Err("origin"));
    assert_eq!(open(&format!("a\u{9b}b\n5\n{root}\n")), Err("origin"));
    assert_eq!(open(&(of("5", &root) + "an extension\nand another\n")), Ok(5));
    assert_eq!(
        open(&(of("5", &root) + "an extension\n\nand another\n")),
        Err("extension")
    );
}

#[test]
fn nothing_out_of_range_is_signed() {
    assert_eq!(sign(&log(), SIZE_MAX + 1, ROOT), Err(SignError::Range));
    assert_eq!(sign(&log(), 0, ROOT), Err(SignError::Range));
    let note = sign(&log(), 0, empty_root()).unwrap();
    assert_eq!(cosign(&witness(2), &note, 1 << 63), Err(SignError::Range));
    assert!(cosign(&witness(2), &note, (1 << 63) - 1).is_ok());
    assert!(matches!(
        cosign(&witness(2), "x", 0),
        Err(SignError::Malformed(_))
    ));
}

#[test]
fn a_time_beyond_the_range_is_no_signature() {
    let a = witness(2);
    let note = sign(&log(), 5, ROOT).unwrap();
    let text = Note::parse(&note).unwrap().text;
    let time = 1_u64 << 63;
    let line = a.line(
        &time.to_be_bytes(),
        format!("cosignature/v1\ntime {time}\n{text}").as_bytes(),
    );
    let note = Note::parse(&note).unwrap().with(&line).unwrap();
    assert_eq!(refused(&policy(&[&a], 1), &note), Refused::Signature);
}
