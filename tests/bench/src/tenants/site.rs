//! One site of one tenant: a member of the core, with a link and without a disk.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};
use tierce_link::{Identity, Link, LinkEvent, Name, Tenant};
use tierce_ticket::configuration::Role;
use tierce_ticket::durable::Durable;
use tierce_ticket::holder::{Able, Holder};
use tierce_ticket::ids::{ClusterId, Incarnation, MemberName, RenewalSeq, StoreId};
use tierce_ticket::member::{Effect, FoundingPlan, Input, Member, MemberSettings};
use tierce_ticket::message::{Lane, Message, Verdict};
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
    pub(crate) sent: u64,
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
}

/// One site.
pub(crate) struct Site {
    member: Member,
    tenant: Tenant,
    arbitrator: MemberName,
    versions: BTreeMap<MemberName, Version>,
    pending: HashMap<RenewalSeq, Instant>,
}

impl Site {
    pub(crate) fn new(
        tenant: &Tenant,
        name: &str,
        plan: FoundingPlan,
        random: [u8; 16],
    ) -> anyhow::Result<Self> {
        let mut seed = [0; 8];
        seed.copy_from_slice(&random[..8]);
        let settings = MemberSettings {
            name: name.parse()?,
            role: Role::Site,
            store: StoreId(random),
            opened: 1,
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
            versions: BTreeMap::new(),
            pending: HashMap::new(),
        })
    }

    /// Whether its session is open.
    pub(crate) fn has_session(&self) -> bool {
        self.member.holder().and_then(Holder::session).is_some()
    }

    /// Something came over the link.
    pub(crate) fn hear(&mut self, event: LinkEvent, link: &Link, tally: &mut Tally) {
        match event {
            LinkEvent::Up { peer, alpn, .. } => {
                let (Some(name), Some(version)) = (name_of(&peer), Version::from_alpn(&alpn))
                else {
                    return;
                };
                self.versions.insert(name.clone(), version);
                self.member.step(now(), Input::PeerUp(name));
            }
            LinkEvent::Down { peer, .. } => {
                let Some(name) = name_of(&peer) else { return };
                self.versions.remove(&name);
                self.member.step(now(), Input::PeerDown(name));
            }
            LinkEvent::Datagram { peer, bytes } | LinkEvent::Frame { peer, bytes } => {
                let (Some(from), Ok(decoded)) = (name_of(&peer), tierce_wire::decode(&bytes))
                else {
                    return;
                };
                if let Message::Answer(answer) = &decoded.envelope.message
                    && from == self.arbitrator
                    && let Some(sent) = self.pending.remove(&answer.seq)
                {
                    match answer.verdict {
                        Verdict::Promised { .. } => {
                            tally.latencies_us.push(sent.elapsed().as_micros() as u32);
                        }
                        Verdict::Refused(_) => tally.refused += 1,
                    }
                }
                let envelope = decoded.envelope;
                self.member.step(now(), Input::Received { from, envelope });
            }
            LinkEvent::Refused { .. } => return,
        }
        self.carry_out(link, tally);
    }

    /// Its time has come. It has nothing that could not be stopped and no disk that could fail.
    pub(crate) fn tick(&mut self, link: &Link, tally: &mut Tally) {
        let now = now();
        self.member.step(now, Input::Able(Able::Journal));
        self.member.step(now, Input::Able(Able::Runner));
        self.member.step(now, Input::Tick);
        self.carry_out(link, tally);
    }

    /// When it wants to be woken.
    pub(crate) fn wait(&self) -> Duration {
        const FAR: Duration = Duration::from_millis(250);
        let now = now();
        self.member.poll_deadline(now).after(now).unwrap_or(FAR).min(FAR)
    }

    fn carry_out(&mut self, link: &Link, tally: &mut Tally) {
        while let Some(effect) = self.member.poll_effect() {
            match effect {
                Effect::Persist { id, .. } | Effect::Checkpoint { id, .. } => {
                    self.member.step(now(), Input::Persisted(id));
                }
                Effect::Send { to, lane, envelope, .. } => {
                    if let Message::Renew(renew) = &envelope.message
                        && to == self.arbitrator
                    {
                        self.note(renew.seq, tally);
                    }
                    let (Some(version), Ok(name)) =
                        (self.versions.get(&to), Name::new(to.as_str()))
                    else {
                        continue;
                    };
                    let Ok(bytes) = tierce_wire::encode(*version, 0, &envelope) else { continue };
                    let bytes = Bytes::from(bytes);
                    let _ = match lane {
                        Lane::Datagram => link.send_datagram(&self.tenant, &name, bytes),
                        Lane::Stream => link.send_frame(&self.tenant, &name, bytes),
                    };
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, seq: RenewalSeq, tally: &mut Tally) {
        const LATE: Duration = Duration::from_secs(2);
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

    /// Renewals that have been without an answer for too long.
    pub(crate) fn unanswered(&self, late: Duration) -> u64 {
        self.pending.values().filter(|sent| sent.elapsed() > late).count() as u64
    }
}

fn name_of(peer: &Identity) -> Option<MemberName> {
    peer.name.as_str().parse().ok()
}
