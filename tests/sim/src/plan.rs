//! Plans of faults: drawn from a seed, carried out at fixed instants, easy to make smaller.

use std::collections::BTreeMap;

use tierce_ticket::command::Command;
use tierce_ticket::entry::{Note, Proof};
use tierce_ticket::ids::{StoreId, TicketName};
use tierce_ticket::limits::COMMAND_WAIT;
use tierce_ticket::member::{Input, Standing};
use tierce_ticket::timing::{Profile, Timing};
use tierce_wire::Version;

use crate::disk::{Backup, Health};
use crate::lots::Lots;
use crate::node::{Node, Stopping};
use crate::story::ticket;
use crate::weather::Weather;
use crate::{MS, World};

/// Names of the tickets in play.
pub const TICKETS: [&str; 2] = ["web", "db"];

/// The kind of world that a seed makes.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Sites.
    pub sites: usize,
    /// Arbitrators.
    pub arbitrators: usize,
    /// 20 to 200 ms apart instead of 1 to 5.
    pub wide: bool,
    /// Clocks may break ρ and guests may be paused from outside: then a ticket goes elsewhere only
    /// on proof that the old holder is down.
    pub untrusted: bool,
}

impl Setting {
    /// The setting of a seed.
    pub fn of(seed: u64) -> Self {
        let (sites, arbitrators) = match seed % 3 {
            0 => (3, 2),
            _ => (2, 1),
        };
        Self { sites, arbitrators, wide: seed % 4 == 1, untrusted: seed % 4 == 2 }
    }

    /// Lease times.
    pub fn timing(&self) -> Timing {
        if self.wide { Profile::Wan.timing() } else { Profile::MetroFast.timing() }
    }

    /// Fair weather at this distance.
    pub fn fair(&self) -> Weather {
        Weather::fair(if self.wide { (20, 100) } else { (1, 5) })
    }
}

/// Something done to the world; numbers name nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it; `Conductor::apply` does it
pub enum Fault {
    Crash(usize),
    PowerOff(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    PauseGuest(usize),
    ResumeGuest(usize),
    CutOff(usize),
    CutOneWay(usize, usize),
    CutPair(usize, usize),
    Heal,
    Weather { loss: u64, double: u64, late: u64, stretch: u64 },
    SlowDisk(usize),
    FailDisk(usize),
    MendDisk(usize),
    Rot(usize),
    Wipe(usize),
    Backup(usize),
    Restore { who: usize, rebooted: bool },
    ClockRate(usize, u64),
    Downgrade(usize),
    Upgrade(usize),
    SlowStop(usize, bool),
    Fence(usize),
    Grant { at: usize, ticket: usize, to: usize },
    Move { at: usize, ticket: usize, to: usize },
    Revoke { at: usize, ticket: usize },
    TakeBack { at: usize, ticket: usize },
    CallOff { at: usize, ticket: usize },
    Read { at: usize },
    Retime { at: usize, percent: u64 },
    Admit { at: usize, who: usize },
    Remove { at: usize, who: usize },
}

impl Fault {
    /// Its kind, for counts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::PowerOff(_) => "power-off",
            Self::Start(_) => "start",
            Self::Freeze(_) => "freeze",
            Self::Thaw(_) => "thaw",
            Self::PauseGuest(_) => "pause-guest",
            Self::ResumeGuest(_) => "resume-guest",
            Self::CutOff(_) => "cut-off",
            Self::CutOneWay(..) => "cut-one-way",
            Self::CutPair(..) => "cut-pair",
            Self::Heal => "heal",
            Self::Weather { .. } => "weather",
            Self::SlowDisk(_) => "slow-disk",
            Self::FailDisk(_) => "fail-disk",
            Self::MendDisk(_) => "mend-disk",
            Self::Rot(_) => "rot",
            Self::Wipe(_) => "wipe",
            Self::Backup(_) => "backup",
            Self::Restore { .. } => "restore",
            Self::ClockRate(..) => "clock-rate",
            Self::Downgrade(_) => "downgrade",
            Self::Upgrade(_) => "upgrade",
            Self::SlowStop(..) => "slow-stop",
            Self::Fence(_) => "fence",
            Self::Grant { .. } => "grant",
            Self::Move { .. } => "move",
            Self::Revoke { .. } => "revoke",
            Self::TakeBack { .. } => "take-back",
            Self::CallOff { .. } => "call-off",
            Self::Read { .. } => "read",
            Self::Retime { .. } => "retime",
            Self::Admit { .. } => "admit",
            Self::Remove { .. } => "remove",
        }
    }
}

/// Every kind that a long run must have done while a ticket was held.
pub const KINDS: [&str; 33] = [
    "crash",
    "power-off",
    "start",
    "freeze",
    "thaw",
    "pause-guest",
    "resume-guest",
    "cut-off",
    "cut-one-way",
    "cut-pair",
    "heal",
    "weather",
    "slow-disk",
    "fail-disk",
    "mend-disk",
    "rot",
    "wipe",
    "backup",
    "restore",
    "clock-rate",
    "downgrade",
    "upgrade",
    "slow-stop",
    "fence",
    "grant",
    "move",
    "revoke",
    "take-back",
    "call-off",
    "read",
    "retime",
    "admit",
    "remove",
];

/// When and what, in order of time; milliseconds after the cluster is in service.
pub type Plan = Vec<(u64, Fault)>;

/// Draws a plan of about so many faults; recoveries come on top.
pub fn draw(seed: u64, setting: &Setting, faults: usize) -> Plan {
    let mut lots = Lots(seed ^ 0xFA_17);
    let t = setting.timing().promise.as_millis() as u64;
    let length = faults as u64 * t * 2 / 3;
    let mut plan = Plan::new();
    for _ in 0..faults {
        let at = lots.below(length);
        // Shorter and longer than a lease, and now and then nothing mends it before the end.
        let lasting = match lots.below(5) {
            0 => t / 2,
            1 => t,
            2 => 3 * t,
            3 => lots.below(5 * t),
            _ => lots.below(t / 4),
        };
        for (after, fault) in one(&mut lots, setting, lasting) {
            plan.push((at + after, fault));
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn one(lots: &mut Lots, setting: &Setting, lasting: u64) -> Vec<(u64, Fault)> {
    let all = (setting.sites + setting.arbitrators) as u64;
    let n = lots.below(all) as usize;
    let other = ((n as u64 + 1 + lots.below(all - 1)) % all) as usize;
    let site = lots.below(setting.sites as u64) as usize;
    let which = lots.below(TICKETS.len() as u64) as usize;
    let once = |f| vec![(0, f)];
    let mended = |f, m| vec![(0, f), (lasting, m)];
    match lots.below(24) {
        0 | 1 => mended(Fault::Crash(n), Fault::Start(n)),
        2 => mended(Fault::PowerOff(n), Fault::Start(n)),
        3 | 4 => mended(Fault::Freeze(n), Fault::Thaw(n)),
        5 => mended(Fault::CutOff(n), Fault::Heal),
        6 => mended(Fault::CutOneWay(n, other), Fault::Heal),
        7 => mended(Fault::CutPair(n, other), Fault::Heal),
        8 => {
            let stretch = 1 + lots.below(4);
            let (loss, double) = (lots.below(31), lots.below(20));
            once(Fault::Weather { loss, double, late: lots.below(4), stretch })
        }
        9 => mended(Fault::SlowDisk(n), Fault::MendDisk(n)),
        10 => {
            let mend = (lasting, Fault::MendDisk(n));
            vec![(0, Fault::FailDisk(n)), mend, (lasting + 1, Fault::Start(n))]
        }
        11 => vec![(0, Fault::Rot(n)), (lasting, Fault::Crash(n)), (lasting + 5, Fault::Start(n))],
        12 => mended(Fault::Wipe(n), Fault::Admit { at: other, who: n }),
        13 => {
            let back = (lasting + 1, Fault::Admit { at: other, who: n });
            vec![(0, Fault::Remove { at: other, who: n }), (lasting, Fault::Wipe(n)), back]
        }
        14 => mended(Fault::Backup(n), Fault::Restore { who: n, rebooted: lots.percent(50) }),
        15 => mended(Fault::Downgrade(n), Fault::Upgrade(n)),
        16 => mended(Fault::SlowStop(n, true), Fault::SlowStop(n, false)),
        17 if setting.untrusted => mended(Fault::PauseGuest(n), Fault::ResumeGuest(n)),
        18 if setting.untrusted => {
            let rate = 950_000 + lots.below(100_000);
            mended(Fault::ClockRate(n, rate), Fault::ClockRate(n, 1_000_000))
        }
        19 if setting.untrusted => once(Fault::Fence(site)),
        17 | 18 => once(Fault::Grant { at: n, ticket: which, to: site }),
        19 => once(Fault::Move { at: n, ticket: which, to: site }),
        20 => {
            let call_off = Fault::CallOff { at: other, ticket: which };
            vec![(0, Fault::Move { at: n, ticket: which, to: site }), (lots.below(400), call_off)]
        }
        21 => once(Fault::Revoke { at: n, ticket: which }),
        22 => once(Fault::TakeBack { at: n, ticket: which }),
        _ if lots.percent(30) => once(Fault::Retime { at: n, percent: 100 + lots.below(50) }),
        _ => once(Fault::Read { at: n }),
    }
}

/// Carries a plan out.
#[derive(Debug, Default)]
pub struct Conductor {
    /// Nodes whose store is lost or removed, with that store; never more than a minority, or nobody
    /// could decide.
    pub lost: BTreeMap<usize, StoreId>,
    /// Until when a removal that was asked for may still be carried out: the node may be back under
    /// a new number by then, and is removed again.
    pub removing: BTreeMap<usize, u64>,
    /// Copies of stores, made while nobody spoke version 1.
    pub backups: BTreeMap<usize, Backup>,
}

impl Conductor {
    /// Does it, when it can be done now; whether it was.
    pub fn apply(&mut self, w: &mut World, setting: &Setting, fault: &Fault) -> bool {
        self.notice(w);
        match *fault {
            Fault::Crash(n) if w.nodes[n].member.is_some() && !w.nodes[n].paused => w.crash(n),
            Fault::PowerOff(n) => w.power_off(n),
            Fault::Start(n) if w.nodes[n].member.is_none() && !w.nodes[n].paused => w.start(n),
            Fault::Freeze(n) if w.nodes[n].acts() => w.freeze(n),
            Fault::Thaw(n) if w.nodes[n].frozen && !w.nodes[n].paused => w.thaw(n),
            Fault::PauseGuest(n) if !w.nodes[n].paused => w.pause_guest(n),
            Fault::ResumeGuest(n) if w.nodes[n].paused => w.resume_guest(n),
            Fault::CutOff(n) => w.cut_off(n),
            Fault::CutOneWay(a, b) => {
                w.weather.cut.insert((a, b));
            }
            Fault::CutPair(a, b) => w.weather.cut.extend([(a, b), (b, a)]),
            Fault::Heal => w.heal(),
            Fault::Weather { loss, double, late, stretch } => {
                let fair = setting.fair().delay_ms;
                w.weather.delay_ms = (fair.0, fair.1 * stretch);
                w.weather.loss_percent = loss;
                w.weather.double_percent = double;
                w.weather.late_percent = late;
            }
            Fault::SlowDisk(n) => w.nodes[n].disk.slowest = 500 * MS,
            Fault::FailDisk(n) => w.nodes[n].disk.health = Health::Fails,
            Fault::MendDisk(n) => {
                w.nodes[n].disk.slowest = MS;
                w.nodes[n].disk.health = Health::Works;
            }
            Fault::Rot(n) if self.may_lose(w, n) => {
                self.lost.insert(n, w.nodes[n].disk.store);
                w.nodes[n].disk.rotten = true;
            }
            Fault::Wipe(n) if self.may_lose(w, n) && !w.nodes[n].paused => {
                self.lost.entry(n).or_insert(w.nodes[n].disk.store);
                self.start_empty(w, n);
            }
            Fault::Backup(n) => {
                self.backups.insert(n, w.copy_store(n));
            }
            Fault::Restore { who, rebooted } if self.may_restore(w, who) => {
                let Some(backup) = self.backups.remove(&who) else { return false };
                self.lost.entry(who).or_insert(w.nodes[who].disk.store);
                if rebooted {
                    w.power_off(who);
                } else {
                    w.crash(who);
                }
                w.restore_store(who, backup);
                w.start(who);
            }
            Fault::ClockRate(n, ppm) => w.set_rate(n, ppm),
            Fault::Downgrade(n) => return self.change_version(w, n, Version::V1),
            Fault::Upgrade(n) => return self.change_version(w, n, Version::V2),
            Fault::SlowStop(n, slow) => {
                w.nodes[n].stopping = if slow { Stopping::Beyond } else { Stopping::Within };
            }
            Fault::Fence(n) => return Self::fence(w, n),
            Fault::Admit { at, who } if w.nodes[who].acts() => {
                return Self::ask(w, at, Self::admit(w, who));
            }
            Fault::Remove { at, who } if self.may_lose(w, who) => {
                let known = Self::ask(w, at, Command::Remove { name: w.nodes[who].name.clone() });
                if known {
                    self.lost.entry(who).or_insert(w.nodes[who].disk.store);
                    let lasts = setting.timing().promise * 4 + COMMAND_WAIT * 2;
                    self.removing.insert(who, w.now + lasts.as_nanos() as u64);
                }
                return known;
            }
            Fault::Grant { at, ticket: t, to } => {
                let to = w.nodes[to].name.clone();
                return Self::ask(w, at, Command::Grant { name: of(t), to });
            }
            Fault::Move { at, ticket: t, to } => {
                let to = w.nodes[to].name.clone();
                return Self::ask(w, at, Command::Move { name: of(t), to, note: Note::new() });
            }
            Fault::Revoke { at, ticket: t } => {
                return Self::ask(w, at, Command::Revoke { name: of(t), note: Note::new() });
            }
            Fault::TakeBack { at, ticket: t } => {
                return Self::ask(w, at, Command::TakeBack { name: of(t), note: Note::new() });
            }
            Fault::CallOff { at, ticket: t } => {
                return Self::ask(w, at, Command::CancelMove { name: of(t), note: Note::new() });
            }
            Fault::Read { at } => return Self::ask(w, at, Command::Read),
            Fault::Retime { at, percent } => {
                let timing = setting.timing();
                let promise = timing.promise * percent as u32 / 100;
                return Self::ask(w, at, Command::SetTiming(Timing { promise, ..timing }));
            }
            _ => return false,
        }
        true
    }

    /// Nodes that have found their way back are lost no more: their admission is final, for while it is
    /// not, a majority may be counted without them; and nobody's log has a removal that may become final.
    /// Who is down may have one.
    pub fn notice(&mut self, w: &World) {
        let sound = |n: &usize| w.nodes[*n].member.is_some() || self.lost.contains_key(n);
        if !(0..w.nodes.len()).all(|n| sound(&n)) {
            return;
        }
        self.lost.retain(|n, store| {
            let node = &w.nodes[*n];
            let member = node.member.as_ref();
            let back = member.is_some_and(|m| *m.standing() == Standing::TakingPart);
            let judges = w.nodes.iter().filter_map(|n| n.member.as_ref());
            let voter = judges.filter(|m| *m.standing() == Standing::TakingPart).all(|m| {
                let known =
                    m.ledger().map(|l| [l.committed_configuration().0, l.configuration().0]);
                known.into_iter().flatten().all(|c| {
                    c.id_of(&node.name).is_some_and(|id| {
                        c.is_voter(id) && c.member(id).is_some_and(|m| m.store == node.disk.store)
                    })
                })
            });
            let removing = self.removing.get(n).is_some_and(|until| w.now < *until);
            removing || node.disk.rotten || node.disk.store == *store || !back || !voter
        });
    }

    fn may_lose(&self, w: &World, n: usize) -> bool {
        self.lost.contains_key(&n) || self.lost.len() < (w.nodes.len() - 1) / 2
    }

    /// An older copy is found where all others can be asked, and they tell how far their stores have
    /// come, which version 1 does not (R5).
    fn may_restore(&self, w: &World, n: usize) -> bool {
        let others = || (0..w.nodes.len()).filter(|i| *i != n);
        let asked = |i: usize| w.nodes[i].acts() && w.weather.connects(i, n);
        let told = |x: &Node| x.speaks == Version::V2;
        self.may_lose(w, n)
            && w.nodes[n].acts()
            && others().all(|i| asked(i) && w.weather.connects(n, i))
            && w.nodes.iter().all(told)
    }

    /// A new, empty store, and a start on it.
    pub fn start_empty(&mut self, w: &mut World, n: usize) {
        if w.nodes[n].member.is_some() {
            w.crash(n);
        }
        w.wipe(n);
        w.start(n);
    }

    /// An older copy is not made to speak version 1: that one tells openings only, and it would be
    /// taken for sound (R5).
    fn change_version(&mut self, w: &mut World, n: usize, version: Version) -> bool {
        let hides = version == Version::V1 && self.lost.contains_key(&n);
        let change = w.nodes[n].acts() && w.nodes[n].speaks != version && !hides;
        if change {
            self.backups.clear();
            w.crash(n);
            w.nodes[n].speaks = version;
            w.start(n);
        }
        change
    }

    /// A fence device cuts the power of a site and proves it to the others.
    fn fence(w: &mut World, n: usize) -> bool {
        let session = w.nodes.iter().find_map(|x| {
            let d = x.member.as_ref()?.docket()?;
            d.session_of(&w.nodes[n].name)
        });
        let Some(session) = session else { return false };
        w.power_off(n);
        for i in 0..w.nodes.len() {
            if i != n && w.nodes[i].acts() {
                w.step(i, Input::DeviceProof(session));
            }
        }
        let note = "the device says so".to_owned();
        let down =
            Command::ConfirmDown { site: w.nodes[n].name.clone(), proof: Proof::Fenced, note };
        if let Some(i) = (0..w.nodes.len()).find(|i| *i != n && w.nodes[*i].acts()) {
            w.ask(i, down);
        }
        true
    }

    /// The command that admits a node's present store.
    pub fn admit(w: &World, who: usize) -> Command {
        let n = &w.nodes[who];
        let addresses = vec![format!("{}:1", n.name)];
        Command::Admit { name: n.name.clone(), role: n.role, store: StoreId::default(), addresses }
    }

    fn ask(w: &mut World, at: usize, command: Command) -> bool {
        let can = w.nodes[at].acts();
        if can {
            w.ask(at, command);
        }
        can
    }
}

fn of(t: usize) -> TicketName {
    ticket(TICKETS[t])
}
