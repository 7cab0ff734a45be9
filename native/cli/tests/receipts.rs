//! Receipts, and whether what they promise was kept.

mod run;

use event_seal_core::block::Container;
use event_seal_core::note::{Purpose, Signer};
use event_seal_core::receipt::{Group, Promise, Standing};
use event_seal_core::suite::Suite;
use run::signed::{FLOW, Signed, key, log_key, signer, witness};
use run::{Ran, file, report, run, verify};
use std::path::Path;

const DEADLINE: i64 = 9_007_199_254_740_991;

fn receipts_key() -> Signer {
    signer("clinic.example/receipts", Purpose::Receipts, 3)
}

/// What is promised of position n of the flow, or of another that was changed so.
fn promise(n: usize, standing: Standing, change: impl Fn(&mut Promise)) -> Promise {
    let signed = Signed::new();
    let block = Container::decode(&signed.blocks[(n - 1) / 5]).unwrap();
    let (genesis, frame) = (block.header().genesis, block.frame((n - 1) % 5));
    let mut promise = Promise::of(Suite::Sha256, genesis, frame, standing, DEADLINE).unwrap();
    change(&mut promise);
    promise
}

fn receipt_of(promised: Promise) -> String {
    let others = [1, 2].map(|n| promise(n, Standing::Pool, |_| ()));
    let group = Group::new([vec![promised], others.to_vec()].concat()).unwrap();
    let own = receipts_key();
    let signature = own.sign(group.text().as_bytes());
    group.receipts(own.verifier(), &signature).unwrap().remove(0)
}

fn receipt(n: usize, standing: Standing) -> String {
    receipt_of(promise(n, standing, |_| ()))
}

fn with(path: &Path, keys: &[&Signer]) -> Ran {
    let keys: Vec<String> = keys
        .iter()
        .flat_map(|own| ["--key".to_owned(), key(own)])
        .collect();
    let path = path.to_str().unwrap().to_owned();
    run([vec!["verify".to_owned(), path], keys].concat())
}

#[test]
fn a_receipt_says_what_is_promised_and_by_whom() {
    for (standing, said) in [
        (
            Standing::Pool,
            "to be under a checkpoint by 2255-06-05T23:47:34.740991Z, unless",
        ),
        (Standing::Settled, "settled, to be under a checkpoint by 2255-"),
        (Standing::Retracted, "retracted at 2255-"),
    ] {
        let path = file(&format!("{}.receipt", standing.name()), receipt(7, standing));
        let ran = with(&path, &[&receipts_key()]);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        assert!(ran.out.starts_with("Promised "), "{}", ran.out);
        assert!(
            ran.out.contains(", revision 0, recorded ") && ran.out.contains(said),
            "{}",
            ran.out
        );
        let by = format!("Signed by {}: promise 0 of 3.\n", key(&receipts_key()));
        assert!(ran.out.contains(&by), "{}", ran.out);
        // The key of the log beside it changes nothing.
        assert_eq!(with(&path, &[&log_key(), &receipts_key()]).status, 0);
    }
    let path = file("json.receipt", receipt(7, Standing::Pool));
    let ran = run([
        "verify",
        "--json",
        "--key",
        &key(&receipts_key()),
        path.to_str().unwrap(),
    ]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let own = &json["files"][0];
    assert_eq!(
        (&own["kind"], &own["signature"]),
        (&"receipt".into(), &"valid".into())
    );
    assert_eq!((&own["flow"], &own["signed"]["size"]), (&"".into(), &3.into()));
    assert!(own["signed"]["through"].is_null());
}

#[test]
fn a_receipt_without_its_key_or_changed_promises_nothing() {
    let text = receipt(7, Standing::Pool);
    let path = file("keyless.receipt", &text);
    let ran = verify(&path);
    assert_eq!(ran.status, 1);
    assert!(ran.out.starts_with("NOT PROMISED "), "{}", ran.out);
    assert!(
        ran.out.contains("signature not checked: no --key was given"),
        "{}",
        ran.out
    );
    assert_eq!(report(&path)["signature"], "not_checked");
    let other = signer("clinic.example/receipts", Purpose::Receipts, 9);
    for keys in [vec![&other], vec![]] {
        let ran = with(&path, &[keys, vec![&log_key()]].concat());
        assert_eq!(ran.status, 1);
        assert!(
            ran.out.contains("NOT SIGNED AS ASKED: no key that was given"),
            "{}",
            ran.out
        );
    }
    for (from, to) in [
        ("standing pool", "standing settled"),
        ("revision 0", "revision 1"),
        ("count 3", "count 4"),
        ("index 0", "index 1"),
    ] {
        assert!(text.contains(from), "{from}");
        let ran = with(
            &file("changed.receipt", text.replacen(from, to, 1)),
            &[&receipts_key()],
        );
        assert_eq!(ran.status, 1, "{to}");
        assert!(!ran.out.contains("Promised "), "{}", ran.out);
    }
    for end in 0..text.len() {
        let cut = file("cut.receipt", &text.as_bytes()[..end]);
        assert_eq!(with(&cut, &[&receipts_key()]).status, 1, "{end}");
    }
    let later = text.replacen("event-seal/1", "event-seal/2", 1);
    let ran = verify(&file("version.receipt", later));
    assert!(
        ran.out.contains("version 2 of the receipt format is not known"),
        "{}",
        ran.out
    );
}

#[test]
fn show_prints_a_receipt() {
    let path = file("shown.receipt", receipt(7, Standing::Pool));
    let ran = run(["show", path.to_str().unwrap()]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.contains("receipt file") && ran.out.contains("  standing pool\n"),
        "{}",
        ran.out
    );
    let ran = run([
        "show",
        file("none.receipt", "event-seal/1 receipt\nx").to_str().unwrap(),
    ]);
    assert!(ran.out.contains("no receipt: suite at byte 21"), "{}", ran.out);
}

fn kept(receipt: &str, proof: &str, keys: &[&Signer]) -> Ran {
    let (receipt, proof) = (file("kept.receipt", receipt), file("kept.proof", proof));
    let paths = ["kept", receipt.to_str().unwrap(), proof.to_str().unwrap()].map(str::to_owned);
    let keys: Vec<String> = keys
        .iter()
        .flat_map(|own| ["--key".to_owned(), key(own)])
        .collect();
    run([paths.to_vec(), keys].concat())
}

#[test]
fn a_promise_that_was_kept_is_told_from_one_that_was_not() {
    let proof = Signed::new().proof(7, false);
    let (log, own) = (log_key(), receipts_key());
    let stands = format!("the event stands at position 7 of {FLOW}");
    for (promised, status, said) in [
        (
            promise(7, Standing::Settled, |_| ()),
            0,
            format!("Kept: {stands}, as it was promised."),
        ),
        (
            promise(7, Standing::Retracted, |_| ()),
            1,
            format!("BROKEN: {stands}, and was promised to be retracted."),
        ),
        (
            promise(7, Standing::Pool, |own| own.commitment[0] ^= 1),
            1,
            "another commitment.".to_owned(),
        ),
        (
            promise(7, Standing::Pool, |own| own.event[0] ^= 1),
            1,
            "another event.".to_owned(),
        ),
        (
            promise(7, Standing::Pool, |own| own.recorded_at -= 1),
            1,
            "another recorded_at.".to_owned(),
        ),
        (
            promise(7, Standing::Pool, |own| own.revision = 1),
            1,
            "another revision.".to_owned(),
        ),
        (
            promise(8, Standing::Pool, |_| ()),
            1,
            "NOT SHOWN: the proof is of another event".to_owned(),
        ),
    ] {
        let ran = kept(&receipt_of(promised), &proof, &[&log, &own]);
        assert_eq!((ran.status, ran.err.as_str()), (status, ""), "{said}");
        assert!(ran.out.contains(&said), "{said}: {}", ran.out);
    }
}

#[test]
fn nothing_is_said_of_what_is_not_signed() {
    let (proof, text) = (Signed::new().proof(7, true), receipt(7, Standing::Pool));
    let (log, own) = (log_key(), receipts_key());
    let other = signer("clinic.example/log", Purpose::Log, 9);
    for (receipt, proof, keys, said) in [
        (
            &*text,
            &*proof,
            vec![&own],
            "NOT SHOWN: PROOF: its checkpoint is of another log than the key.",
        ),
        (
            &text,
            &proof,
            vec![&log],
            "NOT SHOWN: RECEIPT: no key that was given",
        ),
        (
            &text,
            &proof,
            vec![&other, &own],
            "NOT SHOWN: PROOF: no key that was given",
        ),
        (
            &text.replace("index 0", "index 1"),
            &proof,
            vec![&log, &own],
            "NOT SHOWN: RECEIPT: its signature is wrong",
        ),
        (
            &text,
            &proof.replace("kind vital", "kind vitaL"),
            vec![&log, &own],
            "NOT SHOWN: PROOF: it is not what was",
        ),
        (
            &proof,
            &text,
            vec![&log, &own],
            "NOT SHOWN: RECEIPT: no receipt: format",
        ),
    ] {
        let ran = kept(receipt, proof, &keys);
        assert_eq!(ran.status, 1, "{said}");
        assert!(ran.out.starts_with(said), "{said}: {}", ran.out);
    }
    assert_eq!(kept(&text, &proof, &[]).status, 2);
    assert_eq!(kept(&text, &proof, &[&own, &own]).status, 2);
    assert_eq!(
        run(["kept", "--key", &key(&own), "/nowhere", "/nowhere"]).status,
        2
    );
    let path = file("witness.receipt", &text);
    let asked = ["verify", path.to_str().unwrap(), "--key", &key(&witness())];
    assert_eq!(run(asked).status, 2);
}
