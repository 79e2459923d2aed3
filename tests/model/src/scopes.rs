//! The scopes, small and large.

use tierce_ticket::entry::Regrant;

use crate::check::{self, Effort, Report};
use crate::ledger;
use crate::mutant::Mutant;
use crate::scope::{FIRST_ENTRIES, Fault, Rates, Scope, Step};
use crate::world::Sign;

/// A scope of either half.
#[derive(Clone, Debug)]
pub enum AnyScope {
    /// Promises, holders and dockets over decisions that are final at once.
    Tickets(Scope),
    /// The ledger.
    Ledger(ledger::scope::Scope),
}

impl AnyScope {
    /// All of both halves.
    pub fn all(large: bool) -> Vec<Self> {
        let (tickets, ledgers) = if large {
            (self::large(), ledger::scope::large())
        } else {
            (small(), ledger::scope::small())
        };
        let tickets = tickets.into_iter().map(AnyScope::Tickets);
        tickets.chain(ledgers.into_iter().map(AnyScope::Ledger)).collect()
    }
    /// The scope of this name, in its small size.
    pub fn named(name: &str) -> Option<Self> {
        Self::all(false).into_iter().find(|s| s.name() == name)
    }
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            AnyScope::Tickets(s) => s.name,
            AnyScope::Ledger(s) => s.name,
        }
    }
    /// Explores it completely, or until it is broken.
    pub fn run(&self, mutant: Option<Mutant>, effort: Effort) -> Report {
        match self {
            AnyScope::Tickets(s) => check::run(s, mutant, effort),
            AnyScope::Ledger(s) => ledger::check::run(s, mutant, effort),
        }
    }
}

/// The same with more of everything: clocks, faults, decisions. For hours, not for every run.
pub fn large() -> Vec<Scope> {
    let more = |s: Scope| Scope {
        rates: Rates::All,
        max_log: s.max_log + 2,
        late: true,
        both_lossy: true,
        answers_travel: true,
        electable: if s.on_ledger { &[0, 1, 2] } else { &[] },
        budget: if s.on_ledger { &LEDGER_FAULTS } else { s.budget },
        live: false, // it is what the small sizes show, and costs most of the time here
        ..s
    };
    small().into_iter().map(more).collect()
}

/// What goes wrong in the large sizes of scopes with real ledgers.
const LEDGER_FAULTS: [(Fault, u8); 3] =
    [(Fault::Elect, 2), (Fault::Crash, 1), (Fault::Handover, 1)];

/// Each small enough for every run.
pub fn small() -> Vec<Scope> {
    let core = Scope { rates: Rates::Worst, ..Scope::CORE };
    let mut all = lapses(&core);
    all.push(called_off());
    all.extend(restarts(&core));
    all.extend(decisions(&core));
    all.extend(members(&core));
    all.extend(on_ledger(&core));
    all
}

/// Renewals, lapses, and views of the log.
fn lapses(core: &Scope) -> Vec<Scope> {
    vec![
        Scope { late: true, rates: Rates::All, max_log: FIRST_ENTRIES + 2, ..core.clone() },
        Scope {
            name: "network",
            words: "answers travel by themselves, renewals arrive twice, any order",
            late: true,
            answers_travel: true,
            duplicates: true,
            ..core.clone()
        },
        Scope {
            name: "both-ways",
            words: "both sites' networks lose; a minority fences a session that lives",
            both_lossy: true,
            sometimes: &[Sign::GrantedAfterLapse, Sign::SessionRolled, Sign::FencedByAMinority],
            ..core.clone()
        },
        Scope {
            name: "old-views",
            words: "members lag, and decide on what they know",
            lag: &[0, 2],
            budget: &[(Fault::Stale, 1)],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::GrantedAfterLapse, Sign::RefusedByDocket],
            ..core.clone()
        },
        Scope {
            name: "pause",
            words: "an agent frozen for any time; B of one unit; only the guard acts",
            promise: 9,
            stop_budget: 1,
            budget: &[(Fault::Pause, 2)],
            hit: &[0],
            rates: Rates::Extremes,
            sometimes: &[Sign::GrantedAfterLapse, Sign::GuardStoppedWhatWasFrozen],
            ..core.clone()
        },
    ]
}

/// Processes that end and begin again.
fn restarts(core: &Scope) -> Vec<Scope> {
    vec![
        Scope {
            name: "restart",
            words: "voters crash, forget what they promised and come back from snapshot or log",
            budget: &[(Fault::Crash, 1)],
            hit: &[1, 2],
            replays: true,
            sometimes: &[Sign::GrantedAfterLapse, Sign::QuarantineHeldAVoteBack],
            ..core.clone()
        },
        Scope {
            name: "coordinator",
            words: "another node of the site takes over: a session supersedes the last",
            budget: &[(Fault::Crash, 1)],
            hit: &[0],
            replays: true,
            rates: Rates::Extremes,
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::GrantedAfterLapse, Sign::SessionRolled],
            ..core.clone()
        },
        Scope {
            name: "delegation",
            words: "a second node pulls the time left and counts it by its own clock",
            node: true,
            budget: &[(Fault::Crash, 1)],
            hit: &[0],
            rates: Rates::SlowNode,
            sometimes: &[Sign::GrantedAfterLapse, Sign::NodeRanByItself],
            ..core.clone()
        },
    ]
}

/// What operators decide.
fn decisions(core: &Scope) -> Vec<Scope> {
    vec![
        Scope {
            name: "planned-move",
            words: "handover, release and grant in one entry, lapse on the way",
            budget: &[(Fault::Handover, 1)],
            lag: &[0],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::GrantedAfterLapse, Sign::HandedOver],
            ..core.clone()
        },
        Scope {
            name: "take-back",
            words: "one ticket of a live session is taken back; voters name it as they learn of it",
            budget: &[(Fault::TakeBack, 1)],
            lag: &[2],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::TakenBack, Sign::ReleasedOnTakeBack],
            ..core.clone()
        },
        Scope {
            name: "taken-unseen",
            words: "a ticket is taken back and granted again before its site knows of either",
            budget: &[(Fault::TakeBack, 1)],
            lag: &[0],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::TakenBack],
            live: false, // the operator's grant is not in the good schedule
            ..core.clone()
        },
        Scope {
            name: "timing",
            words: "T is lowered; a restarted voter waits out the largest that it ever promised",
            promise: 6,
            other_promise: 3,
            budget: &[(Fault::Timing, 1), (Fault::Crash, 1)],
            hit: &[1],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::GrantedAfterLapse, Sign::QuarantineHeldAVoteBack],
            ..core.clone()
        },
        Scope {
            name: "longer-t",
            words: "T is raised while leases of the old T run, and some do not know yet",
            other_promise: 9,
            budget: &[(Fault::Timing, 1)],
            lag: &[0, 2],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::GrantedAfterLapse, Sign::PromiseGrew],
            ..core.clone()
        },
        Scope {
            name: "device-proof",
            words: "regrant = fenced: nodes powered off, proof instead of the timer",
            regrant: Regrant::Fenced,
            budget: &[(Fault::PowerOff, 1)],
            hit: &[0],
            live: false, // without a device's word it waits for an operator's
            sometimes: &[Sign::GrantedOnProof],
            max_log: FIRST_ENTRIES + 2,
            ..core.clone()
        },
    ]
}

/// Disks lost, and voters changed.
fn members(core: &Scope) -> Vec<Scope> {
    vec![
        Scope {
            name: "disks",
            words: "a voter's disk wiped, or restored from an old copy; back under a new number",
            spare: 1,
            budget: &[(Fault::Wipe, 1), (Fault::OldDisk, 1)],
            hit: &[2],
            plan: &[Step::Remove(3), Step::Add(4)],
            plan_after_wipe: true,
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::GrantedAfterLapse, Sign::OldDiskRefused, Sign::Readmitted],
            live: false, // with the old disk refused too, a majority may be gone for good
            ..core.clone()
        },
        Scope {
            name: "voters",
            words: "3 voters, 4, then 3 others: each step final at a bare majority, the rest lag",
            spare: 1,
            plan: &[Step::Add(4), Step::Remove(2)],
            lag: &[0],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::VotersChangedTwice, Sign::DeadlineHeldByNewerConfiguration],
            live: false, // the second site may be left without a vote
            ..core.clone()
        },
        Scope {
            name: "five-voters",
            words: "3 voters, 4, then 5, at bare majorities",
            spare: 2,
            plan: &[Step::Add(4), Step::Add(5)],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::VotersChangedTwice, Sign::GrantedAfterLapse],
            live: false,
            ..core.clone()
        },
    ]
}

/// With each member's own ledger in place of one log that is final at once. Few changes of leader
/// and crashes (more in the large sizes); `max_log` bounds the decisions, first entries of ballots among them.
fn on_ledger(core: &Scope) -> Vec<Scope> {
    let core = Scope {
        on_ledger: true,
        hit: &[2],
        replays: true,
        live: false, // with no second election left there may be no leader
        ..core.clone()
    };
    vec![
        Scope {
            name: "lapse-on-ledger",
            electable: &[1],
            words: "real ledgers: lapse, expiry and grant while another leader comes",
            budget: &[(Fault::Elect, 1)],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::GrantedAfterLapse, Sign::LedByTwo],
            ..core.clone()
        },
        Scope {
            name: "restart-on-ledger",
            words: "real ledgers: the leader restarts, and its docket with what its journal knows",
            budget: &[(Fault::Crash, 1)],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::GrantedAfterLapse, Sign::SessionRolled],
            ..core.clone()
        },
        Scope {
            name: "crash-on-ledger",
            electable: &[1],
            words: "real ledgers: the leader restarts, and another leader comes before or after",
            budget: &[(Fault::Elect, 1), (Fault::Crash, 1)],
            max_log: FIRST_ENTRIES + 2,
            sometimes: &[Sign::GrantedAfterLapse, Sign::LedByTwo],
            ..core.clone()
        },
        Scope {
            name: "planned-move-on-ledger",
            electable: &[1],
            words: "real ledgers: handover, release and grant while another leader comes",
            budget: &[(Fault::Elect, 1), (Fault::Handover, 1)],
            max_log: FIRST_ENTRIES + 3,
            sometimes: &[Sign::HandedOver, Sign::LedByTwo],
            ..core
        },
    ]
}

/// What the model once found: the holder ran on under a term whose release was still on its way.
fn called_off() -> Scope {
    Scope {
        name: "called-off",
        words: "a handover is called off while the holder's release is on its way",
        budget: &[(Fault::Handover, 1), (Fault::Cancel, 1)],
        rates: Rates::Worst,
        lag: &[0],
        max_log: FIRST_ENTRIES + 4,
        sometimes: &[Sign::HandedOver],
        ..Scope::CORE
    }
}
