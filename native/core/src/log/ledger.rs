//! The log as a verification holds it against a store: what each leaf binds, and whether anything met it. FORMAT.md,
//! "Verification".
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::Leaf;
use crate::suite::{Digest, Suite};

/// Most leaves that are held: an index leaves room for a mark.
const MOST: u64 = (1 << 31) - 1;
const MET: u32 = 1 << 31;

/// What the leaves of a log bind: 56 bytes for each, and at most 72 for each flow.
///
/// First it learns all leaves, then it is arranged, then a verification asks it from all its threads. What it learns after
/// that is what was sealed since: it binds nothing, but a block may be found there.
#[derive(Debug, Default)]
pub struct Ledger {
    numbers: HashMap<[u8; 16], u32>,
    flows: Vec<Flow>,
    blocks: Vec<Entry>,
    tails: Vec<Entry>,
    decisions: HashMap<u32, Vec<Decision>>,
    forks: HashMap<u32, Discord>,
    late: HashMap<(u32, u64), (u64, Digest)>,
    strays: Mutex<Vec<Stray>>,
    malformed: Vec<u64>,
    unknown: u64,
    size: u64,
    arranged: bool,
}

/// Of a flow: how far its last tail reached while the log was read; then where its leaves begin.
#[derive(Debug)]
struct Flow {
    suite: Suite,
    tip: u64,
    blocks: u32,
    tails: u32,
    state: AtomicU8,
}

const SEEN: u8 = 1;
const FINISHED: u8 = 2;

/// One leaf: of a block by its height, of a tail or a decision by its n.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The block hash, or Pₙ.
    pub digest: Digest,
    number: u64,
    /// The last position that it speaks of.
    pub last: u64,
    flow: u32,
    /// The leaf's index, and whether the store has something to hold against it.
    mark: AtomicU32,
}

/// From here on, what was said of the flow beyond `n` does not bind any more, nor need anything before it be there.
#[derive(Clone, Copy, Debug)]
struct Decision {
    index: u32,
    n: u64,
}

/// Leaves that disagree, or one that nothing in the store meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discord {
    /// The leaf's index.
    pub index: u64,
    /// The lowest position that it concerns, as far as the leaves tell.
    pub position: u64,
    /// The height, if it is of a block.
    pub block: Option<u64>,
    /// What the leaf says.
    pub recorded: Digest,
    /// What the leaf says that it disagrees with.
    pub other: Option<Digest>,
}

/// A block of which no leaf was known when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The flow's id.
    pub flow: String,
    /// G.
    pub genesis: Digest,
    /// The block's height.
    pub height: u64,
    /// Its first position.
    pub first: u64,
    /// Its last position.
    pub last: u64,
    /// The block hash.
    pub hash: Digest,
}

impl Entry {
    fn index(&self) -> u32 {
        self.mark.load(Relaxed) & !MET
    }

    fn is_met(&self) -> bool {
        self.mark.load(Relaxed) & MET != 0
    }

    fn meet(&self) {
        self.mark.fetch_or(MET, Relaxed);
    }

    fn key(&self) -> (u32, u64, u32) {
        (self.flow, self.number, self.index())
    }
}

impl Ledger {
    /// Takes in the next leaf, by its data. False if it holds as many as it can.
    pub fn learn(&mut self, data: &[u8]) -> bool {
        let index = self.size;
        if index >= MOST {
            return false;
        }
        self.size += 1;
        match Leaf::decode(data) {
            Err(_) if !self.arranged => self.malformed.push(index),
            Ok(leaf) if self.arranged => self.learn_late(&leaf),
            Ok(leaf) => self.learn_leaf(index as u32, &leaf),
            Err(_) => {}
        }
        true
    }

    fn learn_leaf(&mut self, index: u32, leaf: &Leaf<'_>) {
        match *leaf {
            Leaf::Block {
                suite,
                genesis,
                height,
                last,
                hash,
            } => {
                let flow = self.number(suite, &genesis);
                self.blocks.push(entry(flow, height, last, hash, index));
            }
            Leaf::Tail {
                suite,
                genesis,
                n,
                provisional,
            } => {
                let flow = self.number(suite, &genesis);
                self.learn_tail(flow, n, provisional, index);
            }
            Leaf::Decision {
                suite,
                genesis,
                n,
                provisional,
                ..
            } => {
                let flow = self.number(suite, &genesis);
                let decision = Decision { index, n };
                self.decisions.entry(flow).or_default().push(decision);
                if let Some(flow) = self.flows.get_mut(flow as usize) {
                    flow.tip = n;
                }
                self.learn_tail(flow, n, provisional, index);
            }
            Leaf::Unknown { .. } => self.unknown += 1,
            Leaf::Erasure { .. } | Leaf::KeyChange { .. } => {}
        }
    }

    /// A flow's tail never falls, but by a decision.
    fn learn_tail(&mut self, flow: u32, n: u64, provisional: Digest, index: u32) {
        if let Some(known) = self.flows.get_mut(flow as usize) {
            if n < known.tip {
                self.forks.entry(flow).or_insert(Discord {
                    index: u64::from(index),
                    position: n + 1,
                    block: None,
                    recorded: provisional,
                    other: None,
                });
            }
            known.tip = n;
        }
        self.tails.push(entry(flow, n, n, provisional, index));
    }

    fn learn_late(&mut self, leaf: &Leaf<'_>) {
        if let Leaf::Block {
            suite,
            genesis,
            height,
            last,
            hash,
        } = *leaf
        {
            let flow = self.number(suite, &genesis);
            self.late.insert((flow, height), (last, hash));
        }
    }

    fn number(&mut self, suite: Suite, genesis: &Digest) -> u32 {
        let next = self.flows.len() as u32;
        let number = *self.numbers.entry(start(genesis)).or_insert(next);
        match self.flows.get(number as usize) {
            Some(flow) if flow.suite == suite => {}
            // A flow has one suite.
            Some(_) => self.malformed.push(self.size - 1),
            // Whoever comes after all was arranged has no leaves there.
            None => self.flows.push(Flow {
                suite,
                tip: 0,
                blocks: self.blocks.len() as u32,
                tails: self.tails.len() as u32,
                state: AtomicU8::new(0),
            }),
        }
        number
    }

    /// Puts what was learnt in order, and finds the leaves that disagree.
    pub fn arrange(&mut self) {
        self.arranged = true;
        self.blocks.sort_unstable_by_key(Entry::key);
        self.tails.sort_unstable_by_key(Entry::key);
        self.blocks.shrink_to_fit();
        self.tails.shrink_to_fit();
        self.flows.shrink_to_fit();
        let (mut block, mut tail) = (self.blocks.iter().peekable(), self.tails.iter().peekable());
        let (mut blocks, mut tails) = (0, 0);
        for (number, flow) in (0..).zip(&mut self.flows) {
            while block.next_if(|leaf| leaf.flow < number).is_some() {
                blocks += 1;
            }
            while tail.next_if(|leaf| leaf.flow < number).is_some() {
                tails += 1;
            }
            (flow.blocks, flow.tails) = (blocks, tails);
        }
        self.find_forks();
    }

    fn find_forks(&mut self) {
        let mut forks = Vec::new();
        for (leaves, blocks) in [(&self.blocks, true), (&self.tails, false)] {
            for (one, other) in leaves.iter().zip(leaves.iter().skip(1)) {
                let same_place = (one.flow, one.number) == (other.flow, other.number);
                let same = (one.digest, one.last) == (other.digest, other.last);
                if same_place && !same && !self.decided(one, other.index()) {
                    let discord = Discord {
                        other: Some(one.digest),
                        ..self.discord(other, blocks)
                    };
                    forks.push((one.flow, discord));
                }
            }
        }
        for (flow, discord) in forks {
            let lowest = self.forks.entry(flow).or_insert(discord);
            if discord.position < lowest.position {
                *lowest = discord;
            }
        }
    }

    /// Whether a decision stands between a leaf and this index.
    fn decided(&self, leaf: &Entry, before: u32) -> bool {
        let decisions = self.decisions.get(&leaf.flow);
        decisions.is_some_and(|all| {
            all.iter()
                .any(|one| (leaf.index()..before).contains(&one.index) && one.index != leaf.index())
        })
    }

    /// Whether a later decision took a leaf's positions back.
    fn void(&self, leaf: &Entry) -> bool {
        let decisions = self.decisions.get(&leaf.flow);
        decisions.is_some_and(|all| {
            all.iter()
                .any(|one| one.index > leaf.index() && one.n < leaf.last)
        })
    }

    fn discord(&self, leaf: &Entry, block: bool) -> Discord {
        Discord {
            index: u64::from(leaf.index()),
            position: if block { self.first(leaf) } else { leaf.number },
            block: block.then_some(leaf.number),
            recorded: leaf.digest,
            other: None,
        }
    }

    /// The first position of a leaf's block: behind the last one of the block before, if that has a leaf.
    fn first(&self, leaf: &Entry) -> u64 {
        let Some(before) = leaf.number.checked_sub(1) else {
            return 1;
        };
        let at = self
            .blocks
            .partition_point(|one| one.key() < (leaf.flow, before, 0));
        let found = self
            .blocks
            .get(at)
            .filter(|one| (one.flow, one.number) == (leaf.flow, before));
        found.map_or(leaf.last, |one| one.last + 1)
    }

    /// What the log says of a flow.
    pub(crate) fn of(&self, genesis: &Digest) -> Option<Known<'_>> {
        let known = self.known(genesis)?;
        known.flow.state.fetch_or(SEEN, Relaxed);
        Some(known)
    }

    fn known(&self, genesis: &Digest) -> Option<Known<'_>> {
        let number = *self.numbers.get(&start(genesis))?;
        let flow = self.flows.get(number as usize)?;
        Some(Known {
            ledger: self,
            number,
            flow,
        })
    }

    /// Up to which position the leaves below this index bind a flow's blocks, and up to which its events; 0 where none does.
    /// What was said before a decision is left aside.
    pub fn reach(&self, genesis: &Digest, size: u64) -> (u64, u64) {
        let Some(known) = self.known(genesis) else {
            return (0, 0);
        };
        let decided = self.decisions.get(&known.number);
        let from = decided.and_then(|all| all.iter().map(|one| one.index).max());
        let last = |leaves: &[Entry]| {
            let binds = |leaf: &&Entry| {
                u64::from(leaf.index()) < size && from.is_none_or(|from| leaf.index() >= from)
            };
            let lasts = leaves.iter().filter(binds).map(|leaf| leaf.last);
            lasts.max().unwrap_or(0)
        };
        let fixed = last(known.blocks());
        (fixed, fixed.max(last(known.tails())))
    }

    /// Whether the leaves below this index end a flow with this very block, so that nothing can have come later where it is
    /// closed. Then what they say of the flow is passed over.
    pub fn pass_ended(&self, genesis: &Digest, size: u64, block: (u64, u64, Digest)) -> bool {
        let (height, last, hash) = block;
        let known = self
            .known(genesis)
            .filter(|_| self.reach(genesis, size) == (last, last));
        let mut blocks = known.iter().flat_map(|known| known.blocks());
        let same = |leaf: &Entry| (leaf.number, leaf.last, leaf.digest) == (height, last, hash);
        let ended = blocks.any(|leaf| same(leaf) && u64::from(leaf.index()) < size);
        if ended {
            self.pass(genesis, size, last.saturating_add(1));
        }
        ended
    }

    /// What the leaves below this index say of a flow before a position need not be met: nobody looks there. That is not
    /// the same as having looked at the flow.
    pub fn pass(&self, genesis: &Digest, size: u64, before: u64) {
        let Some(known) = self.known(genesis) else { return };
        for leaves in [known.blocks(), known.tails()] {
            for same in leaves.chunk_by(|one, other| one.number == other.number) {
                // By index; one that says the same again says nothing new.
                let first = same
                    .first()
                    .filter(|leaf| u64::from(leaf.index()) < size && leaf.last < before);
                let passed = |leaf: &&Entry| {
                    first.is_some_and(|first| u64::from(leaf.index()) < size || leaf.digest == first.digest)
                };
                same.iter().filter(passed).for_each(Entry::meet);
            }
        }
    }

    /// A block of which it knows no leaf.
    pub(crate) fn stray(&self, stray: Stray) {
        self.strays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stray);
    }

    /// Takes the blocks of which no leaf has been learnt since either, of each flow the lowest, each with the hash that its
    /// leaf has if it has one.
    pub fn take_strays(&self) -> Vec<(Stray, Option<Digest>)> {
        let strays = std::mem::take(&mut *self.strays.lock().unwrap_or_else(PoisonError::into_inner));
        let found = |stray: &Stray| {
            let flow = self.numbers.get(&start(&stray.genesis))?;
            self.late.get(&(*flow, stray.height)).copied()
        };
        let faulty = |stray: Stray| match found(&stray) {
            Some(leaf) if leaf == (stray.last, stray.hash) => None,
            leaf => Some((stray, leaf.map(|(_, hash)| hash))),
        };
        let mut faulty: Vec<_> = strays.into_iter().filter_map(faulty).collect();
        faulty.sort_by(|(one, _), (other, _)| (&one.flow, one.height).cmp(&(&other.flow, other.height)));
        faulty.dedup_by(|(one, _), (lower, _)| one.flow == lower.flow);
        faulty
    }

    /// Whether there are any.
    pub fn has_strays(&self) -> bool {
        !self
            .strays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Of flows that nothing in the store was held against, the lowest leaf each; and leaves that disagree, of flows that
    /// were not read to their end. By index.
    pub fn unmet(&self) -> Vec<Discord> {
        let mut unmet: Vec<Discord> = Vec::new();
        for (number, flow) in (0..).zip(&self.flows) {
            let state = flow.state.load(Relaxed);
            let known = Known {
                ledger: self,
                number,
                flow,
            };
            let fork = self.forks.get(&number).filter(|_| state & FINISHED == 0);
            unmet.extend(fork.copied());
            unmet.extend(known.unmet().filter(|_| state & SEEN == 0));
        }
        unmet.sort_by_key(|discord| discord.index);
        unmet
    }

    /// How many positions the leaves below this index cover: of each flow, those up to the greatest that was met.
    pub fn covered(&self, size: u64) -> u64 {
        let covered = |(number, flow): (u32, &Flow)| {
            let known = Known {
                ledger: self,
                number,
                flow,
            };
            let below = |leaf: &&Entry| leaf.is_met() && u64::from(leaf.index()) < size && !self.void(leaf);
            let blocks = known.blocks().iter().filter(below).map(|leaf| leaf.last).max();
            let tails = known.tails().iter().filter(below).map(|leaf| leaf.last).max();
            blocks.max(tails).unwrap_or(0)
        };
        (0..).zip(&self.flows).map(covered).sum()
    }

    /// What it takes, in bytes: for leaves, and for flows.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let leaves = self.blocks.capacity() + self.tails.capacity();
        // A table of hashbrown has a byte beside each of its places, of which at most seven in eight are taken.
        let places = (self.numbers.capacity() * 8 / 7).next_power_of_two();
        let of_flows =
            self.flows.capacity() * size_of::<Flow>() + places * (1 + size_of::<([u8; 16], u32)>());
        (leaves * size_of::<Entry>(), of_flows)
    }

    /// How many leaves it was told of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The indexes of leaves that are none.
    pub fn malformed(&self) -> &[u64] {
        &self.malformed
    }

    /// How many leaves are of a type that this format does not know.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

/// What the log says of one flow.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    ledger: &'a Ledger,
    number: u32,
    flow: &'a Flow,
}

impl<'a> Known<'a> {
    /// How the leaves say that the flow is hashed.
    pub fn suite(&self) -> Suite {
        self.flow.suite
    }

    fn blocks(&self) -> &'a [Entry] {
        own(
            &self.ledger.blocks,
            self.flow.blocks,
            self.next().map(|next| next.blocks),
        )
    }

    fn tails(&self) -> &'a [Entry] {
        own(
            &self.ledger.tails,
            self.flow.tails,
            self.next().map(|next| next.tails),
        )
    }

    fn next(&self) -> Option<&'a Flow> {
        self.ledger.flows.get(self.number as usize + 1)
    }

    /// The leaf that binds the block of this height, met from now on.
    pub fn block(&self, height: u64) -> Option<&'a Entry> {
        let blocks = self.blocks();
        let from = blocks.partition_point(|leaf| leaf.number < height);
        let own = blocks.get(from..).unwrap_or_default();
        let same = own.iter().take_while(|leaf| leaf.number == height);
        same.inspect(|leaf| leaf.meet())
            .last()
            .filter(|leaf| !self.ledger.void(leaf))
    }

    /// The leaves that bind provisional ids of these positions, met from now on.
    pub fn tails_within(self, first: u64, last: u64) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let (tails, ledger) = (self.tails(), self.ledger);
        let from = tails.partition_point(|leaf| leaf.number < first);
        let own = tails.get(from..).unwrap_or_default();
        let count = own.partition_point(|leaf| leaf.number <= last);
        own.get(..count)
            .unwrap_or_default()
            .chunk_by(|one, other| one.number == other.number)
            .filter_map(|same| {
                same.iter().for_each(Entry::meet);
                same.last()
            })
            .filter(move |leaf| !ledger.void(leaf))
    }

    /// What cannot be read from this position on need not be met.
    pub fn excuse(&self, from: u64) {
        let leaves = self.blocks().iter().chain(self.tails());
        leaves.filter(|leaf| leaf.last >= from).for_each(Entry::meet);
    }

    /// At the flow's end: what disagrees, and the lowest leaf that was not met.
    pub fn finish(&self) -> impl Iterator<Item = Discord> {
        self.flow.state.fetch_or(FINISHED, Relaxed);
        let fork = self.ledger.forks.get(&self.number).copied();
        fork.into_iter().chain(self.unmet())
    }

    fn unmet(&self) -> Option<Discord> {
        let ledger = self.ledger;
        let open = |leaf: &&Entry| !leaf.is_met() && !ledger.decided(leaf, u32::MAX);
        let block = self
            .blocks()
            .iter()
            .find(open)
            .map(|leaf| ledger.discord(leaf, true));
        let tail = self
            .tails()
            .iter()
            .find(open)
            .map(|leaf| ledger.discord(leaf, false));
        block
            .into_iter()
            .chain(tail)
            .min_by_key(|discord| discord.position)
    }
}

fn own(leaves: &[Entry], from: u32, to: Option<u32>) -> &[Entry] {
    let to = to.map_or(leaves.len(), |to| to as usize);
    leaves.get(from as usize..to).unwrap_or_default()
}

fn entry(flow: u32, number: u64, last: u64, digest: Digest, index: u32) -> Entry {
    let mark = AtomicU32::new(index);
    Entry {
        digest,
        number,
        last,
        flow,
        mark,
    }
}

/// A flow by the first bytes of G.
fn start(genesis: &Digest) -> [u8; 16] {
    genesis.first_chunk().copied().unwrap_or_default()
}
