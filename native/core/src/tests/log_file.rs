//! Log files: whatever was done to one is found, and an honest one holds however its items lie.
use crate::archive::{Item, LOG_MAGIC, LogFile, LogVerdict};
use crate::checkpoint::sign;
use crate::log::{Frontier, Leaf, leaf_hash};
use crate::note::{Purpose, Signer};
use crate::suite::{Digest, Suite};
use crate::verify::{FaultClass, Unwatched};

fn leaf(n: u64) -> Vec<u8> {
    Leaf::Tail {
        suite: Suite::Sha256,
        genesis: [n as u8; 32],
        n: n + 1,
        provisional: [7; 32],
    }
    .encode()
}

fn leaves(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(leaf).collect()
}

fn signer(seed: u8) -> Signer {
    Signer::new("clinic.example/log", Purpose::Log, &[seed; 32]).unwrap()
}

fn root(leaves: &[Vec<u8>]) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf_hash(leaf), &mut Vec::new()).unwrap();
    }
    frontier.root()
}

/// A checkpoint over the first leaves, as it is kept.
fn checkpoint(signer: &Signer, leaves: &[Vec<u8>], size: usize) -> Vec<u8> {
    let note = sign(signer, size as u64, root(&leaves[..size])).unwrap();
    named(&signer.verifier().to_string(), &note)
}

fn named(key: &str, note: &str) -> Vec<u8> {
    [&(key.len() as u16).to_be_bytes(), key.as_bytes(), note.as_bytes()].concat()
}

fn file(leaves: &[Vec<u8>], checkpoints: &[Vec<u8>]) -> Vec<u8> {
    let mut out = LOG_MAGIC.to_vec();
    for count in [leaves.len(), checkpoints.len()] {
        out.extend((count as u64).to_be_bytes());
    }
    out.resize(64, 0);
    for item in leaves.iter().chain(checkpoints) {
        out.extend((item.len() as u32).to_be_bytes());
        out.extend(item);
    }
    out
}

fn verify(file: &[u8]) -> Option<LogVerdict> {
    LogFile::open(file).ok().map(|log| log.verify(&Unwatched, 1000))
}

fn faults(file: &[u8]) -> Vec<(u64, FaultClass)> {
    let verdict = verify(file).unwrap();
    assert_eq!(verdict.fault_count, verdict.faults.len() as u64);
    let faults = verdict.faults.iter();
    faults.map(|fault| (fault.position, fault.class)).collect()
}

/// Ten leaves under three checkpoints, the second by a key that came later, the third covering all.
fn honest() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let leaves = leaves(10);
    let checkpoints = vec![
        checkpoint(&signer(1), &leaves, 4),
        checkpoint(&signer(2), &leaves, 10),
        checkpoint(&signer(2), &leaves, 7),
    ];
    (leaves, checkpoints)
}

#[test]
fn an_honest_file_holds_and_gives_its_items_in_order() {
    let (leaves, checkpoints) = honest();
    let bytes = file(&leaves, &checkpoints);
    let verdict = verify(&bytes).unwrap();
    assert_eq!((verdict.leaves, verdict.checkpoints, verdict.unknown), (10, 3, 0));
    assert_eq!(faults(&bytes), []);
    assert!(verdict.last.unwrap().starts_with("clinic.example/log\n7\n"));
    let mut items = Vec::new();
    let log = LogFile::open(&bytes[..]).unwrap();
    let take = |number, item: Item<'_>| {
        items.push(match item {
            Item::Leaf(data) => (number, false, data.to_vec()),
            Item::Checkpoint(data) => (number, true, data.to_vec()),
        })
    };
    log.each(&Unwatched, take).unwrap();
    let expected = leaves.into_iter().map(|leaf| (false, leaf));
    let expected = expected.chain(checkpoints.into_iter().map(|one| (true, one)));
    let expected: Vec<_> = (0..)
        .zip(expected)
        .map(|(number, (kind, item))| (number, kind, item))
        .collect();
    assert_eq!(items, expected);
}

#[test]
fn an_empty_log_and_one_without_checkpoints_hold() {
    assert_eq!(faults(&file(&[], &[])), []);
    assert_eq!(faults(&file(&[], &[checkpoint(&signer(1), &[], 0)])), []);
    let verdict = verify(&file(&leaves(3), &[])).unwrap();
    assert_eq!((verdict.last, verdict.fault_count), (None, 0));
}

#[test]
fn a_file_longer_than_is_read_at_once_holds() {
    // Unknown leaves of any length are leaves.
    let leaves: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![200 + n; 1 << 20]).collect();
    let bytes = file(&leaves, &[checkpoint(&signer(1), &leaves, 9)]);
    assert_eq!(faults(&bytes), []);
    assert_eq!(verify(&bytes).unwrap().unknown, 9);
    let at = bytes.iter().position(|byte| *byte == 205).unwrap() + 9;
    let mut flipped = bytes.clone();
    flipped[at] ^= 1;
    assert_eq!(faults(&flipped), [(9, FaultClass::Log)]);
}

#[test]
fn no_byte_may_be_another_one_and_none_may_be_missing() {
    let (leaves, checkpoints) = honest();
    let bytes = file(&leaves, &checkpoints);
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut flipped = bytes.clone();
            flipped[at] ^= flip;
            let holds = verify(&flipped).is_some_and(|verdict| verdict.fault_count == 0);
            assert!(!holds, "{at} {flip}");
        }
        let holds = verify(&bytes[..at]).is_some_and(|verdict| verdict.fault_count == 0);
        assert!(!holds, "cut to {at}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(faults(&longer), [(13, FaultClass::Format)]);
}

#[test]
fn leaves_and_checkpoints_that_do_not_belong_together_are_named() {
    let (leaves, checkpoints) = honest();
    let swapped = [
        &leaves[..2],
        &[leaves[3].clone(), leaves[2].clone()],
        &leaves[4..],
    ]
    .concat();
    let roots = [4, 7, 10].map(|size| (size, FaultClass::Log));
    assert_eq!(faults(&file(&swapped, &checkpoints)), roots);
    assert_eq!(
        faults(&file(&leaves[..8], &checkpoints)),
        [(10, FaultClass::Missing)]
    );
    let broken = [&leaves[..9], &[vec![1, 1]]].concat();
    let roots = [(9, FaultClass::Format), (10, FaultClass::Log)];
    assert_eq!(faults(&file(&broken, &checkpoints)), roots);
    // Signed by another key than it names, and none.
    let note = sign(&signer(2), 10, root(&leaves)).unwrap();
    let other = named(&signer(3).verifier().to_string(), &note);
    assert_eq!(faults(&file(&leaves, &[other])), [(10, FaultClass::Log)]);
    for none in [vec![0], vec![0, 1, b'k'], named("key", &note), named("", &note)] {
        assert_eq!(faults(&file(&leaves, &[none])), [(10, FaultClass::Format)]);
    }
}

#[test]
fn lengths_and_counts_that_cannot_be_are_malformed() {
    let (leaves, checkpoints) = honest();
    let bytes = file(&leaves, &checkpoints);
    for length in [0_u32, (1 << 21) + 1, u32::MAX] {
        let mut wrong = bytes.clone();
        wrong[64..68].copy_from_slice(&length.to_be_bytes());
        assert_eq!(faults(&wrong), [(0, FaultClass::Format)]);
    }
    for count in [0, 9, 11, u64::MAX] {
        let mut wrong = bytes.clone();
        wrong[8..16].copy_from_slice(&count.to_be_bytes());
        assert!(!faults(&wrong).is_empty(), "{count}");
    }
    let mut version = bytes.clone();
    version[7] = b'2';
    assert!(LogFile::open(&version[..]).is_err());
}
