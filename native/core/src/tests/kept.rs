//! A block's kept part: cut, read strictly, checked in itself, compared, and used to mend the block.
use super::clinic::{Flow, Open, SEALED_AT, flow};
use crate::block::Container;
use crate::kept::{CutFault, Kept, Place, Side, compare, cut, mend};
use crate::suite::{Digest, Suite};
use crate::verify::FaultClass;

const SUITES: [Suite; 2] = [Suite::Sha256, Suite::Blake3];
const SIZES: [usize; 4] = [5, 1, 2, 4];

fn blocks(suite: Suite) -> (Flow, Vec<Vec<u8>>) {
    let whens = [10, 30, 20, 30, 40, 35, 50, 60, 55, 70, 80, 90];
    let flow = flow(suite, &whens, true, 1);
    let pieces = flow.pack(&SIZES);
    (flow, pieces)
}

fn part(block: &[u8]) -> Vec<u8> {
    cut(block, 0..block.len() as u64).unwrap()
}

fn place(blocks: &[Vec<u8>], height: usize) -> Place<'static> {
    let before = height.checked_sub(1).map(|at| {
        let part: &[u8] = Box::leak(part(&blocks[at]).into_boxed_slice());
        &*Box::leak(Box::new(Kept::decode(part).unwrap()))
    });
    Place {
        height: height as u64,
        before,
    }
}

#[test]
fn a_part_has_what_the_block_records_and_none_of_its_frames_and_bodies() {
    for suite in SUITES {
        let (flow, blocks) = blocks(suite);
        for (height, block) in blocks.iter().enumerate() {
            let container = Container::decode(block).unwrap();
            let bytes = part(block);
            let kept = Kept::decode(&bytes).unwrap();
            assert_eq!(kept.flow(), container.flow());
            assert_eq!(kept.genesis_record(), container.genesis_record());
            assert_eq!(kept.header(), container.header());
            assert_eq!(kept.hash(), container.hash());
            assert_eq!(kept.hashes(), container.hashes());
            assert_eq!(kept.ids(), container.ids());
            assert_eq!(kept.flaw(&place(&blocks, height)), None);
            for event in &flow.events {
                assert!(!bytes.windows(64).any(|window| window == &event.frame[..64]));
            }
        }
    }
}

#[test]
fn where_the_block_lies_makes_no_difference_and_a_block_without_bodies_has_the_same_part() {
    let (_, blocks) = blocks(Suite::Sha256);
    let among = [&[7; 100][..], &blocks[0], &[7; 100]].concat();
    assert_eq!(
        cut(&among[..], 100..100 + blocks[0].len() as u64).unwrap(),
        part(&blocks[0])
    );
    let mut open = Open::of(&blocks[0]);
    open.events.iter_mut().for_each(|kept| kept.body.clear());
    assert_eq!(part(&open.pack()), part(&blocks[0]));
}

#[test]
fn what_is_no_block_is_not_cut() {
    let (flow, blocks) = blocks(Suite::Sha256);
    let block = &blocks[0];
    let length = block.len() as u64;
    assert!(cut(&block[..], 0..length + 1).is_err());
    assert_eq!(cut(&block[..], length..length + 1), Err(CutFault::Read));
    for end in 0..length {
        assert!(cut(&block[..], 0..end).is_err(), "{end}");
    }
    for at in [0, 8, 16, 24] {
        let mut wrong = block.clone();
        wrong[at] ^= 1;
        assert!(
            matches!(cut(&wrong[..], 0..length), Err(CutFault::Malformed(_))),
            "{at}"
        );
    }
    let open = super::clinic::flow(Suite::Sha256, &[1, 2, 3], false, 1);
    let tail = &open.pack(&[])[0];
    assert!(cut(&tail[..], 0..tail.len() as u64).is_err());
    assert!(flow.closed);
}

#[test]
fn a_part_of_any_other_length_is_refused() {
    let (_, blocks) = blocks(Suite::Sha256);
    let bytes = part(&blocks[0]);
    for end in 0..bytes.len() {
        assert!(Kept::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert!(Kept::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Kept::decode(&blocks[0]).is_err());
}

#[test]
fn every_byte_that_is_flipped_is_a_fault_of_the_side_that_was_hit() {
    for suite in SUITES {
        let (_, blocks) = blocks(suite);
        for (height, block) in blocks.iter().enumerate() {
            let (right, place) = (part(block), place(&blocks, height));
            for at in 0..right.len() {
                let mut wrong = right.clone();
                wrong[at] ^= 1;
                let kept = compare(&right, &wrong, &place).unwrap();
                assert_eq!(kept.side, Side::Kept, "block {height}, byte {at}: {kept:?}");
                let events = compare(&wrong, &right, &place).unwrap();
                assert_eq!(events.side, Side::Events, "block {height}, byte {at}: {events:?}");
                assert_eq!(events.class, kept.class);
                let mut other = right.clone();
                other[at] ^= 2;
                assert_eq!(
                    compare(&wrong, &other, &place).unwrap().side,
                    Side::Both,
                    "byte {at}"
                );
            }
            assert_eq!(compare(&right, &right, &place), None);
        }
    }
}

/// Where in a block's part the digests of the i-th event stand.
fn digests_at(bytes: &[u8], count: usize, i: usize) -> (usize, usize) {
    let run = (32 * count).next_multiple_of(64);
    (bytes.len() - 2 * run + 32 * i, bytes.len() - run + 32 * i)
}

#[test]
fn what_differs_is_named_with_its_position() {
    let (_, blocks) = blocks(Suite::Sha256);
    let (right, place) = (part(&blocks[2]), place(&blocks, 2));
    let (hash_at, id_at) = digests_at(&right, 2, 1);
    let header_at = 64 + 64;
    for (at, class, position) in [
        (40, FaultClass::BlockHash, 7),
        (header_at + 31, FaultClass::Epoch, 7),
        (header_at + 39, FaultClass::WhenRange, 7),
        (header_at + 55, FaultClass::SealedAt, 7),
        (header_at + 60, FaultClass::Genesis, 7),
        (header_at + 90, FaultClass::Previous, 7),
        (header_at + 130, FaultClass::Root, 7),
        (header_at + 192, FaultClass::Seam, 7),
        (hash_at, FaultClass::EventHash, 8),
        (id_at, FaultClass::Id, 8),
    ] {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        let found = compare(&right, &wrong, &place).unwrap();
        assert_eq!(
            (found.class, found.position, found.side),
            (class, position, Side::Kept)
        );
    }
}

#[test]
fn a_block_that_was_recomputed_whole_holds_in_itself_until_the_block_before_is_known() {
    let (mut other, honest) = blocks(Suite::Sha256);
    // Another body at position 7: all that hangs on it is made anew.
    other.set(7, 16, &51_i64.to_be_bytes());
    other.relink();
    let forged = other.pack(&SIZES);
    let (right, wrong) = (part(&honest[2]), part(&forged[2]));
    let unknown = Place {
        height: 2,
        before: None,
    };
    let found = compare(&wrong, &right, &unknown).unwrap();
    assert_eq!(
        (found.class, found.position, found.side),
        (FaultClass::EventHash, 7, Side::Neither)
    );
    // Its hash is in the ids of 4 to 6 too, so the block before is another as well.
    let found = compare(&wrong, &right, &place(&honest, 2)).unwrap();
    assert_eq!(found.side, Side::Events);
    let before = compare(&part(&forged[0]), &part(&honest[0]), &place(&honest, 0)).unwrap();
    assert_eq!(
        (before.class, before.position, before.side),
        (FaultClass::Seam, 7, Side::Neither)
    );
}

#[test]
fn a_part_at_another_height_does_not_hold() {
    let (_, blocks) = blocks(Suite::Sha256);
    let found = compare(&part(&blocks[1]), &part(&blocks[2]), &place(&blocks, 2)).unwrap();
    assert_eq!((found.class, found.side), (FaultClass::Height, Side::Events));
}

#[test]
fn a_block_whose_digests_were_hit_is_mended_from_its_part() {
    for suite in SUITES {
        let (_, blocks) = blocks(suite);
        for block in &blocks {
            let container = Container::decode(block).unwrap();
            let bytes = part(block);
            let kept = Kept::decode(&bytes).unwrap();
            let lengths = 64 + container.genesis_record().len() + 192 + 256;
            let digests = bytes.len() - lengths;
            let verification = container.verification_length();
            for range in [0..lengths, verification - digests..verification] {
                let mut hit = block.clone();
                hit[range].fill(0xff);
                assert_eq!(mend(&kept, &hit).as_deref(), Ok(&block[..]));
            }
            // Frames and bodies are not in it.
            let mut hit = block.clone();
            hit[container.frame_offset(0)] ^= 1;
            assert_eq!(mend(&kept, &hit).as_deref(), Ok(&hit[..]));
            for end in 0..verification {
                assert!(mend(&kept, &block[..end]).is_err());
            }
        }
    }
}

#[test]
fn fillers_stand_where_there_is_no_event_and_nowhere_else() {
    let (flow, blocks) = blocks(Suite::Sha256);
    let g: Digest = flow.g();
    let mut open = Open::of(&blocks[1]);
    open.seams.next_hashes[0] = g;
    let wrong = part(&open.pack());
    let flaw = Kept::decode(&wrong).unwrap().flaw(&place(&blocks, 1)).unwrap();
    assert_eq!((flaw.class, flaw.position), (FaultClass::Seam, 6));
    assert_eq!(open.header.sealed_at, SEALED_AT + 1);
}
