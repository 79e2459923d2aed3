//! What every benchmark stands on: the machine, the seed, and the same network for both products.

use anyhow::Context as _;
use tierce_rig::Random;
use tierce_rig::booth::{self, Booth};
use tierce_rig::net::Rule;
use tierce_rig::tierce;

use crate::facts::Facts;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) facts: Facts,
    pub(crate) seed: u64,
    no_peer: bool,
}

pub(crate) fn must_be_root() -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root: it makes network namespaces and machines of its own"
    );
    Ok(())
}

impl Ground {
    /// Looks at the machine and says what the figures will rest on.
    pub(crate) fn new(seed: Option<u64>, no_peer: bool) -> anyhow::Result<Self> {
        let facts = Facts::gather().context("looking at this machine")?;
        let ground = Self { facts, seed: seed.unwrap_or_else(Random::any_seed), no_peer };
        eprintln!("{}", ground.facts);
        eprintln!("again with: --seed {}", ground.seed);
        if !ground.peer() {
            eprintln!("without the peer: booth is not installed, or --no-peer");
        }
        Ok(ground)
    }

    pub(crate) fn peer(&self) -> bool {
        !self.no_peer && Booth::installed()
    }

    /// One witnessed ticket, T = 1 s, on the network that all parts have.
    pub(crate) fn one_ticket(&self, ticket: &str) -> tierce::Options {
        let rule = Rule::delayed(self.facts.delay);
        tierce::Options { rule, ..tierce::Options::one_ticket(ticket, self.seed) }
    }

    /// The peer on the same network.
    pub(crate) fn on_our_net(&self, mut options: booth::Options) -> booth::Options {
        options.rule = Rule::delayed(self.facts.delay);
        options
    }

    /// Random numbers of a part, the same for the same seed.
    pub(crate) fn random(&self, part: u64) -> Random {
        Random::new(self.seed ^ part)
    }
}
