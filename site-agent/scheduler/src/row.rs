//! What a resource thinks of each node, and why: a score per node, with all that it is the sum of.
//!
//! Whoever changes scores says so at the end with [`Row::tell`]. What differs from what was told before is noted under that cause. A
//! copy of a row has its notes with it, so that a row that is put back has the notes that were true of it.

use std::ops::{Deref, DerefMut};

use crate::arena::{ColIx, Key as _, LocIx, NodeIx};
use tierce_cib::values::{INFINITY, add_scores};

/// Where probes for a resource are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Discover {
    /// Everywhere.
    #[default]
    Always,
    /// Not here.
    Never,
    /// Only here.
    Exclusive,
}

/// What a resource thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether the node may be used at all.
    pub listed: bool,
    /// The score so far.
    pub score: i32,
    /// Whether probes may run.
    pub discover: Discover,
    /// For clones: instances that were assigned there.
    pub count: u32,
    /// The score of which it was told where it comes from.
    told: i32,
}

impl Place {
    /// Nothing is thought of it yet.
    pub(crate) fn new(listed: bool) -> Self {
        Self { listed, score: 0, discover: Discover::Always, count: 0, told: 0 }
    }
}

/// What changed a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A location constraint, or a ban or wish that follows from the status.
    Location(LocIx),
    /// It runs there.
    Stickiness,
    /// It failed there as often as it may.
    Threshold,
    /// Where what it must be with, or away from, was assigned.
    With(ColIx),
    /// What wants to be with it.
    Wanted(ColIx),
    /// The promotion score of the instance.
    Promotion,
    /// The node has all instances that it may have.
    Full,
    /// Enough instances have a place.
    Surplus,
    /// The node has too little free.
    Capacity,
    /// It is to be stopped wherever it is.
    Stopped,
    /// Probes and runs are only where a constraint says so.
    Discovery,
    /// What a container brings runs inside of it, and nothing else does.
    Inside,
}

/// What put one node before another for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Criterion {
    /// A better score, among nodes that can take something.
    Score,
    /// More free capacity.
    Capacity,
    /// Fewer resources.
    Fewer,
    /// It runs there.
    Runs,
    /// The name: nothing else told them apart.
    Name,
}

/// Why a resource got the node that it got, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first in the order of nodes.
    Best,
    /// It runs there, and no node has a better score.
    Stays,
    /// Instances that run are kept where they are.
    Kept,
    /// Nobody manages it: it is where it is.
    Unmanaged,
    /// `stop-all-resources`.
    StopAll,
    /// No node can take it.
    NoNode,
}

/// Whether an instance of a promotable clone is promoted, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promotion {
    /// It is.
    Chosen,
    /// Others come first, and they are enough.
    Enough,
    /// None may be: `promoted-max`, or quorum that is lost.
    NoneAllowed,
    /// It, or something in it, has no node.
    NoNode,
    /// It is not managed, and is not promoted now.
    Unmanaged,
    /// Its promotion score is below zero.
    Score,
    /// A ticket is missing or aside.
    Ticket,
    /// Its node can take nothing.
    Node,
    /// Its node has all that it may have.
    Full,
}

/// The choice of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Why.
    pub verdict: Verdict,
    /// For each other node, what put the chosen one (or the best) before it.
    pub lost: Vec<(NodeIx, Criterion)>,
}

/// One part of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Of which node.
    pub node: NodeIx,
    /// How much.
    pub score: i32,
    /// What it was then.
    pub after: i32,
    /// Why.
    pub cause: Cause,
}

/// One place per node, and the parts that their scores are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    places: Vec<Place>,
    /// In the order in which they were added.
    pub parts: Vec<Part>,
}

impl Row {
    /// The same for each node.
    pub(crate) fn of(place: Place, nodes: usize) -> Self {
        Self { places: vec![place; nodes], parts: Vec::new() }
    }

    /// Notes what changed since it was told last.
    pub(crate) fn tell(&mut self, cause: Cause) {
        for (i, place) in self.places.iter_mut().enumerate() {
            if place.score != place.told {
                let score = if place.score.abs() >= INFINITY {
                    place.score
                } else {
                    (place.score - place.told).clamp(-INFINITY, INFINITY)
                };
                place.told = place.score;
                self.parts.push(Part { node: NodeIx::new(i), score, after: place.score, cause });
            }
        }
    }

    /// Adds to the score of a node.
    pub(crate) fn add(&mut self, node: NodeIx, score: i32, cause: Cause) {
        let place = &mut self.places[node.position()];
        place.score = add_scores(place.score, score);
        place.told = add_scores(place.told, score);
        if score != 0 {
            self.parts.push(Part { node, score, after: place.score, cause });
        }
    }
}

impl Deref for Row {
    type Target = [Place];

    fn deref(&self) -> &[Place] {
        &self.places
    }
}

impl DerefMut for Row {
    fn deref_mut(&mut self) -> &mut [Place] {
        &mut self.places
    }
}

impl<'r> IntoIterator for &'r mut Row {
    type Item = &'r mut Place;
    type IntoIter = std::slice::IterMut<'r, Place>;

    fn into_iter(self) -> Self::IntoIter {
        self.places.iter_mut()
    }
}
