//! New events, from their fields to settled runs.
use super::run::{Run, Unsealed, records};
use super::{Links, SettleError, Settled, Settling, settle_many};
use crate::event::{Event, FRAME_MIN, Invalid, put_salted_body, salted_size};
use crate::suite::{Digest, Role, Suite, hash_each};

/// An event that is to be packed; its commitment is still to be made.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Its fields.
    pub event: Event<'a>,
    /// Goes in front of the body.
    pub salt: [u8; 16],
    /// What it says.
    pub body: &'a [u8],
}

/// A flow, and what is new in it, in order.
#[derive(Clone, Debug)]
pub struct Fresh<'a> {
    /// Where the flow stands.
    pub links: Links,
    /// The new events.
    pub drafts: Vec<Draft<'a>>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Grown {
    /// Where the flow stands now.
    pub links: Links,
    /// What settling made.
    pub settled: Settled,
    bodies: Bodies,
}

/// Why nothing was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSettled {
    /// A field breaks a rule.
    Invalid(Invalid),
    /// The events do not follow.
    Error(SettleError),
}

/// Salted bodies, one after the other, and where each ends.
#[derive(Clone, Debug, Default)]
struct Bodies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Fresh<'_> {
    /// The bytes of its salted bodies.
    fn size(&self) -> usize {
        let sizes = self.drafts.iter().map(|draft| salted_size(draft.body.len()));
        sizes.sum()
    }
}

impl Bodies {
    fn salted(flow: &Fresh<'_>) -> Bodies {
        let mut bodies = Bodies {
            bytes: Vec::with_capacity(flow.size()),
            ends: Vec::with_capacity(flow.drafts.len()),
        };
        for draft in &flow.drafts {
            put_salted_body(&mut bodies.bytes, &draft.salt, draft.body);
            bodies.ends.push(bodies.bytes.len());
        }
        bodies
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }
}

/// Flows are packed together up to so many bytes of bodies: these are hashed while the cache holds them.
const TOGETHER: usize = 512 * 1024;

/// Packs and settles new events in many flows. All settle, or none.
pub fn settle_fresh(flows: Vec<Fresh<'_>>) -> Result<Vec<Grown>, NotSettled> {
    let mut bodies = Vec::with_capacity(flows.len());
    let mut settling = Vec::with_capacity(flows.len());
    let mut waiting: &[Fresh<'_>] = &flows;
    while !waiting.is_empty() {
        let (now, later) = waiting.split_at(together(waiting));
        let own: Vec<Bodies> = now.iter().map(Bodies::salted).collect();
        for (flow, commitments) in now.iter().zip(commitments(now, &own)) {
            settling.push(packed(flow, commitments).map_err(NotSettled::Invalid)?);
        }
        bodies.extend(own);
        waiting = later;
    }
    let settled = settle_many(settling).map_err(NotSettled::Error)?;
    let flows = settled.into_iter().zip(bodies);
    Ok(flows
        .map(|((links, settled), bodies)| Grown {
            links,
            settled,
            bodies,
        })
        .collect())
}

/// How many of the flows are packed together: at least one.
fn together(flows: &[Fresh<'_>]) -> usize {
    let mut bytes = 0;
    let few = flows.iter().take_while(|flow| {
        bytes += flow.size();
        bytes <= TOGETHER
    });
    few.count().max(1)
}

/// Those of a suite are hashed side by side.
fn commitments(flows: &[Fresh<'_>], bodies: &[Bodies]) -> Vec<Vec<Digest>> {
    let mut commitments = vec![Vec::new(); flows.len()];
    for suite in [Suite::Sha256, Suite::Blake3] {
        let alike = || {
            flows
                .iter()
                .zip(bodies)
                .filter(|(flow, _)| flow.links.suite() == suite)
        };
        let inputs: Vec<&[u8]> = alike().flat_map(|(_, bodies)| bodies.each()).collect();
        let mut hashed = Vec::with_capacity(inputs.len());
        hash_each(suite, Role::Body, &inputs, &mut hashed);
        let mut hashed = hashed.into_iter();
        for (flow, own) in flows.iter().zip(&mut commitments) {
            if flow.links.suite() == suite {
                own.extend(hashed.by_ref().take(flow.drafts.len()));
            }
        }
    }
    commitments
}

fn packed(flow: &Fresh<'_>, commitments: Vec<Digest>) -> Result<Settling, Invalid> {
    let drafts = flow.drafts.iter().zip(commitments);
    let frames = drafts.map(|(draft, commitment)| {
        let mut frame = Vec::with_capacity(FRAME_MIN);
        let event = Event {
            commitment,
            ..draft.event
        };
        event.encode(&mut frame).map(|()| frame)
    });
    Ok(Settling {
        frames: frames.collect::<Result<_, _>>()?,
        links: flow.links.clone(),
        closing: false,
    })
}

impl Grown {
    /// The settled events as they are to be kept.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let entries = &self.settled.entries;
        let mut events = entries
            .iter()
            .zip(self.bodies.each())
            .map(|(entry, body)| Unsealed::new(entry, body));
        let first = entries.first().map_or(0, |entry| entry.n);
        records(entries.len())
            .map(|range| {
                (
                    first + range.start as u64,
                    events.by_ref().take(range.len()).collect(),
                )
            })
            .collect()
    }
}
