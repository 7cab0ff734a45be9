//! Runs: how they are written and read, what new events become, and what of them goes into a block.
use super::clinic::{Flow, Kept, flow};
use crate::chain::fresh::{Draft, Fresh, NotSettled, settle_fresh};
use crate::chain::run::{Limits, Run, Unsealed, all, decode, encode, part, records};
use crate::chain::{Links, SettleError, settle};
use crate::event::{Event, Field, decode_salted_body};
use crate::suite::Suite;

const SUITES: [Suite; 2] = [Suite::Sha256, Suite::Blake3];

fn open(suite: Suite, count: i64) -> Flow {
    let whens: Vec<i64> = (0..count).map(|i| i * 7 % 5).collect();
    flow(suite, &whens, false, 3)
}

fn unsealed(kept: &Kept) -> Unsealed<'_> {
    Unsealed {
        frame: &kept.frame,
        hash: kept.hash,
        provisional: kept.provisional,
        body: Some(&kept.body),
    }
}

fn bodies(events: &[Unsealed]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|event| event.body.unwrap())
        .copied()
        .collect()
}

#[test]
fn a_run_comes_back_as_it_was_written_and_in_no_other_form() {
    for count in [1, 2, 3, 9] {
        let flow = open(Suite::Sha256, count);
        let events: Vec<_> = flow.events.iter().map(unsealed).collect();
        let (record, bodies) = (encode(5, &events), bodies(&events));
        assert_eq!(decode(&record, Some(&bodies)), Ok((5, events)));
        assert_eq!(record[0], if count == 1 { 2 } else { 3 });
        for length in 0..record.len() {
            let short = decode(&record[..length], Some(&bodies));
            // Of a single event the frame takes what is left; settling it again refuses it.
            let cut_frame = count == 1 && length >= 73;
            assert_eq!(short.is_err(), !cut_frame, "{count} events, {length} bytes");
        }
        if count > 1 {
            assert!(decode(&[record.as_slice(), &[0]].concat(), Some(&bodies)).is_err());
            assert!(decode(&record, Some(&bodies[1..])).is_err());
            assert!(decode(&record, Some(&[bodies.as_slice(), &[0; 64]].concat())).is_err());
            assert!(decode(&record, None).is_err());
        }
        assert!(decode(&[&[4], &record[1..]].concat(), Some(&bodies)).is_err());
    }
    let flow = open(Suite::Sha256, 1);
    let absent = Unsealed {
        body: None,
        ..unsealed(&flow.events[0])
    };
    assert_eq!(decode(&encode(1, &[absent]), None), Ok((1, vec![absent])));
}

#[test]
fn a_flows_last_three_events_are_records_of_their_own() {
    for count in 0..20 {
        let ranges: Vec<_> = records(count).collect();
        let counts: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), count);
        assert!(ranges.iter().map(|range| range.start).is_sorted());
        let together = usize::from(count > 6);
        assert!(counts.iter().skip(together).all(|own| *own == 1), "{counts:?}");
        assert!(together == 0 || counts.len() == 4, "{counts:?}");
    }
}

fn draft(kept: &Kept) -> Draft<'_> {
    let (salt, body) = decode_salted_body(&kept.body).unwrap();
    let event = Event {
        commitment: [0; 32],
        late: false,
        ..Event::decode(&kept.frame).unwrap()
    };
    Draft {
        event,
        salt: *salt,
        body,
    }
}

fn fresh(flow: &Flow) -> Fresh<'_> {
    Fresh {
        links: Links::start(flow.genesis.suite, flow.g()),
        drafts: flow.events.iter().map(draft).collect(),
    }
}

#[test]
fn new_events_become_what_packing_and_settling_one_after_the_other_makes() {
    let flows: Vec<Flow> = SUITES
        .iter()
        .flat_map(|suite| [0, 1, 3, 7, 40].map(|count| open(*suite, count)))
        .collect();
    let grown = settle_fresh(flows.iter().map(fresh).collect()).unwrap();
    for (flow, grown) in flows.iter().zip(&grown) {
        let mut links = Links::start(flow.genesis.suite, flow.g());
        let frames = flow.events.iter().map(|kept| kept.frame.clone());
        let settled = settle(&mut links, frames, false).unwrap();
        assert_eq!((&grown.links, &grown.settled), (&links, &settled));
        let runs = grown.runs();
        let events: Vec<_> = runs.iter().flat_map(|(_, events)| events).copied().collect();
        assert_eq!(events, flow.events.iter().map(unsealed).collect::<Vec<_>>());
        let mut next = 1;
        for (first, events) in &runs {
            assert_eq!(*first, next);
            next += events.len() as u64;
        }
    }
}

#[test]
fn flows_with_more_bodies_than_are_packed_together_settle_as_each_alone() {
    fn large(flow: &Flow) -> Fresh<'_> {
        let mut fresh = fresh(flow);
        fresh
            .drafts
            .iter_mut()
            .for_each(|draft| draft.body = &[7; 40_000]);
        fresh
    }
    let flows: Vec<Flow> = [9, 0, 30, 1, 7, 3]
        .iter()
        .flat_map(|count| SUITES.map(|suite| open(suite, *count)))
        .collect();
    let together = settle_fresh(flows.iter().map(large).collect()).unwrap();
    assert_eq!(together.len(), flows.len());
    for (flow, grown) in flows.iter().zip(&together) {
        let alone = settle_fresh(vec![large(flow)]).unwrap();
        assert_eq!(
            (&grown.links, &grown.settled),
            (&alone[0].links, &alone[0].settled)
        );
        assert_eq!(grown.runs(), alone[0].runs());
    }
}

#[test]
fn of_new_events_all_are_settled_or_none() {
    let (good, other) = (open(Suite::Sha256, 5), open(Suite::Blake3, 5));
    let mut invalid = fresh(&other);
    invalid.drafts[4].event.kind = "";
    let refused = settle_fresh(vec![fresh(&good), invalid]).unwrap_err();
    assert!(matches!(refused, NotSettled::Invalid(fault) if fault.field == Field::Kind));
    let mut fallen = fresh(&other);
    fallen.drafts.swap(0, 4);
    let refused = settle_fresh(vec![fresh(&good), fallen]).unwrap_err();
    assert!(matches!(
        refused,
        NotSettled::Error(SettleError::RecordedAt { .. })
    ));
}

/// Runs of so many events each, from position 1 on.
fn runs<'a>(flow: &'a Flow, counts: &[usize]) -> Vec<Run<'a>> {
    let mut events = flow.events.iter().map(unsealed);
    let mut first = 1;
    let run = |count: &usize| {
        let run = (first, events.by_ref().take(*count).collect());
        first += *count as u64;
        run
    };
    counts.iter().map(run).collect()
}

#[test]
fn a_block_takes_what_the_limits_let_and_cuts_no_run_that_must_stay_whole() {
    let flow = open(Suite::Sha256, 30);
    let runs = runs(&flow, &[5, 1, 10, 1, 1, 12]);
    let size = |count: usize| {
        flow.events[..count]
            .iter()
            .map(|kept| unsealed(kept).size())
            .sum()
    };
    let check = |events, bytes, whole, expected: usize, rest: Option<(u64, usize)>| {
        let part = part(&runs, &Limits { events, bytes, whole });
        let wanted: Vec<_> = flow.events[..expected].iter().map(unsealed).collect();
        assert_eq!(
            part.sealed, wanted,
            "{events} events, {bytes} bytes, {whole} whole"
        );
        let behind = flow.events[expected..].iter().take(3).map(|kept| kept.hash);
        assert_eq!(part.behind, behind.collect::<Vec<_>>());
        let left = part.rest.map(|(first, events)| {
            assert_eq!(events[0], unsealed(&flow.events[first as usize - 1]));
            (first, events.len())
        });
        assert_eq!(left, rest);
    };
    for events in 1..=27 {
        let rest = [(5, 0), (16, 6), (30, 18)]
            .iter()
            .find(|(end, start)| (start + 1..*end).contains(&events));
        let rest = rest.map(|(end, _)| (events as u64 + 1, end - events));
        check(events, usize::MAX, 0, events, rest);
        // The last byte before an event decides whether it still goes in.
        check(27, size(events), 0, events, rest);
        check(27, size(events) - 1, 0, events, rest);
    }
    check(27, 1, 0, 1, Some((2, 4)));
    check(27, 0, 0, 1, Some((2, 4)));
    // The first is taken whole if it must be; of the others none is begun.
    check(3, usize::MAX, 16, 5, None);
    check(9, usize::MAX, 16, 6, None);
    check(9, usize::MAX, 6, 9, Some((10, 7)));
    check(20, usize::MAX, 16, 20, Some((21, 10)));
    assert_eq!(all(&runs).sealed.len(), 30);
}
