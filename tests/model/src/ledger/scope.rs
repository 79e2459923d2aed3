//! Named scopes of the ledger, each small enough to be explored completely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::configuration::{Configuration, MemberInfo, Role};
use tierce_ticket::entry::{Entry, Payload};
use tierce_ticket::ids::{Ballot, ClusterId, ConfigIndex, Generation, LogIndex, MemberId, StoreId};
use tierce_ticket::ledger::{HardState, LedgerDurable, Snapshot};
use tierce_ticket::timing::Profile;

use super::past::{Final, Sign};
use super::state::Cluster;
use crate::scope::{Step, name};

/// Kinds of things that a scope allows a number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named as the actions are
pub enum Fault {
    /// The longest silence passes at a member: a follower campaigns, a leader steps down.
    Silence,
    Beat,
    Duplicate,
    Crash,
    Propose,
    Read,
    Compact,
}

impl Fault {
    /// How many kinds there are.
    pub const COUNT: usize = 7;
}

/// How a scope begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Founding: all have entry 1 alone.
    Founding,
    /// After a power cut of all: one leader has been, its first entry is final.
    Rested,
    /// Member 1 leads, all that it has is final.
    Led,
    /// The first two have only a snapshot; the third has an entry of a leader that it once was,
    /// where the others' is another.
    Behind,
}

/// One scope.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub words: &'static str,
    /// Members that are no voters at first.
    pub spare: u32,
    /// How it begins.
    pub begins: Beginning,
    /// Writes are durable in the step that asks for them. Where nobody crashes a slow write is no
    /// more than slow messages.
    pub syncs_at_once: bool,
    /// `PreVote` and its answer are messages of their own. Where not, a campaign asks and hears
    /// everybody in the step in which it begins: an answer changes nothing at the one asked, so an
    /// earlier one could only begin a campaign that could begin anyway, or one in vain.
    pub pre_votes_travel: bool,
    /// Signs of life and answers that say no more than a newer one on the same way are lost: what
    /// they do when they come late, the other scopes show.
    pub newest_only: bool,
    /// What may happen how often.
    pub budget: &'static [(Fault, u8)],
    /// Who may fall silent, crash and so on, as places; the others only take part. Members that
    /// stand alike at the beginning need not all do the same things.
    pub active: &'static [usize],
    /// Changes of voters, in order.
    pub plan: &'static [Step],
    /// What it must have seen.
    pub sometimes: &'static [Sign],
}

/// Each small enough for every run.
pub fn small() -> Vec<Scope> {
    vec![elections(), entries(), votes(), crash(), read(), snapshot(), voters(), fourth()]
}

/// The same with more of everything: for hours.
pub fn large() -> Vec<Scope> {
    let budget = |name: &str| -> &'static [(Fault, u8)] {
        use Fault::{Beat, Compact, Crash, Duplicate, Propose, Read, Silence};
        match name {
            "ledger-elections" => &[(Silence, 5), (Propose, 2), (Beat, 2), (Duplicate, 2)],
            "ledger-entries" => &[(Silence, 4), (Propose, 3), (Beat, 1), (Duplicate, 2)],
            "ledger-votes" => &[(Silence, 4), (Crash, 3), (Propose, 1), (Beat, 1)],
            "ledger-crash" => &[(Silence, 4), (Crash, 3), (Propose, 2), (Beat, 1), (Duplicate, 1)],
            "ledger-read" => &[(Silence, 3), (Read, 3), (Propose, 2), (Beat, 2), (Duplicate, 2)],
            "ledger-snapshot" => {
                &[(Silence, 3), (Crash, 2), (Propose, 2), (Compact, 2), (Beat, 3), (Duplicate, 1)]
            }
            _ => &[(Silence, 4), (Propose, 1), (Beat, 4), (Crash, 1), (Duplicate, 1)],
        }
    };
    let more = |s: Scope| Scope { budget: budget(s.name), active: &[0, 1, 2, 3], ..s };
    small().into_iter().map(more).collect()
}

fn elections() -> Scope {
    Scope {
        name: "ledger-elections",
        words: "from the founding on: leaders come and go, every message by itself",
        spare: 0,
        begins: Beginning::Founding,
        syncs_at_once: true,
        pre_votes_travel: true,
        newest_only: false,
        budget: &[(Fault::Silence, 3)],
        active: &[0, 1],
        plan: &[],
        sometimes: &[Sign::SecondLeader, Sign::Overwritten, Sign::TwoLead],
    }
}

fn entries() -> Scope {
    Scope {
        name: "ledger-entries",
        words: "leaders propose, and others replace what was not final",
        begins: Beginning::Led,
        pre_votes_travel: false,
        budget: &[(Fault::Silence, 2), (Fault::Propose, 1)],
        ..elections()
    }
}

fn votes() -> Scope {
    Scope {
        name: "ledger-votes",
        words: "after a power cut of all: journals lag, and a voter crashes between two candidates",
        begins: Beginning::Rested,
        syncs_at_once: false,
        pre_votes_travel: false,
        budget: &[(Fault::Silence, 2), (Fault::Crash, 1)],
        active: &[0, 1, 2],
        sometimes: &[Sign::SecondLeader, Sign::Overwritten, Sign::LostUnsynced],
        ..elections()
    }
}

fn crash() -> Scope {
    Scope {
        name: "ledger-crash",
        words: "journals lag; leader and followers crash and lose what was not durable",
        begins: Beginning::Led,
        syncs_at_once: false,
        pre_votes_travel: false,
        budget: &[(Fault::Silence, 1), (Fault::Crash, 2), (Fault::Propose, 1)],
        active: &[0, 1],
        sometimes: &[Sign::SecondLeader, Sign::Overwritten, Sign::LostUnsynced],
        ..elections()
    }
}

fn read() -> Scope {
    Scope {
        name: "ledger-read",
        words: "reads at leaders, also at one that another has replaced",
        begins: Beginning::Led,
        pre_votes_travel: false,
        budget: &[(Fault::Silence, 1), (Fault::Read, 2)],
        active: &[0, 1],
        sometimes: &[Sign::SecondLeader, Sign::TwoLead, Sign::ReadAnswered, Sign::ReadFailed],
        ..elections()
    }
}

fn snapshot() -> Scope {
    Scope {
        name: "ledger-snapshot",
        words: "one that is far behind gets the snapshot in parts, while more is compacted",
        begins: Beginning::Behind,
        pre_votes_travel: false,
        budget: &[(Fault::Silence, 1), (Fault::Compact, 1), (Fault::Crash, 1)],
        active: &[0, 1, 2],
        sometimes: &[Sign::SnapshotInstalled, Sign::Compacted],
        ..elections()
    }
}

fn voters() -> Scope {
    Scope {
        name: "ledger-voters",
        words: "3 voters, 4, then 3 without the leader, which hands over; with R11's wait",
        spare: 1,
        begins: Beginning::Led,
        pre_votes_travel: false,
        newest_only: true,
        budget: &[],
        plan: &[Step::Add(4), Step::Remove(1)],
        sometimes: &[Sign::VotersChangedTwice, Sign::SecondLeader, Sign::HeldByWait],
        ..elections()
    }
}

fn fourth() -> Scope {
    Scope {
        name: "ledger-fourth",
        words: "a fourth voter comes, and another leads before that is final",
        budget: &[(Fault::Silence, 1)],
        plan: &[Step::Add(4)],
        sometimes: &[Sign::SecondLeader, Sign::Overwritten, Sign::TwoLead],
        ..voters()
    }
}

impl Scope {
    /// Nothing goes wrong, for want of a budget.
    pub const EMPTY: Self = Self {
        name: "",
        words: "",
        spare: 0,
        begins: Beginning::Founding,
        syncs_at_once: true,
        pre_votes_travel: false,
        newest_only: false,
        budget: &[],
        active: &[],
        plan: &[],
        sometimes: &[],
    };

    /// The scope of this name, in its small size.
    pub fn named(name: &str) -> Option<Self> {
        small().into_iter().find(|s| s.name == name)
    }

    /// What a configuration says of a member.
    pub fn info(id: MemberId) -> MemberInfo {
        MemberInfo {
            name: name(id.0 as usize - 1),
            role: Role::Arbitrator,
            store: StoreId([id.0 as u8; 16]),
            addresses: vec![],
        }
    }

    fn founding() -> Configuration {
        Configuration {
            cluster: ClusterId([1; 16]),
            generation: Generation(0),
            voters: (1..=3).map(|id| (MemberId(id), Self::info(MemberId(id)))).collect(),
            learners: BTreeMap::new(),
            next_member: MemberId(4),
            timing: Profile::Lan.timing(),
            digest: [0; 16],
        }
    }

    fn budgets(&self) -> [u8; Fault::COUNT] {
        let mut all = [0; Fault::COUNT];
        for (fault, times) in self.budget {
            all[*fault as usize] = *times;
        }
        all
    }

    /// The state to begin with.
    pub fn begin(&self) -> Cluster {
        let durable = LedgerDurable::founding(Self::founding(), 0);
        let entry = |index, ballot| Entry {
            index: LogIndex(index),
            ballot: Ballot(ballot),
            wall_ms: 0,
            payload: Payload::Noop,
        };
        let hard = |ballot, vote, commit| HardState {
            ballot: Ballot(ballot),
            voted_for: Some(MemberId(vote)),
            commit: LogIndex(commit),
        };
        let mut all = vec![entry(2, 1)];
        let rested = LedgerDurable {
            hard: hard(1, 1, 2),
            entries: [durable.entries.clone(), all.clone()].concat(),
            ..LedgerDurable::default()
        };
        let mut disks = match self.begins {
            Beginning::Founding => {
                all.clear();
                vec![durable.clone(); 3]
            }
            Beginning::Rested | Beginning::Led => vec![rested; 3],
            Beginning::Behind => {
                all.extend([entry(3, 3), entry(4, 3)]);
                let left = LedgerDurable {
                    hard: hard(2, 3, 2),
                    entries: [rested.entries, vec![entry(3, 2)]].concat(),
                    ..LedgerDurable::default()
                };
                vec![LedgerDurable::default(), LedgerDurable::default(), left]
            }
        };
        let finals: Vec<Final> = durable.entries.iter().chain(&all).fold(Vec::new(), |mut f, e| {
            f.push(Final::after(f.last(), e, e.ballot));
            f
        });
        if let (Beginning::Behind, Some(last)) = (self.begins, finals.last()) {
            let snapshot = Snapshot {
                last_index: LogIndex(4),
                last_ballot: Ballot(3),
                configuration: Self::founding(),
                config_index: ConfigIndex(1),
                state: last.state(),
            };
            for d in &mut disks[..2] {
                (d.hard, d.snapshot) = (hard(3, 1, 4), Some(snapshot.clone()));
            }
        }
        disks.extend((0..self.spare).map(|_| LedgerDurable::default()));
        let mut c = Cluster::new(disks, finals);
        for (ballot, leader) in all.iter().map(|e| (e.ballot, MemberId(1))) {
            Arc::make_mut(&mut c.past).leaders.insert(ballot, leader);
        }
        if self.begins == Beginning::Led {
            c = super::heal::led_by_first(self, c);
        }
        c.budget = self.budgets();
        c
    }
}

/// R11's wait in this model.
pub const CHANGE_WAIT: Duration = Duration::from_secs(10);
