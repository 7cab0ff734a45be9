//! The tampering table: what was done to stored bytes, and which fault names it, at which position.
use std::ops::Range;

use super::clinic::{Flow, Open, flow, named, verdict};
use crate::block::Container;
use crate::suite::Suite;

/// Blocks of 5, 1 and 2 events and a tail of 4, or a closing block of 4.
fn pieces(suite: Suite, closed: bool) -> (Flow, Vec<Vec<u8>>) {
    let whens = [10, 30, 20, 30, 40, 35, 50, 60, 55, 70, 80, 90];
    let flow = flow(suite, &whens, closed, 1);
    let sizes: &[usize] = if closed { &[5, 1, 2, 4] } else { &[5, 1, 2] };
    let pieces = flow.pack(sizes);
    (flow, pieces)
}

/// A part of a container's bytes, and what a change there must be named.
pub struct Part {
    pub name: &'static str,
    pub range: Range<usize>,
    pub classes: &'static [&'static str],
    pub position: u64,
    /// Nothing else may be named.
    pub alone: bool,
}

/// Where everything stands, written down anew from FORMAT.md.
pub fn parts(bytes: &[u8]) -> Vec<Part> {
    let container = Container::decode(bytes).unwrap();
    let tail = container.is_tail();
    let (first, count) = (container.header().first, container.count());
    let mut out = Vec::new();
    let mut at = 0;
    let mut part = |name, length, classes: &'static [&'static str], position, alone| {
        out.push(Part {
            name,
            range: at..at + length,
            classes,
            position,
            alone,
        });
        at += length;
        at
    };
    let padding = |at: usize| at.next_multiple_of(64) - at;
    part("magic, lengths, reserved", 32, &["format"], first, true);
    part(
        "block hash",
        32,
        if tail { &["format"] } else { &["block_hash"] },
        first,
        true,
    );
    part(
        "genesis record",
        container.genesis_record().len(),
        &["format", "genesis"],
        first,
        true,
    );
    part("version, suite", 2, &["format"], first, true);
    part(
        "flags",
        1,
        &["format", "block_hash", "close", "seam", "id"],
        first,
        false,
    );
    part("window, count", 5, &["format"], first, true);
    part("height", 8, &["format", "height"], first, false);
    part("first", 8, &["format", "position"], first, false);
    part(
        "epoch",
        8,
        if tail {
            &["format"]
        } else {
            &["format", "block_hash", "epoch"]
        },
        first,
        false,
    );
    part(
        "when range",
        16,
        if tail {
            &["format"]
        } else {
            &["format", "when_range"]
        },
        first,
        true,
    );
    part(
        "sealed_at",
        8,
        if tail {
            &["format"]
        } else {
            &["format", "block_hash", "sealed_at"]
        },
        first,
        false,
    );
    part("genesis", 32, &["genesis"], first, true);
    part(
        "previous",
        32,
        if tail { &["previous"] } else { &["block_hash"] },
        first,
        false,
    );
    part(
        "root",
        32,
        if tail { &["format"] } else { &["root"] },
        first,
        true,
    );
    part("header padding", 40, &["format"], first, true);
    part("seams before", 160, &["seam"], first, true);
    for j in 0..3 {
        let position = if tail || container.header().closes {
            first
        } else {
            container.last() + 1 + j
        };
        part(
            "seams behind",
            32,
            if tail { &["format"] } else { &["seam"] },
            position,
            true,
        );
    }
    part(
        "frame lengths",
        count.next_multiple_of(64),
        &["format"],
        first,
        true,
    );
    for i in 0..count {
        let n = first + i as u64;
        part("frame", 32, &["event_hash"], n, true);
        part("commitment", 32, &["commitment"], n, true);
        part("frame", container.frame(i).len() - 64, &["event_hash"], n, true);
    }
    for (name, classes) in [
        ("hash", &["event_hash"][..]),
        ("id", if tail { &["provisional"][..] } else { &["id"][..] }),
    ] {
        let mut end = 0;
        for i in 0..count {
            end = part(name, 32, classes, first + i as u64, true);
        }
        part("padding", padding(end), &["format"], first, true);
    }
    part(
        "body lengths",
        (4 * count).next_multiple_of(64),
        &["format"],
        first,
        true,
    );
    for i in 0..count {
        let crate::block::Body::Shown(body) = container.body(i) else {
            panic!("no body")
        };
        part("body", body.len(), &["commitment"], first + i as u64, true);
    }
    assert_eq!(at, bytes.len());
    out
}

/// Every byte of every container: whatever is changed is named, where it was changed.
fn flip_every_byte(suite: Suite, closed: bool, flips: &[u8]) {
    let (_, pieces) = pieces(suite, closed);
    assert_eq!(verdict(&pieces).faults, []);
    for piece in 0..pieces.len() {
        for part in parts(&pieces[piece]) {
            for at in part.range.clone() {
                let flip = flips[at % flips.len()];
                let mut changed = pieces.clone();
                changed[piece][at] ^= flip;
                let found = named(&verdict(&changed).faults);
                let place = format!("{} at {at} of piece {piece}: {found:?}", part.name);
                let (class, position) = found.first().expect(&place);
                assert_eq!(*position, part.position, "{place}");
                assert!(part.classes.contains(class), "{place}");
                assert!(!part.alone || found.len() == 1 || *class == "format", "{place}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_named_sha256() {
    flip_every_byte(Suite::Sha256, false, &[1, 0x80, 2, 0xff, 0x10]);
}

#[test]
fn every_flipped_byte_is_named_blake3() {
    flip_every_byte(Suite::Blake3, false, &[0x40, 4, 1]);
}

#[test]
fn every_flipped_byte_is_named_in_a_closed_flow() {
    flip_every_byte(Suite::Sha256, true, &[1, 8, 0x20]);
}

#[test]
fn every_truncation_is_named() {
    let (_, pieces) = pieces(Suite::Sha256, false);
    for piece in 0..pieces.len() {
        let container = Container::decode(&pieces[piece]).unwrap();
        let first = container.header().first;
        for length in 0..pieces[piece].len() {
            let mut changed = pieces.clone();
            changed[piece].truncate(length);
            assert_eq!(
                named(&verdict(&changed).faults),
                [("format", first)],
                "{piece} {length}"
            );
        }
        let mut longer = pieces.clone();
        longer[piece].extend([0; 64]);
        assert_eq!(named(&verdict(&longer).faults), [("format", first)]);
    }
}

#[test]
fn bodies_cut_off_are_not_verified_and_missing_if_they_are_expected() {
    let (_, pieces) = pieces(Suite::Sha256, false);
    let mut changed = pieces.clone();
    let length = Container::decode(&pieces[0]).unwrap().verification_length();
    changed[0].truncate(length);
    changed[0][16..24].copy_from_slice(&(length as u64).to_be_bytes());
    let found = verdict(&changed);
    let expected: Vec<_> = (1..=5).map(|n| ("body_missing", n)).collect();
    assert_eq!(named(&found.faults), expected);
    let run = crate::verify::Run::whole(super::clinic::FLOW, 0..pieces.len());
    let found = super::clinic::check(&changed, run);
    assert_eq!(
        (found.fault_count, found.bodies_not_shown, found.bodies_verified),
        (0, 5, 7)
    );
}

/// An edited container whose event hash, ids, root and header were made to fit, from the i-th event on.
fn recompute(open: &mut Open, upto: &str) {
    use crate::{merkle, suite};
    let suite = open.header.suite;
    let g = open.header.genesis;
    for kept in &mut open.events {
        if !kept.body.is_empty() {
            let commitment = crate::event::commitment(suite, &kept.body);
            kept.frame[32..64].copy_from_slice(&commitment);
        }
        if upto == "commitment" {
            continue;
        }
        kept.hash = suite::hash(suite, suite::Role::Event, &[&kept.frame]);
    }
    if upto == "commitment" || upto == "hash" {
        return;
    }
    let mut hashes: Vec<_> = open.events.iter().map(|kept| kept.hash).collect();
    hashes.extend(open.seams.next_hashes);
    let mut window = open.seams.ids;
    for (i, kept) in open.events.iter_mut().enumerate() {
        let own: [_; 4] = hashes[i..i + 4].try_into().unwrap();
        kept.provisional = crate::link::link(suite, &g, &window, &own);
        window = [window[1], window[2], kept.provisional];
    }
    if upto == "id" {
        return;
    }
    let ids: Vec<_> = open.events.iter().map(|kept| kept.provisional).collect();
    open.header.root = merkle::root(suite, &ids).unwrap();
    let time = |kept: &super::clinic::Kept| i64::from_be_bytes(kept.frame[16..24].try_into().unwrap());
    open.header.when_min = open.events.iter().map(time).min().unwrap();
    open.header.when_max = open.events.iter().map(time).max().unwrap();
    open.header.count = open.events.len() as u32;
    if upto == "header" {
        return;
    }
    open.hash = open.header.digest();
}

/// An event's hour is moved, and more and more above it is made to fit: something always tells.
#[test]
fn an_edit_is_named_however_far_it_was_recomputed() {
    for suite in [Suite::Sha256, Suite::Blake3] {
        let (_, pieces) = pieces(suite, false);
        let edit = |upto: &str| {
            let mut open = Open::of(&pieces[0]);
            open.events[3].frame[23] ^= 1; // `when` of the 4th event, 30 → 31: no flag changes
            recompute(&mut open, upto);
            let mut changed = pieces.clone();
            changed[0] = open.pack();
            named(&verdict(&changed).faults)
        };
        assert_eq!(edit("commitment"), [("event_hash", 4)]);
        assert_eq!(
            edit("hash"),
            [("id", 1), ("id", 2), ("id", 3), ("id", 4), ("seam", 6)]
        );
        assert_eq!(edit("id")[0], ("root", 1));
        assert_eq!(edit("header")[0], ("block_hash", 1));
        let all = edit("everything");
        assert_eq!(all[0], ("previous", 6));
        assert!(all.contains(&("seam", 6)));
    }
}

#[test]
fn a_body_edit_is_named_however_far_it_was_recomputed() {
    let (_, pieces) = pieces(Suite::Sha256, false);
    let edit = |upto: &str| {
        let mut open = Open::of(&pieces[0]);
        open.events[4].body[30] ^= 1;
        if !upto.is_empty() {
            recompute(&mut open, upto);
        }
        let mut changed = pieces.clone();
        changed[0] = open.pack();
        named(&verdict(&changed).faults)
    };
    assert_eq!(edit(""), [("commitment", 5)]);
    assert_eq!(edit("commitment"), [("event_hash", 5)]);
    // With the event hash, the ids from n−3 to n; and the seams of the blocks behind hold the hash that was.
    assert_eq!(
        edit("hash"),
        [
            ("id", 2),
            ("id", 3),
            ("id", 4),
            ("id", 5),
            ("seam", 6),
            ("seam", 7)
        ]
    );
}

/// The last block and everything behind it replaced by others that fit: the block before knows.
#[test]
fn a_replaced_end_is_named_by_the_block_before() {
    let (flow, pieces) = pieces(Suite::Sha256, false);
    let whens = [10, 30, 20, 30, 40, 35, 51, 60, 55, 70, 80, 90];
    let other = super::clinic::flow(Suite::Sha256, &whens, false, 1);
    assert_eq!(other.g(), flow.g());
    let forged = other.pack(&[5, 1, 2]);
    let mut changed = pieces.clone();
    changed[2..].clone_from_slice(&forged[2..]);
    let found = named(&verdict(&changed).faults);
    assert_eq!(found[0].1, 7, "{found:?}");
    assert_eq!(found[0].0, "previous");
    assert!(found.contains(&("seam", 7)), "{found:?}");
}

/// Events removed, inserted, swapped, copied within a container, its structure rebuilt around them.
#[test]
fn events_moved_within_a_container_are_named() {
    for closed in [false, true] {
        let (_, pieces) = pieces(Suite::Sha256, closed);
        let event = Open::of(&pieces[2]).events[0].clone();
        for piece in 0..pieces.len() {
            let good = Open::of(&pieces[piece]);
            let count = good.events.len();
            let container_is_tail = good.kind == crate::block::Kind::Tail;
            for i in 0..count {
                let check = |what: &str, changed_at: u64, events: Vec<super::clinic::Kept>| {
                    let same = |(a, b): (&super::clinic::Kept, &super::clinic::Kept)| a.frame == b.frame;
                    let is_same = events.len() == count && events.iter().zip(&good.events).all(same);
                    // What is cut off behind three unsealed events, only the log knows.
                    let open_end = container_is_tail && changed_at >= 3 && events.len() as u64 == changed_at;
                    if events.is_empty() || is_same || open_end {
                        return;
                    }
                    let open = Open {
                        events,
                        ..good.clone()
                    };
                    let mut changed = pieces.clone();
                    changed[piece] = open.pack();
                    let found = named(&verdict(&changed).faults);
                    let n = good.header.first + changed_at;
                    let lowest = found.first().unwrap_or_else(|| panic!("{what} {n}")).1;
                    assert!(
                        lowest >= good.header.first && lowest <= n,
                        "{what} {n}: {found:?}"
                    );
                };
                let at = i as u64;
                let mut removed = good.events.clone();
                removed.remove(i);
                check("remove", at, removed);
                let mut inserted = good.events.clone();
                inserted.insert(i, event.clone());
                check("insert", at, inserted);
                let mut copied = good.events.clone();
                copied.insert(i + 1, good.events[i].clone());
                check("copy", at + 1, copied);
                for j in i + 1..count {
                    let mut swapped = good.events.clone();
                    swapped.swap(i, j);
                    check("swap", at, swapped);
                }
                check("truncate", at, good.events[..i].to_vec());
            }
        }
    }
}

/// Blocks dropped, doubled, swapped, taken from another flow.
#[test]
fn blocks_moved_are_named_where_the_flow_breaks() {
    let (_, pieces) = pieces(Suite::Sha256, false);
    let firsts: Vec<u64> = pieces
        .iter()
        .map(|piece| Container::decode(piece).unwrap().header().first)
        .collect();
    for i in 0..pieces.len() {
        let mut dropped = pieces.clone();
        dropped.remove(i);
        let found = named(&verdict(&dropped).faults);
        let class = if i == 3 { "missing" } else { "height" };
        assert_eq!(found[0], (class, firsts[i]), "drop {i}: {found:?}");

        let mut doubled = pieces.clone();
        doubled.insert(i + 1, pieces[i].clone());
        let found = named(&verdict(&doubled).faults);
        let class = if i == 3 { "position" } else { "height" };
        assert_eq!(found[0], (class, firsts[i]), "double {i}: {found:?}");

        for j in i + 1..pieces.len() {
            let mut swapped = pieces.clone();
            swapped.swap(i, j);
            let found = named(&verdict(&swapped).faults);
            assert_eq!(found[0].1, firsts[i], "swap {i} {j}: {found:?}");
            assert!(
                ["height", "position"].contains(&found[0].0),
                "swap {i} {j}: {found:?}"
            );
        }

        let whens = [10, 30, 20, 30, 40, 35, 50, 60, 55, 70, 80, 90];
        let foreign = flow(Suite::Sha256, &whens, false, 2).pack(&[5, 1, 2]);
        let mut replaced = pieces.clone();
        replaced[i] = foreign[i].clone();
        let found = named(&verdict(&replaced).faults);
        let at = if i == 0 { firsts[1] } else { firsts[i] };
        assert_eq!(found[0], ("genesis", at), "replace {i}: {found:?}");
    }
}

#[test]
fn blocks_of_another_flow_are_named_at_once() {
    let (_, pieces) = pieces(Suite::Blake3, false);
    let run = crate::verify::Run {
        flow: "patient/2".to_owned(),
        ..super::clinic::run(pieces.len())
    };
    let found = named(&super::clinic::check(&pieces, run).faults);
    assert_eq!(found[0], ("genesis", 1));
}

#[test]
fn a_tail_cut_short_of_what_the_last_block_knows_is_missing() {
    let (flow, pieces) = pieces(Suite::Sha256, false);
    for keep in 0..4_usize {
        let mut changed = pieces.clone();
        let mut open = Open::of(&pieces[3]);
        open.events.truncate(keep);
        if keep == 0 {
            changed.pop();
        } else {
            changed[3] = open.pack();
        }
        let found = named(&verdict(&changed).faults);
        let expected = [("missing", 9 + keep as u64)];
        // Three events behind the block are known to it; that there was a fourth, only the log knows.
        assert_eq!(found, expected[..usize::from(keep < 3)], "{keep}");
    }
    assert_eq!(flow.events.len(), 12);
}
