//! One line per event, built on the stack: to standard error, and to the event file if asked for.
//!
//! A line that cannot be written is lost, never waited for: the deadline matters more. A file on a
//! disk that hangs, or a journal that does not read, would hold up whoever writes to it, so lines go
//! through a pipe that never blocks, to a thread that does nothing else. What does not fit into the
//! pipe is counted, and said when there is room again.

use crate::sys::boot_now;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;
use std::fmt::{Arguments, Write};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LINE: usize = 320;
/// Before each line in the pipe: where it goes, and its length.
const HEAD: usize = 3;
const TO_PEOPLE: u8 = 0;
const TO_EVENTS: u8 = 1;
/// The thread that writes needs little, and all of it is locked.
const STACK: usize = 64 * 1024;
/// How long a clean end waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(200);

struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = LINE - 1 - self.len; // one byte is kept for the end of line
        let take = text.len().min(room);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log {
    pipe: Option<File>,
    written: Receiver<()>,
    lost: u64,
}

impl Log {
    /// Starts the thread that writes; before memory is locked and anything is real-time.
    pub(crate) fn new(events: Option<File>) -> std::io::Result<Self> {
        let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
        let flags = nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&to, flags)?;
        // Signals are for the guard itself.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let (done, written) = channel();
        let writer = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        let started = writer.spawn(move || {
            write_all(File::from(from), events);
            let _ = done.send(());
        });
        mask.thread_set_mask()?;
        started?;
        Ok(Self { pipe: Some(File::from(to)), written, lost: 0 })
    }

    /// A line for people, stamped with the guard's own clock.
    pub(crate) fn say(&mut self, text: Arguments<'_>) {
        self.write(text, false);
    }

    /// A line for people and for the event file.
    pub(crate) fn event(&mut self, text: Arguments<'_>) {
        self.write(text, true);
    }

    fn write(&mut self, text: Arguments<'_>, event: bool) {
        let lost = self.lost;
        if lost > 0 && self.put(format_args!("{lost} lines were lost"), true) {
            self.lost = 0;
        }
        if !self.put(text, event) {
            self.lost += 1;
        }
    }

    /// Whether it fitted into the pipe: a piece below PIPE_BUF does whole or not at all (pipe(7)).
    fn put(&mut self, text: Arguments<'_>, event: bool) -> bool {
        let now = boot_now().0;
        let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
        let mut line = Line { bytes: [0; LINE], len: 0 };
        // Writing into a line cannot fail: it cuts what does not fit.
        let _ = write!(line, "{seconds}.{nanos:09} tierce-guard: ");
        let _ = line.write_fmt(text);
        line.bytes[line.len] = b'\n';
        let mut frames = [0; 2 * (HEAD + LINE)];
        let mut len = frame(&mut frames, TO_PEOPLE, &line.bytes[..=line.len]);
        if event {
            let mut short = Line { bytes: [0; LINE], len: 0 };
            let _ = write!(short, "{now} ");
            let _ = short.write_fmt(text);
            short.bytes[short.len] = b'\n';
            len += frame(&mut frames[len..], TO_EVENTS, &short.bytes[..=short.len]);
        }
        self.pipe.as_mut().is_some_and(|p| matches!(p.write(&frames[..len]), Ok(n) if n == len))
    }
}

/// The last lines of a clean end are waited for, for a moment.
impl Drop for Log {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.written.recv_timeout(LAST_LINES);
    }
}

fn frame(into: &mut [u8], to: u8, line: &[u8]) -> usize {
    let [low, high] = u16::try_from(line.len()).unwrap_or(0).to_le_bytes();
    into[..HEAD].copy_from_slice(&[to, low, high]);
    into[HEAD..HEAD + line.len()].copy_from_slice(line);
    HEAD + line.len()
}

/// Writes what comes out of the pipe, as slowly as the places allow, until the other end is closed.
fn write_all(mut from: File, mut events: Option<File>) {
    let (mut head, mut line) = ([0; HEAD], [0; LINE]);
    while from.read_exact(&mut head).is_ok() {
        let len = usize::from(u16::from_le_bytes([head[1], head[2]])).min(LINE);
        if from.read_exact(&mut line[..len]).is_err() {
            return;
        }
        let _ = match (head[0], &mut events) {
            (TO_EVENTS, Some(file)) => file.write_all(&line[..len]),
            (TO_EVENTS, None) => Ok(()),
            _ => std::io::stderr().write_all(&line[..len]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    #[test]
    fn a_place_that_does_not_take_lines_holds_nobody_up() {
        // A pipe that nobody reads stands for a disk that hangs.
        let (unread, full): (OwnedFd, OwnedFd) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let mut log = Log::new(Some(File::from(full))).expect("a thread");
        let begun = Instant::now();
        for n in 0..5_000 {
            log.event(format_args!("stop ticket={n} of a long night, in which nothing is written"));
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(log.lost > 0, "64 KiB here and 64 KiB there are full");
        drop(unread);
        let begun = Instant::now();
        drop(log);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn lines_come_out_in_order_when_it_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("events");
        let mut log = Log::new(Some(File::create(&path).expect("a file"))).expect("a thread");
        log.event(format_args!("stop ticket=1"));
        log.say(format_args!("for people only"));
        log.event(format_args!("{}", "x".repeat(1_000)));
        drop(log);
        let text = std::fs::read_to_string(path).expect("it was written");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with(" stop ticket=1") && lines[1].len() < LINE, "{text}");
    }
}
