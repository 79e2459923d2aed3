//! One line per event, built on the stack: to standard error, and to the event file if asked for.
//!
//! A line that cannot be written is lost, never waited for: the deadline matters more.

use crate::sys::boot_now;
use std::fmt::{Arguments, Write};
use std::fs::File;
use std::io::Write as _;

const LINE: usize = 320;

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
    events: Option<File>,
}

impl Log {
    pub(crate) fn new(events: Option<File>) -> Self {
        Self { events }
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
        let now = boot_now().0;
        let mut line = Line { bytes: [0; LINE], len: 0 };
        let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
        // Writing into the line cannot fail: it cuts what does not fit.
        let _ = write!(line, "{seconds}.{nanos:09} tierce-guard: ");
        let start = line.len;
        let _ = line.write_fmt(text);
        line.bytes[line.len] = b'\n';
        let _ = std::io::stderr().write_all(&line.bytes[..=line.len]);
        if let (true, Some(file)) = (event, &mut self.events) {
            let mut short = Line { bytes: [0; LINE], len: 0 };
            let _ = write!(short, "{now} ");
            let room = LINE - 1 - short.len;
            let body = &line.bytes[start..line.len];
            let body = &body[..body.len().min(room)];
            short.bytes[short.len..short.len + body.len()].copy_from_slice(body);
            short.len += body.len();
            short.bytes[short.len] = b'\n';
            let _ = file.write_all(&short.bytes[..=short.len]);
        }
    }
}
