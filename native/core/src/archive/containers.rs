//! Packed containers, one behind the other in a file: so many are looked at at once, whatever the file's length.
use std::ops::Range;

use crate::block::Container;
use crate::verify::{Control, Edge, Expect, ReadAt, ReadFault, Run, Source, Verdict, verify};
use crate::wire::Malformed;

/// So many containers are verified before the next are looked for: what is kept of each is as long as a small one.
const WINDOW: usize = 4096;

/// From the start to the end of the two lengths.
const LENGTHS: u64 = 24;
/// What no length can be: enough to say that it is no container.
const STUMP: u64 = 32;

/// Containers in a range of a file.
pub struct Containers<'f, F: ?Sized> {
    file: &'f F,
    range: Range<u64>,
    extent: Extent,
}

/// What there must be of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Of what stands before and behind nothing is said.
    pub part: bool,
    /// A body that is not there is a fault.
    pub bodies: bool,
}

/// Some of the containers.
pub struct Window<'f, F: ?Sized> {
    file: &'f F,
    ranges: Vec<Range<u64>>,
}

impl<'f, F: ReadAt + ?Sized> Containers<'f, F> {
    /// Those in a range of a file.
    pub fn of(file: &'f F, range: Range<u64>, extent: Extent) -> Self {
        Self { file, range, extent }
    }

    /// All of them, so many at once.
    pub fn windows(&self) -> impl Iterator<Item = Window<'f, F>> + use<'f, F> {
        self.windows_of(WINDOW)
    }

    fn windows_of(&self, most: usize) -> impl Iterator<Item = Window<'f, F>> + use<'f, F> {
        let (file, mut at, end) = (self.file, self.range.start, self.range.end);
        std::iter::from_fn(move || {
            let mut ranges = Vec::new();
            while ranges.len() < most && at < end {
                let range = piece(file, at..end);
                at = range.1;
                ranges.push(range.0);
            }
            (!ranges.is_empty()).then_some(Window { file, ranges })
        })
    }

    /// Verifies them as one flow, which the first that says one is of. Returns its id too.
    pub fn verify(&self, control: &dyn Control, max_faults: usize) -> (String, Verdict) {
        self.verify_by(WINDOW, control, max_faults)
    }

    /// The same with so many looked at at once.
    pub(crate) fn verify_by(
        &self,
        most: usize,
        control: &dyn Control,
        max_faults: usize,
    ) -> (String, Verdict) {
        let (mut flow, mut verdict) = (None, Verdict::default());
        let mut windows = self.windows_of(most).peekable();
        while let Some(window) = windows.next() {
            let flow = flow.get_or_insert_with(|| window.flow());
            let more = self.extent.part || windows.peek().is_some();
            let run = self.run(flow, verdict.edges.pop().flatten(), more, window.len());
            verdict.append(verify(&window, &[run], control, max_faults), max_faults);
        }
        (flow.unwrap_or_default(), verdict)
    }

    fn run(&self, flow: &str, from: Option<Edge>, more: bool, count: usize) -> Run {
        Run {
            from,
            more,
            alone: self.extent.part,
            expect: Expect {
                bodies: self.extent.bodies,
                ..Expect::default()
            },
            ..Run::whole(flow, 0..count)
        }
    }

    /// The block of this height: heights follow each other.
    pub fn block<'b>(&'b self, height: u64, buffer: &'b mut Vec<u8>) -> Result<Container<'b>, Malformed> {
        let missing = Malformed::new(24, "height");
        let first = self.windows().next().and_then(|window| window.height());
        let mut left = height.checked_sub(first.ok_or(missing)?).ok_or(missing)?;
        for window in self.windows() {
            let range = usize::try_from(left).ok().and_then(|i| window.ranges.get(i));
            if let Some(range) = range {
                let bytes = self.file.read_at(range.clone(), buffer).map_err(|_| missing)?;
                let block = Container::decode(bytes)?;
                let is_it = !block.is_tail() && block.header().height == height;
                return if is_it { Ok(block) } else { Err(missing) };
            }
            left -= window.len() as u64;
        }
        Err(missing)
    }
}

impl<F: ReadAt + ?Sized> Source for Window<'_, F> {
    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn size(&self, index: usize) -> usize {
        self.ranges
            .get(index)
            .map_or(0, |range| (range.end - range.start) as usize)
    }

    fn read<'a>(&'a self, index: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ReadFault> {
        self.file
            .read_at(self.ranges.get(index).cloned().ok_or(ReadFault)?, buffer)
    }
}

impl<F: ReadAt + ?Sized> Window<'_, F> {
    /// The flow of the first container that says one.
    fn flow(&self) -> String {
        (0..self.len())
            .find_map(|index| self.of(index, |container| container.flow().to_owned()))
            .unwrap_or_default()
    }

    fn height(&self) -> Option<u64> {
        self.of(0, |container| container.header().height)
    }

    fn of<T>(&self, index: usize, what: impl Fn(&Container<'_>) -> T) -> Option<T> {
        let mut buffer = Vec::new();
        let bytes = self.read(index, &mut buffer).ok()?;
        Container::decode(bytes).ok().map(|container| what(&container))
    }
}

/// The container that begins where the range does, and where the next one does. What does not say where it ends is none,
/// and behind it nothing can be found.
fn piece<F: ReadAt + ?Sized>(file: &F, range: Range<u64>) -> (Range<u64>, u64) {
    let (at, end) = (range.start, range.end);
    let mut buffer = Vec::new();
    let lengths = file
        .read_at(at..end.min(at + LENGTHS), &mut buffer)
        .unwrap_or_default();
    let length = lengths
        .get(16..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    match at.checked_add(length) {
        Some(next) if length > LENGTHS && next <= end => (at..next, next),
        _ => (at..end.min(at + STUMP), end),
    }
}
