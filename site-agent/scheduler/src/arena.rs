//! Dense vectors with typed indices: names are looked up once, everything after that is an index.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// An index of one kind of thing.
pub(crate) trait Key: Copy {
    /// The index that stands for a position.
    fn new(position: usize) -> Self;
    /// The position that an index stands for.
    fn position(self) -> usize;
}

macro_rules! key {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl Key for $name {
            fn new(position: usize) -> Self {
                Self(position as u32)
            }
            fn position(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

key! {
    /// A node of the cluster.
    NodeIx;
    /// A resource: primitive, group, clone, instance or bundle.
    RscIx;
    /// An action of the transition.
    ActIx;
    /// A location constraint.
    LocIx;
    /// A colocation constraint.
    ColIx;
    /// An ordering constraint.
    OrdIx;
}

/// A vector that only its own kind of index reads.
#[derive(Debug, Clone)]
pub(crate) struct Arena<K, T> {
    items: Vec<T>,
    key: PhantomData<K>,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Self { items: Vec::new(), key: PhantomData }
    }
}

impl<K: Key, T> Arena<K, T> {
    /// Adds an item and gives its index.
    pub(crate) fn push(&mut self, item: T) -> K {
        self.items.push(item);
        K::new(self.items.len() - 1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// All indices, in order.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = K> + use<K, T> {
        (0..self.items.len()).map(K::new)
    }
}

impl<K: Key, T> Index<K> for Arena<K, T> {
    type Output = T;
    fn index(&self, key: K) -> &T {
        &self.items[key.position()]
    }
}

impl<K: Key, T> IndexMut<K> for Arena<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        &mut self.items[key.position()]
    }
}
