//! A speaker's task: one socket, one clock, no policy.
//!
//! The connection belongs to the process. When the process dies, however it dies, the kernel
//! closes the connection and the router drops the route at once; nothing here tries to outlive it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::config::SpeakerConfig;
use crate::error::BgpError;
use crate::limits::{MAX_COMMANDS, MAX_FINDINGS};
use crate::link::{Link, Turn};
use crate::med::{Med, Term};
use crate::session::{Down, Finding, PeerOpen};
use crate::speaker::{Effect, Input, Speaker, State};

/// What a speaker is doing, for status and probes.
#[derive(Debug, Clone)]
pub struct SpeakerStatus {
    /// The state machine's state.
    pub state: State,
    /// When it entered this state.
    pub since: Instant,
    /// What was agreed with the peer, while the session is up.
    pub peer: Option<PeerOpen>,
    /// What has been sent to the peer in this session.
    pub advertised: BTreeMap<IpNet, Med>,
    /// Why the last session or attempt ended.
    pub last_down: Option<Down>,
    /// What an operator should know about the peer.
    pub findings: Vec<Finding>,
}

/// A running speaker. Dropping the handle ends it in an orderly way.
#[derive(Debug)]
pub struct SpeakerHandle {
    config: SpeakerConfig,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<SpeakerStatus>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Announce { prefix: IpNet, term: Term, med: Med },
    Withdraw { prefix: IpNet },
    Shutdown { text: String },
}

type Connecting = Pin<Box<dyn Future<Output = std::io::Result<Link>> + Send>>;

impl Speaker {
    /// Starts a speaker on the current runtime; it connects at once and keeps at it.
    pub fn spawn(config: SpeakerConfig) -> Result<SpeakerHandle, BgpError> {
        let core = Self::new(config.clone())?;
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let (publish, status) = watch::channel(SpeakerStatus {
            state: State::Idle,
            since: Instant::now(),
            peer: None,
            advertised: BTreeMap::new(),
            last_down: None,
            findings: Vec::new(),
        });
        let driver =
            Driver { config: config.clone(), core, inbox, publish, link: None, connecting: None };
        let task = tokio::spawn(driver.run());
        Ok(SpeakerHandle { config, commands, status, task })
    }
}

impl SpeakerHandle {
    /// Announces a prefix with a term, now or as soon as the session is up. Refuses terms outside
    /// the metric's range; an older term than before is not sent and becomes a finding.
    pub fn announce(&self, prefix: IpNet, term: Term) -> Result<(), BgpError> {
        let med = self.config.metric(prefix, term)?;
        self.command(Command::Announce { prefix, term, med })
    }

    /// Withdraws a prefix. Safety does not need it: a newer term overrules.
    pub fn withdraw(&self, prefix: IpNet) -> Result<(), BgpError> {
        self.command(Command::Withdraw { prefix })
    }

    /// The state, to look at or to wait on.
    pub fn status(&self) -> watch::Receiver<SpeakerStatus> {
        self.status.clone()
    }

    /// Ends the session with a text for the router's operator, and the task with it.
    pub async fn shutdown(mut self, text: &str) {
        let ended = self.command(Command::Shutdown { text: text.into() });
        if ended.is_ok() {
            let _ = (&mut self.task).await;
        }
    }

    /// Ends the task at once, as the death of the process would: no goodbye, the socket closes.
    pub fn kill(&self) {
        self.task.abort();
    }

    fn command(&self, command: Command) -> Result<(), BgpError> {
        self.commands.try_send(command).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => BgpError::Busy,
            mpsc::error::TrySendError::Closed(_) => BgpError::Ended,
        })
    }
}

struct Driver {
    config: SpeakerConfig,
    core: Speaker,
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<SpeakerStatus>,
    link: Option<Link>,
    connecting: Option<Connecting>,
}

/// What woke the task.
enum Wake {
    Command(Option<Command>),
    Connected(std::io::Result<Link>),
    Turn(Turn),
    Time,
}

impl Driver {
    async fn run(mut self) {
        self.core.step(Instant::now(), Input::Start);
        loop {
            self.carry_out().await;
            let wake = self.wait().await;
            let now = Instant::now();
            match wake {
                Wake::Command(Some(Command::Announce { prefix, term, med })) => {
                    self.core.step(now, Input::Announce { prefix, term, med });
                }
                Wake::Command(Some(Command::Withdraw { prefix })) => {
                    self.core.step(now, Input::Withdraw { prefix });
                }
                Wake::Command(Some(Command::Shutdown { text })) => {
                    self.core.step(now, Input::Shutdown { text: &text });
                    return self.carry_out().await;
                }
                Wake::Command(None) => {
                    self.core.step(now, Input::Shutdown { text: "" });
                    return self.carry_out().await;
                }
                Wake::Connected(outcome) => {
                    self.connecting = None;
                    let up = outcome.is_ok();
                    self.link = outcome.ok();
                    let input = if up { Input::Connected } else { Input::ConnectFailed };
                    self.core.step(now, input);
                }
                Wake::Turn(Turn::Received(length)) => {
                    if let Some(link) = &self.link {
                        self.core.step(now, Input::Received(link.inbox(length)));
                    }
                }
                Wake::Turn(Turn::Closed) => self.core.step(now, Input::Closed),
                Wake::Turn(Turn::Stalled) => self.core.step(now, Input::SendStalled),
                Wake::Time => self.core.step(now, Input::Tick),
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let deadline = self.core.poll_deadline();
        let (link, connecting) = (&mut self.link, &mut self.connecting);
        let turn = async {
            match link {
                Some(link) => link.turn().await,
                None => std::future::pending().await,
            }
        };
        let connected = async {
            match connecting {
                Some(connecting) => connecting.await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = self.inbox.recv() => Wake::Command(command),
            outcome = connected => Wake::Connected(outcome),
            turn = turn => Wake::Turn(turn),
            () = time => Wake::Time,
        }
    }

    /// Carries out the core's effects in order and publishes what changed.
    async fn carry_out(&mut self) {
        let (mut up, mut down, mut findings) = (None, None, Vec::new());
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Connect => {
                    let (peer, local) = (self.config.peer, self.config.local_addr);
                    let hold = self.config.hold_time;
                    self.connecting = Some(Box::pin(Link::connect(peer, local, hold)));
                }
                Effect::Send(octets) => {
                    let room = self.link.as_mut().is_none_or(|link| link.queue(&octets));
                    if !room {
                        self.core.step(Instant::now(), Input::SendStalled);
                    }
                }
                Effect::Close => {
                    if let Some(link) = self.link.take() {
                        link.close().await;
                    }
                }
                Effect::Up(peer) => up = Some(peer),
                Effect::Down(why) => down = Some(why),
                Effect::Finding(finding) => findings.push(finding),
            }
        }
        self.publish(up, down, findings);
    }

    fn publish(&self, up: Option<PeerOpen>, down: Option<Down>, findings: Vec<Finding>) {
        let (state, advertised) = (self.core.state(), self.core.advertised());
        let peer = self.config.peer;
        if let Some(agreed) = &up {
            tracing::info!(%peer, asn = %agreed.asn, hold = ?agreed.hold_time, "bgp session up");
        }
        if let Some(why) = &down {
            tracing::info!(%peer, %why, "bgp session down");
        }
        for finding in &findings {
            tracing::warn!(%peer, ?finding, "bgp finding");
        }
        self.publish.send_if_modified(|status| {
            let moved = status.state != state;
            let news = moved || status.advertised != advertised || up.is_some() || down.is_some();
            if moved {
                status.state = state;
                status.since = Instant::now();
            }
            status.advertised = advertised;
            if let Some(why) = down {
                status.last_down = Some(why);
                status.peer = None;
            }
            if state == State::Established && up.is_some() {
                status.peer = up;
            }
            let before = status.findings.len();
            for finding in findings {
                if before < MAX_FINDINGS && !status.findings.contains(&finding) {
                    status.findings.push(finding);
                }
            }
            news || status.findings.len() != before
        });
    }
}
