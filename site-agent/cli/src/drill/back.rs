//! The way home after an abort: what is safe, and an honest word on what is left.
//!
//! A drill sets nothing: no hold, no flag, no attribute. All that it can leave behind is a ticket
//! at the other site, or a handover that is under way. So there is little to undo, and each step is
//! an ordinary command that the ledger accepts or refuses: a handover is called off, a ticket is
//! moved back if nothing stands against its home. What is not safe is not forced; it is left and
//! said.
//!
//! The danger is a home that has just died: for as long as its last promise runs, nothing stands
//! against it, and a ticket that is sent there stops where it is and starts nowhere. So home must
//! answer itself, or its promises must have been renewed since the way back began.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tierce_wire::control::{Ask, Reply, TicketView};
use tokio::time::{Instant, sleep};

use super::limits::{ASK, ASK_LINEAR, BACK_EVERY, STEP_GRACE};
use crate::evidence::ask::{Unanswered, ask, status, unfit};
use crate::evidence::timeline::{Kind, Timeline};

/// Where the ticket is in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At home; `moved`: it had to be brought back.
    Home { moved: bool },
    /// Elsewhere, for this reason.
    Left(String),
    /// Nobody can tell.
    Unknown(String),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Done,
    CallOff,
    MoveHome,
    GrantHome,
    /// Home may not have it, and nobody has it: better there than nowhere.
    GrantAway,
    Wait(String),
    Leave(String),
}

/// Who goes home.
pub(super) struct Way<'a> {
    /// Members, asked in this order: the first may be what has gone wrong.
    pub(super) sockets: Vec<PathBuf>,
    pub(super) ticket: String,
    pub(super) home: String,
    /// Where home's own agent is asked, if that is known.
    pub(super) home_socket: Option<PathBuf>,
    pub(super) away: String,
    /// One command may take this long.
    pub(super) step: Duration,
    /// For all of it.
    pub(super) deadline: Duration,
    pub(super) note: String,
    pub(super) timeline: &'a Timeline,
}

/// A ticket, as new as the ledger.
pub(super) async fn linear(socket: &Path, ticket: &str) -> Result<TicketView, Unanswered> {
    status(socket, true, ASK_LINEAR).await?;
    match ask(socket, Ask::Ticket { name: ticket.to_owned() }, ASK).await? {
        Reply::Ticket(view) => Ok(*view),
        _ => Err(unfit()),
    }
}

/// The next step by what a member says.
fn next(t: &TicketView, home: &str, away: &str) -> Next {
    let open = t.sites.get(home).map(String::as_str);
    let at = t.site.as_deref();
    match (t.state.as_str(), at) {
        ("held" | "hold", Some(site)) if site == home => Next::Done,
        ("blocked", Some(site)) if site == home => {
            Next::Leave(format!("it is at {home}, and {}", t.because))
        }
        ("handover", Some(site)) if site == home => Next::CallOff,
        ("handover", Some(site)) => Next::Wait(format!("a handover from {site} is under way")),
        ("held" | "hold" | "blocked", Some(site)) => match open {
            Some("") => Next::MoveHome,
            Some(why) => Next::Leave(format!("it is at {site}: {home} may not have it: {why}")),
            None => Next::Leave(format!("it is at {site}: what stands against {home} is unknown")),
        },
        ("free" | "blocked", None) => match open {
            Some("") => Next::GrantHome,
            _ if t.sites.get(away).is_some_and(String::is_empty) => Next::GrantAway,
            Some(why) => Next::Wait(format!("nobody holds it: {home} may not have it: {why}")),
            None => Next::Wait("nobody holds it".to_owned()),
        },
        (state, _) => Next::Wait(format!("it is {state}: {}", t.because)),
    }
}

impl Way<'_> {
    /// Brings it home, if that is safe.
    pub(super) async fn go(&self) -> End {
        let until = Instant::now() + self.deadline;
        let mut moved = false;
        let mut why = "nothing was heard".to_owned();
        let mut known = false;
        let mut said = String::new();
        let begun = Instant::now();
        while Instant::now() < until {
            let seen = self.look().await;
            known = seen.is_ok();
            match seen.map(|(t, socket)| (next(&t, &self.home, &self.away), socket)) {
                Ok((Next::Done, _)) => return End::Home { moved },
                Ok((Next::Leave(why), _)) => return End::Left(why),
                Ok((Next::Wait(what), _)) => why = what,
                Ok((Next::MoveHome | Next::GrantHome, socket))
                    if !self.is_alive(socket, begun).await =>
                {
                    why = format!("waiting whether {} is alive", self.home);
                }
                Ok((step, socket)) => {
                    moved |= step != Next::CallOff;
                    why = self.step(&step, socket, until).await;
                }
                Err(e) => why = e.to_string(),
            }
            if !why.is_empty() && why != said {
                self.timeline.say(Kind::Drill, format!("on the way back: {why}"));
                said.clone_from(&why);
            }
            sleep(BACK_EVERY).await;
        }
        if known { End::Left(why) } else { End::Unknown(why) }
    }

    /// As new as the ledger: an older answer could show a state that a command has changed.
    async fn look(&self) -> Result<(TicketView, &Path), Unanswered> {
        let mut why = unfit();
        for socket in &self.sockets {
            match linear(socket, &self.ticket).await {
                Ok(view) => return Ok((view, socket)),
                Err(e) => why = e,
            }
        }
        Err(why)
    }

    /// Whether home answers, or has renewed its promises since the way back began: what was
    /// promised before that has run out by now, so who may hold a ticket now has renewed.
    async fn is_alive(&self, socket: &Path, begun: Instant) -> bool {
        if let Some(home) = &self.home_socket
            && let Ok(s) = status(home, false, ASK).await
            && s.quorate
        {
            return true;
        }
        let seen = status(socket, false, ASK).await;
        seen.is_ok_and(|s| begun.elapsed() > Duration::from_millis(s.worst_takeover_ms))
    }

    /// What stood against it; empty: nothing. The next look tells how it is.
    async fn step(&self, step: &Next, socket: &Path, until: Instant) -> String {
        let left = until.saturating_duration_since(Instant::now()).min(self.step);
        let wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let (name, to, note) = (self.ticket.clone(), self.home.clone(), self.note.clone());
        let (question, what) = match step {
            Next::CallOff => (Ask::CancelMove { name, note }, "the handover is called off"),
            Next::GrantHome => (Ask::Grant { name, to, wait_ms }, "it is granted back"),
            Next::GrantAway => {
                let to = self.away.clone();
                (Ask::Grant { name, to, wait_ms }, "it is granted to the other site again")
            }
            _ => (Ask::Move { name, to, note, wait_ms }, "it is moved back"),
        };
        self.timeline.say(Kind::Fault, what);
        match ask(socket, question, left + STEP_GRACE).await {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(state: &str, site: Option<&str>, against_home: &str) -> TicketView {
        let sites = [("paris", against_home), ("rome", "")];
        TicketView {
            state: state.to_owned(),
            site: site.map(str::to_owned),
            sites: sites.map(|(s, w)| (s.to_owned(), w.to_owned())).into(),
            because: "of something".to_owned(),
            ..TicketView::default()
        }
    }

    #[test]
    fn each_state_has_its_way_home_and_what_is_not_safe_is_left() {
        let of = |state, site, against| next(&ticket(state, site, against), "paris", "rome");
        assert_eq!(of("held", Some("paris"), ""), Next::Done);
        assert_eq!(of("handover", Some("paris"), ""), Next::CallOff);
        assert_eq!(of("held", Some("rome"), ""), Next::MoveHome);
        assert_eq!(of("blocked", Some("rome"), ""), Next::MoveHome, "it did not start there");
        assert_eq!(of("free", None, ""), Next::GrantHome);
        for (state, site) in [("handover", "rome"), ("suspect", "rome"), ("stopping", "paris")] {
            assert!(matches!(of(state, Some(site), ""), Next::Wait(_)), "{state}");
        }
        assert!(matches!(of("unknown", None, ""), Next::Wait(_)));
        assert!(matches!(of("waiting-proof", None, ""), Next::Wait(_)), "no proof is invented");
        assert_eq!(of("free", None, "it has no session"), Next::GrantAway);
        let Next::Leave(why) = of("held", Some("rome"), "lag 9 s") else { panic!("forced") };
        assert!(why.contains("lag 9 s"), "{why}");
        let unknown = |state, site| TicketView { sites: [].into(), ..ticket(state, site, "") };
        let of = |state, site| next(&unknown(state, site), "paris", "rome");
        assert!(matches!(of("held", Some("rome")), Next::Leave(_)));
        assert!(matches!(of("free", None), Next::Wait(_)));
    }
}
