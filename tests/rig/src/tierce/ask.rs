//! Questions over a daemon's control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tierce_wire::control::{API_VERSION, Ask, Reply, Request, StatusView};

use super::{Cluster, NAMES, THIRD, other};
use crate::clock::Mono;
use crate::error::{Result, RigError};
use crate::files::until;
use crate::limits::{ANSWER, FORM};

/// Beyond T, until a voter that was started surely votes.
const QUARANTINE_MARGIN: Duration = Duration::from_millis(300);

/// Asks and waits for the final answer.
pub fn ask_at(socket: &Path, ask: &Ask, within: Duration) -> Result<Reply> {
    let what = || RigError::system(format!("asking at {}", socket.display()));
    let bad = |e: serde_json::Error| what()(e.into());
    let mut stream = UnixStream::connect(socket).map_err(what())?;
    stream.set_read_timeout(Some(within)).map_err(what())?;
    let request = Request { api_version: API_VERSION.to_owned(), ask: ask.clone() };
    let mut line = serde_json::to_string(&request).map_err(bad)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(what())?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(what())?;
        match serde_json::from_str(&line).map_err(bad)? {
            Reply::Progress { .. } => {}
            reply => return Ok(reply),
        }
    }
    Err(RigError::Answer { what: format!("{ask:?}"), said: "no final answer".to_owned() })
}

impl Cluster {
    /// A site's control socket.
    pub fn socket(&self, site: usize) -> PathBuf {
        self.path(NAMES[site]).join("control.sock")
    }

    /// Asks a site's daemon; the final answer.
    pub fn ask(&self, site: usize, ask: &Ask) -> Result<Reply> {
        ask_at(&self.socket(site), ask, ANSWER)
    }

    /// A site's status, if it answers.
    pub fn status(&self, site: usize) -> Option<StatusView> {
        match self.ask(site, &Ask::Status { linear: false }) {
            Ok(Reply::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// Asks for something that must be done.
    pub fn must(&self, site: usize, ask: &Ask) -> Result<u64> {
        match self.ask(site, ask)? {
            Reply::Done { term, .. } => Ok(term.unwrap_or(0)),
            other => Err(RigError::Answer { what: format!("{ask:?}"), said: format!("{other:?}") }),
        }
    }

    /// Grants a ticket to a site, asked there; done when its resources run.
    pub fn grant(&self, ticket: &str, site: usize) -> Result<u64> {
        let wait_ms = ANSWER.as_millis() as u64;
        let (name, to) = (ticket.to_owned(), NAMES[site].to_owned());
        self.must(site, &Ask::Grant { name, to, wait_ms })
    }

    /// Moves a ticket to a site, asked at the other; done when its resources run.
    pub fn shift(&self, ticket: &str, to: usize) -> Result<u64> {
        let wait_ms = ANSWER.as_millis() as u64;
        let (name, note) = (ticket.to_owned(), "the rig".to_owned());
        let ask = Ask::Move { name, to: NAMES[to].to_owned(), note, wait_ms };
        self.must(other(to), &ask)
    }

    /// Asks a site to have a ticket moved to it, and does not wait for what becomes of it.
    pub fn request_move(&self, ticket: &str, to: usize) -> Result<()> {
        const WITHIN: Duration = Duration::from_secs(10);
        let (name, note) = (ticket.to_owned(), "the rig".to_owned());
        let wait_ms = WITHIN.as_millis() as u64;
        let ask = Ask::Move { name, to: NAMES[to].to_owned(), note, wait_ms };
        let socket = self.socket(to);
        let thread = std::thread::Builder::new().name("a move".to_owned());
        // A site that is down or frozen does not answer; the faults go on meanwhile.
        let asked = thread.spawn(move || drop(ask_at(&socket, &ask, WITHIN)));
        asked.map(drop).map_err(RigError::system("asking for a move"))
    }

    /// Asks a site for decisions that every member has to write down, and does not wait for them.
    pub fn request_decisions(&self, site: usize, count: usize) -> Result<()> {
        const WITHIN: Duration = Duration::from_secs(1);
        let (socket, site) = (self.socket(site), NAMES[site].to_owned());
        let thread = std::thread::Builder::new().name("decisions".to_owned());
        let asked = thread.spawn(move || {
            for n in 0..count {
                let (site, name) = (site.clone(), "filler".to_owned());
                let ask =
                    Ask::SetAttribute { site, ticket: None, name, value: Some(n.to_string()) };
                if ask_at(&socket, &ask, WITHIN).is_err() {
                    return;
                }
            }
        });
        asked.map(drop).map_err(RigError::system("asking for decisions"))
    }

    /// Whether everything is in order as one site sees it: a majority, all members connected, both
    /// sessions open, all tickets of the file there.
    pub fn in_order_at(&self, site: usize) -> bool {
        let Some(s) = self.status(site) else { return false };
        let sites = s.members.iter().filter(|m| m.role == "site");
        let mut members = s.members.iter().filter(|m| m.name != NAMES[site]);
        s.quorate
            && s.standing == "taking-part"
            && sites.clone().count() == 2
            && sites.clone().all(|m| m.session.is_some())
            && members.all(|m| m.connected)
            && s.tickets.len() >= self.options.tickets()
    }

    /// Waits until both sites agree that everything is in order.
    pub fn formed(&self) -> Result<()> {
        for (site, name) in NAMES.iter().enumerate().take(THIRD) {
            let what = || self.late(&format!("all is in order at {name}"), FORM);
            until(FORM, || self.in_order_at(site).then_some(())).ok_or_else(what)?;
        }
        Ok(())
    }

    /// The ticket's holder as one site knows it.
    pub fn holder(&self, site: usize, ticket: &str) -> Option<usize> {
        match self.ask(site, &Ask::Ticket { name: ticket.to_owned() }) {
            Ok(Reply::Ticket(t)) if t.state == "held" => {
                NAMES[..THIRD].iter().position(|n| Some(*n) == t.site.as_deref())
            }
            _ => None,
        }
    }

    /// Waits until all is in order, both sites name the same holder of a witnessed ticket, and it
    /// runs there and nowhere else. Restarted voters may vote again, too (R2).
    pub fn calm(&self, ticket: &str) -> Result<usize> {
        self.formed()?;
        let found = until(FORM, || {
            let holder = self.holder(0, ticket)?;
            let agreed = self.holder(1, ticket) == Some(holder);
            let runs = |site| self.witness(site, ticket).runs();
            (agreed && runs(holder) && !runs(other(holder))).then_some(holder)
        });
        let holder = found.ok_or_else(|| self.late(&format!("{ticket} is held in calm"), FORM))?;
        let votes_from = self.started + self.options.lease.promise + QUARANTINE_MARGIN;
        std::thread::sleep(votes_from.since(Mono::now()));
        Ok(holder)
    }
}
