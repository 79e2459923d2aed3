//! Lists whose bounds hold while they are read, not afterwards.
//!
//! An operation of two bytes on the wire takes a hundred in memory, so a frame of 4 MiB that is
//! decoded first and refused then would hold 300 MB meanwhile: enough to end an arbitrator that
//! serves a thousand other tenants. A list read here ends with an error at its bound.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::entry::{Entry, Payload};
use crate::limits::{MAX_APPEND_ENTRIES, MAX_BATCH_OPS};

/// Room made at once for what a list claims to hold; the rest comes as its items come.
const FIRST_ROOM: usize = 64;

/// A list of at most `MAX` items.
pub(crate) fn list<'de, D, T, const MAX: usize>(d: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let one = |_: &T| 1;
    d.deserialize_seq(Bounded { items: MAX, weight: MAX, weigh: one, of: PhantomData })
}

/// The entries of one append, whose operations have a bound in all.
pub(crate) fn entries<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Entry>, D::Error> {
    let weigh = |e: &Entry| match &e.payload {
        Payload::Batch(ops) => ops.len(),
        Payload::Noop | Payload::Configuration(_) => 0,
    };
    let (items, weight) = (MAX_APPEND_ENTRIES, MAX_BATCH_OPS);
    d.deserialize_seq(Bounded { items, weight, weigh, of: PhantomData })
}

struct Bounded<T, W> {
    items: usize,
    weight: usize,
    weigh: W,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, W: Fn(&T) -> usize> Visitor<'de> for Bounded<T, W> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} items", self.items)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let claimed = items.size_hint().unwrap_or(0);
        if claimed > self.items {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut read = Vec::with_capacity(claimed.min(FIRST_ROOM));
        let mut weight = 0_usize;
        while let Some(item) = items.next_element()? {
            weight = weight.saturating_add((self.weigh)(&item));
            if read.len() == self.items || weight > self.weight {
                return Err(A::Error::invalid_length(read.len() + 1, &self));
            }
            read.push(item);
        }
        Ok(read)
    }
}
