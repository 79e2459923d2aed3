//! What the peer is known to say otherwise because it is older than what ours follows, told by the two answers.
//!
//! Each has a name, which the report counts and docs/scheduler.md lists with its reason. Nothing is here that the
//! shared cases, which are of the newer release, do not show.

use std::collections::BTreeSet;

use crate::compare::{Act, Difference};

/// Something that is worded otherwise.
struct Wording {
    name: &'static str,
    /// The line of ours as the peer would have written it.
    as_peer: fn(&str) -> Option<String>,
}

/// Lines of the final status that the peer words otherwise.
const WORDINGS: &[Wording] =
    &[Wording { name: "maintenance is shown as unmanaged", as_peer: unmanaged }];

/// The peer has one word for both.
fn unmanaged(line: &str) -> Option<String> {
    let flags = line.rfind(" / * ")?;
    let node =
        line[flags..].starts_with(" / * Node ") || line[flags..].starts_with(" / * GuestNode ");
    let said = line.contains("maintenance)") || line.contains("maintenance,");
    (said && !node).then(|| {
        // Flags stand in the peer's order.
        line.replace("(maintenance", "(unmanaged").replace(", maintenance", ", unmanaged")
    })
}

/// Newer releases keep instances of a clone where they run (cases `clone-recover-no-shuffle-*`). The peer moves one
/// to where another is and that one to where it was: the same runs everywhere, after a restart for nothing.
const SHUFFLE: &str = "instances of a clone change places for nothing";

fn shuffle(d: &mut Difference) -> bool {
    let of_a_shuffle = |(key, node, _): &Act, shuffled: &BTreeSet<(String, String)>| {
        shuffled.iter().any(|(name, at)| {
            let task = key.strip_prefix(name).and_then(|k| k.strip_prefix('_')).unwrap_or("");
            at == node && ["stop_0", "start_0"].contains(&task)
                || at == node && task.starts_with("monitor_") && task != "monitor_0"
        })
    };
    let before = d.missing.len();
    let Difference { missing, shuffled, .. } = d;
    missing.retain(|act| !of_a_shuffle(act, shuffled));
    missing.len() < before
}

/// Takes out of a difference what is known; gives the names of what it took.
pub(crate) fn explain(d: &mut Difference) -> Vec<&'static str> {
    let mut names = Vec::new();
    if shuffle(d) {
        names.push(SHUFFLE);
    }
    for wording in WORDINGS {
        let before = d.status_extra.len();
        d.status_extra.retain(|ours| {
            let Some(worded) = (wording.as_peer)(ours) else { return true };
            let Some(at) = d.status_missing.iter().position(|l| *l == worded) else { return true };
            d.status_missing.swap_remove(at);
            false
        });
        if d.status_extra.len() < before {
            names.push(wording.name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(peer: &str, ours: &str) -> Difference {
        let (status_missing, status_extra) = (vec![peer.to_owned()], vec![ours.to_owned()]);
        Difference { status_missing, status_extra, ..Difference::default() }
    }

    #[test]
    fn a_restart_is_known_only_where_another_instance_takes_the_place() {
        let act = |key: &str, node: &str| (key.to_owned(), node.to_owned(), String::new());
        let missing = vec![act("a_stop_0", "n1"), act("a_start_0", "n1"), act("a_stop_0", "n2")];
        let shuffled = BTreeSet::from([("a".to_owned(), "n1".to_owned())]);
        let mut d = Difference { missing: missing.clone(), shuffled, ..Difference::default() };
        assert_eq!(explain(&mut d), [SHUFFLE]);
        assert_eq!(d.missing, [act("a_stop_0", "n2")]);
        let mut d = Difference { missing, ..Difference::default() };
        assert!(explain(&mut d).is_empty());
        assert_eq!(d.missing.len(), 3);
    }

    #[test]
    fn only_the_word_is_known_and_nothing_else_on_the_line() {
        let mut d = difference(" / * a Started n1 (unmanaged)", " / * a Started n1 (maintenance)");
        assert_eq!(explain(&mut d), ["maintenance is shown as unmanaged"]);
        assert_eq!(d.layer(), None);
        let mut d = difference(" / * a Started n2 (unmanaged)", " / * a Started n1 (maintenance)");
        assert!(explain(&mut d).is_empty());
        assert!(d.layer().is_some());
    }
}
