//! What each request does. Names and words are checked here, where they enter.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tierce_ticket::command::{AttributeScope, Command, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::entry::{Policy, Proof, SiteState};
use tierce_ticket::ids::{LogIndex, MemberName, NameError, StoreId, Term, TicketName};
use tierce_wire::control::{Ask, PolicyView, Reply};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::{self, Failure, code, error, inspect, not_done, usage};
use super::wait::{Goal, wait};
use crate::config::{Span, TicketConfig};
use crate::facts::Eligibility;
use crate::limits::{MAX_HISTORY, PROGRESS_EVERY};
use crate::shared::{LoopRequest, Shared};
use crate::view::Scene;
use crate::view::words::ms;

type Answer = Result<Reply, Failure>;

/// Answers one request.
pub(super) async fn answer(shared: &Arc<Shared>, ask: Ask, progress: mpsc::Sender<Reply>) -> Reply {
    let c = Client { shared, progress, begun: Instant::now() };
    answer::reply(c.answer(ask).await)
}

struct Client<'a> {
    shared: &'a Arc<Shared>,
    progress: mpsc::Sender<Reply>,
    begun: Instant,
}

fn name<T: FromStr<Err = NameError>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|e: NameError| usage(e.to_string()))
}

impl Client<'_> {
    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Status { linear } => self.status(linear).await,
            Ask::Ticket { name: n } => self.ticket(&n).await,
            Ask::Plan { name: n, to } => self.plan(&n, to).await,
            Ask::History { name, limit } => self.history(name, limit).await,
            Ask::SetTicket { name: n, policy } => self.set_ticket(name(&n)?, &policy).await,
            Ask::RemoveTicket { name: n } => self.remove_ticket(name(&n)?).await,
            Ask::Grant { name: n, to, wait_ms } => self.grant(name(&n)?, name(&to)?, wait_ms).await,
            Ask::Revoke { name: n, note, wait_ms } => {
                let n: TicketName = name(&n)?;
                self.give_up(Command::Revoke { name: n.clone(), note }, n, wait_ms).await
            }
            Ask::TakeBack { name: n, note, wait_ms } => {
                let n: TicketName = name(&n)?;
                self.give_up(Command::TakeBack { name: n.clone(), note }, n, wait_ms).await
            }
            Ask::Move { name: n, to, note, wait_ms } => {
                self.move_to(name(&n)?, name(&to)?, note, wait_ms).await
            }
            Ask::CancelMove { name: n, note } => {
                let command = Command::CancelMove { name: name(&n)?, note };
                self.simple(command, Some(&n), format!("the handover of {n} is called off")).await
            }
            Ask::Hold { name: n, note } => {
                let command = Command::Hold { name: name(&n)?, note };
                self.simple(command, Some(&n), format!("{n} does not move by itself any more"))
                    .await
            }
            Ask::Resume { name: n } => self.resume(name(&n)?).await,
            Ask::SetAttribute { site, ticket, name: attribute, value } => {
                self.set_attribute(&site, ticket.as_deref(), &attribute, value).await
            }
            Ask::DeclareSite { site, state, note } => self.declare(&site, &state, note).await,
            Ask::ConfirmDown { site, note } => {
                let command =
                    Command::ConfirmDown { site: name(&site)?, proof: Proof::Operator, note };
                let text = format!("{site} is confirmed to be down; its tickets may be granted");
                self.simple(command, None, text).await
            }
            Ask::Admit { member } => self.admit(&member).await,
            Ask::RemoveMember { member } => {
                let command = Command::Remove { name: name(&member)? };
                self.simple(command, None, format!("{member} is no member any more")).await
            }
            Ask::Dump { reason } => self.dump(reason).await,
            Ask::Reload => self.reload().await,
            Ask::Stop { release } => self.stop(release).await,
            Ask::TenantList | Ask::TenantAdd { .. } | Ask::TenantRemove { .. } => {
                Err(usage("tenants belong to an arbitrator; this is a site's agent"))
            }
        }
    }

    // ----- looking -------------------------------------------------------------------------

    async fn look(&self, which: Eligibility) -> Result<Scene, Failure> {
        Scene::look(self.shared, which).await.ok_or_else(answer::ended)
    }

    /// Views of thousands of tickets take a while: not on the thread that renews leases.
    async fn off_thread<R: Send + 'static>(
        &self,
        make: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Failure> {
        tokio::task::spawn_blocking(make).await.map_err(|_| answer::ended())
    }

    async fn status(&self, linear: bool) -> Answer {
        if linear {
            self.command(Command::Read, None).await?;
        }
        let scene = self.look(Eligibility::All).await?;
        let view = self.off_thread(move || scene.status_view()).await?;
        Ok(Reply::Status(Box::new(view)))
    }

    async fn ticket(&self, n: &str) -> Answer {
        let scene = self.look(Eligibility::Of(name(n)?)).await?;
        match scene.facts.ticket(n) {
            Some(t) => Ok(Reply::Ticket(Box::new(scene.ticket_view(t)))),
            None => Err(no_such(&scene, n)),
        }
    }

    async fn plan(&self, n: &str, to: Option<String>) -> Answer {
        let to: Option<MemberName> = to.as_deref().map(name).transpose()?;
        let scene = self.look(Eligibility::Of(name(n)?)).await?;
        let readiness = match &to {
            Some(to) => {
                let to = to.clone();
                let read = self
                    .shared
                    .member
                    .read(move |m, _| m.steward().and_then(|s| s.readiness_of(&to).cloned()));
                read.await.flatten()
            }
            None => None,
        };
        match scene.facts.ticket(n) {
            Some(t) => {
                Ok(Reply::Plan(Box::new(scene.plan_view(t, to.as_ref(), readiness.as_ref()))))
            }
            None => Err(no_such(&scene, n)),
        }
    }

    async fn history(&self, ticket: Option<String>, limit: u32) -> Answer {
        let limit = limit.min(MAX_HISTORY) as usize;
        let reader = self.shared.history.reader();
        let found = self.off_thread(move || reader.newest(ticket.as_deref(), limit)).await?;
        found.map(|decisions| Reply::History { decisions }).map_err(|why| {
            let effect = "decisions are taken and kept in the ledger nevertheless";
            let safer = "restart the agent: a damaged index is set aside and rebuilt";
            Failure::from(error(code::ERROR, why, effect, "the agent's log", safer))
        })
    }

    // ----- deciding ------------------------------------------------------------------------

    /// A command; a client that waits longer than a second hears for what.
    async fn command(
        &self,
        command: Command,
        ticket: Option<&str>,
    ) -> Result<(LogIndex, Option<Term>), Failure> {
        let outcome = self.shared.member.command(command);
        tokio::pin!(outcome);
        let mut every = tokio::time::interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        let outcome = loop {
            tokio::select! {
                done = &mut outcome => break done,
                _ = every.tick() => {
                    let text = format!(
                        "waiting for the ledger's decision, for {} at the most",
                        crate::view::words::about(tierce_ticket::limits::COMMAND_WAIT)
                    );
                    let _ = self.progress.send(Reply::Progress { text }).await;
                }
            }
        };
        match (not_done(&outcome, ticket), outcome) {
            (None, Outcome::Done { index, term }) => Ok((index, term)),
            (Some(e), _) => Err(e.into()),
            (None, _) => Err(answer::ended()),
        }
    }

    fn done(&self, text: String, index: LogIndex, term: Option<Term>) -> Reply {
        let took_ms = ms(self.begun.elapsed());
        Reply::Done { text, term: term.map(|t| t.0), index: Some(index.0), took_ms }
    }

    /// A command that is done when it is decided.
    async fn simple(&self, command: Command, ticket: Option<&str>, text: String) -> Answer {
        let (index, term) = self.command(command, ticket).await?;
        Ok(self.done(text, index, term))
    }

    async fn grant(&self, n: TicketName, to: MemberName, wait_ms: u64) -> Answer {
        let command = Command::Grant { name: n.clone(), to: to.clone() };
        let (index, _) = self.command(command, Some(n.as_str())).await?;
        self.wait(&n, Goal::Runs { to, index }, wait_ms).await
    }

    async fn move_to(&self, n: TicketName, to: MemberName, note: String, wait_ms: u64) -> Answer {
        let command = Command::Move { name: n.clone(), to: to.clone(), note };
        let (index, _) = self.command(command, Some(n.as_str())).await?;
        self.wait(&n, Goal::Runs { to, index }, wait_ms).await
    }

    async fn give_up(&self, command: Command, n: TicketName, wait_ms: u64) -> Answer {
        let asked = n.clone();
        let read = self.shared.member.read(move |m, _| {
            let t = m.docket().and_then(|d| d.ticket_named(&asked));
            t.and_then(|t| t.holder()).map(|h| h.2)
        });
        let term = read.await.flatten();
        let (index, _) = self.command(command, Some(n.as_str())).await?;
        self.wait(&n, Goal::Free { term, index }, wait_ms).await
    }

    async fn wait(&self, n: &TicketName, goal: Goal, wait_ms: u64) -> Answer {
        wait(self.shared, n, goal, self.begun, wait_ms, &self.progress).await
    }

    async fn resume(&self, n: TicketName) -> Answer {
        // A ticket that failed to start here gets another chance, whatever the ledger says.
        let cleared = self.shared.unblock(n.as_str());
        let text = format!("{n} may move by itself again");
        if cleared && let Some(report) = self.shared.merged_readiness() {
            let _ = self.shared.member.input(tierce_ticket::member::Input::Readiness(report));
        }
        match self.simple(Command::Resume { name: n.clone() }, Some(n.as_str()), text).await {
            Err(e) if cleared && e.0.code == code::NOT_NOW => {
                let text = format!("{n} may be started here again");
                Ok(self.done(text, LogIndex(0), None))
            }
            other => other,
        }
    }

    async fn set_ticket(&self, n: TicketName, view: &PolicyView) -> Answer {
        let asked = n.clone();
        let read = self.shared.member.read(move |m, _| {
            let d = m.docket();
            let old = d.and_then(|d| d.ticket_named(&asked)).map(|t| t.policy.clone());
            (old, d.map(|d| d.configuration().timing))
        });
        let (old, timing) = read.await.ok_or_else(answer::ended)?;
        let timing = timing.unwrap_or_else(|| self.shared.config().timing());
        let made = old.is_none();
        let default = bare_ticket(n.as_str()).policy(&timing);
        let policy = policy_from(view, old.unwrap_or(default))?;
        let text = format!("{n} is {}", if made { "made" } else { "changed" });
        self.simple(Command::SetTicket { name: n.clone(), policy }, Some(n.as_str()), text).await
    }

    async fn remove_ticket(&self, n: TicketName) -> Answer {
        if self.shared.config().ticket(n.as_str()).is_some() {
            return Err(Failure::from(error(
                code::NOT_NOW,
                format!("{n} is named in this site's file: it would be made again"),
                "nothing has changed",
                "tierce config check",
                "take it out of the sites' files, reload them, then remove it",
            )));
        }
        let text = format!("{n} is removed");
        self.simple(Command::RemoveTicket { name: n.clone() }, Some(n.as_str()), text).await
    }

    async fn set_attribute(
        &self,
        site: &str,
        ticket: Option<&str>,
        attribute: &str,
        value: Option<String>,
    ) -> Answer {
        let site: MemberName = name(site)?;
        let text = match &value {
            Some(v) => format!("{attribute} at {site} is {v:?}"),
            None => format!("{attribute} at {site} is removed"),
        };
        let scope = match ticket {
            Some(t) => AttributeScope::TicketAt(name(t)?, site),
            None => AttributeScope::Site(site),
        };
        let command = Command::SetAttribute { scope, name: name(attribute)?, value };
        self.simple(command, ticket, text).await
    }

    async fn declare(&self, site: &str, state: &str, note: String) -> Answer {
        let word = match state {
            "normal" => SiteState::Normal,
            "outage" => SiteState::Outage,
            "disaster" => SiteState::Disaster,
            "disconnect" => SiteState::Disconnect,
            _ => {
                let words = "normal, outage, disaster or disconnect";
                return Err(usage(format!("{state:?} is none of {words}")));
            }
        };
        let command = Command::DeclareSite { site: name(site)?, state: word, note };
        self.simple(command, None, format!("{site} is declared {state}")).await
    }

    async fn admit(&self, member: &str) -> Answer {
        let n: MemberName = name(member)?;
        let planned = self.shared.config().plan().members.into_iter().find(|m| m.name == n);
        let known = n.clone();
        let read = self.shared.member.read(move |m, _| {
            let c = m.ledger().map(|l| l.configuration().0);
            c.and_then(|c| {
                c.members().find(|(_, m)| m.name == known).map(|(_, m)| m.addresses.clone())
            })
        });
        let addresses = match (planned, read.await.flatten()) {
            (Some(p), _) => p.addresses,
            (None, Some(known)) => known,
            (None, None) => Vec::new(),
        };
        // Without a store in it the leader takes the one that the member presents, with its role.
        let store = StoreId::default();
        let command = Command::Admit { name: n, role: Role::Site, store, addresses };
        self.simple(command, None, format!("{member} is admitted and votes")).await
    }

    // ----- the agent itself ----------------------------------------------------------------

    async fn dump(&self, reason: String) -> Answer {
        let dir = self.shared.config().data.join("dumps");
        let copied = self.off_thread(move || tierce_trace::dump(&reason, &dir)).await?;
        match copied {
            Ok(path) => Ok(Reply::Done {
                text: path.display().to_string(),
                term: None,
                index: None,
                took_ms: ms(self.begun.elapsed()),
            }),
            Err(e) => Err(Failure::from(error(
                code::ERROR,
                e.to_string(),
                "the recording goes on",
                "the agent's log",
                "read the ring itself: tierce trace show",
            ))),
        }
    }

    async fn reload(&self) -> Answer {
        let (reply, result) = oneshot::channel();
        if self.shared.requests.try_send(LoopRequest::Reload(reply)).is_err() {
            return Err(busy());
        }
        match result.await {
            Ok(Ok(text)) => {
                let took_ms = ms(self.begun.elapsed());
                Ok(Reply::Done { text, term: None, index: None, took_ms })
            }
            Ok(Err(why)) => Err(Failure::from(error(
                code::CONFIG,
                why,
                "the old configuration stays in force",
                "tierce config check",
                "correct the file, then reload",
            ))),
            Err(_) => Err(answer::ended()),
        }
    }

    async fn stop(&self, release: bool) -> Answer {
        let (reply, begun) = oneshot::channel();
        if self.shared.requests.try_send(LoopRequest::Stop { release, reply }).is_err() {
            return Err(busy());
        }
        begun.await.map_err(|_| answer::ended())?;
        let text = if release {
            "the agent gives its tickets up and ends".to_owned()
        } else {
            "the agent ends; what runs is stopped by the guard when the lease ends".to_owned()
        };
        Ok(Reply::Done { text, term: None, index: None, took_ms: ms(self.begun.elapsed()) })
    }
}

fn busy() -> Failure {
    let safer = "try again in a moment";
    Failure::from(error(
        code::RETRY,
        "the agent is busy",
        "nothing has changed",
        inspect(None),
        safer,
    ))
}

fn no_such(scene: &Scene, n: &str) -> Failure {
    let (quorate, known) = (scene.facts.quorate(), scene.facts.docket.is_some());
    if !quorate && !known {
        let why = scene.facts.why_not_quorate();
        let safer = "ask a member that reaches a majority";
        return Failure::from(error(
            code::NO_QUORUM,
            why,
            "nothing is known",
            inspect(None),
            safer,
        ));
    }
    let safer = "tierce tickets list shows the names";
    Failure::from(error(
        code::NO_SUCH,
        format!("there is no ticket {n}"),
        "nothing has changed",
        inspect(None),
        safer,
    ))
}

fn bare_ticket(name: &str) -> TicketConfig {
    TicketConfig {
        name: name.to_owned(),
        mode: None,
        regrant: None,
        loss_policy: None,
        prefer: Vec::new(),
        one_move_per: None,
        require: BTreeMap::new(),
        max_lag: None,
        stop_budget: None,
        resources: Vec::new(),
        gates: Vec::new(),
        lag_command: None,
        address: None,
        dns: None,
        bgp: None,
    }
}

/// The policy with what the client says; what it leaves out stays.
fn policy_from(view: &PolicyView, old: Policy) -> Result<Policy, Failure> {
    let mut p = old;
    let words = |allowed: &'static [&'static str]| {
        move |word: &str| usage(format!("{word:?} is none of {}", allowed.join(", ")))
    };
    if let Some(w) = &view.mode {
        p.mode = crate::config::mode(Some(w)).map_err(|a| words(a)(w))?;
    }
    if let Some(w) = &view.regrant {
        p.regrant = crate::config::regrant(Some(w)).map_err(|a| words(a)(w))?;
    }
    if let Some(w) = &view.loss {
        p.loss = crate::config::loss(Some(w)).map_err(|a| words(a)(w))?;
    }
    if let Some(sites) = &view.prefer {
        p.prefer = sites.iter().map(|s| name(s)).collect::<Result<_, _>>()?;
    }
    if let Some(d) = &view.one_move_per {
        p.one_move_per = span(d)?;
    }
    if let Some(r) = &view.require {
        p.require =
            r.iter().map(|(k, v)| Ok((name(k)?, v.clone()))).collect::<Result<_, Failure>>()?;
    }
    if let Some(d) = &view.max_lag {
        p.max_lag = if d == "none" { None } else { Some(span(d)?) };
    }
    if let Some(d) = &view.stop_budget {
        p.stop_budget = span(d)?;
    }
    Ok(p)
}

fn span(text: &str) -> Result<Duration, Failure> {
    text.parse::<Span>().map(|s| s.0).map_err(|e| usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    use tierce_ticket::entry::{LossPolicy, Mode};
    use tierce_ticket::timing::Profile;

    use super::*;

    #[test]
    fn a_policy_changes_only_in_what_is_said() {
        let timing = Profile::Lan.timing();
        let old = bare_ticket("web").policy(&timing);
        let view = PolicyView {
            mode: Some("auto".to_owned()),
            max_lag: Some("5s".to_owned()),
            ..PolicyView::default()
        };
        let new = policy_from(&view, old.clone()).unwrap();
        assert_eq!((new.mode, new.loss), (Mode::Auto, LossPolicy::Stop));
        assert_eq!(new.max_lag, Some(Duration::from_secs(5)));
        assert_eq!(new.stop_budget, timing.stop_budget);
        let none = PolicyView { max_lag: Some("none".to_owned()), ..PolicyView::default() };
        assert_eq!(policy_from(&none, new).unwrap().max_lag, None);
        let bad = PolicyView { mode: Some("automatic".to_owned()), ..PolicyView::default() };
        let e = policy_from(&bad, old).unwrap_err();
        assert!(e.0.code == 64 && e.0.error.contains("manual, observe"), "{e:?}");
    }
}
