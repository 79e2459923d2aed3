//! `tierce config`: the site's file, without a daemon and beside one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_agent::config::{Config, ConfigError, Finding, Level, check, explain_timing};
use tierce_wire::control::Ask;

use crate::Ctx;
use crate::client::{Client, DEFAULT_CONFIG};
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::status;
use crate::table::{Paint, Table};
use crate::tickets::change;
use crate::words::plain;

/// Commands on the file.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Checks a file: every finding with its line, and the lease inequalities in words.
    Check(File),
    /// Shows what a file comes to.
    Show(File),
    /// Prints the digest over what must be equal at all sites.
    Digest(File),
    /// Compares a file with the running daemon, and the members among each other.
    Diff(File),
    /// Lets the daemon read its file again.
    Reload,
}

/// Which file.
#[derive(Clone, Debug, Args)]
pub(crate) struct File {
    /// The file [default: /etc/tierce/agent.toml].
    #[arg(value_name = "PATH", conflicts_with = "config")]
    path: Option<PathBuf>,
    /// The same, as the daemons write it.
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl File {
    fn path(&self) -> &Path {
        let named = self.path.as_deref().or(self.config.as_deref());
        named.unwrap_or_else(|| Path::new(DEFAULT_CONFIG))
    }
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check(file) => check_file(ctx, file.path()),
        ConfigCommand::Show(file) => show(ctx, file.path()),
        ConfigCommand::Digest(file) => digest(ctx, file.path()),
        ConfigCommand::Diff(file) => diff(ctx, file.path()),
        ConfigCommand::Reload => change(ctx, &Client::new(ctx), Ask::Reload, Duration::ZERO),
    }
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|e| refused(path, &e))
}

fn refused(path: &Path, e: &ConfigError) -> Failure {
    let (code, what) = match e {
        ConfigError::Read { source, .. } => {
            (codes::CONFIG, format!("{} cannot be read: {source}", path.display()))
        }
        ConfigError::Syntax { line, column, what, .. } => {
            (codes::CONFIG, format!("{}: line {line}, column {column}: {what}", path.display()))
        }
        ConfigError::Unsound { findings, .. } => {
            let errors = findings.iter().filter(|f| f.level == Level::Error).count();
            (codes::CONFIG, format!("{}: {errors} error{} found", path.display(), plural(errors)))
        }
    };
    Failure::new(
        code,
        what,
        "no agent starts or reloads with this file; one that runs keeps what it has",
        format!("tierce config check {}", path.display()),
        "correct the file, check it again, then reload",
    )
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

// ----- check ---------------------------------------------------------------------------------

fn check_file(ctx: &Ctx, path: &Path) -> Result<Exit, Failure> {
    let (found, config, failure) = match Config::load(path) {
        Ok(config) => (check(&config), Some(config), None),
        Err(e) => {
            let failure = refused(path, &e);
            match e {
                ConfigError::Unsound { findings, .. } => {
                    // Well formed, so its times can be explained all the same.
                    let text = std::fs::read_to_string(path).unwrap_or_default();
                    (findings, toml::from_str(&text).ok(), Some(failure))
                }
                _ => return Err(failure),
            }
        }
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<Option<usize>> = found.iter().map(|f| line_of(&text, &f.place)).collect();
    if ctx.out.is_json() {
        // On failure the findings go with the error: stdout carries one document.
        let view = check_json(path, &found, &lines, config.as_ref(), failure.as_ref());
        ctx.out.json(&view)?;
    } else {
        let shown = check_text(path, &found, &lines, config.as_ref(), ctx.out.colour());
        ctx.out.text(&shown)?;
    }
    match failure {
        None => Ok(Exit::Ok),
        Some(failure) if ctx.out.is_json() => {
            eprint!("{}", failure.text());
            Ok(Exit::Unwell(failure.view.code))
        }
        Some(failure) => Err(failure),
    }
}

fn check_json(
    path: &Path,
    found: &[Finding],
    lines: &[Option<usize>],
    config: Option<&Config>,
    failure: Option<&Failure>,
) -> Value {
    let findings: Vec<Value> = found
        .iter()
        .zip(lines)
        .map(|(f, line)| {
            json!({ "level": f.level, "line": line, "where": f.place, "what": f.what, "next": f.next })
        })
        .collect();
    json!({
        "path": path,
        "sound": failure.is_none(),
        "findings": findings,
        "timing": config.map(|c| explain_timing(&c.timing())),
        "digest": config.filter(|_| failure.is_none()).map(|c| hex(&c.digest())),
        "error": failure.map(|f| &*f.view),
    })
}

fn check_text(
    path: &Path,
    found: &[Finding],
    lines: &[Option<usize>],
    config: Option<&Config>,
    colour: bool,
) -> String {
    let mut out = String::new();
    for (f, line) in found.iter().zip(lines) {
        let at =
            line.map_or_else(|| path.display().to_string(), |l| format!("{}:{l}", path.display()));
        let paint = match f.level {
            Level::Error => Paint::Bad,
            Level::Warning => Paint::Warn,
            Level::Info => Paint::Plain,
        };
        let level = paint.put(&f.level.to_string(), colour);
        let rest = plain(&format!("{}: {}; {}", f.place, f.what, f.next));
        let _ = writeln!(out, "{at}: {level}: {rest}");
    }
    if !found.is_empty() {
        out.push('\n');
    }
    if let Some(config) = config {
        let _ = writeln!(out, "{}", explain_timing(&config.timing()));
    }
    let count = |level| found.iter().filter(|f| f.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let _ = write!(out, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings));
    match config.filter(|_| errors == 0) {
        Some(config) => {
            let _ = writeln!(out, "; digest {}", hex(&config.digest()));
        }
        None => out.push('\n'),
    }
    out
}

/// The line of a finding's place: a key, `[table] key`, `[[table]] NAME`, and after a comma a key
/// or `resource ID` below it. None where the file does not say it (a default).
fn line_of(text: &str, place: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut parts = place.split(", ");
    let first = parts.next()?;
    let (mut at, mut end) = match first.split_once("]] ") {
        Some((kind, name)) => {
            let header = format!("{kind}]]");
            let starts = lines.iter().enumerate().filter(|(_, l)| **l == header).map(|(n, _)| n);
            let found = starts.map(|n| (n, section_end(&lines, n, &header)));
            found.into_iter().find(|&(from, to)| {
                lines[from..to].iter().any(|l| value_of(l, "name") == Some(name))
            })?
        }
        None if first.starts_with('[') => {
            let (header, key) = first.split_once("] ").unwrap_or((first, ""));
            let header = if key.is_empty() { header.to_owned() } else { format!("{header}]") };
            if let Some(from) = lines.iter().position(|l| *l == header) {
                let to = section_end(&lines, from, &header);
                let inner = (from..to).find(|&n| !key.is_empty() && is_key(lines[n], key));
                (inner.unwrap_or(from), to)
            } else {
                // `guard = { last-resort = … }` at the top.
                let bare = header.trim_matches(|c| c == '[' || c == ']');
                (lines.iter().position(|l| is_key(l, bare))?, lines.len())
            }
        }
        None => {
            let key = first.split('.').next().unwrap_or(first);
            let header = format!("[{key}]");
            (lines.iter().position(|l| is_key(l, key) || *l == header)?, lines.len())
        }
    };
    for part in parts {
        let inner = match part.strip_prefix("resource ") {
            Some(id) => (at..end).find(|&n| value_of(lines[n], "id") == Some(id)),
            None => (at..end).find(|&n| is_key(lines[n], part)),
        };
        let Some(inner) = inner else { break };
        at = inner;
        end = end.max(at);
    }
    Some(at + 1)
}

/// Where a table ends: at the next header that is not below it.
fn section_end(lines: &[&str], from: usize, header: &str) -> usize {
    let below = format!("{}.", header.trim_end_matches(']'));
    let next = lines.iter().enumerate().skip(from + 1).find(|(_, l)| {
        l.starts_with('[') && l.ends_with(']') && !l.contains('"') && !l.starts_with(&below)
    });
    next.map_or(lines.len(), |(n, _)| n)
}

fn is_key(line: &str, key: &str) -> bool {
    line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

// ----- show, digest, diff --------------------------------------------------------------------

fn show(ctx: &Ctx, path: &Path) -> Result<Exit, Failure> {
    let config = load(path)?;
    if ctx.out.is_json() {
        ctx.out.json(&config)?;
        return Ok(Exit::Ok);
    }
    let text = toml::to_string(&config).map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("it cannot be written as TOML: {e}"),
            "nothing was shown",
            "the same command with -o json",
            "report this as a defect",
        )
    })?;
    ctx.out.text(&text)?;
    Ok(Exit::Ok)
}

fn digest(ctx: &Ctx, path: &Path) -> Result<Exit, Failure> {
    let digest = hex(&load(path)?.digest());
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "path": path, "digest": digest }))?;
    } else {
        ctx.out.line(&digest)?;
    }
    Ok(Exit::Ok)
}

fn diff(ctx: &Ctx, path: &Path) -> Result<Exit, Failure> {
    let file = hex(&load(path)?.digest());
    let status = status::ask(&Client::new(ctx), false)?;
    let differ: Vec<&str> = status
        .members
        .iter()
        .filter(|m| m.same_config == Some(false))
        .map(|m| m.name.as_str())
        .collect();
    let same = file == status.digest && differ.is_empty();
    if ctx.out.is_json() {
        ctx.out.json(&json!({
            "file": file, "daemon": status.digest, "member": status.member,
            "membersThatDiffer": differ, "same": same,
        }))?;
    } else {
        let mut table = Table::new(&["WHAT", "DIGEST", "AGAINST THE DAEMON"]);
        let word = |same: bool| if same { "same" } else { "DIFFERS" };
        let known = |m: &tierce_wire::control::MemberView| m.same_config.map(word);
        let daemon = format!("daemon of {}", status.member);
        table.row(vec![daemon.into(), (&status.digest).into(), "".into()]);
        let against = word(file == status.digest);
        table.row(vec![path.display().to_string().into(), file.into(), against.into()]);
        for m in status.members.iter().filter(|m| m.name != status.member && m.role == "site") {
            let word = known(m).unwrap_or("unknown");
            table.row(vec![format!("daemon of {}", m.name).into(), "".into(), word.into()]);
        }
        ctx.out.text(&table.text(ctx.out.colour()))?;
    }
    Ok(if same { Exit::Ok } else { Exit::Unwell(codes::ERROR) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "tenant = \"shop\"
profile = \"fast\"
guard = { last-resort = \"off\" }

[timing]
promise = \"1s\"

[[member]]
name = \"web\"
role = \"site\"

[[ticket]]
name = \"web\"
mode = \"atuo\"
prefer = [
  \"paris\",
]

[[ticket.resource]]
id = \"db\"
agent = \"x\"

[[ticket]]
name = \"mail\"
mode = \"manual\"
";

    #[test]
    fn a_finding_finds_its_line() {
        for (place, line) in [
            ("profile", Some(2)),
            ("timing", Some(5)),
            ("[guard] last-resort", Some(3)),
            ("[[member]] web", Some(8)),
            ("[[member]] web, role", Some(10)),
            ("[[member]]", Some(8)),
            ("[[ticket]] web", Some(12)),
            ("[[ticket]] web, mode", Some(14)),
            ("[[ticket]] web, resource db", Some(20)),
            ("[[ticket]] mail, mode", Some(25)),
            ("[[ticket]] mail, stop-budget", Some(23)),
            ("[[ticket]] none", None),
            ("listen", None),
        ] {
            assert_eq!(line_of(TEXT, place), line, "{place}");
        }
    }
}
