//! A store's log in a file: its leaves, then its checkpoints. FORMAT.md, "Log file".
use crate::checkpoint::Policy;
use crate::log::{Frontier, Leaf, leaf_hash};
use crate::note::VerifierKey;
use crate::suite::Digest;
use crate::verify::{Control, Datum, Fault, FaultClass, ReadAt};
use crate::wire::{Malformed, Reader};

/// What every log file of this version begins with.
pub const LOG_MAGIC: &[u8; 8] = b"EVSEALL1";
/// How long the preamble is.
const PREAMBLE: u64 = 64;
const ZEROS: usize = 40;
/// Most bytes of an item, and so many are read at once, which are more.
const ITEM_MAX: usize = 1 << 21;
const CHUNK: u64 = 1 << 22;
/// What faults of a log name in the place of a flow.
const FLOW: &str = "log";

/// A log file whose sizes are read.
pub struct LogFile<'f, F: ?Sized> {
    file: &'f F,
    leaves: u64,
    checkpoints: u64,
}

/// What is in a log file, and what of it does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogVerdict {
    /// How many leaves.
    pub leaves: u64,
    /// Of these, of types that this format does not know.
    pub unknown: u64,
    /// How many checkpoints.
    pub checkpoints: u64,
    /// The text of the last one, as it was signed.
    pub last: Option<String>,
    /// The faults, up to the most that were asked for: their flow is `log`, their position a leaf's index (of a checkpoint
    /// one behind the leaves), or a checkpoint's size where its root is not the leaves'.
    pub faults: Vec<Fault>,
    /// How many there are in all.
    pub fault_count: u64,
}

/// An item of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A leaf's data.
    Leaf(&'a [u8]),
    /// A checkpoint as it is kept: the text of its verifier key, and the signed note.
    Checkpoint(&'a [u8]),
}

impl<'f, F: ReadAt + ?Sized> LogFile<'f, F> {
    /// Reads the sizes.
    pub fn open(file: &'f F) -> Result<Self, Malformed> {
        let mut buffer = Vec::new();
        let bytes = file.read_at(0..file.length().min(PREAMBLE), &mut buffer);
        let mut reader = Reader::new(bytes.map_err(|_| Malformed::new(0, "read"))?);
        if reader.array("magic")? != LOG_MAGIC {
            return Err(Malformed::new(0, "magic"));
        }
        let (leaves, checkpoints) = (reader.u64("leaves")?, reader.u64("checkpoints")?);
        reader.zeros(ZEROS)?;
        reader.end()?;
        Ok(LogFile {
            file,
            leaves,
            checkpoints,
        })
    }

    /// Gives all items in order, each with its number. Stops with the first that is none, and if it is told to.
    pub fn each(
        &self,
        control: &dyn Control,
        mut take: impl FnMut(u64, Item<'_>),
    ) -> Result<(), (u64, Malformed)> {
        let all = self.leaves.saturating_add(self.checkpoints);
        let (mut at, mut number, mut buffer) = (PREAMBLE, 0, Vec::new());
        while number < all && !control.stopped() {
            let fail = |number, what| (number, Malformed { at, what });
            let chunk = at..self.file.length().min(at + CHUNK);
            let bytes = self.file.read_at(chunk, &mut buffer);
            let bytes = bytes.map_err(|_| fail(number, "read"))?;
            let mut rest = bytes;
            while number < all
                && let Some((item, behind)) = item(rest).map_err(|what| fail(number, what))?
            {
                let is_leaf = number < self.leaves;
                take(
                    number,
                    if is_leaf {
                        Item::Leaf(item)
                    } else {
                        Item::Checkpoint(item)
                    },
                );
                (rest, number) = (behind, number + 1);
            }
            if rest.len() == bytes.len() {
                return Err(fail(number, "item"));
            }
            at += (bytes.len() - rest.len()) as u64;
        }
        let whole = at == self.file.length() || control.stopped();
        whole.then_some(()).ok_or((number, Malformed { at, what: "end" }))
    }

    /// Whether it holds together: each leaf is one, and each checkpoint signed by the key that it names, with the root of the
    /// leaves up to its size. That the key is the right one is for [`LogVerdict::last`] to show. Reads the file twice.
    pub fn verify(&self, control: &dyn Control, max_faults: usize) -> LogVerdict {
        let mut verdict = LogVerdict {
            leaves: self.leaves,
            checkpoints: self.checkpoints,
            ..LogVerdict::default()
        };
        let mut points = Vec::new();
        let mut faults = Found {
            verdict: &mut verdict,
            max_faults,
        };
        let read = self.each(control, |number, item| match item {
            Item::Leaf(_) => {}
            Item::Checkpoint(item) => match checkpoint(item) {
                Ok((point, note)) => {
                    points.push(point);
                    faults.verdict.last = Some(note.to_owned());
                }
                Err(class) => faults.add(number, class, Datum::None, Datum::None),
            },
        });
        if let Err((number, malformed)) = read {
            faults.add(number, FaultClass::Format, malformed.at.into(), Datum::None);
            return verdict;
        }
        points.sort_unstable();
        self.leaves_against(&points, control, &mut faults);
        verdict
    }

    fn leaves_against(&self, points: &[(u64, Digest)], control: &dyn Control, faults: &mut Found<'_>) {
        let (mut frontier, mut points) = (Frontier::default(), points.iter().peekable());
        let mut compare = |frontier: &Frontier, faults: &mut Found<'_>| {
            while let Some((size, root)) = points.next_if(|(size, _)| *size <= frontier.size()) {
                let made = frontier.root();
                if *root != made {
                    faults.add(*size, FaultClass::Log, (*root).into(), made.into());
                }
            }
        };
        compare(&frontier, faults);
        // What was read once and cannot be again was named by who reads.
        let _ = self.each(control, |number, item| {
            let Item::Leaf(data) = item else { return };
            match Leaf::decode(data) {
                Ok(Leaf::Unknown { .. }) => faults.verdict.unknown += 1,
                Ok(_) => {}
                Err(malformed) => faults.add(number, FaultClass::Format, malformed.at.into(), Datum::None),
            }
            if frontier.push(leaf_hash(data), &mut Vec::new()).is_ok() {
                compare(&frontier, faults);
            }
        });
        for (size, _) in points {
            faults.add(*size, FaultClass::Missing, self.leaves.into(), (*size).into());
        }
    }
}

struct Found<'v> {
    verdict: &'v mut LogVerdict,
    max_faults: usize,
}

impl Found<'_> {
    fn add(&mut self, position: u64, class: FaultClass, recorded: Datum, recomputed: Datum) {
        self.verdict.fault_count += 1;
        if self.verdict.faults.len() < self.max_faults {
            self.verdict.faults.push(Fault {
                flow: FLOW.to_owned(),
                position,
                block: None,
                class,
                recorded,
                recomputed,
            });
        }
    }
}

/// An item, and what stands behind it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The item that begins here; none if it is not here as a whole.
fn item(bytes: &[u8]) -> Result<Option<Split<'_>>, &'static str> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > ITEM_MAX {
        return Err("length");
    }
    Ok(rest.split_at_checked(length))
}

/// What a kept checkpoint says, once the key that it names has signed it, and its note.
fn checkpoint(item: &[u8]) -> Result<((u64, Digest), &str), FaultClass> {
    let mut reader = Reader::new(item);
    let length = reader.u16("key").map_err(|_| FaultClass::Format)?;
    let key = reader
        .take(length.into(), "key")
        .map_err(|_| FaultClass::Format)?;
    let note = item.get(reader.at()..).unwrap_or_default();
    let text = |bytes| str::from_utf8(bytes).map_err(|_| FaultClass::Format);
    let (key, note) = (text(key)?, text(note)?);
    let key = VerifierKey::parse(key).map_err(|_| FaultClass::Format)?;
    let policy = Policy::new(vec![key], vec![], 0).map_err(|_| FaultClass::Format)?;
    let opened = policy.open(note).map_err(|_| FaultClass::Log)?;
    Ok(((opened.checkpoint.size, opened.checkpoint.root), note))
}
