//! Lists as the BEAM gives them: rustler's own decoding panics at an improper one.

use rustler::{Decoder, Error, NifResult, Term};
use std::ops::Deref;

/// A proper list, decoded.
pub struct List<T>(Vec<T>);

impl<'a, T: Decoder<'a>> Decoder<'a> for List<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        // The length of an improper list is an error, before anything is read.
        let length = term.list_length()?;
        let mut items = Vec::with_capacity(length);
        for item in term.into_list_iterator()? {
            // A tuple's derived decoding raises an error of its own, other than ArgumentError.
            items.push(item.decode().map_err(|_| Error::BadArg)?);
        }
        Ok(List(items))
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
