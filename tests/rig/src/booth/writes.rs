//! Writes of a ticket's state, as the stand-in of `crm_ticket` stamps them.

use std::time::Duration;

use crate::clock::Mono;
use crate::files::{Lines, until};
use crate::witness::Life;

/// One write of the ticket's state at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The stand-in was started.
    pub began: Mono,
    /// The state was written.
    pub ended: Mono,
    /// Granted; else revoked.
    pub granted: bool,
    /// Which ticket.
    pub ticket: String,
}

/// Writes at a site as they come.
#[derive(Clone, Debug)]
pub struct Writes(pub(super) Lines);

impl Writes {
    /// Those since the last look.
    pub fn new_ones(&mut self) -> Vec<Event> {
        self.0.next_lines().iter().filter_map(|l| event(l)).collect()
    }

    /// Waits for the first grant.
    pub fn first_grant(&mut self, within: Duration) -> Option<Event> {
        until(within, || self.new_ones().into_iter().find(|e| e.granted))
    }
}

/// Times in which a ticket was written as granted.
pub(super) fn held(events: &[Event], ticket: &str, to: Mono) -> Vec<Life> {
    let mut found = Vec::new();
    let mut since = None;
    for e in events.iter().filter(|e| e.ticket == ticket) {
        match (e.granted, since) {
            (true, None) => since = Some(e.ended),
            (false, Some(from)) => {
                found.push(Life { from, to: e.ended });
                since = None;
            }
            _ => {}
        }
    }
    found.extend(since.map(|from| Life { from, to }));
    found
}

/// `BEGAN ENDED g|r TICKET OWNER EXPIRES TERM CODE`.
pub(super) fn event(line: &str) -> Option<Event> {
    let words: Vec<&str> = line.split(' ').collect();
    let granted = match (words.get(2)?, words.get(7)?) {
        (&"g", &"0") => true,
        (&"r", &"0") => false,
        _ => return None,
    };
    let moment = |n: usize| words.get(n)?.parse().ok().map(Mono);
    let ticket = (*words.get(3)?).to_owned();
    Some(Event { began: moment(0)?, ended: moment(1)?, granted, ticket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_and_failed_ones_do_not_count() {
        let e = event("5 7 g t1 a 99 3 0").unwrap();
        assert_eq!((e.began, e.ended, e.granted, &*e.ticket), (Mono(5), Mono(7), true, "t1"));
        assert_eq!(event("5 7 r t1 a 99 3 1"), None);
        assert_eq!(event("5 7 q t1 a 99 3 0"), None);
        assert_eq!(event("5 7 g t1"), None);
    }

    #[test]
    fn a_ticket_is_held_from_its_first_grant_to_its_revoke_or_to_the_end() {
        let lines = "1 2 g t1 - - - 0\n3 4 g t1 - - - 0\n5 6 r t1 - - - 0\n8 9 g t1 - - - 0";
        let events: Vec<Event> = lines.lines().filter_map(event).collect();
        let life = |from, to| Life { from: Mono(from), to: Mono(to) };
        assert_eq!(held(&events, "t1", Mono(20)), [life(2, 6), life(9, 20)]);
        assert_eq!(held(&events, "t2", Mono(20)), []);
    }
}
