//! The phases, in order, each with a prediction that is made before anything is broken.
//!
//! What is predicted is an outage as the client sees it. For an unplanned loss it is the cluster's
//! own worst case (T + 2 RTT + 2 fsync, as `tierce status` shows it) and the time that a start
//! takes; for a planned move it is what `tierce tickets plan` says; where nothing should move it
//! is one period of the client. The allowance is added to all of them alike: the demo shares its
//! machine with whatever else runs there.

use std::time::Duration;

use tierce_ticket::timing::{Profile, Timing};
use tierce_wire::control::{Ask, Reply, StatusView};
use tokio::time::sleep;

use super::client::Shared;
use super::lab::{Lab, NAMES, SITES, THIRD, Trouble, Wiring};
use super::limits::{ASK, ASK_EVERY, PERIOD, SETTLE};
use super::net::Net;
use super::program::Fault;
use super::seed::Seed;
use crate::evidence::ask::{Unanswered, ask, status};
use crate::evidence::clock::At;
use crate::evidence::judge::{self, Heard};
use crate::evidence::phase::{Begun as Phase, Found, PhaseReport, known_start};
use crate::evidence::timeline::{Kind, Timeline};

/// What a phase is expected to do with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The same site under the same term.
    Stay,
    /// The other site under a greater term.
    Move,
}

/// The phase in which the ticket is moved on purpose.
pub(super) const PLANNED: &str = "planned move";

/// A phase that has begun.
struct Begun {
    holder: Heard,
    phase: Phase,
}

impl From<Unanswered> for Trouble {
    fn from(e: Unanswered) -> Self {
        Self(e.to_string())
    }
}

/// The conductor.
pub(super) struct Conductor {
    pub(super) lab: Lab,
    pub(super) net: Net,
    pub(super) shared: Shared,
    pub(super) timeline: Timeline,
    pub(super) profile: Profile,
    pub(super) allowance: Duration,
    pub(super) seed: Seed,
    /// The first start, which stands in where none was measured.
    pub(super) first_start: Duration,
    pub(super) phases: Vec<PhaseReport>,
}

fn other(site: usize) -> usize {
    1 - site
}

impl Conductor {
    fn timing(&self) -> Timing {
        self.profile.timing()
    }

    fn say(&self, kind: Kind, text: impl Into<String>) {
        self.timeline.say(kind, text);
    }

    /// All of it. An error ends it early; what was found so far stays.
    pub(super) async fn run(&mut self, faults: &[Fault]) -> Result<(), Trouble> {
        self.form().await?;
        self.healthy().await?;
        for fault in faults {
            match fault {
                Fault::Blip => self.blip().await?,
                Fault::Cut => {
                    self.cut().await?;
                    self.heal().await?;
                }
                Fault::Move => self.planned().await?,
                Fault::ArbitratorLost => self.arbitrator_lost().await?,
                Fault::Kill => self.agent_killed().await?,
                Fault::Freeze => self.agent_frozen().await?,
            }
        }
        Ok(())
    }

    // ---- the beginning ------------------------------------------------------------------------

    async fn form(&mut self) -> Result<(), Trouble> {
        let wiring = Wiring {
            fronts: self.net.relay.fronts,
            dns: self.net.dns,
            bgp: self.net.collector.local_addr(),
            profile: self.profile,
        };
        self.lab.write(&wiring)?;
        self.say(Kind::Demo, "certificates, files and resource agents are written");
        for member in [THIRD, 0, 1] {
            self.lab.start(member)?;
        }
        self.say(Kind::Demo, "started: agents paris and rome, arbitrator zurich");
        self.wait("the cluster and its ticket", |all| {
            all.iter().all(|s| !s.tickets.is_empty() && complete(s))
        })
        .await?;
        self.say(Kind::Demo, "the cluster is formed; its ticket is granted to paris");
        let grant =
            Ask::Grant { name: self.lab.ticket.clone(), to: SITES[0].to_owned(), wait_ms: 15_000 };
        match ask(&self.lab.socket(0), grant, SETTLE).await? {
            Reply::Done { took_ms, .. } => self.first_start = Duration::from_millis(took_ms),
            _ => return Err(Trouble("the grant has an answer that does not fit".to_owned())),
        }
        let took = self.first_start.as_millis();
        self.say(Kind::Demo, format!("granted, and it runs: {took} ms"));
        self.settled(0).await?;
        let since = At::now();
        while self.shared.last().is_none() && At::now().since(since) < SETTLE {
            sleep(PERIOD).await;
        }
        Ok(())
    }

    // ---- phases -------------------------------------------------------------------------------

    async fn healthy(&mut self) -> Result<(), Trouble> {
        let begun = self.begin("healthy", Expect::Stay, "nothing happens")?;
        sleep(Duration::from_secs(2)).await;
        self.end(begun);
        Ok(())
    }

    async fn blip(&mut self) -> Result<(), Trouble> {
        let begun = self.begin("blip", Expect::Stay, "a cut within the blip budget")?;
        let holder = begun.holder.site;
        let timing = self.timing();
        let budget = timing.blip_budget(timing.stop_budget);
        let length = budget.mul_f64(self.seed.between(0.4, 0.6));
        sleep(timing.renew_every.mul_f64(self.seed.between(0.0, 1.0))).await;
        let (site, length_ms) = (SITES[holder], length.as_millis());
        let budget = budget.as_millis();
        self.cut_off(holder, true, &format!("for {length_ms} ms (budget {budget} ms)"));
        sleep(length).await;
        self.cut_off(holder, false, "");
        sleep(timing.promise + Duration::from_millis(500)).await;
        self.end(begun);
        self.wait(&format!("{site} renewing again"), |all| all.iter().all(|s| complete(s))).await
    }

    async fn cut(&mut self) -> Result<(), Trouble> {
        let begun = self.begin_unplanned("cut", "the holder's site is cut off").await?;
        self.jitter().await;
        self.cut_off(begun.holder.site, true, "from everybody");
        self.taken_over(&begun).await;
        sleep(self.timing().promise + Duration::from_millis(500)).await;
        self.end(begun);
        Ok(())
    }

    async fn heal(&mut self) -> Result<(), Trouble> {
        let begun = self.begin("heal", Expect::Stay, "the cut site comes back")?;
        let holder = begun.holder.site;
        self.cut_off(other(holder), false, "");
        let settled = self.settled(holder).await;
        if settled.is_ok() {
            self.say(Kind::Demo, format!("{} takes part again", SITES[other(holder)]));
            sleep(Duration::from_millis(500)).await;
        }
        self.end(begun);
        settled
    }

    async fn planned(&mut self) -> Result<(), Trouble> {
        let holder = self.holder()?;
        let (from, to) = (holder.site, SITES[other(holder.site)]);
        let name = self.lab.ticket.clone();
        let socket = self.lab.socket(from);
        let plan = Ask::Plan { name: name.clone(), to: Some(to.to_owned()) };
        let Reply::Plan(plan) = ask(&socket, plan, SETTLE).await? else {
            return Err(Trouble("the plan has an answer that does not fit".to_owned()));
        };
        let mut begun = self.begin(PLANNED, Expect::Move, "")?;
        begun.phase.predicted = Duration::from_millis(plan.outage_ms) + 2 * PERIOD;
        begun.phase.why =
            format!("the plan's outage {} ms and two periods of the client", plan.outage_ms);
        let predicted = begun.phase.predicted.as_millis();
        self.say(Kind::Demo, format!("predicted: {predicted} ms ({})", begun.phase.why));
        self.say(Kind::Fault, format!("tierce tickets move {name} --to {to}"));
        let note = "tierce demo".to_owned();
        let ask_move = Ask::Move { name, to: to.to_owned(), note, wait_ms: 15_000 };
        match ask(&socket, ask_move, SETTLE).await {
            Ok(Reply::Done { took_ms, .. }) => {
                self.say(Kind::Demo, format!("moved, and it runs: {took_ms} ms"));
            }
            Ok(_) => self.say(Kind::Demo, "the move has an answer that does not fit"),
            Err(why) => self.say(Kind::Demo, format!("the move was not done: {why}")),
        }
        self.taken_over(&begun).await;
        let settled = self.settled(other(from)).await;
        self.end(begun);
        settled
    }

    async fn arbitrator_lost(&mut self) -> Result<(), Trouble> {
        let begun = self.begin("arbitrator lost", Expect::Stay, "zurich is killed, then back")?;
        self.jitter().await;
        self.lab.kill(THIRD)?;
        self.say(Kind::Fault, "arbitrator zurich: SIGKILL");
        sleep(self.timing().promise * 2 + Duration::from_millis(500)).await;
        self.lab.start(THIRD)?;
        self.say(Kind::Fault, "arbitrator zurich is started again");
        let settled = self.settled(begun.holder.site).await;
        self.end(begun);
        settled
    }

    async fn agent_killed(&mut self) -> Result<(), Trouble> {
        let begun = self.begin_unplanned("agent killed", "SIGKILL to the holder's agent").await?;
        let from = begun.holder.site;
        self.jitter().await;
        self.lab.kill(from)?;
        let text =
            format!("agent {}: SIGKILL; its service runs on, its guard watches", SITES[from]);
        self.say(Kind::Fault, text);
        self.taken_over(&begun).await;
        sleep(Duration::from_millis(500)).await;
        self.lab.start(from)?;
        self.say(Kind::Fault, format!("agent {} is started again", SITES[from]));
        let settled = self.settled(other(from)).await;
        self.end(begun);
        settled
    }

    async fn agent_frozen(&mut self) -> Result<(), Trouble> {
        let what = "SIGSTOP to the holder's agent for 3 T";
        let begun = self.begin_unplanned("agent frozen", what).await?;
        let from = begun.holder.site;
        self.jitter().await;
        let frozen = self.timing().promise * 3;
        self.lab.freeze(from, true)?;
        let text = format!("agent {}: SIGSTOP for {} ms", SITES[from], frozen.as_millis());
        self.say(Kind::Fault, text);
        sleep(frozen).await;
        self.lab.freeze(from, false)?;
        self.say(Kind::Fault, format!("agent {}: SIGCONT", SITES[from]));
        self.taken_over(&begun).await;
        sleep(self.timing().promise).await;
        let settled = self.settled(other(from)).await;
        self.end(begun);
        settled
    }

    // ---- parts of phases ----------------------------------------------------------------------

    fn cut_off(&self, member: usize, cut: bool, words: &str) {
        self.net.relay.set_cut(member, cut);
        let what = if cut { "is cut off" } else { "is connected again" };
        self.say(Kind::Fault, format!("{} {what} {words}", NAMES[member]).trim_end().to_owned());
    }

    /// The moment of a fault within the renewal period.
    async fn jitter(&mut self) {
        let most = self.timing().renew_every.max(Duration::from_millis(200));
        sleep(most.mul_f64(self.seed.between(0.2, 1.0))).await;
    }

    /// Who serves now, as the client sees it.
    fn holder(&self) -> Result<Heard, Trouble> {
        let last = self.shared.last().ok_or_else(|| Trouble("nobody serves".to_owned()))?;
        let age = At::now().since(last.got);
        if age > self.timing().promise {
            return Err(Trouble(format!("no answer for {} ms", age.as_millis())));
        }
        Ok(last)
    }

    fn begin(&mut self, name: &'static str, expect: Expect, what: &str) -> Result<Begun, Trouble> {
        let (holder, from) = (self.holder()?, At::now());
        let number = self.phases.len() + 1;
        let serves = format!("{} serves, term {}", SITES[holder.site], holder.term);
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        self.say(Kind::Phase, format!("{number} {name}{what} ({serves})"));
        let why = "one period of the client".to_owned();
        let to = if expect == Expect::Move { other(holder.site) } else { holder.site };
        let phase = Phase {
            name: name.to_owned(),
            from,
            site: SITES[holder.site].to_owned(),
            term: holder.term,
            expected: SITES[to].to_owned(),
            predicted: PERIOD,
            why,
            allowance: self.allowance,
        };
        Ok(Begun { holder, phase })
    }

    /// Begins a phase in which the holder is lost without a word.
    async fn begin_unplanned(&mut self, name: &'static str, what: &str) -> Result<Begun, Trouble> {
        let successor = other(self.holder()?.site);
        let socket = self.lab.socket(successor);
        let worst = Duration::from_millis(status(&socket, false, ASK).await?.worst_takeover_ms);
        let to = Some(SITES[successor].to_owned());
        let plan = ask(&socket, Ask::Plan { name: self.lab.ticket.clone(), to }, SETTLE).await?;
        let start = match plan {
            Reply::Plan(plan) => known_start(&plan),
            _ => None,
        };
        let (start, basis) = match start {
            Some(start) => (start, "measured there"),
            None => (self.first_start, "as at the first site"),
        };
        let mut begun = self.begin(name, Expect::Move, what)?;
        begun.phase.predicted = worst + start + PERIOD;
        begun.phase.why = format!(
            "T + 2 RTT + 2 fsync = {} ms, a start {} ms ({basis}), one period of the client",
            worst.as_millis(),
            start.as_millis()
        );
        let predicted = begun.phase.predicted.as_millis();
        self.say(Kind::Demo, format!("predicted: {predicted} ms at most ({})", begun.phase.why));
        Ok(begun)
    }

    /// Waits until the client is served by the other site, or until it is far too late.
    async fn taken_over(&self, begun: &Begun) {
        let most = begun.phase.predicted + self.allowance + SETTLE;
        let since = At::now();
        let moved = |h: Heard| h.site != begun.holder.site && h.term > begun.holder.term;
        while !self.shared.last().is_some_and(moved) && At::now().since(since) < most {
            sleep(PERIOD).await;
        }
    }

    /// Measures and judges.
    fn end(&mut self, begun: Begun) {
        let to = At::now();
        let (gap, last) = {
            let book = self.shared.book();
            let gap = judge::longest_gap(&book.client, begun.phase.from, to);
            (gap, book.client.last().copied().unwrap_or(begun.holder))
        };
        let (site, term) = (SITES[last.site].to_owned(), last.term);
        let report =
            begun.phase.end(Found { to, gap, site, term, wrong: Vec::new() }, &self.timeline);
        report.say(&self.timeline);
        self.phases.push(report);
    }

    // ---- waiting for the cluster --------------------------------------------------------------

    /// Waits until `holder` holds the ticket and everybody could lose anybody again.
    async fn settled(&mut self, holder: usize) -> Result<(), Trouble> {
        let what = format!("{} holding and all members taking part", SITES[holder]);
        self.wait(&what, |all| {
            let held = |s: &StatusView| {
                s.tickets.first().is_some_and(|t| {
                    let free = t.sites.get(SITES[other(holder)]).is_none_or(String::is_empty);
                    t.state == "held" && t.site.as_deref() == Some(SITES[holder]) && free
                })
            };
            all.iter().all(|s| complete(s) && held(s))
        })
        .await
    }

    async fn wait(
        &mut self,
        what: &str,
        good: impl Fn(&[Box<StatusView>]) -> bool,
    ) -> Result<(), Trouble> {
        let (since, most) = (At::now(), SETTLE + self.timing().promise * 2);
        loop {
            let mut all = Vec::new();
            let mut why = Vec::new();
            for (site, name) in SITES.iter().enumerate() {
                match status(&self.lab.socket(site), false, ASK).await {
                    Ok(view) => {
                        why.push((*name, format!("{} {}", view.summary, missing(&view))));
                        all.push(view);
                    }
                    Err(e) => why.push((*name, e.to_string())),
                }
            }
            if all.len() == SITES.len() && good(&all) {
                return Ok(());
            }
            if let Some((name, code)) = self.lab.ended() {
                let log = self.lab.log_tail(name, 12);
                return Err(Trouble(format!("{name} ended by itself ({code}); its log:\n{log}")));
            }
            if At::now().since(since) > most {
                let why: Vec<_> = why.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                let why = why.join("; ");
                return Err(Trouble(format!("not reached in time: {what}; {why}")));
            }
            sleep(ASK_EVERY).await;
        }
    }
}

/// Whether a site has a majority, every member, every session, and every voter's promise.
fn complete(s: &StatusView) -> bool {
    s.quorate && missing(s).is_empty()
}

fn missing(s: &StatusView) -> String {
    let lacks = |m: &tierce_wire::control::MemberView| {
        let own = m.name == s.member;
        !m.connected
            || m.refused.is_some()
            || (m.role == "site" && m.session.is_none())
            || (!own && m.promise_left_ms.unwrap_or(0) == 0)
    };
    let names: Vec<&str> = s.members.iter().filter(|m| lacks(m)).map(|m| m.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("(not complete: {})", names.join(", ")) }
}
