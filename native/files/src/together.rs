//! Many parts of files at a time: those that lie close to each other are read at once.

use crate::File;
use std::ops::Range;

/// So many bytes between two parts are read with them, rather than asking the system once more, ...
const GAP: u64 = 4 << 10;
/// ... as long as all of it is no more than this.
const STRETCH: u64 = 1 << 20;

/// A part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Place<'f> {
    /// Where it lies.
    pub file: &'f File,
    /// Where in it.
    pub offset: u64,
    /// How long it is.
    pub length: usize,
}

impl Place<'_> {
    /// None of one that no file can hold.
    fn range(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.length as u64)?)
    }

    /// Places that lie in one file come together, in the order in which they lie.
    pub fn order(&self) -> (usize, u64) {
        (std::ptr::from_ref(self.file) as usize, self.offset)
    }
}

/// The bytes of each place, in order; None where there is none, or it cannot be read. `buffers` may be given again.
pub fn read_together<'b>(
    places: &[Option<Place<'_>>],
    buffers: &'b mut Vec<Vec<u8>>,
    wanted: impl Fn() -> bool,
) -> Vec<Option<&'b [u8]>> {
    let mut order: Vec<Found<'_>> = (0..)
        .zip(places)
        .filter_map(|(i, place)| place.and_then(|place| Some((i, place, place.range()?))))
        .collect();
    order.sort_by_key(|(_, place, _)| place.order());
    let stretches = stretches(&order);
    // One for each stretch, and should that fail, one for each place in it.
    let count = buffers.len().max(stretches.len() + places.len());
    buffers.resize_with(count, Vec::new);
    let (together, alone) = buffers.split_at_mut(stretches.len());
    let mut alone = alone.iter_mut();
    let mut read = vec![None; places.len()];
    for ((stretch, range), buffer) in stretches.into_iter().zip(together) {
        let Some((_, Place { file, .. }, _)) = stretch.first() else {
            continue;
        };
        let bytes = file.read_while(range.clone(), buffer, &wanted).ok();
        for ((i, _, own), room) in stretch.iter().zip(alone.by_ref()) {
            let at = |offset: u64| (offset - range.start) as usize;
            let found = match bytes {
                Some(bytes) => bytes.get(at(own.start)..at(own.end)),
                None if stretch.len() > 1 => file.read_while(own.clone(), room, &wanted).ok(),
                None => None,
            };
            if let Some(place) = read.get_mut(*i) {
                *place = found;
            }
        }
    }
    read
}

type Found<'p> = (usize, Place<'p>, Range<u64>);

/// Cuts places, in the order in which they lie, into what is read at once, each with the range that it spans.
fn stretches<'o, 'p>(order: &'o [Found<'p>]) -> Vec<(&'o [Found<'p>], Range<u64>)> {
    let mut stretches = Vec::new();
    let (mut rest, mut count) = (order, 0);
    let mut span = 0..0;
    for (i, (_, place, own)) in order.iter().enumerate() {
        let same = i > 0
            && order
                .get(i - 1)
                .is_some_and(|(_, before, _)| std::ptr::eq(before.file, place.file));
        let end = own.end.max(span.end);
        if same && own.start <= span.end.saturating_add(GAP) && end - span.start <= STRETCH {
            span.end = end;
        } else {
            let (stretch, others) = rest.split_at(count);
            if count > 0 {
                stretches.push((stretch, span));
            }
            (rest, count, span) = (others, 0, own.clone());
        }
        count += 1;
    }
    if count > 0 {
        stretches.push((rest, span));
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, length: usize) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("event_seal-together-{name}-{}", std::process::id()));
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let file = File::open(&path).unwrap();
        (path, file)
    }

    /// Two files, and places in them: next to each other, apart, overlapping, twice, empty, beyond the end, in no order.
    #[test]
    fn each_place_has_its_bytes_however_they_lie() {
        let ((one_path, one), (two_path, two)) = (file("one", 3 << 20), file("two", 70_000));
        let at = |file, offset, length| Some(Place { file, offset, length });
        let places = [
            at(&one, 100_000, 3_000),
            at(&one, 0, 64),
            at(&two, 60_000, 10_000),
            None,
            at(&one, 103_000, 500),
            at(&one, 102_900, 2_000),
            at(&two, 0, 0),
            at(&one, 1 << 20, 2 << 20),
            at(&one, 0, 64),
            at(&two, 69_999, 2),
            at(&two, u64::MAX, 2),
            at(&one, 64, 1 << 20),
        ];
        let mut buffers = vec![vec![1; 10_000]];
        for _ in 0..2 {
            let read = read_together(&places, &mut buffers, || true);
            assert_eq!(read.len(), places.len());
            for (place, read) in places.iter().zip(read) {
                let mut buffer = Vec::new();
                let alone = place.and_then(|place| place.file.read(place.range()?, &mut buffer).ok());
                assert_eq!(read, alone, "{place:?}");
            }
        }
        assert!(
            read_together(&places, &mut buffers, || false)
                .iter()
                .flatten()
                .all(|read| read.is_empty())
        );
        for path in [one_path, two_path] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_lies_close_is_read_at_once_and_nothing_else() {
        let ((one_path, one), (two_path, two)) = (file("a", 1), file("b", 1));
        let place = |file, offset, length| {
            let place = Place { file, offset, length };
            (0, place, place.range().unwrap())
        };
        let spans = |order: &[Found<'_>]| -> Vec<(usize, Range<u64>)> {
            stretches(order)
                .into_iter()
                .map(|(all, span)| (all.len(), span))
                .collect()
        };
        assert_eq!(spans(&[]), []);
        let close = [place(&one, 0, 10), place(&one, 10 + GAP, 10)];
        assert_eq!(spans(&close), [(2, 0..20 + GAP)]);
        let apart = [place(&one, 0, 10), place(&one, 11 + GAP, 10)];
        assert_eq!(spans(&apart), [(1, 0..10), (1, 11 + GAP..21 + GAP)]);
        assert_eq!(
            spans(&[place(&one, 0, 10), place(&two, 10, 10)]),
            [(1, 0..10), (1, 10..20)]
        );
        let long = [place(&one, 0, STRETCH as usize), place(&one, STRETCH, 1)];
        assert_eq!(spans(&long), [(1, 0..STRETCH), (1, STRETCH..STRETCH + 1)]);
        for path in [one_path, two_path] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
