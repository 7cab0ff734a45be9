//! Settling many flows at once: an id needs the one before it, so it is flows that are linked side by side.
use super::{Links, SettleError, Settled, SettledEvent};
use crate::link::Linked;
use crate::suite::{Digest, Role, Suite, hash_each};

/// So many provisional ids are hashed at a time: what they are taken of stays in the nearest caches.
const PROVISIONALS: usize = 64;

/// A flow, and what is settled in it.
#[derive(Clone, Debug)]
pub struct Settling {
    /// Where the flow stands.
    pub links: Links,
    /// The frames, in order.
    pub frames: Vec<Vec<u8>>,
    /// The last one is `$close`.
    pub closing: bool,
}

/// Settles frames in many flows. All settle, or none.
pub fn settle_many(flows: Vec<Settling>) -> Result<Vec<(Links, Settled)>, SettleError> {
    let mut flows: Vec<Flow> = flows.into_iter().map(Flow::prepared).collect::<Result<_, _>>()?;
    for suite in [Suite::Sha256, Suite::Blake3] {
        let mut alike: Vec<&mut Flow> = flows
            .iter_mut()
            .filter(|flow| flow.links.suite == suite)
            .collect();
        alike.sort_by_key(|flow| std::cmp::Reverse(flow.frames.len()));
        Alike { suite, flows: alike }.settle();
    }
    Ok(flows.into_iter().map(Flow::settled).collect())
}

struct Flow {
    links: Links,
    frames: Vec<Vec<u8>>,
    closing: bool,
    first_id: u64,
    first_n: u64,
    hashes: Vec<Digest>,
    provisionals: Vec<Digest>,
    ids: Vec<Digest>,
}

impl Flow {
    fn prepared(settling: Settling) -> Result<Flow, SettleError> {
        let Settling {
            mut links,
            frames,
            closing,
        } = settling;
        if links.closed {
            return Err(SettleError::Closed);
        }
        let frames = links.prepare(frames, closing)?;
        Ok(Flow {
            first_id: links.known + 1,
            first_n: links.n + 1,
            hashes: Vec::with_capacity(frames.len()),
            provisionals: Vec::with_capacity(frames.len()),
            ids: Vec::with_capacity(frames.len() + 3),
            links,
            frames,
            closing,
        })
    }

    fn learn(&mut self, id: Digest) {
        self.links.learn(id);
        self.ids.push(id);
    }

    fn settled(mut self) -> (Links, Settled) {
        self.links.closed = self.closing;
        let made = self.frames.into_iter().zip(self.hashes).zip(self.provisionals);
        let entries = made
            .zip(self.first_n..)
            .map(|(((frame, hash), provisional), n)| SettledEvent {
                n,
                frame,
                hash,
                provisional,
            });
        let settled = Settled {
            entries: entries.collect(),
            first_id: self.first_id,
            ids: self.ids,
        };
        (self.links, settled)
    }
}

/// Flows of one suite, the longest first.
struct Alike<'a> {
    suite: Suite,
    flows: Vec<&'a mut Flow>,
}

impl Alike<'_> {
    fn settle(&mut self) {
        self.hash();
        let longest = self.flows.first().map_or(0, |flow| flow.frames.len());
        let mut provided = Vec::with_capacity(PROVISIONALS);
        for step in 0..longest {
            let so_long = self.flows.partition_point(|flow| flow.frames.len() > step);
            self.link(so_long, |flow| {
                flow.hashes.get(step).and_then(|own| flow.links.linked_by(*own))
            });
            for at in 0..so_long {
                if let Some(flow) = self.flows.get_mut(at)
                    && let Some(own) = flow.hashes.get(step)
                {
                    provided.push((at, flow.links.advance(*own)));
                }
                if provided.len() == PROVISIONALS {
                    self.provide(&mut provided);
                }
            }
        }
        self.provide(&mut provided);
        let all = self.flows.len();
        while self.link(all, |flow| flow.links.linked_by_none().filter(|_| flow.closing)) {}
    }

    /// The event hashes.
    fn hash(&mut self) {
        let frames = self.flows.iter().flat_map(|flow| &flow.frames);
        let inputs: Vec<&[u8]> = frames.map(Vec::as_slice).collect();
        let mut digests = Vec::new();
        hash_each(self.suite, Role::Event, &inputs, &mut digests);
        let mut digests = digests.into_iter();
        for flow in &mut self.flows {
            flow.hashes.extend(digests.by_ref().take(flow.frames.len()));
        }
    }

    /// The next id of each of the first `count` flows for which `next` says what it is the hash of. Whether there was any.
    fn link(&mut self, count: usize, next: impl Fn(&Flow) -> Option<Linked>) -> bool {
        let linked = self.flows.iter().take(count).enumerate();
        let linked: Vec<(usize, Linked)> = linked.filter_map(|(at, flow)| Some((at, next(flow)?))).collect();
        let inputs: Vec<&[u8]> = linked.iter().map(|(_, linked)| linked.as_flattened()).collect();
        let mut ids = Vec::new();
        hash_each(self.suite, Role::Link, &inputs, &mut ids);
        for ((at, _), id) in linked.iter().zip(ids) {
            if let Some(flow) = self.flows.get_mut(*at) {
                flow.learn(id);
            }
        }
        !linked.is_empty()
    }

    /// Provisional ids, each of what was provided for it, in the order of a flow's events.
    fn provide(&mut self, provided: &mut Vec<(usize, [u8; 192])>) {
        let inputs: Vec<&[u8]> = provided.iter().map(|(_, input)| input.as_slice()).collect();
        let mut digests = Vec::with_capacity(provided.len());
        hash_each(self.suite, Role::Provisional, &inputs, &mut digests);
        for ((at, _), digest) in provided.drain(..).zip(digests) {
            if let Some(flow) = self.flows.get_mut(at) {
                flow.provisionals.push(digest);
            }
        }
    }
}
