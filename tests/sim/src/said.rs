//! What voters have said to others, across all their lives: a vote that anybody has heard is never
//! taken back by a promise (R2, R3), and no term but the granted one reaches a node (R18).

use std::collections::BTreeSet;

use tierce_ticket::docket::Docket;
use tierce_ticket::entry::FenceTarget;
use tierce_ticket::holder::Order;
use tierce_ticket::ids::StoreId;
use tierce_ticket::message::{Message, Verdict};

/// Everything that has left voters and binds them.
#[derive(Debug, Default)]
pub struct Said {
    votes: BTreeSet<(StoreId, FenceTarget)>,
}

impl Said {
    /// A message leaves the voter with this store.
    ///
    /// # Panics
    /// When it breaks a vote that has left before.
    pub fn leaves(&mut self, store: StoreId, message: &Message) {
        match message {
            Message::FenceReply { vote: Some(vote), .. } => {
                self.votes.insert((store, vote.target));
            }
            Message::Answer(answer) => {
                let target = FenceTarget::Session(answer.session);
                let promised = matches!(answer.verdict, Verdict::Promised { .. });
                assert!(
                    !promised || !self.votes.contains(&(store, target)),
                    "R3: session {} is promised by a voter that has fenced it",
                    answer.session
                );
            }
            _ => {}
        }
    }
}

/// R18: what a node is told to run is what the log view of its member shows.
///
/// # Panics
/// When it is not.
pub fn order_is_granted(who: &str, order: &Order, docket: &Docket) {
    let Order::Run { ticket, term } = order else { return };
    let granted = docket.ticket(*ticket).and_then(|t| t.holder());
    let ours = granted.is_some_and(|(_, site, t)| site.as_str() == who && t == *term);
    assert!(ours, "R18: {who} is told to run ticket {ticket} under term {term}, which is not its");
}
