//! Networks of machines: namespaces, one TUN device in each, a switch in user space between them.
//!
//! There is no netem on every host that has to run this, and a product that is measured must not
//! share the kernel's queueing with its peer by chance. So packets of a machine come out of a TUN
//! device into a thread of ours, which decides by the rule of that direction what becomes of them.

mod namespace;
mod packet;
mod rule;
mod switch;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

pub use namespace::Namespace;
pub use rule::{Count, Look, Packet, Rule};
pub use switch::Switch;

use crate::error::{Result, RigError};
use crate::limits::MAX_MACHINES;

/// Machines by number, from 0; each has an address and a rule towards every other.
#[derive(Debug)]
pub struct Net {
    spaces: Vec<Arc<Namespace>>,
    switch: Switch,
}

impl Net {
    /// `machines` namespaces, joined by a switch with `rule` in all directions.
    pub fn new(machines: usize, rule: &Rule, seed: u64) -> Result<Self> {
        if machines == 0 || machines > MAX_MACHINES {
            let said = format!("{machines} machines, but 1 to {MAX_MACHINES} are possible");
            return Err(RigError::Answer { what: "a network".to_owned(), said });
        }
        let mut spaces = Vec::new();
        let mut ports = Vec::new();
        for n in 0..machines {
            let space = Namespace::new()?;
            let tun = space.open_tun(Self::address(n))?;
            ports.push((Self::address(n), tun));
            spaces.push(Arc::new(space));
        }
        let switch = Switch::start(ports, rule, seed)?;
        Ok(Self { spaces, switch })
    }

    /// A machine's address: 10.77.0.1 and on.
    pub fn address(machine: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(machine + 1).unwrap_or(u8::MAX))
    }

    /// How many.
    pub fn machines(&self) -> usize {
        self.spaces.len()
    }

    /// A machine's namespace.
    pub fn space(&self, machine: usize) -> &Arc<Namespace> {
        &self.spaces[machine]
    }

    /// The switch, for rules and counters of single directions.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Cuts a machine off from all others, both ways, without either side being told.
    pub fn isolate(&self, machine: usize) {
        self.both_ways(machine, |rule| rule.cut = true);
    }

    /// Ends a machine's isolation.
    pub fn rejoin(&self, machine: usize) {
        self.both_ways(machine, |rule| rule.cut = false);
    }

    /// Changes every direction.
    pub fn all(&self, change: impl Fn(&mut Rule)) {
        self.switch.change(|_, _, rule| change(rule));
    }

    /// Changes the directions to and from a machine.
    pub fn both_ways(&self, machine: usize, change: impl Fn(&mut Rule)) {
        self.switch.change(|from, to, rule| {
            if from == machine || to == machine {
                change(rule);
            }
        });
    }

    /// Round trips between two machines as a program sees them: UDP there and back.
    pub fn round_trips(&self, from: usize, to: usize, n: usize) -> Result<Vec<Duration>> {
        packet::round_trips(&self.spaces[from], &self.spaces[to], Self::address(to), n)
    }
}
