//! Rules that reach across containers, ranges, expectations, and how a verification is watched and stopped.
use std::sync::atomic::{AtomicU64, Ordering};

use super::clinic::{FLOW, Flow, Open, SEALED_AT, check, flow, named, run, verdict};
use crate::block::Container;
use crate::suite::Suite;
use crate::verify::{
    Control, Edge, Expect, ReadFault, Run, Source, Unwatched, Verdict, verify, verify_holding,
};

const WHENS: [i64; 12] = [10, 30, 20, 30, 40, 35, 50, 60, 55, 70, 80, 90];
const LATE: usize = 64;
const WHEN: usize = 16;
const RECORDED_AT: usize = 24;

fn forged(change: impl Fn(&mut Flow), sizes: &[usize]) -> Vec<(&'static str, u64)> {
    let mut flow = flow(Suite::Sha256, &WHENS, false, 1);
    change(&mut flow);
    flow.relink();
    named(&verdict(&flow.pack(sizes)).faults)
}

#[test]
fn a_flow_relinked_as_it_was_is_whole_however_it_is_sealed() {
    for sizes in [
        &[][..],
        &[1],
        &[2, 1],
        &[1, 1, 1, 1, 1, 1, 1, 1, 1],
        &[9],
        &[3, 3, 3],
        &[4, 5],
    ] {
        assert_eq!(forged(|_| {}, sizes), []);
    }
}

#[test]
fn many_flows_checked_together_have_the_verdicts_of_each_alone() {
    let (mut pieces, mut runs) = (Vec::new(), Vec::new());
    for i in 0..300_usize {
        let suite = [Suite::Sha256, Suite::Blake3][i / 3 % 2];
        let (count, closed) = (1 + i % 12, i % 4 == 0);
        let sealed = if closed { count } else { count.saturating_sub(3) };
        let sizes: &[usize] = if sealed == 0 { &[] } else { &[sealed] };
        let mut own = flow(suite, &WHENS[..count], closed, 1).pack(sizes);
        if i % 7 == 0
            && let Some(last) = own.last_mut()
        {
            let at = (i * 997) % last.len();
            last[at] ^= 1;
        }
        let start = pieces.len();
        pieces.extend(own);
        runs.push(Run::whole(FLOW, start..pieces.len()));
    }
    let together = verify(pieces.as_slice(), &runs, &Unwatched, 10_000);
    for (held, most) in [(0, 10_000), (30, 10_000), (0, 40), (7, 3), (0, 0)] {
        let mut found = verify_holding(held, pieces.as_slice(), &runs, &Unwatched, most);
        let lowest = &together.faults[..most.min(together.faults.len())];
        assert_eq!(found.faults, lowest, "{held} {most}");
        found.faults = together.faults.clone();
        assert_eq!(found, together, "{held} {most}");
    }
    let mut alone = Verdict::default();
    for run in &runs {
        let own = verify(pieces.as_slice(), std::slice::from_ref(run), &Unwatched, 10_000);
        alone.faults.extend(own.faults);
        alone.edges.extend(own.edges);
        alone.flows += own.flows;
        alone.blocks += own.blocks;
        alone.events += own.events;
        alone.fixed += own.fixed;
        alone.provisional += own.provisional;
        alone.bodies_verified += own.bodies_verified;
        alone.bodies_not_shown += own.bodies_not_shown;
        alone.bytes += own.bytes;
        alone.fault_count += own.fault_count;
    }
    assert!(together.fault_count > 20 && together.events > 1000);
    assert_eq!(together, alone);
}

#[test]
fn closed_flows_of_every_small_length_are_whole_however_they_are_sealed() {
    for suite in [Suite::Sha256, Suite::Blake3] {
        for count in 1..=9_usize {
            let flow = flow(suite, &WHENS[..count], true, 1);
            assert_eq!(flow.ids.len(), count);
            for last in 3.min(count)..=count {
                let before = count - last;
                let cuts: Vec<Vec<usize>> = match before {
                    0 => vec![vec![last]],
                    1 => vec![vec![1, last]],
                    _ => vec![
                        vec![before, last],
                        vec![1, before - 1, last],
                        vec![before - 1, 1, last],
                    ],
                };
                for sizes in cuts {
                    let pieces = flow.pack(&sizes);
                    let expect = Expect {
                        bodies: true,
                        fixed: Some(count as u64),
                        last: Some(count as u64),
                        closed: Some(true),
                    };
                    let found = check(
                        &pieces,
                        Run {
                            expect,
                            ..Run::whole(FLOW, 0..pieces.len())
                        },
                    );
                    assert_eq!(named(&found.faults), [], "{count} {sizes:?}");
                }
            }
        }
    }
}

#[test]
fn a_closing_block_with_fewer_than_the_last_three_is_named() {
    let flow = flow(Suite::Sha256, &WHENS, true, 1);
    for (sizes, first) in [([10, 2].as_slice(), 11), (&[11, 1], 12)] {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let (mut at, mut previous) = (1, flow.g());
        for (height, size) in sizes.iter().enumerate() {
            let last = at + size - 1;
            let good = flow.pack(&[12]);
            let mut open = Open::of(&good[0]);
            open.events = open.events[at - 1..last].to_vec();
            open.header.height = height as u64;
            open.header.first = at as u64;
            open.header.count = *size as u32;
            open.header.closes = last == 12;
            open.header.previous = previous;
            open.seams.ids = [-2, -1, 0].map(|back| flow.id(at as i64 - 1 + back));
            open.seams.hashes = [-1, 0].map(|back| flow.hash(at as i64 - 1 + back));
            open.seams.next_hashes = [1, 2, 3].map(|ahead| flow.hash(last as i64 + ahead));
            let whens = &WHENS[at - 1..last];
            open.header.when_min = *whens.iter().min().unwrap();
            open.header.when_max = *whens.iter().max().unwrap();
            open.header.root = crate::merkle::root(Suite::Sha256, &flow.ids[at - 1..last]).unwrap();
            open.hash = open.header.digest();
            previous = open.hash;
            at = last + 1;
            pieces.push(open.pack());
        }
        let found = named(&verdict(&pieces).faults);
        assert!(found.contains(&("close", first)), "{found:?}");
        assert_eq!(
            found[0].0, "seam",
            "a block that does not close the flow has no filler: {found:?}"
        );
    }
}

#[test]
fn a_wrong_late_flag_is_named_within_and_across_containers() {
    for sizes in [&[9][..], &[2, 7], &[1, 1, 1, 1, 1, 1, 1, 1, 1], &[5, 4], &[]] {
        for n in 1..=12 {
            let late = [3, 6, 9].contains(&n);
            let found = forged(|flow| flow.set(n, LATE, &[u8::from(!late)]), sizes);
            assert_eq!(found, [("late", n as u64)], "{sizes:?}");
        }
    }
}

#[test]
fn a_time_moved_with_all_recomputed_is_named_by_the_late_flags_behind() {
    for sizes in [&[9][..], &[2, 7], &[1, 1, 1, 1, 1, 1, 1, 1, 1]] {
        let found = forged(|flow| flow.set(2, WHEN, &65_i64.to_be_bytes()), sizes);
        assert_eq!(
            found,
            [("late", 4), ("late", 5), ("late", 7), ("late", 8)],
            "{sizes:?}"
        );
    }
}

#[test]
fn recorded_at_that_falls_is_named() {
    for sizes in [&[2, 2, 5][..], &[2, 7], &[2]] {
        let mut flow = flow(Suite::Sha256, &WHENS, false, 1);
        let mut fallen = flow.clone();
        fallen.set(3, RECORDED_AT, &999_i64.to_be_bytes());
        fallen.relink();
        // Behind the edge it can be sealed: within a block, sealing refuses.
        assert_eq!(
            named(&verdict(&fallen.pack(sizes)).faults),
            [("recorded_at", 3)],
            "{sizes:?}"
        );
        flow.set(9, RECORDED_AT, &1_000_000_i64.to_be_bytes());
        flow.relink();
        assert_eq!(named(&verdict(&flow.pack(&[8, 1])).faults), [("recorded_at", 10)]);
    }
}

fn resealed(piece: usize, change: impl Fn(&mut Open)) -> Vec<(&'static str, u64)> {
    let mut pieces = flow(Suite::Blake3, &WHENS, false, 1).pack(&[5, 1, 2]);
    let mut open = Open::of(&pieces[piece]);
    change(&mut open);
    open.hash = open.header.digest();
    let hash = open.hash;
    pieces[piece] = open.pack();
    // Those behind are sealed anew upon it.
    let mut previous = hash;
    for behind in &mut pieces[piece + 1..] {
        let mut open = Open::of(behind);
        open.header.previous = previous;
        if open.kind == crate::block::Kind::Block {
            open.hash = open.header.digest();
        }
        previous = open.hash;
        *behind = open.pack();
    }
    named(&verdict(&pieces).faults)
}

#[test]
fn header_values_that_fall_or_do_not_fit_are_named_though_everything_is_sealed_anew() {
    assert_eq!(resealed(1, |_| {}), []);
    assert_eq!(resealed(1, |open| open.header.epoch = 0), [("epoch", 6)]);
    assert_eq!(
        resealed(1, |open| open.header.sealed_at = SEALED_AT - 1),
        [("sealed_at", 6)]
    );
    assert_eq!(
        resealed(0, |open| open.header.sealed_at = 1000),
        [("sealed_at", 1)]
    );
    assert_eq!(resealed(0, |open| open.header.sealed_at = 1002), []);
    assert_eq!(resealed(2, |open| open.header.when_min += 1), [("when_range", 7)]);
    assert_eq!(resealed(2, |open| open.header.when_max += 1), [("when_range", 7)]);
    assert_eq!(resealed(1, |open| open.header.height = 2)[0], ("height", 6));
    assert_eq!(resealed(1, |open| open.header.first = 7)[0], ("position", 6));
    assert_eq!(resealed(1, |open| open.header.first = 5)[0], ("position", 5));
    assert_eq!(resealed(2, |open| open.header.closes = true)[0], ("seam", 7));
    assert_eq!(resealed(2, |open| open.header.root[0] ^= 1), [("root", 7)]);
    assert_eq!(
        resealed(1, |open| open.header.previous[0] ^= 1),
        [("previous", 6)]
    );
}

#[test]
fn close_stands_last_and_only_there() {
    let closed = flow(Suite::Sha256, &WHENS, true, 1);
    let mut pieces = closed.pack(&[3, 9]);
    pieces.push(flow(Suite::Sha256, &WHENS, false, 1).pack(&[9])[0].clone());
    assert_eq!(
        named(&verdict(&pieces).faults)[0].1,
        1,
        "another block 0 behind a closing"
    );

    // A tail that ends with `$close`: settled without being sealed.
    let entry = |n: usize| {
        let kept = &closed.events[n - 1];
        crate::block::Entry {
            frame: &kept.frame,
            hash: kept.hash,
            id: kept.provisional,
            body: Some(&kept.body),
        }
    };
    let entries: Vec<_> = (1..=12).map(entry).collect();
    let refused = crate::block::pack_tail(&closed.record, None, &entries);
    assert_eq!(refused, Err(crate::block::SealError::Close { index: 11 }));
    let open = flow(Suite::Sha256, &WHENS, false, 1).pack(&[]);
    let mut tail = Open::of(&open[0]);
    tail.events = closed.events.clone();
    assert_eq!(named(&verdict(&[tail.pack()]).faults), [("close", 12)]);
}

#[test]
fn what_is_expected_and_not_there_is_named() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 4]);
    let with = |expect: Expect| {
        named(
            &check(
                &pieces,
                Run {
                    expect,
                    ..Run::whole(FLOW, 0..3)
                },
            )
            .faults,
        )
    };
    let none = Expect::default();
    assert_eq!(
        with(Expect {
            fixed: Some(9),
            last: Some(12),
            closed: Some(false),
            bodies: true
        }),
        []
    );
    assert_eq!(
        with(Expect {
            last: Some(13),
            ..none
        }),
        [("missing", 13)]
    );
    assert_eq!(
        with(Expect {
            last: Some(11),
            ..none
        }),
        [("position", 12)]
    );
    assert_eq!(
        with(Expect {
            fixed: Some(10),
            ..none
        }),
        [("missing", 10)]
    );
    assert_eq!(
        with(Expect {
            fixed: Some(8),
            ..none
        }),
        [("position", 9)]
    );
    assert_eq!(
        with(Expect {
            closed: Some(true),
            ..none
        }),
        [("close", 12)]
    );
    let nothing: [Vec<u8>; 0] = [];
    let run = Run {
        expect: Expect {
            last: Some(4),
            ..none
        },
        ..Run::whole(FLOW, 0..0)
    };
    assert_eq!(named(&check(&nothing, run).faults), [("missing", 1)]);
}

#[test]
fn a_verification_in_parts_finds_what_one_at_once_finds() {
    let whole = flow(Suite::Sha256, &WHENS, false, 1);
    let mut broken = whole.clone();
    broken.set(7, WHEN, &5_i64.to_be_bytes());
    broken.relink();
    let replaced = [&whole.pack(&[2, 1, 1, 3])[..3], &broken.pack(&[2, 1, 1, 3])[3..]].concat();
    for pieces in [whole.pack(&[2, 1, 1, 3]), broken.pack(&[2, 1, 1, 3]), replaced] {
        let at_once = verdict(&pieces);
        let mut from = None;
        let mut found = Vec::new();
        let (mut flows, mut events) = (0, 0);
        for index in 0..pieces.len() {
            let run = Run {
                pieces: index..index + 1,
                from,
                more: index + 1 < pieces.len(),
                ..run(0)
            };
            let verdict = check(&pieces, run);
            found.extend(verdict.faults);
            (flows, events) = (flows + verdict.flows, events + verdict.events);
            from = verdict.edges[0]
                .clone()
                .map(|edge| Edge::decode(&edge.encode()).unwrap());
        }
        found.sort_by_key(|fault| (fault.position, fault.class));
        assert_eq!(found, at_once.faults);
        assert_eq!((flows, events), (1, 12));
    }
}

#[test]
fn a_cut_edge_is_refused() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[2, 1]);
    let edge = check(&pieces[..2], Run { more: true, ..run(2) }).edges[0]
        .clone()
        .unwrap();
    let bytes = edge.encode();
    assert_eq!(Edge::decode(&bytes), Ok(edge));
    for length in 0..bytes.len() {
        assert!(Edge::decode(&bytes[..length]).is_err());
    }
}

#[test]
fn any_range_of_a_flow_verifies_alone() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[2, 1, 1, 3]);
    for from in 0..pieces.len() {
        for to in from + 1..=pieces.len() {
            let run = Run {
                alone: true,
                more: to < pieces.len(),
                pieces: from..to,
                ..run(0)
            };
            assert_eq!(named(&check(&pieces, run).faults), []);
        }
        let refused = named(
            &check(
                &pieces,
                Run {
                    pieces: from..pieces.len(),
                    ..run(0)
                },
            )
            .faults,
        );
        assert_eq!(refused.is_empty(), from == 0, "{from}");
    }
}

#[test]
fn a_range_that_says_it_begins_the_flow_and_does_not_is_named() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 1, 2]);
    let alone = |change: fn(&mut Open)| {
        let mut open = Open::of(&pieces[1]);
        change(&mut open);
        open.hash = open.header.digest();
        let run = Run {
            alone: true,
            more: true,
            ..run(1)
        };
        named(&check(&[open.pack()], run).faults)
    };
    assert_eq!(alone(|_| {}), []);
    assert_eq!(alone(|open| open.header.height = 0), [("height", 6)]);
    assert_eq!(
        alone(|open| open.header.previous = open.header.genesis),
        [("previous", 6)]
    );
}

#[test]
fn great_blocks_are_shared_among_cores_and_named_as_small_ones() {
    for count in [255, 256, 257, 511, 512, 513, 700] {
        let whens: Vec<i64> = (0..count as i64 + 3).map(|i| i * 7 % 1000).collect();
        let mut pieces = flow(Suite::Sha256, &whens, false, 1).pack(&[count]);
        assert_eq!(named(&verdict(&pieces).faults), []);
        let mut open = Open::of(&pieces[0]);
        let at = count - 2;
        open.events[at].frame[20] ^= 1;
        open.events[0].body[3] ^= 1;
        pieces[0] = open.pack();
        assert_eq!(
            named(&verdict(&pieces).faults),
            [("commitment", 1), ("event_hash", at as u64 + 1)]
        );
    }
}

#[test]
fn the_lowest_faults_are_kept_and_all_are_counted() {
    let whens: Vec<i64> = (0..3000).collect();
    let mut pieces = flow(Suite::Sha256, &whens, false, 1).pack(&[1500, 1497]);
    for piece in &mut pieces {
        let mut open = Open::of(piece);
        open.events.iter_mut().for_each(|kept| kept.body[3] ^= 1);
        *piece = open.pack();
    }
    let found = verify(&pieces[..], &[run(3)], &Unwatched, 10);
    assert_eq!(found.fault_count, 3000);
    let expected: Vec<_> = (1..=10).map(|n| ("commitment", n)).collect();
    assert_eq!(named(&found.faults), expected);
    assert_eq!(verify(&pieces[..], &[run(3)], &Unwatched, 0).faults, []);
}

#[test]
fn many_flows_at_once_keep_their_order() {
    let one = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 4]);
    let mut two = flow(Suite::Blake3, &WHENS, true, 2).pack(&[12]);
    two[0][40] ^= 1;
    let pieces = [one, two].concat();
    let runs = [
        run(3),
        Run {
            pieces: 3..4,
            ..run(0)
        },
    ];
    let found = verify(&pieces[..], &runs, &Unwatched, 100);
    assert_eq!(named(&found.faults), [("block_hash", 1)]);
    assert_eq!(
        (found.flows, found.blocks, found.fixed, found.provisional),
        (2, 3, 21, 3)
    );
    assert_eq!(found.edges, [None, None]);
    assert_eq!(
        found.bytes,
        pieces.iter().map(|piece| piece.len() as u64).sum::<u64>()
    );
}

#[test]
fn faults_that_were_not_held_are_found_again() {
    let whens: Vec<i64> = (0..700).map(|n| n * 37 % 500).collect();
    let mut pieces = flow(Suite::Blake3, &whens, false, 1).pack(&[1; 697]);
    for (i, piece) in pieces.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0) {
        let at = (i * 997) % piece.len();
        piece[at] ^= 1;
    }
    let runs = [run(pieces.len()), run(2)];
    let all = verify(pieces.as_slice(), &runs, &Unwatched, 10_000);
    assert!(all.fault_count > 240);
    for held in [0, 5, 100] {
        for most in [0, 1, 7, 150, 10_000] {
            let mut found = verify_holding(held, pieces.as_slice(), &runs, &Unwatched, most);
            let lowest = &all.faults[..most.min(all.faults.len())];
            assert_eq!(found.faults, lowest, "{held} {most}");
            found.faults = all.faults.clone();
            assert_eq!(found, all, "{held} {most}");
        }
    }
}

struct Unreadable(Vec<Vec<u8>>, usize);

impl Source for Unreadable {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        if index == self.1 {
            return Err(ReadFault);
        }
        buffer.clear();
        buffer.extend_from_slice(self.0.get(index).ok_or(ReadFault)?);
        Ok(buffer)
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_verified() {
    for lost in 0..4 {
        let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 1, 2]);
        let first = Container::decode(&pieces[lost]).unwrap().header().first;
        let found = verify(&Unreadable(pieces, lost), &[run(4)], &Unwatched, 10);
        assert_eq!(named(&found.faults), [("read", first)]);
    }
}

struct Watch {
    events: AtomicU64,
    stop_after: u64,
}

impl Control for Watch {
    fn stopped(&self) -> bool {
        self.events.load(Ordering::SeqCst) >= self.stop_after
    }

    fn advanced(&self, events: u64, _: u64) {
        self.events.fetch_add(events, Ordering::SeqCst);
    }
}

#[test]
fn a_verification_tells_how_far_it_is_and_stops_when_asked() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 1, 2]);
    let watch = Watch {
        events: AtomicU64::new(0),
        stop_after: 100,
    };
    assert!(!verify(&pieces[..], &[run(4)], &watch, 10).stopped);
    assert_eq!(watch.events.load(Ordering::SeqCst), 12);
    let watch = Watch {
        events: AtomicU64::new(0),
        stop_after: 5,
    };
    let found = verify(&pieces[..], &[run(4)], &watch, 10);
    assert!(found.stopped);
    assert_eq!(found.faults, []);
    assert_eq!(found.edges, [None]);
}

/// Stops at one of the looks whether it is still wanted.
struct StopsAt(AtomicU64);

impl Control for StopsAt {
    fn stopped(&self) -> bool {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), Ordering::SeqCst);
        left == 0
    }

    fn advanced(&self, _: u64, _: u64) {}
}

#[test]
fn wherever_a_verification_is_stopped_what_was_not_looked_at_is_no_fault() {
    let pieces = flow(Suite::Sha256, &WHENS, false, 1).pack(&[5, 1, 2]);
    let whole = verdict(&pieces);
    let found = |looks| verify(&pieces[..], &[run(4)], &StopsAt(AtomicU64::new(looks)), 10);
    let looks = (0..).find(|looks| !found(*looks).stopped).unwrap();
    assert!(looks >= 4);
    assert_eq!(found(looks).events, whole.events);
    for looks in 0..looks {
        assert_eq!(found(looks).faults, []);
    }
}
