//! The properties of the ledger, and the run of one of its scopes.

use stateright::{Model, Property};

use super::action::{self, Act};
use super::past::{Breach, Sign};
use super::scope::Scope;
use super::state::Cluster;
use super::{heal, story};
use crate::check::{Effort, Report, explore};
use crate::mutant::Mutant;

/// Of so many states one is healed to see that a leader is found.
const HEAL_ONE_OF: u64 = 97;

/// A scope under the checker.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which.
    pub scope: Scope,
    /// With which planted bug.
    pub mutant: Option<Mutant>,
}

macro_rules! always_each {
    ($($variant:ident),+) => {
        vec![$(Property::<Checked>::always(
            Breach::$variant.words(),
            |_, c| c.broken != Some(Breach::$variant),
        ),)+]
    };
}

macro_rules! sometimes_each {
    ($sign:expr, $($variant:ident),+) => {
        match $sign {
            $(Sign::$variant => Property::<Checked>::sometimes(
                Sign::$variant.words(),
                |_, c| c.has(Sign::$variant),
            ),)+
        }
    };
}

/// A function pointer cannot carry the sign with it, so each has its own.
fn sometimes(sign: Sign) -> Property<Checked> {
    sometimes_each!(
        sign,
        SecondLeader,
        TwoLead,
        Overwritten,
        LostUnsynced,
        ReadAnswered,
        ReadFailed,
        Compacted,
        SnapshotInstalled,
        VotersChangedTwice,
        HeldByWait
    )
}

impl Model for Checked {
    type State = Cluster;
    type Action = Act;

    fn init_states(&self) -> Vec<Cluster> {
        vec![self.scope.begin()]
    }
    fn actions(&self, c: &Cluster, acts: &mut Vec<Act>) {
        action::possible(&self.scope, c, acts);
    }
    fn next_state(&self, c: &Cluster, act: Act) -> Option<Cluster> {
        action::happen(&self.scope, c, &act, self.mutant)
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let mut all =
            always_each!(History, TwoLeaders, Incomplete, Backward, OldRead, Alarm, NoReplay);
        if self.mutant.is_none() {
            all.push(Property::<Self>::always("LIVE: it finds a leader again", |m, c| {
                !c.digest().is_multiple_of(HEAL_ONE_OF) || heal::finds_a_leader(&m.scope, c)
            }));
            all.extend(self.scope.sometimes.iter().map(|s| sometimes(*s)));
        }
        all
    }
}

/// Explores one scope completely, or until it is broken.
pub fn run(scope: &Scope, mutant: Option<Mutant>, effort: Effort) -> Report {
    let model = Checked { scope: scope.clone(), mutant };
    explore(scope.name, model, effort, story::tell)
}
