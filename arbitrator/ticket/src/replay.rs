//! Recordings of what happened to members, input by input, and members that live through it again.
//!
//! A member is a function of what it is told: settings, journal, inputs, clock readings. So a recording
//! of those brings back every state that it was in, and a fault that took a thousand hours to show
//! itself can be looked at as often as one likes. With each event goes a fingerprint of the effects
//! that it had: where a replay's differ, it is another version of this code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::durable::{Durable, Inconsistent, Record};
use crate::ids::MemberName;
use crate::member::{Effect, Input, Member, MemberSettings};
use crate::time::Now;

/// One thing that happened to one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, nanoseconds on the recorder's clock; only for people.
    pub at_ns: u64,
    /// To whom.
    pub member: MemberName,
    /// What its clocks showed.
    pub now: Now,
    /// What.
    pub what: What,
    /// Fingerprint of the effects that it had.
    pub effects: u64,
}

/// What can happen to a member.
#[allow(clippy::large_enum_variant)] // most are inputs
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Its process starts.
    Start {
        /// What it is told of itself.
        settings: MemberSettings,
        /// What its journal holds.
        records: Vec<Record>,
    },
    /// It is told something.
    Input(Input),
    /// Its process ends.
    End,
}

/// Members as they are after some events.
#[derive(Debug, Default)]
pub struct Stage {
    members: BTreeMap<MemberName, Member>,
}

/// Why an event cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// The journal in it makes no member.
    #[error("{member} cannot start: {why}; the rest of the recording was not played")]
    Start {
        /// Which member.
        member: MemberName,
        /// Why.
        why: Inconsistent,
    },
    /// It tells something to a member that was not started.
    #[error("{0} is told something before it starts; the recording lacks its beginning")]
    NotStarted(MemberName),
}

/// What an event did.
#[derive(Clone, Debug)]
pub struct Played {
    /// Its effects, in order.
    pub effects: Vec<Effect>,
    /// Whether they are the recorded ones.
    pub as_recorded: bool,
}

impl Stage {
    /// Plays the next event.
    pub fn play(&mut self, event: &Event) -> Result<Played, PlayError> {
        match &event.what {
            What::Start { settings, records } => {
                let failed = |why| PlayError::Start { member: event.member.clone(), why };
                let mut durable = Durable::default();
                for r in records {
                    durable.replay(r.clone()).map_err(failed)?;
                }
                let member = Member::new(settings.clone(), durable, event.now).map_err(failed)?;
                self.members.insert(event.member.clone(), member);
            }
            What::Input(input) => {
                let member = self.members.get_mut(&event.member);
                let member = member.ok_or_else(|| PlayError::NotStarted(event.member.clone()))?;
                member.step(event.now, input.clone());
            }
            What::End => {
                self.members.remove(&event.member);
            }
        }
        let member = self.members.get_mut(&event.member);
        let effects: Vec<Effect> =
            member.map(|m| std::iter::from_fn(|| m.poll_effect()).collect()).unwrap_or_default();
        let as_recorded = fingerprint(&effects) == event.effects;
        Ok(Played { effects, as_recorded })
    }

    /// A member as it is now; `None` while it does not run.
    pub fn member(&self, name: &MemberName) -> Option<&Member> {
        self.members.get(name)
    }

    /// All that run, by name.
    pub fn members(&self) -> impl Iterator<Item = (&MemberName, &Member)> {
        self.members.iter()
    }
}

/// Fingerprint of effects: FNV-1a, 64 bits, over what they look like when printed. It tells versions
/// apart, nothing more.
pub fn fingerprint(effects: &[Effect]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for e in effects {
        for byte in format!("{e:?}\n").into_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
