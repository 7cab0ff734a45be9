//! What a proof of the event says of a promise.
use super::{held, key, promise, receipts_by};
use crate::block::Container;
use crate::proof::Proof;
use crate::receipt::{Outcome, Promise, Standing, kept};
use crate::tests::proof::archive::{ARCHIVE, prove};

const NAME: &str = "sha256-40.jsonl";

#[test]
fn every_sealed_event_keeps_its_promise_late_ones_too() {
    let mut late = 0;
    for (vector, n, text) in ARCHIVE.proofs(false, |_| true) {
        let proven = prove(&text).unwrap();
        late += usize::from(proven.proof.event.late);
        for standing in [Standing::Pool, Standing::Settled] {
            let promise = promise(&vector.name, n as usize, standing);
            assert_eq!(
                kept(&promise, &proven),
                Some(Outcome::Kept),
                "{} {n}",
                vector.name
            );
        }
        let retracted = promise(&vector.name, n as usize, Standing::Retracted);
        assert_eq!(kept(&retracted, &proven), Some(Outcome::Broken("retracted")));
    }
    assert!(late > 10);
}

#[test]
fn a_promise_that_was_broken_is_named_by_its_field() {
    let text = ARCHIVE.proof(NAME, 9, true);
    let proven = prove(&text).unwrap();
    let honest = promise(NAME, 9, Standing::Pool);
    assert!(proven.proof.event.revision < u16::MAX);
    let of = |edit: &dyn Fn(&mut Promise)| {
        let mut promise = honest.clone();
        edit(&mut promise);
        kept(&promise, &proven)
    };
    let broken = |field| Some(Outcome::Broken(field));
    assert_eq!(of(&|_| ()), Some(Outcome::Kept));
    assert_eq!(of(&|promise| promise.recorded_at -= 1), broken("recorded_at"));
    assert_eq!(of(&|promise| promise.commitment[0] ^= 1), broken("commitment"));
    // Another kind, time, place or who: the commitment is the same, the event is not.
    assert_eq!(of(&|promise| promise.event[0] ^= 1), broken("event"));
    assert_eq!(of(&|promise| promise.revision += 1), broken("revision"));
    assert_eq!(
        of(&|promise| promise.standing = Standing::Retracted),
        broken("retracted")
    );
    // Whatever else is so: of another flow or event it says nothing.
    assert_eq!(of(&|promise| promise.genesis[0] ^= 1), None);
    assert_eq!(of(&|promise| promise.euid[0] ^= 1), None);
}

/// Of an event that was amended later the pool's promise leaves open what it became, and a settled one's nothing.
#[test]
fn an_event_may_have_been_amended_only_while_it_was_in_the_pool() {
    let amended = ARCHIVE
        .proofs(false, |_| true)
        .into_iter()
        .find(|(_, _, text)| Proof::parse(text).unwrap().event.revision > 0);
    let (vector, n, text) = amended.unwrap();
    let proven = prove(&text).unwrap();
    let earlier = |standing| {
        let mut promise = promise(&vector.name, n as usize, standing);
        promise.revision -= 1;
        promise.commitment[0] ^= 1;
        promise.event[0] ^= 1;
        kept(&promise, &proven)
    };
    assert_eq!(earlier(Standing::Pool), Some(Outcome::Amended));
    assert_eq!(earlier(Standing::Settled), Some(Outcome::Broken("revision")));
}

/// From the frame that a store holds when it promises up to the proof that it makes later.
#[test]
fn a_receipt_and_a_proof_of_one_event_meet() {
    let (vector, pieces, indexes) = &ARCHIVE.flows[3];
    let block = Container::decode(&pieces[0]).unwrap();
    let promised = (0..block.count()).map(|i| {
        let genesis = vector.flow.genesis();
        Promise::of(
            vector.flow.suite,
            genesis,
            block.frame(i),
            Standing::Settled,
            i64::MAX >> 10,
        )
        .unwrap()
    });
    let texts = receipts_by(&key(), promised.collect());
    for (i, text) in texts.iter().enumerate() {
        let receipt = held(text).unwrap().receipt;
        let n = block.header().first + i as u64;
        let proof = ARCHIVE.log.prove(&block, indexes[0], n, false).unwrap();
        assert_eq!(
            kept(&receipt.promise, &prove(&proof).unwrap()),
            Some(Outcome::Kept)
        );
        let other = ARCHIVE.proof(NAME, 9, false);
        assert_eq!(kept(&receipt.promise, &prove(&other).unwrap()), None);
    }
}
