//! Closed flows: events with bodies of one length, settled and sealed.
use event_seal_core::block::{Container, Entry, Sealing, seal};
use event_seal_core::chain::{Links, SettledEvent, settle};
use event_seal_core::event::{CLOSE, Event, Where, commitment, salted_body};
use event_seal_core::genesis::Genesis;
use event_seal_core::suite::{Digest, Suite};

/// So many events are in a block, if there are enough.
pub const BLOCK: usize = 4096;

/// A flow that has settled all its events, and sealed none.
pub struct Flow {
    record: Vec<u8>,
    genesis: Digest,
    events: Vec<(SettledEvent, Vec<u8>)>,
    ids: Vec<Digest>,
}

impl Flow {
    /// A flow of so many events with bodies of so many bytes.
    pub fn new(suite: Suite, flow: &str, count: usize, body: usize) -> Flow {
        let genesis = Genesis::new(suite, 0, [0; 16], flow).expect("a flow");
        let bodies: Vec<Vec<u8>> = (0..count)
            .map(|i| salted_body(&salt(i), &vec![b'b'; body]))
            .collect();
        let frames: Vec<Vec<u8>> = bodies
            .iter()
            .enumerate()
            .map(|(i, body)| frame(suite, i, body, i + 1 == count))
            .collect();
        let mut links = Links::start(suite, genesis.digest());
        let settled = settle(&mut links, frames, true).expect("frames in order");
        Flow {
            record: genesis.encode(),
            genesis: genesis.digest(),
            events: settled.entries.into_iter().zip(bodies).collect(),
            ids: settled.ids,
        }
    }

    /// All of it, sealed.
    pub fn blocks(&self) -> Vec<Vec<u8>> {
        self.blocks_of(BLOCK)
    }

    /// All of it, sealed in blocks of so many events.
    pub fn blocks_of(&self, size: usize) -> Vec<Vec<u8>> {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for first in (0..self.events.len()).step_by(size) {
            let block = self.block_of(size, first, blocks.last());
            blocks.push(block);
        }
        blocks
    }

    /// The block whose first event is the one at `first`, behind the block before.
    pub fn block(&self, first: usize, before: Option<&Vec<u8>>) -> Vec<u8> {
        self.block_of(BLOCK, first, before)
    }

    /// The same where blocks have so many events.
    pub fn block_of(&self, size: usize, first: usize, before: Option<&Vec<u8>>) -> Vec<u8> {
        let before = before.map(|block| Container::decode(block).expect("a block"));
        let end = self.events.len().min(first + size);
        let entries: Vec<Entry> = self.events[first..end]
            .iter()
            .zip(&self.ids[first..])
            .map(entry)
            .collect();
        let none = [self.genesis; 3];
        let [_, second, last] = before.as_ref().map_or(none, Container::last_hashes);
        let next = |ahead: usize| {
            self.events
                .get(end + ahead)
                .map_or(self.genesis, |(event, _)| event.hash)
        };
        let sealing = Sealing {
            genesis_record: &self.record,
            height: (first / size) as u64,
            first: first as u64 + 1,
            epoch: 0,
            sealed_at: end as i64,
            previous: before.as_ref().map_or(self.genesis, |block| *block.hash()),
            closes: end == self.events.len(),
            ids_before: before.as_ref().map_or(none, Container::last_ids),
            hashes_before: [second, last],
            next_hashes: [next(0), next(1), next(2)],
            entries: &entries,
        };
        seal(&sealing).expect("a run that can be sealed")
    }
}

fn entry<'a>(((event, body), id): (&'a (SettledEvent, Vec<u8>), &Digest)) -> Entry<'a> {
    Entry {
        frame: &event.frame,
        hash: event.hash,
        id: *id,
        body: Some(body),
    }
}

fn frame(suite: Suite, i: usize, body: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let event = Event {
        euid: salt(i),
        when: i as i64,
        recorded_at: i as i64,
        commitment: commitment(suite, body),
        late: false,
        revision: 0,
        kind: if last { CLOSE } else { "vital" },
        version: 1,
        place: Where::Nowhere,
        who: None,
    };
    event.encode(&mut frame).expect("an event");
    frame
}

fn salt(i: usize) -> [u8; 16] {
    (i as u128).to_be_bytes()
}
