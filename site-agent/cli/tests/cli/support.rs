//! A daemon that speaks the control socket and says what a test tells it to; and the real command.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tierce_wire::control::{Ask, Reply, Request};

/// What the daemon does for one request.
pub(crate) enum Act {
    Say(Box<Reply>),
    Raw(&'static str),
    Pause(Duration),
}

pub(crate) fn say(reply: Reply) -> Act {
    Act::Say(Box::new(reply))
}

/// A daemon with one answer per request, in order; then it closes each connection unanswered.
pub(crate) struct Daemon {
    pub(crate) socket: PathBuf,
    asked: Receiver<Ask>,
}

impl Daemon {
    pub(crate) fn new(dir: &Path, script: Vec<Vec<Act>>) -> Self {
        let socket = dir.join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (tell, asked) = channel();
        // Ends with the test's process.
        std::thread::spawn(move || serve(&listener, script, &tell));
        Self { socket, asked }
    }

    /// The next request that came.
    pub(crate) fn asked(&self) -> Ask {
        self.asked.recv_timeout(Duration::from_secs(10)).expect("no request came")
    }
}

fn serve(listener: &UnixListener, script: Vec<Vec<Act>>, tell: &Sender<Ask>) {
    let mut script = script.into_iter();
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let acts = script.next().unwrap_or_default();
        // The test hears of a request that cannot be read by hearing nothing.
        let _ = answer(stream, acts, tell);
    }
}

fn answer(mut stream: UnixStream, acts: Vec<Act>, tell: &Sender<Ask>) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line).map_err(std::io::Error::other)?;
    assert_eq!(request.api_version, "tierce/v1");
    let _ = tell.send(request.ask);
    for act in acts {
        match act {
            Act::Say(reply) => {
                let mut line = serde_json::to_string(&reply)?;
                line.push('\n');
                stream.write_all(line.as_bytes())?;
            }
            Act::Raw(text) => stream.write_all(text.as_bytes())?,
            Act::Pause(time) => std::thread::sleep(time),
        }
    }
    Ok(())
}

/// Runs the real command without a terminal.
pub(crate) fn tierce(args: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_tierce"))
        .args(args)
        .env_remove("TIERCE_SOCKET")
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    Run::of(&output, args)
}

/// The same with a daemon's socket.
pub(crate) fn tierce_at(socket: &Path, args: &[&str]) -> Run {
    let mut all = vec!["--socket", socket.to_str().unwrap()];
    all.extend(args);
    tierce(&all)
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) line: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: &Output, args: &[&str]) -> Self {
        Self {
            line: args.join(" "),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "tierce {}: {self:#?}", self.line);
        self
    }

    /// It failed with this code and the four parts of an error.
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        for part in ["error: ", "effect: ", "inspect: ", "safer: "] {
            let said = self.err.lines().any(|l| l.starts_with(part) && l.len() > part.len());
            assert!(said, "{part} is missing: {self:#?}");
        }
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let value: serde_json::Value = serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("{e}: tierce {}: {self:#?}", self.line));
        assert_eq!(value["apiVersion"], "tierce/v1", "{self:#?}");
        value
    }
}
