//! What is done in the lab, in which order: all of it in the demo, the chosen faults in a drill.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use tierce_ticket::timing::Profile;

use super::seed::Seed;
use crate::evidence::timeline::Show;

/// Something that is done to the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The holder's site is cut off within its blip budget: nothing moves.
    Blip,
    /// The holder's site is cut off; it comes back later.
    Cut,
    /// SIGKILL to the holder's agent.
    Kill,
    /// SIGSTOP to the holder's agent for three leases.
    Freeze,
    /// The arbitrator is killed, and started again later.
    ArbitratorLost,
    /// No fault: a planned move.
    Move,
}

impl Fault {
    /// Phases that it takes.
    fn phases(self) -> usize {
        if self == Self::Cut { 2 } else { 1 }
    }

    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
}

/// One run of the lab.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Whether it is a drill, and not the demo.
    pub(crate) drill: bool,
    /// After a healthy phase, in this order.
    pub(crate) faults: Vec<Fault>,
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    /// The reports go there.
    pub(crate) report: Option<PathBuf>,
    /// The lab's directory stays.
    pub(crate) keep: bool,
    /// Milliseconds that a phase may be beyond its prediction.
    pub(crate) allowance: u64,
    pub(crate) show: Show,
}

impl Program {
    /// The demo's faults; the order of the last three comes from the seed, and so does the timing.
    pub(super) fn all(seed: u64) -> Vec<Fault> {
        let last = [Fault::ArbitratorLost, Fault::Kill, Fault::Freeze];
        let mut faults = vec![Fault::Blip, Fault::Cut, Fault::Move];
        // Its own numbers: the timing of a fault does not depend on which faults there are.
        faults.extend(Seed(seed).shuffled([0, 1, 2]).map(|i| last[i]));
        faults
    }

    /// How many phases there will be.
    pub(super) fn phases(&self) -> usize {
        1 + self.faults.iter().map(|f| f.phases()).sum::<usize>()
    }

    /// The command that does the same once more.
    pub(super) fn again(&self) -> String {
        let (profile, seed) = (self.profile, self.seed);
        if !self.drill {
            return format!("tierce demo --profile {profile} --seed {seed}");
        }
        let mut line = "tierce drill run lab".to_owned();
        for fault in &self.faults {
            let _ = write!(line, " --fault {}", fault.word());
        }
        format!("{line} --profile {profile} --seed {seed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_eight_phases_and_a_drill_those_of_its_faults() {
        let mut program = Program {
            drill: false,
            faults: Program::all(7),
            seed: 7,
            profile: Profile::MetroFast,
            report: None,
            keep: false,
            allowance: 500,
            show: Show::Nothing,
        };
        assert_eq!(program.phases(), 8);
        assert_eq!(program.again(), "tierce demo --profile metro-fast --seed 7");
        assert_eq!(Program::all(7), Program::all(7), "one seed, one order");
        program.faults = vec![Fault::Cut, Fault::ArbitratorLost];
        program.drill = true;
        assert_eq!(program.phases(), 4);
        assert!(program.again().contains("--fault cut --fault arbitrator-lost"));
    }
}
