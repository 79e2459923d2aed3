//! Whether this site could hold a ticket: what handlers and the lag command say.
//!
//! A ticket without handlers is ready and costs nothing. A handler that was not asked yet, hangs,
//! fails or cannot be run is a refusal with its reason: silence is never consent.

use std::time::Duration;

use tierce_ticket::message::TicketReadiness;
use tierce_ticket::time::HolderTime;

use super::limits::{HANDLER_INTERVAL, HANDLER_TIMEOUT, LAG_STEP};
use super::settings::Setting;
use crate::config::Span;

/// One thing that is asked again and again.
#[derive(Clone, Debug)]
struct Check {
    words: Vec<String>,
    timeout: Duration,
    interval: Duration,
    due: HolderTime,
    running: bool,
    result: Result<String, String>,
}

impl Check {
    fn new(
        words: &[String],
        timeout: Option<Span>,
        interval: Option<Span>,
        now: HolderTime,
    ) -> Self {
        Self {
            words: words.to_vec(),
            timeout: timeout.map_or(HANDLER_TIMEOUT, Duration::from),
            interval: interval.map_or(HANDLER_INTERVAL, Duration::from),
            due: now,
            running: false,
            result: Err(format!("{} has not answered yet", name(words))),
        }
    }
}

fn name(words: &[String]) -> &str {
    words.first().map_or("the handler", |w| w.rsplit('/').next().unwrap_or(w))
}

/// All checks of one ticket; the lag command is the last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    all: Vec<Check>,
    lag: bool,
}

/// A check that is to be run now.
pub(crate) struct Ask {
    /// Which.
    pub(crate) check: usize,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Within.
    pub(crate) timeout: Duration,
}

impl Checks {
    pub(crate) fn new(setting: &Setting, now: HolderTime) -> Self {
        let gate =
            |g: &crate::config::GateConfig| Check::new(&g.handler, g.timeout, g.interval, now);
        let mut all: Vec<Check> = setting.gates.iter().map(gate).collect();
        all.extend(setting.lag.iter().map(|words| Check::new(words, None, None, now)));
        Self { all, lag: setting.lag.is_some() }
    }

    /// When something is to be asked next.
    pub(crate) fn poll_deadline(&self) -> Option<HolderTime> {
        self.all.iter().filter(|c| !c.running).map(|c| c.due).min()
    }

    /// Everything is asked again at once.
    pub(crate) fn hurry(&mut self, now: HolderTime) {
        for check in &mut self.all {
            check.due = now;
        }
    }

    /// What is due. Each check runs once at a time.
    pub(crate) fn due(&mut self, now: HolderTime) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (index, check) in self.all.iter_mut().enumerate() {
            if !check.running && now >= check.due {
                check.running = true;
                check.due = now + check.interval;
                asks.push(Ask { check: index, words: check.words.clone(), timeout: check.timeout });
            }
        }
        asks
    }

    /// What one of them said.
    pub(crate) fn answered(&mut self, now: HolderTime, index: usize, said: Result<String, String>) {
        if let Some(check) = self.all.get_mut(index) {
            check.running = false;
            check.due = check.due.max(now); // a slow one is not run twice in a row
            check.result = said;
        }
    }

    /// The ticket's readiness; `None`: nothing to say, it is ready.
    pub(crate) fn readiness(&self) -> Option<TicketReadiness> {
        let handlers = if self.lag { &self.all[..self.all.len() - 1] } else { &self.all[..] };
        let refused = handlers.iter().find_map(|c| {
            c.result.as_ref().err().map(|why| format!("handler {}: {why}", name(&c.words)))
        });
        let lag = self.all.last().filter(|_| self.lag).map(|c| match &c.result {
            Ok(text) => text.parse::<Span>().map(Duration::from).map_err(|e| e.to_string()),
            Err(why) => Err(why.clone()),
        });
        let (lag, no_lag) = match lag {
            Some(Ok(lag)) => (Some(lag), None),
            Some(Err(why)) => (None, Some(format!("lag is not known: {why}"))),
            None => (None, None),
        };
        let found = TicketReadiness { blocked: refused.or(no_lag), lag };
        (found != TicketReadiness::default()).then_some(found)
    }
}

/// Whether the difference is worth a message: every change of a refusal, a lag that moved.
pub(crate) fn differs(a: Option<&TicketReadiness>, b: Option<&TicketReadiness>) -> bool {
    match (a, b) {
        (None, None) => false,
        (Some(a), Some(b)) => a.blocked != b.blocked || lag_moved(a.lag, b.lag),
        _ => true,
    }
}

fn lag_moved(a: Option<Duration>, b: Option<Duration>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) > LAG_STEP.max(a / 10),
        (a, b) => a != b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GateConfig, TicketConfig};
    use tierce_ticket::timing::Profile;

    fn at(ms: u64) -> HolderTime {
        HolderTime::from_nanos(ms * 1_000_000)
    }

    fn checks(handlers: &[&str], lag: bool) -> Checks {
        let gates = handlers.iter().map(|h| GateConfig {
            handler: vec![(*h).to_owned()],
            timeout: None,
            interval: Some(Span(Duration::from_secs(1))),
        });
        let text = "name = \"web\"";
        let mut ticket: TicketConfig = toml::from_str(text).unwrap();
        ticket.gates = gates.collect();
        ticket.lag_command = lag.then(|| vec!["lag".to_owned()]);
        Checks::new(&Setting::new(&ticket, &Profile::Lan.timing(), true), at(0))
    }

    #[test]
    fn a_ticket_without_handlers_is_ready_and_never_due() {
        let c = checks(&[], false);
        assert_eq!((c.readiness(), c.poll_deadline()), (None, None));
    }

    #[test]
    fn silence_is_a_refusal_and_the_first_refusal_names_its_handler() {
        let mut c = checks(&["/bin/a", "/bin/b"], false);
        let blocked = |c: &Checks| c.readiness().and_then(|r| r.blocked).unwrap_or_default();
        assert!(blocked(&c).contains("handler a: a has not answered yet"));
        assert_eq!(c.due(at(0)).len(), 2);
        assert_eq!(c.due(at(5_000)).len(), 0, "each runs once at a time");
        c.answered(at(10), 0, Ok(String::new()));
        c.answered(at(10), 1, Err("disk is full (1)".to_owned()));
        assert_eq!(blocked(&c), "handler b: disk is full (1)");
        c.answered(at(20), 1, Ok(String::new()));
        assert_eq!(c.readiness(), None);
        assert_eq!(c.poll_deadline(), Some(at(1_000)));
    }

    #[test]
    fn a_lag_is_read_as_a_duration_and_told_when_it_moved() {
        let mut c = checks(&[], true);
        assert!(c.readiness().is_some_and(|r| r.blocked.is_some()));
        c.due(at(0));
        c.answered(at(1), 0, Ok("1.5s".to_owned()));
        let lag = |ms| TicketReadiness { blocked: None, lag: Some(Duration::from_millis(ms)) };
        assert_eq!(c.readiness(), Some(lag(1_500)));
        c.answered(at(1), 0, Ok("fast".to_owned()));
        let blocked = c.readiness().and_then(|r| r.blocked).unwrap_or_default();
        assert!(blocked.contains("lag is not known: `fast` is not a duration"), "{blocked}");
        assert!(!differs(Some(&lag(1_500)), Some(&lag(1_600))));
        assert!(differs(Some(&lag(1_500)), Some(&lag(1_700))));
        assert!(differs(Some(&lag(0)), None));
    }
}
