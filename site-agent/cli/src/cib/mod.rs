//! `tierce cib`: configurations in Pacemaker's format, as files and in a store.
//!
//! Everything here works on files: a saved `cibadmin --query`, an export of crmsh or pcs, or the
//! CIB that a store holds. Only `push` and `patch apply --write` change anything, and both check
//! first and replace the file in one moment.

mod change;
pub(crate) mod explain;
mod graph;
mod lines;
mod look;
mod show;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tierce_agent::cib::{Store, StoreError, peek};
use tierce_cib::xml::Document;

use crate::Ctx;
use crate::codes::{self, Exit};
use crate::failure::Failure;

/// Commands on configurations.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CibCommand {
    /// Shows a CIB, one section of it, or what a query finds.
    Show(show::ShowArgs),
    /// Shows what an XPath query finds (as cibadmin --query --xpath).
    Query(show::QueryArgs),
    /// Shows what differs between two CIBs, in lines or as a patch.
    Diff(change::DiffArgs),
    /// Patches: made by `diff --patch` or crm_diff.
    #[command(subcommand)]
    Patch(change::PatchCommand),
    /// Checks a CIB and puts it into a store.
    Push(change::PushArgs),
    /// Checks a CIB by its schema, its references, its orderings and its values: every problem with its line.
    Verify(look::VerifyArgs),
    /// Raises a configuration of schema 1.3 or 2 to schema 3.0, and shows it.
    Upgrade(Source),
    /// Lists the resources, with agent and operations.
    Resources(Source),
    /// Says why a resource is where it is, or why not there: constraints, scores, tickets, failures.
    Explain(explain::ExplainArgs),
    /// Draws resources and constraints as a graph for Graphviz (dot).
    Graph(Source),
}

/// Which CIB.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// The file; - is standard input [default: what the store holds].
    #[arg(value_name = "FILE", conflicts_with = "store")]
    file: Option<PathBuf>,
    /// The folder of a store.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STORE)]
    store: PathBuf,
}

/// Where a node keeps its CIB.
const DEFAULT_STORE: &str = "/var/lib/tierce/cib";

impl Source {
    /// The CIB that is meant, and what to call it.
    pub(crate) fn load(&self) -> Result<(Document, String), Failure> {
        match &self.file {
            Some(path) => Ok((load(path)?, name_of(path))),
            None => Ok((stored(&self.store)?, self.store.display().to_string())),
        }
    }
}

/// Does what was asked.
pub(crate) fn run(ctx: &Ctx, command: CibCommand) -> Result<Exit, Failure> {
    match command {
        CibCommand::Show(args) => show::show(ctx, &args),
        CibCommand::Query(args) => show::query(ctx, &args),
        CibCommand::Diff(args) => change::diff(ctx, &args),
        CibCommand::Patch(command) => change::patch(ctx, &command),
        CibCommand::Push(args) => change::push(ctx, &args),
        CibCommand::Verify(args) => look::verify(ctx, &args),
        CibCommand::Upgrade(source) => look::upgrade(ctx, &source),
        CibCommand::Resources(source) => look::resources(ctx, &source),
        CibCommand::Explain(args) => explain::explain(ctx, &args),
        CibCommand::Graph(source) => graph::run(ctx, &source),
    }
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Reads a document.
fn load(path: &Path) -> Result<Document, Failure> {
    let name = name_of(path);
    let text = if path == Path::new("-") {
        let limit = tierce_cib::xml::limits::MAX_BYTES as u64 + 1;
        let mut text = String::new();
        std::io::stdin().lock().take(limit).read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| {
        let code =
            if e.kind() == std::io::ErrorKind::NotFound { codes::NO_SUCH } else { codes::CONFIG };
        Failure::new(
            code,
            format!("{name} cannot be read: {e}"),
            "nothing was done",
            format!("ls -l {name}"),
            "name a file with a CIB in UTF-8, or - for standard input",
        )
    })?;
    Document::parse(text).map_err(|e| {
        Failure::new(
            codes::CONFIG,
            format!("{name}: {e}"),
            "nothing was done",
            format!("xmllint --noout {name}"),
            "correct the line, or take the CIB again: cibadmin --query > FILE",
        )
    })
}

/// The CIB of a store.
fn stored(folder: &Path) -> Result<Document, Failure> {
    let none = || {
        Failure::new(
            codes::NO_SUCH,
            format!("there is no CIB in {}", folder.display()),
            "nothing was shown",
            format!("ls -l {}", folder.display()),
            "name a file or another --store, or put a CIB there: tierce cib push FILE --store DIR",
        )
    };
    // Without its lock: what is shown may be held by an agent that runs.
    peek(folder).map_err(|e| store_failure(folder, &e))?.ok_or_else(none)
}

fn open(folder: &Path) -> Result<Store, Failure> {
    Store::open(folder).map_err(|e| store_failure(folder, &e))
}

fn store_failure(folder: &Path, error: &StoreError) -> Failure {
    let code = match error {
        StoreError::Locked(_) | StoreError::NotNewer { .. } => codes::NOT_NOW,
        StoreError::Io { .. } => codes::ERROR,
        _ => codes::CONFIG,
    };
    Failure::sentence(code, &error.to_string(), &format!("ls -l {}", folder.display()))
}
