//! Transcripts: what a cluster does, line by line, as the recorded specification of its behaviour.
//!
//! Each file under `tests/ledger/` is one story. A block `run` holds commands, one a line; what
//! follows `----` is the trace (`quietly` before a command: without it). After a wanted change of behaviour record anew with `REWRITE=1`,
//! then read the difference.

mod ledger_rig;

use std::fmt::Write as _;
use std::time::Duration;

use datadriven::{TestCase, walk};
use tierce_ticket::configuration::Configuration;
use tierce_ticket::ids::MemberId;

use ledger_rig::{Cluster, info};

/// One story: a cluster, and how much of its trace has been shown.
struct Story {
    cluster: Cluster,
    shown: usize,
}

impl Story {
    fn new() -> Self {
        Self { cluster: Cluster::new(1, 1), shown: 0 }
    }

    /// One command; what it has to say beyond the trace.
    fn perform(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| -> u64 {
            let word = words.get(i).unwrap_or_else(|| panic!("{line:?} lacks word {i}"));
            word.parse().unwrap_or_else(|_| panic!("{word:?} in {line:?} is no number"))
        };
        let id = |i: usize| MemberId(number(i) as u32);
        let ids = |w: &str| -> Vec<MemberId> {
            w.split(',').map(|m| MemberId(m.parse().expect("a member's number"))).collect()
        };
        let c = &mut self.cluster;
        match words[0] {
            "cluster" => {
                *c = Cluster::new(number(1) as u32, 1);
                self.shown = 0;
            }
            "formed" => {
                *c = Cluster::new(number(1) as u32, 1);
                c.now = c.ledger(MemberId(1)).deadline().expect("it waits for a leader");
                c.tick_if_due(MemberId(1));
                c.settle();
                self.shown = 0;
                c.trace.clear();
            }
            // Time passes for one member only, until it acts by itself.
            "campaign" => {
                c.now = c.now.max(c.ledger(id(1)).deadline().expect("it waits for something"));
                c.tick_if_due(id(1));
            }
            "tick" => c.tick_if_due(id(1)),
            "wait" => c.now = c.now + Duration::from_millis(number(1)),
            "run" => c.run(Duration::from_millis(number(1))),
            "settle" => c.settle(),
            "sync" => c.sync(id(1), usize::MAX),
            // The oldest message on this way, or all of them.
            "deliver" => {
                let place = c.wire.iter().position(|e| (e.from, e.to) == (id(1), id(2)));
                let Some(place) = place else { return "nothing on this way".to_owned() };
                c.deliver(place);
            }
            "lose" => c.wire.clear(),
            "cut" => c.cut_between(&ids(words[1]), &ids(words[2])),
            "heal" => c.heal(),
            "crash" => c.crash(id(1), 0),
            "start" => c.start(id(1)),
            "propose" => {
                let times = if words.len() > 2 { number(2) } else { 1 };
                for _ in 0..times {
                    if c.propose(id(1)).is_none() {
                        return format!("{} takes no decisions", words[1]);
                    }
                }
            }
            "read" => {
                if !c.read(id(1), number(2)) {
                    return format!("{} does not lead", words[1]);
                }
            }
            "compact" => c.compact(id(1)),
            "transfer" => {
                let to = id(2);
                c.at(id(1), |l, now| l.transfer_to(now, to));
            }
            "add-learner" | "add-voter" | "promote" | "remove" => {
                let (what, m) = (words[0], id(2));
                let answer = c.change(id(1), |next| edit(what, m, next));
                if let Err(why) = answer {
                    return format!("refused: {why}");
                }
            }
            "state" => return self.state(),
            other => panic!("no command {other:?}"),
        }
        String::new()
    }

    fn state(&self) -> String {
        let mut out = String::new();
        for (id, node) in &self.cluster.nodes {
            let Some(l) = &node.ledger else {
                let _ = writeln!(out, "{id}: down");
                continue;
            };
            let (configuration, index) = l.configuration();
            let voters: Vec<_> = configuration.voters.keys().map(ToString::to_string).collect();
            let _ = writeln!(
                out,
                "{id}: {:?} ballot {} leader {} log {}@{} commit {} voters {} (entry {index})",
                l.role(),
                l.ballot(),
                l.leader().map_or("-".to_owned(), |l| l.to_string()),
                l.last_index(),
                l.ballot_at(l.last_index()).unwrap_or_default(),
                l.commit(),
                voters.join(",")
            );
        }
        out
    }
}

fn edit(what: &str, m: MemberId, next: &mut Configuration) {
    match what {
        "add-learner" => {
            next.learners.insert(m, info(m));
        }
        "add-voter" => {
            next.voters.insert(m, info(m));
        }
        "promote" => next.voters.extend(next.learners.remove_entry(&m)),
        _ => {
            next.voters.remove(&m);
        }
    }
    next.next_member = next.next_member.max(MemberId(m.0 + 1));
}

fn run(story: &mut Story, case: &TestCase) -> String {
    assert_eq!(case.directive, "run", "the only kind of block");
    let mut out = String::new();
    for line in case.input.lines().filter(|l| !l.trim().is_empty()) {
        let quiet = line.starts_with("quietly ");
        let line = line.trim_start_matches("quietly ");
        let said = story.perform(line);
        // While it only runs, messages are not shown, but what comes of them is.
        let running = line.starts_with("run ");
        let fresh = story.cluster.trace.iter().skip(story.shown);
        for event in fresh.filter(|e| !(quiet || running && e.contains("->"))) {
            let _ = writeln!(out, "{event}");
        }
        story.shown = story.cluster.trace.len();
        if !said.is_empty() {
            let _ = writeln!(out, "{}", said.trim_end());
        }
    }
    if out.is_empty() { "ok\n".to_owned() } else { out }
}

#[test]
fn the_ledger_does_what_its_transcripts_say() {
    walk(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ledger"), |file| {
        let mut story = Story::new();
        file.run(|case| run(&mut story, case));
    });
}
