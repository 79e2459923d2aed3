//! Random schedules over three to five ledgers and those that join: messages are lost, doubled,
//! reordered and delayed, journals are synced late, processes crash and lose what was not synced,
//! networks part, members come and go. The oracle of the rig looks after every event. Then
//! everything is healed, and a decision must be made within a bounded time.
//!
//! A failing schedule is shrunk, printed, and kept in `ledger_schedule.proptest-regressions`; from
//! then on `cargo test -p tierce-ticket --test ledger_schedule` replays it first. `PROPTEST_CASES`
//! sets how many are tried (default 300).

mod ledger_rig;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use tierce_ticket::configuration::Configuration;
use tierce_ticket::ids::{LogIndex, MemberId};

use ledger_rig::{Cluster, ELECTION, info};

/// Virtual time in which a healed cluster must make a decision: many elections long.
const LIVELY_WITHIN: Duration = Duration::from_secs(10);
/// Events of a schedule, on average.
const EVENTS: usize = 400;

/// One event. Numbers pick among what is there, so that every number always means something.
#[derive(Clone, Debug)]
enum Act {
    Advance(u64),
    Deliver {
        place: usize,
        count: usize,
    },
    DeliverAll,
    Drop(usize),
    Double(usize),
    Sync {
        node: usize,
        records: usize,
    },
    SyncAll,
    Crash {
        node: usize,
        keep: usize,
    },
    Start(usize),
    Propose {
        anywhere: Option<usize>,
    },
    Read {
        anywhere: Option<usize>,
    },
    Change(Change, usize),
    Compact(usize),
    Checkpoint(usize),
    /// Compacts, begins a fresh journal and restarts: the log's tail is gone, laggards need snapshots.
    Forget(usize),
    /// Some time without new faults; what is cut or down stays so.
    Run(u64),
    Cut(u32),
    CutOneWay(usize, usize),
    Heal,
    Transfer(usize),
}

#[derive(Clone, Copy, Debug)]
enum Change {
    AddVoter,
    AddLearner,
    Promote,
    Remove,
    Digest,
}

fn act() -> impl Strategy<Value = Act> {
    let anywhere = || prop_oneof![4 => Just(None), 1 => (0usize..8).prop_map(Some)];
    let change = prop_oneof![
        1 => Just(Change::AddVoter),
        1 => Just(Change::AddLearner),
        2 => Just(Change::Promote),
        2 => Just(Change::Remove),
        1 => Just(Change::Digest)
    ];
    prop_oneof![
        20 => (1u64..60).prop_map(Act::Advance),
        30 => (any::<usize>(), 1usize..12).prop_map(|(place, count)| Act::Deliver { place, count }),
        8 => Just(Act::DeliverAll),
        4 => any::<usize>().prop_map(Act::Drop),
        3 => any::<usize>().prop_map(Act::Double),
        12 => (0usize..8, 1usize..4).prop_map(|(node, records)| Act::Sync { node, records }),
        10 => Just(Act::SyncAll),
        2 => (0usize..8, 0usize..4).prop_map(|(node, keep)| Act::Crash { node, keep }),
        3 => (0usize..8).prop_map(Act::Start),
        8 => anywhere().prop_map(|anywhere| Act::Propose { anywhere }),
        4 => anywhere().prop_map(|anywhere| Act::Read { anywhere }),
        4 => (change, 0usize..8).prop_map(|(c, which)| Act::Change(c, which)),
        2 => (0usize..8).prop_map(Act::Compact),
        1 => (0usize..8).prop_map(Act::Checkpoint),
        2 => (0usize..8).prop_map(Act::Forget),
        8 => (5u64..250).prop_map(Act::Run),
        1 => any::<u32>().prop_map(Act::Cut),
        1 => (0usize..8, 0usize..8).prop_map(|(a, b)| Act::CutOneWay(a, b)),
        3 => Just(Act::Heal),
        1 => (0usize..8).prop_map(Act::Transfer),
    ]
}

/// How often each thing really happened, over all cases: a run that exercised nothing is no proof.
static COUNTED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn count(what: &'static str, times: usize) {
    let mut counted = COUNTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *counted.entry(what).or_default() += times as u64;
}

fn pick(c: &Cluster, node: usize) -> MemberId {
    let ids = c.ids();
    ids[node % ids.len()]
}

fn edit(change: Change, which: usize, next: &mut Configuration) {
    let id = next.next_member;
    let room = next.members().count() < 6;
    match change {
        Change::AddVoter if room => {
            next.voters.insert(id, info(id));
            next.next_member = MemberId(id.0 + 1);
        }
        Change::AddLearner if room => {
            next.learners.insert(id, info(id));
            next.next_member = MemberId(id.0 + 1);
        }
        Change::Promote => next.voters.extend(next.learners.pop_first()),
        Change::Remove => {
            let id = next.voters.keys().nth(which % next.voters.len()).copied();
            next.voters.retain(|v, _| Some(*v) != id);
        }
        Change::AddVoter | Change::AddLearner | Change::Digest => {
            next.digest[0] = next.digest[0].wrapping_add(1);
        }
    }
}

fn perform(c: &mut Cluster, act: &Act, step: usize) {
    match *act {
        Act::Advance(ms) => c.advance(Duration::from_millis(ms)),
        Act::Deliver { place, count: n } => {
            for _ in 0..n.min(c.wire.len()) {
                let place = place % c.wire.len();
                count("reordered", usize::from(place > 0));
                c.deliver(place);
            }
        }
        Act::DeliverAll => (0..c.wire.len()).for_each(|_| c.deliver(0)),
        Act::Drop(place) if !c.wire.is_empty() => {
            c.wire.remove(place % c.wire.len());
            count("dropped", 1);
        }
        Act::Double(place) if !c.wire.is_empty() => {
            let envelope = c.wire[place % c.wire.len()].clone();
            c.wire.push(envelope);
            count("doubled", 1);
        }
        Act::Drop(_) | Act::Double(_) => {}
        Act::Sync { node, records } => c.sync(pick(c, node), records),
        Act::SyncAll => c.sync_all(),
        Act::Crash { node, keep } => {
            let id = pick(c, node);
            count("crashed", usize::from(c.up(id)));
            c.crash(id, keep);
        }
        Act::Start(node) => c.start(pick(c, node)),
        Act::Propose { anywhere } => {
            let id = anywhere.map(|n| pick(c, n)).or(c.leader());
            let taken = id.and_then(|id| c.propose(id)).is_some();
            count("proposed", usize::from(taken));
        }
        Act::Read { anywhere } => {
            let id = anywhere.map(|n| pick(c, n)).or(c.leader());
            let asked = id.is_some_and(|id| c.read(id, step as u64));
            count("reads asked", usize::from(asked));
        }
        Act::Change(change, which) => {
            if let Some(id) = c.leader() {
                let taken = c.change(id, |next| edit(change, which, next)).is_ok();
                let what = match change {
                    Change::AddVoter => "voter added",
                    Change::AddLearner => "learner added",
                    Change::Promote => "learner promoted",
                    Change::Remove => "voter removed",
                    Change::Digest => "other change",
                };
                count(what, usize::from(taken));
            }
        }
        Act::Compact(node) => c.compact(pick(c, node)),
        Act::Checkpoint(node) => c.checkpoint(pick(c, node)),
        Act::Forget(node) => {
            let id = pick(c, node);
            c.compact(id);
            c.checkpoint(id);
            c.crash(id, 0);
            c.start(id);
        }
        Act::Run(ms) => c.run(Duration::from_millis(ms)),
        Act::Cut(mask) => {
            let (a, b) = c.ids().into_iter().partition::<Vec<_>, _>(|m| mask >> m.0 & 1 == 1);
            c.cut_between(&a, &b);
            count("cut", 1);
        }
        Act::CutOneWay(a, b) => c.cut_one_way(pick(c, a), pick(c, b)),
        Act::Heal => c.heal(),
        Act::Transfer(node) => {
            let to = pick(c, node);
            if let Some(id) = c.leader() {
                c.at(id, |l, now| l.transfer_to(now, to));
                count("transfer asked", 1);
            }
        }
    }
}

/// Everything is healed: a decision is made and reaches every member within a bounded time.
fn must_be_lively(c: &mut Cluster) {
    c.heal();
    c.ids().into_iter().for_each(|id| c.start(id));
    let begin = c.now;
    let mut goal: Option<LogIndex> = None;
    while c.now - begin < LIVELY_WITHIN {
        c.run(Duration::from_millis(20));
        let Some(leader) = c.leader() else { continue };
        let goal = match goal {
            Some(goal) => goal,
            None => match c.propose(leader) {
                Some(index) => *goal.insert(index),
                None => continue,
            },
        };
        let members = c.ledger(leader).committed_configuration().0.members();
        let members: Vec<_> = members.map(|(m, _)| m).collect();
        if members.iter().all(|m| c.ledger(*m).commit() >= goal) {
            return;
        }
    }
    let show = c.nodes.keys().map(|id| {
        let l = c.ledger(*id);
        let voters: Vec<_> = l.configuration().0.voters.keys().map(|v| v.0).collect();
        format!(
            "\n  {id}: {:?} ballot {} leader {:?} commit {} last {} voters {voters:?}",
            l.role(),
            l.ballot(),
            l.leader(),
            l.commit(),
            l.last_index()
        )
    });
    panic!(
        "no decision within {LIVELY_WITHIN:?} after all was healed:{}",
        show.collect::<String>()
    );
}

fn play(c: &mut Cluster, warm: bool, acts: &[Act]) {
    if warm {
        c.run(ELECTION.1 * 10);
        assert!(c.leader().is_some(), "a cluster without faults founds itself");
    }
    for (step, act) in acts.iter().enumerate() {
        perform(c, act, step);
        c.trace.clear();
    }
    count("snapshots installed", c.oracle.installed);
    count("entries truncated", c.oracle.truncated);
    count("elections", c.oracle.elections());
    count("final entries", c.oracle.final_entries());
    count("reads answered", c.nodes.values().map(|n| n.reads_ready.len()).sum());
    must_be_lively(c);
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

fn schedule() -> impl Strategy<Value = (u32, u64, bool, Vec<Act>)> {
    let acts = prop::collection::vec(act(), 0..=2 * EVENTS);
    (3u32..=5, any::<u64>(), prop::bool::weighted(0.8), acts)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    })]
    fn schedules((voters, seed, warm, acts) in schedule()) {
        play(&mut Cluster::new(voters, seed), warm, &acts);
    }
}

#[test]
fn no_schedule_breaks_an_invariant_or_leaves_the_cluster_stuck() {
    schedules();
    let counted = COUNTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{counted:#?}");
    if cases() >= 100 {
        let idle: Vec<_> = counted.iter().filter(|(_, n)| **n < 20).collect();
        assert!(idle.is_empty(), "hardly ever happened: {idle:?}");
        assert!(counted.len() >= 18, "some kinds of event never happened: {counted:?}");
    }
}

/// The canary: with a driver that breaks the contract the oracle must find something.
#[test]
fn a_driver_that_sends_before_it_writes_is_caught() {
    let config = ProptestConfig {
        cases: 400,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let found =
        TestRunner::new_with_rng(config, rng).run(&schedule(), |(voters, seed, warm, acts)| {
            let mut c = Cluster::new(voters, seed);
            c.sends_before_it_writes = true;
            play(&mut c, warm, &acts);
            Ok(())
        });
    assert!(found.is_err(), "the oracle is blind");
}
