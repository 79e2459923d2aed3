//! What the docket knows of sessions, tickets and sites, and what applying an entry reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Mode, Note, Policy, Proof, Regrant, Scope, SiteState};
use crate::ids::{
    AttributeName, ConfigIndex, Incarnation, LogIndex, MemberName, SessionId, Term, TicketId,
    TicketName,
};
use crate::limits;
use crate::planted::{Bug, is_planted};

/// One session of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub site: MemberName,
    /// Which start of the site's agent.
    pub incarnation: Incarnation,
    /// Open, or how it ended.
    pub state: SessionState,
    /// What was taken back from it while it was open. Its site may not know yet, however long ago that
    /// was: every answer names these as long as the session is open.
    pub taken: BTreeSet<(TicketId, Term)>,
}

impl Session {
    /// It is over: nobody answers its renewals any more, so nothing needs to be named in them.
    pub(super) fn end(&mut self, state: SessionState) {
        self.state = state;
        self.taken.clear();
    }
}

/// Whether a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// It may hold tickets.
    Open,
    /// It ended by itself or was superseded within its site.
    Closed,
    /// It was expired on this proof.
    Expired(Proof),
}

/// Who has a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// Nobody.
    Free {
        /// Why it is free.
        because: FreeBecause,
        /// Whether automatic modes should find it a holder: lost or given up, but not revoked.
        wanted: bool,
        /// The successor that an operator named, who gets it in any mode.
        successor: Option<MemberName>,
    },
    /// A site.
    Held {
        /// Session that holds.
        session: SessionId,
        /// Site of that session.
        site: MemberName,
        /// Fencing token of this grant.
        term: Term,
        /// On which proof the grant rests.
        proof: Proof,
        /// A handover under way.
        handover: Option<Handover>,
        /// It is being taken back: no voter extends it any more.
        taking_back: bool,
    },
}

/// A handover under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The successor; nobody for a revoke.
    pub to: Option<MemberName>,
    /// Who asked and why.
    pub note: Note,
}

/// Why a ticket is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreeBecause {
    /// Never granted.
    New,
    /// Its holder released it.
    Released {
        /// The last holder's site.
        by: MemberName,
    },
    /// Its holder was lost.
    Lost {
        /// The last holder's session.
        session: SessionId,
        /// The last holder's site.
        site: MemberName,
        /// Best proof so far that the old holder runs nothing.
        proof: Proof,
    },
}

/// Why nothing moves by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// An operator said so.
    Operator(Note),
    /// It moved by itself and waits out its window.
    OneMove {
        /// Entry of the move.
        since: LogIndex,
    },
}

/// One line of a ticket's recent history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Ledger index.
    pub index: LogIndex,
    /// The leader's wall clock then, milliseconds since 1970.
    pub wall_ms: u64,
    /// What was decided, in words.
    pub what: String,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its number.
    pub id: TicketId,
    /// Its name.
    pub name: TicketName,
    /// Its policy.
    pub policy: Policy,
    /// Who has it.
    pub holding: Holding,
    /// The newest term ever granted.
    pub last_term: Term,
    /// Why nothing moves by itself, if so.
    pub hold: Option<Hold>,
    /// What `observe` or `confirm` proposed since the last change.
    pub proposed: Option<(MemberName, Note)>,
    /// Attributes by site.
    pub attributes: BTreeMap<(MemberName, AttributeName), String>,
    /// When `holding` last changed, wall clock of the leader, for people.
    pub since_ms: u64,
    /// The last few decisions.
    pub history: VecDeque<Decision>,
}

impl Ticket {
    /// The holder, if any: session, site and term.
    pub fn holder(&self) -> Option<(SessionId, &MemberName, Term)> {
        match &self.holding {
            Holding::Held { session, site, term, .. } => Some((*session, site, *term)),
            Holding::Free { .. } => None,
        }
    }

    /// Whether the policy's proof for a new grant is there; else what is missing.
    pub fn proof_missing(&self) -> Option<Regrant> {
        let Holding::Free { because: FreeBecause::Lost { proof, .. }, .. } = &self.holding else {
            return None;
        };
        match (self.policy.regrant, proof) {
            _ if is_planted(Bug::LapseIsProof) => None,
            (Regrant::Lapse, _)
            | (Regrant::Fenced, Proof::Fenced | Proof::Operator)
            | (Regrant::Operator, Proof::Operator) => None,
            (missing, _) => Some(missing),
        }
    }

    /// Whether a leader has to look at it: it wants a holder, or waits out a window.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.holding, Holding::Free { wanted: true, .. })
            || matches!(self.hold, Some(Hold::OneMove { .. }))
    }

    /// Whether voters have to name it: it is being taken back.
    pub(super) fn is_taken_back(&self) -> bool {
        matches!(self.holding, Holding::Held { taking_back: true, .. })
    }

    /// Sites that may hold it by policy, most wanted first, out of `sites`.
    pub fn ranked_sites<'a>(&'a self, sites: &'a [MemberName]) -> Vec<&'a MemberName> {
        if self.policy.prefer.is_empty() {
            sites.iter().collect()
        } else {
            self.policy.prefer.iter().filter(|s| sites.contains(s)).collect()
        }
    }
}

/// What a site is declared to be, and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The operator's word.
    pub state: SiteState,
    /// Why.
    pub note: Note,
    /// Attributes of the site as a whole.
    pub attributes: BTreeMap<AttributeName, String>,
}

impl Ticket {
    pub(super) fn lose(
        &mut self,
        entry: &Entry,
        session: SessionId,
        site: &MemberName,
        proof: Proof,
    ) {
        let because = FreeBecause::Lost { session, site: site.clone(), proof };
        let handover = match &self.holding {
            Holding::Held { handover, .. } => handover.as_ref(),
            Holding::Free { .. } => None,
        };
        let wanted = handover.is_none_or(|h| h.to.is_some());
        let successor = handover.and_then(|h| h.to.clone());
        self.holding = Holding::Free { because, wanted, successor };
        self.since_ms = entry.wall_ms;
        self.remember(entry, format!("lost by {site}, proof {proof}"));
    }

    pub(super) fn remember(&mut self, entry: &Entry, what: String) {
        if self.history.len() >= limits::HISTORY_PER_TICKET {
            self.history.pop_front();
        }
        self.history.push_back(Decision { index: entry.index, wall_ms: entry.wall_ms, what });
    }
}

/// What applying an entry did; the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields repeat those of the operations
pub enum Event {
    ConfigurationChanged {
        index: ConfigIndex,
    },
    SessionOpened {
        session: SessionId,
        site: MemberName,
        supersedes: Option<SessionId>,
    },
    SessionClosed {
        session: SessionId,
        site: MemberName,
    },
    SessionExpired {
        session: SessionId,
        site: MemberName,
        proof: Proof,
        tickets: usize,
    },
    Granted {
        ticket: TicketId,
        session: SessionId,
        site: MemberName,
        term: Term,
        proof: Proof,
        automatic: bool,
    },
    Released {
        ticket: TicketId,
        site: MemberName,
        term: Term,
    },
    HandoverBegun {
        ticket: TicketId,
        term: Term,
        from: MemberName,
        to: Option<MemberName>,
    },
    HandoverCancelled {
        ticket: TicketId,
        term: Term,
        note: Note,
    },
    TakeBackBegun {
        ticket: TicketId,
        term: Term,
    },
    TicketLost {
        ticket: TicketId,
        site: MemberName,
        term: Term,
        proof: Proof,
    },
    ProofImproved {
        session: SessionId,
        proof: Proof,
    },
    TicketSet {
        ticket: TicketId,
    },
    TicketRemoved {
        ticket: TicketId,
        name: TicketName,
    },
    HoldChanged {
        ticket: TicketId,
    },
    Proposed {
        ticket: TicketId,
        to: MemberName,
        mode: Mode,
    },
    AttributeSet {
        scope: Scope,
        name: AttributeName,
    },
    SiteDeclared {
        site: MemberName,
        state: SiteState,
    },
    /// An operation that did not hold; nothing changed by it.
    Skipped {
        op: usize,
        why: String,
    },
}

/// Which tickets entries may have changed: whoever keeps an index of tickets looks at these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Any of them: a session began or ended, or the docket is another one.
    pub all: bool,
    /// These.
    pub tickets: BTreeSet<TicketId>,
}

impl Touched {
    /// Everything.
    pub fn everything() -> Self {
        Self { all: true, tickets: BTreeSet::new() }
    }

    /// What these events touched.
    pub fn by(events: &[Event]) -> Self {
        let mut touched = Self::default();
        for event in events {
            touched.add(event);
        }
        touched
    }

    /// What this event touched, too.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::SessionOpened { .. }
            | Event::SessionClosed { .. }
            | Event::SessionExpired { .. }
            | Event::ProofImproved { .. } => self.all = true,
            Event::Granted { ticket, .. }
            | Event::Released { ticket, .. }
            | Event::HandoverBegun { ticket, .. }
            | Event::HandoverCancelled { ticket, .. }
            | Event::TakeBackBegun { ticket, .. }
            | Event::TicketLost { ticket, .. }
            | Event::TicketSet { ticket }
            | Event::TicketRemoved { ticket, .. }
            | Event::HoldChanged { ticket }
            | Event::Proposed { ticket, .. }
            | Event::AttributeSet { scope: Scope::TicketAt(ticket, _), .. } => {
                self.tickets.insert(*ticket);
            }
            Event::ConfigurationChanged { .. }
            | Event::AttributeSet { scope: Scope::Site(_), .. }
            | Event::SiteDeclared { .. }
            | Event::Skipped { .. } => {}
        }
    }
}
