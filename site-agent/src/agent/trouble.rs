//! What goes wrong: alarms, copies of the flight recorder, and a ticket whose resources do not start
//! here, which is offered to the best other site when its mode lets it move by itself.

use std::path::PathBuf;
use std::time::Instant;

use tierce_ticket::command::{AttributeScope, Command, Outcome};
use tierce_ticket::docket::{Hold, Holding};
use tierce_ticket::entry::Mode;
use tierce_ticket::ids::{MemberName, Term, TicketId, TicketName};
use tierce_ticket::member::{Alarm, Member};
use tierce_ticket::time::Now;
use tokio::sync::mpsc;

use super::Agent;
use crate::limits::{DUMPS_WAITING, HAND_OVER_AGAIN, MEMBER_ANSWERS, TELL_ATTEMPTS};
use crate::told::{ATTRIBUTE, Told};

/// Where a ticket that does not start here could go.
enum Offer {
    /// It is ours no more, or moves already, or is not to move by itself.
    None,
    /// No other site may hold it.
    Nowhere(TicketName),
    /// There.
    To(TicketName, MemberName),
}

/// Copies the recorder one time after another: troubles come in crowds, and threads of their own
/// would take more memory than all the rest.
pub(super) fn dumper(dir: PathBuf) -> mpsc::Sender<String> {
    let (ask, mut asked) = mpsc::channel::<String>(DUMPS_WAITING);
    tokio::spawn(async move {
        while let Some(reason) = asked.recv().await {
            let dir = dir.clone();
            let copied = tokio::task::spawn_blocking(move || tierce_trace::dump(&reason, &dir));
            match copied.await {
                Ok(Ok(path)) => {
                    tracing::info!(path = %path.display(), "the flight recorder was copied");
                }
                Ok(Err(e)) => tracing::debug!("the flight recorder was not copied: {e}"),
                Err(e) => tracing::debug!("the flight recorder was not copied: {e}"),
            }
        }
    });
    ask
}

impl Agent {
    /// An alarm, and a copy of the flight recorder under that reason.
    pub(super) fn trouble(&self, reason: &str, text: String) {
        self.shared.alarm(text);
        if self.dumps.try_send(reason.to_owned()).is_err() {
            tracing::debug!("the flight recorder was not copied: copies wait already");
        }
    }

    pub(super) fn member_alarm(&self, alarm: &Alarm) {
        let reason = match alarm {
            // Seen again after a restart, when old entries are applied anew.
            Alarm::Moved { term, .. } if !self.shared.history.is_new(term.index()) => return,
            Alarm::Moved { tickets, more, .. } => match &tickets[..] {
                [one] if *more == 0 => format!("moved-{one}"),
                _ => "moved-several".to_owned(),
            },
            Alarm::WallSkew { .. } | Alarm::DigestDiffers { .. } => {
                return self.shared.alarm(alarm.to_string());
            }
            Alarm::ClockBeyondBound { .. } | Alarm::OwnClock(_) => "clock".to_owned(),
            _ => "member".to_owned(),
        };
        self.trouble(&reason, alarm.to_string());
    }

    // ----- results of grants that people asked for -----------------------------------------------

    /// Remembers what became of a grant, and tells the cluster when somebody may wait for it.
    pub(super) fn tell_result(&mut self, ticket: TicketId, told: &Told) {
        self.shared.state().told.insert(ticket, told.clone());
        if self.owed.get(&ticket) != Some(&told.term) {
            return;
        }
        self.owed.remove(&ticket);
        let name: Result<TicketName, _> = self.shared.ticket_name(ticket).parse();
        let (Ok(name), Ok(attribute)) = (name, ATTRIBUTE.parse()) else { return };
        let scope = AttributeScope::TicketAt(name.clone(), self.shared.name.clone());
        let command = Command::SetAttribute { scope, name: attribute, value: Some(told.write()) };
        let (shared, places) = (self.shared.clone(), self.own_commands.clone());
        tokio::spawn(async move {
            let Ok(_place) = places.acquire_owned().await else { return };
            for _ in 0..TELL_ATTEMPTS {
                match shared.member.command(command.clone()).await {
                    Outcome::Done { .. } => return,
                    outcome => tracing::info!(ticket = %name, ?outcome, "the result was not told"),
                }
            }
        });
    }

    // ----- a ticket that does not start here -----------------------------------------------------

    /// Offers each ticket that does not start here to another site, now and then.
    pub(super) fn offer_failed(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, b) in &mut self.shared.state().blocked {
            let asked = b.offered.is_some_and(|at| now.duration_since(at) < HAND_OVER_AGAIN);
            if !b.stop_failed && !asked {
                due.push((*id, b.term, b.why.clone(), b.offered.is_none()));
                b.offered = Some(now);
            }
        }
        for (ticket, term, why, first) in due {
            self.offer(ticket, term, why, first);
        }
    }

    fn offer(&self, ticket: TicketId, term: Term, why: String, first: bool) {
        let (shared, me) = (self.shared.clone(), self.shared.name.clone());
        tokio::spawn(async move {
            let from = me.clone();
            let read = shared.member.read(move |m, now| offer_of(m, now, ticket, term, &from));
            match read.await {
                Some(Offer::To(name, to)) => {
                    let mut note = format!("its resources did not start at {me}: {why}");
                    let mut end = note.len().min(tierce_ticket::limits::NOTE_BYTES);
                    while !note.is_char_boundary(end) {
                        end -= 1;
                    }
                    note.truncate(end);
                    let command = Command::Move { name: name.clone(), to: to.clone(), note };
                    match shared.member.command(command).await {
                        Outcome::Done { .. } => {
                            shared.alarm(format!(
                                "{name} is handed over to {to}: it does not start here"
                            ));
                        }
                        outcome => tracing::info!(ticket = %name, %to, ?outcome, "not handed over"),
                    }
                }
                Some(Offer::Nowhere(name)) if first => {
                    let text =
                        format!("{name} does not start here, and no other site may hold it now");
                    shared.alarm(text);
                }
                _ => {}
            }
        });
    }

    // ----- the service manager's watchdog --------------------------------------------------------

    /// Says that this process lives, once the member has answered: a stuck member is no life.
    pub(super) fn feed_watchdog(&self) {
        if sd_notify::watchdog_enabled().is_none() {
            return;
        }
        let member = self.shared.member.clone();
        tokio::spawn(async move {
            let answer = tokio::time::timeout(MEMBER_ANSWERS, member.read(|_, _| ())).await;
            if matches!(answer, Ok(Some(()))) {
                super::start::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        });
    }
}

fn offer_of(m: &Member, now: Now, ticket: TicketId, term: Term, me: &MemberName) -> Offer {
    let Some(docket) = m.docket() else { return Offer::None };
    let Some(t) = docket.ticket(ticket) else { return Offer::None };
    let ours = matches!(
        &t.holding,
        Holding::Held { site, term: held, handover: None, taking_back: false, .. }
            if site == me && *held == term
    );
    if !ours || t.policy.mode != Mode::Auto || matches!(t.hold, Some(Hold::Operator(_))) {
        return Offer::None;
    }
    let sites = docket.site_names();
    let others = t.ranked_sites(&sites).into_iter().filter(|s| *s != me);
    let mut eligible = others.filter(|s| m.eligibility(now, ticket, s).is_ok());
    match eligible.next() {
        Some(to) => Offer::To(t.name.clone(), to.clone()),
        None => Offer::Nowhere(t.name.clone()),
    }
}
