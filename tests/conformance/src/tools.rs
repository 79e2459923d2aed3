//! The two schedulers as commands: the peer's `crm_simulate`, and ours with the same options.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// What is waited for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A graph and the text of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The transition graph as XML.
    pub(crate) graph: String,
    /// Status, summary, walk, status again.
    pub(crate) text: String,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It said so itself, with an exit code and these words.
    Refused(String),
    /// A signal ended it, or it panicked.
    Crashed(String),
    /// It did not end in time.
    Hung,
}

/// A command that understands crm_simulate's options.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    words: Vec<OsString>,
}

impl Tool {
    /// From its words; the first is the program.
    pub(crate) fn new(words: Vec<OsString>) -> Self {
        Self { words }
    }

    /// Asks about one CIB; files go into the folder, under this name.
    pub(crate) fn ask(
        &self,
        cib: &str,
        dir: &Path,
        name: &str,
    ) -> Result<Result<Answer, NoAnswer>> {
        let file = |what: &str| dir.join(format!("{name}.{what}"));
        let (input, graph, out, err) = (file("xml"), file("graph"), file("out"), file("err"));
        fs::write(&input, cib)?;
        fs::write(&graph, "")?;
        let (program, rest) = self.words.split_first().context("an empty command")?;
        let mut child = Command::new(program)
            .args(rest)
            .args(["-S", "-x"])
            .arg(&input)
            .arg("-G")
            .arg(&graph)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out)?)
            .stderr(fs::File::create(&err)?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(Err(NoAnswer::Hung));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        if status.success() {
            return Ok(Ok(Answer {
                graph: fs::read_to_string(&graph)?,
                text: fs::read_to_string(&out)?,
            }));
        }
        let said = fs::read_to_string(&err)?;
        let line = said.lines().next().unwrap_or_default().to_owned();
        Ok(Err(match status.code() {
            Some(code) if code != 101 && !said.contains("panicked") => {
                NoAnswer::Refused(format!("exit {code}: {line}"))
            }
            _ => NoAnswer::Crashed(line),
        }))
    }
}
