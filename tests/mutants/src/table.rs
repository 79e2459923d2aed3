//! Which finder has to find which planted bug. Where several do, the one whose words say best what
//! the rule prevents: two sites that run, a decision that is lost, a service that stands still.

use tierce_ticket::planted::Bug;

use crate::finder::Finder;

/// The finder of a bug.
pub(crate) fn finder(bug: Bug) -> Finder {
    use Finder::{Duty, Scope, Seeds};
    match bug {
        Bug::PromiseNotKept
        | Bug::VotesEarly
        | Bug::PromiseAfterVote
        | Bug::OneVoteExpires
        | Bug::OneAnswerIsEnough
        | Bug::RunsOn
        | Bug::GuardToldLate
        | Bug::HolderTimeUnscaled => Scope("lapse"),
        Bug::PromisedBeforeDurable => Duty("a larger T is durable before it is promised"),
        Bug::VoteHeardFirst => Duty("a vote that was heard outlives its voter"),
        Bug::VoteWithoutDocket => Duty("a restarted voter knows the docket of its vote"),
        Bug::NoQuarantine => Scope("restart"),
        Bug::AdmittedUnseen => Duty("an older copy of an admitted store stays out"),
        Bug::LateWordsCount => Duty("words from before a store was lost come late"),
        Bug::FoundOutForgotten => Duty("a copy that was found out stays out"),
        Bug::OlderStoreTakesPart => Duty("an older copy of a store stays out"),
        Bug::WriteErrorIgnored => Duty("a failed write ends the member"),
        Bug::TwoVotesInABallot | Bug::ShortLogElected | Bug::LeaderAloneCommits => {
            Scope("ledger-elections")
        }
        Bug::OlderBallotCounted => Duty("an older entry is not final by count"),
        Bug::GapAppended => Scope("ledger-fourth"),
        Bug::TwoChangesOpen => Duty("a second change waits for the first"),
        Bug::GrantedWhileHeld | Bug::OtherTermTold | Bug::LapseIsProof => Seeds,
        Bug::ReadAtOnce => Scope("ledger-read"),
        Bug::DeafLeaderStays => Duty("a leader that hears nobody steps down"),
        Bug::NoPreVote => Duty("one that comes back unseats nobody"),
        Bug::FoundedByAMajority => Duty("all founders found"),
        Bug::ExpiryAlone => Duty("the death of a site is one batch"),
        Bug::VotersChangeAtOnce => Duty("voters change one at a time, T apart"),
        Bug::NewerVotersIgnored => Scope("voters"),
        Bug::OvertakenAwaited => Duty("what never became final stops nobody"),
        Bug::CountedFromReceipt => Scope("network"),
        Bug::RunsWhenNamed | Bug::ReleasedRunning => Scope("planned-move"),
        Bug::RenewsUnable => Duty("a site that cannot stop things gives up"),
        Bug::DelegatedUnscaled => Duty("a node ends before its coordinator"),
        Bug::ReleasedRunsAgain => Scope("called-off"),
        Bug::TakenForgotten | Bug::TakenStarted => Scope("taken-unseen"),
        Bug::TakeBackNotNamed | Bug::TakeBackAtOnce => Scope("take-back"),
        Bug::OpeningNotPromised => Scope("coordinator"),
        Bug::AuditBlind => Duty("a paused guest distrusts its clock"),
        Bug::StopDoesNotFit => Duty("an accepted configuration lets a site stop"),
        Bug::LossesDoNotFit => Duty("an accepted configuration bears k losses"),
        Bug::ElectionDoesNotFit => Duty("an accepted configuration takes over within T"),
    }
}
