//! Three members over real QUIC, real journals, real clocks: two sites and an arbitrator.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tierce_link::{Ca, Name, Refusal, Role as LinkRole, Settings, Tenant, TenantQuota};
use tierce_member::{
    Host, HostError, HostOptions, MemberEvent, MemberHandle, MemberOptions, PeerAddress,
};
use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::configuration::Role;
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Regrant};
use tierce_ticket::holder::{Able, Holder, Order};
use tierce_ticket::ids::{MemberName, TicketName};
use tierce_ticket::member::{Alarm, FoundingPlan, Input, Member, PlannedMember, Standing};
use tierce_ticket::message::Readiness;
use tierce_ticket::timing::Profile;
use tierce_wire::{ALPN_V1, ALPN_V2};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const NAMES: [(&str, Role); 3] =
    [("paris", Role::Site), ("london", Role::Site), ("third", Role::Arbitrator)];

fn name(s: &str) -> MemberName {
    s.parse().expect("a good name")
}
fn web() -> TicketName {
    "web".parse().expect("a good name")
}

/// One process' worth of a member.
struct Seat {
    host: Host,
    member: MemberHandle,
}

struct Lab {
    dir: TempDir,
    ports: Vec<SocketAddr>,
    /// What the machine remembers until it is booted again.
    memory: TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let tenant = Tenant::new("acme").expect("a tenant");
        let ca = Ca::init(&dir.path().join("ca"), &tenant).expect("an authority");
        for (n, role) in NAMES {
            let role = if role == Role::Site { LinkRole::Site } else { LinkRole::Arbitrator };
            let n_ = Name::new(n).expect("a name");
            ca.issue_to(role, &n_, &dir.path().join(n).join("pki")).expect("a certificate");
        }
        let free = || {
            let s = UdpSocket::bind("127.0.0.1:0").expect("a port");
            s.local_addr().expect("an address")
        };
        let memory = TempDir::new_in("/dev/shm").expect("a tmpfs");
        Self { dir, ports: (0..3).map(|_| free()).collect(), memory }
    }

    fn start(&self, i: usize) -> Seat {
        self.start_offering(i, &[ALPN_V2, ALPN_V1])
    }

    /// A member whose release speaks these versions.
    fn start_offering(&self, i: usize, versions: &[&[u8]]) -> Seat {
        self.try_start(i, versions).expect("a member")
    }

    fn try_start(&self, i: usize, versions: &[&[u8]]) -> Result<Seat, HostError> {
        let (n, role) = NAMES[i];
        let timing = Profile::MetroFast.timing();
        let planned = |(i, (n, role)): (usize, &(&str, Role))| PlannedMember {
            name: name(n),
            role: *role,
            addresses: vec![self.ports[i].to_string()],
        };
        let members: Vec<PlannedMember> = NAMES.iter().enumerate().map(planned).collect();
        let peers = members
            .iter()
            .map(|m| PeerAddress {
                name: m.name.clone(),
                role: m.role,
                addresses: m.addresses.clone(),
            })
            .collect();
        let mut link = Settings::for_period(timing.renew_every, timing.losses);
        link.alpns = versions.iter().map(|v| v.to_vec()).collect();
        let marks = Some(self.memory.path().join(n));
        let options = HostOptions { listen: self.ports[i], link, marks };
        let host = Host::start(options).expect("a socket");
        let home: &Path = &self.dir.path().join(n);
        let site = role == Role::Site;
        let (member, events) = host.add_member(MemberOptions {
            tenant: "acme".to_owned(),
            name: name(n),
            role,
            store_dir: home.join("store"),
            pki_dir: home.join("pki"),
            digest: if site { [7; 16] } else { [0; 16] },
            plan: site.then_some(FoundingPlan { members, timing }),
            peers: if site { peers } else { vec![] },
            quota: TenantQuota::default(),
        })?;
        tokio::spawn(node(member.clone(), events, timing.renew_every));
        Ok(Seat { host, member })
    }
}

/// A node without resources: everything stops at once.
async fn node(member: MemberHandle, mut events: mpsc::Receiver<MemberEvent>, every: Duration) {
    let mut alive = tokio::time::interval(every);
    let mut told = None;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(MemberEvent::Order(Order::Stop { ticket, term, .. })) => {
                    let _ = member.input(Input::Stopped { ticket, term });
                }
                Some(_) => {}
                None => return,
            },
            _ = alive.tick() => {
                let _ = member.input(Input::Able(Able::Runner));
                let session = member.read(|m, _| m.holder().and_then(Holder::session)).await.flatten();
                if session.is_some() && session != told {
                    told = session;
                    let report = Readiness { session: session.unwrap_or_default(), ..Readiness::default() };
                    let _ = member.input(Input::Readiness(report));
                }
            }
        }
    }
}

async fn until(what: &str, seat: &Seat, done: impl Fn(&Member) -> bool + Send + Clone + 'static) {
    let look = async {
        loop {
            let d = done.clone();
            if seat.member.read(move |m, _| d(m)).await == Some(true) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(20), look).await.is_ok(), "{what} did not come in 20 s");
}

fn holder(m: &Member) -> Option<String> {
    let t = m.docket()?.ticket_named(&web())?;
    t.holder().map(|(_, site, _)| site.to_string())
}

fn in_service(m: &Member) -> bool {
    *m.standing() == Standing::TakingPart && m.holder().is_none_or(|h| h.session().is_some())
}

async fn make_ticket(seat: &Seat) {
    let policy = Policy {
        mode: Mode::Auto,
        regrant: Regrant::Lapse,
        loss: LossPolicy::Stop,
        prefer: vec![],
        one_move_per: Duration::ZERO,
        require: [].into(),
        max_lag: None,
        stop_budget: Profile::MetroFast.timing().stop_budget,
    };
    let made = seat.member.command(Command::SetTicket { name: web(), policy }).await;
    assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
}

#[tokio::test]
async fn a_ticket_is_granted_moved_and_taken_over_and_survives_restarts() {
    let lab = Lab::new();
    let mut seats = Vec::new();
    for i in 0..3 {
        seats.push(lab.start(i));
    }
    for s in &seats {
        until("service", s, in_service).await;
    }
    make_ticket(&seats[1]).await;
    sleep(Duration::from_millis(300)).await; // readiness is told once a session is there
    let granted = seats[0].member.command(Command::Grant { name: web(), to: name("paris") }).await;
    assert!(matches!(granted, Outcome::Done { term: Some(_), .. }), "{granted:?}");

    let begun = Instant::now();
    let to = name("london");
    let moved =
        seats[0].member.command(Command::Move { name: web(), to, note: String::new() }).await;
    assert!(matches!(moved, Outcome::Done { .. }), "{moved:?}");
    until("the move", &seats[1], |m| holder(m).as_deref() == Some("london")).await;
    println!("planned move: {:?}", begun.elapsed());

    let london = seats.remove(1);
    let cut = Instant::now();
    london.member.shutdown().await;
    london.host.shutdown("test").await;
    drop(london);
    until("the takeover", &seats[0], |m| holder(m).as_deref() == Some("paris")).await;
    println!("takeover: {:?} after the end of the process", cut.elapsed());
    assert!(
        cut.elapsed() > Duration::from_millis(500),
        "nobody takes over before the promises end"
    );

    let london = lab.start(1);
    until("london's return", &london, in_service).await;
    until("london's docket", &london, |m| holder(m).as_deref() == Some("paris")).await;
    let read = london.member.command(Command::Read).await;
    assert!(matches!(read, Outcome::Done { .. }), "{read:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a store") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// A backup of a voter's store that was made while it ran, put back (R5): found by the machine
/// itself as long as it was not booted, and by the other voters after that.
#[tokio::test]
async fn a_store_put_back_from_a_backup_is_refused_by_its_machine_and_by_the_others() {
    let lab = Lab::new();
    let mut seats: Vec<Seat> = (0..3).map(|i| lab.start(i)).collect();
    for s in &seats {
        until("service", s, in_service).await;
    }
    let (store, backup) = (lab.dir.path().join("third/store"), lab.dir.path().join("backup"));
    copy(&store, &backup);
    make_ticket(&seats[0]).await;
    until("the ticket", &seats[2], |m| {
        m.docket().is_some_and(|d| d.ticket_named(&web()).is_some())
    })
    .await;
    sleep(Duration::from_millis(300)).await; // the others write down how far it has come
    let third = seats.remove(2);
    third.member.shutdown().await;
    third.host.shutdown("test").await;
    drop(third);
    sleep(Duration::from_millis(500)).await; // its socket is closed by then
    copy(&backup, &store);
    let refused = lab.try_start(2, &[ALPN_V2, ALPN_V1]).err().expect("its machine knows better");
    assert!(matches!(refused, HostError::OlderStore { .. }), "{refused}");
    sleep(Duration::from_millis(500)).await; // its socket is closed by then

    copy(&backup, &store);
    std::fs::remove_dir_all(lab.memory.path().join("third")).expect("booted");
    let third = lab.start(2);
    let out = |m: &Member| matches!(m.standing(), Standing::Out(Alarm::OlderStore { .. }));
    until("the others' refusal", &third, out).await;
}

/// The version agreed with each peer, as this member's connections have it.
fn agreed(seat: &Seat) -> Vec<(String, String)> {
    let said = |p: tierce_link::PeerStatus| {
        (p.identity.name.to_string(), String::from_utf8_lossy(&p.alpn).into_owned())
    };
    let mut all: Vec<_> = seat.host.peers("acme").into_iter().map(said).collect();
    all.sort();
    all
}

async fn until_agreed(seat: &Seat, wanted: [(&str, &str); 2]) {
    let wanted = wanted.map(|(name, version)| (name.to_owned(), version.to_owned()));
    let look = async {
        while agreed(seat) != wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let found = timeout(Duration::from_secs(20), look).await;
    assert!(found.is_ok(), "{:?} instead of {wanted:?}", agreed(seat));
}

/// A rolling upgrade in the middle: one site still speaks version 1 only.
#[tokio::test]
async fn members_of_two_neighbouring_releases_elect_grant_move_and_take_over() {
    let lab = Lab::new();
    let mut seats = vec![
        lab.start_offering(0, &[ALPN_V1]),
        lab.start_offering(1, &[ALPN_V2, ALPN_V1]),
        lab.start_offering(2, &[ALPN_V2, ALPN_V1]),
    ];
    for s in &seats {
        until("service", s, in_service).await;
    }
    until_agreed(&seats[0], [("london", "tierce/1"), ("third", "tierce/1")]).await;
    until_agreed(&seats[1], [("paris", "tierce/1"), ("third", "tierce/2")]).await;

    make_ticket(&seats[1]).await;
    sleep(Duration::from_millis(300)).await; // readiness is told once a session is there
    // To the old release and away from it, asked at either.
    let mut last = None;
    for (asked, to) in [(1, "paris"), (0, "london"), (1, "paris")] {
        let name_ = web();
        let command = match last {
            None => Command::Grant { name: name_, to: name(to) },
            Some(_) => Command::Move { name: name_, to: name(to), note: String::new() },
        };
        let done = seats[asked].member.command(command).await;
        let Outcome::Done { index, .. } = done else { panic!("to {to}: {done:?}") };
        assert!(Some(index) > last, "decisions follow each other");
        last = Some(index);
        for s in &seats {
            until(to, s, move |m| holder(m).as_deref() == Some(to)).await;
        }
    }
    // Answers without a clock keep a session alive as well as those with one.
    sleep(Duration::from_secs(3)).await;
    assert!(seats[0].member.stats().renewals_answered > 10);
    for s in &seats {
        until("the holder", s, |m| holder(m).as_deref() == Some("paris")).await;
        assert_eq!(s.member.stats().malformed, 0);
    }

    // The old one is stopped for its upgrade: the new releases take over, and speak version 2 with
    // it when it is back.
    let old = seats.remove(0);
    old.member.shutdown().await;
    old.host.shutdown("upgrade").await;
    drop(old);
    until("the takeover", &seats[0], |m| holder(m).as_deref() == Some("london")).await;
    let new = lab.start(0);
    until("paris' return", &new, in_service).await;
    until_agreed(&new, [("london", "tierce/2"), ("third", "tierce/2")]).await;
}

/// A release too far away is told so, and disturbs nobody.
#[tokio::test]
async fn a_member_of_an_unknown_release_is_refused_by_name_on_both_sides() {
    let lab = Lab::new();
    let stray = lab.start_offering(0, &[b"tierce/9"]);
    let known = [lab.start(1), lab.start(2)];
    let counted = |s: &Seat| s.host.link().counters().refused(Refusal::NoCommonVersion);
    let look = async {
        // London dials paris and is refused there; paris dials both and is refused by both.
        while counted(&stray) == 0 || known.iter().any(|s| counted(s) == 0) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let refused = timeout(Duration::from_secs(20), look).await;
    assert!(refused.is_ok(), "{} {}", counted(&stray), counted(&known[0]));
    assert!(stray.host.peers("acme").is_empty());
    assert!(Refusal::NoCommonVersion.hint().contains("upgrade the older member"));
    until_connected(&known[0], "third").await;
    // Founding needs all of them (docs/decisions/0002), so nothing was decided without the stray.
    let standing = known[0].member.read(|m, _| m.standing().clone()).await;
    assert_eq!(standing, Some(Standing::Unformed));
}

async fn until_connected(seat: &Seat, peer: &str) {
    let up = || agreed(seat).iter().any(|(name, _)| name == peer);
    let look = async {
        while !up() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(20), look).await.is_ok(), "{peer} is not connected");
}
