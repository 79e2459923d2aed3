//! The load: both sites of all tenants in one process.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tierce_link::{
    Identity, Link, LinkEvent, PeerSpec, Role as LinkRole, Settings, Tenant, TenantQuota,
};
use tierce_rig::Random;
use tierce_ticket::configuration::Role;
use tierce_ticket::member::{FoundingPlan, PlannedMember};
use tierce_ticket::message::Envelope;
use tierce_ticket::timing::{Profile, Timing};
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::{Instant as Timer, sleep, sleep_until};

use super::site::{NAMES, Site, Tally};
use super::tenant;
use crate::row::quantile;

/// Two renewals a second.
const PERIOD: Duration = Duration::from_millis(500);
/// After the last session, until all is even.
const SETTLE: Duration = Duration::from_secs(5);
/// An answer that has not come so long after the window is none.
const LATE: Duration = Duration::from_secs(2);
/// All sessions are open by then, or the window begins without them.
const FORM: Duration = Duration::from_mins(5);

/// Tenants that dial at once.
const BATCH: usize = 10;
/// Both sites have the arbitrator.
const PEERS_OF_A_TENANT: usize = 2;
/// A batch that does not get in within this time is left to itself.
const BATCH_PATIENCE: Duration = Duration::from_secs(20);

/// Time for a handshake, and between two attempts at one.
const DIAL: Duration = Duration::from_secs(10);

/// Words of the load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Number of the first tenant.
    #[arg(long)]
    first: usize,
    /// How many.
    #[arg(long)]
    tenants: usize,
    /// Seconds in which renewals are counted.
    #[arg(long)]
    window: u64,
    /// Where the arbitrator listens.
    #[arg(long)]
    arbitrator: SocketAddr,
    /// Folders of all members.
    #[arg(long)]
    pki: PathBuf,
}

impl LoadArgs {
    fn range(&self) -> Range<usize> {
        self.first..self.first + self.tenants
    }
}

/// Runs the load, tells where it stands on stdout.
pub(crate) fn load(args: &LoadArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work(args))
}

fn timing() -> Timing {
    Timing { renew_every: PERIOD, ..Profile::Lan.timing() }
}

/// Sites of all tenants at one address.
struct Half {
    link: Link,
    events: Receiver<LinkEvent>,
    sites: HashMap<String, usize>,
}

async fn work(args: &LoadArgs) -> anyhow::Result<()> {
    let (mut halves, mut sites) = (Vec::new(), Vec::new());
    for _ in NAMES {
        // A load that is short of time itself must not give up connections for that.
        let settings = Settings {
            event_queue: 16_384,
            dial_timeout: DIAL,
            handshake_timeout: DIAL,
            backoff_max: DIAL,
            ..Settings::for_period(PERIOD * 4, 6)
        };
        let (link, events) = Link::bind("127.0.0.1:0".parse()?, settings)?;
        halves.push(Half { link, events, sites: HashMap::new() });
    }
    let addresses: Vec<String> =
        halves.iter().filter_map(|h| h.link.local_addr()).map(|a| a.to_string()).collect();
    let mut random = Random::new(Random::any_seed());
    for n in args.range() {
        let name = tenant(n);
        let plan = plan(&addresses, args.arbitrator)?;
        for (h, half) in halves.iter_mut().enumerate() {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&random.next_u64().to_le_bytes());
            bytes[8..].copy_from_slice(&random.next_u64().to_le_bytes());
            let site = Site::new(&Tenant::new(&name)?, h, plan.clone(), bytes)?;
            half.sites.insert(name.clone(), sites.len());
            sites.push((h, site));
        }
    }
    let dialling: Vec<Link> = halves.iter().map(|h| h.link.clone()).collect();
    let mut load = Load::new(halves, sites);
    let up = load.up.clone();
    let dial = dial(dialling, args.range(), args.pki.clone(), args.arbitrator, up);
    let dialled = tokio::task::spawn_local(dial);
    load.meet();
    let begun = Instant::now();
    while load.missing() > 0 && begun.elapsed() < FORM {
        load.run(Duration::from_secs(2)).await;
        let missing = load.missing();
        println!("{missing} of {} sessions missing; so far {:?}", 2 * args.tenants, load.ends);
    }
    dialled.await??;
    load.run(SETTLE).await;
    load.begin();
    println!("{}", json!({ "now": "begins", "after_s": begun.elapsed().as_secs_f64() }));
    let window = Instant::now();
    load.run(Duration::from_secs(args.window)).await;
    let seconds = window.elapsed().as_secs_f64();
    load.tally.open = false;
    println!("{}", json!({ "now": "closes", "seconds": seconds }));
    load.run(LATE).await;
    let unanswered = load.unanswered();
    let tally = &load.tally;
    let lags: Vec<f64> = tally.lags_us.iter().map(|us| f64::from(*us) / 1_000.0).collect();
    let answered = tally.latencies_us.iter().map(|us| f64::from(*us) / 1_000.0);
    // What was not answered took longer than anything that was.
    let never = std::iter::repeat_n(f64::INFINITY, unanswered as usize);
    let all: Vec<f64> = answered.chain(never).collect();
    let slowest = all.iter().copied().filter(|ms| ms.is_finite()).fold(0.0, f64::max);
    let end = json!({
        "now": "ends", "seconds": seconds, "sent": tally.sent, "answers": tally.latencies_us.len(),
        "refused": tally.refused, "unanswered": unanswered, "missing": load.missing(),
        "p50_ms": quantile(&all, 0.5), "p99_ms": quantile(&all, 0.99), "max_ms": slowest, "lag_p99_ms": quantile(&lags, 0.99),
    });
    println!("{end}");
    // The measurer ends this process once it has looked at it.
    load.run(Duration::from_mins(1)).await;
    Ok(())
}

fn plan(addresses: &[String], arbitrator: SocketAddr) -> anyhow::Result<FoundingPlan> {
    let site = |(name, address): (&&str, &String)| {
        let addresses = vec![address.clone()];
        Ok(PlannedMember { name: name.parse()?, role: Role::Site, addresses })
    };
    let mut members: Vec<PlannedMember> =
        NAMES.iter().zip(addresses).map(site).collect::<anyhow::Result<_>>()?;
    members.push(PlannedMember {
        name: "arb".parse()?,
        role: Role::Arbitrator,
        addresses: vec![arbitrator.to_string()],
    });
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(FoundingPlan { members, timing: timing() })
}

/// Every site dials the arbitrator: one batch of tenants after another.
async fn dial(
    links: Vec<Link>,
    tenants: Range<usize>,
    pki: PathBuf,
    arbitrator: SocketAddr,
    up: Rc<Cell<usize>>,
) -> anyhow::Result<()> {
    for (n, tenant_number) in tenants.enumerate() {
        let name = tenant(tenant_number);
        for (link, site) in links.iter().zip(NAMES) {
            link.add_tenant(&Path::new(&pki).join(&name).join(site), TenantQuota::default())?;
        }
        for link in &links {
            let identity = Identity::new(&name, LinkRole::Arbitrator, "arb")?;
            link.add_peer(PeerSpec { identity, addresses: vec![arbitrator.to_string()] })?;
        }
        // Those who came before are in, but for a few: a storm of handshakes is another figure.
        if n % BATCH == BATCH - 1 {
            let due = PEERS_OF_A_TENANT * (n + 1 - BATCH);
            let begun = Instant::now();
            while up.get() < due && begun.elapsed() < BATCH_PATIENCE {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(())
}

/// All sites and their alarm clock.
struct Load {
    halves: Vec<Half>,
    sites: Vec<(usize, Site)>,
    wakes: BinaryHeap<Reverse<(Timer, usize)>>,
    /// The one entry of a site in `wakes` that counts.
    wake_of: Vec<Timer>,
    tally: Tally,
    /// Connections that are up.
    up: Rc<Cell<usize>>,
    /// Connections that came, ended or were refused, by reason.
    ends: BTreeMap<String, u64>,
}

impl Load {
    fn new(halves: Vec<Half>, sites: Vec<(usize, Site)>) -> Self {
        let now = Timer::now();
        let wakes = (0..sites.len()).map(|n| Reverse((now, n))).collect();
        let wake_of = vec![now; sites.len()];
        let (tally, up, ends) = (Tally::default(), Rc::default(), BTreeMap::new());
        Self { halves, sites, wakes, wake_of, tally, up, ends }
    }

    fn missing(&self) -> usize {
        self.sites.iter().filter(|(_, s)| !s.has_session()).count()
    }

    fn begin(&mut self) {
        self.tally = Tally { open: true, ..Tally::default() };
        self.sites.iter_mut().for_each(|(_, s)| s.begin());
    }

    fn unanswered(&self) -> u64 {
        self.tally.unanswered + self.sites.iter().map(|(_, s)| s.unanswered()).sum::<u64>()
    }

    async fn run(&mut self, span: Duration) {
        let end = Timer::now() + span;
        while Timer::now() < end {
            let wake = self.wakes.peek().map_or(end, |Reverse((at, _))| *at).min(end);
            let [north, south] = &mut self.halves[..] else { return };
            let heard = tokio::select! {
                Some(event) = north.events.recv() => Some((0, event)),
                Some(event) = south.events.recv() => Some((1, event)),
                () = sleep_until(wake) => None,
            };
            if let Some((half, event)) = heard {
                self.hear(half, event);
            }
            self.tick();
            yield_now().await;
        }
    }

    fn hear(&mut self, half: usize, event: LinkEvent) {
        let end = match &event {
            LinkEvent::Up { .. } => {
                self.up.set(self.up.get() + 1);
                Some("up".to_owned())
            }
            LinkEvent::Down { reason, .. } => {
                self.up.set(self.up.get().saturating_sub(1));
                Some(format!("down: {reason:?}"))
            }
            LinkEvent::Refused { reason, by, .. } => Some(format!("refused {by:?}: {reason:?}")),
            _ => None,
        };
        if let Some(end) = end {
            *self.ends.entry(end).or_default() += 1;
        }
        let half = &self.halves[half];
        let tenant = match &event {
            LinkEvent::Up { peer, .. }
            | LinkEvent::Down { peer, .. }
            | LinkEvent::Datagram { peer, .. }
            | LinkEvent::Frame { peer, .. } => &peer.tenant,
            LinkEvent::Refused { .. } => return,
        };
        let Some(n) = half.sites.get(tenant.as_str()).copied() else { return };
        let said = self.sites[n].1.hear(event, &half.link, &mut self.tally);
        self.again(n);
        self.talk(n, said);
    }

    /// One site whose time has come. What it says leaves before the next has its turn: sites are
    /// machines of their own, so that they do not speak in bursts.
    fn tick(&mut self) {
        let now = Timer::now();
        while let Some(Reverse((at, n))) = self.wakes.peek().copied() {
            if at > now {
                return;
            }
            self.wakes.pop();
            if self.wake_of[n] == at {
                if self.tally.open {
                    self.tally.lags_us.push(at.elapsed().as_micros() as u32);
                }
                let (half, site) = &mut self.sites[n];
                let said = site.tick(&self.halves[*half].link, &mut self.tally);
                self.again(n);
                return self.talk(n, said);
            }
        }
    }

    /// What a site says to its tenant's other one, and what that says to it, until both are silent.
    fn talk(&mut self, n: usize, said: Vec<Envelope>) {
        let (mut from, mut said) = (n, said);
        while !said.is_empty() {
            let to = from ^ 1;
            let (half, site) = &mut self.sites[to];
            let link = &self.halves[*half].link;
            let mut answers = Vec::new();
            for envelope in said {
                answers.extend(site.told(envelope, link, &mut self.tally));
            }
            self.again(to);
            (from, said) = (to, answers);
        }
    }

    /// The sites of all tenants know each other.
    fn meet(&mut self) {
        let mut said = Vec::new();
        for (half, site) in &mut self.sites {
            said.push(site.meet(&self.halves[*half].link, &mut self.tally));
        }
        for (n, said) in said.into_iter().enumerate() {
            self.talk(n, said);
        }
    }

    fn again(&mut self, n: usize) {
        let at = Timer::now() + self.sites[n].1.wait().max(Duration::from_micros(100));
        // An earlier alarm looks again by itself; it only has to be early enough.
        let old = self.wake_of[n];
        if old <= at && old > Timer::now() {
            return;
        }
        self.wake_of[n] = at;
        self.wakes.push(Reverse((at, n)));
    }
}
