//! The agent's link to the node guard (layer L2): found or started, kept in step, and missed.
//!
//! The guard knows nothing across its own restarts and everything across the agent's. So after
//! every connect the whole wish list is sent again: a stop command per ticket, then its arming.
//! What is wanted lies in `wants`; what was said lies with the guard; `news` tells the machines
//! when a term is acknowledged, because nothing starts before that.
//!
//! One renewal is one small packet, whatever the number of tickets. Only tickets whose stop budget
//! differs from the site's are told one by one, and those that are being taken back.

mod connection;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use tierce_guard as wire;
use tierce_guard::{ArmEntry, BootTime, Code, EventKind, Lease, Reply};
use tierce_ticket::ids::{Term, TicketId};
use tierce_ticket::time::HolderTime;
use tierce_ticket::timing::Timing;

use connection::{Link, guard_program};

use super::limits::{
    GUARD_ANSWER, GUARD_REARM, GUARD_REFUSALS, GUARD_RETRY_MAX, GUARD_RETRY_MIN, GUARD_WINDOW,
};
use crate::config::Config;

/// What the guard, or its absence, means for the tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The guard has this ticket under this term.
    Armed { ticket: TicketId, term: Term },
    /// It does not take it, and has been asked for long.
    Refused { ticket: TicketId, why: String },
    /// The guard began or ended stopping this ticket by itself, or took the last resort.
    Acted { ticket: TicketId, what: &'static str },
    /// There is no guard now.
    Lost(String),
    /// There is one again.
    Back,
}

#[derive(Clone, Debug)]
struct Want {
    term: Term,
    words: Vec<String>,
    budget: Duration,
    /// The ticket's own deadline, while it is being taken back.
    pinned: Option<HolderTime>,
    registered: bool,
    armed: bool,
    /// It was armed by an agent before this one, and pinned since: renewals do not reach it.
    alone: bool,
    retry_at: Option<HolderTime>,
    refused: u32,
    groups: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    List(u32),
    SetStop(TicketId),
    Arm(TicketId),
    Pin(TicketId),
    /// Pins what an agent before this one had armed.
    Keep(TicketId),
    Groups(TicketId),
    Disarm(TicketId, Term),
    ArmAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Hello,
    Out(Out, Term),
}

/// The link; see the module.
pub(crate) struct GuardLink {
    on: bool,
    resort: String,
    socket: PathBuf,
    program: Option<Vec<OsString>>,
    margin: Duration,
    stretched: Duration,
    budget: Duration,
    answer: Duration,
    child: Option<Child>,
    link: Option<Link>,
    out: VecDeque<Out>,
    wants: BTreeMap<TicketId, Want>,
    /// Terms that the guard had from an earlier life of the agent.
    known: BTreeMap<u32, u64>,
    deadline: Option<HolderTime>,
    next_try: HolderTime,
    pause: Duration,
    lost: Option<String>,
    news: VecDeque<News>,
}

impl GuardLink {
    /// Not connected yet; `tick` does that.
    pub(crate) fn new(config: &Config, timing: &Timing) -> Self {
        let resort = config.guard.last_resort.clone().unwrap_or_else(|| "kill".to_owned());
        let spawn = config.guard.spawn.unwrap_or(true);
        Self {
            on: resort != "off",
            program: spawn.then(|| guard_program(config)),
            socket: config.guard_socket(),
            resort,
            margin: timing.watchdog,
            stretched: timing.watchdog_stretched(),
            budget: timing.stop_budget,
            answer: GUARD_ANSWER.max(timing.renew_every * 2),
            child: None,
            link: None,
            out: VecDeque::new(),
            wants: BTreeMap::new(),
            known: BTreeMap::new(),
            deadline: None,
            next_try: HolderTime::default(),
            pause: GUARD_RETRY_MIN,
            lost: None,
            news: VecDeque::new(),
        }
    }

    /// Whether the configuration wants a guard.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// The last resort's kind, without its path.
    pub(crate) fn resort(&self) -> &str {
        self.resort.split(':').next().unwrap_or_default()
    }

    /// Why there is no guard now, if so.
    pub(crate) fn missing(&self) -> Option<&str> {
        let greeted = self.link.as_ref().is_some_and(|l| l.greeted);
        match &self.lost {
            _ if !self.on => Some("it is off"),
            Some(why) => Some(why),
            None if !greeted => Some("it is being started"),
            None => None,
        }
    }

    /// The next piece of news, oldest first.
    pub(crate) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Whether the ticket's processes should be looked up for the last resort.
    pub(crate) fn wants_groups(&self) -> bool {
        self.on && self.resort() == "kill"
    }

    // ---- what is wanted -----------------------------------------------------------------------

    /// Guard this ticket under this term.
    pub(crate) fn want(&mut self, id: TicketId, term: Term, words: Vec<String>, budget: Duration) {
        let old = self.wants.remove(&id);
        let registered = old.as_ref().is_some_and(|w| w.registered && w.words == words);
        let pinned = old.as_ref().filter(|w| w.term == term).and_then(|w| w.pinned);
        let known = self.known.get(&id.0).is_some_and(|known| *known == term.0);
        let alone = known || old.as_ref().is_some_and(|w| w.alone && w.term == term);
        let groups = old.map(|w| w.groups).unwrap_or_default();
        let want = Want {
            term,
            words,
            budget,
            pinned,
            registered,
            armed: false,
            alone,
            retry_at: None,
            refused: 0,
            groups,
        };
        self.wants.insert(id, want);
        if !registered {
            self.out.push_back(Out::SetStop(id));
        }
        self.out.push_back(Out::Arm(id));
        self.pump();
    }

    /// Everything of this ticket is stopped, confirmed.
    pub(crate) fn release(&mut self, id: TicketId, term: Term) {
        let had = self.wants.remove(&id).map(|w| w.term);
        self.out.retain(|o| {
            !matches!(o, Out::SetStop(t) | Out::Arm(t) | Out::Pin(t)
            | Out::Groups(t) if *t == id)
        });
        // What an agent before this one had armed is left to the guard: an action of that agent
        // may still be under way, and only the guard's own stop ends it too.
        if let Some(had) = had {
            let known = self.known.remove(&id.0).map_or(Term(0), Term);
            self.out.push_back(Out::Disarm(id, term.max(known).max(had)));
        }
        self.pump();
    }

    /// The session's deadline moved.
    pub(crate) fn lease(&mut self, deadline: HolderTime) {
        self.deadline = Some(deadline);
        if self.wants.is_empty() {
            return;
        }
        self.out.retain(|o| *o != Out::ArmAll);
        let behind_pins =
            self.out.iter().take_while(|o| matches!(o, Out::Pin(_) | Out::Keep(_))).count();
        self.out.insert(behind_pins, Out::ArmAll);
        let odd: Vec<TicketId> = self
            .wants
            .iter()
            .filter(|(_, w)| w.armed && w.pinned.is_none())
            .filter(|(_, w)| w.alone || w.budget != self.budget)
            .map(|(id, _)| *id)
            .collect();
        let unarmed: Vec<TicketId> = self
            .wants
            .iter()
            .filter(|(_, w)| !w.armed && w.retry_at.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in odd.into_iter().chain(unarmed) {
            self.arm_again(id);
        }
        self.pump();
    }

    /// The ticket is being taken back: from now on it has its own deadline.
    pub(crate) fn pin(&mut self, id: TicketId, deadline: HolderTime) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        if want.pinned.is_none() {
            self.out.push_front(Out::Pin(id));
        }
        want.pinned = Some(deadline);
        self.arm_again(id);
        self.pump();
    }

    /// The process groups of a ticket's dependents, for the last resort `kill`.
    pub(crate) fn groups(&mut self, id: TicketId, groups: Vec<i32>) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        if want.groups != groups {
            want.groups = groups;
            self.out.push_back(Out::Groups(id));
            self.pump();
        }
    }

    fn arm_again(&mut self, id: TicketId) {
        if !self.out.contains(&Out::Arm(id)) {
            self.out.push_back(Out::Arm(id));
        }
    }

    // ---- the connection -----------------------------------------------------------------------

    /// When `tick` has something to do.
    pub(crate) fn poll_deadline(&self) -> Option<HolderTime> {
        if !self.on {
            return None;
        }
        let retries = self.wants.values().filter_map(|w| w.retry_at).min();
        match &self.link {
            None => Some(self.next_try),
            Some(link) => {
                let answer = link.pending.front().map(|(_, _, sent)| *sent + self.answer);
                [answer.filter(|_| self.lost.is_none()), retries].into_iter().flatten().min()
            }
        }
    }

    /// Connects, starts, notices silence, repeats what was refused for the moment.
    pub(crate) fn tick(&mut self, now: HolderTime) {
        if !self.on {
            return;
        }
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            self.child = None;
            tracing::warn!(%status, "the guard ended");
        }
        if self.link.is_none() && now >= self.next_try {
            self.connect(now);
        }
        let silent = self
            .link
            .as_ref()
            .and_then(|l| l.pending.front())
            .is_some_and(|p| now >= p.2 + self.answer);
        if silent {
            self.missed("it does not answer: stopped or starved".to_owned());
        }
        let due: Vec<TicketId> = self
            .wants
            .iter_mut()
            .filter(|(_, w)| w.retry_at.is_some_and(|at| now >= at))
            .map(|(id, w)| {
                w.retry_at = None;
                *id
            })
            .collect();
        for id in due {
            self.arm_again(id);
        }
        self.pump();
    }

    /// Everything that has come.
    pub(crate) fn read(&mut self, now: HolderTime) {
        loop {
            let Some(link) = &mut self.link else { return };
            match link.fd.get_mut().0.recv() {
                Ok(Some(reply)) => self.reply(now, reply),
                Ok(None) => return self.pump(),
                Err(error) => return self.close(error.to_string()),
            }
        }
    }

    fn reply(&mut self, now: HolderTime, reply: Reply) {
        match reply {
            Reply::Ack(ack) => {
                if let Some(asked) = self.answered(ack.seq) {
                    self.acknowledged(now, asked, ack.code);
                }
            }
            Reply::List { seq, entries } => {
                self.answered(seq);
                for entry in &entries {
                    if entry.phase != 0 {
                        self.known.insert(entry.ticket.0, entry.term.0);
                        if !self.wants.contains_key(&TicketId(entry.ticket.0)) {
                            // Our renewals are not for what nobody has ordered from us.
                            self.out.push_front(Out::Keep(TicketId(entry.ticket.0)));
                        }
                    }
                }
                match entries.last() {
                    Some(last) if entries.len() >= wire::limits::MAX_BATCH => {
                        self.out.push_front(Out::List(last.ticket.0.saturating_add(1)));
                    }
                    _ => {
                        if let Some(link) = &mut self.link {
                            link.listed = true;
                        }
                        self.synchronise();
                    }
                }
            }
            Reply::Event { kind, ticket, .. } => {
                let what = match kind {
                    EventKind::StopBegun => "the guard stops it",
                    EventKind::Stopped => "the guard has stopped it",
                    EventKind::StopFailed => "the guard's stop failed",
                    EventKind::Reset => "the guard took the last resort",
                };
                let ticket = TicketId(ticket.0);
                if let Some(want) = self.wants.get_mut(&ticket) {
                    want.armed = false;
                }
                self.news.push_back(News::Acted { ticket, what });
            }
            Reply::Status(_) => {}
        }
    }

    fn answered(&mut self, seq: u32) -> Option<Asked> {
        let link = self.link.as_mut()?;
        let at = link.pending.iter().position(|p| p.0 == seq)?;
        // Answers come in order: what was asked before has had its answer, or never will.
        link.pending.drain(..=at).next_back().map(|p| p.1)
    }

    fn acknowledged(&mut self, now: HolderTime, asked: Asked, code: Code) {
        match (asked, code) {
            (Asked::Hello, Code::Done) => {
                self.pause = GUARD_RETRY_MIN;
                if let Some(link) = &mut self.link {
                    link.greeted = true;
                }
                self.out.push_front(Out::List(0));
            }
            (Asked::Hello, code) => {
                self.close(format!("it refused the greeting ({code:?}): W is below its timeout"));
                self.next_try = now + GUARD_RETRY_MAX;
            }
            (Asked::Out(Out::Arm(id), term), Code::Done) => {
                if let Some(want) = self.wants.get_mut(&id).filter(|w| w.term == term) {
                    if !want.armed {
                        self.news.push_back(News::Armed { ticket: id, term });
                    }
                    want.armed = true;
                    want.refused = 0;
                    self.known.remove(&id.0);
                }
            }
            (Asked::Out(Out::Arm(id), _), code) => {
                // BadTimes waits for the next lease; the others for the guard's own stop.
                tracing::warn!(ticket = id.0, ?code, "the guard did not arm");
                if let Some(want) = self.wants.get_mut(&id) {
                    want.armed = false;
                    want.retry_at = (code != Code::BadTimes).then(|| now + GUARD_REARM);
                    want.registered &= code != Code::NoStopCommand;
                    want.refused += 1;
                    if want.refused == GUARD_REFUSALS {
                        let why = format!("the node guard does not take it ({code:?})");
                        self.news.push_back(News::Refused { ticket: id, why });
                    }
                }
                if code == Code::NoStopCommand {
                    self.out.push_back(Out::SetStop(id));
                }
            }
            (Asked::Out(out, _), code) if code != Code::Done => {
                tracing::warn!(?out, ?code, "the guard refused");
            }
            (Asked::Out(..), _) => {}
        }
        if self.lost.is_some() && self.link.as_ref().is_some_and(|l| l.greeted) {
            self.found();
        }
    }

    /// It answers (again): every wish is said once more.
    fn synchronise(&mut self) {
        self.found();
        let ids: Vec<TicketId> = self.wants.keys().copied().collect();
        for id in ids {
            self.out.push_back(Out::SetStop(id));
            self.arm_again(id);
            self.out.push_back(Out::Groups(id));
        }
        let pinned: BTreeSet<TicketId> =
            self.wants.iter().filter(|(_, w)| w.pinned.is_some()).map(|(id, _)| *id).collect();
        self.out.extend(pinned.into_iter().map(Out::Pin));
    }

    fn found(&mut self) {
        if self.lost.take().is_some() {
            self.news.push_back(News::Back);
        }
        let unarmed: Vec<TicketId> =
            self.wants.iter().filter(|(_, w)| !w.armed).map(|(id, _)| *id).collect();
        for id in unarmed {
            self.arm_again(id);
        }
    }

    // ---- sending ------------------------------------------------------------------------------

    fn pump(&mut self) {
        let now = super::clock::now();
        loop {
            let Some(link) = self.link.as_ref().filter(|l| l.greeted) else { return };
            // Until it is known what an agent before this one had armed, and that is pinned, no
            // renewal may go out: it would reach that too.
            let may = link.listed || matches!(self.out.front(), Some(Out::List(_)));
            if !may || link.pending.len() >= GUARD_WINDOW {
                return;
            }
            let Some(out) = self.out.pop_front() else { return };
            match self.send(out) {
                Ok(Some((seq, term))) => {
                    if let Some(link) = &mut self.link {
                        link.pending.push_back((seq, Asked::Out(out, term), now));
                    }
                }
                Ok(None) => {}
                Err(wire::client::ClientError::Full) => {
                    self.out.push_front(out);
                    return self.missed("it does not read its socket".to_owned());
                }
                Err(wire::client::ClientError::Wire(error)) => {
                    tracing::error!(?out, %error, "not sent to the guard");
                }
                Err(error) => return self.close(error.to_string()),
            }
        }
    }

    /// Sends one wish as it is now; `None`: it has become void.
    fn send(&mut self, out: Out) -> Result<Option<(u32, Term)>, wire::client::ClientError> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let client = &mut link.fd.get_mut().0;
        let place = |id: TicketId| wire::Ticket(id.0);
        let lease = |deadline: HolderTime, budget: Duration| Lease {
            stop_at: BootTime(deadline.minus(self.stretched).minus(budget).as_nanos()),
            deadline: BootTime(deadline.as_nanos()),
        };
        let seq = match out {
            Out::List(from) => client.list(wire::Ticket(from))?,
            Out::ArmAll => match self.deadline {
                Some(deadline) => client.arm_all(lease(deadline, self.budget))?,
                None => return Ok(None),
            },
            Out::Keep(id) => match self.known.get(&id.0) {
                Some(term) => client.pin(place(id), wire::Term(*term))?,
                None => return Ok(None),
            },
            Out::Disarm(id, term) => client.disarm(&[(place(id), wire::Term(term.0))])?,
            Out::SetStop(id) | Out::Arm(id) | Out::Pin(id) | Out::Groups(id) => {
                let Some(want) = self.wants.get_mut(&id) else { return Ok(None) };
                let (term, ticket) = (want.term, place(id));
                let seq = match out {
                    Out::SetStop(_) => {
                        want.registered = true;
                        let words: Vec<&[u8]> = want.words.iter().map(String::as_bytes).collect();
                        client.set_stop(ticket, &words)?
                    }
                    Out::Pin(_) => client.pin(ticket, wire::Term(term.0))?,
                    Out::Groups(_) if want.groups.is_empty() => return Ok(None),
                    Out::Groups(_) => client.set_groups(ticket, &want.groups)?,
                    _ => {
                        let Some(deadline) = want.pinned.or(self.deadline) else {
                            return Ok(None); // the first lease arms it
                        };
                        let lease = lease(deadline, want.budget);
                        client.arm(&[ArmEntry { ticket, term: wire::Term(term.0), lease }])?
                    }
                };
                return Ok(Some((seq, term)));
            }
        };
        Ok(Some((seq, Term(0))))
    }

    /// Whether everything said has been answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.out.is_empty() && self.link.as_ref().is_none_or(|l| l.pending.is_empty())
    }
}
