//! `tierce cib diff`, `patch` and `push`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use tierce_agent::cib::Rule;
use tierce_cib::patch::{self, MakeError};
use tierce_cib::schema::Severity;
use tierce_cib::verify::verify;
use tierce_cib::version::{Change, Version};
use tierce_cib::xml::{Document, Element};

use super::lines::lines;
use super::{load, name_of, open, store_failure};
use crate::Ctx;
use crate::approve;
use crate::codes::{self, Exit};
use crate::failure::Failure;
use crate::words::plain;

/// Two CIBs.
#[derive(Clone, Debug, Args)]
pub(crate) struct DiffArgs {
    /// The CIB before.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The CIB after.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// A patch (format 2) instead of lines: for `patch apply`, crm_diff --patch, cibadmin --patch.
    #[arg(long)]
    patch: bool,
}

/// What is done with a patch.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PatchCommand {
    /// Applies a patch to a CIB and shows the result.
    Apply(ApplyArgs),
}

/// A CIB and a patch for it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The CIB.
    #[arg(value_name = "CIB")]
    cib: PathBuf,
    /// The patch.
    #[arg(value_name = "PATCH")]
    patch: PathBuf,
    /// Write the result into the CIB's own file, in one moment, instead of showing it.
    #[arg(long)]
    write: bool,
}

/// A CIB for a store.
#[derive(Clone, Debug, Args)]
pub(crate) struct PushArgs {
    /// The CIB.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder of the store.
    #[arg(long, value_name = "DIR", default_value = super::DEFAULT_STORE)]
    store: PathBuf,
    /// Raise epoch above that of the stored CIB.
    #[arg(long)]
    bump: bool,
    /// Also put an older version there: the newer one is kept as a numbered file.
    #[arg(long)]
    force: bool,
    /// Only check and show what would change.
    #[arg(long)]
    dry_run: bool,
}

fn make(old: &Document, new: &Document) -> Result<Document, Failure> {
    patch::make(old, new).map_err(|e| {
        let safer = match e {
            MakeError::Nameless(_) => "give the elements ids",
            _ => "compare two CIBs, whole and with their versions",
        };
        Failure::new(codes::CONFIG, e.to_string(), "nothing was done", "tierce cib verify", safer)
    })
}

pub(super) fn diff(ctx: &Ctx, args: &DiffArgs) -> Result<Exit, Failure> {
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    let patch = make(&old, &new)?;
    let lines = lines(&old, &patch);
    if ctx.out.is_json() {
        ctx.out.json(
            &json!({ "equal": lines.is_empty(), "changes": lines, "patch": patch.write() }),
        )?;
    } else if args.patch {
        ctx.out.text(&patch.write())?;
    } else {
        ctx.out.text(&text_of(&lines))?;
    }
    // As diff does: 0 if they are equal, 1 if not.
    Ok(if lines.is_empty() { Exit::Ok } else { Exit::Unwell(codes::ERROR) })
}

fn text_of(lines: &[String]) -> String {
    lines.iter().map(|line| plain(line) + "\n").collect::<Vec<_>>().concat()
}

pub(super) fn patch(ctx: &Ctx, command: &PatchCommand) -> Result<Exit, Failure> {
    let PatchCommand::Apply(args) = command;
    let (cib, patch) = (load(&args.cib)?, load(&args.patch)?);
    let result = patch::apply(&cib, &patch).map_err(|e| {
        Failure::new(
            codes::NOT_NOW,
            format!("{} is not applied to {}: {e}", name_of(&args.patch), name_of(&args.cib)),
            "the CIB is as it was",
            format!("tierce cib show {} --xpath /cib", args.cib.display()),
            "make the patch again from this CIB: tierce cib diff OLD NEW --patch",
        )
    })?;
    let text = result.write();
    if !args.write {
        if ctx.out.is_json() {
            ctx.out.json(&json!({ "xml": text }))?;
        } else {
            ctx.out.text(&text)?;
        }
        return Ok(Exit::Ok);
    }
    replace(&args.cib, &text)?;
    done(ctx, &format!("{} is patched", name_of(&args.cib)), Version::of(result.root()).ok())
}

/// Puts a text in the place of a file, durably and in one moment.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        use std::io::Write as _;
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        let mut file = std::fs::File::create(&beside)?;
        file.set_permissions(std::fs::metadata(path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|e| {
        Failure::new(
            codes::ERROR,
            format!("{} cannot be written: {e}", path.display()),
            "the file is as it was",
            format!("ls -l {}", path.display()),
            "without --write the result is shown",
        )
    })
}

fn done(ctx: &Ctx, what: &str, version: Option<Version>) -> Result<Exit, Failure> {
    let version = version.map(|version| version.to_string()).unwrap_or_default();
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "done": what, "version": version }))?;
    } else {
        ctx.out.line(&format!("{}: version {version}", plain(what)))?;
    }
    Ok(Exit::Ok)
}

pub(super) fn push(ctx: &Ctx, args: &PushArgs) -> Result<Exit, Failure> {
    let mut new = load(&args.file)?;
    check(&args.file, &new)?;
    let store = open(&args.store)?;
    let refuse = |e| store_failure(&args.store, &e);
    let stored = store.read().map_err(refuse)?;
    if let Some(stored) = &stored
        && args.bump
    {
        bump(stored, &mut new)?;
    }
    let lines = match &stored {
        Some(stored) => lines(stored, &make(&without_status(stored), &without_status(&new))?),
        None => vec![format!("+ everything: the store in {} is empty", args.store.display())],
    };
    if ctx.out.is_json() && args.dry_run {
        ctx.out.json(&json!({ "changes": lines }))?;
        return Ok(Exit::Ok);
    }
    if args.dry_run {
        ctx.out.text(&text_of(&lines))?;
        return Ok(Exit::Ok);
    }
    eprint!("{}", text_of(&lines));
    approve::ordinary(ctx, &format!("Put this into {}?", args.store.display()))?;
    let rule = if args.force { Rule::Any } else { Rule::Newer };
    let version = store.write(&new, rule).map_err(refuse)?;
    done(ctx, &format!("{} is in {}", name_of(&args.file), args.store.display()), Some(version))
}

/// A CIB with errors does not get into a store.
fn check(path: &Path, doc: &Document) -> Result<(), Failure> {
    let inspect = format!("tierce cib verify {}", path.display());
    let report = verify(doc).map_err(|e| {
        let name = name_of(path);
        Failure::new(
            codes::CONFIG,
            format!("{name}: {e}"),
            "nothing was stored",
            &inspect,
            "see there",
        )
    })?;
    let errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let first = errors.clone().next();
    let Some(first) = first else {
        return Ok(());
    };
    Err(Failure::new(
        codes::CONFIG,
        format!("{}: {} errors; the first: {first}", name_of(path), errors.count()),
        "nothing was stored",
        inspect,
        "correct them all and push again",
    ))
}

/// Raises the new CIB's version above that of the stored one.
fn bump(stored: &Document, new: &mut Document) -> Result<(), Failure> {
    let version = |doc: &Document| {
        Version::of(doc.root()).map_err(|e| {
            Failure::new(
                codes::CONFIG,
                e.to_string(),
                "nothing was stored",
                "tierce cib show --xpath /cib",
                "write all three numbers",
            )
        })
    };
    let (stored, own) = (version(stored)?, version(new)?);
    if (own.admin_epoch, own.epoch) <= (stored.admin_epoch, stored.epoch) {
        stored.bumped(Change::Configuration).set(new);
    }
    Ok(())
}

/// Stores have no status: it is no difference.
fn without_status(doc: &Document) -> Document {
    let mut doc = doc.clone();
    let status = doc.root().child("status").map(Element::node_id);
    if let Some(status) = status {
        doc.remove(status);
    }
    let root = doc.root().node_id();
    doc.set(root, "num_updates", "0");
    doc
}
