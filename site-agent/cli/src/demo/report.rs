//! The outcome: scorecard for people, report.json for programs, report.html for both to keep.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use tierce_wire::control::API_VERSION;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::Book;
use super::clock::{At, ms};
use super::conduct::Conductor;
use super::lab::SITES;
use super::timeline::Event;
use super::{html, judge};

/// How many phases there are.
pub(super) const PHASES: usize = 8;

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PhaseReport {
    pub(super) name: &'static str,
    pub(super) start_ms: f64,
    pub(super) end_ms: f64,
    /// Longest time between two answers, as the client saw it.
    pub(super) rto_ms: f64,
    /// Predicted before the fault.
    pub(super) predicted_ms: f64,
    /// Allowed on top, because the processes share one machine.
    pub(super) allowance_ms: f64,
    /// What the prediction is made of.
    pub(super) prediction: String,
    pub(super) expected_site: &'static str,
    pub(super) site: &'static str,
    pub(super) term: u64,
    pub(super) passed: bool,
    /// Why not.
    pub(super) wrong: Vec<String>,
}

/// When an instance of the service ran.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LaneReport {
    pub(super) site: &'static str,
    pub(super) term: u64,
    pub(super) from_ms: f64,
    pub(super) to_ms: f64,
}

/// The client's records.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Records {
    /// Records that the client had to write.
    pub(super) wanted: u64,
    /// Those that it could send: the name had an address.
    pub(super) sent: u64,
    /// Those that were answered.
    pub(super) answered: u64,
    /// Answers to the witness.
    pub(super) witnessed: u64,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    #[serde(rename = "apiVersion")]
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    /// "passed" or "failed".
    pub(super) verdict: &'static str,
    /// In one sentence.
    pub(super) summary: String,
    /// For how long the service ran at two sites. Must be 0.
    pub(super) overlap_ms: f64,
    /// Answers under a term that was overruled already. Must be 0.
    pub(super) stale_answers: usize,
    pub(super) phases: Vec<PhaseReport>,
    pub(super) lanes: Vec<LaneReport>,
    pub(super) records: Records,
    /// Moments of the client's answers, milliseconds.
    pub(super) answers_ms: Vec<f64>,
    pub(super) events: Vec<Event>,
    pub(super) seed: u64,
    pub(super) profile: &'static str,
    /// The lease times, in milliseconds.
    pub(super) timing: BTreeMap<&'static str, f64>,
    pub(super) versions: BTreeMap<&'static str, String>,
    pub(super) finished: String,
    pub(super) took_ms: f64,
    /// Why not all phases were run.
    pub(super) stopped_early: Option<String>,
    /// Datagrams between the members.
    pub(super) datagrams_carried: u64,
    pub(super) datagrams_cut: u64,
}

/// Now, to the second, UTC.
fn finished() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

impl Report {
    pub(super) fn new(c: &Conductor, seed: u64, stopped_early: Option<String>) -> Self {
        let now = At::now();
        let book: Book = c.shared.book().clone();
        let all = || book.client.iter().chain(&book.witness);
        let lanes = judge::lanes(all());
        let overlap_ms = ms(judge::overlap(&lanes));
        let stale_answers = judge::stale(&lanes, all());
        let at = |at| c.timeline.at(at);
        let lanes = lanes.iter().map(|l| LaneReport {
            site: SITES[l.site],
            term: l.term,
            from_ms: at(l.from),
            to_ms: at(l.to),
        });
        let t = c.profile.timing();
        let timing = BTreeMap::from([
            ("promise_ms", ms(t.promise)),
            ("holder_ms", ms(t.holder_time())),
            ("watchdog_ms", ms(t.watchdog)),
            ("stop_budget_ms", ms(t.stop_budget)),
            ("renew_every_ms", ms(t.renew_every)),
            ("blip_budget_ms", ms(t.blip_budget(t.stop_budget))),
            ("election_ms", ms(t.election)),
            ("rho_ppm", f64::from(t.rho_ppm)),
        ]);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let versions = BTreeMap::from([
            ("tierce", env!("CARGO_PKG_VERSION").to_owned()),
            ("kernel", kernel.trim().to_owned()),
        ]);
        let (datagrams_carried, datagrams_cut) = c.net.relay.counts();
        let mut report = Self {
            api_version: API_VERSION,
            kind: "demo-report",
            verdict: "failed",
            summary: String::new(),
            overlap_ms,
            stale_answers,
            phases: c.phases.clone(),
            lanes: lanes.collect(),
            records: Records {
                wanted: book.wanted,
                sent: book.sent,
                answered: book.client.len() as u64,
                witnessed: book.witness.len() as u64 + book.beyond,
            },
            answers_ms: book.client.iter().map(|a| at(a.got)).collect(),
            events: c.timeline.events(),
            seed,
            profile: c.profile.word(),
            timing,
            versions,
            finished: finished(),
            took_ms: at(now),
            stopped_early,
            datagrams_carried,
            datagrams_cut,
        };
        report.judge();
        report
    }

    /// Verdict and sentence.
    fn judge(&mut self) {
        let kept = self.phases.iter().filter(|p| p.passed).count();
        let safe = self.overlap_ms == 0.0 && self.stale_answers == 0 && self.records.witnessed > 0;
        let all = self.phases.len() == PHASES && kept == PHASES && self.stopped_early.is_none();
        self.verdict = if safe && all { "passed" } else { "failed" };
        let safety = if safe {
            let answers = self.records.witnessed + self.records.answered;
            format!("the service never ran twice (overlap 0 ms, {answers} answers)")
        } else {
            format!(
                "the service ran twice: overlap {} ms, {} stale answers",
                self.overlap_ms, self.stale_answers
            )
        };
        self.summary =
            format!("{}: {safety}; {kept} of {PHASES} phases as predicted", self.verdict);
    }

    pub(super) fn passed(&self) -> bool {
        self.verdict == "passed"
    }

    /// The table at the end.
    pub(super) fn scorecard(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "\n{:<16}  {:<15}  {:>15}  {:>12}  {:>9}  result",
            "phase", "served by", "without service", "predicted", "allowance"
        );
        for p in &self.phases {
            let place = format!("{}, term {}", p.site, p.term);
            let _ = writeln!(
                out,
                "{:<16}  {place:<15}  {:>12.0} ms  {:>9.0} ms  {:>6.0} ms  {}",
                p.name,
                p.rto_ms,
                p.predicted_ms,
                p.allowance_ms,
                if p.passed { "ok" } else { "FAILED" }
            );
        }
        let r = self.records;
        let _ = writeln!(
            out,
            "\nrecords: {} due, {} sent, {} answered; overlap {} ms; stale answers {}",
            r.wanted, r.sent, r.answered, self.overlap_ms, self.stale_answers
        );
        if let Some(why) = &self.stopped_early {
            let _ = writeln!(out, "ended early: {why}");
        }
        let seconds = self.took_ms / 1e3;
        let _ = writeln!(out, "{}", self.summary);
        let profile = self.profile;
        let _ = writeln!(
            out,
            "took {seconds:.1} s; once more: tierce demo --profile {profile} --seed {}",
            self.seed
        );
        out
    }

    /// As one line of JSON.
    pub(super) fn line(&self) -> String {
        // The types have no map with keys that are not strings: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// report.json and report.html.
    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(dir.join("report.json"), json + "\n")?;
        std::fs::write(dir.join("report.html"), html::page(self))
    }
}
