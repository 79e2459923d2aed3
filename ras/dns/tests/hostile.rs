//! Fuzz targets for the authority's core and the fence parser: never a panic, always bounded.
#![allow(clippy::unwrap_used)]

mod common;

use common::name;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use tierce_dns::server::{Server, Transport};
use tierce_dns::zone::Zone;
use tierce_dns::{FenceRecord, Key};
use tierce_tests::fuzz;

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
    let samples = samples();
    bolero::check!().for_each(|bytes: &[u8]| {
        let zone = || Zone::new(&name("demo.test."), &[]).unwrap();
        let key = Key::new("site.", &[7; 32]).unwrap();
        for input in fuzz::inputs(&samples, bytes) {
            for server in [Server::new(zone(), None), Server::new(zone(), Some(key.clone()))] {
                // Clock readings far apart, so that times around zero and the end are met as well.
                for now in [1_800_000_000, 0, u64::from(u32::MAX)] {
                    for (transport, most) in [(Transport::Udp, 1_232), (Transport::Tcp, 65_535)] {
                        let (_, answer) = server.respond(&input, transport, now);
                        // A signature may come on top of the cut answer (RFC 8945 section 5.3).
                        let octets = answer.map_or(0, |a| a.len());
                        assert!(octets <= most + 200, "{octets} octets for {input:02x?}");
                    }
                }
                // Whatever was updated, the zone is still one: its SOA is there, first and once.
                let records = server.with_zone(|zone| zone.records());
                let soa = |r: &Record| r.record_type() == RecordType::SOA;
                assert!(records.first().is_some_and(soa));
                assert_eq!(records.iter().filter(|r| soa(r)).count(), 1);
            }
        }
    });
}

#[test]
fn whatever_parses_as_a_fence_prints_as_the_same_text() {
    let good = "v=1 term=42 site=berlin nonce=0123456789abcdef0123456789abcdef";
    let samples = vec![good.as_bytes().to_vec()];
    bolero::check!().for_each(|bytes: &[u8]| {
        for input in fuzz::inputs(&samples, bytes) {
            let text = String::from_utf8_lossy(&input);
            if let Ok(fence) = text.parse::<FenceRecord>() {
                assert_eq!(fence.to_string(), text);
            }
        }
    });
}
