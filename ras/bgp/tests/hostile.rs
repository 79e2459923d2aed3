//! Fuzz targets for both cores: never a panic, and a session either lives or says why.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{ROUTER_AS, peer_id};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use tierce_bgp::rib::Rib;
use tierce_bgp::session::{Event, Session, SessionConfig};
use tierce_bgp::speaker::{Effect, Input};
use tierce_bgp::wire::{self, Notification, PathTemplate};
use tierce_bgp::{Asn, GracefulRestartPolicy, IpNet, Med, PeerId, Speaker, State, Term};
use tierce_tests::fuzz;

fn session(wants_routes: bool, now: Instant) -> Session {
    let config = SessionConfig {
        local_as: Asn(65_000),
        router_id: Ipv4Addr::new(10, 0, 0, 254),
        hold_time: Duration::from_secs(9),
        peer_as: vec![],
        graceful_restart: GracefulRestartPolicy::Report,
        wants_routes,
    };
    Session::new(config, now)
}

/// A speaker that announces two prefixes to a router at 127.0.0.1.
fn speaker() -> Speaker {
    let config = common::site(1, "127.0.0.1:179".parse().unwrap());
    let mut speaker = Speaker::new(config.clone()).unwrap();
    for prefix in ["192.0.2.10/32", "2001:db8::/48"].map(|p| p.parse().unwrap()) {
        let term = Term(common::BASE.0 + 7);
        let med = config.metric(prefix, term).unwrap();
        speaker.step(Instant::now(), Input::Announce { prefix, term, med });
    }
    speaker
}

fn template() -> PathTemplate {
    PathTemplate {
        local_as: Asn(4_200_000_001),
        internal: false,
        prepend: 2,
        next_hop_v4: Some(Ipv4Addr::LOCALHOST),
        next_hop_v6: Some(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        communities: vec![0xffff_0000],
        large_communities: vec![(1, 2, 3)],
    }
}

fn samples() -> Vec<Vec<u8>> {
    let prefixes: Vec<IpNet> =
        ["192.0.2.10/32", "0.0.0.0/0", "2001:db8::/48"].map(|p| p.parse().unwrap()).to_vec();
    let mut samples = vec![
        wire::keepalive().to_vec(),
        wire::open(Asn(65_001), 9, Ipv4Addr::new(10, 0, 0, 1)).to_vec(),
        Notification::shutdown("bye").encode().to_vec(),
    ];
    samples.extend(template().announce(Med(7), &prefixes).iter().map(|update| update.to_vec()));
    samples.extend(wire::withdraw(&prefixes).iter().map(|update| update.to_vec()));
    // Attributes that we never write, with room for damage: every type code once, 24 octets each.
    for code in 0..=255_u8 {
        let value = [code, 0, 1, 1, 0, 4, 10, 0, 0, 1, 2, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut body = vec![0, 0, 0, 27, 0xc0, code, 24];
        body.extend_from_slice(&value);
        body.extend_from_slice(&[32, 192, 0, 2, 1]);
        let mut octets = vec![0xff; 16];
        octets.extend_from_slice(&((19 + body.len()) as u16).to_be_bytes());
        octets.push(2);
        octets.extend_from_slice(&body);
        samples.push(octets);
    }
    samples
}

/// The length made right again, so that the body is looked at.
fn resized(mut message: Vec<u8>) -> Vec<u8> {
    if message.len() >= 19 {
        let length = (message.len() as u16).to_be_bytes();
        message[16..18].copy_from_slice(&length);
    }
    message
}

/// Streams of one message: as the fuzzer has it, damaged samples with the length that the damage
/// left and with the right one, and any octets behind a good header.
fn streams(samples: &[Vec<u8>], bytes: &[u8]) -> Vec<Vec<u8>> {
    let [raw, damaged] = fuzz::inputs(samples, bytes);
    let mut framed = vec![0xff; 18];
    framed.push(1 + bytes.len() as u8 % 5);
    framed.extend(&bytes[..bytes.len().min(4_000)]);
    vec![raw, resized(damaged.clone()), damaged, resized(framed)]
}

/// What must hold of every session at its end; gives whether it ended.
fn drained(session: &mut Session, mut update: impl FnMut(&BgpUpdateMessage)) -> bool {
    let mut down = 0;
    while let Some(event) = session.poll() {
        match event {
            Event::Update(u) => update(&u),
            Event::Send(octets) => assert!(octets.len() <= 4_096),
            Event::Down(_) => down += 1,
            _ => {}
        }
    }
    assert!(down <= 1, "a session ended {down} times");
    assert_eq!(down == 1, session.deadline().is_none());
    down == 1
}

#[test]
fn no_octets_make_a_session_or_the_collectors_table_panic() {
    let samples = samples();
    let peer = PeerId(Ipv4Addr::new(10, 0, 0, 1));
    bolero::check!().for_each(|bytes: &[u8]| {
        let now = Instant::now();
        let cut = usize::from(bytes.last().copied().unwrap_or(0));
        for stream in streams(&samples, bytes) {
            let _ = wire::decode_update(&stream);
            for established in [false, true] {
                let mut session = session(true, now);
                if established {
                    session.received(now, &wire::open(Asn(65_001), 9, peer.0));
                    session.received(now, &wire::keepalive());
                    assert!(session.is_established());
                }
                let (first, second) = stream.split_at(cut.min(stream.len()));
                session.received(now, first);
                session.received(now, second);
                session.tick(now + Duration::from_secs(cut as u64 % 20));
                let mut rib = Rib::default();
                let ended = drained(&mut session, |update| {
                    let _ = rib.update(peer, update, now);
                });
                if ended {
                    rib.drop_peer(peer, now);
                    assert_eq!(rib.count(peer), 0, "no route outlives its session");
                }
            }
        }
    });
}

#[test]
fn no_octets_make_the_speaker_panic_or_forget_how_to_begin_again() {
    let samples = samples();
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut now = Instant::now();
        let mut speaker = speaker();
        speaker.step(now, Input::Start);
        // Three connections, one after the other, each with another reading of the same bytes.
        for (n, stream) in streams(&samples, bytes).into_iter().enumerate() {
            while let Some(effect) = speaker.poll_effect() {
                assert!(!matches!(effect, Effect::Up(_)), "established with nobody");
            }
            assert_eq!(speaker.state(), State::Connect, "connection {n}");
            speaker.step(now, Input::Connected);
            if bytes.len().is_multiple_of(2) {
                speaker.step(now, Input::Received(&wire::open(ROUTER_AS, 9, peer_id(9).0)));
                speaker.step(now, Input::Received(&wire::keepalive()));
                assert_eq!(speaker.state(), State::Established);
            }
            speaker.step(now, Input::Received(&stream));
            speaker.step(now, Input::Tick);
            while let Some(effect) = speaker.poll_effect() {
                if let Effect::Send(octets) = effect {
                    assert!(octets.len() <= 4_096);
                }
            }
            // Whatever it was, the session ends, and the speaker dials again when its pause is over.
            speaker.step(now, Input::Closed);
            assert_eq!(speaker.state(), State::Idle);
            while let Some(due) = speaker.poll_deadline().filter(|_| speaker.state() == State::Idle)
            {
                now = due;
                speaker.step(now, Input::Tick);
            }
        }
    });
}
