//! The tree as its keeper holds it: of the leaves' hashes only the last ones, and of the nodes only those above so many
//! leaves. What stands below is made of the leaves themselves when a path asks for it.
use std::collections::HashMap;

use super::stored::{Frontier, Full, stored_at, stored_by};
use super::{Leaf, leaf_hash, whole};
use crate::suite::Digest;

/// The level of a chunk's root: nodes from here on are kept.
const LEVEL: u32 = 10;
/// So many leaves are a chunk.
pub const CHUNK: u64 = 1 << LEVEL;

/// A log's tree that only grows: 64 bytes for each 1,024 leaves, and at most 32 KiB.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    frontier: Frontier,
    /// The stored hashes of the tree over the chunks' roots.
    upper: Vec<Digest>,
    /// The hashes of the leaves behind the last full chunk.
    recent: Vec<Digest>,
}

/// A chunk of leaves is needed that was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub u64);

/// Leaf data of full chunks, by their number.
pub type Chunks<'a> = HashMap<u64, Vec<&'a [u8]>>;

impl Tree {
    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Its root.
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Adds a leaf by its data.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Full> {
        let leaf = leaf_hash(data);
        let mut stored = Vec::new();
        self.frontier.push(leaf, &mut stored)?;
        self.upper.extend(stored.iter().skip(LEVEL as usize));
        self.recent.push(leaf);
        if self.recent.len() as u64 == CHUNK {
            self.recent.clear();
        }
        Ok(())
    }

    /// Which chunks' leaves are needed to read these stored hashes, in ascending order.
    pub fn chunks(&self, indexes: &[u64]) -> Vec<u64> {
        let needed = indexes.iter().filter_map(|index| {
            let (last, level) = stored_by(*index);
            (level < LEVEL && last / CHUNK < self.full()).then_some(last / CHUNK)
        });
        let mut chunks: Vec<u64> = needed.collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// A stored hash of the tree; `chunks` are those that [`Tree::chunks`] asked for.
    pub fn read(&self, index: u64, chunks: &Chunks<'_>) -> Result<Digest, Missing> {
        let (last, level) = stored_by(index);
        let chunk = last / CHUNK;
        let missing = Missing(chunk);
        if let Some(level) = level.checked_sub(LEVEL) {
            let at = stored_at(level, chunk >> level);
            return usize::try_from(at)
                .ok()
                .and_then(|at| self.upper.get(at))
                .copied()
                .ok_or(missing);
        }
        let end = (last % CHUNK) as usize + 1;
        let range = end - (1 << level)..end;
        if chunk == self.full() {
            let leaves = self.recent.get(range).ok_or(missing)?;
            return Ok(whole(leaves.to_vec()));
        }
        let leaves = chunks.get(&chunk).and_then(|leaves| leaves.get(range));
        Ok(whole(
            leaves
                .ok_or(missing)?
                .iter()
                .map(|data| leaf_hash(data))
                .collect(),
        ))
    }

    fn full(&self) -> u64 {
        self.size() / CHUNK
    }
}

/// What the leaves speak of, and where: of each flow how far its tails reach, of each block where its leaf is. Both by
/// the first bytes of a digest, so what is found has to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Index {
    tails: HashMap<[u8; 16], (u64, u64)>,
    blocks: HashMap<[u8; 8], u64>,
}

impl Index {
    /// Takes the leaf at an index in.
    pub fn learn(&mut self, index: u64, leaf: &Leaf<'_>) {
        match leaf {
            Leaf::Block { hash, .. } => {
                self.blocks.entry(start(hash)).or_insert(index);
            }
            Leaf::Tail { genesis, n, .. } | Leaf::Decision { genesis, n, .. } => {
                self.tails.insert(start(genesis), (*n, index));
            }
            _ => {}
        }
    }

    /// The last position that a leaf tells of this flow's tail, and that leaf's index; 0 if none does.
    pub fn tail(&self, genesis: &Digest) -> (u64, u64) {
        self.tails.get(&start(genesis)).copied().unwrap_or((0, 0))
    }

    /// Where the leaf of the block with this hash should be.
    pub fn block(&self, hash: &Digest) -> Option<u64> {
        self.blocks.get(&start(hash)).copied()
    }
}

fn start<const N: usize>(digest: &Digest) -> [u8; N] {
    digest.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Plan;
    use crate::tests::log::naive;

    fn leaves(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|i| i.to_be_bytes().to_vec()).collect()
    }

    fn tree_of(leaves: &[Vec<u8>]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf).unwrap());
        tree
    }

    fn given<'a>(leaves: &'a [Vec<u8>], chunks: &[u64]) -> Chunks<'a> {
        let of = |chunk: &u64| {
            let from = (chunk * CHUNK) as usize;
            let own = leaves[from..from + CHUNK as usize].iter();
            (*chunk, own.map(Vec::as_slice).collect())
        };
        chunks.iter().map(of).collect()
    }

    /// Sizes around chunks and around powers of two of chunks.
    const SIZES: [u64; 11] = [1, 7, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4096, 5001];

    #[test]
    fn paths_are_those_of_the_recursion_whatever_was_forgotten() {
        let leaves = leaves(5001);
        let tree = tree_of(&leaves);
        assert_eq!((tree.size(), tree.root()), (5001, naive::root(&leaves)));
        for size in SIZES {
            let known = &leaves[..size as usize];
            let indexes = Frontier::indexes(size);
            let chunks = given(&leaves, &tree.chunks(&indexes));
            let at = Frontier::restore(size, |index| tree.read(index, &chunks)).unwrap();
            assert_eq!(at.root(), naive::root(known), "{size}");
            for index in [0, size / 3, size / 2, size - 1] {
                let plan = Plan::inclusion(index, size).unwrap();
                let needed = tree.chunks(&plan.indexes());
                assert!(needed.len() <= 2, "{index} of {size}: {needed:?}");
                let chunks = given(&leaves, &needed);
                let path = plan.path(|index| tree.read(index, &chunks)).unwrap();
                assert_eq!(path, naive::path(index as usize, known), "{index} of {size}");
            }
            for old in SIZES.into_iter().filter(|old| *old <= size) {
                let plan = Plan::consistency(old, size).unwrap();
                let chunks = given(&leaves, &tree.chunks(&plan.indexes()));
                let path = plan.path(|index| tree.read(index, &chunks)).unwrap();
                assert_eq!(path, naive::consistency(old as usize, known), "{old} {size}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_little_and_what_is_not_given_is_named() {
        let leaves = leaves(5001);
        let tree = tree_of(&leaves);
        assert_eq!((tree.upper.len(), tree.recent.len()), (7, 5001 - 4096));
        let plan = Plan::inclusion(3, 5001).unwrap();
        assert_eq!(tree.chunks(&plan.indexes()), [0]);
        assert_eq!(
            plan.path(|index| tree.read(index, &Chunks::new())),
            Err(Missing(0))
        );
        let short = Chunks::from([(0, vec![&b"leaf"[..]; 3])]);
        assert_eq!(plan.path(|index| tree.read(index, &short)), Err(Missing(0)));
        assert_eq!(tree.read(u64::MAX, &short), Err(Missing(u64::MAX / 2 / CHUNK)));
    }

    #[test]
    fn a_flow_reaches_as_far_as_its_last_tail_and_a_block_has_its_first_leaf() {
        let (suite, genesis, hash) = (crate::suite::Suite::Sha256, [7; 32], [5; 32]);
        let tail = |n| Leaf::Tail {
            suite,
            genesis,
            n,
            provisional: [1; 32],
        };
        let block = Leaf::Block {
            suite,
            genesis,
            height: 0,
            last: 4,
            hash,
        };
        let mut index = Index::default();
        assert_eq!((index.tail(&genesis), index.block(&hash)), ((0, 0), None));
        let leaves = [
            tail(3),
            block,
            tail(9),
            block,
            Leaf::Unknown { kind: 9, data: &[9] },
        ];
        leaves
            .iter()
            .enumerate()
            .for_each(|(at, leaf)| index.learn(at as u64, leaf));
        assert_eq!((index.tail(&genesis), index.tail(&[8; 32])), ((9, 2), (0, 0)));
        assert_eq!((index.block(&hash), index.block(&[8; 32])), (Some(1), None));
    }
}
