//! One site of one tenant: a member of the core, with a link to the arbitrator and without a disk.
//!
//! What it says to the tenant's other site, which is in the same process, goes there directly: that
//! way is no arbitrator's business, and its cost would only slow the load.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use tierce_link::{Link, LinkEvent, Name, Tenant};
use tierce_ticket::configuration::Role;
use tierce_ticket::durable::{Age, Durable};
use tierce_ticket::holder::{Able, Holder};
use tierce_ticket::ids::{ClusterId, Incarnation, MemberName, RenewalSeq, StoreId};
use tierce_ticket::member::{Effect, FoundingPlan, Input, Member, MemberSettings};
use tierce_ticket::message::{Envelope, Lane, Message, Verdict};
use tierce_ticket::time::{HolderTime, Now, VoterTime};
use tierce_wire::Version;

/// Names of the sites.
pub(crate) const NAMES: [&str; 2] = ["north", "south"];
/// Renewals to the arbitrator that may be without an answer: some seconds' worth.
const MAX_PENDING: usize = 64;

/// All clocks.
pub(crate) fn now() -> Now {
    let nanos = |clock| {
        clock_gettime(clock)
            .map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
    };
    Now {
        voter: VoterTime::from_nanos(nanos(ClockId::CLOCK_MONOTONIC)),
        holder: HolderTime::from_nanos(nanos(ClockId::CLOCK_BOOTTIME)),
        wall_ms: nanos(ClockId::CLOCK_REALTIME) / 1_000_000,
    }
}

/// What is counted of the arbitrator's answers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Renewals sent now belong to the window; answers to those count even after it.
    pub(crate) open: bool,
    pub(crate) sent: u64,
    pub(crate) latencies_us: Vec<u32>,
    /// How late the load itself was for what it had to do: part of what it measures.
    pub(crate) lags_us: Vec<u32>,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
}

/// One site.
pub(crate) struct Site {
    member: Member,
    tenant: Tenant,
    arbitrator: MemberName,
    other: MemberName,
    version: Option<Version>,
    pending: HashMap<RenewalSeq, Instant>,
}

impl Site {
    pub(crate) fn new(
        tenant: &Tenant,
        half: usize,
        plan: FoundingPlan,
        random: [u8; 16],
    ) -> anyhow::Result<Self> {
        let mut seed = [0; 8];
        seed.copy_from_slice(&random[..8]);
        let (name, other): (MemberName, _) = (NAMES[half].parse()?, NAMES[1 - half].parse()?);
        let settings = MemberSettings {
            name,
            role: Role::Site,
            store: StoreId(random),
            age: Age { opened: 1, written: 0 },
            continued: false,
            boot: Incarnation(random),
            seed: u64::from_le_bytes(seed),
            digest: [7; 16],
            plan: Some(plan),
            new_cluster: ClusterId(random),
        };
        Ok(Self {
            member: Member::new(settings, Durable::default(), now())?,
            tenant: tenant.clone(),
            arbitrator: "arb".parse()?,
            other,
            version: None,
            pending: HashMap::new(),
        })
    }

    /// Whether its session is open.
    pub(crate) fn has_session(&self) -> bool {
        self.member.holder().and_then(Holder::session).is_some()
    }

    /// The other site is there.
    pub(crate) fn meet(&mut self, link: &Link, tally: &mut Tally) -> Vec<Envelope> {
        self.member.step(now(), Input::PeerUp(self.other.clone()));
        self.carry_out(link, tally)
    }

    /// The other site says something.
    pub(crate) fn told(
        &mut self,
        envelope: Envelope,
        link: &Link,
        tally: &mut Tally,
    ) -> Vec<Envelope> {
        let from = self.other.clone();
        self.member.step(now(), Input::Received { from, envelope });
        self.carry_out(link, tally)
    }

    /// Something came over the link. What it says to the other site is returned, here and below.
    pub(crate) fn hear(
        &mut self,
        event: LinkEvent,
        link: &Link,
        tally: &mut Tally,
    ) -> Vec<Envelope> {
        match event {
            LinkEvent::Up { alpn, .. } => {
                self.version = Version::from_alpn(&alpn);
                self.member.step(now(), Input::PeerUp(self.arbitrator.clone()));
            }
            LinkEvent::Down { .. } => {
                self.version = None;
                self.member.step(now(), Input::PeerDown(self.arbitrator.clone()));
            }
            LinkEvent::Datagram { bytes, .. } | LinkEvent::Frame { bytes, .. } => {
                let Ok(decoded) = tierce_wire::decode(&bytes) else { return Vec::new() };
                self.count(&decoded.envelope.message, tally);
                let (from, envelope) = (self.arbitrator.clone(), decoded.envelope);
                self.member.step(now(), Input::Received { from, envelope });
            }
            LinkEvent::Refused { .. } => {}
        }
        self.carry_out(link, tally)
    }

    fn count(&mut self, message: &Message, tally: &mut Tally) {
        let Message::Answer(answer) = message else { return };
        let Some(sent) = self.pending.remove(&answer.seq) else { return };
        match answer.verdict {
            Verdict::Promised { .. } => {
                tally.latencies_us.push(sent.elapsed().as_micros() as u32);
            }
            Verdict::Refused(_) => tally.refused += 1,
        }
    }

    /// Its time has come. It has nothing that could not be stopped and no disk that could fail.
    pub(crate) fn tick(&mut self, link: &Link, tally: &mut Tally) -> Vec<Envelope> {
        let now = now();
        self.member.step(now, Input::Able(Able::Journal));
        self.member.step(now, Input::Able(Able::Runner));
        self.member.step(now, Input::Tick);
        self.carry_out(link, tally)
    }

    /// When it wants to be woken.
    pub(crate) fn wait(&self) -> Duration {
        const FAR: Duration = Duration::from_millis(250);
        let now = now();
        self.member.poll_deadline(now).after(now).unwrap_or(FAR).min(FAR)
    }

    fn carry_out(&mut self, link: &Link, tally: &mut Tally) -> Vec<Envelope> {
        let mut to_other = Vec::new();
        while let Some(effect) = self.member.poll_effect() {
            match effect {
                Effect::Persist { id, .. } | Effect::Checkpoint { id, .. } => {
                    self.member.step(now(), Input::Persisted(id));
                }
                Effect::Send { to, envelope, .. } if to == self.other => to_other.push(envelope),
                Effect::Send { lane, envelope, .. } => self.send(lane, &envelope, link, tally),
                _ => {}
            }
        }
        to_other
    }

    fn send(&mut self, lane: Lane, envelope: &Envelope, link: &Link, tally: &mut Tally) {
        if let Message::Renew(renew) = &envelope.message {
            self.note(renew.seq, tally);
        }
        let (Some(version), Ok(name)) = (self.version, Name::new(self.arbitrator.as_str())) else {
            return;
        };
        let Ok(bytes) = tierce_wire::encode(version, 0, envelope) else { return };
        let bytes = Bytes::from(bytes);
        let _ = match lane {
            Lane::Datagram => link.send_datagram(&self.tenant, &name, bytes),
            Lane::Stream => link.send_frame(&self.tenant, &name, bytes),
        };
    }

    fn note(&mut self, seq: RenewalSeq, tally: &mut Tally) {
        const LATE: Duration = Duration::from_secs(2);
        if !tally.open {
            return;
        }
        tally.sent += 1;
        if self.pending.len() >= MAX_PENDING {
            let before = self.pending.len();
            self.pending.retain(|_, sent| sent.elapsed() < LATE);
            tally.unanswered += (before - self.pending.len()) as u64;
        }
        self.pending.insert(seq, Instant::now());
    }

    /// Forgets what is under way, at the beginning of the window.
    pub(crate) fn begin(&mut self) {
        self.pending.clear();
    }

    /// Renewals of the window without an answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.pending.len() as u64
    }
}
