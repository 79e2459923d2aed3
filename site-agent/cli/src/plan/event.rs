//! Events in words.

use tierce_cib::values;
use tierce_scheduler::simulate::Request;

/// What the words may be.
pub(super) const HELP: &str = "Events:
  node NODE up | down | fails
  ticket TICKET granted | revoked | standby | active
  quorum lost | back
  RESOURCE TASK [INTERVAL] on NODE returns CODE    an operation has given this result before the plan is made
  RESOURCE TASK [INTERVAL] on NODE fails           the operation fails when the plan comes to it

TASK is start, stop, monitor, promote, demote, migrate_to or migrate_from; CODE an exit code of OCF agents (7: not running).

Example: tierce simulate cib.xml --what-if 'node n1 fails' --what-if 'web start on n2 fails'";

const TASKS: [&str; 7] =
    ["start", "stop", "monitor", "promote", "demote", "migrate_to", "migrate_from"];

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Up(String),
    Down(String),
    Fails(String),
    Granted(String),
    Revoked(String),
    Standby(String),
    Active(String),
    Quorum(bool),
    /// As crm_simulate writes it: `RSC_TASK_INTERVAL@NODE=RC`.
    Result(String),
    /// The same, of an operation that is still to come.
    WillFail(String),
}

impl Event {
    pub(super) fn put_into(&self, request: &mut Request) {
        let (list, what) = match self {
            Self::Quorum(back) => {
                request.quorum = Some(back.to_string());
                return;
            }
            Self::Up(node) => (&mut request.up, node),
            Self::Down(node) => (&mut request.down, node),
            Self::Fails(node) => (&mut request.fail, node),
            Self::Granted(ticket) => (&mut request.grant, ticket),
            Self::Revoked(ticket) => (&mut request.revoke, ticket),
            Self::Standby(ticket) => (&mut request.standby, ticket),
            Self::Active(ticket) => (&mut request.activate, ticket),
            Self::Result(spec) => (&mut request.inject, spec),
            Self::WillFail(spec) => (&mut request.op_fail, spec),
        };
        list.push(what.clone());
    }
}

/// Reads an event.
pub(super) fn parse(text: &str) -> Result<Event, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |s: &str| s.to_owned();
    Ok(match words.as_slice() {
        ["node", node, "up"] => Event::Up(name(node)),
        ["node", node, "down"] => Event::Down(name(node)),
        ["node", node, "fails"] => Event::Fails(name(node)),
        ["ticket", ticket, "granted"] => Event::Granted(name(ticket)),
        ["ticket", ticket, "revoked" | "lost"] => Event::Revoked(name(ticket)),
        ["ticket", ticket, "standby"] => Event::Standby(name(ticket)),
        ["ticket", ticket, "active"] => Event::Active(name(ticket)),
        ["quorum", "lost"] => Event::Quorum(false),
        ["quorum", "back"] => Event::Quorum(true),
        [resource, task, rest @ ..] if TASKS.contains(task) => operation(resource, task, rest)?,
        _ => {
            return Err(format!(
                "{text:?} is no event; as in 'node n1 fails', 'ticket T revoked', 'quorum lost', 'web start on n1 fails'"
            ));
        }
    })
}

fn operation(resource: &str, task: &str, rest: &[&str]) -> Result<Event, String> {
    let (interval, rest) = match rest {
        ["on", ..] | [] => (0, rest),
        [interval, rest @ ..] => {
            let ms = values::duration_ms(interval)
                .ok_or_else(|| format!("{interval:?} is no interval; write 10s"))?;
            (ms, rest)
        }
    };
    match rest {
        ["on", node, "fails"] => {
            Ok(Event::WillFail(format!("{resource}_{task}_{interval}@{node}=1")))
        }
        ["on", node, "returns", code] => {
            let code: u8 =
                code.parse().map_err(|_| format!("{code:?} is no exit code; write 0 to 255"))?;
            Ok(Event::Result(format!("{resource}_{task}_{interval}@{node}={code}")))
        }
        _ => Err(format!(
            "after {task} comes: [INTERVAL] on NODE fails, or [INTERVAL] on NODE returns CODE"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_events_and_what_is_none_is_told_how() {
        assert_eq!(parse("node n1 fails"), Ok(Event::Fails("n1".into())));
        assert_eq!(parse(" ticket  T revoked"), Ok(Event::Revoked("T".into())));
        assert_eq!(parse("quorum lost"), Ok(Event::Quorum(false)));
        let failed = Event::Result("web_monitor_10000@n1=7".into());
        assert_eq!(parse("web monitor 10s on n1 returns 7"), Ok(failed));
        assert_eq!(parse("web start on n2 fails"), Ok(Event::WillFail("web_start_0@n2=1".into())));
        for none in
            ["", "node n1", "web start", "web start on n2 returns x", "web monitor x on n1 fails"]
        {
            assert!(parse(none).is_err(), "{none}");
        }
    }
}
