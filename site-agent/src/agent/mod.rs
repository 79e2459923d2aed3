//! The agent's main loop: between the member, which decides, and the runner, which acts.
//!
//! Orders of the holder go to the runner, results of the runner go to the member; what was decided
//! goes into the history; what went wrong becomes an alarm and a copy of the flight recorder. The
//! loop waits for nothing that could take long: commands to the ledger run in tasks of their own.
//!
//! Reading order: `start` (parts, in order), this file (the loop), `orders` (holder → runner →
//! member), `decided` (what the ledger's entries mean here), `tickets` (the file's tickets),
//! `trouble` (failed starts, alarms, dumps), `losses` (many tickets lost at once), `leave` (ends).

mod certificate;
mod decided;
mod leave;
mod losses;
mod orders;
mod start;
mod tickets;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tierce_member::MemberEvent;
use tierce_ticket::ids::{Term, TicketId};
use tierce_ticket::member::Input;
use tierce_ticket::time::HolderTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::config::Config;
use crate::limits::{GATHER, LOOK_AROUND, OWN_COMMANDS};
use crate::runner::RunnerEvent;
use crate::shared::{LoopRequest, Shared};
pub(crate) use start::{StartError, lock};

/// An input that found no room is given again after this long.
const GIVE_AGAIN: Duration = Duration::from_millis(5);

/// How the loop ends.
enum End {
    /// Everything was given up, or nothing had to be.
    InOrder,
    /// At once: what runs is the guard's.
    AtOnce { asked: bool },
    /// The member cannot go on (R6).
    Fatal(String),
}

/// The agent; see the module.
struct Agent {
    shared: Arc<Shared>,
    member_events: mpsc::Receiver<MemberEvent>,
    runner_events: mpsc::Receiver<RunnerEvent>,
    requests: mpsc::Receiver<LoopRequest>,
    /// Grants that people asked for, and whose result is to be told.
    owed: BTreeMap<TicketId, Term>,
    /// When the runner hears of changed tickets and sessions.
    refresh_at: Option<Instant>,
    /// How long the last such look took: the next ones keep their distance.
    refresh_cost: Duration,
    /// The file's tickets are to be compared with the docket's.
    sync_due: bool,
    syncing: Arc<AtomicBool>,
    sync_again: Arc<AtomicBool>,
    /// Policy differences that were reported.
    differing: Arc<std::sync::Mutex<BTreeSet<String>>>,
    /// Tickets that were lost just now, and when that is told.
    losses: losses::Losses,
    losses_at: Option<Instant>,
    /// Reasons for copies of the recorder.
    dumps: mpsc::Sender<String>,
    /// Inputs that found no room.
    ungiven: VecDeque<Input>,
    own_commands: Arc<Semaphore>,
    /// D as last told.
    deadline: HolderTime,
    leave_by: Option<Instant>,
    certificate_looked: Option<Instant>,
}

/// The signals that are heard.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

enum Heard {
    End,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.term.recv() => Heard::End,
            _ = self.int.recv() => Heard::End,
            _ = self.hup.recv() => Heard::Reload,
        }
    }
}

/// Runs the agent until it ends. The caller holds the lock on the data directory.
pub(crate) async fn run(
    config: Config,
    path: PathBuf,
    stop_command: Option<Vec<String>>,
) -> Result<ExitCode, StartError> {
    let mut signals = Signals::new().map_err(StartError::io("listening for signals"))?;
    if !start::room(&config, &mut signals).await {
        return Ok(ExitCode::SUCCESS);
    }
    let mut agent = start::start(config, path, stop_command).await?;
    start::notify(&[sd_notify::NotifyState::Ready]);
    let end = agent.work(signals).await;
    start::notify(&[sd_notify::NotifyState::Stopping]);
    Ok(agent.finish(end).await)
}

impl Agent {
    fn new(
        shared: Arc<Shared>,
        member_events: mpsc::Receiver<MemberEvent>,
        runner_events: mpsc::Receiver<RunnerEvent>,
        requests: mpsc::Receiver<LoopRequest>,
    ) -> Self {
        let dumps = trouble::dumper(shared.config().data.join("dumps"));
        Self {
            shared,
            member_events,
            runner_events,
            requests,
            owed: BTreeMap::new(),
            refresh_at: Some(Instant::now()),
            refresh_cost: Duration::ZERO,
            sync_due: true,
            syncing: Arc::default(),
            sync_again: Arc::default(),
            differing: Arc::default(),
            losses: losses::Losses::default(),
            losses_at: None,
            dumps,
            ungiven: VecDeque::new(),
            own_commands: Arc::new(Semaphore::new(OWN_COMMANDS)),
            deadline: HolderTime::default(),
            leave_by: None,
            certificate_looked: None,
        }
    }

    async fn work(&mut self, mut signals: Signals) -> End {
        let fed = sd_notify::watchdog_enabled().map_or(LOOK_AROUND, |w| (w / 3).min(LOOK_AROUND));
        let mut tick = tokio::time::interval(fed);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let far = Instant::now() + Duration::from_hours(1);
            let again = Instant::now() + GIVE_AGAIN;
            tokio::select! {
                biased;
                heard = signals.next() => match heard {
                    Heard::End if self.leave_by.is_some() => return End::AtOnce { asked: false },
                    Heard::End => self.begin_leaving(),
                    Heard::Reload => match self.reload() {
                        Ok(text) => tracing::info!("{text}"),
                        Err(why) => self.shared.alarm(format!("the reload was refused: {why}")),
                    },
                },
                event = self.member_events.recv() => match event {
                    Some(MemberEvent::Fatal(why)) => return End::Fatal(why),
                    Some(event) => self.member_event(event).await,
                    None => return End::Fatal("the member's task has ended".to_owned()),
                },
                event = self.runner_events.recv() => match event {
                    Some(event) => self.runner_event(event),
                    None => return End::Fatal("the runner has ended".to_owned()),
                },
                Some(request) = self.requests.recv() => match request {
                    LoopRequest::Reload(reply) => {
                        let _ = reply.send(self.reload());
                    }
                    LoopRequest::Stop { release, reply } => {
                        let _ = reply.send(());
                        if !release {
                            return End::AtOnce { asked: true };
                        }
                        self.begin_leaving();
                    }
                },
                () = sleep_until(again), if !self.ungiven.is_empty() => self.give_again(),
                () = sleep_until(self.losses_at.unwrap_or(far)), if self.losses_at.is_some() => {
                    self.tell_losses();
                }
                () = sleep_until(self.refresh_at.unwrap_or(far)), if self.refresh_at.is_some() => {
                    self.refresh().await;
                }
                _ = tick.tick() => {
                    self.feed_watchdog();
                    if let Some(end) = self.look_around().await {
                        return end;
                    }
                }
            }
        }
    }

    async fn member_event(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Order(order) => self.order(order).await,
            MemberEvent::Decided { index, wall_ms, events } => {
                self.decided(index, wall_ms, events).await;
                self.shared.tell_changed();
            }
            MemberEvent::Alarm(alarm) => self.member_alarm(&alarm),
            MemberEvent::DocketReplaced => self.docket_replaced().await,
            MemberEvent::Reconfigured => {
                self.refresh_soon();
                self.shared.tell_changed();
            }
            MemberEvent::Leader(_) => {
                self.sync_due = true;
                self.shared.tell_changed();
            }
            MemberEvent::PeerUp { .. } | MemberEvent::PeerDown { .. } => {
                self.shared.tell_changed();
            }
            MemberEvent::Fatal(why) => tracing::error!("{why}"), // taken by the loop
        }
    }

    /// The member takes it, now or when it has room. Never waits.
    fn give(&mut self, input: Input) {
        if !self.ungiven.is_empty() || self.shared.member.input(input.clone()).is_err() {
            // Only the newest readiness counts; results are bounded by the tickets.
            if matches!(input, Input::Readiness(_)) {
                self.ungiven.retain(|i| !matches!(i, Input::Readiness(_)));
            }
            self.ungiven.push_back(input);
        }
    }

    fn give_again(&mut self) {
        while let Some(input) = self.ungiven.pop_front() {
            if self.shared.member.input(input.clone()).is_err() {
                self.ungiven.push_front(input);
                return;
            }
        }
    }

    /// The runner hears of changed tickets and sessions shortly.
    fn refresh_soon(&mut self) {
        let distance = GATHER.max(self.refresh_cost * 10);
        self.refresh_at.get_or_insert(Instant::now() + distance);
    }

    async fn look_around(&mut self) -> Option<End> {
        if let Some(by) = self.leave_by {
            return self.has_left(by).await;
        }
        if self.sync_due || self.sync_again.swap(false, Ordering::AcqRel) {
            self.sync_tickets();
        }
        self.offer_failed();
        self.look_at_certificate();
        None
    }
}
