//! Lives of nodes: start, crash, power, stores, freezing, pausing, and cuts between them.

use tierce_ticket::configuration::Role;
use tierce_ticket::durable::Durable;
use tierce_ticket::ids::{ClusterId, Incarnation, MemberName};
use tierce_ticket::member::{FoundingPlan, Input, Member, MemberSettings, PlannedMember};
use tierce_ticket::replay::What as Happened;
use tierce_ticket::time::HolderTime;

use crate::disk::Backup;
use crate::world::{What, World, note};

impl World {
    /// Starts the member of a node on what its disk has; a rotten store is refused (R5).
    pub fn start(&mut self, i: usize) {
        if self.nodes[i].disk.rotten {
            note!(self, "{:<6} refuses its damaged store", self.nodes[i].name);
            return;
        }
        let disk = &self.nodes[i].disk;
        if disk.mark.is_some_and(|written| written > disk.age.written) {
            note!(self, "{:<6} refuses its older store", self.nodes[i].name);
            return;
        }
        let clock = self.clock(i);
        let members = self.nodes.iter().map(|n| PlannedMember {
            name: n.name.clone(),
            role: n.role,
            addresses: vec![format!("{}:1", n.name)],
        });
        let plan = FoundingPlan { members: members.collect(), timing: self.timing };
        let random = self.lots.draw();
        let n = &mut self.nodes[i];
        n.life += 1;
        n.disk.age.opened += 1;
        n.frozen = false;
        n.held.clear();
        n.inbox.clear();
        n.missed.clear();
        n.told_ready = None;
        // Renewals of an agent reach only what it ordered itself: the rest keeps its deadline.
        n.pinned = n.running.keys().copied().collect();
        let mut boot = [n.life as u8; 16];
        boot[0] = i as u8 + 1;
        boot[8..].copy_from_slice(&random.to_le_bytes());
        let settings = MemberSettings {
            name: n.name.clone(),
            role: n.role,
            store: n.disk.store,
            age: n.disk.age,
            continued: n.disk.mark.is_some(),
            boot: Incarnation(boot),
            seed: random,
            digest: if n.role == Role::Site { [7; 16] } else { [0; 16] },
            plan: (n.role == Role::Site).then_some(plan),
            new_cluster: ClusterId([9; 16]),
        };
        let started =
            Happened::Start { settings: settings.clone(), records: n.disk.records().to_vec() };
        let mut durable = Durable::default();
        for r in n.disk.records() {
            durable.replay(r.clone()).expect("what was written can be read");
        }
        let member = Member::new(settings, durable, clock).expect("a sound journal makes a member");
        n.member = Some(member);
        let life = n.life;
        self.happened(i, clock, Some(started));
        note!(self, "{:<6} starts", self.nodes[i].name);
        self.link += 1;
        for j in 0..self.nodes.len() {
            if j != i && self.nodes[j].member.is_some() {
                self.connect(i, j);
            }
        }
        self.push(self.now, What::Alive { node: i, life });
        self.after_step(i);
    }

    fn connect(&mut self, i: usize, j: usize) {
        for (x, y) in [(i, j), (j, i)] {
            if !self.nodes[x].acts() {
                self.nodes[x].missed.insert(y);
            } else if self.weather.connects(x, y) {
                let peer = self.nodes[y].name.clone();
                self.step(x, Input::PeerUp(peer));
            }
        }
    }

    /// The process dies and loses everything that is not durable. What runs keeps running: the guard
    /// is another process.
    pub fn crash(&mut self, i: usize) {
        note!(self, "{:<6} crashes", self.nodes[i].name);
        self.nodes[i].disk.crash(&mut self.lots);
        let clock = self.clock(i);
        self.nodes[i].member = None;
        self.nodes[i].effects.clear();
        self.happened(i, clock, Some(Happened::End));
        self.nodes[i].frozen = false;
        self.nodes[i].life += 1;
        let gone = self.nodes[i].name.clone();
        for j in 0..self.nodes.len() {
            if j != i && self.nodes[j].acts() {
                self.step(j, Input::PeerDown(gone.clone()));
            } else {
                self.nodes[j].missed.insert(i);
            }
        }
    }

    /// The whole node loses power: what runs dies too.
    pub fn power_off(&mut self, i: usize) {
        self.resume_guest(i);
        self.crash(i);
        let n = &mut self.nodes[i];
        n.disk.mark = None;
        n.running.clear();
        n.guard_d.clear();
        n.pinned.clear();
        n.session_d = HolderTime::default();
    }

    /// The store is lost: the next start is with an empty one.
    pub fn wipe(&mut self, i: usize) {
        let fresh = self.lots.draw();
        self.nodes[i].disk.wipe(fresh);
    }

    /// What a backup of the store would contain now.
    pub fn copy_store(&self, i: usize) -> Backup {
        self.nodes[i].disk.backup()
    }

    /// Puts such a backup back.
    pub fn restore_store(&mut self, i: usize, backup: Backup) {
        self.nodes[i].disk.restore(backup);
    }

    /// The process stands still (SIGSTOP); its guard, its resources and all clocks go on.
    pub fn freeze(&mut self, i: usize) {
        note!(self, "{:<6} freezes", self.nodes[i].name);
        self.nodes[i].frozen = true;
    }

    /// The process goes on.
    pub fn thaw(&mut self, i: usize) {
        note!(self, "{:<6} thaws", self.nodes[i].name);
        self.nodes[i].frozen = false;
        self.catch_up(i);
    }

    /// The whole guest stands still, and nothing in it will see the time that passes.
    pub fn pause_guest(&mut self, i: usize) {
        if !self.nodes[i].paused {
            note!(self, "{:<6} is paused with its clocks", self.nodes[i].name);
            self.nodes[i].paused = true;
            self.nodes[i].clock.stop(self.now);
        }
    }

    /// The guest goes on.
    pub fn resume_guest(&mut self, i: usize) {
        if self.nodes[i].paused {
            note!(self, "{:<6} goes on", self.nodes[i].name);
            self.nodes[i].paused = false;
            self.nodes[i].clock.go(self.now);
            self.rearm_guard(i);
            self.check_exclusive();
            if !self.nodes[i].frozen {
                self.catch_up(i);
            }
        }
    }

    /// From now on the node's clock runs at this rate.
    pub fn set_rate(&mut self, i: usize, rate_ppm: u64) {
        note!(self, "{:<6} clock runs at {rate_ppm} ppm", self.nodes[i].name);
        self.nodes[i].clock.set_rate(self.now, rate_ppm);
        self.rearm_guard(i);
        if self.nodes[i].acts() {
            self.step(i, Input::Tick);
        }
    }

    /// What its machine has kept for it arrives: first that connections ended and others were made,
    /// then what came over them.
    fn catch_up(&mut self, i: usize) {
        for j in std::mem::take(&mut self.nodes[i].missed) {
            let peer = self.nodes[j].name.clone();
            if self.nodes[i].acts() {
                self.step(i, Input::PeerDown(peer.clone()));
            }
            if self.nodes[i].acts() && self.nodes[j].member.is_some() && self.weather.connects(i, j)
            {
                self.step(i, Input::PeerUp(peer));
            }
        }
        for (from, link, envelope) in std::mem::take(&mut self.nodes[i].inbox) {
            self.deliver_late(from, i, link, envelope);
        }
        if self.nodes[i].acts() {
            self.step(i, Input::Tick);
            let life = self.nodes[i].life;
            self.push(self.now, What::Alive { node: i, life });
        }
    }

    /// Nobody hears this node, and it hears nobody.
    pub fn cut_off(&mut self, i: usize) {
        for j in 0..self.nodes.len() {
            if j != i {
                self.weather.cut.insert((i, j));
                self.weather.cut.insert((j, i));
            }
        }
        note!(self, "{:<6} is cut off", self.nodes[i].name);
    }

    /// Every cut ends; connections are made anew.
    pub fn heal(&mut self) {
        note!(self, "world  the network heals");
        self.weather.cut.clear();
        self.link += 1;
        for i in 0..self.nodes.len() {
            for j in i + 1..self.nodes.len() {
                if self.nodes[i].member.is_some() && self.nodes[j].member.is_some() {
                    self.connect(i, j);
                }
            }
        }
    }

    /// Names of the sites.
    pub fn sites(&self) -> Vec<MemberName> {
        let sites = self.nodes.iter().filter(|n| n.role == Role::Site);
        sites.map(|n| n.name.clone()).collect()
    }
}
