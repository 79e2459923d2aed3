//! The judgement on a round.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tierce_rig::tierce::NAMES;
use tierce_rig::{Life, Mono, Write, both};

use crate::fault::Kind;

/// How long a site may go on when it thaws, until its guard has looked at the clock.
const AFTER_THAW: Duration = Duration::from_millis(250);

/// A time in which a machine was frozen as a whole, and nobody on it could stop anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freeze {
    pub(crate) site: usize,
    pub(crate) frozen: Mono,
    pub(crate) thawed: Mono,
}

impl Freeze {
    /// From now on.
    pub(crate) fn of(site: usize) -> Self {
        Self { site, frozen: Mono::now(), thawed: Mono(u64::MAX) }
    }

    /// Until then it is not judged what went on there.
    fn excused_until(&self) -> Mono {
        self.thawed + AFTER_THAW
    }

    fn excuses(&self, write: &Write) -> bool {
        write.site == NAMES[self.site]
            && self.frozen <= write.at
            && write.at <= self.excused_until()
    }

    /// What is left of a life at this site.
    fn cut(&self, life: Life) -> impl Iterator<Item = Life> + use<> {
        let before = Life { to: life.to.min(self.frozen), ..life };
        let after = Life { from: life.from.max(self.excused_until()), ..life };
        [before, after].into_iter().filter(|l| l.from < l.to)
    }
}

/// What witness and store saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Found {
    /// The witness ran at both sites.
    #[serde(rename = "overlap_ms", serialize_with = "as_ms")]
    pub(crate) overlap: Duration,
    /// Writes of somebody who had been overtaken.
    pub(crate) refused: usize,
    /// Since a machine thawed until its last write that was refused, where that is excused.
    #[serde(rename = "after_thaw_ms", serialize_with = "maybe_as_ms")]
    pub(crate) after_thaw: Option<Duration>,
}

/// Judges the time since `from`.
pub(crate) fn judge(
    lives: [Vec<Life>; 2],
    writes: &[Write],
    from: Mono,
    freezes: &[Freeze],
) -> Found {
    let [mut one, mut two] =
        lives.map(|all| all.into_iter().map(|l| Life { from: l.from.max(from), ..l }).collect());
    for freeze in freezes {
        let lives: &mut Vec<Life> = if freeze.site == 0 { &mut one } else { &mut two };
        *lives = lives.iter().flat_map(|l| freeze.cut(*l)).collect();
    }
    let mut found = Found { overlap: both(&one, &two), ..Found::default() };
    for write in writes.iter().filter(|w| !w.accepted) {
        match freezes.iter().find(|f| f.excuses(write)) {
            Some(freeze) => {
                let since = Some(write.at.since(freeze.thawed));
                found.after_thaw = found.after_thaw.max(since);
            }
            None => found.refused += 1,
        }
    }
    found
}

/// What came of a round.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Faults that were done, and whether the ticket was held at that moment: its witness ran, or,
    /// for an upgrade, its holder had just fallen and nobody had followed.
    pub(crate) fired: Vec<(Kind, bool)>,
    #[serde(flatten)]
    pub(crate) found: Found,
    pub(crate) moved: bool,
    /// From the last fault's end until all was in order, ticket held and running.
    #[serde(rename = "healed_in_ms", serialize_with = "as_ms")]
    pub(crate) healed_in: Duration,
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.found.overlap.is_zero() && self.found.refused == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "overlap {:.1} ms, refused {}, in order after {:.1} s{}",
            ms(self.found.overlap),
            self.found.refused,
            self.healed_in.as_secs_f64(),
            if self.moved { ", elsewhere" } else { "" },
        )?;
        if let Some(thaw) = self.found.after_thaw {
            write!(f, "; after the thaw it wrote for {:.1} ms", ms(thaw))?;
        }
        Ok(())
    }
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

fn as_ms<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(ms(*d))
}

#[allow(clippy::ref_option, reason = "the form that serde calls")]
fn maybe_as_ms<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    d.map(ms).serialize(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn life(from: u64, to: u64) -> Life {
        Life { from: at(from), to: at(to) }
    }

    fn refused(site: usize, ms: u64) -> Write {
        Write { accepted: false, site: NAMES[site].to_owned(), term: 1, number: 1, at: at(ms) }
    }

    #[test]
    fn only_a_frozen_machine_is_excused_and_only_until_shortly_after_its_thaw() {
        let freezes = [Freeze { site: 0, frozen: at(1_000), thawed: at(4_000) }];
        let found = |one, two, writes: &[Write]| judge([one, two], writes, at(500), &freezes);
        // It lived on in its sleep and 240 ms longer, and wrote once more.
        let found_1 = found(vec![life(0, 4_240)], vec![life(2_000, 9_000)], &[refused(0, 4_050)]);
        let after_thaw = Some(Duration::from_millis(50));
        assert_eq!(found_1, Found { after_thaw, ..Found::default() });
        // Too long, and so was its write; the other site has no excuse at all.
        let writes = [refused(0, 4_251), refused(1, 4_000)];
        let found_2 = found(vec![life(0, 4_260)], vec![life(2_000, 9_000)], &writes);
        assert_eq!((found_2.overlap, found_2.refused), (Duration::from_millis(10), 2));
        // Before the freeze it is as everybody; what was before the round is another's matter.
        let found_3 = found(vec![life(0, 1_100)], vec![life(0, 600)], &[]);
        assert_eq!(found_3.overlap, Duration::from_millis(100));
    }
}
