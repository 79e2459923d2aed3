//! Starts log and recorder of a process.
//!
//! Logs go to stderr, since stdout is data; times are UTC. A terminal gets readable lines,
//! everything else one JSON object per line. `TIERCE_LOG` filters the log (never the recorder),
//! in the usual syntax: `info,tierce_link=debug`. `NO_COLOR` is respected.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{FmtSpan, FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::clock::Clock;
use crate::entry::utc;
use crate::layer::RecorderLayer;
use crate::limits::DEFAULT_RECORDER_BYTES;
use crate::place::default_recorder_dir;
use crate::recorder::{Recorder, RecorderOptions};
use crate::violation::install_panic_hook;
use crate::{Error, Result};

const FILTER_VARIABLE: &str = "TIERCE_LOG";
const DEFAULT_FILTER: &str = "info";

/// Where the flight recorder's ring is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecorderAt {
    /// No recorder: commands that only ask.
    Off,
    /// The usual place, see [`default_recorder_dir`].
    DefaultDir,
    /// This directory, on tmpfs if it can be.
    Dir(PathBuf),
}

/// How logging is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who logs and records: "agent@paris".
    pub process: String,
    /// JSON lines or text; by default JSON unless stderr is a terminal.
    pub json: Option<bool>,
    /// Filter of the log; by default what `TIERCE_LOG` says, else `info`.
    pub filter: Option<String>,
    /// Place of the recorder.
    pub recorder: RecorderAt,
    /// Size of the ring in bytes.
    pub recorder_bytes: usize,
    /// Where panics and violations leave their dump; `dumps` beside the ring when none.
    pub dump_dir: Option<PathBuf>,
}

impl Options {
    /// A daemon's settings: log and recorder in their usual places.
    pub fn daemon(process: impl Into<String>) -> Self {
        Self {
            process: process.into(),
            json: None,
            filter: None,
            recorder: RecorderAt::DefaultDir,
            recorder_bytes: DEFAULT_RECORDER_BYTES,
            dump_dir: None,
        }
    }

    /// A command's settings: log only.
    pub fn command(process: impl Into<String>) -> Self {
        Self { recorder: RecorderAt::Off, ..Self::daemon(process) }
    }
}

/// Stands for running log and recorder; a clean end is recorded when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it records the end of the process"]
pub struct Guard {
    recorder: Option<&'static Recorder>,
}

impl Guard {
    /// The process's recorder, if it has one.
    pub fn recorder(&self) -> Option<&'static Recorder> {
        self.recorder
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder {
            recorder.record("stop", &[]);
        }
    }
}

/// Starts log and recorder, once per process.
pub fn init(options: Options) -> Result<Guard> {
    let filter = filter(options.filter)?;
    if crate::recorder().is_some() || tracing::dispatcher::has_been_set() {
        return Err(Error::AlreadyStarted);
    }
    let dir = match options.recorder {
        RecorderAt::Off => None,
        RecorderAt::DefaultDir => Some(default_recorder_dir()?),
        RecorderAt::Dir(dir) => Some(dir),
    };
    let recorder = match dir {
        None => None,
        Some(dir) => Some(
            Recorder::create(RecorderOptions {
                process: options.process.clone(),
                dir,
                bytes: options.recorder_bytes,
                dump_dir: options.dump_dir,
                clock: Clock::system(),
            })?
            .install()?,
        ),
    };
    let json = options.json.unwrap_or_else(|| !std::io::stderr().is_terminal());
    let subscriber = Registry::default()
        .with(recorder.map(RecorderLayer::filtered))
        .with(log_layer(json, options.process).with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadyStarted)?;
    install_panic_hook();
    if let Some(recorder) = recorder {
        let version = env!("CARGO_PKG_VERSION");
        recorder
            .record("start", &[("pid", std::process::id().into()), ("version", version.into())]);
    }
    Ok(Guard { recorder })
}

fn filter(given: Option<String>) -> Result<EnvFilter> {
    let text = given
        .or_else(|| std::env::var(FILTER_VARIABLE).ok().filter(|t| !t.is_empty()))
        .unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    EnvFilter::builder()
        .parse(&text)
        .map_err(|e| Error::Filter { filter: text, reason: e.to_string() })
}

fn log_layer<S>(json: bool, process: String) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    let base = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    if json {
        return base.fmt_fields(JsonFields::new()).event_format(JsonLine { process }).boxed();
    }
    let color = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    base.with_timer(UtcTime).with_ansi(color).boxed()
}

struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&utc(Clock::system().wall_ns()))
    }
}

/// One event as one JSON object, with the process's name: the lines of several processes are
/// often read from one place.
struct JsonLine {
    process: String,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut w: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        write!(
            w,
            r#"{{"time":"{}","level":"{}","process":{},"target":{},"fields":"#,
            utc(Clock::system().wall_ns()),
            metadata.level(),
            quoted(&self.process),
            quoted(metadata.target()),
        )?;
        ctx.field_format().format_fields(w.by_ref(), event)?;
        if let Some(scope) = ctx.event_scope() {
            w.write_str(r#","spans":["#)?;
            for (i, span) in scope.from_root().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(w, r#"{comma}{{"name":{}"#, quoted(span.name()))?;
                let extensions = span.extensions();
                if let Some(fields) = extensions.get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(w, r#","fields":{}"#, fields.fields)?;
                }
                w.write_char('}')?;
            }
            w.write_char(']')?;
        }
        w.write_str("}\n")
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
