//! Events, effects and members in one line each.

use tierce_ticket::holder::Holder;
use tierce_ticket::member::{Effect, Input, Member, Standing};
use tierce_ticket::message::Message;
use tierce_ticket::replay::What;
use tierce_ticket::time::Now;

/// A line is cut there; `e` and `S` show everything.
const WIDTH: usize = 300;

/// What happened.
pub(super) fn input_words(what: &What) -> String {
    let words = match what {
        What::Start { settings, records } => format!(
            "starts as {} with {} records; {} of its store",
            settings.role,
            records.len(),
            settings.age
        ),
        What::End => "ends".to_owned(),
        What::Input(Input::Received { from, envelope }) => {
            format!("from {from}: {}", message_words(&envelope.message))
        }
        What::Input(input) => format!("{input:?}"),
    };
    cut(words)
}

/// What followed.
pub(super) fn effect_words(effect: &Effect) -> String {
    let words = match effect {
        Effect::Send { to, envelope, after, .. } => {
            let waits = after.map(|id| format!(" (after write {id})")).unwrap_or_default();
            format!("to {to}{waits}: {}", message_words(&envelope.message))
        }
        Effect::Persist { id, records } => format!("writes {id}: {records:?}"),
        Effect::Checkpoint { id, records } => {
            format!("writes {id}: everything anew, {} records", records.len())
        }
        Effect::Decided { index, events, .. } => format!("entry {index}: {events:?}"),
        Effect::Alarm(a) => format!("ALARM {a}"),
        other => format!("{other:?}"),
    };
    cut(words)
}

fn message_words(message: &Message) -> String {
    format!("{message:?}")
}

/// How a member is.
pub(super) fn state_words(member: Option<&Member>, now: Now) -> String {
    let Some(m) = member else { return "does not run".to_owned() };
    let standing = match m.standing() {
        Standing::Unformed => "no cluster yet".to_owned(),
        Standing::Confirming => "waits to be confirmed".to_owned(),
        Standing::TakingPart => "takes part".to_owned(),
        Standing::Out(why) => format!("OUT: {why}"),
    };
    let mut words = vec![standing];
    if let Some(l) = m.ledger() {
        words.push(format!("{:?} in ballot {}", l.role(), l.ballot()));
        words.push(format!("log to {}, final to {}", l.last_index(), l.commit()));
    }
    if let Some(d) = m.docket() {
        words.push(format!("applied to {}", d.applied()));
        for (id, s) in d.open_sessions() {
            let left = m.promises().map_or(0, |p| p.remaining(now.voter, id).as_millis());
            words.push(format!("session {id} of {} promised {left} ms more", s.site));
        }
        for t in d.tickets() {
            let holder = t.holder().map(|(_, site, term)| format!("{site}, term {term}"));
            words.push(format!("{} held by {}", t.name, holder.as_deref().unwrap_or("nobody")));
        }
    }
    if let Some(d) = m.holder().and_then(Holder::deadline_d) {
        words.push(format!("D in {} ms", d.since(now.holder).as_millis()));
    }
    words.join("; ")
}

fn cut(words: String) -> String {
    if words.chars().count() <= WIDTH {
        return words;
    }
    format!("{} ...", words.chars().take(WIDTH).collect::<String>())
}
