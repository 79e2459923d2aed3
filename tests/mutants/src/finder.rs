//! The three ways in which a planted bug is found, and what each took.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tierce_model::check::{Effort, Search};
use tierce_model::mutant::Mutant;
use tierce_model::scopes::AnyScope;
use tierce_sim::duties::{self, Duty};
use tierce_sim::plan::{Setting, draw};
use tierce_sim::seed;
use tierce_ticket::planted::{Bug, plant};

/// After so long a finder has not found it: the canary's bound, and everybody's.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);
/// Faults in a plan of the simulator.
const FAULTS: usize = 100;

/// Who has to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// The model checker, in this scope.
    Scope(&'static str),
    /// The simulator, in this story.
    Duty(&'static str),
    /// The simulator, by plans of faults drawn from the seeds 1, 2, 3 and so on.
    Seeds,
}

/// What found it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Which finder, in words.
    pub(crate) by: String,
    /// The property that broke.
    pub(crate) what: String,
    /// How much was looked at.
    pub(crate) effort: String,
    /// How long that took.
    pub(crate) took: Duration,
}

/// First words of a panic, wherever it was.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Panics are findings here: their words are kept, their backtraces say nothing more.
pub(crate) fn listen() {
    std::panic::set_hook(Box::new(|info| {
        let words = info.payload_as_str().unwrap_or("a panic without words").to_owned();
        if let Ok(mut first) = PANICKED.lock() {
            first.get_or_insert(words);
        }
    }));
}

fn heard() -> Option<String> {
    PANICKED.lock().ok().and_then(|mut w| w.take())
}

/// Runs something that may panic; the words if it does.
fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    heard();
    let done = catch_unwind(AssertUnwindSafe(work));
    match (heard(), done) {
        (Some(words), _) => Err(words),
        (None, Ok(t)) => Ok(t),
        (None, Err(_)) => Err("a panic without words".to_owned()),
    }
}

impl Finder {
    /// Looks for this bug; `None` when it is not found within `limit`.
    pub(crate) fn find(self, bug: Bug, limit: Duration) -> Option<Found> {
        plant(Some(bug));
        let found = match self {
            Self::Scope(name) => {
                let scope = AnyScope::named(name);
                in_scope(&scope.expect("the table names scopes that exist"), None, limit)
            }
            Self::Duty(name) => {
                let duty = duties::ALL.iter().find(|d| d.name == name);
                in_duty(duty.expect("the table names duties that exist"))
            }
            Self::Seeds => in_seeds(limit),
        };
        plant(None);
        found
    }
}

/// The model checker, with a bug planted in the core or in the model's own glue.
pub(crate) fn in_scope(scope: &AnyScope, glue: Option<Mutant>, limit: Duration) -> Option<Found> {
    let begun = Instant::now();
    let by = format!("model, scope {}", scope.name());
    let effort = Effort { search: Search::Breadth, threads: threads(), limit, enough: None };
    let report = match attempt(|| scope.run(glue, effort)) {
        Ok(report) => report,
        Err(words) => {
            let effort = "an assertion on the way".to_owned();
            return Some(Found { by, what: first_line(&words), effort, took: begun.elapsed() });
        }
    };
    // A breach comes with its story; what a scope has merely not seen, or not ended, is none.
    let (what, _) = report.failed.iter().find(|(_, story)| !story.is_empty())?;
    let effort = format!("{} states", report.generated);
    Some(Found { by, what: what.clone(), effort, took: begun.elapsed() })
}

fn in_duty(duty: &Duty) -> Option<Found> {
    let begun = Instant::now();
    let words = attempt(duty.tell).err()?;
    let (what, effort) = (first_line(&words), "one story".to_owned());
    Some(Found { by: format!("simulator, {}", duty.name), what, effort, took: begun.elapsed() })
}

fn in_seeds(limit: Duration) -> Option<Found> {
    let begun = Instant::now();
    let next = AtomicU64::new(1);
    let found: Mutex<Option<(u64, seed::Failure)>> = Mutex::new(None);
    std::thread::scope(|s| {
        for _ in 0..threads() {
            s.spawn(|| {
                while begun.elapsed() < limit && found.lock().is_ok_and(|f| f.is_none()) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let plan = draw(n, &Setting::of(n), FAULTS);
                    if let Err(failure) = seed::run(n, &plan, false)
                        && let Ok(mut first) = found.lock()
                    {
                        first.get_or_insert((n, failure));
                    }
                }
            });
        }
    });
    heard();
    let (seed, failure) = found.into_inner().ok().flatten()?;
    let effort = format!("seed {seed}, {} s of virtual time", failure.at_ns / 1_000_000_000);
    let (by, what) = ("simulator, random faults".to_owned(), first_line(&failure.what));
    Some(Found { by, what, effort, took: begun.elapsed() })
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn first_line(words: &str) -> String {
    let line = words.lines().next().unwrap_or_default();
    if line.chars().count() <= 90 {
        return line.to_owned();
    }
    format!("{} …", line.chars().take(88).collect::<String>())
}
