//! The ledger in few steps, for scopes that put the ticket protocol on top of it.
//!
//! An election is one step: a member campaigns, and who hears it votes. An exchange is one: the
//! leader's append reaches one follower, is durable there, and the answer comes back; what became
//! final by it rides along. Each happens or does not, with whom it likes, at any moment. Messages on
//! their way, half an exchange, and journals that lag are what the scopes of the ledger alone have.

use std::sync::Arc;

use tierce_ticket::entry::{Entry, Op};
use tierce_ticket::ids::{Ballot, LogIndex, MemberId};
use tierce_ticket::ledger::{HardState, LedgerDurable, LedgerMessage};

use super::mail::Mail;
use super::node::{HEARTBEAT, SILENCE_MAX, SILENCE_MIN};
use super::past::Final;
use super::scope::Scope;
use super::state::Cluster;
use crate::mutant::Mutant;

/// Messages of one step, far more than there are.
const MESSAGES: usize = 100;

/// Everything that is sent is seen here first, and durable at once.
const COLLAPSED: Scope = Scope { syncs_at_once: true, pre_votes_travel: true, ..Scope::EMPTY };

impl Cluster {
    /// Members that have these entries, all final, and one of them leads.
    pub fn founded(entries: &[Entry], members: usize, leader: usize) -> Self {
        let mut finals: Vec<Final> = Vec::new();
        for e in entries {
            finals.push(Final::after(finals.last(), e, e.ballot));
        }
        let hard = HardState {
            ballot: Ballot(1),
            voted_for: Some(MemberId(1)),
            commit: LogIndex(entries.len() as u64),
        };
        let disk = LedgerDurable { hard, entries: entries.to_vec(), ..LedgerDurable::default() };
        let mut c = Self::new(vec![disk; members], finals);
        let others: Vec<usize> = (0..members).filter(|i| *i != leader).collect();
        c.elect(leader, &others, None);
        // Twice: the first makes it final, the second tells all.
        for to in others.iter().chain(&others) {
            c.exchange(leader, *to, None);
        }
        c.signs = 0;
        c
    }

    /// Whether this member leads, and its docket has all that earlier leaders made final.
    pub fn in_charge(&self, i: usize) -> bool {
        let l = &self.nodes[i].ledger;
        self.leads(i) && l.ballot_at(l.commit()) == Some(l.ballot())
    }

    /// Whether something that this leader proposed waits for a majority.
    pub fn is_waiting(&self, i: usize) -> bool {
        let l = &self.nodes[i].ledger;
        l.last_index() > l.commit()
    }

    /// A member campaigns and these hear it, after the shortest silence.
    pub fn elect(&mut self, i: usize, by: &[usize], mutant: Option<Mutant>) {
        self.act(&COLLAPSED, i, mutant, |n| {
            n.pass(SILENCE_MAX * 2);
            n.ledger.tick(n.clock);
        });
        self.talk(i, by, mutant, |m| !matches!(m, LedgerMessage::Append(_)));
    }

    /// A leader's heartbeat reaches one follower, and both talk until they have nothing to say.
    pub fn exchange(&mut self, leader: usize, with: usize, mutant: Option<Mutant>) {
        self.act(&COLLAPSED, leader, mutant, |n| {
            n.pass(HEARTBEAT);
            n.ledger.tick(n.clock);
        });
        self.talk(leader, &[with], mutant, |_| true);
    }

    /// A leader proposes; `None` when it takes no decisions.
    pub fn propose(&mut self, i: usize, ops: Vec<Op>, mutant: Option<Mutant>) -> Option<()> {
        let mut taken = false;
        self.act(&COLLAPSED, i, mutant, |n| taken = n.ledger.propose(n.clock, 0, ops).is_ok());
        self.net.clear();
        taken.then_some(())
    }

    /// A member starts again from its journal.
    pub fn restart(&mut self, i: usize, mutant: Option<Mutant>) {
        if let Some(n) = self.nodes[i].restarted(0, mutant) {
            self.act(&COLLAPSED, i, mutant, |old| *old = n);
        }
    }

    /// Messages between one and these arrive, as far as they may; all others are lost.
    fn talk(
        &mut self,
        one: usize,
        others: &[usize],
        mutant: Option<Mutant>,
        may: impl Fn(&LedgerMessage) -> bool,
    ) {
        let is_one = |id: MemberId| id.0 as usize - 1 == one;
        let is_other = |id: MemberId| others.contains(&(id.0 as usize - 1));
        for _ in 0..MESSAGES {
            let ends =
                |m: &Mail| (is_one(m.from) && is_other(m.to)) || (is_other(m.from) && is_one(m.to));
            self.net.retain(|m| ends(m) && may(&m.message));
            if self.net.is_empty() || self.broken.is_some() {
                break;
            }
            let mail = Arc::clone(&self.net.remove(0));
            let asks =
                matches!(mail.message, LedgerMessage::PreVote { .. } | LedgerMessage::Vote { .. });
            self.act(&COLLAPSED, mail.to.0 as usize - 1, mutant, |n| {
                if asks {
                    n.pass(SILENCE_MIN);
                }
                n.ledger.receive(n.clock, mail.from, mail.message.clone());
            });
        }
        self.net.clear();
    }
}
