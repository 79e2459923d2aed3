//! What happened, in order: printed as it happens, and kept for the report.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::clock::{At, ms};
use super::limits::MAX_EVENTS;

/// Who speaks in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The demo itself.
    Demo,
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
    fn word(self) -> &'static str {
        match self {
            Self::Demo => "demo",
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
            Self::Demo | Self::Dns | Self::Bgp => "\x1b[2m",
        }
    }
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// Milliseconds since the demo began.
    pub(super) t_ms: f64,
    /// Who speaks.
    pub(super) kind: Kind,
    /// What.
    pub(super) text: String,
}

/// The timeline; clones are the same one.
#[derive(Clone)]
pub(super) struct Timeline {
    begun: At,
    json: bool,
    colour: bool,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Timeline {
    pub(super) fn new(json: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let colour = !json && !unwanted && std::io::stdout().is_terminal();
        Self { begun: At::now(), json, colour, events: Arc::default() }
    }

    /// Whether lines are for programs.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Milliseconds from the beginning to a moment.
    pub(super) fn at(&self, at: At) -> f64 {
        ms(at.since(self.begun))
    }

    /// Says something now.
    pub(super) fn say(&self, kind: Kind, text: impl Into<String>) {
        let text = text.into();
        // One lock for order and output: lines never cross.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { t_ms: self.at(At::now()), kind, text };
        let line = self.line(&event);
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}"); // a reader that left does not end the demo half way
        if events.len() < MAX_EVENTS {
            events.push(event);
        }
    }

    /// Puts text below the timeline, as it is.
    pub(super) fn print(text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn line(&self, event: &Event) -> String {
        if self.json {
            return serde_json::to_string(event).unwrap_or_default();
        }
        let (seconds, word) = (event.t_ms / 1e3, event.kind.word());
        let text = &event.text;
        if self.colour {
            let colour = event.kind.colour();
            format!("{seconds:>8.3} s  {colour}{word:<7}  {text}\x1b[0m")
        } else {
            format!("{seconds:>8.3} s  {word:<7}  {text}")
        }
    }

    /// Everything said so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
