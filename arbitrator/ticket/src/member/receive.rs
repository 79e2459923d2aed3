//! Messages in: checked against the sender's certificate and place, then handed to the part concerned.

use super::{Member, Outgoing, Standing};
use crate::durable::Record;
use crate::entry::{FenceTarget, FenceVote};
use crate::ids::{ClusterId, MemberId, MemberName};
use crate::ledger::LedgerMessage;
use crate::limits;
use crate::message::{Answer, Envelope, Lane, Message, Refused, Renew, Verdict};
use crate::planted::{Bug, is_planted};
use crate::time::Now;

impl Member {
    pub(super) fn receive(&mut self, now: Now, from: &MemberName, envelope: Envelope) {
        let Envelope { cluster, from: id, age, message } = envelope;
        // What came of an opening that no hello told of could not be held against an older copy later, so
        // nothing may rest on it: it counts as lost.
        let hello = self.peers.get(from).and_then(|p| p.hello.as_ref());
        let early = hello.is_some_and(|h| age.opened > h.opened);
        if early && !matches!(message, Message::Hello(_)) {
            return;
        }
        self.sight(now, from, id, age);
        match message {
            Message::Hello(hello) => {
                return self.hello(now, from, cluster, id, age.written, &hello);
            }
            Message::Founding(c) => return self.founding(now, from, &c),
            Message::Admitted { you, snapshot } => {
                return self.admitted(now, cluster, you, snapshot);
            }
            Message::Ledger(LedgerMessage::SnapshotPart(part)) if self.formed.is_none() => {
                return self.admitted_part(now, from, cluster, *part);
            }
            Message::Ledger(LedgerMessage::SnapshotReply { last_index, offset, .. })
                if cluster == ClusterId::default() =>
            {
                return self.learner_wants(now, from, last_index, offset);
            }
            _ => {}
        }
        let Some(f) = &mut self.formed else { return };
        if cluster != f.cluster || self.standing != Standing::TakingPart {
            if let Message::Renew(renew) = message {
                self.refuse(now, from, renew);
            }
            return;
        }
        let known = f.ledger.configuration().0.member(id);
        match known {
            Some(m) if m.name != *from => return,
            // A leader may be newer than this member's configuration; its ledger messages count.
            None if !matches!(message, Message::Ledger(_)) => return,
            _ => {}
        }
        if self.names.len() < 4 * limits::MAX_VOTERS {
            self.names.insert(id, from.clone());
        }
        match message {
            Message::Ledger(m) => f.ledger.receive(now.voter, id, m),
            Message::Renew(renew) => {
                let answer = self.answer(now, from, renew);
                self.send(from, Lane::Datagram, Message::Answer(answer), false);
            }
            Message::Answer(answer) => {
                if let Some(h) = &mut f.holder {
                    h.answered(now.holder, id, &answer);
                }
            }
            Message::FenceRequest { target, device_proof } => {
                self.fence_request(now, from, id, target, device_proof);
            }
            Message::FenceReply { vote, .. } => {
                if let Some(vote) = vote {
                    f.steward.reply(id, vote);
                }
            }
            Message::Command { request, command } => self.peer_command(now, from, request, command),
            Message::CommandDone { request, outcome } => self.command_done(now, request, outcome),
            Message::Readiness(report) => f.steward.readiness(from.clone(), report),
            Message::Hello(_) | Message::Founding(_) | Message::Admitted { .. } => {}
        }
    }

    /// R1, with the checks that are not the promises' own: only the session's own site may renew.
    pub(super) fn answer(&mut self, now: Now, from: &MemberName, renew: Renew) -> Answer {
        let refuse = |why| Answer {
            session: renew.session,
            seq: renew.seq,
            clock: now.voter,
            verdict: Verdict::Refused(why),
        };
        let Some(f) = &mut self.formed else { return refuse(Refused::NotReady) };
        if f.docket.session(renew.session).is_some_and(|s| s.site != *from) {
            return refuse(Refused::UnknownSession);
        }
        let (configuration, index) = f.ledger.configuration();
        let promise = configuration.timing.promise;
        f.promises.renew(now.voter, renew, &f.docket, index, promise)
    }

    pub(super) fn refuse(&mut self, now: Now, from: &MemberName, renew: Renew) {
        let answer = Answer {
            session: renew.session,
            seq: renew.seq,
            clock: now.voter,
            verdict: Verdict::Refused(Refused::NotReady),
        };
        self.send(from, Lane::Datagram, Message::Answer(answer), false);
    }

    pub(super) fn fence_request(
        &mut self,
        now: Now,
        from: &MemberName,
        id: MemberId,
        target: FenceTarget,
        device_proof: bool,
    ) {
        let Some(f) = &mut self.formed else { return };
        let vote = match f.promises.vote_on(target) {
            Some(vote) => Some(vote),
            None if f.promises.may_fence(now.voter, target, device_proof, &f.docket) => {
                let vote = f.promises.fence(now.voter, target, device_proof, &f.docket);
                self.write_vote(now, vote);
                Some(vote)
            }
            None => {
                f.promises.remember_request(target, id, device_proof);
                None
            }
        };
        let free_at = self.promises().map(|p| p.free_at(target));
        let wait = free_at.filter(|_| vote.is_none()).map(|t| t.since(now.voter));
        let sworn = !is_planted(Bug::VoteHeardFirst);
        self.send(from, Lane::Stream, Message::FenceReply { target, vote, wait }, sworn);
    }

    /// Writes a vote down together with how far the docket had come under which it was given. Else this
    /// member might stand before that after a restart, see a session open again that the fenced one
    /// had superseded, and promise it (R3; found by `tests/model`, scope restart-on-ledger).
    pub(super) fn write_vote(&mut self, now: Now, vote: FenceVote) {
        if !is_planted(Bug::VoteWithoutDocket) {
            if let Some(f) = &mut self.formed {
                f.ledger.note_commit(now.voter);
            }
            self.carry_out_ledger(now);
        }
        self.records.push(Record::Fence(vote));
    }

    /// Puts a message into the outbox; `needs_persist`: it tells of something that must be durable.
    pub(super) fn send(
        &mut self,
        to: &MemberName,
        lane: Lane,
        message: Message,
        needs_persist: bool,
    ) {
        self.outbox.push(Outgoing { to: to.clone(), lane, message, needs_persist });
    }

    pub(super) fn name_of(&self, id: MemberId) -> Option<MemberName> {
        let f = self.formed.as_ref()?;
        let known = f.ledger.configuration().0.member(id).map(|m| m.name.clone());
        known.or_else(|| self.names.get(&id).cloned())
    }

    /// Tells every voter (or the one named) how ready this site is.
    pub(super) fn tell_readiness(&mut self, only: Option<&MemberName>) {
        let Some(report) = self.readiness.clone() else { return };
        let Some(f) = &mut self.formed else { return };
        f.steward.readiness(self.settings.name.clone(), report.clone());
        let others: Vec<MemberName> = f
            .ledger
            .configuration()
            .0
            .voters
            .values()
            .map(|m| m.name.clone())
            .filter(|n| *n != self.settings.name && only.is_none_or(|o| o == n))
            .collect();
        for to in others {
            self.send(&to, Lane::Stream, Message::Readiness(report.clone()), false);
        }
    }
}
