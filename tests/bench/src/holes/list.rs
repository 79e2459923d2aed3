//! The scenarios in words, with what is done to each product.

use std::time::Duration;

use tierce_rig::booth;

use super::lab::{Ours, Theirs};
use super::{clocks, faults, messages, operators, restarts, writes};

/// What is done to ours, at this holder; what shows that it was done.
pub(crate) type Do = fn(&mut Ours, usize) -> anyhow::Result<String>;
/// What is done to booth; how long both of its sites held.
pub(crate) type DoPeer = fn(&mut Theirs) -> anyhow::Result<Duration>;

/// Which lab a scenario runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// T = 1 s.
    Usual,
    /// T = 10 s.
    Slow,
}

/// The peer's part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Done with these times.
    Do(fn(u64) -> booth::Options, DoPeer),
    /// It cannot be brought to it here, and why.
    Not(&'static str),
}

/// A scenario.
#[derive(Debug)]
pub(crate) struct Hole {
    /// Which hole it stands for.
    pub(crate) number: u8,
    /// Short, unique.
    pub(crate) name: &'static str,
    /// What happens.
    pub(crate) words: &'static str,
    /// What protects Tierce.
    pub(crate) guard: &'static str,
    pub(crate) pace: Pace,
    pub(crate) ours: Do,
    pub(crate) peer: Peer,
}

fn one_second(seed: u64) -> booth::Options {
    booth::Options::one_second(seed)
}

/// Long enough that a lease still runs when two members have been started again.
fn four_seconds(seed: u64) -> booth::Options {
    booth::Options {
        expire: Duration::from_secs(4),
        timeout: Duration::from_millis(200),
        ..one_second(seed)
    }
}

fn with_stranger(seed: u64) -> booth::Options {
    booth::Options { stranger: true, ..one_second(seed) }
}

/// A time that is no whole second, at all members but the first site.
fn unequal(seed: u64) -> booth::Options {
    let odd_timeout = Some((0, Duration::from_secs(1)));
    let timeout = Duration::from_millis(1_001);
    booth::Options { timeout, odd_timeout, ..booth::Options::ten_seconds(seed) }
}

fn waiting_by_default(seed: u64) -> booth::Options {
    booth::Options { defaults: "  acquire-after=10".to_owned(), ..one_second(seed) }
}

const NO_JOURNAL: &str =
    "it keeps no journal; its only write is the ticket's state, in the rows above";

/// All of them.
pub(crate) const HOLES: [Hole; 18] = [
    Hole {
        number: 1,
        name: "lost-updates",
        words: "the voters are told of a renewal and the holder is not, or the other way round; then \
                the holder is cut off",
        guard: "R12: a lease counts from the sending of the renewal, for a majority that answered; R1: \
                a voter counts from receipt",
        pace: Pace::Usual,
        ours: faults::lost_updates,
        peer: Peer::Do(one_second, faults::peer_lost_updates),
    },
    Hole {
        number: 2,
        name: "old-answers",
        words: "the holder is cut off, in one direction at ours; old answers are played to it again and \
                again; at ours, all datagrams also come twice and up to 200 ms late",
        guard: "R1, R12: an answer names the renewal that it answers; QUIC drops a packet that it has \
                seen",
        pace: Pace::Usual,
        ours: messages::old_answers,
        peer: Peer::Do(one_second, messages::peer_old_answers),
    },
    Hole {
        number: 3,
        name: "whole-seconds",
        words: "T = 10 s, all times whole seconds; the holder is cut off",
        guard: "I1: nanoseconds everywhere, and the holder's lease is shorter than the voters' by both \
                clocks' errors and the slack",
        pace: Pace::Slow,
        ours: clocks::cut_off,
        peer: Peer::Do(booth::Options::ten_seconds, clocks::peer_cut_off),
    },
    Hole {
        number: 4,
        name: "killed",
        words: "SIGKILL to the holder's daemon, the network is whole",
        guard: "L2: the guard stops dependents at D - W - B (R14)",
        pace: Pace::Usual,
        ours: faults::killed,
        peer: Peer::Do(one_second, faults::peer_killed),
    },
    Hole {
        number: 4,
        name: "frozen",
        words: "SIGSTOP to the holder's daemon for 1.6 leases",
        guard: "L2: the guard stops dependents at D - W - B (R14)",
        pace: Pace::Usual,
        ours: faults::frozen,
        peer: Peer::Do(one_second, faults::peer_frozen),
    },
    Hole {
        number: 5,
        name: "restart-in-minority",
        words: "the holder is cut off, and its daemon killed and started again",
        guard: "R12, R13: no lease outlives the process that has it; R17: what runs is adopted or stopped",
        pace: Pace::Usual,
        ours: faults::restarted,
        peer: Peer::Do(one_second, faults::peer_restarted),
    },
    Hole {
        number: 6,
        name: "stop-fails",
        words: "the holder is cut off, and what stops its service fails",
        guard: "R14, L2: the guard ends what still runs at D - W, whatever a stop has said",
        pace: Pace::Usual,
        ours: writes::stop_fails,
        peer: Peer::Do(one_second, writes::peer_write_fails),
    },
    Hole {
        number: 6,
        name: "stop-hangs",
        words: "what stops the service hangs: at ours with the holder cut off, at booth for 3 s a call \
                with the network whole",
        guard: "R14, L2: the guard ends what still runs at D - W; no action is waited for in the daemon's \
                loop",
        pace: Pace::Usual,
        ours: writes::stop_hangs,
        peer: Peer::Do(one_second, writes::peer_write_hangs),
    },
    Hole {
        number: 6,
        name: "disk-full",
        words: "the holder's disk is full when its next decision is to be written",
        guard: "R6: a failed write ends the member; L2 stops its dependents in time",
        pace: Pace::Usual,
        ours: writes::disk_full,
        peer: Peer::Not(NO_JOURNAL),
    },
    Hole {
        number: 6,
        name: "disk-hangs",
        words: "every write at the holder hangs, and cannot be interrupted",
        guard: "R15: no renewal without a journal write that succeeded lately; R14, L2",
        pace: Pace::Usual,
        ours: writes::disk_hangs,
        peer: Peer::Not(NO_JOURNAL),
    },
    Hole {
        number: 7,
        name: "grant-repeated",
        words: "the holder is cut off, both others were killed and started again; the ticket is granted \
                there, and again a moment later; at ours also taken back by force",
        guard: "R9: granted only when its last session has released it or is expired; R2: a voter that \
                was started again waits for T",
        pace: Pace::Usual,
        ours: operators::grant_repeated,
        peer: Peer::Do(four_seconds, operators::peer_grant_repeated),
    },
    Hole {
        number: 7,
        name: "client-leaves",
        words: "the same, granted once, by a client that is gone before the answer",
        guard: "R9, R2: nothing about a grant depends on who asked for it",
        pace: Pace::Usual,
        ours: operators::client_leaves,
        peer: Peer::Do(four_seconds, operators::peer_client_leaves),
    },
    Hole {
        number: 8,
        name: "forged",
        words: "a stranger on the network: booth gets one forged datagram; ours old packets with true \
                addresses, garbage, and a whole agent with another authority's certificate; then the \
                holder is cut off and he goes on",
        guard: "mutual TLS with the tenant's own authority; there is no mode without",
        pace: Pace::Usual,
        ours: messages::forged,
        peer: Peer::Do(with_stranger, messages::peer_forged),
    },
    Hole {
        number: 9,
        name: "unequal-files",
        words: "one site's file has other lease times than the others'; then the holder is cut off",
        guard: "the ledger's lease times count, and the largest promise is durable (R1); files are compared \
                by digest and a difference is said; times without a unit are refused",
        pace: Pace::Usual,
        ours: operators::unequal_files,
        peer: Peer::Do(unequal, operators::peer_unequal_files),
    },
    Hole {
        number: 10,
        name: "arbitrator-forgets",
        words: "the holder is cut off; during the takeover the arbitrator is killed and started again, \
                four times",
        guard: "R2, R3: votes are durable before anybody hears of them; R4: a voter that was started waits \
                for T",
        pace: Pace::Usual,
        ours: restarts::arbitrator_forgets,
        peer: Peer::Do(one_second, restarts::peer_arbitrator_forgets),
    },
    Hole {
        number: 11,
        name: "wall-clock",
        words: "the holder is cut off, its wall clock goes back by an hour, its daemon is killed and \
                started again",
        guard: "wall-clock time decides nothing: CLOCK_BOOTTIME at holders, CLOCK_MONOTONIC at voters",
        pace: Pace::Usual,
        ours: clocks::wall_clock,
        peer: Peer::Do(one_second, clocks::peer_wall_clock),
    },
    Hole {
        number: 12,
        name: "slow-stop",
        words: "a service takes 200 ms to stop; the holder is cut off (booth: acquire-after = 10 s, given \
                for all tickets)",
        guard: "R14: stopping begins a stop budget before the end; I2 refuses a budget that does not fit",
        pace: Pace::Usual,
        ours: writes::slow_stop,
        peer: Peer::Do(waiting_by_default, writes::peer_slow_stop),
    },
    Hole {
        number: 12,
        name: "slower-than-budget",
        words: "the same, but it takes 1.5 s, four times its budget",
        guard: "R14, L2: at D - W the guard ends what has not stopped",
        pace: Pace::Usual,
        ours: writes::slower_than_budget,
        peer: Peer::Do(waiting_by_default, writes::peer_slower_than_budget),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hole_has_a_scenario_and_every_scenario_a_name_of_its_own() {
        let numbers: std::collections::BTreeSet<u8> = HOLES.iter().map(|h| h.number).collect();
        assert_eq!(numbers, (1..=12).collect());
        let names: std::collections::BTreeSet<_> = HOLES.iter().map(|h| h.name).collect();
        assert_eq!(names.len(), HOLES.len());
    }
}
