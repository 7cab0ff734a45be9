//! Format 1 written down plainly, straight from FORMAT.md: one-shot hashes, recursion, owned values, no state kept.
//! The fast path is tested against it; it shares no code with it.
use sha2::{Digest as _, Sha256};

use crate::suite::{Digest, Suite};

pub fn pad64(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    while !out.len().is_multiple_of(64) {
        out.push(0);
    }
    out
}

/// H[role](x), the context being "event-seal/1 " and the role.
pub fn h(suite: Suite, context: &str, x: &[u8]) -> Digest {
    assert_eq!(x.len() % 64, 0);
    match suite {
        Suite::Sha256 => {
            let t = Sha256::digest(context.as_bytes());
            Sha256::digest([t.as_slice(), t.as_slice(), x].concat()).into()
        }
        Suite::Blake3 => blake3::derive_key(context, x),
    }
}

fn role(suite: Suite, role: &str, x: &[u8]) -> Digest {
    h(suite, &format!("event-seal/1 {role}"), x)
}

fn text(s: &str) -> Vec<u8> {
    let mut out = vec![(s.len() / 256) as u8, (s.len() % 256) as u8];
    out.extend(s.bytes());
    out
}

pub enum Where {
    Nowhere,
    Place(String),
    Geo(i32, i32),
}

/// An event as a person would write it down.
pub struct Event {
    pub euid: [u8; 16],
    pub when: i64,
    pub recorded_at: i64,
    pub late: bool,
    pub revision: u16,
    pub kind: String,
    pub version: u16,
    pub place: Where,
    pub who: Option<String>,
    pub salt: [u8; 16],
    pub body: Vec<u8>,
}

pub struct Flow {
    pub suite: Suite,
    pub created_at: i64,
    pub nonce: [u8; 16],
    pub flow: String,
    pub closed: bool,
    pub events: Vec<Event>,
}

pub struct Block {
    pub height: u64,
    /// Positions, both within the block.
    pub first: u64,
    pub last: u64,
    pub epoch: u64,
    pub sealed_at: i64,
}

impl Event {
    pub fn salted_body(&self) -> Vec<u8> {
        let length = (self.body.len() as u64).to_be_bytes();
        pad64(&[&self.salt[..], &length, &self.body].concat())
    }

    pub fn commitment(&self, suite: Suite) -> Digest {
        role(suite, "body", &self.salted_body())
    }

    pub fn frame(&self, suite: Suite) -> Vec<u8> {
        let place = match &self.place {
            Where::Nowhere => vec![0],
            Where::Place(place) => [vec![1], text(place)].concat(),
            Where::Geo(lat, lon) => {
                [vec![2], lat.to_be_bytes().to_vec(), lon.to_be_bytes().to_vec()].concat()
            }
        };
        let mut out = Vec::new();
        out.extend(self.euid);
        out.extend(self.when.to_be_bytes());
        out.extend(self.recorded_at.to_be_bytes());
        out.extend(self.commitment(suite));
        out.push(if self.late { 1 } else { 0 });
        out.extend(self.revision.to_be_bytes());
        out.extend(text(&self.kind));
        out.extend(self.version.to_be_bytes());
        out.extend(place);
        out.extend(text(self.who.as_deref().unwrap_or("")));
        pad64(&out)
    }
}

impl Flow {
    pub fn genesis_record(&self) -> Vec<u8> {
        let mut out = vec![if self.suite == Suite::Sha256 { 1 } else { 2 }, 3];
        out.extend(self.created_at.to_be_bytes());
        out.extend(self.nonce);
        out.extend(text(&self.flow));
        pad64(&out)
    }

    pub fn genesis(&self) -> Digest {
        role(self.suite, "flow", &self.genesis_record())
    }

    fn event(&self, n: i64) -> &Event {
        &self.events[n as usize - 1]
    }

    /// Eₙ, or G before the first and, in a closed flow, after the last.
    pub fn event_hash(&self, n: i64) -> Option<Digest> {
        let last = self.events.len() as i64;
        match n {
            n if n < 1 => Some(self.genesis()),
            n if n <= last => Some(role(self.suite, "event", &self.event(n).frame(self.suite))),
            _ if self.closed => Some(self.genesis()),
            _ => None,
        }
    }

    /// I₁ … of all events that can be fixed.
    pub fn ids(&self) -> Vec<Digest> {
        let g = self.genesis();
        let hashes: Vec<Option<Digest>> = (1..=self.events.len() as i64 + 3)
            .map(|n| self.event_hash(n))
            .collect();
        let mut ids: Vec<Digest> = Vec::new();
        for n in 0..self.events.len() {
            let before = |back: usize| if back > n { g } else { ids[n - back] };
            let Some(next): Option<Vec<Digest>> = hashes[n..n + 4].iter().copied().collect() else {
                break;
            };
            let x = [&[g, before(1), before(2), before(3)][..], &next]
                .concat()
                .concat();
            ids.push(role(self.suite, "link", &x));
        }
        ids
    }

    /// Pₙ, of the history up to n alone.
    pub fn provisional(&self, n: i64) -> Digest {
        let id = if n > 3 {
            self.ids()[n as usize - 4]
        } else {
            self.genesis()
        };
        let e = |n| self.event_hash(n).expect("settled");
        let x = [
            &self.genesis()[..],
            &id,
            &e(n - 2),
            &e(n - 1),
            &e(n),
            &n.to_be_bytes(),
        ]
        .concat();
        role(self.suite, "provisional", &pad64(&x))
    }

    pub fn late(&self, n: i64) -> bool {
        (1..n).any(|earlier| self.event(earlier).when > self.event(n).when)
    }

    pub fn root(&self, block: &Block) -> Digest {
        root(
            self.suite,
            &self.ids()[block.first as usize - 1..block.last as usize],
        )
    }

    pub fn whens(&self, block: &Block) -> (i64, i64) {
        let whens = || (block.first..=block.last).map(|n| self.event(n as i64).when);
        (whens().min().expect("an event"), whens().max().expect("an event"))
    }

    pub fn closes(&self, block: &Block) -> bool {
        self.closed && block.last as usize == self.events.len()
    }

    pub fn header(&self, block: &Block, previous: &Digest) -> Vec<u8> {
        let suite = if self.suite == Suite::Sha256 { 1 } else { 2 };
        let (when_min, when_max) = self.whens(block);
        let mut out = vec![1, suite, u8::from(self.closes(block)), 3];
        out.extend(((block.last - block.first + 1) as u32).to_be_bytes());
        out.extend(block.height.to_be_bytes());
        out.extend(block.first.to_be_bytes());
        out.extend(block.epoch.to_be_bytes());
        out.extend(when_min.to_be_bytes());
        out.extend(when_max.to_be_bytes());
        out.extend(block.sealed_at.to_be_bytes());
        out.extend(self.genesis());
        out.extend(previous);
        out.extend(self.root(block));
        pad64(&out)
    }

    pub fn block_hash(&self, block: &Block, previous: &Digest) -> Digest {
        role(self.suite, "block", &self.header(block, previous))
    }

    fn i(&self, n: i64) -> Digest {
        if n < 1 {
            self.genesis()
        } else {
            self.ids()[n as usize - 1]
        }
    }

    /// The packed block.
    pub fn pack_block(&self, block: &Block, previous: &Digest) -> Vec<u8> {
        let (first, last) = (block.first as i64, block.last as i64);
        let mut seams = vec![self.i(first - 3), self.i(first - 2), self.i(first - 1)];
        for n in [first - 2, first - 1, last + 1, last + 2, last + 3] {
            seams.push(self.event_hash(n).expect("settled"));
        }
        let ids: Vec<Digest> = (first..=last).map(|n| self.i(n)).collect();
        let header = self.header(block, previous);
        self.pack(
            b"EVSEALB1",
            &self.block_hash(block, previous),
            &header,
            &seams,
            first,
            last,
            &ids,
        )
    }

    /// The packed tail: all events from `first` on.
    pub fn pack_tail(&self, height: u64, first: i64, previous: &Digest) -> Vec<u8> {
        let last = self.events.len() as i64;
        let mut seams = vec![self.i(first - 3), self.i(first - 2), self.i(first - 1)];
        seams.push(self.event_hash(first - 2).expect("settled"));
        seams.push(self.event_hash(first - 1).expect("settled"));
        seams.extend([[0; 32]; 3]);
        let mut header = vec![1, if self.suite == Suite::Sha256 { 1 } else { 2 }, 0, 3];
        header.extend(((last - first + 1) as u32).to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend(first.to_be_bytes());
        header.extend([0; 32]);
        header.extend(self.genesis());
        header.extend(previous);
        header.extend([0; 32]);
        let provisionals: Vec<Digest> = (first..=last).map(|n| self.provisional(n)).collect();
        self.pack(
            b"EVSEALT1",
            &[0; 32],
            &pad64(&header),
            &seams,
            first,
            last,
            &provisionals,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn pack(
        &self,
        magic: &[u8; 8],
        hash: &Digest,
        header: &[u8],
        seams: &[Digest],
        first: i64,
        last: i64,
        ids: &[Digest],
    ) -> Vec<u8> {
        let events: Vec<&Event> = (first..=last).map(|n| self.event(n)).collect();
        let frames: Vec<Vec<u8>> = events.iter().map(|event| event.frame(self.suite)).collect();
        let hashes: Vec<Digest> = (first..=last)
            .map(|n| self.event_hash(n).expect("settled"))
            .collect();
        let mut rest = self.genesis_record();
        rest.extend(header);
        rest.extend(seams.concat());
        rest.extend(pad64(
            &frames
                .iter()
                .map(|frame| (frame.len() / 64) as u8)
                .collect::<Vec<u8>>(),
        ));
        rest.extend(frames.concat());
        rest.extend(pad64(&hashes.concat()));
        rest.extend(pad64(&ids.concat()));
        let verification = 64 + rest.len() as u64;
        let bodies: Vec<Vec<u8>> = events.iter().map(|event| event.salted_body()).collect();
        let lengths: Vec<[u8; 4]> = bodies
            .iter()
            .map(|body| (body.len() as u32 / 64).to_be_bytes())
            .collect();
        rest.extend(pad64(&lengths.concat()));
        rest.extend(bodies.concat());
        let mut out = magic.to_vec();
        out.extend(verification.to_be_bytes());
        out.extend((64 + rest.len() as u64).to_be_bytes());
        out.extend([0; 8]);
        out.extend(hash);
        out.extend(rest);
        out
    }
}

/// The root as RFC 6962 splits: the largest power of two below the count to the left.
pub fn root(suite: Suite, ids: &[Digest]) -> Digest {
    if ids.len() == 1 {
        return ids[0];
    }
    let mut split = 1;
    while split * 2 < ids.len() {
        split *= 2;
    }
    let (left, right) = (root(suite, &ids[..split]), root(suite, &ids[split..]));
    role(suite, "node", &[left, right].concat())
}
