//! Hostile input: messages between members in both versions, and lines of the control socket.
//!
//! As tests these run for a moment each; `docs/evidence/fuzz.md` tells how to run them for long.

mod common;

use common::{envelope, samples};
use tierce_tests::fuzz;
use tierce_tests::memory::{Counting, peak};
use tierce_ticket::durable::Age;
use tierce_ticket::entry::{Entry, Op, Payload, SiteState};
use tierce_ticket::ids::{
    Ballot, ClusterId, ConfigIndex, Incarnation, LogIndex, MemberId, SessionId, StoreId, TicketId,
};
use tierce_ticket::ledger::{Append, LedgerMessage, Round};
use tierce_ticket::message::{Envelope, Hello, Message, Readiness, TicketReadiness};
use tierce_wire::control::{
    AlarmView, Ask, DecisionView, ErrorView, PolicyView, Reply, Request, StatusView, TenantView,
    TicketView,
};
use tierce_wire::{MAX_MESSAGE_BYTES, Version, decode, encode};

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a message may take in memory while it is decoded, beside a fixed share: a name of one
/// letter is two bytes on the wire, and two counts, a pointer and a place in a growing list here.
const MEMORY_PER_BYTE: usize = 64;
const MEMORY_FIXED: usize = 64 << 10;

fn entry(index: u64, ops: Vec<Op>) -> Entry {
    let payload = Payload::Batch(ops);
    Entry { index: LogIndex(index), ballot: Ballot(1), wall_ms: 1, payload }
}

fn append(entries: Vec<Entry>) -> Message {
    Message::Ledger(LedgerMessage::Append(Append {
        ballot: Ballot(1),
        prev_index: LogIndex(0),
        prev_ballot: Ballot(0),
        entries,
        commit: LogIndex(1),
        round: Round(1),
    }))
}

fn readiness(tickets: Vec<(TicketId, TicketReadiness)>) -> Message {
    Message::Readiness(Readiness { session: SessionId(4), not_ready: None, tickets })
}

/// All messages of the golden tests, and those with lists in lists.
fn messages() -> Vec<Vec<u8>> {
    let mut all = samples();
    let site = || "paris".parse().expect("a name");
    let ops = vec![
        Op::OpenSession { site: site(), incarnation: Incarnation::default(), supersedes: None },
        Op::CloseSession { session: SessionId(4) },
        Op::Expire { session: SessionId(4), votes: vec![] },
        Op::DeclareSite { site: site(), state: SiteState::default(), note: "a note".to_owned() },
    ];
    all.push(append(vec![entry(1, ops.clone()), entry(2, ops)]));
    all.push(Message::Hello(Hello {
        role: tierce_ticket::configuration::Role::Site,
        store: StoreId([1; 16]),
        opened: 3,
        boot: Incarnation::default(),
        digest: [2; 16],
        config_index: ConfigIndex::default(),
        wall_ms: 1,
        reply: None,
    }));
    let blocked = TicketReadiness { blocked: Some("no disk".to_owned()), lag: None };
    all.push(readiness(vec![(TicketId(1), blocked)]));
    let both = |m: &Message| {
        [Version::V1, Version::V2].map(|v| encode(v, 7, &envelope(m.clone())).expect("encodes"))
    };
    all.iter().flat_map(both).collect()
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    let samples = messages();
    bolero::check!().for_each(|bytes: &[u8]| {
        for input in fuzz::inputs(&samples, bytes) {
            let (decoded, held) = peak(|| decode(&input));
            let allowed = MEMORY_PER_BYTE * input.len() + MEMORY_FIXED;
            assert!(held <= allowed, "{held} bytes held for {} bytes", input.len());
            let Ok(decoded) = decoded else { continue };
            let again = encode(decoded.version, decoded.hlc, &decoded.envelope);
            let again = again.expect("what decodes encodes");
            assert_eq!(decode(&again).as_ref(), Ok(&decoded));
        }
    });
}

/// The worst that a member can send: as many of the smallest things as a frame takes.
#[test]
fn a_message_of_very_many_small_operations_takes_no_more_memory_than_an_honest_one() {
    let many = 1_000_000;
    let ops = vec![Op::CloseSession { session: SessionId(1) }; many];
    let short = |n: usize| -> Vec<Entry> {
        (0..n as u64).map(|i| entry(i, vec![Op::CloseSession { session: SessionId(1) }])).collect()
    };
    for (what, message) in [
        ("one batch", append(vec![entry(1, ops.clone())])),
        ("many batches", append((0..60).map(|i| entry(i, ops[..30_000].to_vec())).collect())),
        ("many entries", append(short(many / 4))),
        ("readiness", readiness(vec![(TicketId(1), TicketReadiness::default()); many])),
    ] {
        let envelope = Envelope {
            cluster: ClusterId([1; 16]),
            from: MemberId(1),
            age: Age { opened: 2, written: 5 },
            message,
        };
        let bytes = encode(Version::V2, 1, &envelope).expect("it fits a frame");
        assert!(bytes.len() > 1_000_000 && bytes.len() <= MAX_MESSAGE_BYTES, "{what}");
        let (decoded, held) = peak(|| decode(&bytes));
        eprintln!("{what}: {} bytes, {held} held", bytes.len());
        assert!(decoded.is_err(), "{what} was taken");
        assert!(held < 32 << 20, "{what}: {held} bytes held for {} bytes", bytes.len());
    }
}

fn lines() -> Vec<Vec<u8>> {
    let ask = |ask| serde_json::to_vec(&Request { api_version: "tierce/v1".to_owned(), ask });
    let name = || "web".to_owned();
    let requests = [
        Ask::Status { linear: true },
        Ask::Grant { name: name(), to: "paris".to_owned(), wait_ms: 1 },
        Ask::SetTicket { name: name(), policy: PolicyView::default() },
        Ask::SetAttribute { site: name(), ticket: None, name: name(), value: Some(name()) },
        Ask::Reload,
    ];
    let replies = [
        Reply::Progress { text: name() },
        Reply::Done { text: name(), term: Some(1), index: None, took_ms: 4 },
        Reply::Status(Box::new(StatusView {
            alarms: vec![AlarmView::default()],
            tickets: vec![TicketView::default()],
            ..StatusView::default()
        })),
        Reply::History { decisions: vec![DecisionView::default()] },
        Reply::Tenants { tenants: vec![TenantView::default()] },
        Reply::Error(ErrorView {
            code: 64,
            error: name(),
            effect: name(),
            inspect: name(),
            safer: name(),
        }),
    ];
    let replies = replies.iter().map(serde_json::to_vec);
    requests.map(ask).into_iter().chain(replies).map(|l| l.expect("JSON")).collect()
}

#[test]
fn any_line_is_a_request_or_an_error_and_so_are_replies() {
    let samples = lines();
    bolero::check!().for_each(|bytes: &[u8]| {
        for line in fuzz::inputs(&samples, bytes) {
            if let Ok(request) = serde_json::from_slice::<Request>(&line) {
                let again = serde_json::to_vec(&request).expect("JSON");
                assert_eq!(serde_json::from_slice::<Request>(&again).expect("read"), request);
            }
            if let Ok(reply) = serde_json::from_slice::<Reply>(&line) {
                let again = serde_json::to_vec(&reply).expect("JSON");
                assert_eq!(serde_json::from_slice::<Reply>(&again).expect("read"), reply);
            }
        }
    });
}
