//! Damaged messages against both cores: never a panic, and a session either lives or says why.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tierce_bgp::rib::Rib;
use tierce_bgp::session::{Event, Session, SessionConfig};
use tierce_bgp::wire::{self, Notification, PathTemplate};
use tierce_bgp::{Asn, GracefulRestartPolicy, IpNet, Med, PeerId};

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

fn dice() -> Dice {
    let given = std::env::var("TIERCE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seed = given.unwrap_or_else(|| std::process::id().into()) | 1;
    println!("reproduce with TIERCE_SEED={seed}");
    Dice(seed)
}

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

fn damage(dice: &mut Dice, message: &mut Vec<u8>) {
    for _ in 0..dice.below(5) {
        // The marker is left alone mostly: behind it lies what is worth testing.
        let from = if dice.below(10) == 0 { 0 } else { 18.min(message.len() - 1) };
        let at = from + dice.below(message.len() - from);
        match dice.below(5) {
            0 => message[at] = dice.roll() as u8,
            1 => message[at] ^= 1 << dice.below(8),
            2 => message[at] = [0, 1, 0x7f, 0xff][dice.below(4)],
            3 if message.len() > 23 => drop(message.remove(at)),
            _ => message.insert(at, dice.roll() as u8),
        }
    }
    // Most of the time the length is made right again, so that the body is looked at.
    if dice.below(4) > 0 && message.len() >= 19 {
        let length = (message.len() as u16).to_be_bytes();
        message[16..18].copy_from_slice(&length);
    }
}

#[test]
fn no_stream_of_damaged_messages_makes_a_session_or_the_route_table_panic() {
    let mut dice = dice();
    let now = Instant::now();
    let samples = samples();
    let (mut updates, mut ended, mut established) = (0_u32, 0_u32, 0_u32);
    for round in 0..40_000 {
        let mut session = session(round % 8 != 0, now);
        let mut rib = Rib::default();
        let peer = PeerId(Ipv4Addr::new(10, 0, 0, 1));
        if round % 4 != 0 {
            session.received(now, &wire::open(Asn(65_001), 9, peer.0));
            session.received(now, &wire::keepalive());
            established += u32::from(session.is_established());
        }
        let mut stream = Vec::new();
        for _ in 0..=dice.below(4) {
            let mut message = samples[dice.below(samples.len())].clone();
            damage(&mut dice, &mut message);
            stream.extend_from_slice(&message);
        }
        let cut = dice.below(stream.len() + 1);
        session.received(now, &stream[..cut]);
        session.received(now, &stream[cut..]);
        session.tick(now + Duration::from_secs(dice.roll() % 20));
        let mut down = 0;
        while let Some(event) = session.poll() {
            match event {
                Event::Update(update) => {
                    updates += 1;
                    let _ = rib.update(peer, &update, now);
                }
                Event::Send(octets) => assert!(octets.len() <= 4_096),
                Event::Down(_) => down += 1,
                _ => {}
            }
        }
        assert!(down <= 1, "a session ended {down} times");
        assert_eq!(down == 1, session.deadline().is_none());
        ended += down;
    }
    println!("{established} established, {updates} updates understood, {ended} sessions ended");
    assert!(updates > 1_000 && ended > 10_000, "{updates} updates, {ended} ended");
}

#[test]
fn random_octets_behind_a_good_header_never_panic() {
    let mut dice = dice();
    let now = Instant::now();
    for _ in 0..100_000 {
        let body: Vec<u8> = (0..dice.below(80)).map(|_| dice.roll() as u8).collect();
        let mut octets = vec![0xff; 16];
        octets.extend_from_slice(&((19 + body.len()) as u16).to_be_bytes());
        octets.push(1 + dice.below(5) as u8);
        octets.extend_from_slice(&body);
        let _ = wire::decode_update(&octets);
        session(true, now).received(now, &octets);
    }
}
