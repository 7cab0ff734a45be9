//! Hashing many inputs side by side, in SIMD lanes: what fills the lanes are inputs of equal length.
//!
//! Every hashed input of format 1 is a whole number of 64-byte blocks, so lengths fall into few classes. Whatever the CPU
//! can do, the digests are the same.
use std::sync::LazyLock;

mod blake3;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use self::blake3::Mode;
use self::sha256::{End, Kernel, Last, Single};
pub(crate) use self::sha256::{INITIAL, digest_of};

/// A hash value.
pub type Digest = [u8; 32];

/// Every hashed input is a whole number of these many bytes.
pub const UNIT: usize = 64;

/// How SHA-256 is taken of many inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Sixteen at a time, in AVX-512 lanes.
    Lanes,
    /// Two at a time, in interleaved streams of the SHA extensions.
    Streams,
    /// One at a time.
    Single,
}

impl Path {
    /// All paths, the fastest first.
    pub const ALL: [Path; 3] = [Path::Lanes, Path::Streams, Path::Single];

    /// Whether this CPU has it.
    pub fn is_here(self) -> bool {
        match self {
            Path::Lanes => here().lanes.is_some(),
            Path::Streams => here().streams.is_some(),
            Path::Single => true,
        }
    }

    /// The fastest that this CPU has.
    pub fn fastest() -> Path {
        Path::ALL
            .into_iter()
            .find(|path| path.is_here())
            .unwrap_or(Path::Single)
    }
}

#[cfg(target_arch = "x86_64")]
type Lanes = x86::Avx512;
#[cfg(target_arch = "x86_64")]
type Streams = x86::ShaNi;

/// What this CPU has.
struct Here {
    lanes: Option<Lanes>,
    streams: Option<Streams>,
}

fn here() -> &'static Here {
    static HERE: LazyLock<Here> = LazyLock::new(|| Here {
        lanes: Lanes::detect(),
        streams: Streams::detect(),
    });
    &HERE
}

/// Stands where a CPU has neither: there is no value of it.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
enum Absent {}

#[cfg(not(target_arch = "x86_64"))]
type Lanes = Absent;
#[cfg(not(target_arch = "x86_64"))]
type Streams = Absent;

#[cfg(not(target_arch = "x86_64"))]
impl Absent {
    fn detect() -> Option<Absent> {
        None
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl<const N: usize> Kernel<N> for Absent {
    fn compress(self, _: &mut sha256::States<N>, _: &[&[Block]; N]) {
        match self {}
    }

    fn finish(self, _: &mut sha256::States<N>, _: &Last) {
        match self {}
    }
}

/// Calls `class` for each length among the inputs: with the inputs of that length, and the room for their digests.
pub(crate) fn by_length(
    inputs: &[&[u8]],
    out: &mut [Digest],
    mut class: impl FnMut(&[&[u8]], &mut [Digest]),
) {
    if inputs.is_sorted_by(|a, b| a.len() == b.len()) {
        return class(inputs, out);
    }
    let mut order: Vec<u32> = (0..inputs.len() as u32).collect();
    let of = |index: &u32| inputs.get(*index as usize).copied().unwrap_or_default();
    order.sort_unstable_by_key(|index| of(index).len());
    let sorted: Vec<&[u8]> = order.iter().map(of).collect();
    let mut digests = vec![[0; 32]; inputs.len()];
    let mut room = digests.as_mut_slice();
    for inputs in sorted.chunk_by(|a, b| a.len() == b.len()) {
        let (own, others) = room.split_at_mut(inputs.len());
        class(inputs, own);
        room = others;
    }
    for (index, digest) in order.iter().zip(digests) {
        if let Some(out) = out.get_mut(*index as usize) {
            *out = digest;
        }
    }
}

/// So many inputs left over are worth a pass of sixteen lanes, rather than being taken two or one at a time.
const WORTH_A_PASS: usize = 9;

/// What SHA-256 starts from: a state, and how many bytes led to it.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    pub state: [u32; 8],
    pub bytes: usize,
}

impl Begun {
    /// Where SHA-256 itself starts.
    pub(crate) const NOTHING: Begun = Begun {
        state: INITIAL,
        bytes: 0,
    };

    /// SHA-256 of inputs of equal length.
    pub(crate) fn class(&self, path: Path, inputs: &[&[u8]], out: &mut [Digest]) {
        let length = self.bytes + inputs.first().map_or(0, |input| input.len());
        let made;
        let last = match LASTS.get(length / UNIT) {
            Some(last) => last,
            None => {
                made = Last::behind(length / UNIT);
                &made
            }
        };
        let last = length.is_multiple_of(UNIT).then_some(last);
        let (mut inputs, mut out) = (inputs, out);
        if let (Path::Lanes, Some(kernel)) = (path, here().lanes) {
            (inputs, out) = self.pass(kernel, WORTH_A_PASS, last, inputs, out);
        }
        if let (Path::Lanes | Path::Streams, Some(kernel)) = (path, here().streams) {
            (inputs, out) = self.pass(kernel, 2, last, inputs, out);
        }
        self.pass(Single, 1, last, inputs, out);
    }

    /// As many as fill the lanes, and the rest too if there are at least `least`. Returns what is left.
    fn pass<'i, 'o, const N: usize>(
        &self,
        kernel: impl Kernel<N>,
        least: usize,
        last: Option<&Last>,
        mut inputs: &'i [&'i [u8]],
        mut out: &'o mut [Digest],
    ) -> (&'i [&'i [u8]], &'o mut [Digest]) {
        while inputs.len() >= least {
            let (now, later) = inputs.split_at(N.min(inputs.len()));
            let (room, more) = out.split_at_mut(now.len().min(out.len()));
            // A lane that has no input of its own takes the first one once more.
            let lanes: [&[u8]; N] =
                std::array::from_fn(|lane| now.get(lane).or(now.first()).copied().unwrap_or_default());
            for (room, digest) in room.iter_mut().zip(self.lanes(kernel, last, &lanes)) {
                *room = digest;
            }
            (inputs, out) = (later, more);
        }
        (inputs, out)
    }

    fn lanes<const N: usize>(
        &self,
        kernel: impl Kernel<N>,
        last: Option<&Last>,
        inputs: &[&[u8]; N],
    ) -> [Digest; N] {
        let mut states = self.state.map(|word| [word; N]);
        kernel.compress(&mut states, &inputs.map(|input| input.as_chunks().0));
        match last {
            Some(last) => kernel.finish(&mut states, last),
            None => {
                let ends = inputs.map(|input| End::of(input, self.bytes));
                kernel.compress(&mut states, &ends.each_ref().map(End::blocks));
            }
        }
        kernel.digests(&states)
    }
}

/// Most events, links and nodes are no longer than this.
static LASTS: LazyLock<[Last; 34]> = LazyLock::new(|| std::array::from_fn(Last::behind));
