//! What settling, sealing and taking up a flow again refuse.
use super::clinic::{FLOW, Flow, Kept, flow};
use crate::block::{COUNT_MAX, Container, Entry, SealError, Sealing, pack_tail, seal};
use crate::chain::{Corrupt, Links, SettleError, Settling, Stored, settle, settle_many};
use crate::suite::Suite;

const WHENS: [i64; 8] = [10, 30, 20, 30, 40, 35, 50, 60];

fn frames(flow: &Flow) -> Vec<Vec<u8>> {
    flow.events.iter().map(|kept| kept.frame.clone()).collect()
}

fn start(flow: &Flow) -> Links {
    Links::start(flow.genesis.suite, flow.g())
}

#[test]
fn what_cannot_be_settled_is_refused_and_changes_nothing() {
    let open = flow(Suite::Sha256, &WHENS, false, 1);
    let closed = flow(Suite::Sha256, &WHENS, true, 1);
    let refused = |frames: Vec<Vec<u8>>, closing| {
        let mut links = start(&open);
        let before = links.clone();
        let error = settle(&mut links, frames, closing).unwrap_err();
        assert_eq!(links, before);
        error
    };
    let mut cut = frames(&open);
    cut[4].pop();
    assert!(matches!(refused(cut, false), SettleError::Frame { index: 4, .. }));
    let mut fallen = frames(&open);
    fallen.swap(1, 7);
    assert_eq!(refused(fallen, false), SettleError::RecordedAt { index: 2 });
    assert_eq!(refused(frames(&open), true), SettleError::Close { index: 7 });
    assert_eq!(refused(frames(&closed), false), SettleError::Close { index: 7 });
    assert_eq!(refused(Vec::new(), true), SettleError::Close { index: 0 });
    let mut early = frames(&closed);
    early.swap(3, 7);
    assert_eq!(refused(early, true), SettleError::Close { index: 3 });

    let mut links = start(&closed);
    settle(&mut links, frames(&closed), true).unwrap();
    assert!(links.closed());
    assert_eq!(settle(&mut links, frames(&open), false), Err(SettleError::Closed));
    let none = settle(&mut start(&open), Vec::new(), false).unwrap();
    assert_eq!((none.entries.len(), none.first_id, none.ids.len()), (0, 1, 0));
}

#[test]
fn late_flags_are_settlings_own_part() {
    let flow = flow(Suite::Blake3, &WHENS, false, 1);
    let mut given = frames(&flow);
    given.iter_mut().for_each(|frame| frame[64] ^= 1);
    let settled = settle(&mut start(&flow), given, false).unwrap();
    for (made, kept) in settled.entries.iter().zip(&flow.events) {
        assert_eq!(made.frame, kept.frame);
    }
}

#[test]
fn many_flows_settle_together_as_each_alone() {
    let (sha256, blake3) = (Suite::Sha256, Suite::Blake3);
    let flows: Vec<(Flow, bool)> = [
        (8, sha256, true),
        (1, sha256, true),
        (5, blake3, false),
        (2, sha256, false),
    ]
    .into_iter()
    .chain((1..=8).flat_map(|count| [(count, sha256, count % 2 == 0), (count, blake3, count % 3 == 0)]))
    .map(|(count, suite, closing)| (flow(suite, &WHENS[..count], closing, 1), closing))
    .collect();
    let settling = |(flow, closing): &(Flow, bool)| Settling {
        links: start(flow),
        frames: frames(flow),
        closing: *closing,
    };
    let settled = settle_many(flows.iter().map(settling).collect()).unwrap();
    assert_eq!(settled.len(), flows.len());
    for ((flow, closing), (links, together)) in flows.iter().zip(settled) {
        let mut alone = start(flow);
        assert_eq!(settle(&mut alone, frames(flow), *closing).unwrap(), together);
        assert_eq!(alone, links);
        for (made, kept) in together.entries.iter().zip(&flow.events) {
            assert_eq!((made.hash, made.provisional), (kept.hash, kept.provisional));
        }
        assert_eq!(together.ids, flow.ids[..together.ids.len()]);
        assert_eq!(
            together.ids.len(),
            if *closing {
                flow.events.len()
            } else {
                flow.events.len().saturating_sub(3)
            }
        );
    }
    let mut some = flows.iter().map(settling).collect::<Vec<_>>();
    some[3].frames[1].pop();
    assert!(matches!(
        settle_many(some),
        Err(SettleError::Frame { index: 1, .. })
    ));
}

fn stored(kept: &Kept) -> Stored<'_> {
    Stored {
        frame: &kept.frame,
        hash: kept.hash,
        provisional: kept.provisional,
    }
}

#[test]
fn a_flow_is_taken_up_again_only_as_it_was() {
    let flow = flow(Suite::Sha256, &WHENS, false, 1);
    let pieces = flow.pack(&[4, 1]);
    let block = Container::decode(&pieces[1]).unwrap();
    let restore = |events: &[Kept]| {
        let entries: Vec<Stored> = events.iter().map(stored).collect();
        Links::restore(&flow.record, Some(&block), Some(30), &entries)
    };
    let tail = &flow.events[5..];
    assert!(restore(tail).is_ok());
    for index in 0..3 {
        let changed = |change: fn(&mut Kept)| {
            let mut events = tail.to_vec();
            change(&mut events[index]);
            restore(&events).unwrap_err()
        };
        assert_eq!(changed(|kept| kept.frame[30] ^= 1), Corrupt::Entry { index });
        assert_eq!(changed(|kept| kept.frame[64] ^= 1), Corrupt::Entry { index });
        assert_eq!(changed(|kept| kept.hash[0] ^= 1), Corrupt::Entry { index });
        assert_eq!(changed(|kept| kept.provisional[0] ^= 1), Corrupt::Entry { index });
    }
    assert_eq!(restore(&tail[..2]).unwrap_err(), Corrupt::Missing);
    let other = super::clinic::flow(Suite::Sha256, &WHENS, false, 2);
    assert_eq!(
        Links::restore(&other.record, Some(&block), None, &[]).unwrap_err(),
        Corrupt::Genesis
    );
    assert_eq!(
        Links::restore(&[0; 64], None, None, &[]).unwrap_err(),
        Corrupt::Genesis
    );
    let tail_piece = Container::decode(&pieces[2]).unwrap();
    let entries: Vec<Stored> = tail.iter().map(stored).collect();
    let refused = Links::restore(&flow.record, Some(&tail_piece), None, &entries);
    assert!(refused.is_err());
    let (links, settled) = Links::restore(&flow.record, None, None, &[]).unwrap();
    assert_eq!((links.n(), settled.ids.len()), (0, 0));
}

#[test]
fn links_come_back_and_cut_ones_are_refused() {
    let flow = flow(Suite::Blake3, &WHENS, false, 1);
    let mut links = start(&flow);
    settle(&mut links, frames(&flow), false).unwrap();
    let bytes = links.encode();
    assert_eq!(Links::decode(&bytes), Ok(links));
    for length in 0..bytes.len() {
        assert!(Links::decode(&bytes[..length]).is_err());
    }
    for (at, byte) in [
        (0, 2),
        (1, 0),
        (2, 2),
        (3, 1),
        (6, 2),
        (23, 9),
        (bytes.len() - 1, 1),
    ] {
        let mut wrong = bytes.clone();
        wrong[at] = byte;
        assert!(Links::decode(&wrong).is_err(), "{at}");
    }
}

#[test]
fn what_cannot_be_sealed_is_refused() {
    let flow = flow(Suite::Sha256, &WHENS, false, 1);
    let entry = |n: usize| {
        let kept = &flow.events[n - 1];
        Entry {
            frame: &kept.frame,
            hash: kept.hash,
            id: flow.ids[n - 1],
            body: Some(&kept.body),
        }
    };
    let entries: Vec<Entry> = (1..=5).map(entry).collect();
    let g = flow.g();
    let good = Sealing {
        genesis_record: &flow.record,
        height: 0,
        first: 1,
        epoch: 1,
        sealed_at: 5000,
        previous: g,
        ids_before: [g; 3],
        hashes_before: [g; 2],
        next_hashes: [flow.hash(6), flow.hash(7), flow.hash(8)],
        closes: false,
        entries: &entries,
    };
    assert!(seal(&good).is_ok());
    let refused = |sealing: Sealing| seal(&sealing).unwrap_err();
    assert_eq!(
        refused(Sealing {
            entries: &[],
            ..good.clone()
        }),
        SealError::Count
    );
    assert_eq!(
        refused(Sealing {
            sealed_at: 1001,
            ..good.clone()
        }),
        SealError::RecordedAt { index: 4 }
    );
    assert!(
        seal(&Sealing {
            sealed_at: 1002,
            ..good.clone()
        })
        .is_ok()
    );
    assert_eq!(
        refused(Sealing {
            height: 1,
            ..good.clone()
        }),
        SealError::Seams
    );
    assert_eq!(
        refused(Sealing {
            first: 2,
            ..good.clone()
        }),
        SealError::Seams
    );
    assert_eq!(
        refused(Sealing {
            previous: [0; 32],
            ..good.clone()
        }),
        SealError::Seams
    );
    assert_eq!(
        refused(Sealing {
            next_hashes: [g; 3],
            ..good.clone()
        }),
        SealError::Seams
    );
    assert_eq!(
        refused(Sealing {
            first: 0,
            ..good.clone()
        }),
        SealError::Range
    );
    assert_eq!(
        refused(Sealing {
            epoch: 1 << 53,
            ..good.clone()
        }),
        SealError::Range
    );
    assert_eq!(
        refused(Sealing {
            sealed_at: 1 << 53,
            ..good.clone()
        }),
        SealError::Range
    );
    assert_eq!(
        refused(Sealing {
            closes: true,
            ..good.clone()
        }),
        SealError::Close { index: 4 }
    );
    assert!(matches!(
        refused(Sealing {
            genesis_record: &[],
            ..good.clone()
        }),
        SealError::Genesis(_)
    ));
    let mut swapped = entries.clone();
    swapped.swap(0, 4);
    assert_eq!(
        refused(Sealing {
            entries: &swapped,
            ..good.clone()
        }),
        SealError::RecordedAt { index: 1 }
    );
    let mut cut = entries.clone();
    cut[2].frame = &cut[2].frame[1..];
    assert!(matches!(
        refused(Sealing {
            entries: &cut,
            ..good.clone()
        }),
        SealError::Frame { index: 2, .. }
    ));
    let mut cut = entries.clone();
    cut[3].body = Some(&[0; 63]);
    assert!(matches!(
        refused(Sealing {
            entries: &cut,
            ..good.clone()
        }),
        SealError::Body { index: 3, .. }
    ));
    let many = vec![entry(1); COUNT_MAX + 1];
    assert_eq!(
        refused(Sealing {
            entries: &many,
            ..good.clone()
        }),
        SealError::Count
    );
    assert_eq!(pack_tail(&flow.record, None, &[]), Err(SealError::Count));
}

#[test]
fn a_container_has_the_views_that_its_successor_needs() {
    let flow = flow(Suite::Sha256, &WHENS, false, 1);
    for sizes in [&[1_usize][..], &[1, 1], &[2, 1], &[1, 2], &[5], &[2, 3]] {
        let pieces = flow.pack(sizes);
        let block = Container::decode(&pieces[sizes.len() - 1]).unwrap();
        let last = block.last() as i64;
        assert_eq!(last as usize, sizes.iter().sum::<usize>());
        assert_eq!(
            block.last_ids(),
            [flow.id(last - 2), flow.id(last - 1), flow.id(last)]
        );
        assert_eq!(
            block.last_hashes(),
            [flow.hash(last - 2), flow.hash(last - 1), flow.hash(last)]
        );
        assert_eq!(block.flow(), FLOW);
        assert_eq!(
            block.event(block.count() - 1).unwrap().when,
            WHENS[last as usize - 1]
        );
        assert!(block.event(block.count()).is_err());
        assert!(block.frame(usize::MAX).is_empty());
    }
}
