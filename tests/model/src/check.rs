//! The properties, and the run of one scope.

use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};
use tierce_ticket::entry::FenceTarget;
use tierce_ticket::quorum;

use crate::action::{self, Act};
use crate::clock::holder;
use crate::heal;
use crate::mutant::Mutant;
use crate::scope::Scope;
use crate::story;
use crate::world::{Sign, World};

/// Of so many states one is healed to see that the ticket finds a holder.
const HEAL_ONE_OF: u64 = 97;

/// A scope under the checker.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which.
    pub scope: Scope,
    /// With which planted bug.
    pub mutant: Option<Mutant>,
}

impl Model for Checked {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        self.scope.beginnings(self.mutant)
    }
    fn actions(&self, w: &World, acts: &mut Vec<Act>) {
        action::possible(&self.scope, w, self.mutant, acts);
    }
    fn next_state(&self, w: &World, act: Act) -> Option<World> {
        action::happen(&self.scope, w, &act, self.mutant)
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::<Self>::always("EXCL: at most one site runs", |_, w| w.running() <= 1),
            Property::<Self>::always("EPOCH: terms strictly grow", |_, w| !w.log.term_fell),
            Property::<Self>::always("R3: no promise after a vote", |_, w| w.broken.is_none()),
            Property::<Self>::always("FENCE: no majority against a live deadline", |_, w| {
                !fenced_alive(w)
            }),
        ];
        if self.scope.on_ledger {
            all.push(Property::<Self>::always(
                "HIST: what is final is the same everywhere",
                |_, w| w.ledgers.as_ref().is_none_or(|c| c.broken.is_none()),
            ));
        }
        if self.scope.live && self.mutant.is_none() {
            all.push(Property::<Self>::always("LIVE: it finds a holder again", |m, w| {
                w.digest() % HEAL_ONE_OF != 0 || heal::finds_a_holder(&m.scope, w)
            }));
        }
        if self.mutant.is_none() {
            all.extend(self.scope.sometimes.iter().map(|s| sometimes(*s)));
        }
        all
    }
}

/// A majority of the newest voters has fenced (by time) a session whose deadline has not come.
fn fenced_alive(w: &World) -> bool {
    let voters = w.log.newest().configuration().voter_ids();
    w.members.iter().filter(|m| m.up).any(|m| {
        let Some(s) = &m.site else { return false };
        let Some(session) = s.holder.session() else { return false };
        let target = FenceTarget::Session(session);
        let by_time = w.votes.iter().filter(|(_, t, device)| *t == target && !device);
        let who: Vec<_> = by_time.map(|(v, ..)| *v).collect();
        quorum::has_majority(&voters, &who)
            && s.holder.deadline_d().is_some_and(|d| holder(m.clock) < d)
    })
}

macro_rules! sometimes_each {
    ($sign:expr, $($variant:ident),+) => {
        match $sign {
            $(Sign::$variant => Property::<Checked>::sometimes(
                Sign::$variant.words(),
                |_, w| w.has(Sign::$variant),
            ),)+
        }
    };
}

/// A function pointer cannot carry the sign with it, so each has its own.
fn sometimes(sign: Sign) -> Property<Checked> {
    sometimes_each!(
        sign,
        GrantedAfterLapse,
        RanUntilJustBefore,
        QuarantineHeldAVoteBack,
        GuardStoppedWhatWasFrozen,
        RefusedByDocket,
        HandedOver,
        TakenBack,
        ReleasedOnTakeBack,
        SessionRolled,
        FencedByAMinority,
        GrantedOnProof,
        PromiseGrew,
        VotersChangedTwice,
        DeadlineHeldByNewerConfiguration,
        NodeRanByItself,
        OldDiskRefused,
        Readmitted,
        WonBack,
        LedByTwo
    )
}

/// In which order states are explored; which are reached is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Search {
    /// Nearest first: the shortest story of what is broken. All that wait are in memory.
    Breadth,
    /// One path after the other: of states that were seen only a fingerprint of 64 bits is kept.
    Depth,
}

/// How far a scope is explored.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// In which order.
    pub search: Search,
    /// Threads.
    pub threads: usize,
    /// Time after which it counts as not complete.
    pub limit: Duration,
    /// So many generated states are enough, complete or not.
    pub enough: Option<NonZeroUsize>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which scope.
    pub scope: &'static str,
    /// States generated.
    pub generated: usize,
    /// Of them different.
    pub unique: usize,
    /// Longest path without a detour.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Properties that held.
    pub held: usize,
    /// Those that did not, with a story for those that were broken.
    pub failed: Vec<(String, String)>,
    /// Whether there was more, and the states generated were enough.
    pub enough: bool,
}

impl Report {
    /// One line.
    pub fn line(&self) -> String {
        let verdict = if self.failed.is_empty() {
            let so_far = if self.enough { " so far; there is more" } else { "" };
            format!("{} properties hold{so_far}", self.held)
        } else {
            let names: Vec<&str> = self.failed.iter().map(|(n, _)| n.as_str()).collect();
            format!("BROKEN: {}", names.join("; "))
        };
        format!(
            "{:<17} {:>11} generated {:>10} unique {:>4} deep {:>7.1} s  {verdict}",
            self.scope,
            self.generated,
            self.unique,
            self.depth,
            self.took.as_secs_f64()
        )
    }
}

/// Explores one scope completely, or until it is broken.
pub fn run(scope: &Scope, mutant: Option<Mutant>, effort: Effort) -> Report {
    explore(scope.name, Checked { scope: scope.clone(), mutant }, effort, story::tell)
}

/// Makes a story of a path.
pub type Tell<M> = fn(&[(<M as Model>::State, Option<<M as Model>::Action>)]) -> String;

/// Explores a model completely, or until it is broken; the last makes a story of a path.
pub fn explore<M>(name: &'static str, model: M, effort: Effort, tell: Tell<M>) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let mut builder = model
        .checker()
        .threads(effort.threads)
        .timeout(effort.limit)
        .finish_when(HasDiscoveries::AnyFailures);
    if let Some(enough) = effort.enough {
        builder = builder.target_state_count(enough.get());
    }
    let mut report = match effort.search {
        Search::Breadth => judge(name, &builder.spawn_bfs().join(), tell),
        Search::Depth => judge(name, &builder.spawn_dfs().join(), tell),
    };
    report.took = begun.elapsed();
    if effort.enough.is_some_and(|enough| report.generated >= enough.get()) {
        report.enough = true;
        report.failed.retain(|(_, story)| !story.is_empty()); // what was not seen yet may come
    }
    if report.took >= effort.limit {
        report.failed.push((format!("not complete within {:?}", effort.limit), String::new()));
    }
    report
}

fn judge<M>(name: &'static str, checker: &impl Checker<M>, tell: Tell<M>) -> Report
where
    M: Model,
    M::State: Clone + Debug + Hash + PartialEq,
    M::Action: Clone + Debug + PartialEq,
{
    let discoveries = checker.discoveries();
    let (mut failed, mut held) = (Vec::new(), 0);
    for p in checker.model().properties() {
        let found = discoveries.get(p.name);
        match (&p.expectation, found) {
            (stateright::Expectation::Sometimes, None) => {
                failed.push((format!("never seen, {}", p.name), String::new()));
            }
            (stateright::Expectation::Sometimes, Some(_)) | (_, None) => held += 1,
            (_, Some(path)) => {
                failed.push((p.name.to_owned(), tell(&path.clone().into_vec())));
            }
        }
    }
    Report {
        scope: name,
        generated: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: Duration::ZERO,
        held,
        failed,
        enough: false,
    }
}
