//! Which processes belong to a ticket at this site: those whose environment says so (R18).
//!
//! Every action's environment carries `TIERCE_TICKET`, and what a resource agent starts inherits
//! it, daemons too. So the processes of a ticket are found without knowing how they were started,
//! after a restart of the agent as well. What somebody else starts on behalf of a resource (a
//! systemd unit, a kernel service) or with a fresh environment (`su -`) is not found: `kill` does
//! not reach it, as the guard's table of last resorts says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::limits::MAX_PROCESSES;

/// Set in the environment of handlers, which are no dependents.
pub(crate) const HANDLER_MARK: &str = "TIERCE_HANDLER";

/// A process of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) group: i32,
    /// Its parent is gone: a daemon, and not an action under way.
    pub(crate) orphan: bool,
}

/// All processes of these tickets at this site. Reads `/proc`: some milliseconds; not for the
/// runner's loop.
pub(crate) fn of_tickets(site: &str, names: &BTreeSet<String>) -> BTreeMap<String, Vec<Process>> {
    let mut found: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    let own = nix::unistd::getpgrp().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    let pid = |name: String| name.parse::<i32>().ok();
    let pids = entries.flatten().filter_map(|e| e.file_name().into_string().ok().and_then(pid));
    for pid in pids.take(MAX_PROCESSES) {
        let Some(ticket) = ticket_of(site, pid).filter(|t| names.contains(t)) else { continue };
        let Some((parent, group)) = parent_and_group(pid) else { continue };
        if group > 1 && group != own {
            let process = Process { pid, group, orphan: parent == 1 };
            found.entry(ticket).or_default().push(process);
        }
    }
    found
}

/// Their groups, daemons first, each once, as many as the guard takes.
pub(crate) fn groups(processes: &[Process]) -> Vec<i32> {
    let mut groups: Vec<i32> = Vec::new();
    for wanted in [true, false] {
        for process in processes.iter().filter(|p| p.orphan == wanted) {
            if !groups.contains(&process.group) {
                groups.push(process.group);
            }
        }
    }
    groups.truncate(tierce_guard::limits::MAX_GROUPS);
    groups
}

fn ticket_of(site: &str, pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut ticket = None;
    for variable in environment.split(|b| *b == 0) {
        if variable.starts_with(HANDLER_MARK.as_bytes()) {
            return None;
        }
        if let Some(value) = variable.strip_prefix(b"TIERCE_TICKET=") {
            ticket = Some(String::from_utf8_lossy(value).into_owned());
        }
        if variable.strip_prefix(b"TIERCE_SITE=").is_some_and(|other| other != site.as_bytes()) {
            return None;
        }
    }
    ticket
}

fn parent_and_group(pid: i32) -> Option<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?; // the name may hold anything
    let mut fields = after.split_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn a_process_is_found_by_the_ticket_in_its_environment() {
        let spawn = |site: &str, ticket: &str, mark: Option<&str>| {
            let mut command = Command::new("sleep");
            command.arg("60").env_clear().env("TIERCE_TICKET", ticket).env("TIERCE_SITE", site);
            command.process_group(0).envs(mark.map(|mark| (mark, "1")));
            command.spawn().unwrap()
        };
        let mut children = [
            spawn("here", "processes/test", None),
            spawn("here", "processes/test2", None),
            spawn("elsewhere", "processes/test", None),
            spawn("here", "processes/test", Some(HANDLER_MARK)),
        ];
        let names = BTreeSet::from(["processes/test".to_owned()]);
        let pid = children[0].id().cast_signed();
        let mut found = BTreeMap::new();
        for _ in 0..200 {
            found = of_tickets("here", &names); // the child may not have reached its exec yet
            if found.values().any(|list| list.iter().any(|p| p.pid == pid)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let expected = Process { pid, group: pid, orphan: false };
        assert_eq!(found.get("processes/test"), Some(&vec![expected]));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn daemons_come_first_and_each_group_once() {
        let process = |pid, group, orphan| Process { pid, group, orphan };
        let list = [process(1, 10, false), process(2, 20, true), process(3, 20, false)];
        assert_eq!(groups(&list), [20, 10]);
    }
}
