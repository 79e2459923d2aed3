//! Merges the recordings of many processes into one causal order.
//!
//! Within a run the sequence number is the order. Between runs every record that followed a
//! received message names sender and stamp of it, and may not come before what that sender had
//! recorded up to the stamp. What no message orders is ordered by hybrid logical time, which is
//! also what orders messages of unnamed senders as long as the clocks agree within a minute.
//! Without the notes, a member whose clock is an hour slow would seem to act an hour before it was
//! told to.
//!
//! Invariants: the result holds every entry once; a run's entries keep their order; what followed
//! a message's receipt follows all that its sender recorded before sending.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::Entry;
use crate::layout::Sender;
use crate::reading::Recording;

/// One run of one process, and how far the merge has come in it.
struct Stream<'a> {
    sender: Sender,
    entries: Vec<&'a Entry>,
    next: usize,
}

impl<'a> Stream<'a> {
    fn head(&self) -> Option<&'a Entry> {
        self.entries.get(self.next).copied()
    }
}

/// All entries of all recordings, causes before effects; otherwise by hybrid time, process and
/// sequence. Recordings of the same run (a ring and its dumps) are joined.
pub fn merge(recordings: &[Recording]) -> Vec<Entry> {
    let mut streams = streams(recordings);
    let total = streams.iter().map(|s| s.entries.len()).sum();
    let mut merged = Vec::with_capacity(total);
    while let Some(next) = choose(&streams) {
        merged.extend(streams[next].head().cloned());
        streams[next].next += 1;
    }
    assert_eq!(merged.len(), total, "every entry is merged exactly once");
    merged
}

fn streams(recordings: &[Recording]) -> Vec<Stream<'_>> {
    let mut runs: BTreeMap<(Arc<str>, u64), BTreeMap<u64, &Entry>> = BTreeMap::new();
    for recording in recordings {
        let run = runs.entry((recording.process.clone(), recording.run)).or_default();
        run.extend(recording.entries.iter().map(|e| (e.sequence, e)));
    }
    runs.into_iter()
        .map(|((process, _), entries)| Stream {
            sender: Sender::of(&process),
            entries: entries.into_values().collect(),
            next: 0,
        })
        .collect()
}

/// The stream whose head comes next: the earliest of those that wait for nothing. Should all
/// wait for each other (a damaged or forged recording), the earliest of all.
fn choose(streams: &[Stream<'_>]) -> Option<usize> {
    let heads = || streams.iter().enumerate().filter_map(|(i, s)| Some((i, s.head()?)));
    let earliest = |free_only: bool| {
        heads()
            .filter(|(i, e)| !free_only || !waits(streams, *i, e))
            .min_by_key(|(_, e)| (e.hlc, &*e.process, e.sequence))
            .map(|(i, _)| i)
    };
    earliest(true).or_else(|| earliest(false))
}

/// Whether the sender of the message heard before still has entries from before the sending.
fn waits(streams: &[Stream<'_>], own: usize, entry: &Entry) -> bool {
    let Some(heard) = entry.heard else { return false };
    // An unnamed sender is known where only one other can be meant.
    let only_one = streams.len() == 2;
    let meant = |s: &Stream<'_>| match heard.sender {
        Sender::UNKNOWN => only_one,
        sender => s.sender == sender,
    };
    let others = streams.iter().enumerate().filter(|(i, s)| *i != own && meant(s));
    others.filter_map(|(_, s)| s.head()).any(|e| e.hlc.0 <= heard.stamp)
}
