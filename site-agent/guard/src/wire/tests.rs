use super::*;
use tierce_tests::fuzz;

fn lease() -> Lease {
    Lease { stop_at: BootTime(3), deadline: BootTime(u64::MAX - 1) }
}

fn round(frame: &Frame) -> (u32, Request<'_>) {
    Request::decode(frame.bytes()).expect("decodes")
}

#[test]
fn every_request_survives_the_way_through_bytes() {
    assert_eq!(
        round(&Frame::hello(7, Role::Observer, 250)),
        (7, Request::Hello { role: Role::Observer, margin_ms: 250 })
    );
    assert_eq!(round(&Frame::arm_all(8, lease())), (8, Request::ArmAll(lease())));
    let entry = ArmEntry { ticket: Ticket(9), term: Term(1 << 40), lease: lease() };
    let frame = Frame::arm(1, &[entry; MAX_BATCH]).unwrap();
    let (_, Request::Arm(entries)) = round(&frame) else { panic!("arm") };
    assert_eq!(entries.iter().collect::<Vec<_>>(), vec![entry; MAX_BATCH]);
    let frame = Frame::disarm(1, &[(Ticket(4), Term(5))]).unwrap();
    let (_, Request::Disarm(entries)) = round(&frame) else { panic!("disarm") };
    assert_eq!(entries.iter().collect::<Vec<_>>(), [(Ticket(4), Term(5))]);
    let frame = Frame::set_stop(2, Ticket(4), &[b"/bin/sh", b"-c", b""]).unwrap();
    let words: &[u8] = b"/bin/sh\0-c\0\0";
    assert_eq!(round(&frame).1, Request::SetStop { ticket: Ticket(4), words });
    assert_eq!(round(&Frame::pin(2, Ticket(4), Term(6))).1, Request::Pin(Ticket(4), Term(6)));
    let frame = Frame::set_groups(2, Ticket(4), &[77, -1]).unwrap();
    let (_, Request::SetGroups { groups, .. }) = round(&frame) else { panic!("groups") };
    assert_eq!(groups.iter().collect::<Vec<_>>(), [77, -1]);
    assert_eq!(round(&Frame::status(3)).1, Request::Status);
    assert_eq!(round(&Frame::list(3, Ticket(2))).1, Request::List(Ticket(2)));
}

#[test]
fn every_reply_survives_the_way_through_bytes() {
    let ack = Ack { seq: 4, code: Code::BadTimes, index: 3, armed: 2, stopping: 1 };
    assert_eq!(Reply::decode(Frame::ack(ack).bytes()), Ok(Reply::Ack(ack)));
    let status = Status {
        seq: 5,
        pid: 9,
        locked: true,
        last_resort: 3,
        soonest: lease(),
        dropped: 1 << 33,
        ..Status::default()
    };
    let frame = Frame::status_reply(&status);
    assert_eq!(Reply::decode(frame.bytes()), Ok(Reply::Status(status)));
    let listed = Listed { ticket: Ticket(1), term: Term(2), lease: lease(), phase: 2 };
    let frame = Frame::list_reply(6, std::iter::repeat_n(listed, 100));
    let list = Reply::List { seq: 6, entries: vec![listed; MAX_BATCH] };
    assert_eq!(Reply::decode(frame.bytes()), Ok(list));
    let frame = Frame::event(EventKind::Reset, Ticket(1), Term(2));
    let event = Reply::Event { kind: EventKind::Reset, ticket: Ticket(1), term: Term(2) };
    assert_eq!(Reply::decode(frame.bytes()), Ok(event));
}

#[test]
fn what_does_not_fit_or_belong_is_refused_with_its_reason() {
    let long = [b'x'; MAX_COMMAND];
    let refused = |words: &[&[u8]]| Frame::set_stop(1, Ticket(1), words).err();
    assert_eq!(refused(&[b"/bin/true", &long]), Some(WireError::TooLong));
    assert_eq!(refused(&[b"relative"]), Some(WireError::Malformed(5)));
    assert_eq!(refused(&[]), Some(WireError::Malformed(5)));
    assert_eq!(refused(&[b"/a\0b"]), Some(WireError::Malformed(5)));
    let mut other = Frame::status(1);
    other.bytes[4] = 9;
    assert_eq!(Request::decode(other.bytes()), Err(WireError::Version(9)));
    assert_eq!(Request::decode(b"hello"), Err(WireError::Foreign));
    assert_eq!(
        Request::decode(
            Frame::ack(Ack { seq: 0, code: Code::Done, index: 0, armed: 0, stopping: 0 }).bytes()
        ),
        Err(WireError::Kind(128))
    );
}

fn requests() -> Vec<Vec<u8>> {
    let entry = ArmEntry { ticket: Ticket(9), term: Term(1), lease: lease() };
    let frames = vec![
        Frame::hello(7, Role::Agent, 250),
        Frame::arm(1, &[entry; 3]).unwrap(),
        Frame::arm_all(8, lease()),
        Frame::disarm(1, &[(Ticket(4), Term(5))]).unwrap(),
        Frame::set_stop(2, Ticket(4), &[b"/bin/sh", b"-c", b""]).unwrap(),
        Frame::pin(2, Ticket(4), Term(6)),
        Frame::set_groups(2, Ticket(4), &[77, -1]).unwrap(),
        Frame::status(3),
        Frame::list(3, Ticket(2)),
    ];
    frames.iter().map(|f| f.bytes().to_vec()).collect()
}

fn replies() -> Vec<Vec<u8>> {
    let listed = Listed { ticket: Ticket(1), term: Term(2), lease: lease(), phase: 2 };
    let ack = Ack { seq: 4, code: Code::BadTimes, index: 3, armed: 2, stopping: 1 };
    let frames = [
        Frame::ack(ack),
        Frame::status_reply(&Status::default()),
        Frame::list_reply(6, std::iter::repeat_n(listed, 3)),
        Frame::event(EventKind::Reset, Ticket(1), Term(2)),
    ];
    frames.iter().map(|f| f.bytes().to_vec()).collect()
}

#[test]
fn any_packet_is_a_request_or_an_error() {
    let samples = requests();
    bolero::check!().for_each(|bytes: &[u8]| {
        for input in fuzz::inputs(&samples, bytes) {
            let Ok((_, request)) = Request::decode(&input) else { continue };
            let count = usize::from(input[7]);
            match request {
                Request::Arm(entries) => assert_eq!(entries.iter().count(), count),
                Request::Disarm(entries) => assert_eq!(entries.iter().count(), count),
                Request::SetGroups { groups, .. } => assert_eq!(groups.iter().count(), count),
                Request::SetStop { words, .. } => {
                    assert!(words.len() <= MAX_COMMAND && words.first() == Some(&b'/'));
                    assert_eq!(words.last(), Some(&0));
                }
                _ => {}
            }
        }
    });
}

#[test]
fn any_packet_is_a_reply_or_an_error() {
    let samples = replies();
    bolero::check!().for_each(|bytes: &[u8]| {
        for input in fuzz::inputs(&samples, bytes) {
            let again = match Reply::decode(&input) {
                Ok(Reply::Ack(ack)) => Frame::ack(ack),
                Ok(Reply::Status(status)) => Frame::status_reply(&status),
                Ok(Reply::List { seq, entries }) => Frame::list_reply(seq, entries.into_iter()),
                Ok(Reply::Event { kind, ticket, term }) => Frame::event(kind, ticket, term),
                Err(_) => continue,
            };
            assert_eq!(Reply::decode(again.bytes()), Reply::decode(&input));
        }
    });
}

#[test]
fn every_cut_of_a_good_packet_is_refused() {
    let entry = ArmEntry { ticket: Ticket(9), term: Term(1), lease: lease() };
    let frame = Frame::arm(1, &[entry; MAX_BATCH]).unwrap();
    for cut in 0..frame.bytes().len() {
        assert!(Request::decode(&frame.bytes()[..cut]).is_err(), "cut at {cut}");
    }
}
