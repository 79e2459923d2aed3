//! The agent's file: read, checked, and turned into what the rest of the agent works with.
//!
//! A wrong file must never become a wrong service. So a key that is not known is an error with its
//! line and the word that was probably meant, and a file that contradicts itself or breaks one of
//! the inequalities is refused with every finding at once, not one at a time.
//!
//! Order of data: text → [`types`] (`parse`) → findings (`check`) → what others use (`derive`):
//! timing, plan of founding, policies, digest. `change` says what may differ after a reload.
//!
//! Invariant: a [`Config`] that [`Config::load`] or [`Config::parse`] returned has no finding of
//! level error.

mod change;
mod check;
mod derive;
mod explain;
mod faults;
mod place;
mod span;
pub mod types;

use std::path::{Path, PathBuf};

pub use check::{Finding, Level, check};
pub(crate) use derive::{loss, mode, regrant};
pub use explain::explain_timing;
pub use span::SpanError;
pub use types::{
    AddressConfig, BgpConfig, Config, DnsConfig, GateConfig, GuardConfig, MemberConfig,
    ResourceConfig, Span, TicketConfig, TimingConfig,
};

/// Largest file that is read: 16,384 tickets with their resources stay below.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a file does not become a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("{}: {source}; nothing was changed; check the path and its owner", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML, or has a key or value that is not known.
    #[error("{}: line {line}, column {column}: {what}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong, and what was probably meant.
        what: String,
    },
    /// It is well formed and contradicts itself or breaks a rule.
    #[error("{}: {}", path.display(), list(findings))]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// Everything found, errors first.
        findings: Vec<Finding>,
    },
}

fn list(findings: &[Finding]) -> String {
    let errors: Vec<String> =
        findings.iter().filter(|f| f.level == Level::Error).map(ToString::to_string).collect();
    errors.join("\n")
}

impl Config {
    /// Reads a file. Relative paths in it are relative to the file's own directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_FILE_BYTES {
            let what = format!("it has {size} bytes, the most is {MAX_FILE_BYTES}");
            return Err(read(std::io::Error::new(std::io::ErrorKind::InvalidData, what)));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, path)
    }

    /// The same from a text; `path` names the file in errors and is the base of relative paths.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::read(text, path)?;
        let findings = check(&config);
        if findings.iter().any(|f| f.level == Level::Error) {
            return Err(ConfigError::Unsound { path: path.to_owned(), findings });
        }
        config.resolve_paths(path);
        Ok(config)
    }

    fn read(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(text.len(), |s| s.start);
            let place = place::place_of(text, at);
            let table = place::table_above(text, place.line + 1);
            let what = explain_syntax(e.message(), table);
            ConfigError::Syntax {
                path: path.to_owned(),
                line: place.line,
                column: place.column,
                what,
            }
        })
    }
}

fn explain_syntax(message: &str, table: Option<&str>) -> String {
    let within = table.map_or_else(|| " at the top".to_owned(), |t| format!(" in {t}"));
    let Some((kind, written, allowed)) = place::unknown(message) else {
        return format!("{message}{within}");
    };
    let hint = match place::nearest(&written, &allowed) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("allowed: {}", allowed.join(", ")),
    };
    format!("{kind} `{written}`{within}; {hint}")
}

/// A sound file of three members and one ticket.
#[cfg(test)]
pub(crate) const SOUND: &str = r#"tenant = "shop"
site = "paris"
data = "/var/lib/tierce"
listen = "0.0.0.0:7800"
profile = "metro-fast"

[[member]]
name = "paris"
role = "site"
addresses = ["paris.example:7800"]

[[member]]
name = "rome"
role = "site"
addresses = ["rome.example:7800", "[2001:db8::1]:7800"]

[[member]]
name = "zurich"
role = "arbitrator"
addresses = ["zurich.example:7801"]

[[ticket]]
name = "web"
mode = "auto"
prefer = ["paris", "rome"]
stop-budget = "300ms"

[[ticket.resource]]
id = "dummy"
agent = "ocf:heartbeat:Dummy"
params = { state = "/run/dummy" }
"#;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tierce_tests::fuzz;

    pub(crate) fn sound() -> Config {
        Config::parse(SOUND, Path::new("/etc/tierce/agent.toml")).expect("the sound file is sound")
    }

    /// The sound file with one piece replaced, read without the checks.
    pub(crate) fn changed(from: &str, to: &str) -> Config {
        assert!(SOUND.contains(from), "the sound file has no {from:?}");
        Config::read(&SOUND.replacen(from, to, 1), Path::new("x.toml")).expect("well formed")
    }

    fn error(from: &str, to: &str) -> String {
        assert!(SOUND.contains(from));
        let text = SOUND.replacen(from, to, 1);
        Config::parse(&text, Path::new("x.toml")).expect_err("it was accepted").to_string()
    }

    #[test]
    fn a_misspelt_key_names_its_line_its_table_and_the_word_that_was_meant() {
        let e = error("prefer =", "prefered =");
        assert!(e.contains("line 25, column 1"), "{e}");
        assert!(e.contains("unknown key `prefered` in [[ticket]]; did you mean `prefer`?"), "{e}");
        let e = error("params =", "parms =");
        assert!(e.contains("in [[ticket.resource]]; did you mean `params`?"), "{e}");
        let e = error("tenant =", "tennant =");
        assert!(e.contains("line 1, column 1: unknown key `tennant` at the top"), "{e}");
        assert!(e.contains("did you mean `tenant`?"), "{e}");
        let e = error("prefer =", "zzz =");
        assert!(e.contains("allowed: ") && e.contains("one-move-per"), "{e}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_its_place() {
        let e = error("\"300ms\"", "300");
        assert!(e.contains("line 26, column 15") && e.contains("such as \"10s\""), "{e}");
        let e = error("\"300ms\"", "\"300\"");
        assert!(e.contains("line 26") && e.contains("the unit is missing"), "{e}");
        let e = error("\"0.0.0.0:7800\"", "\"7800\"");
        assert!(e.contains("line 4"), "{e}");
    }

    #[test]
    fn broken_toml_and_missing_keys_say_where() {
        let e = error("mode = \"auto\"", "mode = \"auto");
        assert!(e.contains("line 24"), "{e}");
        let e = error("site = \"paris\"\n", "");
        assert!(e.contains("missing field `site`"), "{e}");
    }

    #[test]
    fn every_unsound_point_is_listed_at_once() {
        let text = SOUND
            .replace("profile = \"metro-fast\"", "profile = \"fast\"\nmetrics = \"0.0.0.0:9\"")
            .replace("site = \"paris\"", "site = \"Paris\"");
        let e = Config::parse(&text, Path::new("x.toml")).expect_err("accepted").to_string();
        for part in ["profile", "metrics", "Paris"] {
            assert!(e.contains(part), "{part} is missing in: {e}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_with_its_path() {
        let e = Config::load(Path::new("/nonexistent/agent.toml")).expect_err("read").to_string();
        assert!(e.contains("/nonexistent/agent.toml"), "{e}");
    }

    /// Whatever somebody saved as the file: an answer, and an error that says where and what.
    #[test]
    fn any_text_is_a_configuration_or_an_error_that_says_what() {
        let files = [SOUND.as_bytes().to_vec(), everything().into_bytes()];
        bolero::check!().for_each(|bytes: &[u8]| {
            for text in fuzz::inputs(&files, bytes) {
                let text = String::from_utf8_lossy(&text);
                match Config::parse(&text, Path::new("/etc/tierce/agent.toml")) {
                    Ok(config) => {
                        assert!(check(&config).iter().all(|f| f.level != Level::Error));
                        let again = toml::to_string(&config).expect("what was read can be written");
                        let again = Config::parse(&again, Path::new("/etc/tierce/agent.toml"));
                        assert_eq!(again.expect("and read").digest(), config.digest());
                    }
                    Err(e) => assert!(!e.to_string().is_empty()),
                }
            }
        });
    }

    #[test]
    fn a_file_with_every_kind_of_table_is_read() {
        Config::parse(&everything(), Path::new("x.toml")).expect("all of it is sound");
    }

    fn everything() -> String {
        let more = r#"
[[ticket.gate]]
handler = ["/bin/true"]
timeout = "1s"

[ticket.address]
ip = "192.0.2.10"
prefix = 24
interface = "eth0"
gate = "required"

[ticket.dns]
server = "192.0.2.53:53"
zone = "example.net."
name = "web.example.net."
addresses = ["192.0.2.10"]
ttl = 5

[ticket.bgp]
local-as = 65001
router-id = "192.0.2.1"
peer = "192.0.2.254:179"
peer-as = 65000
prefix = "192.0.2.10/32"
next-hop = "192.0.2.1"

[guard]
last-resort = "kill"
spawn = true

[timing]
promise = "1s"
losses = 3
"#;
        format!("{SOUND}{more}")
    }
}
