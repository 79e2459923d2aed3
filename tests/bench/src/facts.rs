//! The machine on which the figures were taken.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tierce_rig::directory;
use tierce_rig::net::{Net, Rule};

use crate::row::{ms, quantile};

/// Writes and round trips from which the medians are taken.
const SAMPLES: usize = 100;
/// Looks at the round trip, each followed by half of the correction that it asks for.
const ADJUSTMENTS: usize = 8;
/// What a program is to see.
const ROUND_TRIP: Duration = Duration::from_millis(2);

/// Facts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    cores: usize,
    cpu: String,
    kernel: String,
    /// Processes that wanted a core just before.
    load: String,
    /// One small write made durable where the journals are, median, milliseconds.
    pub(crate) fsync_ms: f64,
    /// Round trip that bars reckon with, milliseconds: what a program is to see, or what it sees if
    /// that is less.
    pub(crate) rtt_ms: f64,
    /// Delay in each direction in all parts: with what the switch and the kernel take on top, it
    /// makes that round trip.
    #[serde(serialize_with = "in_ms")]
    pub(crate) delay: Duration,
    /// Round trip as a program sees it, median, milliseconds.
    rtt_seen_ms: f64,
}

impl Facts {
    /// Looks and measures, which takes a second.
    pub(crate) fn gather() -> anyhow::Result<Self> {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = line("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
        let net = Net::new(2, &Rule::delayed(ROUND_TRIP / 2), 0)?;
        let seen = || -> anyhow::Result<f64> {
            let trips = net.round_trips(0, 1, SAMPLES)?.into_iter().map(ms);
            Ok(quantile(&trips.collect::<Vec<_>>(), 0.5).unwrap_or(0.0))
        };
        let mut delay = ROUND_TRIP / 2;
        for _ in 0..ADJUSTMENTS {
            let over_ms = seen()? - ms(ROUND_TRIP);
            let less = (ms(delay) - over_ms / 4.0).clamp(0.0, ms(ROUND_TRIP));
            delay = Duration::from_secs_f64(less / 1e3);
            net.all(|rule| rule.delay = delay);
        }
        let rtt_seen_ms = seen()?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: cpu.map_or("?", |(_, name)| name).to_owned(),
            kernel: line("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: line("/proc/loadavg").split(' ').take(1).collect(),
            fsync_ms: fsync().context("measuring fsync")?,
            rtt_ms: rtt_seen_ms.min(ms(ROUND_TRIP)),
            delay,
            rtt_seen_ms,
        })
    }
}

fn in_ms<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(ms(*d))
}

fn fsync() -> anyhow::Result<f64> {
    let dir = directory("fsync-")?;
    let mut file = File::create(dir.path().join("journal"))?;
    let mut all = Vec::new();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        all.push(ms(begun.elapsed()));
    }
    Ok(quantile(&all, 0.5).unwrap_or(0.0))
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores ({}), Linux {}, load {}; one fsync {:.2} ms; round trip {:.2} ms (a program sees {:.2} at {:.2} each way)",
            self.cores,
            self.cpu,
            self.kernel,
            self.load,
            self.fsync_ms,
            self.rtt_ms,
            self.rtt_seen_ms,
            ms(self.delay)
        )
    }
}
