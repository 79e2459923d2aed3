//! Hostile bytes against the authority's core and the fence parser: never a panic, always bounded.
#![allow(clippy::unwrap_used)]

mod common;

use common::name;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use tierce_dns::server::{Server, Transport};
use tierce_dns::zone::Zone;
use tierce_dns::{FenceRecord, Key};

/// A small generator with a seed to print; tests need repeatable, not secret, numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

fn seed() -> u64 {
    let given = std::env::var("TIERCE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let fresh = || std::process::id().into();
    let seed = given.unwrap_or_else(fresh) | 1;
    println!("reproduce with TIERCE_SEED={seed}");
    seed
}

fn samples() -> Vec<Vec<u8>> {
    let mut query = Message::query();
    query.add_query(Query::query(name("www.demo.test."), RecordType::A));
    let mut update = Message::new(1, MessageType::Query, OpCode::Update);
    update.add_query(Query::query(name("demo.test."), RecordType::SOA));
    let mut absent = Record::update0(name("_ticket.www.demo.test."), 0, RecordType::TXT);
    absent.dns_class = DNSClass::NONE;
    update.add_answer(absent);
    let mut clear = Record::update0(name("www.demo.test."), 0, RecordType::A);
    clear.dns_class = DNSClass::ANY;
    update.add_authority(clear);
    let text = RData::TXT(TXT::new(vec!["v=1 term=1".into()]));
    update.add_authority(Record::from_rdata(name("_ticket.www.demo.test."), 1, text));
    let address = RData::A(A::new(192, 0, 2, 1));
    update.add_authority(Record::from_rdata(name("www.demo.test."), 1, address));
    let plain = update.to_vec().unwrap();
    let signer = hickory_proto::rr::TSigner::new(
        vec![7; 32],
        hickory_proto::rr::rdata::tsig::TsigAlgorithm::HmacSha256,
        name("site."),
        300,
    );
    update.finalize(&signer.unwrap(), 1_800_000_000).unwrap();
    vec![query.to_vec().unwrap(), plain, update.to_vec().unwrap()]
}

#[test]
fn no_packet_makes_the_authority_panic_or_answer_with_more_than_it_may() {
    let mut dice = Dice(seed());
    let zone = || Zone::new(&name("demo.test."), &[]).unwrap();
    let key = Key::new("site.", &[7; 32]).unwrap();
    let servers = [Server::new(zone(), None), Server::new(zone(), Some(key))];
    let samples = samples();
    let (mut answered, mut dropped) = (0_u32, 0_u32);
    for round in 0..150_000 {
        let mut packet = if round % 4 == 0 {
            (0..dice.below(120)).map(|_| dice.roll() as u8).collect()
        } else {
            samples[dice.below(samples.len())].clone()
        };
        for _ in 0..dice.below(6) {
            if packet.is_empty() {
                break;
            }
            let at = dice.below(packet.len());
            match dice.below(4) {
                0 => packet[at] = dice.roll() as u8,
                1 => packet.truncate(at),
                2 => packet.insert(at, dice.roll() as u8),
                _ => packet[at] ^= 1 << dice.below(8),
            }
        }
        let server = &servers[dice.below(2)];
        // Clock readings far apart, so that times around zero and the end are met as well.
        let now = [1_800_000_000, 0, u64::from(u32::MAX)][dice.below(3)];
        let (_, answer) = server.respond(&packet, Transport::Udp, now);
        match answer {
            Some(answer) => {
                // A signature may come on top of the cut answer (RFC 8945 section 5.3).
                assert!(answer.len() <= 1_232 + 200, "{} octets for {packet:02x?}", answer.len());
                answered += 1;
            }
            None => dropped += 1,
        }
    }
    println!("{answered} answered, {dropped} dropped");
    assert!(answered > 10_000 && dropped > 1_000, "{answered} answered, {dropped} dropped");
}

#[test]
fn whatever_parses_as_a_fence_prints_as_the_same_text() {
    let mut dice = Dice(seed());
    let good = "v=1 term=42 site=berlin nonce=0123456789abcdef0123456789abcdef";
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut text = good.as_bytes().to_vec();
        for _ in 0..dice.below(4) {
            let at = dice.below(text.len());
            match dice.below(3) {
                0 => text[at] = dice.roll() as u8 & 0x7f,
                1 => text.insert(at, b"0123 =v"[dice.below(7)]),
                _ => drop(text.remove(at)),
            }
        }
        let text = String::from_utf8(text).unwrap();
        if let Ok(fence) = text.parse::<FenceRecord>() {
            assert_eq!(fence.to_string(), text);
            accepted += 1;
        }
    }
    assert!(accepted > 10_000, "hardly any text was accepted: {accepted}");
}
