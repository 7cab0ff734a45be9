//! Receipts: every one of a group holds, and whatever else is done to one is refused.
use std::sync::LazyLock;

use crate::block::Container;
use crate::checkpoint::{self, Checkpoint, Policy, PolicyError};
use crate::event::FLAGS_AT;
use crate::note::{Note, Purpose, Signer};
use crate::receipt::{Group, Held, Promise, Receipt, Refused, SignError, Standing, verify};
use crate::reference;
use crate::suite::{Digest, Suite};
use crate::tests::log::naive;
use crate::tests::proof::archive::{ARCHIVE, log_key, signer, witness};
use crate::wire::text::{to_base64, to_hex};

mod kept;
mod page;
mod strict;

const NAME: &str = "clinic.example/receipts";
const DAY: i64 = 86_400_000_000;

pub fn key() -> Signer {
    signer(NAME, Purpose::Receipts, 3)
}

static POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy::of_receipts(vec![key().verifier().clone()]).unwrap());

pub fn held(text: &str) -> Result<Held<'_>, Refused> {
    verify(text.as_bytes(), &POLICY)
}

fn refusal(text: &str) -> Refused {
    match held(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(refused) => refused,
    }
}

/// A promise of the event at a position of a vector, as it was when it appeared.
pub fn promise(name: &str, n: usize, standing: Standing) -> Promise {
    let (vector, ..) = ARCHIVE
        .flows
        .iter()
        .find(|(vector, ..)| vector.name == name)
        .unwrap();
    let event = &vector.flow.events[n - 1];
    let mut frame = event.frame(vector.flow.suite);
    frame[FLAGS_AT] = 0;
    let deadline = event.recorded_at + DAY;
    Promise::of(
        vector.flow.suite,
        vector.flow.genesis(),
        &frame,
        standing,
        deadline,
    )
    .unwrap()
}

/// Promises of both suites and all standings.
fn promises(count: usize) -> Vec<Promise> {
    let names = ["sha256-40.jsonl", "blake3-40.jsonl"];
    (0..count)
        .map(|i| promise(names[i % 2], i / 2 % 40 + 1, Standing::ALL[i % 3]))
        .collect()
}

pub fn receipts_by(signer: &Signer, promises: Vec<Promise>) -> Vec<String> {
    let group = Group::new(promises).unwrap();
    let signature = signer.sign(group.text().as_bytes());
    group.receipts(signer.verifier(), &signature).unwrap()
}

fn receipts(count: usize) -> Vec<String> {
    receipts_by(&key(), promises(count))
}

#[test]
fn every_promise_of_a_group_has_a_receipt_under_one_signature() {
    for count in (1..=17).chain([31, 32, 33, 64, 100]) {
        let (promises, texts) = (promises(count), receipts(count));
        assert_eq!(texts.len(), count);
        let mut signatures = Vec::new();
        for (i, (text, promise)) in texts.iter().zip(&promises).enumerate() {
            let Held { receipt, key: by } = held(text).unwrap();
            assert_eq!((&receipt.promise, receipt.index), (promise, i as u32));
            assert_eq!(by, key().verifier());
            assert_eq!(receipt.text(), *text);
            signatures.push(receipt.signature);
        }
        signatures.dedup();
        assert_eq!(signatures.len(), 1);
    }
    assert!(Group::new(Vec::new()).is_none());
}

/// FORMAT.md once more, plainly.
#[test]
fn leaf_text_and_root_are_what_the_format_says() {
    for (suite, name) in [(1, "sha256-12.jsonl"), (2, "blake3-12.jsonl")] {
        let (vector, ..) = ARCHIVE
            .flows
            .iter()
            .find(|(vector, ..)| vector.name == name)
            .unwrap();
        let flow = &vector.flow;
        let leaves: Vec<Vec<u8>> = (1..=12)
            .zip([b'P', b'S', b'R'].iter().cycle())
            .map(|(n, standing)| {
                let event = &flow.events[n - 1];
                let mut frame = event.frame(flow.suite);
                frame[64] = 0;
                let hash = reference::h(flow.suite, "event-seal/1 event", &frame);
                let mut leaf = vec![*standing, suite];
                leaf.extend(flow.genesis());
                leaf.extend(event.euid);
                leaf.extend(event.revision.to_be_bytes());
                leaf.extend(event.recorded_at.to_be_bytes());
                leaf.extend(event.commitment(flow.suite));
                leaf.extend(hash);
                leaf.extend((event.recorded_at + DAY).to_be_bytes());
                assert_eq!(leaf.len(), 132);
                leaf
            })
            .collect();
        let standings = [Standing::Pool, Standing::Settled, Standing::Retracted];
        let promised = (1..=12).zip(standings.into_iter().cycle());
        let group = Group::new(promised.map(|(n, standing)| promise(name, n, standing)).collect()).unwrap();
        let own: Vec<Vec<u8>> = group.promises().iter().map(Promise::leaf).collect();
        assert_eq!(own, leaves);
        let root = to_hex(&naive::root(&leaves));
        assert_eq!(
            group.text(),
            format!("event-seal/1 receipts\ncount 12\nroot {root}\n")
        );
    }
}

/// Whether an event is late is known only when it settles, and changes nothing of what was promised.
#[test]
fn a_late_event_is_promised_as_it_appeared() {
    let mut late = 0;
    for (vector, pieces, _) in &ARCHIVE.flows {
        let (suite, genesis) = (vector.flow.suite, vector.flow.genesis());
        let of = |frame: &[u8]| Promise::of(suite, genesis, frame, Standing::Pool, i64::MAX >> 10).unwrap();
        for piece in pieces {
            let block = Container::decode(piece).unwrap();
            for i in 0..block.count() {
                let mut frame = block.frame(i).to_vec();
                late += usize::from(frame[FLAGS_AT]);
                let settled = of(&frame);
                frame[FLAGS_AT] = 0;
                assert_eq!(settled, of(&frame));
            }
        }
    }
    assert!(late > 0);
}

#[test]
fn a_receipt_is_worth_nothing_to_whoever_trusts_other_keys() {
    let text = &receipts(5)[3];
    let refused = |keys: Vec<&Signer>| {
        let keys = keys.iter().map(|key| key.verifier().clone()).collect();
        verify(text.as_bytes(), &Policy::of_receipts(keys).unwrap()).err()
    };
    let namesake = signer(NAME, Purpose::Receipts, 9);
    let elsewhere = signer("elsewhere.example/receipts", Purpose::Receipts, 3);
    assert_eq!(refused(vec![&namesake]), Some(Refused::Unsigned));
    assert_eq!(refused(vec![&elsewhere]), Some(Refused::Unsigned));
    assert_eq!(refused(vec![&namesake, &key()]), None);
    let logs = Policy::new(vec![log_key().verifier().clone()], vec![], 0).unwrap();
    assert_eq!(verify(text.as_bytes(), &logs).err(), Some(Refused::Unsigned));
    // The right name on another key's signature.
    let forged = receipts_by(&namesake, promises(5))[3].clone();
    let id = |signer: &Signer| signer.verifier().id();
    let receipt = Receipt::parse(&forged).unwrap();
    let mut signature = receipt.signature.clone();
    signature.id = id(&key());
    let forged = Receipt { signature, ..receipt };
    assert_eq!(refusal(&forged.text()), Refused::Signature);
}

#[test]
fn what_is_no_signature_of_the_group_makes_no_receipt() {
    let group = Group::new(promises(3)).unwrap();
    let other = Group::new(promises(4)).unwrap();
    let signed =
        |signer: &Signer, text: &str| group.receipts(signer.verifier(), &signer.sign(text.as_bytes()));
    assert!(signed(&key(), &group.text()).is_ok());
    assert_eq!(signed(&key(), &other.text()), Err(SignError::Signature));
    assert_eq!(signed(&log_key(), &group.text()), Err(SignError::Purpose));
    assert_eq!(signed(&witness(), &group.text()), Err(SignError::Purpose));
    assert_eq!(
        group.receipts(key().verifier(), &[0; 63]),
        Err(SignError::Signature)
    );
}

/// One seed under three purposes, so that nothing but text and type tells the signatures apart.
#[test]
fn no_signature_passes_for_one_of_another_purpose() {
    let of = |purpose| signer("clinic.example/log", purpose, 1);
    let (log, cosigner, own) = (of(Purpose::Log), of(Purpose::Witness), of(Purpose::Receipts));
    let group = Group::new(promises(3)).unwrap();
    let text = group.text();
    assert!(Checkpoint::parse(&text).is_err());
    let checkpoint = checkpoint::sign(&log, 3, [7; 32]).unwrap();
    let note = Note::parse(&checkpoint).unwrap();
    for time in [0, 1, i64::MAX as u64] {
        assert_ne!(checkpoint::cosigned(note.text, time), text.as_bytes());
    }
    // A receipts key signs no checkpoint, and none is believed that bears its signature of a receipt's text.
    assert_eq!(
        checkpoint::sign(&own, 3, [7; 32]),
        Err(checkpoint::SignError::Purpose)
    );
    assert_eq!(
        checkpoint::cosign(&own, &checkpoint, 1),
        Err(checkpoint::SignError::Purpose)
    );
    let policy = Policy::new(vec![log.verifier().clone()], vec![], 0).unwrap();
    let as_log = format!("{text}\n{}", log.verifier().line(&own.sign(text.as_bytes())));
    assert!(matches!(
        policy.open(&as_log),
        Err(checkpoint::Refused::Malformed(_))
    ));
    let moved = log.verifier().line(&own.sign(text.as_bytes()));
    assert_eq!(
        policy.open(&format!("{}\n{moved}", note.text)).err(),
        Some(checkpoint::Refused::Signature)
    );
    // And none of what the others sign makes a receipt.
    let cosigned = checkpoint::cosigned(note.text, 1);
    for (signer, message) in [(&log, note.text.as_bytes()), (&cosigner, &cosigned)] {
        let signature = signer.sign(message);
        assert_eq!(
            group.receipts(own.verifier(), &signature),
            Err(SignError::Signature)
        );
    }
    let key = |signer: &Signer| signer.verifier().clone();
    let shared = policy.clone().with_receipts(vec![key(&own)]);
    assert_eq!(shared, Err(PolicyError::Shared));
    assert_eq!(Policy::of_receipts(vec![key(&log)]), Err(PolicyError::Purpose));
    assert_eq!(Policy::new(vec![key(&own)], vec![], 0), Err(PolicyError::Purpose));
    assert_eq!(
        Policy::new(vec![key(&log)], vec![key(&own)], 0),
        Err(PolicyError::Purpose)
    );
    assert_eq!(Policy::of_receipts(vec![]), Err(PolicyError::Logs));
}

#[test]
fn a_receipts_key_has_the_type_that_the_format_says() {
    let key = key();
    let bytes = [&b"\xffevent-seal/1 receipt"[..], key.verifier().public()].concat();
    let text = key.verifier().to_string();
    assert!(text.ends_with(&format!("+{}", to_base64(&bytes))), "{text}");
}

#[test]
fn a_promise_is_of_a_frame_and_due_after_it_appeared() {
    let frame = ARCHIVE.flows[0].0.flow.events[0].frame(Suite::Sha256);
    let of = |frame: &[u8], deadline| {
        Promise::of(Suite::Sha256, [1; 32], frame, Standing::Pool, deadline)
            .map(|promise| promise.deadline)
            .map_err(|malformed| malformed.what)
    };
    let recorded_at = ARCHIVE.flows[0].0.flow.events[0].recorded_at;
    assert_eq!(of(&frame, recorded_at), Ok(recorded_at));
    assert_eq!(of(&frame, recorded_at - 1), Err("deadline"));
    assert_eq!(of(&frame, i64::MAX), Err("deadline"));
    assert!(of(&frame[..64], recorded_at).is_err());
}

fn digests(text: &str) -> Vec<Digest> {
    Receipt::parse(text).unwrap().path
}

#[test]
fn paths_are_as_long_as_index_and_count_ask() {
    assert_eq!(digests(&receipts(1)[0]), [] as [Digest; 0]);
    assert_eq!(digests(&receipts(5)[4]).len(), 1);
    assert_eq!(digests(&receipts(64)[63]).len(), 6);
    assert!(receipts(64)[63].len() < 1_200);
}
