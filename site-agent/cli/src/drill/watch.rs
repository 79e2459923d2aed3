//! What is seen of a ticket while a drill goes on: members and probes are asked all the time, on a
//! thread of their own, because a conductor that prints or waits must not make a gap.
//!
//! Two kinds of word are kept apart. A site's *own* word (its agent's socket was named) is
//! evidence: what its runner says to run, ran at the moment it was asked. The first member's word
//! on *another* site comes out of the ledger: good enough to see when the service came back, and no
//! proof of anything, because a member may be behind.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tierce_wire::control::{Ask, Reply, TicketView};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::limits::{ASK, LOOK_EVERY, MAX_ANSWERS, PROBES_AT_ONCE, STATUS_EVERY};
use super::probe::Target;
use crate::evidence::ask::{ask, status};
use crate::evidence::clock::{At, ms};
use crate::evidence::judge::{self, Heard, Lane};
use crate::evidence::report::ProbeReport;

/// What is watched.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) ticket: String,
    pub(super) sites: Vec<String>,
    /// Sockets and, of a site's agent, its place among the sites. The first is the one that is
    /// believed for other sites.
    pub(super) members: Vec<(PathBuf, Option<usize>)>,
    pub(super) probes: Vec<Target>,
    pub(super) every: Duration,
    /// The term when it began: no start of it is told any more.
    pub(super) first_term: u64,
}

/// A member that is asked, or a probe.
#[derive(Clone, Debug, Default)]
struct Tally {
    sent: u64,
    answers: Vec<Heard>,
    answered: u64,
    last_error: Option<String>,
    /// Since when it answers without a break.
    since: Option<At>,
    /// Its times of answering, each with its last moment.
    spans: Vec<Heard>,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Book {
    plan: Plan,
    /// Anybody's word that all of it runs.
    serving: Vec<Heard>,
    /// A site's own word that something of it runs; each time with its last moment.
    own: Vec<Heard>,
    evidence: u64,
    /// Since when each member has said so, and under which term.
    spells: Vec<Option<(u64, At)>>,
    members: Vec<Tally>,
    probes: Vec<Tally>,
    newest: Option<TicketView>,
    trouble: Option<(At, String)>,
    beyond: u64,
    begun: At,
}

/// Who runs it, by a member's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Runs {
    site: usize,
    term: u64,
    /// It is the site's own word.
    own: bool,
    /// All of it runs.
    whole: bool,
}

impl Plan {
    /// What a member's view says. `spell`: the term under which it ran it a moment ago.
    fn runs(&self, member: usize, t: &TicketView, spell: Option<u64>) -> Option<Runs> {
        let holder = t.site.as_ref().and_then(|s| self.sites.iter().position(|n| n == s));
        let term = t.term.unwrap_or(0);
        if let Some(site) = self.members[member].1 {
            let holds = holder == Some(site);
            let own_term = if holds { term } else { spell.unwrap_or(0) };
            if !t.resources.is_empty() {
                let running = |s: &str| s == "running";
                let any = t.resources.iter().any(|r| running(&r.state));
                let whole = holds && t.resources.iter().all(|r| running(&r.state));
                if any || holds {
                    return any.then_some(Runs { site, term: own_term, own: true, whole });
                }
            }
            // Nothing runs under it: to hold it is all that there is.
            let held = ["held", "hold", "handover", "suspect"].contains(&t.state.as_str());
            if holds && held {
                return Some(Runs { site, term, own: true, whole: true });
            }
        }
        let site = holder.filter(|s| !self.members.iter().any(|(_, own)| *own == Some(*s)))?;
        let started = t.starts.get(&self.sites[site]);
        let started = started.is_some_and(|s| s.term == term && s.took_ms.is_some());
        let held = ["held", "hold"].contains(&t.state.as_str());
        let believed = member == 0 && held && (started || term == self.first_term);
        believed.then_some(Runs { site, term, own: false, whole: true })
    }

    /// Probes of the service itself.
    fn service(&self) -> impl Iterator<Item = usize> + '_ {
        self.probes.iter().enumerate().filter(|(_, t)| t.site.is_none()).map(|(i, _)| i)
    }

    fn probe_site(&self, probe: usize) -> Option<usize> {
        let site = self.probes[probe].site.as_ref()?;
        self.sites.iter().position(|s| s == site)
    }
}

/// Makes the time longer that the answer belongs to, or begins one. Looking for overlaps goes over
/// all of them many times a second, so they are few.
fn extend(spans: &mut Vec<Heard>, heard: Heard) {
    let same = |s: &&mut Heard| (s.began, s.site, s.term) == (heard.began, heard.site, heard.term);
    if let Some(span) = spans.iter_mut().rev().find(same) {
        span.at = span.at.max(heard.at);
    } else if spans.len() < MAX_ANSWERS {
        spans.push(heard);
    }
}

impl Book {
    fn new(plan: Plan) -> Self {
        Self {
            serving: Vec::new(),
            own: Vec::new(),
            evidence: 0,
            spells: vec![None; plan.members.len()],
            members: vec![Tally::default(); plan.members.len()],
            probes: vec![Tally::default(); plan.probes.len()],
            newest: None,
            trouble: None,
            beyond: 0,
            begun: At::now(),
            plan,
        }
    }

    fn saw(&mut self, member: usize, asked: At, got: At, view: Result<TicketView, String>) {
        self.members[member].sent += 1;
        let view = match view {
            Ok(view) => view,
            Err(why) => {
                self.members[member].last_error = Some(why);
                self.spells[member] = None;
                return;
            }
        };
        self.members[member].answered += 1;
        let spell = self.spells[member];
        let runs = self.plan.runs(member, &view, spell.map(|s| s.0));
        if member == 0 {
            self.newest = Some(view);
        }
        let Some(r) = runs else {
            self.spells[member] = None;
            return;
        };
        let began = spell.filter(|s| s.0 == r.term).map_or(got, |s| s.1);
        self.spells[member] = Some((r.term, began));
        let n = self.members[member].sent;
        // It certainly ran when it was asked, but not before it was first heard of.
        let heard = Heard { n, site: r.site, term: r.term, began, at: asked.max(began), got };
        if r.own {
            self.evidence += 1;
            extend(&mut self.own, heard);
        }
        if !r.whole {
            return;
        }
        if self.serving.len() < MAX_ANSWERS {
            self.serving.push(heard);
        } else {
            self.beyond += 1;
        }
    }

    fn probed(&mut self, probe: usize, n: u64, asked: At, result: Result<(), String>) {
        let site = self.plan.probe_site(probe).unwrap_or(usize::MAX);
        let tally = &mut self.probes[probe];
        let got = At::now();
        if let Err(why) = result {
            (tally.last_error, tally.since) = (Some(why), None);
            return;
        }
        tally.answered += 1;
        let began = *tally.since.get_or_insert(got);
        let heard = Heard { n, site, term: 0, began, at: asked.max(began), got };
        extend(&mut tally.spans, heard);
        if tally.answers.len() < MAX_ANSWERS {
            tally.answers.push(heard);
        } else {
            self.beyond += 1;
        }
    }

    /// What the first member said last.
    pub(super) fn newest(&self) -> Option<&TicketView> {
        self.newest.as_ref()
    }

    /// Since when a majority or a member is away, and what.
    pub(super) fn trouble(&self) -> Option<(Duration, &str)> {
        let (since, what) = self.trouble.as_ref()?;
        Some((At::now().since(*since), what))
    }

    /// Who serves, as last heard.
    pub(super) fn last(&self) -> Option<Heard> {
        self.serving.last().copied()
    }

    /// The longest time without service in a window: as probes saw it, else as members did.
    pub(super) fn gap(&self, from: At, to: At) -> Duration {
        let of = |answers: &[Heard]| judge::longest_gap(answers, from, to);
        let probed = self.plan.service().map(|i| of(&self.probes[i].answers)).max();
        probed.unwrap_or_else(|| of(&self.serving))
    }

    /// For how long nobody has answered.
    pub(super) fn silence(&self) -> Duration {
        let of = |answers: &[Heard]| At::now().since(answers.last().map_or(self.begun, |a| a.got));
        let probed = self.plan.service().map(|i| of(&self.probes[i].answers)).max();
        probed.unwrap_or_else(|| of(&self.serving))
    }

    /// When it ran where, by the sites' own word.
    pub(super) fn lanes(&self) -> Vec<Lane> {
        judge::lanes(&self.own)
    }

    /// When it was seen to run where: the sites' own word, or else what was believed.
    pub(super) fn shown(&self) -> Vec<Lane> {
        let told = self.serving.iter().filter(|h| !self.is_watched(h.site));
        judge::lanes(self.own.iter().chain(told))
    }

    /// Whether a site's own word is heard.
    pub(super) fn is_watched(&self, site: usize) -> bool {
        self.plan.members.iter().any(|(_, own)| *own == Some(site))
    }

    /// For how long it ran at two sites, and answers under an overruled term.
    pub(super) fn ran_twice(&self) -> (Duration, usize) {
        let lanes = self.lanes();
        let by_site = (0..self.plan.probes.len()).filter(|i| self.plan.probe_site(*i).is_some());
        let probed = judge::lanes(by_site.flat_map(|i| &self.probes[i].spans));
        let overlap = judge::overlap(&lanes).max(judge::overlap(&probed));
        (overlap, judge::stale(&lanes, &self.own))
    }

    /// Answers that are evidence.
    pub(super) fn evidence(&self) -> u64 {
        self.evidence + self.probes.iter().map(|p| p.answered).sum::<u64>()
    }

    /// Answers that found no room.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Moments at which the service was seen.
    pub(super) fn answers(&self) -> Vec<At> {
        let probe = self.plan.service().next().map(|i| &self.probes[i].answers);
        probe.unwrap_or(&self.serving).iter().map(|h| h.got).collect()
    }

    /// What those are, and how often one is asked for.
    pub(super) fn answers_are(&self) -> (String, Duration) {
        if let Some(i) = self.plan.service().next() {
            let (target, every) = (&self.plan.probes[i], self.plan.every.as_millis());
            return (format!("From outside: {target}, every {every} ms."), self.plan.every);
        }
        let every = LOOK_EVERY.as_millis();
        let text = "No probe was given: seen from outside is what the members say, every";
        (format!("{text} {every} ms."), LOOK_EVERY)
    }

    /// Members and probes with their figures, as of now.
    pub(super) fn tallies(&self, names: &[String]) -> Vec<ProbeReport> {
        let members = self.members.iter().zip(names).enumerate().map(|(i, (tally, name))| {
            let site = self.plan.members[i].1.map(|s| self.plan.sites[s].clone());
            (format!("member {name}"), site, tally)
        });
        let probes = self.probes.iter().zip(&self.plan.probes);
        let probes = probes.map(|(tally, t)| (t.to_string(), t.site.clone(), tally));
        let now = At::now();
        members
            .chain(probes)
            .map(|(target, site, t)| ProbeReport {
                target,
                site,
                sent: t.sent,
                answered: t.answered,
                longest_gap_ms: if t.answers.is_empty() {
                    0.0
                } else {
                    ms(judge::longest_gap(&t.answers, self.begun, now))
                },
                last_error: t.last_error.clone(),
            })
            .collect()
    }
}

/// The book and the thread that writes it; the thread ends when this is dropped.
pub(super) struct Watch {
    book: Arc<Mutex<Book>>,
    _keep: oneshot::Sender<()>,
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(plan: Plan) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (keep, ended) = oneshot::channel::<()>();
        let book = Arc::new(Mutex::new(Book::new(plan.clone())));
        let shared = book.clone();
        std::thread::Builder::new().name("drill-watch".to_owned()).spawn(move || {
            runtime.block_on(async {
                for member in 0..plan.members.len() {
                    tokio::spawn(look(plan.clone(), member, shared.clone()));
                }
                for probe in 0..plan.probes.len() {
                    tokio::spawn(probe_all(plan.clone(), probe, shared.clone()));
                }
                tokio::spawn(health(plan.members[0].0.clone(), shared.clone()));
                let _ = ended.await;
            });
        })?;
        Ok(Self { book, _keep: keep })
    }

    /// What was seen.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    // A late look is not made up for: a burst would hide a gap.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn look(plan: Plan, member: usize, book: Arc<Mutex<Book>>) {
    let mut ticks = ticks(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let asked = At::now();
        let question = Ask::Ticket { name: plan.ticket.clone() };
        let view = match ask(&plan.members[member].0, question, ASK).await {
            Ok(Reply::Ticket(view)) => Ok(*view),
            Ok(_) => Err("an answer that does not fit".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        lock(&book).saw(member, asked, At::now(), view);
    }
}

async fn health(socket: PathBuf, book: Arc<Mutex<Book>>) {
    let mut ticks = ticks(STATUS_EVERY);
    loop {
        ticks.tick().await;
        let trouble = match status(&socket, false, ASK).await {
            Err(e) => Some(format!("the daemon that is asked does not answer: {e}")),
            Ok(s) if !s.quorate => Some(format!("the majority is lost: {}", s.summary)),
            Ok(s) => {
                let away: Vec<&str> =
                    s.members.iter().filter(|m| !m.connected).map(|m| m.name.as_str()).collect();
                (!away.is_empty()).then(|| format!("{} cannot be reached", away.join(", ")))
            }
        };
        let mut book = lock(&book);
        book.trouble = match (book.trouble.take(), trouble) {
            (Some((since, _)), Some(what)) => Some((since, what)),
            (None, Some(what)) => Some((At::now(), what)),
            (_, None) => None,
        };
    }
}

async fn probe_all(plan: Plan, probe: usize, book: Arc<Mutex<Book>>) {
    let mut ticks = ticks(plan.every);
    let places = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    for n in 1.. {
        ticks.tick().await;
        lock(&book).probes[probe].sent = n;
        let asked = At::now();
        let Ok(place) = places.clone().try_acquire_owned() else {
            let why = format!("{PROBES_AT_ONCE} probes are unanswered");
            lock(&book).probed(probe, n, asked, Err(why));
            continue;
        };
        let (target, book) = (plan.probes[probe].clone(), book.clone());
        tokio::spawn(async move {
            let result = target.ask().await;
            lock(&book).probed(probe, n, asked, result);
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use tierce_wire::control::{ResourceView, StartView};

    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(members: &[Option<usize>]) -> Plan {
        Plan {
            ticket: "web".to_owned(),
            sites: ["paris", "rome"].map(str::to_owned).into(),
            members: members.iter().map(|site| ("/x".into(), *site)).collect(),
            probes: Vec::new(),
            every: Duration::from_millis(100),
            first_term: 7,
        }
    }

    fn view(state: &str, site: &str, term: u64, resource: Option<&str>) -> TicketView {
        let r = |s: &str| ResourceView { state: s.to_owned(), ..ResourceView::default() };
        TicketView {
            state: state.to_owned(),
            site: Some(site.to_owned()),
            term: Some(term),
            resources: resource.map(r).into_iter().collect(),
            ..TicketView::default()
        }
    }

    #[test]
    fn a_site_is_believed_on_itself_also_when_the_ledger_says_otherwise() {
        let p = plan(&[Some(0), Some(1)]);
        let of = |member, view: &TicketView, spell| p.runs(member, view, spell);
        let running = view("held", "paris", 7, Some("running"));
        let paris = Runs { site: 0, term: 7, own: true, whole: true };
        assert_eq!(of(0, &running, None), Some(paris));
        assert_eq!(of(1, &view("held", "paris", 7, None), None), None, "rome on paris");
        assert_eq!(of(0, &view("held", "paris", 7, Some("starting")), None), None);
        // Paris runs on after the ledger has given the ticket to rome: the worst that can be.
        let on = view("held", "rome", 9, Some("running"));
        assert_eq!(of(0, &on, Some(7)), Some(Runs { whole: false, ..paris }));
    }

    #[test]
    fn a_site_that_is_not_watched_runs_when_its_start_was_told() {
        let p = plan(&[Some(0)]);
        let mut at_rome = view("held", "rome", 9, Some("stopped")); // at paris, which says so
        assert_eq!(p.runs(0, &at_rome, None), None, "granted is not started");
        at_rome.starts.insert("rome".to_owned(), StartView { term: 9, took_ms: None });
        assert_eq!(p.runs(0, &at_rome, None), None, "failed");
        at_rome.starts.insert("rome".to_owned(), StartView { term: 9, took_ms: Some(3) });
        assert_eq!(
            p.runs(0, &at_rome, None),
            Some(Runs { site: 1, term: 9, own: false, whole: true })
        );
        let p = Plan { first_term: 9, ..plan(&[None]) };
        assert!(p.runs(0, &view("held", "rome", 9, None), None).is_some(), "from the beginning");
        assert_eq!(p.runs(0, &view("handover", "rome", 9, None), None), None);
    }

    #[test]
    fn lanes_end_where_a_look_finds_nothing_and_two_at_once_are_an_overlap() {
        let mut book = Book::new(plan(&[Some(0), Some(1)]));
        let mut saw = |member, at: u64, view: TicketView| {
            book.saw(member, At(at * MS), At((at + 1) * MS), Ok(view));
        };
        saw(0, 0, view("held", "paris", 7, Some("running")));
        saw(0, 20, view("held", "paris", 7, Some("running")));
        saw(0, 40, view("handover", "paris", 7, Some("stopped")));
        saw(1, 60, view("held", "rome", 9, Some("running")));
        saw(1, 80, view("held", "rome", 9, Some("running")));
        assert_eq!(book.ran_twice(), (Duration::ZERO, 0));
        assert_eq!(book.gap(At(0), At(81 * MS)), Duration::from_millis(40));
        let lanes = book.lanes();
        assert_eq!((lanes.len(), lanes[0].to), (2, At(20 * MS)));
        let mut saw = |member, at: u64, view: TicketView| {
            book.saw(member, At(at * MS), At((at + 1) * MS), Ok(view));
        };
        // Paris comes to life again beside rome.
        saw(0, 100, view("held", "rome", 9, Some("running")));
        saw(0, 120, view("held", "rome", 9, Some("running")));
        saw(1, 140, view("held", "rome", 9, Some("running")));
        let (overlap, stale) = book.ran_twice();
        assert_eq!(overlap, Duration::from_millis(19));
        assert!(stale > 0);
    }

    #[test]
    fn a_member_that_does_not_answer_ends_the_spell() {
        let mut book = Book::new(plan(&[Some(0)]));
        book.saw(0, At(0), At(MS), Ok(view("held", "paris", 7, Some("running"))));
        book.saw(0, At(20 * MS), At(21 * MS), Err("gone".to_owned()));
        book.saw(0, At(40 * MS), At(41 * MS), Ok(view("held", "paris", 7, Some("running"))));
        assert_eq!(book.lanes().len(), 2);
        let tally = &book.tallies(&["paris".to_owned()])[0];
        assert_eq!((tally.sent, tally.answered), (3, 2));
        assert_eq!(tally.last_error.as_deref(), Some("gone"));
    }
}
