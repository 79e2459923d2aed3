//! What really ran: lives of the witness, and times in which two sites lived at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Mono;
use crate::limits::BEAT;

/// One life of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Its first moment, by itself.
    pub from: Mono,
    /// No later than this it was gone. For one that was killed from outside: its last sign of life
    /// and two beats.
    pub to: Mono,
}

/// A start or a stop, from the first to the last moment of the action's own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Start; else stop.
    pub start: bool,
    /// First moment.
    pub began: Mono,
    /// Last moment.
    pub ended: Mono,
}

/// What a stop of the witness does, besides stopping it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nothing: it is killed at once.
    #[default]
    AtOnce,
    /// The stop fails, and what runs goes on.
    Fails,
    /// The stop does not end, and what runs goes on.
    Hangs,
    /// What runs goes on for this long before it is stopped.
    Takes(Duration),
}

impl Stop {
    /// Where the witness of this log reads it.
    pub fn file(log: &Path) -> PathBuf {
        let mut name = log.as_os_str().to_owned();
        name.push(".stop");
        name.into()
    }

    /// What is to be done now at the witness of this log.
    pub fn read(log: &Path) -> Self {
        Self::parse(fs::read_to_string(Self::file(log)).unwrap_or_default().trim())
    }

    fn parse(word: &str) -> Self {
        match word {
            "fails" => Self::Fails,
            "hangs" => Self::Hangs,
            ms => ms.parse().map_or(Self::AtOnce, |ms| Self::Takes(Duration::from_millis(ms))),
        }
    }

    fn word(self) -> String {
        match self {
            Self::AtOnce => String::new(),
            Self::Fails => "fails".to_owned(),
            Self::Hangs => "hangs".to_owned(),
            Self::Takes(d) => d.as_millis().to_string(),
        }
    }
}

/// The witness of one resource at one site.
#[derive(Clone, Debug)]
pub struct Witness {
    log: PathBuf,
}

impl Witness {
    /// The one that writes this log.
    pub fn of(log: impl Into<PathBuf>) -> Self {
        Self { log: log.into() }
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What its stops do from now on.
    pub fn set_stop(&self, stop: Stop) -> std::io::Result<()> {
        fs::write(Stop::file(&self.log), stop.word())
    }

    /// How many stops began so far that did something else than to stop it at once.
    pub fn odd_stops(&self) -> usize {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|l| l.starts_with("odd-stop ")).count()
    }

    /// All actions that ended, in order.
    pub fn actions(&self) -> Vec<Action> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(action).collect()
    }

    /// All lives, in order.
    pub fn lives(&self) -> Vec<Life> {
        let stops: Vec<Mono> =
            self.actions().iter().filter(|a| !a.start).map(|a| a.ended).collect();
        lives(&self.beats(), &stops)
    }

    /// Whether it runs now: its last sign of life is not older than a few beats.
    pub fn runs(&self) -> bool {
        self.beats().last().is_some_and(|(_, last)| Mono::now().since(*last) < BEAT * 10)
    }

    /// Forgets lives that ended before this moment: every look reads all that are there.
    pub fn forget(&self, before: Mono) {
        for path in self.files() {
            let over = fs::read_to_string(&path).ok().and_then(|text| beats(&text));
            if over.is_some_and(|(_, last)| last + BEAT * 2 < before) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn beats(&self) -> Vec<(Mono, Mono)> {
        let texts = self.files().into_iter().filter_map(|path| fs::read_to_string(path).ok());
        let mut found: Vec<_> = texts.filter_map(|text| beats(&text)).collect();
        found.sort_unstable();
        found
    }

    fn files(&self) -> Vec<PathBuf> {
        let Some((dir, name)) = self.log.parent().zip(self.log.file_name()) else { return vec![] };
        let name = name.to_string_lossy();
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            let rest = file.strip_prefix(&*name).and_then(|rest| rest.strip_suffix(".life"));
            if rest.is_some() {
                found.push(entry.path());
            }
        }
        found
    }
}

fn action(line: &str) -> Option<Action> {
    let mut words = line.split(' ');
    let start = match words.next()? {
        "start" => true,
        "stop" => false,
        _ => return None,
    };
    let mut moment = || words.next()?.parse().ok().map(Mono);
    Some(Action { start, began: moment()?, ended: moment()? })
}

fn beats(text: &str) -> Option<(Mono, Mono)> {
    let (first, last) = text.trim().split_once(' ')?;
    Some((Mono(first.parse().ok()?), Mono(last.parse().ok()?)))
}

/// Lives from first and last signs of life, and the ends of stops. A stop ends the life before it;
/// so the life is said to have lasted until somebody had seen that it was over, never less.
pub fn lives(beats: &[(Mono, Mono)], stops: &[Mono]) -> Vec<Life> {
    let mut found = Vec::new();
    for (n, (from, last)) in beats.iter().enumerate() {
        let next = beats.get(n + 1).map_or(Mono(u64::MAX), |(first, _)| *first);
        let stop = stops.iter().find(|s| **s >= *last && **s < next);
        found.push(Life { from: *from, to: stop.copied().unwrap_or(*last + BEAT * 2) });
    }
    found
}

/// How long lives of one site and of another went on at once, in all.
pub fn both(one: &[Life], other: &[Life]) -> Duration {
    let mut sum = Duration::ZERO;
    for a in one {
        for b in other {
            sum += a.to.min(b.to).since(a.from.max(b.from));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn life(from: u64, to: u64) -> Life {
        Life { from: Mono(from * MS), to: Mono(to * MS) }
    }

    #[test]
    fn only_time_in_which_both_lived_counts() {
        let a = [life(0, 10), life(30, 40)];
        assert_eq!(both(&a, &[life(10, 30)]), Duration::ZERO);
        assert_eq!(both(&a, &[life(8, 33)]), Duration::from_millis(5));
        assert_eq!(both(&a, &[life(0, 100)]), Duration::from_millis(20));
        assert_eq!(both(&a, &[]), Duration::ZERO);
    }

    #[test]
    fn a_life_lasts_until_its_stop_or_two_beats_beyond_its_last_sign() {
        let beats = [(Mono(0), Mono(10 * MS)), (Mono(50 * MS), Mono(60 * MS))];
        let found = lives(&beats, &[Mono(12 * MS)]);
        assert_eq!(found, [life(0, 12), life(50, 64)]);
    }

    #[test]
    fn lives_that_are_over_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let witness = Witness::of(dir.path().join("web.witness"));
        for (from, to) in [(10, 20), (30, 40)] {
            let path = dir.path().join(format!("web.witness.{from}.life"));
            fs::write(path, format!("{} {}\n", from * MS, to * MS)).unwrap();
        }
        witness.forget(Mono(30 * MS));
        assert_eq!(witness.lives(), [life(30, 44)]);
    }

    #[test]
    fn what_a_stop_does_is_read_as_it_was_written() {
        let ms = Duration::from_millis;
        for stop in [Stop::AtOnce, Stop::Fails, Stop::Hangs, Stop::Takes(ms(200))] {
            assert_eq!(Stop::parse(&stop.word()), stop);
        }
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        let whole = action("stop 5 7 123").unwrap();
        assert_eq!((whole.start, whole.began, whole.ended), (false, Mono(5), Mono(7)));
        assert_eq!(action("stop 5"), None);
        assert_eq!(action("begin 5 7 1"), None);
    }
}
