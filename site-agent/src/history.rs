//! The history of decisions at this member: rows of the index, written as entries are applied.
//!
//! Nothing safety depends on is here: the ledger is the truth, the index answers questions. Its
//! writes go through a thread of their own, for they touch the disk, and the agent's own thread has
//! leases to renew. An index that cannot keep up or is damaged loses rows, never time.
//!
//! After a restart the member applies again what its journal retains, so the mark of the index (how
//! far it got) tells old entries from new ones: [`History::is_new`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use tierce_store::{AppliedMark, HistoryKey, Index, IndexBatch};
use tierce_ticket::docket::{Docket, Event};
use tierce_ticket::ids::LogIndex;
use tierce_wire::control::DecisionView;

use crate::limits::{HISTORY_QUEUE, HISTORY_SYNC};
use crate::view::words::utc;

/// Rows of one page when history is searched for one ticket.
const PAGE: usize = 512;
/// Pages searched at the most.
const PAGES: usize = 64;

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
#[error(
    "the history cannot be opened: {0}; decisions are taken nevertheless; check the data directory"
)]
pub(crate) struct HistoryError(String);

enum Job {
    Rows { index: u64, rows: Vec<DecisionView> },
    Close,
}

/// The history; see the module.
pub(crate) struct History {
    tenant: String,
    index: Mutex<Option<Arc<Index>>>,
    jobs: mpsc::SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
    mark: AtomicU64,
    lost: AtomicU64,
}

fn taken<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// Opens the index in `dir` and starts its thread.
    pub(crate) fn open(dir: &Path, tenant: &str) -> Result<Self, HistoryError> {
        let opened = Index::open(dir).map_err(|e| HistoryError(e.to_string()))?;
        if let Some(aside) = &opened.set_aside {
            let aside = aside.display();
            tracing::warn!(%aside, "a damaged index was set aside; history begins anew");
        }
        let index = Arc::new(opened.index);
        let mark = index.applied_mark(tenant).map_err(|e| HistoryError(e.to_string()))?;
        let (jobs, queue) = mpsc::sync_channel(HISTORY_QUEUE);
        let (of, name) = (index.clone(), tenant.to_owned());
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || work(&of, &name, &queue))
            .map_err(|e| HistoryError(e.to_string()))?;
        Ok(Self {
            tenant: tenant.to_owned(),
            index: Mutex::new(Some(index)),
            jobs,
            thread: Mutex::new(Some(thread)),
            mark: AtomicU64::new(mark.0),
            lost: AtomicU64::new(0),
        })
    }

    /// Whether this entry is newer than everything seen before, also before a restart.
    pub(crate) fn is_new(&self, index: LogIndex) -> bool {
        index.0 > self.mark.load(Ordering::Relaxed)
    }

    /// Notes what an entry did.
    pub(crate) fn decided(&self, index: LogIndex, rows: Vec<DecisionView>) {
        self.mark.fetch_max(index.0, Ordering::Relaxed);
        if self.jobs.try_send(Job::Rows { index: index.0, rows }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The docket was replaced by a snapshot: what it remembers of each ticket is taken over.
    pub(crate) fn docket_replaced(&self, docket: &Docket) {
        let since = self.mark.load(Ordering::Relaxed);
        let mut rows: BTreeMap<u64, Vec<DecisionView>> = BTreeMap::new();
        for t in docket.tickets() {
            for d in t.history.iter().filter(|d| d.index.0 > since) {
                rows.entry(d.index.0).or_default().push(DecisionView {
                    index: d.index.0,
                    at: utc(d.wall_ms),
                    ticket: Some(t.name.to_string()),
                    what: d.what.clone(),
                });
            }
        }
        for (index, rows) in rows {
            self.decided(LogIndex(index), rows);
        }
        self.decided(docket.applied(), Vec::new());
    }

    /// Rows that found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Reads decisions, newest first. It touches the disk: call it off the agent's own thread.
    pub(crate) fn reader(&self) -> Reader {
        let (index, tenant) = (taken(&self.index).clone(), self.tenant.clone());
        Reader { index, tenant }
    }

    /// Writes what waits and closes. Blocks for as long as the disk takes.
    pub(crate) fn close(&self) {
        let _ = self.jobs.send(Job::Close);
        if let Some(thread) = taken(&self.thread).take() {
            let _ = thread.join();
        }
        let index = taken(&self.index).take().and_then(Arc::into_inner);
        match index.map(Index::close) {
            Some(Ok(())) => {}
            Some(Err(e)) => tracing::warn!("the history was not closed in order: {e}"),
            None => tracing::debug!("the history is still read from; it is rebuilt if need be"),
        }
    }
}

/// Reads history on another thread.
pub(crate) struct Reader {
    index: Option<Arc<Index>>,
    tenant: String,
}

impl Reader {
    /// Decisions, newest first.
    pub(crate) fn newest(
        &self,
        ticket: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DecisionView>, String> {
        let Some(index) = &self.index else { return Err("the history is closed".to_owned()) };
        let mut found = Vec::new();
        let mut before = None;
        for _ in 0..PAGES {
            let page = index.newest(&self.tenant, before, PAGE).map_err(|e| e.to_string())?;
            let Some((last, _)) = page.last() else { break };
            before = Some(*last);
            let rows =
                page.iter().filter_map(|(_, v)| serde_json::from_slice::<DecisionView>(v).ok());
            found.extend(rows.filter(|d| ticket.is_none() || d.ticket.as_deref() == ticket));
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

fn work(index: &Index, tenant: &str, queue: &mpsc::Receiver<Job>) {
    let mut synced = Instant::now();
    let mut dirty = false;
    loop {
        match queue.recv_timeout(HISTORY_SYNC) {
            Ok(Job::Rows { index: at, rows }) => {
                dirty = true;
                if let Err(e) = write(index, tenant, at, &rows) {
                    tracing::warn!("a row of history is lost: {e}");
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(Job::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        if dirty && synced.elapsed() >= HISTORY_SYNC {
            (synced, dirty) = (Instant::now(), false);
            if let Err(e) = index.sync() {
                tracing::warn!("the history is not durable: {e}");
            }
        }
    }
}

fn write(index: &Index, tenant: &str, at: u64, rows: &[DecisionView]) -> Result<(), String> {
    let mut batch = IndexBatch::default();
    for (sub, row) in rows.iter().enumerate() {
        let value = serde_json::to_vec(row).map_err(|e| e.to_string())?;
        batch.history(HistoryKey { log_index: at, sub: sub as u32 }, value);
    }
    index.apply(tenant, &batch, Some(AppliedMark(at))).map_err(|e| e.to_string())
}

/// What an entry did, in words. `name`: a ticket's name by its number.
pub(crate) fn rows(
    index: LogIndex,
    wall_ms: u64,
    events: &[Event],
    name: impl Fn(tierce_ticket::ids::TicketId) -> String,
) -> Vec<DecisionView> {
    let row = |event: &Event| {
        let (ticket, what) = words(event, &name)?;
        Some(DecisionView { index: index.0, at: utc(wall_ms), ticket, what })
    };
    events.iter().filter_map(row).collect()
}

fn words(
    event: &Event,
    name: impl Fn(tierce_ticket::ids::TicketId) -> String,
) -> Option<(Option<String>, String)> {
    let of = |id: &tierce_ticket::ids::TicketId| Some(name(*id));
    Some(match event {
        Event::ConfigurationChanged { index } => (None, format!("configuration {index} in force")),
        Event::SessionOpened { session, site, supersedes } => {
            let from = supersedes.map(|s| format!(", takes over session {s}")).unwrap_or_default();
            (None, format!("{site} opened session {session}{from}"))
        }
        Event::SessionClosed { session, site } => {
            (None, format!("{site} closed session {session}"))
        }
        Event::SessionExpired { session, site, proof, tickets } => (
            None,
            format!("session {session} of {site} expired, proof {proof}; {tickets} tickets lost"),
        ),
        Event::Granted { ticket, site, term, proof, automatic, .. } => {
            let how = if *automatic { " by itself" } else { "" };
            (of(ticket), format!("granted to {site}{how}, term {term}, proof {proof}"))
        }
        Event::Released { ticket, site, term } => {
            (of(ticket), format!("released by {site}, term {term}"))
        }
        Event::HandoverBegun { ticket, from, to, .. } => {
            let to = to.as_ref().map_or("nobody (revoke)".to_owned(), ToString::to_string);
            (of(ticket), format!("handover from {from} to {to} begun"))
        }
        Event::HandoverCancelled { ticket, note, .. } => {
            (of(ticket), format!("handover called off: {note}"))
        }
        Event::TakeBackBegun { ticket, term } => {
            (of(ticket), format!("being taken back, term {term}"))
        }
        Event::TicketLost { ticket, site, term, proof } => {
            (of(ticket), format!("taken back from {site}, term {term}, proof {proof}"))
        }
        Event::ProofImproved { session, proof } => {
            (None, format!("the holder of session {session} is down, proof {proof}"))
        }
        Event::TicketSet { ticket } => (of(ticket), "made, or its policy changed".to_owned()),
        Event::TicketRemoved { name, .. } => (Some(name.to_string()), "removed".to_owned()),
        Event::HoldChanged { ticket } => {
            (of(ticket), "held in place, or free to move again".to_owned())
        }
        Event::Proposed { ticket, to, mode } => {
            (of(ticket), format!("proposed: grant to {to} (mode {mode:?})").to_lowercase())
        }
        Event::SiteDeclared { site, state } => {
            (None, format!("{site} declared {state:?}").to_lowercase())
        }
        Event::AttributeSet { .. } | Event::Skipped { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(index: u64, ticket: &str) -> DecisionView {
        let what = format!("decision {index}");
        DecisionView { index, at: utc(index), ticket: Some(ticket.to_owned()), what }
    }

    #[test]
    fn history_is_newest_first_by_ticket_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let h = History::open(dir.path(), "shop").unwrap();
        for i in 1..=20 {
            assert!(h.is_new(LogIndex(i)));
            h.decided(LogIndex(i), vec![view(i, if i % 2 == 0 { "web" } else { "db" })]);
        }
        h.close();
        let h = History::open(dir.path(), "shop").unwrap();
        assert!(!h.is_new(LogIndex(20)) && h.is_new(LogIndex(21)));
        let all: Vec<u64> = h.reader().newest(None, 3).unwrap().iter().map(|d| d.index).collect();
        assert_eq!(all, [20, 19, 18]);
        let db: Vec<u64> =
            h.reader().newest(Some("db"), 2).unwrap().iter().map(|d| d.index).collect();
        assert_eq!(db, [19, 17]);
        assert_eq!(h.lost(), 0);
        h.close();
    }
}
