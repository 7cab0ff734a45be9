//! Flows to test with, sealed by the fast path.
use std::sync::LazyLock;

use crate::block::{Container, Entry, Kind, Packing, Sealing, pack, pack_tail, seal};
use crate::chain::{Links, SettledEvent, settle};
use crate::event::{CLOSE, Event, Where, commitment, salted_body};
use crate::genesis::Genesis;
use crate::suite::{self, Digest, Role, Suite};
use crate::verify::{Expect, Fault, Run, Unwatched, Verdict, verify};

/// One settled event and its body.
#[derive(Clone, Debug)]
pub struct Kept {
    pub frame: Vec<u8>,
    pub hash: Digest,
    pub provisional: Digest,
    pub body: Vec<u8>,
}

/// A flow, settled, with all ids that can be known.
#[derive(Clone, Debug)]
pub struct Flow {
    pub genesis: Genesis,
    pub record: Vec<u8>,
    pub closed: bool,
    pub events: Vec<Kept>,
    pub ids: Vec<Digest>,
}

pub const FLOW: &str = "patient/1";
pub const SEALED_AT: i64 = 2_000_000;

/// `whens` gives each event's time; the last one closes the flow if `closed`.
pub fn flow(suite: Suite, whens: &[i64], closed: bool, nonce: u8) -> Flow {
    let genesis = Genesis::new(suite, 1000, [nonce; 16], FLOW).unwrap();
    let record = genesis.encode();
    let mut links = Links::start(suite, genesis.digest());
    let mut flow = Flow {
        genesis,
        record,
        closed,
        events: Vec::new(),
        ids: Vec::new(),
    };
    for (i, when) in whens.iter().enumerate() {
        let closing = closed && i + 1 == whens.len();
        let body = salted_body(&[i as u8; 16], &vec![b'b'; i * 17 % 90]);
        let event = Event {
            euid: (i as u128 + 1).to_be_bytes(),
            when: *when,
            recorded_at: 1000 + i as i64 / 2,
            commitment: commitment(suite, &body),
            late: false,
            revision: i as u16 % 3,
            kind: if closing { CLOSE } else { "vital" },
            version: 1,
            place: match i % 3 {
                0 => Where::Nowhere,
                1 => Where::Place("ward/1"),
                _ => Where::Geo { lat: -5, lon: 7 },
            },
            who: (i % 2 == 1).then_some("nurse"),
        };
        let mut frame = Vec::new();
        event.encode(&mut frame).unwrap();
        let settled = settle(&mut links, [frame], closing).unwrap();
        assert_eq!(settled.first_id, flow.ids.len() as u64 + 1);
        flow.ids.extend(settled.ids);
        flow.events.extend(settled.entries.into_iter().map(
            |SettledEvent {
                 frame,
                 hash,
                 provisional,
                 ..
             }| Kept {
                frame,
                hash,
                provisional,
                body: body.clone(),
            },
        ));
    }
    flow
}

impl Flow {
    /// Makes hashes and links fit the frames, whatever these say.
    pub fn relink(&mut self) {
        let (suite, g) = (self.genesis.suite, self.g());
        for kept in &mut self.events {
            kept.hash = suite::hash(suite, Role::Event, &[&kept.frame]);
        }
        for n in 1..=self.ids.len() as i64 {
            let before = [self.id(n - 3), self.id(n - 2), self.id(n - 1)];
            let own = [self.hash(n), self.hash(n + 1), self.hash(n + 2), self.hash(n + 3)];
            self.ids[n as usize - 1] = crate::link::link(suite, &g, &before, &own);
        }
        for n in 1..=self.events.len() as i64 {
            let hashes = [self.hash(n - 2), self.hash(n - 1), self.hash(n)];
            self.events[n as usize - 1].provisional =
                crate::link::provisional(suite, &g, &self.id(n - 3), &hashes, n as u64);
        }
    }

    /// Sets an event's time, late flag or `recorded_at`, in its frame alone.
    pub fn set(&mut self, n: usize, at: usize, bytes: &[u8]) {
        self.events[n - 1].frame[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn g(&self) -> Digest {
        self.genesis.digest()
    }

    /// I or G, E or G, at a position that may lie outside.
    pub fn id(&self, n: i64) -> Digest {
        if n < 1 { self.g() } else { self.ids[n as usize - 1] }
    }

    pub fn hash(&self, n: i64) -> Digest {
        let outside = n < 1 || n > self.events.len() as i64;
        if outside {
            self.g()
        } else {
            self.events[n as usize - 1].hash
        }
    }

    /// Packs the flow, sealed in blocks of these sizes; the rest, if any, is the tail.
    pub fn pack(&self, sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut first = 1;
        for (height, size) in sizes.iter().enumerate() {
            let previous = pieces
                .last()
                .map_or(self.g(), |block| *Container::decode(block).unwrap().hash());
            pieces.push(self.block(height as u64, first, *size as i64, previous));
            first += *size as i64;
        }
        if first as usize <= self.events.len() {
            let previous = pieces.last().map(|block| Container::decode(block).unwrap());
            let entries: Vec<Entry> = self.events[first as usize - 1..]
                .iter()
                .map(|kept| Entry {
                    frame: &kept.frame,
                    hash: kept.hash,
                    id: kept.provisional,
                    body: Some(&kept.body),
                })
                .collect();
            let tail = pack_tail(&self.record, previous.as_ref(), &entries).unwrap();
            pieces.push(tail);
        }
        pieces
    }

    pub fn block(&self, height: u64, first: i64, size: i64, previous: Digest) -> Vec<u8> {
        let last = first + size - 1;
        let entries: Vec<Entry> = (first..=last)
            .map(|n| {
                let kept = &self.events[n as usize - 1];
                Entry {
                    frame: &kept.frame,
                    hash: kept.hash,
                    id: self.id(n),
                    body: Some(&kept.body),
                }
            })
            .collect();
        seal(&Sealing {
            genesis_record: &self.record,
            height,
            first: first as u64,
            epoch: 1 + height,
            sealed_at: SEALED_AT + height as i64,
            previous,
            ids_before: [self.id(first - 3), self.id(first - 2), self.id(first - 1)],
            hashes_before: [self.hash(first - 2), self.hash(first - 1)],
            next_hashes: [self.hash(last + 1), self.hash(last + 2), self.hash(last + 3)],
            closes: self.closed && last as usize == self.events.len(),
            entries: &entries,
        })
        .unwrap()
    }
}

pub fn run(pieces: usize) -> Run {
    Run {
        expect: Expect {
            bodies: true,
            ..Expect::default()
        },
        ..Run::whole(FLOW, 0..pieces)
    }
}

/// The verdict, which must be the same with one thread and with four.
pub fn check(pieces: &[Vec<u8>], run: Run) -> Verdict {
    let within = |pool: &rayon::ThreadPool| {
        pool.install(|| verify(pieces, std::slice::from_ref(&run), &Unwatched, 1000))
    };
    let [one, four] = &*POOLS;
    let verdict = within(one);
    assert_eq!(verdict, within(four));
    verdict
}

static POOLS: LazyLock<[rayon::ThreadPool; 2]> = LazyLock::new(|| {
    [1, 4].map(|threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    })
});

pub fn verdict(pieces: &[Vec<u8>]) -> Verdict {
    check(pieces, run(pieces.len()))
}

/// Class and position of each fault.
pub fn named(faults: &[Fault]) -> Vec<(&'static str, u64)> {
    faults
        .iter()
        .map(|fault| (fault.class.name(), fault.position))
        .collect()
}

/// What a container records, to be changed and packed again as it is.
#[derive(Clone)]
pub struct Open {
    pub kind: Kind,
    pub record: Vec<u8>,
    pub header: crate::block::Header,
    pub hash: Digest,
    pub seams: crate::block::Seams,
    pub events: Vec<Kept>,
}

impl Open {
    pub fn of(bytes: &[u8]) -> Open {
        let container = Container::decode(bytes).unwrap();
        let kept = |i| Kept {
            frame: container.frame(i).to_vec(),
            hash: container.hashes()[i],
            provisional: container.ids()[i],
            body: match container.body(i) {
                crate::block::Body::Shown(body) => body.to_vec(),
                _ => Vec::new(),
            },
        };
        Open {
            kind: container.kind(),
            record: container.genesis_record().to_vec(),
            header: container.header().clone(),
            hash: *container.hash(),
            seams: *container.seams(),
            events: (0..container.count()).map(kept).collect(),
        }
    }

    pub fn pack(&self) -> Vec<u8> {
        let entry = |kept: &'_ Kept| Entry {
            frame: Box::leak(kept.frame.clone().into_boxed_slice()),
            hash: kept.hash,
            id: kept.provisional,
            body: (!kept.body.is_empty()).then(|| &*Box::leak(kept.body.clone().into_boxed_slice())),
        };
        let entries: Vec<Entry> = self.events.iter().map(entry).collect();
        let header = crate::block::Header {
            count: entries.len() as u32,
            ..self.header.clone()
        };
        pack(&Packing {
            kind: self.kind,
            genesis_record: &self.record,
            header,
            hash: self.hash,
            seams: self.seams,
            entries: &entries,
        })
    }
}
