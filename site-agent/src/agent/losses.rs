//! Tickets that this site loses at the same moment: a lease that ends ends for all of them.
//!
//! One alarm names the first of them and counts the rest. An alarm for each of ten thousand would
//! push every other alarm out of the list and take the time in which their resources have to stop.

use std::collections::BTreeMap;

use tierce_ticket::limits::TICKETS_NAMED_IN_ALARMS;

#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    names: Vec<String>,
    more: usize,
}

/// What was lost since it was told last, by reason.
#[derive(Debug, Default)]
pub(super) struct Losses {
    lost: BTreeMap<String, Lost>,
}

impl Losses {
    pub(super) fn add(&mut self, why: String, name: &str) {
        let lost = self.lost.entry(why).or_default();
        if lost.names.len() < TICKETS_NAMED_IN_ALARMS {
            lost.names.push(name.to_owned());
        } else {
            lost.more += 1;
        }
    }

    /// For each reason: a short word for a file's name, and the alarm.
    pub(super) fn take(&mut self) -> Vec<(String, String)> {
        let told = std::mem::take(&mut self.lost).into_iter().map(|(why, lost)| {
            let word = match &lost.names[..] {
                [one] => format!("lost-{one}"),
                _ => "lost-several".to_owned(),
            };
            let names = lost.names.join(", ");
            let more =
                if lost.more > 0 { format!(" and {} more", lost.more) } else { String::new() };
            (word, format!("resources of {names}{more} stop: {why}"))
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_is_told_with_its_name_and_many_with_their_number() {
        let mut losses = Losses::default();
        losses.add("the lease ends".to_owned(), "web");
        let one = ("lost-web".to_owned(), "resources of web stop: the lease ends".to_owned());
        assert_eq!(losses.take(), [one]);
        assert_eq!(losses.take(), [], "each is told once");

        for n in 0..10_000 {
            losses.add("the lease ends".to_owned(), &format!("t{n}"));
        }
        losses.add("not ours".to_owned(), "web");
        let told = losses.take();
        assert_eq!(told.len(), 2, "one for each reason");
        let text = "resources of t0, t1, t2, t3, t4, t5, t6, t7 and 9992 more stop: the lease ends";
        assert!(told.contains(&("lost-several".to_owned(), text.to_owned())), "{told:?}");
    }
}
