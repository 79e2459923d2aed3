//! What happened, in order: printed as it happens, and kept for the report.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::MAX_EVENTS;
use super::clock::{At, ms};
use crate::words::plain;

/// Who speaks in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The demo itself.
    Demo,
    /// The conductor of a drill.
    Drill,
    /// Something is looked at before, or afterwards.
    Check,
    /// A phase begins or ends.
    Phase,
    /// Something is broken or repaired on purpose.
    Fault,
    /// What the ticket's service does, as the witness sees it.
    Service,
    /// What the client gets.
    Client,
    /// The name.
    Dns,
    /// The route.
    Bgp,
}

impl Kind {
    /// As it stands in a line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Drill => "drill",
            Self::Check => "check",
            Self::Phase => "phase",
            Self::Fault => "fault",
            Self::Service => "service",
            Self::Client => "client",
            Self::Dns => "dns",
            Self::Bgp => "bgp",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Phase => "\x1b[1m",
            Self::Fault => "\x1b[33m",
            Self::Service => "\x1b[36m",
            Self::Client => "\x1b[32m",
            Self::Demo | Self::Drill | Self::Check | Self::Dns | Self::Bgp => "\x1b[2m",
        }
    }
}

/// Where lines go while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// To stdout, for people.
    Text,
    /// To stdout, one JSON object a line.
    Json,
    /// To stderr, for people: stdout is for the report.
    Aside,
    /// Nowhere; they are kept only.
    #[cfg(test)]
    Nothing,
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Milliseconds since it began.
    pub(crate) t_ms: f64,
    /// Who speaks.
    pub(crate) kind: Kind,
    /// What.
    pub(crate) text: String,
}

/// The timeline; clones are the same one.
#[derive(Clone)]
pub(crate) struct Timeline {
    begun: At,
    show: Show,
    colour: bool,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Timeline {
    /// An empty one, which begins now.
    pub(crate) fn new(show: Show) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let terminal = match show {
            Show::Text => std::io::stdout().is_terminal(),
            Show::Aside => std::io::stderr().is_terminal(),
            Show::Json => false,
            #[cfg(test)]
            Show::Nothing => false,
        };
        Self { begun: At::now(), show, colour: terminal && !unwanted, events: Arc::default() }
    }

    /// Whether stdout is for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.show == Show::Json
    }

    /// Milliseconds from the beginning to a moment.
    pub(crate) fn at(&self, at: At) -> f64 {
        ms(at.since(self.begun))
    }

    /// Says something now.
    pub(crate) fn say(&self, kind: Kind, text: impl Into<String>) {
        let text = text.into();
        // One lock for order and output: lines never cross.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { t_ms: self.at(At::now()), kind, text };
        let line = self.line(&event);
        // A reader that left does not end the demo or a drill half way.
        let _ = match self.show {
            Show::Text | Show::Json => writeln!(std::io::stdout().lock(), "{line}"),
            Show::Aside => writeln!(std::io::stderr().lock(), "{line}"),
            #[cfg(test)]
            Show::Nothing => Ok(()),
        };
        if events.len() < MAX_EVENTS {
            events.push(event);
        }
    }

    /// Puts text below the timeline, as it is.
    pub(crate) fn print(text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn line(&self, event: &Event) -> String {
        if self.is_json() {
            return serde_json::to_string(event).unwrap_or_default();
        }
        let (seconds, word) = (event.t_ms / 1e3, event.kind.word());
        let text = plain(&event.text);
        if self.colour {
            let colour = event.kind.colour();
            format!("{seconds:>8.3} s  {colour}{word:<7}  {text}\x1b[0m")
        } else {
            format!("{seconds:>8.3} s  {word:<7}  {text}")
        }
    }

    /// Everything said so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
