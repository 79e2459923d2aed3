//! Commands: from a local client or a peer, to the leader, into one ledger entry, and back.
//!
//! The leader checks a command against its docket first, so that a refusal tells what stands against
//! it. The docket checks again when the entry is applied: what was true may have changed, and then
//! the command is refused although it was appended. A client hears `Done` only when its own
//! member's docket shows it.

use std::collections::BTreeMap;

use super::join::Admission;
use super::{Effect, Member};
use crate::command::{Command, Outcome, Refusal, RefusalCode};
use crate::docket::Event;
use crate::entry::{Entry, Op};
use crate::ids::{Ballot, LogIndex, MemberName, RequestId};
use crate::limits;
use crate::message::{Lane, Message};
use crate::time::{Now, VoterTime, earlier};

/// Who waits for the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this member.
    Local(RequestId),
    /// Another member.
    Peer(MemberName, RequestId),
    /// The holder of this member: it looks at the docket and asks again.
    Holder,
}

#[derive(Debug)]
struct Appended {
    index: LogIndex,
    ballot: Ballot,
    origin: Origin,
    until: VoterTime,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    command: Command,
    sent_to: Option<MemberName>,
    /// Not sent before: who was asked is no leader yet, or no more.
    not_before: VoterTime,
    until: VoterTime,
}

/// A command about a site whose first report of readiness is still on its way.
#[derive(Debug)]
struct Parked {
    origin: Origin,
    command: Command,
    until: VoterTime,
}

/// Commands under way at this member.
#[derive(Debug, Default)]
pub(super) struct Pending {
    appended: Vec<Appended>,
    waiting: Vec<Waiting>,
    parked: Vec<Parked>,
    decided: Vec<(RequestId, LogIndex, Outcome)>,
    reads: BTreeMap<u64, Origin>,
    next_read: u64,
    admission: Option<Admission>,
}

impl Pending {
    pub(super) fn deadline(&self, now: VoterTime) -> Option<VoterTime> {
        let a = self.appended.iter().map(|a| a.until).min();
        let w = self.waiting.iter().map(|w| w.until).min();
        let again = self.waiting.iter().map(|w| w.not_before).filter(|t| *t > now).min();
        let w = earlier(w, again);
        let p = self.parked.iter().map(|p| p.until).min();
        earlier(earlier(earlier(a, w), p), self.admission.as_ref().map(|a| a.until))
    }
    pub(super) fn take_admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }
    pub(super) fn put_admission(&mut self, a: Admission) {
        self.admission = Some(a);
    }
    pub(super) fn has_admission(&self) -> bool {
        self.admission.is_some()
    }
    fn full(&self) -> bool {
        let pending =
            self.appended.len() + self.waiting.len() + self.parked.len() + self.reads.len();
        pending >= limits::MAX_PENDING_COMMANDS
    }
}

pub(super) fn refuse(
    code: RefusalCode,
    what: impl Into<String>,
    next: impl Into<String>,
) -> Refusal {
    Refusal::new(code, what, next)
}

impl Member {
    pub(super) fn local_command(&mut self, now: Now, request: RequestId, command: Command) {
        if self.commands.full() {
            let r =
                refuse(RefusalCode::Busy, "too many commands are waiting here", "try again later");
            return self.finish(Origin::Local(request), Outcome::Refused(r));
        }
        if self.formed.is_none() {
            let what = "this member has no cluster yet";
            let next = "tierce status says which members it waits for";
            let r = refuse(RefusalCode::NoQuorum, what, next);
            return self.finish(Origin::Local(request), Outcome::Refused(r));
        }
        let until = now.voter + limits::COMMAND_WAIT;
        self.commands.waiting.push(Waiting {
            request,
            command,
            sent_to: None,
            not_before: now.voter,
            until,
        });
    }

    pub(super) fn peer_command(
        &mut self,
        now: Now,
        from: &MemberName,
        request: RequestId,
        command: Command,
    ) {
        let origin = Origin::Peer(from.clone(), request);
        if let Err(r) = may_ask(from, &command) {
            return self.finish(origin, Outcome::Refused(r));
        }
        self.decide(now, origin, command);
    }

    /// A command of this member's own holder; it repeats by itself.
    pub(super) fn internal_command(&mut self, now: Now, command: Command) {
        if self.leads() {
            self.decide(now, Origin::Holder, command);
        } else if let Some(leader) = self.leader.clone()
            && leader != self.settings.name
        {
            let message = Message::Command { request: RequestId(0), command };
            self.send(&leader, Lane::Stream, message, false);
        }
    }

    /// Moves waiting commands on: to the leader, or to their end.
    pub(super) fn run_commands(&mut self, now: Now) {
        let leader = self.leader.clone();
        let leads = self.leads();
        for mut w in std::mem::take(&mut self.commands.waiting) {
            if now.voter >= w.until {
                let outcome = if w.sent_to.is_some() {
                    Outcome::Unknown { why: "the leader did not answer in time".to_owned() }
                } else {
                    let next =
                        "tierce status shows which members are missing; decisions need a majority";
                    Outcome::Refused(refuse(
                        RefusalCode::NoQuorum,
                        "no leader was found in time",
                        next,
                    ))
                };
                self.finish(Origin::Local(w.request), outcome);
            } else if leads {
                self.decide(now, Origin::Local(w.request), w.command);
            } else if leader.is_some()
                && leader.as_ref() != Some(&self.settings.name)
                && w.sent_to != leader
                && now.voter >= w.not_before
            {
                // Only reads may be sent twice: another command may already be on its way.
                if w.sent_to.is_some() && w.command != Command::Read {
                    let why = "the leader changed while the command was on its way".to_owned();
                    self.finish(Origin::Local(w.request), Outcome::Unknown { why });
                    continue;
                }
                if let Some(to) = &leader {
                    let message =
                        Message::Command { request: w.request, command: w.command.clone() };
                    self.send(to, Lane::Stream, message, false);
                }
                w.sent_to.clone_from(&leader);
                self.commands.waiting.push(w);
            } else {
                self.commands.waiting.push(w);
            }
        }
        self.run_parked(now);
        self.expire_appended(now);
        let applied = self.docket().map(crate::docket::Docket::applied).unwrap_or_default();
        let (done, rest) = std::mem::take(&mut self.commands.decided)
            .into_iter()
            .partition(|(_, i, _)| *i <= applied);
        self.commands.decided = rest;
        for (request, _, outcome) in done as Vec<(RequestId, LogIndex, Outcome)> {
            self.effects.push_back(Effect::Outcome { request, outcome });
        }
    }

    fn expire_appended(&mut self, now: Now) {
        for a in std::mem::take(&mut self.commands.appended) {
            if now.voter >= a.until {
                let why = "it is in the ledger but no majority has confirmed it in time".to_owned();
                self.finish(a.origin, Outcome::Unknown { why });
            } else {
                self.commands.appended.push(a);
            }
        }
    }

    /// The leader told what became of a command of ours.
    pub(super) fn command_done(&mut self, now: Now, request: RequestId, outcome: Outcome) {
        let Some(at) = self.commands.waiting.iter().position(|w| w.request == request) else {
            return;
        };
        let w = self.commands.waiting.swap_remove(at);
        if let Outcome::Refused(r) = &outcome
            && r.code == RefusalCode::NoQuorum
        {
            // It was asked too early or too late: wait for the next leader.
            let not_before = now.voter + limits::COMMAND_AGAIN;
            self.commands.waiting.push(Waiting { sent_to: None, not_before, ..w });
            return;
        }
        self.finish(Origin::Local(request), outcome);
    }

    pub(super) fn finish(&mut self, origin: Origin, outcome: Outcome) {
        match origin {
            Origin::Local(request) => {
                let index = match &outcome {
                    Outcome::Done { index, .. } => *index,
                    _ => LogIndex(0),
                };
                self.commands.decided.push((request, index, outcome));
            }
            Origin::Peer(name, request) if request != RequestId(0) => {
                self.send(&name, Lane::Stream, Message::CommandDone { request, outcome }, true);
            }
            Origin::Peer(..) | Origin::Holder => {}
        }
    }

    // ----- at the leader -----------------------------------------------------------------

    fn decide(&mut self, now: Now, origin: Origin, command: Command) {
        if !self.leads() {
            let r = refuse(RefusalCode::NoQuorum, "this member does not lead", "ask the leader");
            return self.finish(origin, Outcome::Refused(r));
        }
        if self.commands.full() {
            let r =
                refuse(RefusalCode::Busy, "too many commands are waiting here", "try again later");
            return self.finish(origin, Outcome::Refused(r));
        }
        match command {
            Command::Read => self.begin_read(now, origin),
            Command::Admit { .. } | Command::Remove { .. } => {
                self.begin_admission(now, origin, command);
            }
            Command::SetTiming(_) => self.set_timing(now, origin, &command),
            _ if self.awaits_report(now, &command) => {
                let promise = self.formed.as_ref().map(|f| f.config_seen.timing.promise);
                let until = now.voter + promise.unwrap_or_default().min(limits::COMMAND_WAIT / 2);
                self.commands.parked.push(Parked { origin, command, until });
            }
            _ => self.decide_at_once(now, origin, command),
        }
    }

    fn decide_at_once(&mut self, now: Now, origin: Origin, command: Command) {
        match self.ops_for(now, command) {
            Ok(ops) => self.append(now, origin, ops),
            Err(r) => self.finish(origin, Outcome::Refused(r)),
        }
    }

    /// Whether the command is about a site that has just come: its session lives, and its first
    /// report of readiness must be on its way. An operator should not meet that moment.
    fn awaits_report(&self, now: Now, command: &Command) -> bool {
        let (Command::Grant { to, .. } | Command::Move { to, .. }) = command else { return false };
        let Some(f) = &self.formed else { return false };
        f.docket.session_of(to).is_some_and(|session| {
            f.promises.lives(now.voter, session)
                && f.steward.readiness_of(to).is_none_or(|r| r.session != session)
        })
    }

    fn run_parked(&mut self, now: Now) {
        for p in std::mem::take(&mut self.commands.parked) {
            if !self.leads() {
                let r = refuse(RefusalCode::NoQuorum, "this member leads no more", "ask again");
                self.finish(p.origin, Outcome::Refused(r));
            } else if now.voter >= p.until || !self.awaits_report(now, &p.command) {
                self.decide_at_once(now, p.origin, p.command);
            } else {
                self.commands.parked.push(p);
            }
        }
    }

    fn append(&mut self, now: Now, origin: Origin, ops: Vec<Op>) {
        let Some(f) = &mut self.formed else { return };
        let Ok(index) = f.ledger.propose(now.voter, now.wall_ms, ops) else {
            let r = refuse(RefusalCode::NoQuorum, "this member leads no more", "ask the leader");
            return self.finish(origin, Outcome::Refused(r));
        };
        let ballot = f.ledger.ballot();
        let until = now.voter + limits::COMMAND_WAIT;
        self.commands.appended.push(Appended { index, ballot, origin, until });
    }

    /// An entry was applied: whoever waits for it hears what it did.
    pub(super) fn entry_applied(&mut self, entry: &Entry, events: &[Event]) {
        for a in std::mem::take(&mut self.commands.appended) {
            if a.index > entry.index {
                self.commands.appended.push(a);
                continue;
            }
            let outcome = if a.index < entry.index || a.ballot != entry.ballot {
                let next = "look at the present state, then ask again";
                Outcome::Refused(refuse(
                    RefusalCode::NotNow,
                    "another leader decided something else",
                    next,
                ))
            } else {
                outcome_of(entry, events)
            };
            self.finish(a.origin, outcome);
        }
    }

    fn begin_read(&mut self, now: Now, origin: Origin) {
        self.commands.next_read += 1;
        let context = self.commands.next_read;
        let Some(f) = &mut self.formed else { return };
        match f.ledger.read(now.voter, context) {
            Ok(()) => {
                self.commands.reads.insert(context, origin);
            }
            Err(_) => self.finish(
                origin,
                Outcome::Refused(refuse(
                    RefusalCode::NoQuorum,
                    "this member leads no more",
                    "ask again",
                )),
            ),
        }
    }

    pub(super) fn read_ready(&mut self, context: u64, index: LogIndex) {
        if let Some(origin) = self.commands.reads.remove(&context) {
            self.finish(origin, Outcome::Done { index, term: None });
        }
    }

    pub(super) fn read_failed(&mut self, context: u64) {
        if let Some(origin) = self.commands.reads.remove(&context) {
            let r =
                refuse(RefusalCode::NoQuorum, "a majority did not confirm the leader", "ask again");
            self.finish(origin, Outcome::Refused(r));
        }
    }

    fn begin_admission(&mut self, now: Now, origin: Origin, command: Command) {
        let (name, join) = match command {
            Command::Admit { name, role, store, addresses } => {
                // Without a store in the command it is the one that the member presents now.
                let named = (store.0 != [0; 16]).then_some((role, store));
                let Some((role, store)) = named.or_else(|| self.presented_store(&name)) else {
                    let next = "start that member, then ask again";
                    let r =
                        refuse(RefusalCode::NotNow, format!("{name} is not connected here"), next);
                    return self.finish(origin, Outcome::Refused(r));
                };
                (name, Some((role, store, addresses)))
            }
            Command::Remove { name } => (name, None),
            _ => return,
        };
        if let Some(r) = self.admission_refusal(&name) {
            return self.finish(origin, Outcome::Refused(r));
        }
        let Some(f) = &self.formed else { return };
        let configuration = f.ledger.configuration().0;
        if join.is_none() && configuration.id_of(&name).is_none() {
            let r = refuse(
                RefusalCode::NoSuch,
                format!("there is no member {name}"),
                "tierce sites list",
            );
            return self.finish(origin, Outcome::Refused(r));
        }
        // Three changes at the most, each waiting out T (R11), and the transfer of the state.
        let until = now.voter + configuration.timing.promise * 4 + limits::COMMAND_WAIT;
        self.commands.put_admission(Admission {
            origin,
            name,
            join,
            asked: None,
            until,
            brings: None,
        });
    }

    fn set_timing(&mut self, now: Now, origin: Origin, command: &Command) {
        let Command::SetTiming(timing) = command else { return };
        if let Err(found) = timing.check() {
            let what = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let r =
                refuse(RefusalCode::Unsafe, what, "tierce config check prints the inequalities");
            return self.finish(origin, Outcome::Refused(r));
        }
        let Some(f) = &mut self.formed else { return };
        let next = crate::configuration::Configuration {
            timing: *timing,
            ..f.ledger.configuration().0.clone()
        };
        match f.ledger.propose_configuration(now.voter, now.wall_ms, next) {
            Ok(index) => {
                let ballot = f.ledger.ballot();
                let until = now.voter + limits::COMMAND_WAIT;
                self.commands.appended.push(Appended { index, ballot, origin, until });
            }
            Err(e) => {
                let r = refuse(
                    RefusalCode::NotNow,
                    e.to_string(),
                    "wait until the last change has ended",
                );
                self.finish(origin, Outcome::Refused(r));
            }
        }
    }
}

/// What one member may ask of another: an agent speaks for its own site only.
fn may_ask(from: &MemberName, command: &Command) -> Result<(), Refusal> {
    if let Command::OpenSession { site, .. } = command
        && site != from
    {
        let what = format!("{from} may not open a session for {site}");
        return Err(refuse(RefusalCode::Invalid, what, "each site's agent opens its own"));
    }
    Ok(())
}

/// The outcome of a command from what its entry did: the first operation decides.
fn outcome_of(entry: &Entry, events: &[Event]) -> Outcome {
    for event in events {
        match event {
            Event::Skipped { op: 0, why } => {
                let next = "look at the present state, then ask again";
                return Outcome::Refused(refuse(RefusalCode::NotNow, why.clone(), next));
            }
            Event::Granted { term, .. } => {
                return Outcome::Done { index: entry.index, term: Some(*term) };
            }
            _ => {}
        }
    }
    Outcome::Done { index: entry.index, term: None }
}
