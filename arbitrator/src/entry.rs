//! One tenant's entry: its member, its condition, its reasons.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use tierce_link::CertInfo;
use tierce_member::{MemberHandle, StatsView};

use crate::layout::Quota;
use crate::limits::{MAX_ALARMS, MAX_REASON_BYTES, RETRY_AFRESH, RETRY_FIRST, RETRY_LONGEST};
use crate::upkeep::Stamp;

/// What an alarm leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) at: SystemTime,
    pub(crate) text: String,
}

/// Why a tenant is not served, and what could change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The disk failed under it or is full: tried again by itself, as soon as there is room.
    Disk,
    /// Its certificate or folder: tried again when the files change.
    Files,
    /// Its store is over twice its quota: until the operator gives it more.
    Quota,
    /// Anything else: until the operator asks for it.
    Other,
}

/// A tenant's condition.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Its member runs.
    Serving,
    /// It does not, for this reason.
    Stopped { cause: Cause, why: String },
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) generation: u64,
    pub(crate) condition: Condition,
    pub(crate) member: Option<MemberHandle>,
    pub(crate) certificate: Option<CertInfo>,
    pub(crate) quota: Quota,
    /// The files as they were when last read.
    pub(crate) files: Stamp,
    pub(crate) store_bytes: u64,
    pub(crate) over_quota: Option<String>,
    /// The cluster has said that it does not know this store, in words.
    pub(crate) stranger: Option<String>,
    pub(crate) alarms: VecDeque<Noted>,
    pub(crate) alarms_total: u64,
    /// Counters of earlier members of this process, so that sums only grow.
    pub(crate) before: StatsView,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) retry_wait: Duration,
    pub(crate) served_since: Option<Instant>,
    pub(crate) renew_at: Option<Instant>,
}

impl Entry {
    pub(crate) fn new() -> Self {
        Self {
            generation: 0,
            condition: Condition::Stopped { cause: Cause::Other, why: "starting".to_owned() },
            member: None,
            certificate: None,
            quota: Quota::default(),
            files: Stamp::default(),
            store_bytes: 0,
            over_quota: None,
            stranger: None,
            alarms: VecDeque::new(),
            alarms_total: 0,
            before: StatsView::default(),
            retry_at: None,
            retry_wait: RETRY_FIRST,
            served_since: None,
            renew_at: None,
        }
    }

    /// Counters of this and earlier members.
    pub(crate) fn stats(&self) -> StatsView {
        let now = self.member.as_ref().map(MemberHandle::stats).unwrap_or_default();
        let b = self.before;
        StatsView {
            messages_in: b.messages_in + now.messages_in,
            messages_out: b.messages_out + now.messages_out,
            malformed: b.malformed + now.malformed,
            unsent: b.unsent + now.unsent,
            renewals_answered: b.renewals_answered + now.renewals_answered,
            persists: b.persists + now.persists,
            persist_us: now.persist_us,
            steps: b.steps + now.steps,
        }
    }

    /// The member is gone; what it counted stays.
    pub(crate) fn forget_member(&mut self) -> Option<MemberHandle> {
        self.before = self.stats();
        self.generation += 1;
        self.member.take()
    }

    pub(crate) fn stopped(&mut self, cause: Cause, why: &str) {
        let served = self.served_since.take().map(|since| since.elapsed());
        if served.is_some_and(|served| served >= RETRY_AFRESH) {
            self.retry_wait = RETRY_FIRST;
        }
        if cause == Cause::Disk {
            self.try_later();
        } else {
            self.retry_at = None;
        }
        self.condition = Condition::Stopped { cause, why: short(why) };
    }

    fn try_later(&mut self) {
        self.retry_at = Some(Instant::now() + self.retry_wait);
        self.retry_wait = (self.retry_wait * 2).min(RETRY_LONGEST);
    }

    /// The store of a member that ended by its own failure is still open in this process: the
    /// first reason is the one to read. A slow disk gives it back after a while.
    pub(crate) fn still_held(&mut self) {
        if let Condition::Stopped { why, .. } = &mut self.condition
            && !why.ends_with(STILL_HELD)
        {
            *why = short(&format!("{why}; {STILL_HELD}"));
        }
        self.try_later();
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.alarms_total += 1;
        self.alarms.push_front(Noted { at: SystemTime::now(), text: short(text) });
        self.alarms.truncate(MAX_ALARMS);
    }
}

/// What is added to the reason then.
pub(crate) const STILL_HELD: &str =
    "this process still holds the failed store and tries again; if this stays, restart the daemon";

/// One line of bounded length.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut = line
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|end| *end <= MAX_REASON_BYTES);
    let end = cut.last().unwrap_or(0);
    line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_line_and_bounded() {
        assert_eq!(short("a\nb\tc"), "a b c");
        let long = "ä".repeat(MAX_REASON_BYTES);
        assert_eq!(short(&long).len(), MAX_REASON_BYTES);
    }

    #[test]
    fn a_failing_disk_is_tried_again_ever_later_and_a_damaged_store_is_not() {
        let mut entry = Entry::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(entry.retry_wait);
            entry.stopped(Cause::Disk, "full");
            assert!(entry.retry_at.is_some());
        }
        assert_eq!(waits[0], RETRY_FIRST);
        assert!(waits.windows(2).all(|w| w[1] >= w[0]));
        assert_eq!(entry.retry_wait, RETRY_LONGEST);
        entry.stopped(Cause::Other, "damaged");
        assert!(entry.retry_at.is_none());
    }

    #[test]
    fn a_tenant_that_was_served_for_a_while_is_tried_again_soon() {
        let mut entry = Entry::new();
        (0..8).for_each(|_| entry.stopped(Cause::Disk, "full"));
        entry.served_since = Some(Instant::now());
        entry.stopped(Cause::Disk, "full again at once");
        assert_eq!(entry.retry_wait, RETRY_LONGEST);
        entry.served_since = Instant::now().checked_sub(RETRY_AFRESH);
        entry.stopped(Cause::Disk, "full again after a while");
        assert_eq!(entry.retry_wait, RETRY_FIRST * 2);
        // Attempts that fail were not served.
        entry.stopped(Cause::Disk, "still full");
        assert_eq!(entry.retry_wait, RETRY_FIRST * 4);
    }

    #[test]
    fn a_store_that_is_still_open_here_is_tried_again() {
        let mut entry = Entry::new();
        entry.stopped(Cause::Disk, "full");
        for _ in 0..3 {
            entry.retry_at = None;
            entry.still_held();
            assert!(entry.retry_at.is_some());
        }
        let why = format!("full; {STILL_HELD}");
        assert!(matches!(entry.condition, Condition::Stopped { why: w, .. } if w == why));
    }

    #[test]
    fn alarms_are_counted_and_only_the_newest_are_kept() {
        let mut entry = Entry::new();
        for n in 0..20 {
            entry.note(&format!("alarm {n}"));
        }
        assert_eq!(entry.alarms.len(), MAX_ALARMS);
        assert_eq!(entry.alarms[0].text, "alarm 19");
        assert_eq!(entry.alarms_total, 20);
    }
}
