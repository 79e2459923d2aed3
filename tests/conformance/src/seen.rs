//! Small CIBs from which something was learnt of the peer, and what it did: `tests/conformance/seen`.
//!
//! `--see FOLDER` asks the peer; the test asks ours, and needs no peer.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::compare::lines;
use crate::tools::Tool;

/// Writes down what the peer does with each CIB of a folder.
pub(crate) fn record(peer: &Tool, folder: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let all = cibs(folder)?;
    anyhow::ensure!(!all.is_empty(), "there is no NAME.xml in {}", folder.display());
    for path in all {
        let name = path.display();
        let answer = peer.ask(&fs::read_to_string(&path)?, dir.path(), "peer")?;
        let answer =
            answer.map_err(|e| anyhow::anyhow!("the peer has no answer to {name}: {e:?}"))?;
        let text = lines(&answer).with_context(|| format!("the peer's answer to {name}"))?;
        fs::write(path.with_extension("seen"), text.join("\n") + "\n")?;
    }
    Ok(())
}

fn cibs(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "xml"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Answer;
    use tierce_cib::time::Moment;
    use tierce_cib::xml::Document;
    use tierce_scheduler::simulate::{Request, run_document};

    #[test]
    fn ours_does_what_the_peer_was_seen_to_do() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seen");
        let all = cibs(&folder).expect("the folder is there");
        assert!(all.len() >= 30, "only {} were found", all.len());
        let now = Moment::from_epoch(1_700_000_000, 0).expect("a moment");
        let words = ["-S", "-x", "-", "-G", "-"].map(str::to_owned);
        let request = Request::parse(words).expect("options of crm_simulate");
        let mut wrong = Vec::new();
        for path in all {
            let read = |p: &Path| fs::read_to_string(p).expect("it can be read");
            let doc = Document::parse(read(&path)).expect("it is XML");
            let outcome = run_document(doc, &request, now).expect("it can be planned");
            let ours = lines(&Answer { graph: outcome.graph, text: outcome.text });
            let ours = ours.expect("a graph").join("\n") + "\n";
            if ours != read(&path.with_extension("seen")) {
                wrong.push(format!("{}, ours:\n{ours}", path.display()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
