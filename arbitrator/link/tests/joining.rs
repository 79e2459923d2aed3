//! Join strings: they work once, in time, for the one who was invited, at the right authority.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::*;
use tierce_link::join::{fetch_crl, join, renew};
use tierce_link::pki::{Fingerprint, InviteState, Revoke};
use tierce_link::{Ca, JoinError, JoinRefusal, JoinString, LinkEvent, Refusal, Role};
use tokio::time::sleep;

const TTL: Duration = Duration::from_mins(10);

/// An arbitrator that serves its tenant's joins.
fn serving(world: &World) -> Node {
    let arb = world.arbitrator("arb");
    arb.link.serve_joins(Ca::open(&world.ca_dir()).unwrap()).unwrap();
    arb
}

fn invite(world: &World, who: &str, at: &[String], ttl: Duration) -> JoinString {
    let invitation = world.ca.invite(Role::Site, &name(who), at, ttl).unwrap();
    // As an operator would carry it.
    invitation.to_string().parse().unwrap()
}

#[tokio::test]
async fn a_join_string_makes_a_member_once() {
    let world = World::new("acme");
    let mut arb = serving(&world);
    let at = [arb.addr().to_string()];
    let invitation = invite(&world, "north", &at, TTL);
    let info = join(&invitation, &world.path("north")).await.unwrap();
    assert_eq!(info.identity, invitation.identity);
    let mut site = Node::start(&world.path("north"), fast());
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    arb.until_up(&site.id).await;

    let replayed = join(&invitation, &world.path("thief")).await.unwrap_err();
    assert!(matches!(replayed, JoinError::Refused(JoinRefusal::Used)), "{replayed}");
    assert!(!world.path("thief").join("cert.pem").exists());
    let occupied = join(&invitation, &world.path("north")).await.unwrap_err();
    assert!(matches!(occupied, JoinError::Occupied(_)), "{occupied}");
    let listing = world.ca.list().unwrap();
    assert_eq!(listing.invites.len(), 1);
    assert_eq!(listing.invites[0].state, InviteState::Used);
    assert_eq!(arb.link.counters().joins_granted, 1);
    assert_eq!(arb.link.counters().joins_refused, 1);
}

#[tokio::test]
async fn of_many_who_use_one_string_at_once_one_becomes_a_member() {
    let world = World::new("acme");
    let arb = serving(&world);
    let invitation = invite(&world, "north", &[arb.addr().to_string()], TTL);
    let mut tries = tokio::task::JoinSet::new();
    for i in 0..6 {
        let (invitation, dir) = (invitation.clone(), world.path(&format!("try-{i}")));
        tries.spawn(async move { join(&invitation, &dir).await });
    }
    let results = tries.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    let issued = world.ca.list().unwrap().certificates;
    assert_eq!(issued.iter().filter(|c| c.identity.name == name("north")).count(), 1);
}

#[tokio::test]
async fn an_expired_string_is_refused_by_the_authority() {
    let world = World::new("acme");
    let arb = serving(&world);
    let invitation = invite(&world, "north", &[arb.addr().to_string()], Duration::from_secs(1));
    sleep(Duration::from_millis(2_100)).await;
    let error = join(&invitation, &world.path("north")).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(JoinRefusal::Expired)), "{error}");
    assert_eq!(world.ca.list().unwrap().invites[0].state, InviteState::Expired);
}

#[tokio::test]
async fn the_secret_is_not_sent_to_another_authority() {
    let (world, other) = (World::new("acme"), World::new("acme"));
    let arb = serving(&other);
    let invitation = invite(&world, "north", &[arb.addr().to_string()], TTL);
    let error = join(&invitation, &world.path("north")).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongCa { .. }), "{error}");
    let mut forged = invite(&other, "north", &[arb.addr().to_string()], TTL);
    forged.ca = Fingerprint([1; 32]);
    let error = join(&forged, &world.path("north")).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongCa { .. }), "{error}");
    assert_eq!(arb.link.counters().joins_refused, 0, "no request was ever made");
}

#[tokio::test]
async fn a_string_serves_only_the_one_who_was_invited_and_only_if_it_is_genuine() {
    let world = World::new("acme");
    let arb = serving(&world);
    let invitation = invite(&world, "north", &[arb.addr().to_string()], TTL);
    let mut renamed = invitation.clone();
    renamed.identity.name = name("south");
    let error = join(&renamed, &world.path("south")).await.unwrap_err();
    assert!(
        matches!(&error, JoinError::Refused(JoinRefusal::WrongName { invited })
            if invited.name == name("north")),
        "{error}"
    );
    // The same authority, a secret that it never gave.
    let elsewhere = World::new("acme");
    let mut invented = invite(&elsewhere, "north", &[arb.addr().to_string()], TTL);
    invented.ca = invitation.ca;
    let error = join(&invented, &world.path("north")).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(JoinRefusal::UnknownSecret)), "{error}");
    // Neither has spent the invitation.
    join(&invitation, &world.path("north")).await.unwrap();
}

#[tokio::test]
async fn an_address_where_nobody_serves_joins_is_named_and_the_next_is_tried() {
    let world = World::new("acme");
    let idle = Node::start(&world.member(Role::Site, "idle"), fast());
    let invitation = invite(&world, "north", &[idle.addr().to_string()], TTL);
    let error = join(&invitation, &world.path("north")).await.unwrap_err();
    assert!(matches!(error, JoinError::Link { refusal: Refusal::JoinNotServed, .. }), "{error}");
    let arb = serving(&world);
    let at = [idle.addr().to_string(), arb.addr().to_string()];
    let invitation = invite(&world, "north", &at, TTL);
    join(&invitation, &world.path("north")).await.unwrap();
}

#[tokio::test]
async fn a_member_renews_over_the_network_while_it_runs() {
    let world = World::new("acme");
    let arb = serving(&world);
    let at = [arb.addr().to_string()];
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    let before = site.link.tenants()[0].clone();
    let after = site.link.renew_tenant(&world.tenant, &at).await.unwrap();
    assert_eq!(after.identity, before.identity);
    assert_ne!(after.serial, before.serial);
    assert_eq!(site.link.tenants()[0].serial, after.serial);
    sleep(Duration::from_millis(300)).await;
    assert!(!site.drain().iter().any(|e| matches!(e, LinkEvent::Down { .. })));
    // The new pair works for a new connection.
    site.link.remove_peer(&world.tenant, &arb.id.name);
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
}

#[tokio::test]
async fn a_revoked_member_cannot_renew_and_others_fetch_the_list() {
    let world = World::new("acme");
    let arb = serving(&world);
    let at = [arb.addr().to_string()];
    let (bad, good) = (world.member(Role::Site, "bad"), world.member(Role::Site, "good"));
    assert!(!fetch_crl(&good, &at).await.unwrap(), "nothing is revoked yet");
    world.ca.revoke(&Revoke::Member(Role::Site, name("bad"))).unwrap();
    // The server has not loaded the list, but its authority remembers.
    let error = renew(&bad, &at).await.unwrap_err();
    assert!(matches!(error, JoinError::Refused(JoinRefusal::Revoked)), "{error}");
    assert!(fetch_crl(&good, &at).await.unwrap());
    assert!(!fetch_crl(&good, &at).await.unwrap(), "it has the newest");
    // A list from before a later revocation does not come back.
    let older = std::fs::read(good.join("crl.pem")).unwrap();
    world.member(Role::Site, "worse");
    world.ca.revoke(&Revoke::Member(Role::Site, name("worse"))).unwrap();
    assert!(fetch_crl(&good, &at).await.unwrap());
    let newer = std::fs::read(good.join("crl.pem")).unwrap();
    assert_ne!(older, newer);
    renew(&good, &at).await.unwrap();
    assert_eq!(std::fs::read(good.join("crl.pem")).unwrap(), newer);
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_what_was_tried() {
    let world = World::new("acme");
    let silent = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let at = [silent.local_addr().unwrap().to_string()];
    let invitation = invite(&world, "north", &at, TTL);
    let error = join(&invitation, &world.path("north")).await.unwrap_err();
    match error {
        JoinError::Unreachable { tried } => assert!(tried.contains(&at[0]), "{tried}"),
        other => panic!("{other}"),
    }
}
