//! Archives: every honest one verifies and leads to the log's root; whatever else is done to one is found.
use super::proof::archive::{ARCHIVE, POLICY, log_key, policy};
use crate::archive::{Archive, Containers, Disclose, Extent, Preamble, Signed, disclose};
use crate::block::Container;
use crate::checkpoint::Policy;
use crate::proof::{Refused, tlog};
use crate::verify::{FaultClass, Unwatched, Verdict};
use crate::wire::Malformed;

/// An archive of these containers, proven by the block at an index.
fn archive(pieces: &[Vec<u8>], proven: Option<(&[u8], u64)>, part: bool) -> Vec<u8> {
    let proof = proven.map(|(_, index)| {
        let proof = tlog::Proof {
            index,
            path: ARCHIVE.log.path(index),
            checkpoint: &ARCHIVE.checkpoint,
        };
        proof.text()
    });
    let height = proven.map_or(0, |(block, _)| Container::decode(block).unwrap().header().height);
    let proof = proof.unwrap_or_default();
    let containers = pieces.concat();
    let preamble = Preamble {
        containers: containers.len() as u64,
        proof: proof.len() as u64,
        height,
        part,
    };
    [preamble.encode(), containers, proof.into_bytes()].concat()
}

/// The archive of a vector, whole, its last block proven.
fn whole(name: &str) -> Vec<u8> {
    let (_, pieces, indexes) = ARCHIVE.flows.iter().find(|flow| flow.0.name == name).unwrap();
    let last = indexes.len() - 1;
    archive(pieces, Some((&pieces[last], indexes[last])), false)
}

fn verdict(bytes: &[u8]) -> Verdict {
    Archive::open(bytes).unwrap().verify(&Unwatched, 100).1
}

fn signed(bytes: &[u8]) -> Result<Option<Signed>, Refused> {
    Archive::open(bytes)?.signed(Some(&POLICY))
}

/// Whether anything says that the file is not what it was.
fn is_found(bytes: &[u8]) -> bool {
    let Ok(archive) = Archive::open(bytes) else {
        return true;
    };
    let (flow, verdict) = archive.verify(&Unwatched, 100);
    verdict.fault_count > 0 || flow.is_empty() || !matches!(archive.signed(Some(&POLICY)), Ok(Some(_)))
}

#[test]
fn every_flow_of_the_vectors_has_an_archive_that_verifies_and_is_signed() {
    let mut count = 0;
    for (vector, pieces, indexes) in ARCHIVE.flows.iter().filter(|flow| !flow.2.is_empty()) {
        for (block, index) in pieces.iter().zip(indexes) {
            let bytes = archive(pieces, Some((block, *index)), false);
            assert_eq!(verdict(&bytes).fault_count, 0, "{}", vector.name);
            let signed = signed(&bytes).unwrap().unwrap();
            let header = Container::decode(block).unwrap().header().clone();
            assert_eq!((signed.height, signed.last), (header.height, header.last()));
            let by = signed.by.unwrap();
            assert_eq!(by.log, log_key().verifier().to_string());
            assert_eq!(by.witnesses.len(), 1);
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn without_a_policy_the_way_to_the_root_is_followed_and_nobody_is_named_as_signer() {
    let bytes = whole("sha256-40.jsonl");
    let signed = Archive::open(bytes.as_slice())
        .unwrap()
        .signed(None)
        .unwrap()
        .unwrap();
    assert_eq!(signed.by, None);
    assert_eq!(signed.names, ["clinic.example/log", "witness.example/w"]);
}

#[test]
fn no_byte_can_change_unnoticed_and_no_end_be_cut() {
    for name in ["sha256-12.jsonl", "blake3-1-closed.jsonl"] {
        let honest = whole(name);
        assert!(!is_found(&honest));
        // But for the flag that says that it is a part: such a file claims less.
        for at in (0..honest.len()).step_by(13).chain(0..32).chain(33..64) {
            let mut bytes = honest.clone();
            bytes[at] ^= 1;
            assert!(is_found(&bytes), "{name}: byte {at}");
        }
        for end in (0..honest.len()).step_by(7) {
            assert!(is_found(&honest[..end]), "{name}: {end}");
        }
        assert!(is_found(&[honest, vec![b'\n']].concat()));
    }
}

#[test]
fn what_is_found_in_one_window_is_found_in_many() {
    let faults = |bytes: &[u8], most| {
        let extent = Extent {
            part: true,
            bodies: false,
        };
        let containers = Containers::of(bytes, 0..bytes.len() as u64, extent);
        let faults = containers.verify_by(most, &Unwatched, 100).1.faults;
        let named = faults
            .into_iter()
            .map(|fault| (fault.position, fault.class.name()));
        named.collect::<Vec<_>>()
    };
    let honest = flow("blake3-12.jsonl").1.concat();
    for window in 1..4 {
        assert_eq!(faults(&honest, window), []);
    }
    for at in (0..honest.len()).step_by(7) {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        let whole = faults(&bytes, 100);
        assert!(!whole.is_empty(), "byte {at}");
        for window in 1..3 {
            let parts = faults(&bytes, window);
            let lost: Vec<_> = whole.iter().filter(|fault| !parts.contains(fault)).collect();
            assert!(
                lost.is_empty(),
                "byte {at}, {window} at once: {whole:?}, {parts:?}"
            );
        }
    }
}

#[test]
fn a_chain_made_anew_does_not_lead_to_the_logs_root() {
    let (_, honest, indexes) = flow("sha256-40.jsonl");
    let (_, other, _) = flow("sha256-12.jsonl");
    let last = indexes.len() - 1;
    let bytes = archive(other, Some((&honest[last], indexes[last])), false);
    let found = signed(&bytes);
    assert!(
        matches!(found, Err(Refused::Root | Refused::Malformed(_))),
        "{found:?}"
    );
    // A proof of another block of the same flow.
    let bytes = archive(honest, Some((&honest[last], indexes[0])), false);
    assert_eq!(signed(&bytes), Err(Refused::Root));
}

#[test]
fn a_wrong_key_and_an_archive_without_a_proof_are_told_from_a_signed_one() {
    let (_, pieces, _) = flow("sha256-40.jsonl");
    assert_eq!(signed(&archive(pieces, None, false)), Ok(None));
    let wrong = crate::note::Signer::new("clinic.example/log", crate::note::Purpose::Log, &[9; 32]).unwrap();
    let wrong = Policy::new(vec![wrong.verifier().clone()], vec![], 0).unwrap();
    let bytes = whole("sha256-40.jsonl");
    let found = Archive::open(bytes.as_slice()).unwrap().signed(Some(&wrong));
    assert!(matches!(found, Err(Refused::Checkpoint(_))), "{found:?}");
    assert!(policy().open(&ARCHIVE.checkpoint).is_ok());
}

#[test]
fn a_part_says_nothing_of_what_stands_around_it_and_a_whole_must_be_one() {
    let (_, pieces, indexes) = flow("sha256-40.jsonl");
    assert!(indexes.len() > 2);
    let middle = &pieces[1..2];
    let proven = Some((pieces[1].as_slice(), indexes[1]));
    let part = archive(middle, proven, true);
    assert_eq!(verdict(&part).fault_count, 0);
    assert_eq!(signed(&part).unwrap().unwrap().height, 1);
    assert!(verdict(&archive(middle, proven, false)).fault_count > 0);
    // A tail that was cut off: the last block speaks of three events behind it.
    let (_, open, indexes) = flow("sha256-12.jsonl");
    let cut = archive(&open[..indexes.len()], None, false);
    let faults = verdict(&cut).faults;
    assert!(
        faults.iter().any(|fault| fault.class == FaultClass::Missing),
        "{faults:?}"
    );
}

#[test]
fn what_is_not_disclosed_is_not_there_and_the_chain_holds() {
    let (_, pieces, indexes) = flow("sha256-40.jsonl");
    let last = indexes.len() - 1;
    for (show, verified) in [
        (Disclose::All, 40),
        (Disclose::At(&[]), 0),
        (Disclose::At(&[2, 39]), 2),
    ] {
        let some: Vec<Vec<u8>> = pieces
            .iter()
            .map(|piece| disclose(&Container::decode(piece).unwrap(), show))
            .collect();
        let bytes = archive(&some, Some((&pieces[last], indexes[last])), false);
        let verdict = verdict(&bytes);
        assert_eq!(
            (verdict.fault_count, verdict.bodies_verified),
            (0, verified),
            "{show:?}"
        );
        assert_eq!(verdict.bodies_not_shown, 40 - verified);
        assert!(signed(&bytes).unwrap().is_some());
    }
}

#[test]
fn sizes_are_read_strictly() {
    let honest = whole("sha256-12.jsonl");
    let preamble = Preamble::decode(&honest[..64]).unwrap();
    assert_eq!(preamble.encode(), honest[..64]);
    let what = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = honest.clone();
        change(&mut bytes);
        Archive::open(bytes.as_slice()).map(|_| ()).unwrap_err()
    };
    let is = |at, what| Malformed { at, what };
    assert_eq!(what(&|bytes| bytes[7] = b'2'), is(0, "magic"));
    assert_eq!(what(&|bytes| bytes[8] = 255), is(8, "containers"));
    assert_eq!(what(&|bytes| bytes[8..16].fill(0)), is(8, "containers"));
    assert_eq!(what(&|bytes| bytes[15] ^= 64), is(8, "length"));
    assert_eq!(what(&|bytes| bytes[16] = 1), is(16, "proof"));
    assert_eq!(what(&|bytes| bytes[24] = 255).at, 24);
    assert_eq!(what(&|bytes| bytes[32] = 2), is(32, "flags"));
    assert_eq!(what(&|bytes| bytes[63] = 1).at, 33);
    let unproven = |height| Preamble {
        proof: 0,
        height,
        ..preamble
    };
    assert!(Preamble::decode(&unproven(0).encode()).is_ok());
    assert_eq!(Preamble::decode(&unproven(1).encode()), Err(is(16, "proof")));
}

fn flow(name: &str) -> &'static (super::vectors::Vector, Vec<Vec<u8>>, Vec<u64>) {
    ARCHIVE.flows.iter().find(|flow| flow.0.name == name).unwrap()
}
