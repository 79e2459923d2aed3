//! The log in memory: entries after a base, the newest snapshot, and the configurations in both.
//!
//! It knows nothing of ballots being won or entries being committed. It keeps three things true:
//! indices have no gaps, ballots never fall, and the list of configurations says exactly what the
//! entries say. The last is what makes a configuration take effect when it is appended and be
//! gone when its entry is truncated (R11) without anybody having to remember it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::durable::{LedgerDurable, Snapshot, kept_from};
use crate::configuration::Configuration;
use crate::entry::{Entry, Payload};
use crate::ids::{Ballot, ClusterId, ConfigIndex, Generation, LogIndex, MemberId};
use crate::limits::{MAX_APPEND_ENTRIES, MAX_BATCH_OPS};
use crate::timing::Profile;

/// Entries with indices `base + 1 ..= last`.
#[derive(Clone, Debug)]
pub(super) struct Log {
    snapshot: Option<Arc<Snapshot>>,
    base: (LogIndex, Ballot),
    entries: VecDeque<Entry>,
    /// Ascending and never empty; the first is the one at the snapshot, or the blank one.
    configurations: Vec<(ConfigIndex, Configuration)>,
}

/// The configuration of a member that knows nothing yet: without voters nobody can be elected.
fn blank() -> Configuration {
    Configuration {
        cluster: ClusterId::default(),
        generation: Generation::default(),
        voters: BTreeMap::new(),
        learners: BTreeMap::new(),
        next_member: MemberId(1),
        timing: Profile::Lan.timing(),
        digest: [0; 16],
    }
}

impl Log {
    pub(super) fn new(durable: LedgerDurable) -> Self {
        let LedgerDurable { snapshot, entries, .. } = durable;
        let mut entries = VecDeque::from(entries);
        let covered = snapshot.as_ref().map(|s| (s.last_index, s.last_ballot)).unwrap_or_default();
        let first = entries.front().map(|e| (e.index, e.ballot));
        // The tail before the snapshot's end has lost what came before it: its first entry is base.
        let base = match first {
            Some((LogIndex(1), _)) => (LogIndex(0), Ballot(0)),
            Some(first) if first.0 <= covered.0 => {
                entries.pop_front();
                first
            }
            _ => covered,
        };
        let configuration = match &snapshot {
            Some(s) => (s.config_index, s.configuration.clone()),
            None => (ConfigIndex(0), blank()),
        };
        let mut log = Self {
            snapshot: snapshot.map(Arc::new),
            base,
            entries: VecDeque::with_capacity(entries.len()),
            configurations: vec![configuration],
        };
        for e in entries {
            if e.index > covered.0 {
                log.append(e);
            } else {
                log.entries.push_back(e);
            }
        }
        log
    }

    pub(super) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Last entry that the snapshot covers; 0 without one.
    pub(super) fn covered(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(LogIndex(0), |s| s.last_index)
    }

    /// The entry before the first that is kept.
    pub(super) fn base(&self) -> LogIndex {
        self.base.0
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.entries.back().map_or(self.base.0, |e| e.index)
    }

    pub(super) fn last_ballot(&self) -> Ballot {
        self.entries.back().map_or(self.base.1, |e| e.ballot)
    }

    pub(super) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.0.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Ballot of an entry from the base to the last; `None` outside.
    pub(super) fn ballot_at(&self, index: LogIndex) -> Option<Ballot> {
        if index == self.base.0 { Some(self.base.1) } else { self.entry(index).map(|e| e.ballot) }
    }

    /// Entries of `from ..= to` that are kept.
    pub(super) fn between(&self, from: LogIndex, to: LogIndex) -> impl Iterator<Item = &Entry> {
        let skip = from.0.saturating_sub(self.base.0.0 + 1);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take_while(move |e| e.index <= to)
    }

    /// As many entries from `from` on as one append may carry; at least one if there is one.
    pub(super) fn chunk(&self, from: LogIndex) -> Vec<Entry> {
        let mut weight = 0;
        let fits = |e: &&Entry| {
            weight += match &e.payload {
                Payload::Batch(ops) => ops.len().max(1),
                Payload::Noop | Payload::Configuration(_) => 1,
            };
            e.index == from || weight <= MAX_BATCH_OPS
        };
        let all = self.between(from, self.last_index());
        all.take(MAX_APPEND_ENTRIES).take_while(fits).cloned().collect()
    }

    /// Where the logs may agree when the entry at `prev` is not the leader's: before all entries
    /// of the ballot that is wrong there, but not before `floor`, which is known to agree.
    pub(super) fn hint(&self, prev: LogIndex, floor: LogIndex) -> LogIndex {
        if prev > self.last_index() {
            return self.last_index();
        }
        let wrong = self.ballot_at(prev);
        let mut hint = prev.prev();
        while hint > floor && self.ballot_at(hint) == wrong {
            hint = hint.prev();
        }
        hint
    }

    pub(super) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "the log has no gaps");
        assert!(entry.ballot >= self.last_ballot(), "ballots never fall along the log");
        if let Payload::Configuration(c) = &entry.payload {
            self.configurations.push((ConfigIndex(entry.index.0), (**c).clone()));
        }
        self.entries.push_back(entry);
    }

    /// Forgets `from` and everything after it.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        assert!(from > self.base.0, "only kept entries can be truncated");
        assert!(from > self.covered(), "a snapshot is never truncated");
        self.entries.truncate((from.0 - self.base.0.0 - 1) as usize);
        self.configurations.retain(|(i, _)| i.0 < from.0);
    }

    /// The newest configuration, committed or not.
    pub(super) fn configuration(&self) -> (&Configuration, ConfigIndex) {
        self.configuration_at(self.last_index())
    }

    /// The newest configuration at `upto`.
    pub(super) fn configuration_at(&self, upto: LogIndex) -> (&Configuration, ConfigIndex) {
        let newer = self.configurations.partition_point(|(i, _)| i.0 <= upto.0);
        let (index, c) = &self.configurations[newer.saturating_sub(1)];
        (c, *index)
    }

    /// Configurations that became the newest within `after + 1 ..= upto`, each with the one before.
    pub(super) fn configurations_between(
        &self,
        after: LogIndex,
        upto: LogIndex,
    ) -> impl Iterator<Item = (&Configuration, &Configuration)> {
        let pairs = self.configurations.windows(2);
        pairs.filter(move |w| w[1].0.0 > after.0 && w[1].0.0 <= upto.0).map(|w| (&w[0].1, &w[1].1))
    }

    /// Lets a snapshot of this log stand for its beginning; a tail is kept for followers.
    pub(super) fn compact(&mut self, snapshot: Arc<Snapshot>) {
        let covered = snapshot.last_index;
        assert_eq!(self.ballot_at(covered), Some(snapshot.last_ballot), "a snapshot of this log");
        assert!(covered >= self.covered(), "snapshots never go back");
        while let Some(e) = self.entries.front().filter(|e| e.index <= kept_from(covered)) {
            self.base = (e.index, e.ballot);
            self.entries.pop_front();
        }
        let first = self.configurations.partition_point(|(i, _)| i.0 <= covered.0);
        self.configurations.drain(..first.saturating_sub(1));
        self.snapshot = Some(snapshot);
    }

    /// Replaces everything by a snapshot of a leader.
    pub(super) fn install(&mut self, snapshot: Arc<Snapshot>) {
        self.entries.clear();
        self.base = (snapshot.last_index, snapshot.last_ballot);
        self.configurations = vec![(snapshot.config_index, snapshot.configuration.clone())];
        self.snapshot = Some(snapshot);
    }

    /// Asserts what the top of this file claims.
    pub(super) fn invariants(&self) {
        let mut previous = self.base;
        for e in &self.entries {
            assert_eq!(e.index, previous.0.next(), "the log has no gaps");
            assert!(e.ballot >= previous.1, "ballots never fall along the log");
            previous = (e.index, e.ballot);
        }
        let covered = self.covered();
        assert!(self.base.0 <= covered, "what is not kept is in the snapshot");
        assert!(self.last_index() >= covered, "the log does not end inside the snapshot");
        let indices: Vec<_> = self.configurations.iter().map(|(i, _)| *i).collect();
        assert!(indices.is_sorted_by(|a, b| a < b), "configurations in order");
        assert!(indices[0].0 <= covered.0, "the first configuration is the snapshot's");
        let said = self.between(covered.next(), self.last_index());
        let said = said.filter(|e| matches!(e.payload, Payload::Configuration(_)));
        let said: Vec<_> = said.map(|e| ConfigIndex(e.index.0)).collect();
        assert_eq!(said, indices[1..], "configurations are what the entries say");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::HardState;
    use super::super::testing::{configuration, each, entry};
    use super::*;
    use crate::limits::LOG_KEEP_ENTRIES;

    /// The deliberately dumb twin: every entry ever, in a plain list that is never shortened.
    #[derive(Default)]
    struct Dumb {
        all: Vec<Entry>,
        covered: u64,
        kept_after: u64,
    }

    impl Dumb {
        fn last(&self) -> u64 {
            self.all.len() as u64
        }
        fn at(&self, index: u64) -> Option<&Entry> {
            self.all.iter().find(|e| e.index.0 == index)
        }
        fn configuration(&self, upto: u64) -> u64 {
            let of = self.all.iter().filter(|e| matches!(e.payload, Payload::Configuration(_)));
            of.map(|e| e.index.0).filter(|i| *i <= upto).max().unwrap_or(0)
        }
    }

    /// Most entries that one step appends.
    const MOST: u64 = if cfg!(miri) { 40 } else { 400 };
    const STEPS: usize = if cfg!(miri) { 8 } else { 30 };

    #[derive(Clone, Debug)]
    enum Step {
        Append { count: u64, ballot_up: bool, configuration: bool },
        Truncate(u64),
        Compact(u64),
        Install(u64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..MOST, any::<bool>(), any::<bool>()).prop_map(|(count, ballot_up, c)| {
                Step::Append { count, ballot_up, configuration: c }
            }),
            3 => (0u64..500).prop_map(Step::Truncate),
            2 => (0u64..300).prop_map(Step::Compact),
            1 => (1u64..50).prop_map(Step::Install),
            1 => Just(Step::Restart),
        ]
    }

    fn snapshot_of(dumb: &Dumb, index: u64) -> Snapshot {
        let config_index = dumb.configuration(index);
        let configuration = match dumb.at(config_index).map(|e| &e.payload) {
            Some(Payload::Configuration(c)) => (**c).clone(),
            _ => blank(),
        };
        Snapshot {
            last_index: LogIndex(index),
            last_ballot: dumb.at(index).map_or(Ballot(0), |e| e.ballot),
            configuration,
            config_index: ConfigIndex(config_index),
            state: vec![],
        }
    }

    fn apply(log: &mut Log, dumb: &mut Dumb, ballot: &mut u64, step: &Step) {
        match *step {
            Step::Append { count, ballot_up, configuration: c } => {
                *ballot += u64::from(ballot_up);
                for i in 0..count {
                    let mut e = entry(dumb.last() + 1, *ballot);
                    if c && i == count / 2 {
                        e.payload =
                            Payload::Configuration(Box::new(configuration(3 + (i % 4) as u32)));
                    }
                    log.append(e.clone());
                    dumb.all.push(e);
                }
            }
            Step::Truncate(back) => {
                let from = dumb.last().saturating_sub(back).max(dumb.covered) + 1;
                log.truncate(LogIndex(from));
                dumb.all.truncate(from as usize - 1);
            }
            Step::Compact(back) => {
                let index = dumb.last().saturating_sub(back).max(dumb.covered);
                if index == 0 {
                    return;
                }
                log.compact(Arc::new(snapshot_of(dumb, index)));
                dumb.covered = index;
                dumb.kept_after = dumb.kept_after.max(index.saturating_sub(LOG_KEEP_ENTRIES));
            }
            Step::Install(ahead) => {
                *ballot += 1;
                for _ in 0..ahead {
                    dumb.all.push(entry(dumb.last() + 1, *ballot));
                }
                log.install(Arc::new(snapshot_of(dumb, dumb.last())));
                (dumb.covered, dumb.kept_after) = (dumb.last(), dumb.last());
            }
            Step::Restart => {
                let durable = LedgerDurable {
                    hard: HardState::default(),
                    snapshot: log.snapshot().map(|s| (**s).clone()),
                    entries: log.between(LogIndex(1), log.last_index()).cloned().collect(),
                };
                *log = Log::new(durable);
                // The first kept entry gives its place to the base unless it is the very first.
                if dumb.kept_after > 0 && dumb.kept_after < dumb.covered {
                    dumb.kept_after += 1;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 400 }))]
        #[test]
        fn the_log_agrees_with_a_plain_list(steps in prop::collection::vec(step(), 1..STEPS)) {
            let mut log = Log::new(LedgerDurable::default());
            let (mut dumb, mut ballot) = (Dumb::default(), 0);
            for s in steps {
                apply(&mut log, &mut dumb, &mut ballot, &s);
                log.invariants();
                prop_assert_eq!(log.last_index().0, dumb.last());
                prop_assert_eq!(log.base().0, dumb.kept_after);
                prop_assert_eq!(log.last_ballot(), dumb.all.last().map_or(Ballot(0), |e| e.ballot));
                let around = [dumb.kept_after, dumb.covered, dumb.last(), dumb.last() / 2];
                for i in around.iter().flat_map(|i| i.saturating_sub(1)..=i + 1) {
                    let kept = dumb.at(i).filter(|_| i > dumb.kept_after);
                    prop_assert_eq!(log.entry(LogIndex(i)), kept);
                    if i >= dumb.covered {
                        let ours = log.configuration_at(LogIndex(i)).1;
                        prop_assert_eq!(ours.0, dumb.configuration(i));
                    }
                }
            }
        }
    }

    #[test]
    fn a_hint_goes_back_over_the_whole_wrong_ballot() {
        let mut log = Log::new(LedgerDurable::founding(configuration(3), 0));
        each([(2, 1), (3, 4), (4, 4), (5, 4)], |(i, b)| log.append(entry(i, b)));
        assert_eq!(log.hint(LogIndex(5), LogIndex(1)), LogIndex(2));
        assert_eq!(log.hint(LogIndex(5), LogIndex(4)), LogIndex(4));
        assert_eq!(log.hint(LogIndex(9), LogIndex(1)), LogIndex(5));
    }
}
