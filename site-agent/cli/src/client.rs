//! One question to a daemon over its control socket.
//!
//! The danger is a command that claims more than it knows. A connection that breaks after a change
//! was asked for leaves the outcome unknown, and that has its own exit code; a wait that ends is a
//! timeout; only a final `Done` is done.
//!
//! Every wait is bounded: connecting, the daemon's silence, and the whole.

use std::io::{ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tierce_agent::config::Config;
use tierce_wire::control::{API_VERSION, Ask, MAX_LINE_BYTES, Reply, Request};

use crate::Ctx;
use crate::codes;
use crate::failure::Failure;
use crate::limits::{CHANGE, REPEAT_PROGRESS, SILENCE, SPEAK_AFTER};
use crate::words::{plain, span};

/// Where an agent of a package listens.
const DEFAULT_SOCKET: &str = "/run/tierce/control.sock";
/// Where its file is.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/tierce/agent.toml";
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// A daemon's control socket.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    silence: Duration,
}

/// What a lost answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Look,
    Change,
}

impl Client {
    pub(crate) fn new(ctx: &Ctx) -> Self {
        let socket = ctx.globals.socket.clone().unwrap_or_else(usual_socket);
        Self { socket, silence: ctx.globals.timeout.unwrap_or(SILENCE) }
    }

    /// The same for another daemon.
    pub(crate) fn at(&self, socket: PathBuf) -> Self {
        Self { socket, silence: self.silence }
    }

    /// Where it asks.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for a view; nothing changes.
    pub(crate) fn look(&self, ask: Ask) -> Result<Reply, Failure> {
        self.ask(ask, Kind::Look, self.silence)
    }

    /// Asks for a change and waits until it is done. `wait`: what the daemon was told to wait.
    pub(crate) fn change(&self, ask: Ask, wait: Duration) -> Result<Reply, Failure> {
        let reply = self.ask(ask, Kind::Change, wait.saturating_add(CHANGE))?;
        match reply {
            Reply::Done { .. } => Ok(reply),
            _ => Err(self.lost(Kind::Change, &"it gave an answer that does not fit")),
        }
    }

    fn ask(&self, ask: Ask, kind: Kind, most: Duration) -> Result<Reply, Failure> {
        let mut stream = connect(&self.socket, self.silence)?;
        let request = Request { api_version: API_VERSION.to_owned(), ask };
        let mut line = serde_json::to_vec(&request).map_err(|e| self.lost(Kind::Look, &e))?;
        line.push(b'\n');
        // A request without its line end is refused by the daemon, so nothing has changed yet.
        stream.write_all(&line).map_err(|e| self.lost(Kind::Look, &e))?;
        let mut progress = Progress::new();
        let answer = self.read(&mut Lines::new(stream), kind, most, &mut progress);
        progress.end();
        answer
    }

    fn read(
        &self,
        lines: &mut Lines,
        kind: Kind,
        most: Duration,
        progress: &mut Progress,
    ) -> Result<Reply, Failure> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut answered = false;
        loop {
            let left = most.saturating_sub(begun.elapsed());
            let quiet = self.silence.saturating_sub(heard.elapsed());
            let slice = left.min(quiet).min(SPEAK_AFTER);
            if slice.is_zero() {
                return Err(self.late(kind, begun.elapsed()));
            }
            match lines.next(slice) {
                Ok(Some(line)) => {
                    heard = Instant::now();
                    answered = true;
                    let reply: Reply =
                        serde_json::from_slice(&line).map_err(|e| self.lost(kind, &e))?;
                    match reply {
                        Reply::Progress { text } => progress.say(&text),
                        Reply::Error(view) => return Err(Failure::from(view)),
                        done => return Ok(done),
                    }
                }
                Ok(None) if !answered && begun.elapsed() >= SPEAK_AFTER => {
                    progress.say("waiting for the daemon's answer");
                }
                Ok(None) => {}
                Err(e) => return Err(self.lost(kind, &e)),
            }
        }
    }

    fn lost(&self, kind: Kind, why: &dyn std::fmt::Display) -> Failure {
        let what = format!("no answer from the daemon at {}: {why}", self.socket.display());
        match kind {
            Kind::Look => Failure::new(
                codes::UNAVAILABLE,
                what,
                "nothing was changed",
                "the daemon's log; systemctl status tierce-agent",
                "ask again, or ask the daemon of another site",
            ),
            Kind::Change => unknown(&what),
        }
    }

    fn late(&self, kind: Kind, after: Duration) -> Failure {
        let at = self.socket.display();
        let what = format!("the daemon at {at} gave no final answer within {}", span(after));
        match kind {
            Kind::Look => Failure::new(
                codes::TIMEOUT,
                what,
                "nothing was changed",
                "the daemon's log; systemctl status tierce-agent",
                "ask again with a longer --timeout, or ask the daemon of another site",
            ),
            Kind::Change => unknown(&what),
        }
    }
}

fn unknown(what: &str) -> Failure {
    Failure::new(
        codes::OUTCOME_UNKNOWN,
        what,
        "the change may or may not have been made; nothing runs twice in either case",
        "tierce status here and at another site",
        "look at the present state before you ask again",
    )
}

fn usual_socket() -> PathBuf {
    let usual = Path::new(DEFAULT_SOCKET);
    if usual.exists() {
        return usual.to_owned();
    }
    Config::load(Path::new(DEFAULT_CONFIG)).map_or_else(|_| usual.to_owned(), |c| c.control_path())
}

fn connect(path: &Path, silence: Duration) -> Result<UnixStream, Failure> {
    let stream = || -> std::io::Result<UnixStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // On Linux this bounds connecting too: a daemon may be frozen with a full backlog.
        let bound = Some(silence.max(Duration::from_millis(1)));
        socket.set_write_timeout(bound)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    };
    stream().map_err(|e| {
        let (why, safer) = match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ("no daemon runs there", "start it, or name its socket with --socket")
            }
            ErrorKind::PermissionDenied => {
                ("this user may not", "ask as root or as the daemon's own user")
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                ("it does not take clients; it may be frozen", "look at the process first")
            }
            _ => ("it cannot be reached", "name the daemon's socket with --socket"),
        };
        Failure::new(
            codes::NOT_CONNECTED,
            format!("not connected to a daemon at {}: {why} ({e})", path.display()),
            "nothing was asked and nothing was changed",
            "systemctl status tierce-agent; ls -l the socket",
            safer,
        )
    })
}

/// Lines of a stream, each within a bound, waiting at most a slice at a time.
struct Lines {
    stream: UnixStream,
    held: Vec<u8>,
    scanned: usize,
}

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self { stream, held: Vec::new(), scanned: 0 }
    }

    /// The next line; none if it did not come within the slice.
    fn next(&mut self, slice: Duration) -> std::io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + slice;
        let mut chunk = vec![0; CHUNK];
        loop {
            if let Some(at) = self.held[self.scanned..].iter().position(|&b| b == b'\n') {
                let rest = self.held.split_off(self.scanned + at + 1);
                self.scanned = 0;
                return Ok(Some(std::mem::replace(&mut self.held, rest)));
            }
            self.scanned = self.held.len();
            if self.held.len() > MAX_LINE_BYTES {
                let what = format!("its answer does not end within {MAX_LINE_BYTES} bytes");
                return Err(std::io::Error::new(ErrorKind::InvalidData, what));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // The kernel counts in microseconds, and zero would mean forever.
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    let what = "it closed the connection before its final answer";
                    return Err(std::io::Error::new(ErrorKind::UnexpectedEof, what));
                }
                Ok(n) => self.held.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// What is waited for, on stderr: rewritten in place on a terminal, else only when it changes.
struct Progress {
    terminal: bool,
    open: bool,
    gist: String,
    said: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, open: false, gist: String::new(), said: None }
    }

    fn say(&mut self, text: &str) {
        let text = plain(text);
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            self.open = true;
        } else if self.is_news(&text) {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// The time that is left changes every second; the part before it is the news.
    fn is_news(&mut self, text: &str) -> bool {
        let gist = text.split(';').next().unwrap_or_default();
        let lately = self.said.is_some_and(|at| at.elapsed() < REPEAT_PROGRESS);
        if lately && gist == self.gist {
            return false;
        }
        gist.clone_into(&mut self.gist);
        self.said = Some(Instant::now());
        true
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces_and_a_slice_bounds_the_wait() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours);
        theirs.write_all(b"one\ntw").unwrap();
        let slice = Duration::from_millis(20);
        assert_eq!(lines.next(slice).unwrap().unwrap(), b"one\n");
        assert_eq!(lines.next(slice).unwrap(), None);
        theirs.write_all(b"o\nthree\n").unwrap();
        assert_eq!(lines.next(slice).unwrap().unwrap(), b"two\n");
        assert_eq!(lines.next(slice).unwrap().unwrap(), b"three\n");
        drop(theirs);
        assert_eq!(lines.next(slice).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_same_wait_is_not_repeated_every_second_into_a_log() {
        let mut p = Progress { terminal: false, open: false, gist: String::new(), said: None };
        assert!(p.is_news("paris stops; waiting for another 9 s"));
        assert!(!p.is_news("paris stops; waiting for another 8 s"));
        assert!(p.is_news("rome starts; waiting for another 7 s"));
    }
}
