//! One seed: a world, a plan, and afterwards life must go on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::docket::{Docket, FreeBecause, Holding};
use tierce_ticket::entry::{Mode, Policy, Proof, Regrant};
use tierce_ticket::ids::TicketId;
use tierce_ticket::member::{Member, Standing};
use tierce_ticket::replay::Event;

use crate::disk::Health;
use crate::node::Stopping;
use crate::plan::{Conductor, Plan, Setting, TICKETS};
use crate::story::{name, policy, ticket};
use crate::world::note;
use crate::{MS, World};

/// What a run has shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Faults done, by kind: (all, while a ticket was held).
    pub faults: BTreeMap<&'static str, (u64, u64)>,
    /// Virtual time, nanoseconds.
    pub virtual_ns: u64,
    /// Steps of members.
    pub steps: u64,
    /// Grants of tickets.
    pub grants: u64,
    /// Decisions acknowledged to clients, none of them lost.
    pub acknowledged: u64,
}

thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within a run, whose panics are caught and reported with their seed.
pub fn expected() -> bool {
    WITHIN.get()
}

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The broken invariant, in words.
    pub what: String,
    /// Virtual time, nanoseconds.
    pub at_ns: u64,
    /// The log, when it was kept.
    pub log: String,
}

/// Runs a plan; the same seed and plan give the same run.
pub fn run(seed: u64, plan: &Plan, logging: bool) -> Result<Shown, Failure> {
    run_in(seed, plan, if logging { Keep::Log } else { Keep::Nothing }).0
}

/// The same, with the log whatever comes out.
pub fn run_with_log(seed: u64, plan: &Plan) -> (Result<Shown, Failure>, String) {
    let (result, w) = run_in(seed, plan, Keep::Log);
    (result, w.log)
}

/// The same, with what happened to every member, for `tierce trace replay`.
pub fn run_with_events(seed: u64, plan: &Plan) -> (Result<Shown, Failure>, Vec<Event>) {
    let (result, w) = run_in(seed, plan, Keep::Events);
    (result, w.events.unwrap_or_default())
}

/// What of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Nothing,
    Log,
    Events,
}

fn run_in(seed: u64, plan: &Plan, keep: Keep) -> (Result<Shown, Failure>, World) {
    let setting = Setting::of(seed);
    let mut w =
        World::build(seed, setting.sites, setting.arbitrators, setting.timing(), setting.fair());
    w.logging = keep == Keep::Log;
    w.events = (keep == Keep::Events).then(Vec::new);
    let mut shown = Shown::default();
    WITHIN.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| drive(&mut w, &setting, plan, &mut shown)));
    WITHIN.set(false);
    let result = match ended {
        Ok(()) => {
            shown.virtual_ns = w.now;
            shown.steps = w.steps;
            shown.grants = w.homes.len() as u64;
            shown.acknowledged = w.history.acknowledged() as u64;
            Ok(shown)
        }
        Err(e) => {
            let what = e.downcast_ref::<String>().cloned();
            let what = what.or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let what = what.unwrap_or_else(|| "a panic without words".to_owned());
            Err(Failure { what, at_ns: w.now, log: w.log.clone() })
        }
    };
    (result, w)
}

fn drive(w: &mut World, setting: &Setting, plan: &Plan, shown: &mut Shown) {
    found(w, setting);
    let begun = w.now;
    let mut conductor = Conductor::default();
    for (at, fault) in plan {
        let due = begun + at * MS;
        if due > w.now {
            w.run_for((due - w.now) / MS);
        }
        let held = w.nodes.iter().any(|n| !n.running.is_empty());
        note!(w, "world  {fault:?}");
        if conductor.apply(w, setting, fault) {
            let count = shown.faults.entry(fault.kind()).or_default();
            count.0 += 1;
            count.1 += u64::from(held);
        }
    }
    live_on(w, setting, &mut conductor);
}

fn policy_of(setting: &Setting) -> Policy {
    let regrant = if setting.untrusted { Regrant::Fenced } else { Regrant::Lapse };
    let stop_budget = setting.timing().stop_budget;
    Policy { regrant, stop_budget, ..policy(Mode::Auto) }
}

fn found(w: &mut World, setting: &Setting) {
    let t = setting.timing().promise.as_millis() as u64;
    w.start_all();
    assert!(w.run_until(20 * t, World::all_take_part), "the cluster does not form");
    for (n, which) in TICKETS.iter().enumerate() {
        w.done(0, Command::SetTicket { name: ticket(which), policy: policy_of(setting) });
        let to = w.nodes[n].name.clone();
        w.done(0, Command::Grant { name: ticket(which), to });
    }
    let all_run = |w: &World| (1..=TICKETS.len() as u32).all(|t| runs(w, t));
    assert!(w.run_until(5 * t, all_run), "the tickets do not run");
}

fn runs(w: &World, t: u32) -> bool {
    w.runs_at(TicketId(t)).is_some()
}

/// After every fault has gone, the cluster serves again within bounded time, and nothing that was
/// acknowledged is lost.
fn live_on(w: &mut World, setting: &Setting, conductor: &mut Conductor) {
    let t = setting.timing().promise.as_millis() as u64;
    note!(w, "world  every fault ends here");
    w.weather = setting.fair();
    for i in 0..w.nodes.len() {
        let n = &mut w.nodes[i];
        (n.disk.slowest, n.disk.health, n.stopping) = (MS, Health::Works, Stopping::Within);
        w.resume_guest(i);
        w.set_rate(i, 1_000_000);
        if w.nodes[i].frozen {
            w.thaw(i);
        }
        if w.nodes[i].member.is_none() && !w.nodes[i].disk.rotten {
            w.start(i);
        }
    }
    w.heal();
    // What slow disks have been given is written first.
    let written = w.nodes.iter().map(|n| n.disk.busy_until).max().unwrap_or_default();
    w.run_for(written.saturating_sub(w.now) / MS + 3 * t);
    bring_back(w, conductor, t);
    serve(w, setting, t);
    w.run_for(t);
    let applied = w.nodes.iter().map(|n| docket(n).applied());
    w.history.nothing_lost(applied.max().unwrap_or_default());
}

fn docket(n: &crate::node::Node) -> &Docket {
    n.member.as_ref().and_then(Member::docket).expect("every member has a docket again")
}

/// What its audit tells the operator of a site: restart the agent once the cause is known. It is
/// confirmed within T.
fn restart_distrusted(w: &mut World, t: u64) {
    let distrusted = |n: &crate::node::Node| {
        let m = n.member.as_ref().filter(|m| *m.standing() == Standing::TakingPart);
        m.and_then(Member::holder).is_some_and(|h| h.distrusted().is_some())
    };
    let all: Vec<usize> = (0..w.nodes.len()).filter(|i| distrusted(&w.nodes[*i])).collect();
    for i in &all {
        w.crash(*i);
        w.start(*i);
    }
    if !all.is_empty() {
        w.run_for(2 * t);
    }
}

/// Lost stores are admitted again, one after the other, as an operator would.
fn bring_back(w: &mut World, conductor: &mut Conductor, t: u64) {
    for _ in 0..3 * w.nodes.len() {
        restart_distrusted(w, t);
        conductor.notice(w);
        let out = |i: &usize| {
            let standing = w.nodes[*i].member.as_ref().map(Member::standing);
            !matches!(standing, Some(Standing::TakingPart))
        };
        let Some(i) = (0..w.nodes.len()).find(|i| conductor.lost.contains_key(i) || out(i)) else {
            break;
        };
        conductor.start_empty(w, i);
        w.run_for(t);
        let Some(leader) = w.leader().filter(|l| *l != i) else {
            w.run_for(2 * t);
            continue;
        };
        let _ = w.decide(leader, Conductor::admit(w, i));
        w.run_for(2 * t);
    }
    // A clock's error over a pause shows when the audit has seen enough of it.
    w.run_for(t);
    restart_distrusted(w, t);
    let back = w.run_until(15 * t, World::all_take_part);
    assert!(back, "not all take part again");
}

/// Every ticket runs again, where its docket says.
fn serve(w: &mut World, setting: &Setting, t: u64) {
    w.run_for(5 * t);
    for (n, which) in TICKETS.iter().enumerate() {
        let id = TicketId(n as u32 + 1);
        prove_down(w, id, t);
        for round in 0..4 {
            if w.holder_of(0, id).is_some() {
                break;
            }
            let to = name(["b", "a"][round % 2]);
            let _ = w.decide(0, Command::Grant { name: ticket(which), to });
            w.run_for(t);
        }
        let settled =
            |w: &World| w.runs_at(id).is_some() && w.runs_at(id) == w.holder_of(0, id).as_deref();
        let runs = w.run_until(10 * t, settled);
        let (there, holder) = (w.runs_at(id).map(ToOwned::to_owned), w.holder_of(0, id));
        assert!(runs, "{which} runs at {there:?}, its holder is {holder:?} ({setting:?})");
    }
}

/// Where a ticket waits for proof, its old holder's power is cut and that is confirmed.
fn prove_down(w: &mut World, id: TicketId, t: u64) {
    let waits = |w: &World| {
        let ticket = docket(&w.nodes[0]).ticket(id)?;
        ticket.proof_missing()?;
        match &ticket.holding {
            Holding::Free { because: FreeBecause::Lost { site, .. }, .. } => Some(site.clone()),
            _ => None,
        }
    };
    if let Some(site) = waits(w) {
        let i = w.index(site.as_str());
        w.power_off(i);
        w.start(i);
        assert!(w.run_until(15 * t, World::all_take_part), "a restarted site comes back");
        let note = "it was cut from power".to_owned();
        let confirm = Command::ConfirmDown { site, proof: Proof::Fenced, note };
        let outcome = w.decide(0, confirm);
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        w.run_for(2 * t);
    }
}
