//! The report: report.json for programs, report.html for people to keep, and back from the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{Uid, User, gethostname};
use serde::{Deserialize, Serialize};
use tierce_wire::control::API_VERSION;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::clock::At;
use super::judge::Lane;
use super::phase::PhaseReport;
use super::score::Score;
use super::timeline::{Event, Timeline};
use super::{MAX_REPORT_BYTES, html};

/// What a demo's report calls itself.
pub(crate) const DEMO: &str = "demo-report";
/// What a drill's report calls itself.
pub(crate) const DRILL: &str = "drill-report";

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Safe, and as predicted.
    Passed,
    /// Carried out, and not as it should be.
    #[default]
    Failed,
    /// Ended before its end.
    Aborted,
    /// Not begun: nothing was touched.
    Refused,
}

impl Verdict {
    /// In one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
        }
    }
}

/// What is done to whom, and what is expected of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    pub(crate) ticket: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) hypothesis: String,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) passed: bool,
    /// What was found.
    pub(crate) reason: String,
}

impl Check {
    pub(crate) fn new(name: &str, passed: bool, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), passed, reason: reason.into() }
    }
}

/// What would become of a ticket if its site were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// The lost site.
    pub(crate) site: String,
    pub(crate) ticket: String,
    /// Who would hold it then.
    pub(crate) to: Option<String>,
    /// Whether it goes by itself.
    pub(crate) unattended: bool,
    /// Predicted outage, milliseconds; none: it ends only when a person acts.
    pub(crate) predicted_ms: Option<u64>,
    pub(crate) why: String,
}

/// When an instance of the service ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LaneReport {
    pub(crate) site: String,
    pub(crate) term: u64,
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
}

/// The records of the demo's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Records {
    /// Records that the client had to write.
    pub(crate) wanted: u64,
    /// Those that it could send: the name had an address.
    pub(crate) sent: u64,
    /// Those that were answered.
    pub(crate) answered: u64,
    /// Answers to the witness.
    pub(crate) witnessed: u64,
}

/// A probe of the service, or a member that was watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeReport {
    /// What was asked.
    pub(crate) target: String,
    /// The site that it speaks for, if one.
    pub(crate) site: Option<String>,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Longest time without an answer.
    pub(crate) longest_gap_ms: f64,
    /// The last error.
    pub(crate) last_error: Option<String>,
}

/// The whole report. Fields are only ever added.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    #[serde(rename = "apiVersion")]
    pub(crate) api_version: String,
    /// [`DEMO`] or [`DRILL`].
    pub(crate) kind: String,
    /// Name of the drill, or "demo".
    pub(crate) drill: String,
    /// Level of the drill.
    pub(crate) level: u8,
    pub(crate) verdict: Verdict,
    /// In one sentence.
    pub(crate) summary: String,
    pub(crate) score: Option<Score>,
    pub(crate) scope: Option<Scope>,
    /// For how long the service ran at two sites. Must be 0.
    pub(crate) overlap_ms: f64,
    /// Answers under a term that was overruled already. Must be 0.
    pub(crate) stale_answers: usize,
    /// Looked at before anything was done.
    pub(crate) preflight: Vec<Check>,
    pub(crate) phases: Vec<PhaseReport>,
    /// Looked at afterwards.
    pub(crate) validation: Vec<Check>,
    /// What losses would do (the drill that only thinks).
    pub(crate) losses: Vec<Loss>,
    pub(crate) sites: Vec<String>,
    pub(crate) lanes: Vec<LaneReport>,
    pub(crate) records: Option<Records>,
    pub(crate) probes: Vec<ProbeReport>,
    /// Moments at which the service was seen from outside, milliseconds.
    pub(crate) answers_ms: Vec<f64>,
    /// What these answers are.
    pub(crate) answers_are: String,
    /// How often one was asked for.
    pub(crate) period_ms: f64,
    pub(crate) events: Vec<Event>,
    pub(crate) seed: Option<u64>,
    pub(crate) profile: Option<String>,
    /// The lease times.
    pub(crate) timing: BTreeMap<String, serde_json::Value>,
    pub(crate) versions: BTreeMap<String, String>,
    /// Digest of the part of the configuration that is equal at all sites.
    pub(crate) digest: Option<String>,
    pub(crate) operator: String,
    pub(crate) started: String,
    pub(crate) finished: String,
    pub(crate) took_ms: f64,
    /// Why it ended before its end.
    pub(crate) stopped_early: Option<String>,
    /// What it left behind.
    pub(crate) left: Option<String>,
    /// The same once more.
    pub(crate) again: String,
    /// Datagrams between the demo's members.
    pub(crate) datagrams_carried: u64,
    pub(crate) datagrams_cut: u64,
}

/// Now, to the second, UTC.
pub(crate) fn stamp(t: SystemTime) -> String {
    let t = OffsetDateTime::from(t);
    t.replace_nanosecond(0).unwrap_or(t).format(&Rfc3339).unwrap_or_default()
}

/// Who runs this, and where.
pub(crate) fn operator() -> String {
    let sudo = std::env::var("SUDO_USER").ok().filter(|u| !u.is_empty());
    let own = || User::from_uid(Uid::current()).ok().flatten().map(|u| u.name);
    let user = sudo.or_else(own).unwrap_or_else(|| format!("uid {}", Uid::current()));
    let host = gethostname().map(|h| h.to_string_lossy().into_owned());
    format!("{user}@{}", host.unwrap_or_else(|_| "localhost".to_owned()))
}

/// Versions of what is here.
pub(crate) fn versions() -> BTreeMap<String, String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tierce = env!("CARGO_PKG_VERSION").to_owned();
    [("tierce", tierce), ("kernel", kernel.trim().to_owned())]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
}

impl Report {
    /// A report without any finding yet.
    pub(crate) fn begin(kind: &str, drill: &str, level: u8) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            drill: drill.to_owned(),
            level,
            versions: versions(),
            operator: operator(),
            started: stamp(SystemTime::now()),
            ..Self::default()
        }
    }

    /// What the timeline holds, and the end.
    pub(crate) fn close(&mut self, timeline: &Timeline) {
        self.events = timeline.events();
        self.took_ms = timeline.at(At::now());
        self.finished = stamp(SystemTime::now());
    }

    /// Lanes by their sites' names; `sites` must be there already.
    pub(crate) fn put_lanes(&mut self, lanes: &[Lane], timeline: &Timeline) {
        let name = |site: usize| self.sites.get(site).cloned().unwrap_or_default();
        let lanes: Vec<LaneReport> = lanes
            .iter()
            .map(|l| LaneReport {
                site: name(l.site),
                term: l.term,
                from_ms: timeline.at(l.from),
                to_ms: timeline.at(l.to),
            })
            .collect();
        self.lanes.extend(lanes);
    }

    pub(crate) fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }

    /// As one line of JSON.
    pub(crate) fn line(&self) -> String {
        // The types have no map with keys that are not strings: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// report.json, report.html and junit.xml.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(dir.join("report.json"), json + "\n")?;
        std::fs::write(dir.join("junit.xml"), super::junit::page(self))?;
        std::fs::write(dir.join("report.html"), html::page(self))
    }

    /// Reads a report back; `place`: the file, or the directory that it is in.
    pub(crate) fn read(place: &Path) -> Result<Self, (PathBuf, Unread)> {
        let file = if place.is_dir() { place.join("report.json") } else { place.to_owned() };
        Self::read_file(&file).map_err(|why| (file, why))
    }

    fn read_file(file: &Path) -> Result<Self, Unread> {
        let mut text = Vec::new();
        let opened = File::open(file).map_err(|e| Unread::Missing(e.to_string()))?;
        let bounded = opened.take(MAX_REPORT_BYTES + 1).read_to_end(&mut text);
        bounded.map_err(|e| Unread::Missing(e.to_string()))?;
        if text.len() as u64 > MAX_REPORT_BYTES {
            return Err(Unread::Foreign(format!("it is longer than {MAX_REPORT_BYTES} bytes")));
        }
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| Unread::Damaged(e.to_string()))?;
        let word = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or("nothing");
        let (version, kind) = (word("apiVersion"), word("kind"));
        if version != API_VERSION || ![DEMO, DRILL].contains(&kind) {
            return Err(Unread::Foreign(format!("it says {version}, {kind}")));
        }
        // All that every report has: without it a page of zeros would look like a good report.
        let needed = ["verdict", "overlap_ms", "phases", "events", "finished"];
        if let Some(missing) = needed.into_iter().find(|key| value.get(key).is_none()) {
            return Err(Unread::Damaged(format!("{missing} is missing")));
        }
        serde_json::from_value(value).map_err(|e| Unread::Damaged(e.to_string()))
    }
}

/// Why a report cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// There is no such file, or it may not be read.
    Missing(String),
    /// It is no report of ours.
    Foreign(String),
    /// It was one.
    Damaged(String),
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::super::score::Grounds;
    use super::super::timeline::{Kind, Show};
    use super::*;

    /// A report with something in every field that is shown.
    pub(crate) fn sample() -> Report {
        let timeline = Timeline::new(Show::Nothing);
        timeline.say(Kind::Drill, "web <moves> & \"returns\"");
        let phase = PhaseReport {
            name: "move to rome".to_owned(),
            end_ms: 900.0,
            rto_ms: 120.125,
            predicted_ms: 300.0,
            allowance_ms: 500.0,
            site: "rome".to_owned(),
            expected_site: "rome".to_owned(),
            term: 9,
            passed: true,
            ..PhaseReport::default()
        };
        let failed = PhaseReport {
            name: "hold".to_owned(),
            wrong: vec!["it \u{1b}[31mended & <b>\u{0}".to_owned()],
            ..phase.clone()
        };
        let phases = vec![phase, PhaseReport { passed: false, ..failed }];
        let mut report = Report::begin(DRILL, "switch-over", 4);
        report.score = Some(Score::new(&Grounds {
            ran_twice: false,
            answers: 3,
            phases: &phases,
            writes_kept: None,
            switched_back: Some(true),
            places: &[],
        }));
        report.phases = phases;
        report.sites = vec!["paris".to_owned(), "rome".to_owned()];
        let (from, to) = (At::now(), At(At::now().0 + Duration::from_secs(1).as_nanos() as u64));
        report.put_lanes(&[Lane { site: 1, term: 9, from, to }], &timeline);
        report.preflight = vec![Check::new("quorum", true, "zurich leads")];
        report.validation = vec![Check::new("term", false, "9 <= 9")];
        report.summary = "failed: <script>".to_owned();
        report.close(&timeline);
        report
    }

    #[test]
    fn what_is_written_is_read_back_from_the_directory_and_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let report = sample();
        report.write(dir.path()).unwrap();
        for place in [dir.path().to_owned(), dir.path().join("report.json")] {
            assert_eq!(Report::read(&place).unwrap().line(), report.line());
        }
        assert!(dir.path().join("report.html").exists() && dir.path().join("junit.xml").exists());
    }

    #[test]
    fn a_report_that_is_none_or_damaged_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        let unread = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Report::read(dir.path()).unwrap_err().1
        };
        let whole = serde_json::to_string(&sample()).unwrap();
        let cuts = [0, 1, whole.len() / 2, whole.len() - 1];
        for cut in cuts.into_iter().filter(|&cut| whole.is_char_boundary(cut)) {
            assert!(matches!(unread(&whole[..cut]), Unread::Damaged(_)), "{cut}");
        }
        assert!(matches!(unread("{}"), Unread::Foreign(_)));
        assert!(matches!(unread("[1]"), Unread::Foreign(_)));
        assert!(matches!(unread(&whole.replace("tierce/v1", "tierce/v9")), Unread::Foreign(_)));
        let without = whole.replace("\"overlap_ms\"", "\"overlap\"");
        assert_eq!(unread(&without), Unread::Damaged("overlap_ms is missing".to_owned()));
        let odd = whole.replace("\"verdict\":\"failed\"", "\"verdict\":\"great\"");
        assert!(matches!(unread(&odd), Unread::Damaged(_)));
        let nowhere = Report::read(&dir.path().join("none")).unwrap_err().1;
        assert!(matches!(nowhere, Unread::Missing(_)));
    }
}
