//! Proofs of events: every honest one holds, whatever else is done to one is refused.
use super::clinic::{self, Open};
use super::vectors::{Vector, digest};
use crate::block::Container;
use crate::checkpoint::cosign;
use crate::event::Where;
use crate::log::Leaf;
use crate::note::Purpose;
use crate::proof::{Content, MakeError, Proof, Proven};
use crate::suite::Suite;
use crate::wire::text::to_hex;

pub mod archive;
mod attacks;
mod page;
mod strict;

use archive::{ARCHIVE, Log, prove, signer};

#[test]
fn every_sealed_event_of_the_vectors_has_a_proof_that_gives_its_values() {
    let mut count = 0;
    for show in [true, false] {
        for (vector, n, text) in ARCHIVE.proofs(show, |_| true) {
            let proven = prove(&text).unwrap_or_else(|refused| panic!("{} {n} {refused:?}", vector.name));
            gives_the_values(&proven, vector, n, show);
            assert_eq!(proven.opened.cosignatures.len(), 1);
            assert_eq!(proven.proof.text(), text);
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
}

fn gives_the_values(proven: &Proven, vector: &Vector, n: u64, show: bool) {
    let (proof, digests, line) = (&proven.proof, &proven.digests, &vector.events[n as usize - 1]);
    let is_block = |line: &&serde_json::Value| line["block"].as_u64() == Some(proof.header.height);
    let block = vector.blocks.iter().find(is_block).unwrap();
    assert_eq!((&proof.genesis.flow, proof.n), (&vector.flow.flow, n));
    assert_eq!(digests.genesis, digest(&vector.header["genesis"]));
    assert_eq!(proof.event.commitment, digest(&line["commitment"]));
    assert_eq!(digests.event, digest(&line["hash"]));
    assert_eq!(digests.id, digest(&line["id"]));
    assert_eq!(digests.block, digest(&block["hash"]));
    assert_eq!(proof.event.who, line["who"].as_str());
    let original = &vector.flow.events[n as usize - 1];
    let content = if show {
        Content::Shown {
            salt: original.salt,
            body: original.body.clone(),
        }
    } else {
        Content::NotShown(original.commitment(vector.flow.suite))
    };
    assert_eq!(proof.content, content);
}

/// Fillers are where position and closing flag say, and are never written down.
#[test]
fn neighbours_that_do_not_exist_are_left_out() {
    let count = |text: &str, key: &str| text.lines().filter(|line| line.starts_with(key)).count();
    for (vector, n, text) in ARCHIVE.proofs(false, |_| true) {
        let left = vector.flow.events.len() as u64 - n;
        assert_eq!(count(&text, "before ") as u64, (n - 1).min(3));
        assert_eq!(count(&text, "after ") as u64, left.min(3));
        assert!(!text.contains(&to_hex(&vector.flow.genesis())));
    }
}

/// The longest texts, the greatest block, a log of 2⁴⁰ leaves and three signatures.
#[test]
fn the_longest_proof_is_under_8_kib_without_its_body() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, false);
    let mut proof = Proof::parse(&text).unwrap();
    let (flow, kind, place, who) = (
        "f".repeat(512),
        "k".repeat(255),
        "p".repeat(1024),
        "w".repeat(512),
    );
    proof.genesis.flow = flow;
    proof.event.kind = &kind;
    proof.event.place = Where::Place(&place);
    proof.event.who = Some(&who);
    proof.header.count = 1 << 20;
    proof.path = vec![[1; 32]; 20];
    proof.logged.path = vec![[2; 32]; 40];
    let more = cosign(
        &signer("another.witness.example/w", Purpose::Witness, 9),
        proof.logged.checkpoint,
        1,
    )
    .unwrap();
    let checkpoint = proof.logged.checkpoint.to_owned() + &more;
    proof.logged.checkpoint = &checkpoint;
    let text = proof.text();
    assert_eq!(Proof::parse(&text).unwrap(), proof);
    assert!(text.len() < 8192, "{}", text.len());
}

#[test]
fn no_proof_is_made_of_what_does_not_hold() {
    let flow = clinic::flow(Suite::Sha256, &[1, 2, 3, 4, 5, 6, 7, 8], false, 3);
    let pieces = flow.pack(&[3, 2]);
    let (block, tail) = (
        Container::decode(&pieces[1]).unwrap(),
        Container::decode(&pieces[2]).unwrap(),
    );
    let mut log = Log::default();
    let index = log.add_block(&block);
    log.add(&Leaf::KeyChange { old: "a", new: "b" });
    assert!(log.prove(&block, index, 4, true).is_ok());
    assert_eq!(log.prove(&tail, index, 6, true), Err(MakeError::Tail));
    for n in [0, 3, 6, u64::MAX] {
        assert_eq!(log.prove(&block, index, n, true), Err(MakeError::Position), "{n}");
    }
    assert_eq!(log.prove(&block, 1, 4, true), Err(MakeError::Log));
    let other = Container::decode(&pieces[0]).unwrap();
    assert_eq!(log.prove(&other, index, 1, true), Err(MakeError::Log));
    let cut = &pieces[1][..block.verification_length()];
    let mut cut = cut.to_vec();
    cut[16..24].copy_from_slice(&(block.verification_length() as u64).to_be_bytes());
    let cut = Container::decode(&cut).unwrap();
    assert_eq!(log.prove(&cut, index, 4, true), Err(MakeError::Body));
    assert!(log.prove(&cut, index, 4, false).is_ok());
    for change in [
        |open: &mut Open| open.events[0].frame[20] ^= 1,
        |open: &mut Open| open.events[0].body[30] ^= 1,
        |open: &mut Open| open.events[1].hash[0] ^= 1,
        |open: &mut Open| open.events[1].provisional[0] ^= 1,
        |open: &mut Open| open.seams.ids[1][0] ^= 1,
        |open: &mut Open| open.header.sealed_at += 1,
    ] {
        let mut open = Open::of(&pieces[1]);
        change(&mut open);
        let packed = open.pack();
        let damaged = Container::decode(&packed).unwrap();
        assert_eq!(log.prove(&damaged, index, 4, true), Err(MakeError::Block));
    }
}
