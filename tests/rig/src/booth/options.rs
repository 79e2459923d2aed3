//! booth's files: times of all tickets, and how many there are.

use std::fmt::Write as _;
use std::time::Duration;

use super::PORT;
use crate::net::{Net, Rule};

/// Times of all tickets, and how many there are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network in all directions.
    pub rule: Rule,
    /// `expire`.
    pub expire: Duration,
    /// `timeout`.
    pub timeout: Duration,
    /// `retries`.
    pub retries: u32,
    /// Tickets t0, t1 and on.
    pub tickets: usize,
    /// Lines of the section `__defaults__`.
    pub defaults: String,
    /// A member whose file has another `timeout` than the others'.
    pub odd_timeout: Option<(usize, Duration)>,
    /// Whether the network has one more place, for somebody who is no member.
    pub stranger: bool,
    /// Seed of the switch.
    pub seed: u64,
}

impl Options {
    /// 1 s, 100 ms, 3: comparable with T = 1 s. 2 ms round trips.
    pub fn one_second(seed: u64) -> Self {
        Self {
            rule: Rule::delayed(Duration::from_millis(1)),
            expire: Duration::from_secs(1),
            timeout: Duration::from_millis(100),
            retries: 3,
            tickets: 1,
            defaults: String::new(),
            odd_timeout: None,
            stranger: false,
            seed,
        }
    }

    /// 10 s, 1 s, 3: all times in whole seconds.
    pub fn ten_seconds(seed: u64) -> Self {
        Self {
            expire: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            ..Self::one_second(seed)
        }
    }

    /// 30 s, 3 s, 3: upstream's own test configuration.
    pub fn thirty_seconds(seed: u64) -> Self {
        Self {
            expire: Duration::from_secs(30),
            timeout: Duration::from_secs(3),
            ..Self::one_second(seed)
        }
    }

    /// A member's file.
    pub(super) fn file(&self, member: usize) -> String {
        let odd = self.odd_timeout.filter(|(odd, _)| *odd == member);
        let timeout = odd.map_or(self.timeout, |(_, timeout)| timeout);
        let time = |d: Duration| match d.subsec_millis() {
            0 => d.as_secs().to_string(),
            _ => format!("{}ms", d.as_millis()),
        };
        let [a, b, c] = [0, 1, 2].map(Net::address);
        let mut text = format!("port={PORT}\nsite={a}\nsite={b}\narbitrator={c}\n");
        if !self.defaults.is_empty() {
            let _ = writeln!(text, "ticket=__defaults__\n{}", self.defaults);
        }
        for n in 0..self.tickets {
            let _ = write!(
                text,
                "ticket=t{n}\n  expire={}\n  timeout={}\n  retries={}\n",
                time(self.expire),
                time(timeout),
                self.retries
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_seconds_or_milliseconds() {
        let text = Options { tickets: 2, ..Options::one_second(1) }.file(0);
        assert!(text.contains("site=10.77.0.2\narbitrator=10.77.0.3\n"), "{text}");
        assert!(text.contains("ticket=t1\n  expire=1\n  timeout=100ms\n  retries=3\n"), "{text}");
    }
}
