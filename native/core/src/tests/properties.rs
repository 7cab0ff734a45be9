//! Whatever single thing is done to stored containers, the verdict names it, the same with one thread as with many
//! (`verdict` runs both).
use std::sync::LazyLock;

use proptest::prelude::*;

use super::clinic::{Flow, Kept, Open, flow, named, verdict};
use super::tampering::parts;
use crate::block::Container;
use crate::suite::Suite;
use crate::verify::{Edge, Unwatched, verify};

/// A flow of one to fourteen events, and how it is sealed.
fn sealed() -> impl Strategy<Value = (Flow, Vec<usize>)> {
    let whens = prop::collection::vec(-50_i64..50, 1..14);
    let sizes = prop::collection::vec(1_usize..5, 0..6);
    (any::<bool>(), whens, any::<bool>(), sizes).prop_map(|(blake3, whens, closed, sizes)| {
        let suite = if blake3 { Suite::Blake3 } else { Suite::Sha256 };
        let flow = flow(suite, &whens, closed, 1);
        let sizes = fit(&flow, &sizes);
        (flow, sizes)
    })
}

/// Of these sizes, those that can be sealed; a closing block takes the rest.
fn fit(flow: &Flow, sizes: &[usize]) -> Vec<usize> {
    let count = flow.events.len();
    let mut left = if flow.closed {
        count.saturating_sub(3)
    } else {
        flow.ids.len()
    };
    let mut out = Vec::new();
    for size in sizes {
        if *size <= left {
            out.push(*size);
            left -= size;
        }
    }
    if flow.closed {
        out.push(count - out.iter().sum::<usize>());
    }
    out
}

/// One thing done to a run of events.
#[derive(Clone, Debug)]
enum Move {
    Remove,
    Insert,
    Copy,
    Swap,
    Truncate,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        Just(Move::Remove),
        Just(Move::Insert),
        Just(Move::Copy),
        Just(Move::Swap),
        Just(Move::Truncate)
    ]
}

/// Does it at `i` (and `j`), with an event of another flow or of this one.
fn done(events: &mut Vec<Kept>, what: &Move, i: usize, j: usize, foreign: &Kept) {
    match what {
        Move::Remove => drop(events.remove(i)),
        Move::Insert => events.insert(i, foreign.clone()),
        Move::Copy => events.insert(j, events[i].clone()),
        Move::Swap => events.swap(i, j),
        Move::Truncate => events.truncate(i),
    }
}

static FOREIGN: LazyLock<Flow> = LazyLock::new(|| flow(Suite::Sha256, &[7, 8, 9], false, 9));

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_not_touched_is_whole((flow, sizes) in sealed()) {
        let pieces = flow.pack(&sizes);
        let found = verdict(&pieces);
        prop_assert_eq!(named(&found.faults), []);
        prop_assert_eq!(found.events as usize, flow.events.len());
        prop_assert_eq!(found.bodies_verified, found.events);
    }

    #[test]
    fn any_changed_byte_is_named_where_it_was_changed(
        (flow, sizes) in sealed(), piece in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let mut pieces = flow.pack(&sizes);
        let which = piece.index(pieces.len());
        let byte = at.index(pieces[which].len());
        let part = parts(&pieces[which]).into_iter().find(|part| part.range.contains(&byte)).unwrap();
        pieces[which][byte] ^= flip;
        let found = named(&verdict(&pieces).faults);
        prop_assert!(!found.is_empty());
        let (class, position) = found[0];
        prop_assert_eq!(position, part.position, "{} at {}: {:?}", part.name, byte, found);
        prop_assert!(part.classes.contains(&class), "{} at {}: {:?}", part.name, byte, found);
        prop_assert!(!part.alone || found.len() == 1, "{} at {}: {:?}", part.name, byte, found);
    }

    #[test]
    fn any_event_removed_inserted_copied_swapped_or_cut_off_is_named(
        (flow, sizes) in sealed(), what in moves(), at in any::<prop::sample::Index>(),
        i in any::<prop::sample::Index>(), j in any::<prop::sample::Index>(),
    ) {
        let mut pieces = flow.pack(&sizes);
        let which = at.index(pieces.len());
        let mut open = Open::of(&pieces[which]);
        let before: Vec<Vec<u8>> = open.events.iter().map(|kept| kept.frame.clone()).collect();
        let count = open.events.len();
        done(&mut open.events, &what, i.index(count), j.index(count), &FOREIGN.events[0]);
        let after: Vec<Vec<u8>> = open.events.iter().map(|kept| kept.frame.clone()).collect();
        prop_assume!(before != after && !after.is_empty());
        let differs = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        // What is cut off behind three unsealed events, only the log knows.
        let tail = open.kind == crate::block::Kind::Tail;
        let needed = if open.header.first == 1 { 0 } else { 3 };
        prop_assume!(!(tail && differs == after.len() && after.len() >= needed));
        pieces[which] = open.pack();
        let found = named(&verdict(&pieces).faults);
        prop_assert!(!found.is_empty());
        let n = open.header.first + differs as u64;
        prop_assert!((open.header.first..=n).contains(&found[0].1), "{} {:?}", n, found);
    }

    #[test]
    fn any_block_dropped_doubled_or_swapped_is_named_where_the_flow_breaks(
        (flow, sizes) in sealed(), what in 0..3, i in any::<prop::sample::Index>(), j in any::<prop::sample::Index>(),
    ) {
        let mut pieces = flow.pack(&sizes);
        let (i, j) = (i.index(pieces.len()), j.index(pieces.len()));
        let mut first = Container::decode(&pieces[i.min(j)]).unwrap().header().first;
        match what {
            0 => {
                first = Container::decode(&pieces[i]).unwrap().header().first;
                // Of a flow without its last container, and no block before that knows of it, only the log knows.
                prop_assume!(i + 1 < pieces.len() || (i > 0 && !flow.closed));
                pieces.remove(i);
            }
            1 => {
                first = Container::decode(&pieces[i]).unwrap().header().first;
                let copy = pieces[i].clone();
                pieces.insert(i, copy);
            }
            _ => {
                prop_assume!(i != j);
                pieces.swap(i, j);
            }
        }
        let found = named(&verdict(&pieces).faults);
        prop_assert!(!found.is_empty());
        prop_assert_eq!(found[0].1, first, "{:?}", found);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2000), (flow, sizes) in sealed(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let _ = Container::decode(&bytes);
        let _ = Edge::decode(&bytes);
        let _ = crate::chain::Links::decode(&bytes);
        let mut pieces = flow.pack(&sizes);
        for (piece, at, byte) in changes {
            let which = piece.index(pieces.len());
            let at = at.index(pieces[which].len());
            pieces[which][at] = byte;
        }
        pieces.push(bytes);
        let found = verify(&pieces[..], &[super::clinic::run(pieces.len())], &Unwatched, 5);
        prop_assert!(found.fault_count > 0 && found.faults.len() <= 5);
    }
}
