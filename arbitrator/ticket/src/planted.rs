//! Bugs that tests plant, each breaking one rule or inequality of docs/protocol.md at the place
//! where the code keeps it. Model checker, simulator and nemesis must find every one of them, or they
//! prove nothing (`tests/mutants`, docs/safety.md).
//!
//! Without the feature `planted` the answer to [`is_planted`] is "no" when the code is compiled: the
//! programs that people run contain nothing of this. The switch is one for the whole process,
//! because a test of a planted bug is a process of its own.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal breaks $rule:literal;)+) => {
        /// One bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Bug { $($(#[doc = $doc])+ $name,)+ }

        impl Bug {
            /// All of them, in the order of the rules.
            pub const ALL: &[Bug] = &[$(Bug::$name,)+];

            /// Its name on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Bug::$name => $word,)+ }
            }
            /// The rule or inequality that it breaks, as docs/protocol.md counts them.
            pub fn rule(self) -> &'static str {
                match self { $(Bug::$name => $rule,)+ }
            }
            /// What it does.
            pub fn words(self) -> &'static str {
                match self { $(Bug::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    /// A voter answers a renewal and does not set its timer.
    PromiseNotKept = "promise-not-kept" breaks "R1";
    /// A voter promises a T that is larger than any that is durable.
    PromisedBeforeDurable = "promised-before-durable" breaks "R1";
    /// A voter votes while its timer still runs.
    VotesEarly = "votes-early" breaks "R2";
    /// A vote leaves before it is durable.
    VoteHeardFirst = "vote-heard-first" breaks "R2";
    /// A voter promises a session that it has voted to fence.
    PromiseAfterVote = "promise-after-vote" breaks "R3";
    /// A vote is written down without the docket under which it was given.
    VoteWithoutDocket = "vote-without-docket" breaks "R3";
    /// A restarted voter votes at once.
    NoQuarantine = "no-quarantine" breaks "R4";
    /// An older copy of a store takes part.
    OlderStoreTakesPart = "older-store-takes-part" breaks "R5";
    /// A store that was admitted over a standing connection is not looked after until the next one.
    AdmittedUnseen = "admitted-unseen" breaks "R5";
    /// A copy that was found out does not know it any more after its next start.
    FoundOutForgotten = "found-out-forgotten" breaks "R5";
    /// What a member said before its store was lost counts against the store that came after it.
    LateWordsCount = "late-words-count" breaks "R5";
    /// A failed write counts as done.
    WriteErrorIgnored = "write-error-ignored" breaks "R6";
    /// A member votes for each who asks, in the same ballot.
    TwoVotesInABallot = "two-votes-in-a-ballot" breaks "R7";
    /// A candidate whose log lacks committed entries is voted for.
    ShortLogElected = "short-log-elected" breaks "R7";
    /// An entry of an older ballot becomes final by being counted.
    OlderBallotCounted = "older-ballot-counted" breaks "R7";
    /// What the leader alone has is final.
    LeaderAloneCommits = "leader-alone-commits" breaks "R7";
    /// Entries are taken although those before them differ.
    GapAppended = "gap-appended" breaks "R7";
    /// A leader answers a read without asking whether it still leads.
    ReadAtOnce = "read-at-once" breaks "R7";
    /// A leader that hears nobody goes on leading.
    DeafLeaderStays = "deaf-leader-stays" breaks "R7";
    /// Whoever hears no leader opens a ballot without asking first.
    NoPreVote = "no-pre-vote" breaks "R7";
    /// A majority of the founders is enough for the first leader.
    FoundedByAMajority = "founded-by-a-majority" breaks "R7";
    /// One fence vote is enough to expire a session.
    OneVoteExpires = "one-vote-expires" breaks "R8";
    /// A ticket is granted while it has a holder.
    GrantedWhileHeld = "granted-while-held" breaks "R9";
    /// A session's expiry is decided first, the grants that follow from it afterwards.
    ExpiryAlone = "expiry-alone" breaks "R10";
    /// Voters change again at once.
    VotersChangeAtOnce = "voters-change-at-once" breaks "R11";
    /// Voters change again before the last change is committed.
    TwoChangesOpen = "two-changes-open" breaks "R11";
    /// A lease counts from when its answer came, not from when it was asked for.
    CountedFromReceipt = "counted-from-receipt" breaks "R12";
    /// The lease of one voter is enough.
    OneAnswerIsEnough = "one-answer-is-enough" breaks "R12";
    /// Leases are counted over the voters that the holder knows, whatever answers say.
    NewerVotersIgnored = "newer-voters-ignored" breaks "R12";
    /// A configuration that was overtaken before it was final is waited for, for good.
    OvertakenAwaited = "overtaken-awaited" breaks "R12";
    /// What was taken back is named no more once that is final, though its site may not know.
    TakenForgotten = "taken-forgotten" breaks "R3";
    /// What is being taken back is started again while the site's own log does not show it.
    TakenStarted = "taken-started" breaks "R13";
    /// A site runs what it is only named as the successor for.
    RunsWhenNamed = "runs-when-named" breaks "R13";
    /// A site runs on when its lease ends.
    RunsOn = "runs-on" breaks "R14";
    /// The guard is told of a later deadline.
    GuardToldLate = "guard-told-late" breaks "R14";
    /// A node renews although it cannot stop things.
    RenewsUnable = "renews-unable" breaks "R15";
    /// The time left at the coordinator counts in full on a node's own clock.
    DelegatedUnscaled = "delegated-unscaled" breaks "R16";
    /// A ticket is released when it is told to stop, not when it has stopped.
    ReleasedRunning = "released-running" breaks "R17";
    /// A term whose release was asked for runs again when the handover is called off.
    ReleasedRunsAgain = "released-runs-again" breaks "R17";
    /// The runner is told another term than the granted one.
    OtherTermTold = "other-term-told" breaks "R18";
    /// Answers do not name tickets that are being taken back.
    TakeBackNotNamed = "take-back-not-named" breaks "take-back";
    /// A ticket being taken back is fenced without waiting T from when it was named.
    TakeBackAtOnce = "take-back-at-once" breaks "take-back";
    /// A session that supersedes another does not count as promised from its opening.
    OpeningNotPromised = "opening-not-promised" breaks "supersession";
    /// A lapse is proof enough where the policy asks for a device's.
    LapseIsProof = "lapse-is-proof" breaks "fence proof";
    /// The clock audit finds nothing.
    AuditBlind = "audit-blind" breaks "clock audit";
    /// The holder takes T as its own time, not scaled by the clocks' bound.
    HolderTimeUnscaled = "holder-time-unscaled" breaks "I1";
    /// A configuration in which stopping does not fit into the lease is accepted.
    StopDoesNotFit = "stop-does-not-fit" breaks "I2";
    /// A configuration in which lost renewals cost the lease is accepted.
    LossesDoNotFit = "losses-do-not-fit" breaks "I3";
    /// A configuration whose elections outlast the promises is accepted.
    ElectionDoesNotFit = "election-does-not-fit" breaks "I5";
}

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    /// 0: none; else the number of the bug and one.
    static PLANTED: AtomicU8 = AtomicU8::new(0);

    /// Plants this bug, and takes out the one before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |b| b as u8 + 1), Ordering::SeqCst);
    }

    pub(super) fn is(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as u8 + 1
    }
}
#[cfg(feature = "planted")]
pub use switch::plant;

/// Whether this bug is planted now.
#[inline]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    #[cfg(feature = "planted")]
    return switch::is(bug);
    #[cfg(not(feature = "planted"))]
    {
        let _ = bug;
        false
    }
}
