//! Planted bugs: each breaks one rule where the model hands things to the real code. The model must
//! find every one of them, or it proves nothing.

use crate::scopes::AnyScope;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal in $scope:literal, $rule:literal;)+) => {
        /// One planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant { $($(#[doc = $doc])+ $name,)+ }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];

            /// Its name on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Mutant::$name => $word,)+ }
            }
            /// The rule that it breaks.
            pub fn rule(self) -> &'static str {
                match self { $(Mutant::$name => $rule,)+ }
            }
            /// The scope that has to find it.
            pub fn scope(self) -> &'static str {
                match self { $(Mutant::$name => $scope,)+ }
            }
            /// What it does.
            pub fn words(self) -> &'static str {
                match self { $(Mutant::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

mutants! {
    /// The holder counts T as its own time, not scaled by the clocks' bound.
    HolderTimeUnscaled = "holder-time-unscaled" in "lapse", "I1";
    /// The holder counts from when the answer came, not from when it asked.
    CountedFromReceipt = "counted-from-receipt" in "network", "R12";
    /// A clock is slower than the bound allows (not a bug: the assumption itself).
    ClockBeyondBound = "clock-beyond-bound" in "lapse", "I1";
    /// The guard sleeps while the agent is frozen.
    GuardFrozenToo = "guard-frozen-too" in "pause", "R14";
    /// A restarted voter votes at once.
    NoQuarantine = "no-quarantine" in "restart", "R2, R4";
    /// A restarted voter has forgotten its votes.
    VotesForgotten = "votes-forgotten" in "restart", "R3";
    /// The quarantine is the present T, not the largest ever promised.
    PresentQuarantine = "present-quarantine" in "timing", "R1, R2";
    /// The leader puts in a vote that was never given.
    ForgedVote = "forged-vote" in "lapse", "R8";
    /// A restored older disk takes part.
    OldDiskTakesPart = "old-disk-takes-part" in "disks", "R5";
    /// A wiped voter comes back under its old number.
    WipedKeepsNumber = "wiped-keeps-number" in "disks", "R5";
    /// Stopping is confirmed when it is ordered, not when it is done.
    ConfirmedTooEarly = "confirmed-too-early" in "planned-move", "R17";
    /// Answers do not name tickets that are being taken back.
    NotNamed = "not-named" in "take-back", "One ticket of a live session";
    /// A vote on one ticket is given without waiting T after it was first named.
    NamedTooShortly = "named-too-shortly" in "take-back", "One ticket of a live session";
    /// The guard extends a pinned ticket with all others.
    PinIgnored = "pin-ignored" in "take-back", "PINNED";
    /// A voter does not count a new session as promised from its opening.
    OpeningNotPromised = "opening-not-promised" in "coordinator", "A session that a minority has fenced";
    /// Power-off is reported of a node that runs.
    FalseProof = "false-proof" in "device-proof", "R2";
    /// Voters change again without waiting T.
    ChangeAtOnce = "change-at-once" in "voters", "R11";
    /// Answers do not name the newest configuration.
    ConfigurationNotNamed = "configuration-not-named" in "voters", "R12";
    /// Two voters change in one step.
    TwoAtOnce = "two-at-once" in "voters", "R11";
    /// A node counts the time left from when the answer came.
    DelegatedFromArrival = "delegated-from-arrival" in "delegation", "R16";
    /// A vote in an election leaves before it is durable.
    BallotVoteHeardFirst = "ballot-vote-heard-first" in "ledger-votes", "DURABLE FIRST";
    /// A follower's word that it has entries leaves before they are durable.
    AppendAnsweredFirst = "append-answered-first" in "ledger-crash", "DURABLE FIRST";
    /// Records are reported as durable when they are written.
    WrittenIsDurable = "written-is-durable" in "ledger-crash", "R6";
    /// A restarted member has forgotten whom it voted for.
    BallotVoteForgotten = "ballot-vote-forgotten" in "ledger-votes", "R7";
    /// The disk takes records in another order than they came.
    JournalReordered = "journal-reordered" in "ledger-crash", "R6";
    /// An answer to an older question is taken for one to the newest.
    AnswerPairedWrong = "answer-paired-wrong" in "ledger-read", "R7";
    /// A snapshot holds the state before the entry that it names.
    SnapshotOfLess = "snapshot-of-less" in "ledger-snapshot", "R7";
    /// A restarted voter's docket is older than the one under which it voted: it promises a session
    /// that the one it fenced had superseded.
    DocketBehindVote = "docket-behind-vote" in "restart-on-ledger", "R3";
}

impl Mutant {
    /// By its name on the command line.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.word() == word)
    }
    /// The scope that has to find it.
    ///
    /// # Panics
    /// When the table names a scope that is not there.
    pub fn home(self) -> AnyScope {
        AnyScope::named(self.scope()).expect("the table names scopes that exist")
    }
}
