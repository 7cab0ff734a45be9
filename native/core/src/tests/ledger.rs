//! Containers held against a log, and a log against the containers: whatever one of them lacks or says otherwise is named.
use super::clinic::{self, Flow, Open, named};
use crate::block::{BEGINNING, Container, Header};
use crate::log::{Leaf, Ledger};
use crate::suite::{Digest, Suite};
use crate::verify::{Against, Fault, Run, Unwatched, verify};

const SUITES: [Suite; 2] = [Suite::Sha256, Suite::Blake3];
const SIZES: [usize; 3] = [4, 1, 3];

fn flow(suite: Suite) -> Flow {
    clinic::flow(suite, &(1..=11).collect::<Vec<i64>>(), false, 1)
}

fn block_leaf(block: &[u8]) -> Vec<u8> {
    let block = Container::decode(block).unwrap();
    let header = block.header();
    Leaf::Block {
        suite: header.suite,
        genesis: header.genesis,
        height: header.height,
        last: header.last(),
        hash: *block.hash(),
    }
    .encode()
}

fn tail_leaf(flow: &Flow, n: usize) -> Vec<u8> {
    Leaf::Tail {
        suite: flow.genesis.suite,
        genesis: flow.g(),
        n: n as u64,
        provisional: flow.events[n - 1].provisional,
    }
    .encode()
}

fn decision(flow: &Flow, n: usize) -> Vec<u8> {
    Leaf::Decision {
        suite: flow.genesis.suite,
        genesis: flow.g(),
        n: n as u64,
        provisional: flow.events[n - 1].provisional,
        decision: [9; 32],
    }
    .encode()
}

/// Each block's leaf, then those of all positions as tails, though an honest log has only some.
fn log_of(flow: &Flow, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let blocks = pieces
        .iter()
        .filter(|piece| !Container::decode(piece).unwrap().is_tail());
    let tails = (1..=flow.events.len()).map(|n| tail_leaf(flow, n));
    blocks.map(|block| block_leaf(block)).chain(tails).collect()
}

fn ledger(leaves: &[Vec<u8>]) -> Ledger {
    let mut ledger = Ledger::default();
    leaves.iter().for_each(|leaf| assert!(ledger.learn(leaf)));
    ledger.arrange();
    ledger
}

fn held(pieces: &[Vec<u8>], ledger: &Ledger) -> Vec<Fault> {
    let source = Against {
        source: pieces,
        ledger,
    };
    verify(&source, &[clinic::run(pieces.len())], &Unwatched, 1000).faults
}

/// All faults, those of flows that are not there included.
fn faults(pieces: &[Vec<u8>], leaves: &[Vec<u8>]) -> Vec<(&'static str, u64)> {
    let ledger = ledger(leaves);
    let mut all = named(&held(pieces, &ledger));
    all.extend(
        ledger
            .take_strays()
            .iter()
            .map(|(stray, _)| ("stray", stray.first)),
    );
    all.extend(ledger.unmet().iter().map(|one| ("unmet", one.position)));
    all.extend(ledger.malformed().iter().map(|index| ("malformed", *index)));
    all
}

#[test]
fn an_honest_log_holds_however_the_flow_is_cut() {
    for suite in SUITES {
        let flow = flow(suite);
        for sizes in [&[][..], &[1], &[8], &[4, 4], &SIZES, &[1; 8]] {
            let pieces = flow.pack(sizes);
            let leaves = log_of(&flow, &pieces);
            let ledger = ledger(&leaves);
            assert_eq!(held(&pieces, &ledger), [], "{suite:?} {sizes:?}");
            assert_eq!((ledger.unmet(), ledger.has_strays()), (vec![], false));
            assert_eq!(ledger.covered(leaves.len() as u64), 11);
            assert_eq!(ledger.size(), leaves.len() as u64);
        }
    }
}

#[test]
fn a_closed_flow_holds_to_its_last_event() {
    for suite in SUITES {
        let flow = clinic::flow(suite, &[5, 6, 7, 8, 9], true, 1);
        let pieces = flow.pack(&[2, 3]);
        assert_eq!(faults(&pieces, &log_of(&flow, &pieces)), []);
    }
}

#[test]
fn a_false_leaf_is_named_where_it_stands_and_no_other() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let leaves = log_of(&flow, &pieces);
    let firsts = [1, 5, 6].into_iter().chain(1..=11);
    for (at, position) in firsts.enumerate() {
        let mut forged = leaves.clone();
        let last = forged[at].len() - 1;
        forged[at][last] ^= 1;
        assert_eq!(faults(&pieces, &forged), [("log", position)], "leaf {at}");
    }
}

#[test]
fn a_block_leaf_with_another_last_position_is_named() {
    let flow = flow(Suite::Blake3);
    let pieces = flow.pack(&SIZES);
    let mut leaves = log_of(&flow, &pieces);
    leaves[1][49] = 6;
    let found = held(&pieces, &ledger(&leaves));
    assert_eq!(named(&found), [("log", 5)]);
    assert_eq!(
        (found[0].recorded, found[0].recomputed),
        (6_u64.into(), 5_u64.into())
    );
}

#[test]
fn a_leaf_that_is_not_there_makes_a_stray_of_its_block() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    for (missing, first) in [(0, 1), (1, 5), (2, 6)] {
        let mut leaves = log_of(&flow, &pieces);
        let late = leaves.remove(missing);
        assert_eq!(faults(&pieces, &leaves), [("stray", first)]);
        // It was sealed after the log was read.
        let mut ledger = ledger(&leaves);
        assert_eq!(held(&pieces, &ledger), []);
        assert!(ledger.has_strays() && ledger.learn(&late));
        assert_eq!(ledger.take_strays(), []);
        // What is learnt late need not be met.
        assert!(ledger.learn(&tail_leaf(&clinic::flow(Suite::Sha256, &[1], false, 8), 1)));
        assert_eq!(ledger.unmet(), []);
    }
}

#[test]
fn what_was_cut_off_is_named_by_what_the_log_still_knows() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let leaves = log_of(&flow, &pieces);
    let shortened = |sizes: &[usize]| {
        let mut pieces = flow.pack(sizes);
        let mut tail = Open::of(&pieces.pop().unwrap());
        tail.events.pop();
        [pieces, vec![tail.pack()]].concat()
    };
    // The last event, of which a block speaks, and one of which none does.
    assert_eq!(
        faults(&shortened(&SIZES), &leaves),
        [("missing", 11), ("log", 11)]
    );
    let cut = flow.pack(&[4]);
    assert_eq!(faults(&shortened(&[4]), &log_of(&flow, &cut)), [("log", 11)]);
    // Whatever is behind the second block; its seams still tell of three events.
    assert_eq!(faults(&pieces[..2], &leaves), [("missing", 6), ("log", 6)]);
    // All of it.
    assert_eq!(faults(&[], &leaves), [("unmet", 1)]);
}

#[test]
fn a_history_written_anew_is_named_once_where_it_begins() {
    let (flow, mut other) = (flow(Suite::Sha256), flow(Suite::Sha256));
    other.set(6, 16, &99_i64.to_be_bytes());
    other.set(7, 64, &[1]);
    for n in 8..=11 {
        other.set(n, 64, &[1]);
    }
    other.relink();
    let leaves = log_of(&flow, &flow.pack(&SIZES));
    let pieces = other.pack(&SIZES);
    assert_eq!(clinic::verdict(&pieces).faults, []);
    // The first block's seams, and so its last ids, hang on the event already.
    assert_eq!(faults(&pieces, &leaves), [("log", 1)]);
    // Against a log that was written anew as well there is nothing to find: that is what checkpoints elsewhere are for.
    assert_eq!(faults(&pieces, &log_of(&other, &pieces)), []);
}

#[test]
fn leaves_that_disagree_are_a_fork() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let honest = log_of(&flow, &pieces);
    let with = |leaf: Vec<u8>| [honest.clone(), vec![leaf]].concat();
    let mut block = honest[1].clone();
    block[81] ^= 1;
    // The last leaf of a place binds: so both the fork and the block are named.
    assert_eq!(faults(&pieces, &with(block.clone())), [("log", 5), ("log", 5)]);
    let mut tail = honest[5].clone();
    tail[73] ^= 1;
    assert_eq!(faults(&pieces, &with(tail)), [("log", 3), ("log", 3)]);
    // The tail fell.
    assert_eq!(faults(&pieces, &with(tail_leaf(&flow, 9))), [("log", 10)]);
    // What is doubled says nothing new.
    assert_eq!(faults(&pieces, &with(honest[1].clone())), []);
    assert_eq!(faults(&pieces, &with(honest.last().unwrap().clone())), []);
    // Of a flow that is not there.
    assert_eq!(
        faults(&[], &[honest[1].clone(), block]),
        [("unmet", 5), ("unmet", 5)]
    );
}

#[test]
fn a_decision_takes_back_what_was_beyond_it_and_binds_itself() {
    let (flow, other) = (
        flow(Suite::Sha256),
        clinic::flow(Suite::Sha256, &[1, 2, 3, 4, 5, 5, 5, 5, 5], false, 1),
    );
    let honest = log_of(&flow, &flow.pack(&SIZES));
    let pieces = other.pack(&[4, 2]);
    assert_ne!(faults(&pieces, &honest), []);
    let mut healed = honest.clone();
    healed.push(decision(&flow, 3));
    healed.extend(
        pieces
            .iter()
            .filter(|piece| !Container::decode(piece).unwrap().is_tail())
            .map(|block| block_leaf(block)),
    );
    healed.push(tail_leaf(&other, 9));
    assert_eq!(faults(&pieces, &healed), []);
    // It does not take back what comes after it.
    healed.push(tail_leaf(&flow, 11));
    assert_eq!(faults(&pieces, &healed), [("log", 11)]);
    // Nor does it excuse that what it says is not there.
    let mut forged = [honest, vec![decision(&flow, 3)]].concat();
    forged.last_mut().unwrap()[50] ^= 1;
    assert_eq!(faults(&pieces, &forged)[0], ("log", 3));
}

#[test]
fn whoever_is_at_fault_already_is_not_named_again() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let leaves = log_of(&flow, &pieces);
    for (piece, bytes) in pieces.iter().enumerate() {
        for at in (0..bytes.len()).step_by(7) {
            let mut struck = pieces.clone();
            struck[piece][at] ^= 4;
            let (alone, all) = (named(&clinic::verdict(&struck).faults), faults(&struck, &leaves));
            // Of bytes that all of the container's own values hang on, the log may know better, once.
            assert_eq!(all.get(..alone.len()), Some(&alone[..]), "{piece} {at}");
            assert!(all.len() <= alone.len() + 1, "{piece} {at}: {all:?}");
        }
    }
}

#[test]
fn a_container_that_cannot_be_read_excuses_its_leaves() {
    let flow = flow(Suite::Blake3);
    let mut pieces = flow.pack(&SIZES);
    let leaves = log_of(&flow, &pieces);
    pieces[1].truncate(70);
    assert_eq!(faults(&pieces, &leaves), [("format", 5)]);
    pieces[3].truncate(70);
    assert_eq!(faults(&pieces, &leaves), [("format", 5), ("format", 9)]);
}

#[test]
fn a_flow_that_goes_on_later_is_held_at_its_end() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let ledger = ledger(&log_of(&flow, &pieces));
    let source = Against {
        source: &pieces[..],
        ledger: &ledger,
    };
    let part = |run: Run| verify(&source, &[run], &Unwatched, 1000);
    let first = part(Run {
        more: true,
        ..Run::whole(clinic::FLOW, 0..2)
    });
    let rest = part(Run {
        from: first.edges[0].clone(),
        ..Run::whole(clinic::FLOW, 2..4)
    });
    assert_eq!((first.faults, rest.faults), (vec![], vec![]));
    assert_eq!(ledger.unmet(), []);
}

#[test]
fn malformed_leaves_are_told_unknown_ones_counted_and_another_suite_is_none() {
    let flow = flow(Suite::Sha256);
    let pieces = flow.pack(&SIZES);
    let mut leaves = log_of(&flow, &pieces);
    leaves.insert(0, vec![1, 2, 3]);
    leaves.insert(2, vec![200, 1]);
    assert_eq!(faults(&pieces, &leaves), [("malformed", 0)]);
    assert_eq!(ledger(&leaves).unknown(), 1);
    let last = leaves.len() - 1;
    leaves[last][1] = 2;
    assert_eq!(
        faults(&pieces, &leaves),
        [("malformed", 0), ("malformed", last as u64)]
    );
}

/// Blocks of 4, 1 and 3 events under leaves 0 to 2; then tails of 6 and 9, and the tail of 11.
fn grown(flow: &Flow) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let pieces = flow.pack(&SIZES);
    let mut leaves: Vec<Vec<u8>> = pieces.iter().take(3).map(|block| block_leaf(block)).collect();
    leaves.extend([6, 9, 11].map(|n| tail_leaf(flow, n)));
    (pieces, leaves)
}

#[test]
fn how_far_the_first_leaves_bind_a_flow() {
    let flow = flow(Suite::Sha256);
    let (_, leaves) = grown(&flow);
    let known = ledger(&leaves);
    let reach: Vec<(u64, u64)> = (0..=7).map(|size| known.reach(&flow.g(), size)).collect();
    let (eight, nine) = ((8, 8), (8, 9));
    assert_eq!(
        reach,
        [(0, 0), (4, 4), (5, 5), eight, eight, nine, (8, 11), (8, 11)]
    );
    assert_eq!(known.reach(&[7; 32], 7), (0, 0));
    // What was said before a decision may have been taken back; the decision itself binds.
    let decided = [&leaves[..4], &[decision(&flow, 6)], &leaves[4..]].concat();
    let known = ledger(&decided);
    let reach: Vec<(u64, u64)> = (0..=7).map(|size| known.reach(&flow.g(), size)).collect();
    assert_eq!(reach[..5], [(0, 0); 5]);
    assert_eq!(reach[5..], [(0, 6), (0, 9), (0, 11)]);
}

#[test]
fn a_flow_that_ends_with_the_block_that_was_logged_is_passed_over() {
    let flow = clinic::flow(Suite::Sha256, &[5, 6, 7, 8, 9], true, 1);
    let pieces = flow.pack(&[2, 3]);
    let leaves: Vec<Vec<u8>> = pieces
        .iter()
        .map(|block| block_leaf(block))
        .chain([tail_leaf(&flow, 5)])
        .collect();
    let last = Container::decode(&pieces[1]).unwrap();
    let (height, n, hash) = (1, 5, *last.hash());
    for (size, block, ended) in [
        (3, (height, n, hash), true),
        (2, (height, n, hash), true),
        (1, (height, n, hash), false),
        (3, (height, n, [7; 32]), false),
        (3, (0, n, hash), false),
        (3, (height, 4, hash), false),
    ] {
        let ledger = ledger(&leaves);
        assert_eq!(
            ledger.pass_ended(&flow.g(), size, block),
            ended,
            "{size} {block:?}"
        );
        assert!(!ledger.pass_ended(&[7; 32], size, block));
        // The tail's leaf of the same end is passed over too, if the size reaches it.
        assert_eq!(ledger.unmet().is_empty(), ended && size == 3);
    }
    // Something was logged of it later.
    let ledger = ledger(&[leaves, vec![tail_leaf(&flow, 5)]].concat());
    assert!(ledger.pass_ended(&flow.g(), 3, (height, n, hash)));
    assert!(ledger.unmet().is_empty());
}

#[test]
fn a_header_is_read_without_what_stands_behind_it() {
    let flow = flow(Suite::Blake3);
    for piece in flow.pack(&SIZES) {
        let container = Container::decode(&piece).unwrap();
        let beginning = &piece[..piece.len().min(BEGINNING)];
        let header = Header::of_beginning(beginning);
        assert_eq!(header.is_err(), container.is_tail());
        if let Ok(header) = header {
            assert_eq!(&header, container.header());
            assert_eq!(header.digest(), *container.hash());
        }
        assert!(Header::of_beginning(&piece[..300]).is_err());
    }
}

#[test]
fn what_is_passed_over_need_not_be_met_and_nothing_else() {
    let flow = flow(Suite::Sha256);
    let (pieces, leaves) = grown(&flow);
    let unmet = |size, before, from: usize, leaves: &[Vec<u8>]| {
        let ledger = ledger(leaves);
        ledger.pass(&flow.g(), size, before);
        let source = Against {
            source: &pieces[from..],
            ledger: &ledger,
        };
        let run = Run {
            alone: true,
            ..clinic::run(pieces.len() - from)
        };
        let runs = if from < pieces.len() { vec![run] } else { vec![] };
        let found = verify(&source, &runs, &Unwatched, 1000).faults;
        let unmet: Vec<u64> = ledger.unmet().iter().map(|one| one.position).collect();
        (named(&found), unmet)
    };
    // From the last block on: the two before it are passed over.
    assert_eq!(unmet(5, 6, 2, &leaves), (vec![], vec![]));
    assert_eq!(unmet(5, 5, 2, &leaves), (vec![("log", 5)], vec![]));
    assert_eq!(unmet(1, 6, 2, &leaves), (vec![("log", 5)], vec![]));
    // Nothing of the flow is looked at: what came later is missed, and so is the flow's end.
    assert_eq!(unmet(6, 12, pieces.len(), &leaves), (vec![], vec![]));
    assert_eq!(unmet(5, 12, pieces.len(), &leaves), (vec![], vec![11]));
    assert_eq!(unmet(6, 11, pieces.len(), &leaves), (vec![], vec![11]));
    // The same again says nothing new, another one does.
    let again = [&leaves[..], &[leaves[0].clone(), leaves[5].clone()]].concat();
    assert_eq!(unmet(6, 12, pieces.len(), &again), (vec![], vec![]));
    let mut other = leaves[0].clone();
    other[60] ^= 1;
    let fork = [&leaves[..], &[other]].concat();
    assert_eq!(unmet(6, 12, pieces.len(), &fork), (vec![], vec![1, 1]));
}

#[test]
fn a_leaf_takes_56_bytes_and_a_flow_72_at_most() {
    let genesis = |flow: u64| -> Digest {
        let mut genesis = [0; 32];
        genesis[..8].copy_from_slice(&flow.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        genesis
    };
    for flows in [1_000_u64, 1_793, 3_584] {
        let mut ledger = Ledger::default();
        for flow in 0..flows {
            let (suite, genesis, digest) = (Suite::Sha256, genesis(flow), [7; 32]);
            let block = Leaf::Block {
                suite,
                genesis,
                height: 0,
                last: 2,
                hash: digest,
            };
            let tail = Leaf::Tail {
                suite,
                genesis,
                n: 5,
                provisional: digest,
            };
            assert!(ledger.learn(&block.encode()) && ledger.learn(&tail.encode()));
        }
        ledger.arrange();
        let (leaves, of_flows) = ledger.bytes();
        assert_eq!(leaves, 2 * flows as usize * 56);
        assert!(of_flows <= flows as usize * 72, "{flows}: {of_flows}");
    }
}
