//! A store that both sites write and that is fenced: whoever comes with an older term is refused.
//!
//! It stands for what a careful user has behind Tierce: a database or object store that keeps the
//! greatest term it has seen. The witness writes to it; so it tells which site took itself for the
//! holder when, in one order. A refused write is an attempt by a site that had been overtaken.
//!
//! It is a thread of the rig behind a socket, so that no writer that is frozen or killed can hold
//! up the others.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Mono;
use crate::error::{Result, RigError};

/// Longest write.
const MAX_BYTES: usize = 256;

/// One attempt to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whether its term was the greatest so far.
    pub accepted: bool,
    /// Who wrote.
    pub site: String,
    /// Under which term.
    pub term: u64,
    /// The writer's own count.
    pub number: u64,
    /// When it came.
    pub at: Mono,
}

/// A running store. It lives as long as the process.
#[derive(Debug)]
pub struct Shared {
    path: PathBuf,
    writes: Arc<Mutex<Vec<Write>>>,
}

impl Shared {
    /// A store behind a socket at `path`, which must not be there.
    pub fn start(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let what = || RigError::system(format!("the shared store at {}", path.display()));
        let socket = UnixDatagram::bind(&path).map_err(what())?;
        let writes = Arc::<Mutex<Vec<Write>>>::default();
        let taken = Arc::clone(&writes);
        let thread = std::thread::Builder::new().name("shared store".to_owned());
        let serve = move || {
            let mut bytes = [0; MAX_BYTES];
            let mut newest = 0;
            while let Ok(len) = socket.recv(&mut bytes) {
                if let Some(write) = take(&bytes[..len], &mut newest) {
                    held(&taken).push(write);
                }
            }
        };
        thread.spawn(serve).map_err(what())?;
        Ok(Self { path, writes })
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All attempts so far, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.since(0)
    }

    /// How many attempts there were so far.
    pub fn count(&self) -> usize {
        held(&self.writes).len()
    }

    /// All attempts but the first `count`, in order.
    pub fn since(&self, count: usize) -> Vec<Write> {
        held(&self.writes).get(count..).unwrap_or_default().to_vec()
    }
}

fn held<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends one write to the store behind `path`.
pub fn write_to(socket: &UnixDatagram, path: &Path, site: &str, term: u64, number: u64) {
    // A store that is full or gone loses it, which the witness cannot help.
    let _ = socket.send_to(format!("{site} {term} {number}").as_bytes(), path);
}

fn take(bytes: &[u8], newest: &mut u64) -> Option<Write> {
    let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
    let site = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    let (term, number): (u64, u64) = (number()?, number()?);
    let accepted = term >= *newest;
    *newest = term.max(*newest);
    Some(Write { accepted, site, term, number, at: Mono::now() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::files::until;

    #[test]
    fn an_older_term_is_refused_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::start(dir.path().join("store")).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        let all = [("paris", 3), ("paris", 3), ("rome", 12), ("paris", 3), ("rome", 12)];
        for (n, (site, term)) in (1..).zip(all) {
            write_to(&socket, shared.path(), site, term, n);
        }
        let came = || (shared.writes().len() == all.len()).then(|| shared.writes());
        let writes = until(Duration::from_secs(5), came).unwrap();
        let accepted: Vec<bool> = writes.iter().map(|w| w.accepted).collect();
        assert_eq!(accepted, [true, true, true, false, true], "paris was overtaken");
        assert_eq!((&*writes[3].site, writes[3].term, writes[3].number), ("paris", 3, 4));
        assert!(writes.is_sorted_by_key(|w| w.at));
        assert_eq!((shared.count(), shared.since(3)), (5, writes[3..].to_vec()));
    }
}
