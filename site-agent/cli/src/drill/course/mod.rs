//! The steps of a switch-over: baseline, move, hold, move back; and what ends it before its end.
//!
//! While a step runs, something else is looked for all the time: the service away for longer than
//! it may be, the majority or a member lost, the ticket somewhere else, the service at two sites, a
//! signal. What is found ends the drill and sends the ticket home (`back`). A move that was asked
//! for is waited for in any case: nobody walks away from a command that may still be decided.
//!
//! Invariant: the outcome is `Passed` only when every phase was as predicted, every check of the
//! validation holds, the ticket is at home again, and there was evidence.

mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use tierce_wire::control::{Ask, Reply, TicketView};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::back::{End, Way, linear};
use super::limits::{ASK, ASK_LINEAR, AWAY, BACK_EVERY, GUARD_EVERY, SEEN, SETTLE, STEP_GRACE};
use super::preflight::Scene;
use super::switch::{SwitchArgs, predict, say};
use super::watch::{Plan, Watch};
use crate::codes;
use crate::evidence::ask::{Unanswered, ask, unfit};
use crate::evidence::clock::{At, ms};
use crate::evidence::phase::{Begun, Found, known_start};
use crate::evidence::report::{Check, Report};
use crate::evidence::timeline::{Kind, Timeline};
use crate::words::span;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Passed,
    Failed,
    /// Before its end, with this exit code.
    Code(u8),
    /// Nothing was moved: the baseline was not clean.
    Refused,
}

/// Why it ends before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Why {
    text: String,
    code: u8,
}

impl Why {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), code }
    }
}

/// Signals heard: how many, and which the last.
type Signals = watch::Receiver<(u32, &'static str)>;

/// A switch-over under way.
pub(super) struct Course<'a> {
    args: &'a SwitchArgs,
    timeline: &'a Timeline,
    report: &'a mut Report,
    watch: Watch,
    signals: Signals,
    socket: PathBuf,
    /// Members by their names: the holder is asked for plans, all of them on the way back.
    planners: Vec<(String, PathBuf)>,
    sites: Vec<String>,
    home: String,
    away: String,
    first: TicketView,
    budget: Duration,
    begun: Option<Begun>,
    note: String,
}

impl<'a> Course<'a> {
    /// Runs it to its end. An error: it could not be begun.
    pub(super) fn run(
        args: &'a SwitchArgs,
        scene: &Scene,
        home: &str,
        to: &str,
        report: &'a mut Report,
        timeline: &'a Timeline,
    ) -> std::io::Result<Ended> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sites = scene.sites();
        let first = scene.first().ticket.clone();
        let members = scene
            .seen
            .iter()
            .map(|s| (s.socket.clone(), sites.iter().position(|name| *name == s.status.member)));
        let watch = Watch::start(Plan {
            ticket: args.scope.ticket.clone(),
            sites: sites.clone(),
            members: members.collect(),
            probes: args.probes.clone(),
            every: args.every,
            first_term: first.term.unwrap_or(0),
        })?;
        let note = format!("tierce drill switch-over by {}", report.operator);
        let note = note.chars().filter(|c| !c.is_control()).take(200).collect();
        runtime.block_on(async {
            let mut course = Course {
                args,
                timeline,
                report,
                watch,
                signals: listen()?,
                socket: scene.first().socket.clone(),
                planners: scene
                    .seen
                    .iter()
                    .map(|s| (s.status.member.clone(), s.socket.clone()))
                    .collect(),
                sites,
                home: home.to_owned(),
                away: to.to_owned(),
                first,
                budget: args.budget(Some(Duration::ZERO)),
                begun: None,
                note,
            };
            Ok(course.perform(scene).await)
        })
    }

    async fn perform(&mut self, scene: &Scene) -> Ended {
        let names: Vec<String> = scene.seen.iter().map(|s| s.status.member.clone()).collect();
        let ended = match self.baseline().await {
            Err(why) if why.code == codes::INTERRUPTED => self.aborted(&why).await,
            Err(why) => {
                let check = Check::new("baseline", false, why.text);
                say(std::slice::from_ref(&check), self.timeline);
                self.report.preflight.push(check);
                Ended::Refused
            }
            Ok(()) => match self.there_and_back().await {
                Ok(()) => Ended::Passed, // if the judge agrees
                Err(why) => self.aborted(&why).await,
            },
        };
        self.judge(ended, &names)
    }

    async fn there_and_back(&mut self) -> Result<(), Why> {
        let (home, away) = (self.home.clone(), self.away.clone());
        self.travel("move", &away).await?;
        let hold = self.args.hold;
        self.begin(&format!("hold at {away}"), &away, Duration::ZERO, "nothing happens");
        self.guarded(sleep(hold)).await?;
        self.end(Vec::new());
        self.travel("switch back", &home).await?;
        self.cleanup().await
    }

    // ---- steps --------------------------------------------------------------------------------

    /// The service as it is on this day, without anybody's doing.
    async fn baseline(&mut self) -> Result<(), Why> {
        let home = self.home.clone();
        let heard = async {
            let until = Instant::now() + SEEN;
            while self.watch.book().last().is_none() && Instant::now() < until {
                sleep(GUARD_EVERY).await;
            }
        };
        heard.await;
        if self.watch.book().last().is_none() {
            let text = format!("the service was not seen to run at {home}");
            return Err(Why::new(codes::NOT_NOW, text));
        }
        self.begin("baseline", &home, Duration::ZERO, "nothing happens");
        self.guarded(sleep(self.args.baseline)).await?;
        self.end(Vec::new());
        let last = self.report.phases.last().filter(|p| !p.passed);
        match last.map(|p| p.wrong.join("; ")) {
            Some(wrong) => Err(Why::new(codes::NOT_NOW, wrong)),
            None => Ok(()),
        }
    }

    /// One planned move, with its prediction before and its validation after.
    async fn travel(&mut self, what: &str, to: &str) -> Result<(), Why> {
        let name = self.args.scope.ticket.clone();
        let from = if to == self.home { self.away.clone() } else { self.home.clone() };
        let before = self.ticket().await?;
        let plan = self.plan(&from, to).await?;
        let stand_in = before.starts.get(&from).and_then(|s| s.took_ms);
        let (predicted, why) = predict(&plan, stand_in, self.args.grain());
        let known = known_start(&plan).is_some() || stand_in.is_some();
        self.budget = self.args.budget(known.then_some(predicted));
        self.begin(&format!("{what} to {to}"), to, predicted, &why);
        let text = format!("predicted: {} without service ({why})", span(predicted));
        self.timeline.say(Kind::Drill, text);
        self.timeline.say(Kind::Fault, format!("tierce tickets move {name} --to {to}"));
        self.order(&name, &from, to).await?;
        let wrong = self.arrive(to).await?;
        self.guarded(sleep(SETTLE + self.args.grain())).await?;
        self.end(wrong);
        let after = self.ticket().await?;
        let found = self.validate(&before, &after, &from, to);
        say(&found, self.timeline);
        self.report.validation.extend(found);
        Ok(())
    }

    async fn plan(&self, from: &str, to: &str) -> Result<tierce_wire::control::PlanView, Why> {
        let own = self.planners.iter().find(|(member, _)| member == from);
        let socket = own.map_or(&self.socket, |(_, socket)| socket);
        let question = Ask::Plan { name: self.args.scope.ticket.clone(), to: Some(to.to_owned()) };
        let plan = match ask(socket, question, ASK).await.map_err(|e| refused("the plan", &e))? {
            Reply::Plan(plan) => *plan,
            _ => return Err(refused("the plan", &unfit())),
        };
        match &plan.refused {
            Some(why) => {
                Err(Why::new(codes::ERROR, format!("the move to {to} would be refused: {why}")))
            }
            None => Ok(plan),
        }
    }

    /// Asks for the move, and stays until its end is known or its deadline has gone.
    async fn order(&mut self, name: &str, from: &str, to: &str) -> Result<(), Why> {
        let deadline = self.args.deadline();
        let wait_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let question = Ask::Move {
            name: name.to_owned(),
            to: to.to_owned(),
            note: self.note.clone(),
            wait_ms,
        };
        let socket = self.socket.clone();
        let mut asked =
            tokio::spawn(async move { ask(&socket, question, deadline + STEP_GRACE).await });
        match self.guarded(&mut asked).await {
            Ok(Ok(Ok(Reply::Done { took_ms, .. }))) => {
                let text = format!("moved, and it runs: {took_ms} ms after it was asked for");
                self.timeline.say(Kind::Drill, text);
                Ok(())
            }
            Ok(Ok(Ok(_))) => Err(refused("the move", &unfit())),
            Ok(Ok(Err(e))) => Err(refused("the move", &e)),
            Ok(Err(e)) => Err(Why::new(codes::ERROR, format!("the move: {e}"))),
            Err(why) => {
                self.call_off(name, from, asked).await;
                Err(why)
            }
        }
    }

    /// The drill ends while a move is under way: it is called off if it still can be. Nobody walks
    /// away before it is clear whether it was decided, so that the way home begins from a state
    /// that stays; a decision takes no longer than the bound.
    async fn call_off(
        &mut self,
        name: &str,
        from: &str,
        asked: tokio::task::JoinHandle<Result<Reply, Unanswered>>,
    ) {
        let mut signals = self.signals.clone();
        let until = Instant::now() + ASK_LINEAR;
        while !asked.is_finished() && Instant::now() < until {
            match linear(&self.socket, name).await {
                Ok(t) if t.state == "handover" => {
                    let (name, note) = (name.to_owned(), self.note.clone());
                    let answer =
                        ask(&self.socket, Ask::CancelMove { name, note }, ASK_LINEAR).await;
                    let text = match answer {
                        Ok(_) => "the handover is called off".to_owned(),
                        Err(e) => format!("the handover goes on: {e}"),
                    };
                    self.timeline.say(Kind::Drill, text);
                }
                Ok(t) if t.site.as_deref() != Some(from) => break, // it was decided
                _ => {}
            }
            tokio::select! {
                () = sleep(BACK_EVERY) => {}
                _ = again(&mut signals) => break,
            }
        }
        asked.abort();
    }

    /// Waits until it is seen to run there.
    async fn arrive(&mut self, to: &str) -> Result<Vec<String>, Why> {
        let place = self.sites.iter().position(|s| s == to);
        let until = Instant::now() + SEEN;
        loop {
            if self.watch.book().last().map(|h| h.site) == place {
                return Ok(Vec::new());
            }
            if Instant::now() >= until {
                return Ok(vec![format!("it was not seen to run at {to}")]);
            }
            self.guarded(sleep(GUARD_EVERY)).await?;
        }
    }

    /// The ticket, as new as the ledger.
    async fn ticket(&self) -> Result<TicketView, Why> {
        let seen = linear(&self.socket, &self.args.scope.ticket).await;
        seen.map_err(|e| refused("the ticket's state", &e))
    }

    // ---- what ends it -------------------------------------------------------------------------

    /// A step, and an eye on everything else.
    async fn guarded<T>(&mut self, step: impl Future<Output = T>) -> Result<T, Why> {
        let mut signals = self.signals.clone();
        let ended = tokio::select! {
            biased;
            why = self.danger() => Err(why),
            name = again(&mut signals) => Err(Why::new(codes::INTERRUPTED, name)),
            done = step => Ok(done),
        };
        // The next signal is another one: it ends the way back.
        self.signals = signals;
        ended
    }

    async fn danger(&self) -> Why {
        loop {
            if let Some(why) = self.found() {
                return why;
            }
            sleep(GUARD_EVERY).await;
        }
    }

    fn found(&self) -> Option<Why> {
        let book = self.watch.book();
        let silence = book.silence();
        if silence > self.budget {
            let (silence, budget) = (span(silence), span(self.budget));
            let text = format!("no answer for {silence}; {budget} is the budget");
            return Some(Why::new(codes::ERROR, text));
        }
        if let Some((_, what)) = book.trouble().filter(|(since, _)| *since > AWAY) {
            return Some(Why::new(codes::ERROR, format!("a second fault: {what}")));
        }
        let (overlap, stale) = book.ran_twice();
        if !overlap.is_zero() || stale > 0 {
            let text = format!("it ran at two sites for {} ms", ms(overlap));
            return Some(Why::new(codes::ERROR, text));
        }
        let site = book.newest().filter(|t| t.state == "held").and_then(|t| t.site.as_ref());
        if let Some(site) = site.filter(|s| **s != self.home && **s != self.away) {
            return Some(Why::new(codes::ERROR, format!("it went to {site} by itself")));
        }
        if book.beyond() > 0 {
            return Some(Why::new(codes::ERROR, "more answers than can be kept"));
        }
        None
    }

    /// Ends the phase, goes home if that is safe, says what is left.
    async fn aborted(&mut self, why: &Why) -> Ended {
        self.timeline.say(Kind::Drill, format!("ABORTED: {}", why.text));
        self.report.stopped_early = Some(why.text.clone());
        self.end(vec![format!("aborted: {}", why.text)]);
        let longest = self.report.phases.iter().map(|p| p.predicted_ms).fold(0.0, f64::max);
        let predicted = Duration::from_secs_f64(longest / 1e3);
        let home = self.home.clone();
        self.begin(&format!("way back to {home}"), &home, predicted, "as it was to get there");
        let way = Way {
            sockets: self.planners.iter().map(|(_, socket)| socket.clone()).collect(),
            ticket: self.args.scope.ticket.clone(),
            home: home.clone(),
            home_socket: self.planners.iter().find(|(m, _)| *m == home).map(|(_, s)| s.clone()),
            away: self.away.clone(),
            step: self.budget.max(SEEN),
            deadline: self.args.deadline(),
            note: self.note.clone(),
            timeline: self.timeline,
        };
        let mut signals = self.signals.clone();
        let end = tokio::select! {
            end = way.go() => end,
            _ = again(&mut signals) => {
                End::Left("it was interrupted once more, and is where it was then".to_owned())
            }
        };
        let (left, code) = match end {
            End::Home { moved } => {
                let wrong = self.seen_at_home(&home).await;
                let how = if moved { "was brought back to" } else { "is at" };
                let left = match wrong.as_slice() {
                    [] => format!("nothing: the ticket {how} {home}, and it runs"),
                    wrong => format!("the ticket {how} {home}, but {}", wrong.join("; ")),
                };
                self.end(wrong);
                (left, why.code)
            }
            End::Left(what) => {
                self.end(vec![what.clone()]);
                (format!("the ticket is not at {home}: {what}"), why.code)
            }
            End::Unknown(what) => {
                self.end(vec![what.clone()]);
                (format!("nobody can tell where the ticket is: {what}"), codes::OUTCOME_UNKNOWN)
            }
        };
        self.timeline.say(Kind::Drill, format!("left: {left}"));
        self.report.left = Some(left);
        Ended::Code(code)
    }

    /// The ledger has it at home. A handover that was called off may have stopped it already, so
    /// home is reached when it is seen to run there, from now on.
    async fn seen_at_home(&self, home: &str) -> Vec<String> {
        let place = self.sites.iter().position(|s| s == home);
        let since = At::now();
        let until = Instant::now() + self.budget.max(SEEN);
        let runs = || {
            let last = self.watch.book().last();
            last.is_some_and(|h| Some(h.site) == place && h.at > since)
        };
        while !runs() {
            if Instant::now() >= until {
                return vec!["it is not seen to run there".to_owned()];
            }
            sleep(GUARD_EVERY).await;
        }
        sleep(SETTLE).await;
        Vec::new()
    }

    // ---- phases -------------------------------------------------------------------------------

    /// Who serves, as last seen.
    fn serving(&self) -> (String, u64) {
        let book = self.watch.book();
        let seen = book.last().and_then(|h| Some((self.sites.get(h.site)?.clone(), h.term)));
        let first = || (self.home.clone(), self.first.term.unwrap_or(0));
        seen.unwrap_or_else(first)
    }

    fn begin(&mut self, name: &str, expected: &str, predicted: Duration, why: &str) {
        let (site, term) = self.serving();
        // What is to stay may be seen a look or two late.
        let predicted = if predicted.is_zero() { self.args.grain() } else { predicted };
        let number = self.report.phases.len() + 1;
        self.timeline.say(Kind::Phase, format!("{number} {name} ({site} serves, term {term})"));
        self.begun = Some(Begun {
            name: name.to_owned(),
            from: At::now(),
            site,
            term,
            expected: expected.to_owned(),
            predicted,
            why: why.to_owned(),
            allowance: Duration::from_millis(self.args.allowance),
        });
    }

    fn end(&mut self, wrong: Vec<String>) {
        let Some(begun) = self.begun.take() else { return };
        let to = At::now();
        let gap = self.watch.book().gap(begun.from, to);
        let (site, term) = self.serving();
        let report = begun.end(Found { to, gap, site, term, wrong }, self.timeline);
        report.say(self.timeline);
        self.report.phases.push(report);
    }
}

fn refused(what: &str, e: &Unanswered) -> Why {
    let code = match e {
        Unanswered::Refused(view) if view.code == codes::TIMEOUT => codes::TIMEOUT,
        _ => codes::ERROR,
    };
    Why::new(code, format!("{what}: {e}"))
}

/// Signals that end a drill, from now on.
fn listen() -> std::io::Result<Signals> {
    let (tell, heard) = watch::channel((0, ""));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => "SIGHUP",
            };
            tell.send_modify(|(count, last)| {
                *count += 1;
                *last = name;
            });
        }
    });
    Ok(heard)
}

/// The next signal after those that `signals` has seen.
async fn again(signals: &mut Signals) -> &'static str {
    if signals.changed().await.is_err() {
        std::future::pending::<()>().await; // nobody listens any more: no signal will come
    }
    signals.borrow_and_update().1
}
