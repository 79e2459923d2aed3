//! The announce-only speaker: what to announce, kept apart from whether a session is up.
//!
//! The owner says what is to be announced and with which term; the speaker brings the peer to
//! that state and keeps it there across lost connections. It takes no routes, so a router gone
//! mad cannot reach the host through it.
//!
//! ```text
//! Idle ─ start or pause over ─► Connect ─ TCP up ─► OpenSent ─► OpenConfirm ─► Established
//!   ▲                              │ failed             │            │             │
//!   └── pause, doubled up to 5 s ──┴────────────────────┴────────────┴─────────────┘
//! ```
//! Vocabulary: [`Speaker::step`], [`Speaker::poll_effect`], [`Speaker::poll_deadline`]. A prefix
//! keeps its newest term even after it was withdrawn, so that a late command of an older grant
//! can never announce it again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use crate::config::SpeakerConfig;
use crate::error::BgpError;
use crate::limits::{MAX_PREFIXES, REFRESH_GAP, RETRY_MAX, RETRY_MIN};
use crate::med::{Med, Term};
use crate::session::{Down, Event, Finding, PeerOpen, Session};
use crate::wire::{self, Notification, PathTemplate};

/// The state machine's state, with RFC 4271's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Waiting before the next connection, or ended.
    #[default]
    Idle,
    /// Connecting.
    Connect,
    /// Our OPEN is sent.
    OpenSent,
    /// Their OPEN is accepted.
    OpenConfirm,
    /// Routes are announced.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::OpenSent => "open-sent",
            Self::OpenConfirm => "open-confirm",
            Self::Established => "established",
        })
    }
}

/// What happens to a speaker.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Begin; later inputs of this kind do nothing.
    Start,
    /// The TCP connection asked for is up.
    Connected,
    /// The TCP connection asked for did not come up.
    ConnectFailed,
    /// The TCP connection ended.
    Closed,
    /// The peer takes no octets.
    SendStalled,
    /// Octets from the peer.
    Received(&'a [u8]),
    /// Announce a prefix; `med` comes from [`SpeakerConfig::metric`] for this term.
    Announce {
        /// The prefix.
        prefix: IpNet,
        /// The term of the grant.
        term: Term,
        /// Its metric.
        med: Med,
    },
    /// Withdraw a prefix.
    Withdraw {
        /// The prefix.
        prefix: IpNet,
    },
    /// End for good, with a text for the router's operator (RFC 9003).
    Shutdown {
        /// The text.
        text: &'a str,
    },
    /// A deadline may have passed.
    Tick,
}

/// What a speaker wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a TCP connection to the peer.
    Connect,
    /// Send octets on it.
    Send(Bytes),
    /// Close it, after what was sent.
    Close,
    /// The session came up.
    Up(PeerOpen),
    /// The session, or the attempt at one, ended.
    Down(Down),
    /// Something to know.
    Finding(Finding),
}

/// A prefix under our hand.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The newest term seen, kept after withdrawal.
    term: Term,
    /// The metric, while the prefix is to be announced.
    med: Option<Med>,
}

/// The announce-only speaker.
#[derive(Debug)]
pub struct Speaker {
    config: SpeakerConfig,
    template: PathTemplate,
    state: State,
    session: Option<Session>,
    routes: BTreeMap<IpNet, Entry>,
    retry_at: Option<Instant>,
    pause: Duration,
    refresh_at: Option<Instant>,
    refreshed: Option<Instant>,
    started: bool,
    ended: bool,
    effects: VecDeque<Effect>,
}

impl Speaker {
    /// A speaker that has not begun; see [`Input::Start`].
    pub fn new(config: SpeakerConfig) -> Result<Self, BgpError> {
        config.check()?;
        Ok(Self {
            template: config.template(),
            config,
            state: State::Idle,
            session: None,
            routes: BTreeMap::new(),
            retry_at: None,
            pause: RETRY_MIN,
            refresh_at: None,
            refreshed: None,
            started: false,
            ended: false,
            effects: VecDeque::new(),
        })
    }

    /// One step.
    pub fn step(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Start if !self.started => {
                self.started = true;
                self.connect();
            }
            Input::Start => {}
            Input::Connected if self.state == State::Connect => {
                self.session = Some(Session::new(self.config.session(), now));
                self.state = State::OpenSent;
            }
            Input::Connected => self.effects.push_back(Effect::Close),
            Input::ConnectFailed => {
                if self.state == State::Connect {
                    self.state = State::Idle;
                    self.effects.push_back(Effect::Down(Down::Lost));
                    self.pause_before_retry(now);
                }
            }
            Input::Closed => self.with_session(Session::lost),
            Input::SendStalled => self.with_session(Session::stalled),
            Input::Received(octets) => self.with_session(|session| session.received(now, octets)),
            Input::Announce { prefix, term, med } => self.announce(prefix, term, med),
            Input::Withdraw { prefix } => self.withdraw(prefix),
            Input::Shutdown { text } => {
                self.ended = true;
                self.retry_at = None;
                self.with_session(|session| session.cease(&Notification::shutdown(text)));
            }
            Input::Tick => self.tick(now),
        }
        self.drain(now);
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due next.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let session = self.session.as_ref().and_then(Session::deadline);
        [session, self.retry_at, self.refresh_at].into_iter().flatten().min()
    }

    /// The state machine's state.
    pub fn state(&self) -> State {
        self.state
    }

    /// What has been sent to the peer in the present session (our Adj-RIB-Out).
    pub fn advertised(&self) -> BTreeMap<IpNet, Med> {
        if self.state != State::Established {
            return BTreeMap::new();
        }
        self.wanted().filter(|(prefix, _)| self.peer_takes(prefix)).collect()
    }

    fn wanted(&self) -> impl Iterator<Item = (IpNet, Med)> + '_ {
        self.routes.iter().filter_map(|(prefix, entry)| Some((*prefix, entry.med?)))
    }

    fn peer_takes(&self, prefix: &IpNet) -> bool {
        let peer = self.session.as_ref().and_then(Session::peer);
        peer.is_some_and(|peer| match prefix {
            IpNet::V4(_) => peer.ipv4,
            IpNet::V6(_) => peer.ipv6,
        })
    }

    // ---- Commands --------------------------------------------------------------------------

    fn announce(&mut self, prefix: IpNet, term: Term, med: Med) {
        let known = self.routes.get(&prefix).map(|entry| entry.term);
        if let Some(known) = known.filter(|known| *known > term) {
            self.effects.push_back(Effect::Finding(Finding::StaleTerm { asked: term, known }));
            return;
        }
        if known.is_none() && self.routes.len() >= MAX_PREFIXES {
            self.effects.push_back(Effect::Finding(Finding::TooManyPrefixes));
            return;
        }
        self.routes.insert(prefix, Entry { term, med: Some(med) });
        if self.state == State::Established {
            if self.peer_takes(&prefix) {
                let updates = self.template.announce(med, &[prefix]);
                self.effects.extend(updates.into_iter().map(Effect::Send));
            } else {
                let ipv6 = matches!(prefix, IpNet::V6(_));
                self.effects.push_back(Effect::Finding(Finding::FamilyMissing { ipv6 }));
            }
        }
    }

    fn withdraw(&mut self, prefix: IpNet) {
        let Some(entry) = self.routes.get_mut(&prefix) else { return };
        if entry.med.take().is_some()
            && self.state == State::Established
            && self.peer_takes(&prefix)
        {
            self.effects.extend(wire::withdraw(&[prefix]).into_iter().map(Effect::Send));
        }
    }

    /// Everything that is to be announced, in as few UPDATEs as possible.
    fn announce_all(&mut self) {
        let mut by_med: BTreeMap<Med, Vec<IpNet>> = BTreeMap::new();
        let mut missing = [false; 2];
        for (prefix, med) in self.wanted() {
            if self.peer_takes(&prefix) {
                by_med.entry(med).or_default().push(prefix);
            } else {
                missing[usize::from(matches!(prefix, IpNet::V6(_)))] = true;
            }
        }
        for (med, prefixes) in by_med {
            let updates = self.template.announce(med, &prefixes);
            self.effects.extend(updates.into_iter().map(Effect::Send));
        }
        for (ipv6, missing) in [(false, missing[0]), (true, missing[1])] {
            if missing {
                self.effects.push_back(Effect::Finding(Finding::FamilyMissing { ipv6 }));
            }
        }
    }

    // ---- The session and its end -----------------------------------------------------------

    fn connect(&mut self) {
        self.retry_at = None;
        self.state = State::Connect;
        self.effects.push_back(Effect::Connect);
    }

    fn pause_before_retry(&mut self, now: Instant) {
        if !self.ended {
            self.retry_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(RETRY_MAX);
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.connect();
        }
        if self.refresh_at.is_some_and(|at| now >= at) {
            self.refresh(now);
        }
        self.with_session(|session| session.tick(now));
    }

    fn with_session(&mut self, act: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session {
            act(session);
        }
    }

    fn refresh(&mut self, now: Instant) {
        let allowed = self.refreshed.map_or(now, |last| last + REFRESH_GAP);
        if now >= allowed {
            self.refresh_at = None;
            self.refreshed = Some(now);
            self.announce_all();
        } else {
            self.refresh_at = Some(allowed);
        }
    }

    /// Turns the session's events into effects and follows its state.
    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.session.as_mut().and_then(Session::poll) {
            match event {
                Event::Send(octets) => self.effects.push_back(Effect::Send(octets)),
                Event::Finding(finding) => self.effects.push_back(Effect::Finding(finding)),
                Event::Up(peer) => {
                    self.state = State::Established;
                    self.pause = RETRY_MIN;
                    self.effects.push_back(Effect::Up(peer));
                    self.announce_all();
                }
                Event::Refresh => self.refresh(now),
                Event::Update(_) => {} // Never asked for: `wants_routes` is false.
                Event::Down(why) => {
                    self.state = State::Idle;
                    self.refresh_at = None;
                    self.effects.push_back(Effect::Down(why));
                    self.pause_before_retry(now);
                }
                Event::Close => self.effects.push_back(Effect::Close),
            }
        }
        match &self.session {
            Some(session) if session.deadline().is_none() => self.session = None,
            Some(session) if session.is_confirming() => self.state = State::OpenConfirm,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::med::Asn;
    use crate::session::{GracefulRestartPolicy, SessionConfig};
    use std::net::{Ipv4Addr, SocketAddr};

    fn config() -> SpeakerConfig {
        let peer = SocketAddr::from(([127, 0, 0, 1], 179));
        let mut config =
            SpeakerConfig::new(peer, Asn(65_000), Asn(65_001), Ipv4Addr::new(10, 0, 0, 1));
        config.next_hop_v4 = Some(Ipv4Addr::LOCALHOST);
        config
    }

    fn effects(speaker: &mut Speaker) -> Vec<Effect> {
        std::iter::from_fn(|| speaker.poll_effect()).collect()
    }

    fn router(now: Instant) -> Session {
        let config = SessionConfig {
            local_as: Asn(65_000),
            router_id: Ipv4Addr::new(10, 0, 0, 9),
            hold_time: Duration::from_secs(9),
            peer_as: vec![],
            graceful_restart: GracefulRestartPolicy::Report,
            wants_routes: true,
        };
        Session::new(config, now)
    }

    /// Carries octets both ways until nothing moves; returns the routes that the router saw.
    fn exchange(speaker: &mut Speaker, router: &mut Session, now: Instant) -> usize {
        let mut routes = 0;
        loop {
            let mut moved = false;
            for effect in effects(speaker) {
                if let Effect::Send(octets) = effect {
                    router.received(now, &octets);
                    moved = true;
                }
            }
            while let Some(event) = router.poll() {
                match event {
                    Event::Send(octets) => speaker.step(now, Input::Received(&octets)),
                    Event::Update(update) => routes += update.nlri().len(),
                    _ => {}
                }
                moved = true;
            }
            if !moved {
                return routes;
            }
        }
    }

    fn prefix() -> IpNet {
        "192.0.2.10/32".parse().unwrap()
    }

    fn announce(term: u64) -> Input<'static> {
        let term = Term(term);
        let med = config().metric(prefix(), term).unwrap();
        Input::Announce { prefix: prefix(), term, med }
    }

    #[test]
    fn what_was_asked_for_before_the_session_is_announced_when_it_comes_up() {
        let now = Instant::now();
        let mut speaker = Speaker::new(config()).unwrap();
        speaker.step(now, announce(5));
        assert_eq!(effects(&mut speaker), []);
        speaker.step(now, Input::Start);
        assert_eq!(effects(&mut speaker), [Effect::Connect]);
        speaker.step(now, Input::Connected);
        let mut router = router(now);
        assert_eq!(exchange(&mut speaker, &mut router, now), 1);
        assert_eq!(speaker.state(), State::Established);
        assert_eq!(speaker.advertised().get(&prefix()), Some(&Med(u32::MAX - 5)));
    }

    #[test]
    fn an_older_term_is_not_announced_even_after_a_withdrawal() {
        let now = Instant::now();
        let mut speaker = Speaker::new(config()).unwrap();
        speaker.step(now, Input::Start);
        speaker.step(now, Input::Connected);
        let mut router = router(now);
        exchange(&mut speaker, &mut router, now);
        speaker.step(now, announce(5));
        speaker.step(now, Input::Withdraw { prefix: prefix() });
        effects(&mut speaker);
        speaker.step(now, announce(4));
        let stale = Finding::StaleTerm { asked: Term(4), known: Term(5) };
        assert_eq!(effects(&mut speaker), [Effect::Finding(stale)]);
        assert!(speaker.advertised().is_empty());
    }

    #[test]
    fn connecting_again_is_paced_and_the_pace_is_bounded() {
        let mut now = Instant::now();
        let mut speaker = Speaker::new(config()).unwrap();
        speaker.step(now, Input::Start);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(effects(&mut speaker).contains(&Effect::Connect));
            speaker.step(now, Input::ConnectFailed);
            let due = speaker.poll_deadline().unwrap();
            pauses.push(due - now);
            now = due;
            speaker.step(now, Input::Tick);
        }
        assert_eq!(pauses[0], RETRY_MIN);
        assert_eq!(pauses[9], RETRY_MAX);
        assert!(pauses.is_sorted());
    }

    #[test]
    fn a_flood_of_refresh_requests_is_answered_once_a_second() {
        let now = Instant::now();
        let mut speaker = Speaker::new(config()).unwrap();
        speaker.step(now, Input::Start);
        speaker.step(now, Input::Connected);
        let mut router = router(now);
        exchange(&mut speaker, &mut router, now);
        speaker.step(now, announce(5));
        effects(&mut speaker);
        let mut refresh = vec![0xff; 16];
        refresh.extend_from_slice(&[0, 23, 5, 0, 1, 0, 1]);
        for _ in 0..100 {
            speaker.step(now, Input::Received(&refresh));
        }
        assert_eq!(effects(&mut speaker).len(), 1);
        speaker.step(now + REFRESH_GAP, Input::Tick);
        assert_eq!(effects(&mut speaker).len(), 1);
    }

    #[test]
    fn after_shutdown_it_stays_down() {
        let now = Instant::now();
        let mut speaker = Speaker::new(config()).unwrap();
        speaker.step(now, Input::Start);
        speaker.step(now, Input::Connected);
        let mut router = router(now);
        exchange(&mut speaker, &mut router, now);
        speaker.step(now, Input::Shutdown { text: "planned move" });
        let said = effects(&mut speaker);
        assert!(matches!(said[..], [Effect::Send(_), Effect::Down(Down::Ended), Effect::Close]));
        assert_eq!(speaker.poll_deadline(), None);
    }
}
