//! A container with the seams and the genesis it is checked with.
use super::events::Part;
use super::fault::{Datum, FaultClass};
use super::piece::Context;
use crate::block::{Container, Seams};
use crate::link;
use crate::suite::Digest;

/// A container with the seams and the genesis it is checked with.
pub(super) struct View<'a> {
    pub container: &'a Container<'a>,
    pub seams: Seams,
    pub genesis: Digest,
    /// The seams before fillers were put where they must stand.
    pub without_fillers: &'a Seams,
    /// The position of the first event.
    pub first: u64,
}

pub(super) fn lookup(list: &[(usize, Digest)], i: usize) -> Option<Digest> {
    let at = list.binary_search_by_key(&i, |(index, _)| *index).ok()?;
    list.get(at).map(|(_, digest)| *digest)
}

impl View<'_> {
    /// E of the event `i` places behind the container's first, from −2 on.
    pub(super) fn hash(&self, i: isize) -> Digest {
        let hashes = self.container.hashes();
        let found = match usize::try_from(i) {
            Ok(i) => hashes
                .get(i)
                .or_else(|| self.seams.next_hashes.get(i - hashes.len().min(i))),
            Err(_) => usize::try_from(i + 2).ok().and_then(|i| self.seams.hashes.get(i)),
        };
        found.copied().unwrap_or(self.genesis)
    }

    /// I of the event `i` places behind the container's first, from −3 on.
    pub(super) fn id(&self, i: isize) -> Digest {
        let found = match usize::try_from(i) {
            Ok(i) => self.container.ids().get(i),
            Err(_) => usize::try_from(i + 3).ok().and_then(|i| self.seams.ids.get(i)),
        };
        found.copied().unwrap_or(self.genesis)
    }

    /// The id of the i-th event, from the recorded values unless others are given for them.
    pub(super) fn link(&self, i: usize, ids: &[(usize, Digest)], hashes: &[(usize, Digest)]) -> Digest {
        let i = i as isize;
        let other = |list, i: isize| usize::try_from(i).ok().and_then(|i| lookup(list, i));
        let id = |i| other(ids, i).unwrap_or_else(|| self.id(i));
        let hash = |i| other(hashes, i).unwrap_or_else(|| self.hash(i));
        let before = [id(i - 3), id(i - 2), id(i - 1)];
        let own = [hash(i), hash(i + 1), hash(i + 2), hash(i + 3)];
        link::link(self.container.header().suite, &self.genesis, &before, &own)
    }

    /// The provisional ids, from the recorded event hashes unless others are given for them.
    pub(super) fn provisionals(&self, hashes: &[(usize, Digest)]) -> Vec<Digest> {
        let suite = self.container.header().suite;
        let hash = |i: isize| {
            let other = usize::try_from(i).ok().and_then(|i| lookup(hashes, i));
            other.unwrap_or_else(|| self.hash(i))
        };
        let [a, b, c] = self.seams.ids;
        let mut ids = vec![a, b, c];
        let mut window = [a, b, c];
        for i in 0..self.container.count().saturating_sub(3) as isize {
            let id = link::link(
                suite,
                &self.genesis,
                &window,
                &[hash(i), hash(i + 1), hash(i + 2), hash(i + 3)],
            );
            let [_, second, first] = window;
            window = [second, first, id];
            ids.push(id);
        }
        let one = |(i, id): (usize, &Digest)| {
            let n = self.first.saturating_add(i as u64);
            let i = i as isize;
            link::provisional(suite, &self.genesis, id, &[hash(i - 2), hash(i - 1), hash(i)], n)
        };
        ids.iter()
            .take(self.container.count())
            .enumerate()
            .map(one)
            .collect()
    }
}

impl<'a> View<'a> {
    pub(super) fn of(
        container: &'a Container<'a>,
        recomputed: Digest,
        context: &'a Context<'_>,
        part: &mut Part,
    ) -> View<'a> {
        let without_fillers = context.seams.as_ref().unwrap_or(container.seams());
        let seams = *without_fillers;
        let recorded = container.header().genesis;
        let first = context.first.unwrap_or(container.header().first);
        let view = View {
            container,
            seams,
            genesis: recorded,
            without_fillers,
            first,
        };
        if recorded == recomputed {
            if container.flow() != context.run.flow {
                part.fault(0, FaultClass::Genesis, recorded, Datum::None);
            }
            return view;
        }
        part.fault(0, FaultClass::Genesis, recorded, recomputed);
        // One of the two is what the events were linked with.
        let other = View {
            container,
            seams,
            genesis: recomputed,
            without_fillers,
            first,
        };
        if !view.first_holds() && other.first_holds() {
            other
        } else {
            view
        }
    }

    fn first_holds(&self) -> bool {
        let made = if self.container.is_tail() {
            self.provisionals(&[]).first().copied()
        } else {
            Some(self.link(0, &[], &[]))
        };
        made == self.container.ids().first().copied()
    }

    /// G stands in the seams where there can be no event, and nowhere else.
    pub(super) fn own_seams(&self, part: &mut Part) {
        let header = self.container.header();
        let filler = |digest: &Digest| *digest == self.genesis;
        let (first, closes) = (self.first, header.closes);
        let ids = self.seams.ids.iter().zip([3, 2, 1]);
        let hashes = self.seams.hashes.iter().zip([2, 1]);
        for (digest, back) in ids.chain(hashes) {
            if filler(digest) != (first <= back) {
                part.fault(0, FaultClass::Seam, *digest, self.genesis);
            }
        }
        for digest in self
            .seams
            .next_hashes
            .iter()
            .filter(|_| !self.container.is_tail())
        {
            if filler(digest) != closes {
                part.fault(0, FaultClass::Seam, *digest, self.genesis);
            }
        }
    }

    /// With G where it must stand, so that a wrong filler is named once.
    pub(super) fn with_fillers(mut self) -> View<'a> {
        let header = self.container.header();
        for (digest, back) in self.seams.ids.iter_mut().zip([3, 2, 1]) {
            if self.first <= back {
                *digest = self.genesis;
            }
        }
        for (digest, back) in self.seams.hashes.iter_mut().zip([2, 1]) {
            if self.first <= back {
                *digest = self.genesis;
            }
        }
        if header.closes {
            self.seams.next_hashes = [self.genesis; 3];
        }
        self
    }
}
