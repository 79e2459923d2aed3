//! The gate: which service addresses are guarded, and until when each is open.

use crate::clock::{Deadline, JumpDetector};
use crate::limits::{MAX_ADDRESSES, MAX_ELEMENTS, MAX_OPEN, MIN_OPEN};
use crate::nl::{Family, Socket};
use crate::ruleset::{
    Batch, Op, PROBE, Table, ask, elements_in, marker, rule_count, set_in, set_name,
};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use thiserror::Error;

/// Why the gate could not do as asked, and what that leaves unprotected.
#[derive(Debug, Error)]
pub enum GateError {
    /// Not allowed to change the rules of this network namespace.
    #[error(
        "not permitted to set nftables rules: the service address is not gated by the kernel \
         (layer L1 is missing); run with CAP_NET_ADMIN"
    )]
    NotPermitted,
    /// The kernel has no nf_tables.
    #[error(
        "this kernel has no nf_tables ({0}): the service address is not gated by the kernel \
         (layer L1 is missing); load nf_tables or rely on the guard and say so in status"
    )]
    Unsupported(Errno),
    /// The table was removed or changed by somebody else.
    #[error(
        "table inet tierce is gone or damaged: service addresses are NOT gated now; find what \
         flushed the rules (nft flush ruleset, a firewall reload), then open the gate again"
    )]
    TableGone,
    /// Too little is left of the lease to open.
    #[error("only {0:?} left of the lease: not opened; a kernel timeout cannot be that short")]
    TooLate(Duration),
    /// The lease reaches too far to be one.
    #[error("a lease of {0:?} is not believable: not opened")]
    TooLong(Duration),
    /// The machine slept, and the kernel's timeouts with it.
    #[error(
        "the clocks jumped by {0:?} (the machine slept): every address was shut; renew only after \
         the lease has been confirmed anew"
    )]
    ClockJumped(Duration),
    /// An address that was not given to `protect`.
    #[error("{0} is not guarded: protect it first")]
    NotGuarded(IpAddr),
    /// More addresses than one node may have.
    #[error("{MAX_ADDRESSES} addresses are guarded already: {0} is not")]
    TooMany(IpAddr),
    /// Another failure of the kernel.
    #[error("nf_tables, {step}: {errno}; open addresses shut when their time is up")]
    Kernel {
        /// Which step.
        step: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

fn at(step: &'static str) -> impl Fn(Errno) -> GateError {
    move |errno| match errno {
        Errno::EPERM | Errno::EACCES => GateError::NotPermitted,
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
            GateError::Unsupported(errno)
        }
        errno => GateError::Kernel { step, errno },
    }
}

/// What is gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// What comes in, goes through and leaves, translated or not. For nodes that are not routers
    /// towards the other holder: traffic through this node to a guarded address is dropped too.
    #[default]
    Everything,
    /// Only what this host itself receives and sends; traffic through it passes.
    HostOnly,
}

/// How an open address is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renewal {
    /// As the self-test finds.
    #[default]
    Auto,
    /// One message: the kernel moves the expiry of the element (Linux 6.12 and later).
    Update,
    /// Delete and add in one transaction: gapless too, for older kernels.
    Replace,
}

/// Choices for [`Gate::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What is gated.
    pub scope: Scope,
    /// How addresses are renewed.
    pub renewal: Renewal,
}

/// What [`Gate::self_test`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// The kernel moves the expiry of an existing element.
    pub update_in_place: bool,
    /// ARP is gated as well.
    pub arp: bool,
    /// Every rule stands.
    pub rules: bool,
}

/// One guarded address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// Which.
    pub address: IpAddr,
    /// How long it stays open if nobody renews it, as the kernel says; `None`: shut.
    pub remaining: Option<Duration>,
}

/// The gate of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Gate {
    socket: Socket,
    scope: Scope,
    arp: bool,
    update: bool,
    /// Guarded addresses; true: an element was added and not taken back.
    addresses: BTreeMap<IpAddr, bool>,
    clocks: JumpDetector,
}

impl Gate {
    /// Sets the table up, or adopts one that a former process left. Guarded addresses of the
    /// former process stay guarded; what it had opened stays open until its own time is up.
    pub fn open(options: Options) -> Result<Self, GateError> {
        let mut gate = Self {
            socket: Socket::open(Family::Netfilter).map_err(at("socket"))?,
            scope: options.scope,
            arp: true,
            update: false,
            addresses: BTreeMap::new(),
            clocks: JumpDetector::new(),
        };
        gate.lay_out(Table::Inet)?;
        gate.arp = match gate.lay_out(Table::Arp) {
            Ok(()) => true,
            Err(GateError::Unsupported(_) | GateError::TableGone) => false,
            Err(other) => return Err(other),
        };
        for guarded in gate.state()? {
            gate.addresses.insert(guarded.address, guarded.remaining.is_some());
        }
        let found = gate.self_test()?;
        if !found.rules {
            return Err(GateError::TableGone);
        }
        gate.update = match options.renewal {
            Renewal::Auto => found.update_in_place,
            Renewal::Update => true,
            Renewal::Replace => false,
        };
        Ok(gate)
    }

    /// True where ARP is gated as well.
    pub fn gates_arp(&self) -> bool {
        self.arp
    }

    /// Puts an address under guard: shut until renewed.
    pub fn protect(&mut self, address: IpAddr) -> Result<(), GateError> {
        if self.addresses.contains_key(&address) {
            return Ok(());
        }
        if self.addresses.len() >= MAX_ADDRESSES {
            return Err(GateError::TooMany(address));
        }
        self.everywhere("protect", |batch, table| {
            if belongs(table, address) {
                batch.add(table, set_name(false, address.is_ipv6()), &[address], None);
            }
        })?;
        self.addresses.insert(address, false);
        Ok(())
    }

    /// Takes the guard away: traffic passes, whoever holds the ticket.
    pub fn unprotect(&mut self, address: IpAddr) -> Result<(), GateError> {
        if !self.addresses.contains_key(&address) {
            return Ok(());
        }
        self.shut(address)?;
        self.everywhere("unprotect", |batch, table| {
            if belongs(table, address) {
                batch.delete(table, set_name(false, address.is_ipv6()), &[address]);
            }
        })?;
        self.addresses.remove(&address);
        Ok(())
    }

    /// Opens an address, or keeps it open, until the deadline of the lease.
    pub fn renew(&mut self, address: IpAddr, deadline: Deadline) -> Result<(), GateError> {
        self.renew_many(&[address], deadline)
    }

    /// Opens or keeps open several addresses in one transaction: the common path of a renewal.
    pub fn renew_many(
        &mut self,
        addresses: &[IpAddr],
        deadline: Deadline,
    ) -> Result<(), GateError> {
        if let Some(jump) = self.clocks.jumped() {
            self.shut_all()?; // jump-shuts: first shut, then ask
            return Err(GateError::ClockJumped(jump));
        }
        let missing = addresses.iter().find(|address| !self.addresses.contains_key(address));
        if let Some(missing) = missing {
            return Err(GateError::NotGuarded(*missing));
        }
        // never-longer: read last, rounded down.
        let left = deadline.remaining();
        if left < MIN_OPEN {
            return Err(GateError::TooLate(left));
        }
        if left > MAX_OPEN {
            return Err(GateError::TooLong(left));
        }
        for chunk in addresses.chunks(MAX_ELEMENTS) {
            self.renew_chunk(chunk, left)?;
        }
        Ok(())
    }

    /// Like [`Self::renew`] for callers that hold a span instead of a deadline.
    pub fn renew_for(&mut self, address: IpAddr, left: Duration) -> Result<(), GateError> {
        self.renew(address, Deadline::after(left))
    }

    fn renew_chunk(&mut self, addresses: &[IpAddr], left: Duration) -> Result<(), GateError> {
        let known = |address: &IpAddr| self.addresses.get(address) == Some(&true);
        let replace = !self.update && addresses.iter().any(known);
        let result = self.add_open(addresses, left, replace);
        let result = match result {
            // An element to be replaced has expired meanwhile: then there is nothing to delete.
            Err(GateError::TableGone) if replace => {
                for address in addresses {
                    self.shut(*address)?;
                }
                self.add_open(addresses, left, false)
            }
            other => other,
        };
        result?;
        for address in addresses {
            self.addresses.insert(*address, true);
        }
        Ok(())
    }

    fn add_open(
        &mut self,
        addresses: &[IpAddr],
        left: Duration,
        replace: bool,
    ) -> Result<(), GateError> {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|a| a.is_ipv4());
        let held = |list: &[IpAddr]| -> Vec<IpAddr> {
            let held = |a: &&IpAddr| replace && self.addresses.get(a) == Some(&true);
            list.iter().filter(held).copied().collect()
        };
        let work = [(false, held(&v4), v4), (true, held(&v6), v6)];
        self.everywhere("renew", |batch, table| {
            for (is_v6, old, list) in &work {
                if list.is_empty() || (*is_v6 && table == Table::Arp) {
                    continue;
                }
                let set = set_name(true, *is_v6);
                if !old.is_empty() {
                    batch.delete(table, set, old);
                }
                batch.add(table, set, list, Some(left));
            }
        })
    }

    /// Shuts an address now. Shut already is as good.
    pub fn shut(&mut self, address: IpAddr) -> Result<(), GateError> {
        if !self.addresses.contains_key(&address) {
            return Err(GateError::NotGuarded(address));
        }
        // One batch per table: an element that has expired in one must not keep the other open.
        for table in self.tables() {
            if !belongs(table, address) {
                continue;
            }
            let set = set_name(true, address.is_ipv6());
            match self.transaction(|batch| batch.delete(table, set, &[address])) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(at("shut")(errno)),
            }
        }
        self.addresses.insert(address, false);
        Ok(())
    }

    /// Shuts every guarded address now; tries all, and returns the first failure.
    pub fn shut_all(&mut self) -> Result<(), GateError> {
        let all: Vec<IpAddr> = self.addresses.keys().copied().collect();
        let mut result = Ok(());
        for address in all {
            let one = self.shut(address);
            result = result.and(one);
        }
        result
    }

    /// Every guarded address with what the kernel says is left.
    pub fn state(&mut self) -> Result<Vec<Guarded>, GateError> {
        let mut found = BTreeMap::new();
        for v6 in [false, true] {
            for (address, _) in self.elements(Table::Inet, set_name(false, v6))? {
                found.insert(address, None);
            }
            for (address, left) in self.elements(Table::Inet, set_name(true, v6))? {
                if let Some(entry) = found.get_mut(&address) {
                    *entry = left;
                }
            }
        }
        Ok(found.into_iter().map(|(address, remaining)| Guarded { address, remaining }).collect())
    }

    /// Looks whether every rule stands, and tries on a set of its own how the kernel renews.
    pub fn self_test(&mut self) -> Result<SelfTest, GateError> {
        let mut rules = self.count_rules(Table::Inet)? == rule_count(Table::Inet, self.scope);
        if self.arp {
            rules &= self.count_rules(Table::Arp)? == rule_count(Table::Arp, self.scope);
        }
        let probe = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)); // documentation range, RFC 5737
        let (long, short) = (Duration::from_mins(1), Duration::from_secs(30));
        for left in [long, short] {
            self.one("self-test", |batch| {
                batch.add(Table::Inet, PROBE, &[probe], Some(left));
            })?;
        }
        let left = self.elements(Table::Inet, PROBE)?.into_iter().find(|e| e.0 == probe);
        let update_in_place =
            left.is_some_and(|(_, left)| left.is_some_and(|left| left <= short && left > MIN_OPEN));
        self.one("self-test", |batch| batch.delete(Table::Inet, PROBE, &[probe]))?;
        Ok(SelfTest { update_in_place, arp: self.arp, rules })
    }

    /// Removes the tables: nothing is guarded any more. Dropping the gate does not do this.
    pub fn remove(mut self) -> Result<(), GateError> {
        for table in self.tables() {
            self.one("remove", |batch| batch.delete_table(table))?;
        }
        Ok(())
    }

    // ---- messages -----------------------------------------------------------------------------

    fn tables(&self) -> Vec<Table> {
        if self.arp { vec![Table::Inet, Table::Arp] } else { vec![Table::Inet] }
    }

    /// Creates a table, or keeps one of the same layout, or replaces one of another.
    fn lay_out(&mut self, table: Table) -> Result<(), GateError> {
        let sets = self.sets(table)?;
        if sets.iter().any(|name| name == marker(self.scope)) {
            return Ok(());
        }
        let mut guarded = Vec::new();
        for v6 in [false, true] {
            let name = set_name(false, v6);
            if sets.iter().any(|set| set == name) {
                guarded.push((name, self.elements(table, name)?));
            }
        }
        let scope = self.scope;
        self.one("set up", |batch| {
            if !sets.is_empty() {
                batch.delete_table(table);
            }
            batch.create(table, scope);
            for (set, elements) in &guarded {
                let addresses: Vec<IpAddr> = elements.iter().map(|element| element.0).collect();
                for chunk in addresses.chunks(MAX_ELEMENTS) {
                    batch.add(table, set, chunk, None);
                }
            }
        })
    }

    /// One transaction over all tables.
    fn everywhere(
        &mut self,
        step: &'static str,
        mut fill: impl FnMut(&mut Batch<'_>, Table),
    ) -> Result<(), GateError> {
        let tables = self.tables();
        let result = self.transaction(|batch| {
            for table in tables {
                fill(batch, table);
            }
        });
        result.map_err(|errno| gone_or(step, errno))
    }

    /// One transaction in one table.
    fn one(
        &mut self,
        step: &'static str,
        fill: impl FnOnce(&mut Batch<'_>),
    ) -> Result<(), GateError> {
        self.transaction(fill).map_err(|errno| gone_or(step, errno))
    }

    fn transaction(&mut self, fill: impl FnOnce(&mut Batch<'_>)) -> Result<(), Errno> {
        let seq = self.socket.next_seq();
        let mut batch = Batch::begin(&mut self.socket.out, seq);
        fill(&mut batch);
        let (outer, first, last) = batch.end();
        self.socket.used_up_to(last.wrapping_add(1));
        if last == outer {
            return Ok(()); // nothing to do
        }
        self.socket.transact(outer, first, last)
    }

    /// Names of the sets of a table; none where there is no table.
    fn sets(&mut self, table: Table) -> Result<Vec<String>, GateError> {
        let mut names = Vec::new();
        let seq = self.socket.next_seq();
        ask(&mut self.socket.out, seq, Op::GetSet, table, None);
        let result = self.socket.dump(seq, |message| {
            names.extend(set_in(message.body).map(str::to_owned));
        });
        match result {
            Ok(()) | Err(Errno::ENOENT) => Ok(names),
            Err(errno) => Err(at("look at the table")(errno)),
        }
    }

    fn elements(
        &mut self,
        table: Table,
        set: &str,
    ) -> Result<Vec<(IpAddr, Option<Duration>)>, GateError> {
        let mut found = Vec::new();
        let seq = self.socket.next_seq();
        ask(&mut self.socket.out, seq, Op::GetElements, table, Some(set));
        let result = self.socket.dump(seq, |message| found.extend(elements_in(message.body)));
        result.map_err(|errno| gone_or("read a set", errno))?;
        Ok(found)
    }

    fn count_rules(&mut self, table: Table) -> Result<usize, GateError> {
        let mut count = 0;
        let seq = self.socket.next_seq();
        ask(&mut self.socket.out, seq, Op::GetRule, table, None);
        let result = self.socket.dump(seq, |_| count += 1);
        result.map_err(|errno| gone_or("read the rules", errno))?;
        Ok(count)
    }
}

/// ARP carries IPv4 only.
fn belongs(table: Table, address: IpAddr) -> bool {
    table == Table::Inet || address.is_ipv4()
}

/// Where everything named is ours, something that does not exist means that it was taken away.
fn gone_or(step: &'static str, errno: Errno) -> GateError {
    if errno == Errno::ENOENT { GateError::TableGone } else { at(step)(errno) }
}
