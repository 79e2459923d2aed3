//! What a site's daemon tells in its log: grants, starts, stops.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::NAMES;
use crate::clock::{Mono, mono_of_utc};
use crate::files::{Lines, until};

/// Grants to a site as they come: the moment at which that site's daemon has seen the decision to be
/// the cluster's and tells its runner to begin.
#[derive(Clone, Debug)]
pub struct Grants {
    site: usize,
    lines: Lines,
}

impl Grants {
    pub(super) fn of(site: usize, lines: Lines) -> Self {
        Self { site, lines }
    }

    /// Those since the last look: ticket and moment.
    pub fn new_ones(&mut self) -> Vec<(String, Mono)> {
        let site = NAMES[self.site];
        self.lines.next_lines().iter().filter_map(|line| grant(line, site)).collect()
    }

    /// Waits for the first one.
    pub fn first(&mut self, within: Duration) -> Option<Mono> {
        until(within, || self.new_ones().first().map(|(_, at)| *at))
    }
}

/// Starts and stops as the runner tells them: how long from its order until all was done.
#[derive(Clone, Debug)]
pub struct Actions(Lines);

impl Actions {
    pub(super) fn of(lines: Lines) -> Self {
        Self(lines)
    }

    /// Waits for the first "started" or "stopped" of a whole ticket: when it was told, and how long
    /// it took since the order.
    pub fn first(&mut self, word: &str, within: Duration) -> Option<(Mono, Duration)> {
        until(within, || self.0.next_lines().iter().find_map(|line| took(line, word)))
    }
}

fn took(line: &str, word: &str) -> Option<(Mono, Duration)> {
    if !line.contains(r#""runner""#) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let what = line["fields"]["what"].as_str()?.strip_prefix(word)?.strip_prefix(" in ")?;
    let digits = what.find(|c: char| c.is_alphabetic() || c == 'µ')?;
    let seconds = match &what[digits..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    let number: f64 = what[..digits].parse().ok()?;
    let took = Duration::try_from_secs_f64(number * seconds).ok()?;
    Some((mono_of_utc(line["time"].as_str()?)?, took))
}

/// The version of every connection that a daemon made, in order.
pub(super) fn versions(log: &Path) -> Vec<String> {
    Lines::of(log).next_lines().iter().filter_map(|line| version(line)).collect()
}

/// How often a full disk has stopped the member.
pub(super) fn full_disks(log: &Path) -> usize {
    Lines::of(log).next_lines().iter().filter(|line| is_full_disk(line)).count()
}

fn is_full_disk(line: &str) -> bool {
    line.contains("the member stops (R6): no space left")
}

fn version(line: &str) -> Option<String> {
    if !line.contains(r#""connected""#) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    let connected = fields["message"] == "connected";
    fields["version"].as_str().filter(|_| connected).map(str::to_owned)
}

fn grant(line: &str, site: &str) -> Option<(String, Mono)> {
    if !line.contains(r#""granted""#) {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    let fits = fields["message"] == "granted" && fields["site"] == site;
    let ticket = fields["ticket"].as_str().filter(|_| fits)?;
    Some((ticket.to_owned(), mono_of_utc(line["time"].as_str()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runner_took_is_read_in_every_unit() {
        let now = time::OffsetDateTime::now_utc();
        let now = now.format(&time::format_description::well_known::Rfc3339).unwrap();
        let line = |what: &str| {
            format!(
                r#"{{"time":"{now}","fields":{{"message":"runner","ticket":"web","resource":"","what":"{what}"}}}}"#
            )
        };
        let ms = |what: &str| took(&line(what), "stopped").map(|(_, d)| d.as_secs_f64() * 1e3);
        assert_eq!(ms("stopped in 13.5ms"), Some(13.5));
        assert_eq!(ms("stopped in 1.25s"), Some(1250.0));
        assert!((ms("stopped in 870.5µs").unwrap() - 0.8705).abs() < 1e-6);
        assert_eq!(ms("stopped"), None);
        assert_eq!(ms("started in 1ms"), None);
    }

    #[test]
    fn a_connection_tells_its_version() {
        let line = |message: &str| {
            format!(r#"{{"fields":{{"message":"{message}","peer":"rome","version":"V1"}}}}"#)
        };
        assert_eq!(version(&line("connected")).as_deref(), Some("V1"));
        assert_eq!(version(&line("connection lost")), None);
        assert_eq!(version("connected"), None);
    }

    #[test]
    fn only_grants_to_this_site_are_grants() {
        let line = |site: &str, message: &str| {
            format!(
                r#"{{"time":"2001-01-02T03:04:05.000006Z","level":"INFO","fields":{{"message":"{message}","ticket":"web","site":"{site}","term":"3"}}}}"#
            )
        };
        assert_eq!(grant(&line("rome", "granted"), "rome").map(|g| g.0), None, "before boot");
        assert!(grant(&line("paris", "granted"), "rome").is_none());
        assert!(grant(&line("rome", "released"), "rome").is_none());
        assert!(grant("granted", "rome").is_none());
        let now = time::OffsetDateTime::now_utc();
        let format = time::format_description::well_known::Rfc3339;
        let text = now.format(&format).unwrap();
        let line = line("rome", "granted").replace("2001-01-02T03:04:05.000006Z", &text);
        let (ticket, at) = grant(&line, "rome").unwrap();
        assert!(ticket == "web" && Mono::now().since(at) < Duration::from_secs(1));
    }
}
