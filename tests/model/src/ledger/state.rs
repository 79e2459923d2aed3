//! The state: members, messages on their way, what was seen, and what may still go wrong.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tierce_ticket::ids::MemberId;
use tierce_ticket::ledger::{LedgerDurable, LedgerRole};
use tierce_ticket::time::VoterTime;

use crate::digest::digester;

use super::mail::Mail;
use super::node::Node;
use super::past::{Breach, Final, Past, Sign};
use super::scope::Fault;

/// The state.
#[derive(Clone)]
pub struct Cluster {
    /// All members.
    pub nodes: Vec<Arc<Node>>,
    /// A set: the same message twice is one that may arrive twice (`Duplicate`).
    pub net: Vec<Arc<Mail>>,
    /// What was seen.
    pub past: Arc<Past>,
    /// What may still go wrong, by kind.
    pub budget: [u8; Fault::COUNT],
    /// Steps of the plan that are done.
    pub changes: u8,
    /// Signs of the last step; not compared.
    pub signs: u32,
    /// A rule that was seen broken.
    pub broken: Option<Breach>,
}

impl Cluster {
    /// All members start with these journals.
    pub fn new(disks: Vec<LedgerDurable>, finals: Vec<Final>) -> Self {
        let clock = VoterTime::from_nanos(1_000_000_000_000);
        let mut c = Self {
            nodes: Vec::new(),
            net: Vec::new(),
            past: Arc::new(Past { finals, ..Past::default() }),
            budget: [0; Fault::COUNT],
            changes: 0,
            signs: 0,
            broken: None,
        };
        for (disk, id) in disks.into_iter().zip(1..) {
            c.nodes.push(Arc::new(Node::new(MemberId(id), clock, Arc::new(disk))));
        }
        for i in 0..c.nodes.len() {
            // Nothing leaves a member that only starts, so the scope plays no part.
            c.absorb(i, true, None, &mut VecDeque::new());
            c.node(i).settle();
        }
        c
    }

    /// A member, to change it.
    pub fn node(&mut self, i: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[i])
    }
    /// Marks that something happened.
    pub fn sign(&mut self, sign: Sign) {
        self.signs |= 1 << sign as u32;
    }
    /// Whether it happened in the last step.
    pub fn has(&self, sign: Sign) -> bool {
        self.signs & (1 << sign as u32) != 0
    }
    /// Whether this member leads.
    pub fn leads(&self, i: usize) -> bool {
        self.nodes[i].ledger.role() == LedgerRole::Leader
    }

    /// What makes two states the same.
    pub fn digest(&self) -> u64 {
        let mut h = digester();
        for n in &self.nodes {
            n.digest().hash(&mut h);
        }
        self.net.iter().fold(0_u64, |s, m| s.wrapping_add(m.digest)).hash(&mut h);
        self.past.finals.iter().for_each(|f| (f.prefix, f.ballot).hash(&mut h));
        (&self.past.leaders, &self.past.reads).hash(&mut h);
        (self.budget, self.changes, self.broken).hash(&mut h);
        h.finish()
    }
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}
impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::story::picture(self))
    }
}
