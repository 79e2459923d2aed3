//! Who is let in and who is not: authorities, names, tenants, ends of life.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod common;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::*;
use tierce_link::pki::{MemberDir, Revoke};
use tierce_link::{
    Ca, DownReason, Link, LinkEvent, PkiError, Refusal, RefusedBy, Role, TenantQuota,
};
use tokio::time::sleep;

#[tokio::test]
async fn a_member_of_another_authority_is_refused_both_ways() {
    let (ours, theirs) = (World::new("acme"), World::new("acme"));
    let mut arb = ours.arbitrator("arb");
    // It trusts its own authority, so it refuses the arbitrator's certificate.
    let mut site = theirs.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_refused(Refusal::WrongCa, RefusedBy::Us).await;
    arb.until_refused(Refusal::WrongCa, RefusedBy::Peer).await;
    // It trusts ours but was not issued by it, so the arbitrator refuses it.
    let dir = theirs.member(Role::Site, "south");
    std::fs::copy(ours.ca_dir().join("ca.pem"), dir.join("ca.pem")).unwrap();
    let mut liar = Node::start(&dir, fast());
    liar.dial(&arb.id, &[arb.addr()]);
    liar.until_refused(Refusal::WrongCa, RefusedBy::Peer).await;
    arb.until_refused(Refusal::WrongCa, RefusedBy::Us).await;
    assert!(arb.link.counters().refused(Refusal::WrongCa) >= 1);
    assert!(arb.link.peers().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let world = World::new("acme");
    let brief = Ca::open(&world.ca_dir()).unwrap().with_certificate_life(Duration::from_secs(2));
    let short = world.path("short");
    let info = brief.issue_to(Role::Site, &name("short"), &short).unwrap();
    let old_arb = world.path("old-arb");
    brief.issue_to(Role::Arbitrator, &name("old-arb"), &old_arb).unwrap();
    assert!(info.is_expiring(SystemTime::now()), "two seconds are less than a third");
    let mut arb = world.arbitrator("arb");
    let mut site = Node::start(&short, fast());
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    arb.until_up(&site.id).await;
    sleep(info.left(SystemTime::now()) + Duration::from_millis(1_100)).await;
    // The connection that is there goes on; the next is refused.
    assert_eq!(site.link.peers().len(), 1);
    drop(site);
    let mut site = Node::start(&short, fast());
    site.dial(&arb.id, &[arb.addr()]);
    site.until_refused(Refusal::Expired, RefusedBy::Peer).await;
    arb.until_refused(Refusal::Expired, RefusedBy::Us).await;
    // And the other way round.
    let mut old = Node::start(&old_arb, fast());
    let mut fresh = world.site("fresh");
    fresh.dial(&old.id, &[old.addr()]);
    fresh.until_refused(Refusal::Expired, RefusedBy::Us).await;
    old.until_refused(Refusal::Expired, RefusedBy::Peer).await;
}

#[tokio::test]
async fn an_unknown_tenant_is_refused_and_counted() {
    let (acme, other) = (World::new("acme"), World::new("other"));
    let mut arb = acme.arbitrator("arb");
    let mut site = other.site("north");
    let there = other.id(Role::Arbitrator, "arb");
    site.dial(&there, &[arb.addr()]);
    site.until_refused(Refusal::UnknownTenant, RefusedBy::Peer).await;
    arb.until_refused(Refusal::UnknownTenant, RefusedBy::Us).await;
    assert!(arb.link.counters().refused(Refusal::UnknownTenant) >= 1);
}

#[tokio::test]
async fn a_certificate_of_one_tenant_never_counts_in_another_on_the_same_socket() {
    let (a, b) = (World::new("tenant-a"), World::new("tenant-b"));
    let mut arb = a.arbitrator("arb");
    let b_arb = b.member(Role::Arbitrator, "arb");
    arb.link.add_tenant(&b_arb, TenantQuota::default()).unwrap();
    // Honest members of both are served side by side.
    let (mut in_a, mut in_b) = (a.site("north"), b.site("north"));
    let b_arb_id = b.id(Role::Arbitrator, "arb");
    in_a.dial(&arb.id, &[arb.addr()]);
    in_b.dial(&b_arb_id, &[arb.addr()]);
    in_a.until_up(&arb.id).await;
    in_b.until_up(&b_arb_id).await;
    arb.until_up(&in_a.id).await;
    // A member of A asks for B and shows what it has.
    let evil = a.member(Role::Site, "evil");
    let (_endpoint, conn) =
        stranger(arb.addr(), &b.tenant.sni(), &b_arb, Some(&evil), b"tierce/2").await;
    if let Ok(conn) = conn {
        let mut hello = conn.open_uni().await.unwrap();
        let _ = hello.write_all(b"anything").await;
        conn.closed().await;
    }
    arb.until("refusal", |e| match e {
        LinkEvent::Refused { reason: Refusal::TenantMismatch, peer, by: RefusedBy::Us, .. } => {
            assert_eq!(peer.unwrap().name, name("evil"));
            Some(())
        }
        LinkEvent::Up { peer, .. } => {
            assert_ne!(peer.name, name("evil"), "let in as {peer}");
            None
        }
        _ => None,
    })
    .await;
    // Datagrams stay in their tenant although the names are the same.
    in_a.link.send_datagram(&a.tenant, &arb.id.name, Bytes::from_static(b"of a")).unwrap();
    let from = arb
        .until("datagram", |e| match e {
            LinkEvent::Datagram { peer, bytes } => Some((peer.tenant, bytes)),
            _ => None,
        })
        .await;
    assert_eq!(from, (a.tenant.clone(), Bytes::from_static(b"of a")));
    // Removing B ends B and leaves A.
    arb.link.remove_tenant(&b.tenant).unwrap();
    in_b.until("Down", |e| match e {
        LinkEvent::Down { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(arb.link.remove_tenant(&b.tenant).is_err());
    sleep(Duration::from_millis(200)).await;
    assert_eq!(in_a.link.peers().len(), 1);
}

#[tokio::test]
async fn a_peer_under_another_name_is_refused() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let mut site = world.site("north");
    for expected in [world.id(Role::Arbitrator, "other"), world.id(Role::Site, "arb")] {
        site.dial(&expected, &[arb.addr()]);
        site.until_refused(Refusal::NameMismatch, RefusedBy::Us).await;
        site.link.remove_peer(&world.tenant, &expected.name);
        site.drain();
    }
    arb.until("refusal", |e| match e {
        LinkEvent::Refused { by: RefusedBy::Peer, .. } => Some(()),
        LinkEvent::Up { peer, .. } => panic!("{peer} came up"),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_no_further_than_the_handshake() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let arb_dir = world.path("arb");
    let (_e, conn) = stranger(arb.addr(), &world.tenant.sni(), &arb_dir, None, b"tierce/2").await;
    if let Ok(conn) = conn {
        conn.closed().await;
    }
    arb.until_refused(Refusal::NoCertificate, RefusedBy::Us).await;
    // Joins are not served unless the daemon says so.
    let (_e, conn) =
        stranger(arb.addr(), &world.tenant.sni(), &arb_dir, None, b"tierce-join/1").await;
    if let Ok(conn) = conn {
        conn.closed().await;
    }
    arb.until_refused(Refusal::JoinNotServed, RefusedBy::Us).await;
}

#[tokio::test]
async fn a_certificate_rolls_without_a_dropped_connection_and_the_next_one_shows_the_new() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let mut site = world.site("north");
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    let serial_at_arb = || arb.link.peers().first().map(|p| p.certificate.serial.clone());
    let old = serial_at_arb().unwrap();
    let new = world.ca.rotate(&world.path("north")).unwrap();
    assert_ne!(new.serial, old);
    let reloaded = site.link.reload_tenant(&world.tenant).unwrap();
    assert_eq!(reloaded.serial, new.serial);
    let new_arb = world.ca.rotate(&world.path("arb")).unwrap();
    arb.link.reload_tenant(&world.tenant).unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(serial_at_arb().unwrap(), old, "the old connection goes on");
    assert!(!site.drain().iter().any(|e| matches!(e, LinkEvent::Down { .. })));
    site.link.remove_peer(&world.tenant, &arb.id.name);
    eventually("the connection is closed", || serial_at_arb().is_none()).await;
    site.dial(&arb.id, &[arb.addr()]);
    site.until_up(&arb.id).await;
    assert_eq!(serial_at_arb().unwrap(), new.serial);
    assert_eq!(site.link.peers()[0].certificate.serial, new_arb.serial);
}

#[tokio::test]
async fn a_revoked_member_is_cut_off_and_not_let_in_again() {
    let world = World::new("acme");
    let mut arb = world.arbitrator("arb");
    let (mut bad, mut good) = (world.site("bad"), world.site("good"));
    for site in [&mut bad, &mut good] {
        site.dial(&arb.id, &[arb.addr()]);
        site.until_up(&arb.id).await;
    }
    assert_eq!(world.ca.revoke(&Revoke::Member(Role::Site, name("bad"))).unwrap(), 1);
    assert!(matches!(
        world.ca.revoke(&Revoke::Member(Role::Site, name("bad"))),
        Err(PkiError::NothingToRevoke(_))
    ));
    std::fs::copy(world.ca_dir().join("crl.pem"), world.path("arb").join("crl.pem")).unwrap();
    arb.link.reload_tenant(&world.tenant).unwrap();
    arb.until("Down", |e| match e {
        LinkEvent::Down { peer, reason: DownReason::Revoked, .. } => {
            assert_eq!(peer.name, name("bad"));
            Some(())
        }
        _ => None,
    })
    .await;
    arb.until_refused(Refusal::Revoked, RefusedBy::Us).await;
    bad.until("refusal", |e| match e {
        LinkEvent::Refused { reason: Refusal::Revoked, by: RefusedBy::Peer, .. } => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(good.link.peers().len(), 1);
    let names: Vec<_> = arb.link.peers().into_iter().map(|p| p.identity.name).collect();
    assert_eq!(names, [name("good")]);
    // A revoked server is refused by a client that has the list.
    std::fs::copy(world.ca_dir().join("crl.pem"), world.path("good").join("crl.pem")).unwrap();
    good.link.reload_tenant(&world.tenant).unwrap();
    good.dial(&bad.id, &[bad.addr()]);
    good.until_refused(Refusal::Revoked, RefusedBy::Us).await;
    let listing = world.ca.list().unwrap();
    let revoked: Vec<_> =
        listing.certificates.iter().filter(|c| c.revoked).map(|c| &c.identity.name).collect();
    assert_eq!(revoked, [&name("bad")]);
}

#[test]
fn a_list_that_the_authority_did_not_sign_is_refused() {
    let (ours, theirs) = (World::new("acme"), World::new("acme"));
    let dir = ours.member(Role::Site, "north");
    theirs.member(Role::Site, "x");
    theirs.ca.revoke(&Revoke::Member(Role::Site, name("x"))).unwrap();
    std::fs::copy(theirs.ca_dir().join("crl.pem"), dir.join("crl.pem")).unwrap();
    let error = MemberDir::load(&dir).unwrap_err().to_string();
    assert!(error.contains("did not sign"), "{error}");
}

#[test]
fn names_are_unique_whatever_the_role_and_folders_are_not_overwritten() {
    let world = World::new("acme");
    world.member(Role::Site, "north");
    assert!(matches!(
        world.ca.issue(Role::Arbitrator, &name("north")),
        Err(PkiError::NameTaken { .. })
    ));
    assert!(matches!(Ca::init(&world.ca_dir(), &world.tenant), Err(PkiError::CaExists(_))));
    let other = World::new("other");
    assert!(matches!(other.ca.rotate(&world.path("north")), Err(PkiError::OtherTenant { .. })));
}

#[test]
fn a_power_cut_anywhere_in_a_rotation_leaves_a_pair_that_works() {
    let world = World::new("acme");
    let dir = world.member(Role::Site, "north");
    let read = |f: &str| std::fs::read(dir.join(f)).unwrap();
    let (old_cert, old_key) = (read("cert.pem"), read("key.pem"));
    world.ca.rotate(&dir).unwrap();
    let (new_cert, new_key) = (read("cert.pem"), read("key.pem"));
    let both = [&new_key[..], b"\n", &old_key].concat();
    // The states that the renames pass through, in order.
    for (cert, key) in
        [(&old_cert, &old_key), (&old_cert, &both), (&new_cert, &both), (&new_cert, &new_key)]
    {
        std::fs::write(dir.join("cert.pem"), cert).unwrap();
        std::fs::write(dir.join("key.pem"), key).unwrap();
        MemberDir::load(&dir).unwrap();
    }
    std::fs::write(dir.join("key.pem"), &old_key).unwrap();
    assert!(matches!(MemberDir::load(&dir), Err(PkiError::Damaged { .. })));
}

#[tokio::test]
async fn a_link_refuses_what_it_cannot_serve() {
    let world = World::new("acme");
    let arb = world.arbitrator("arb");
    let again = arb.link.add_tenant(&world.path("arb"), TenantQuota::default());
    assert!(matches!(again, Err(tierce_link::LinkError::TenantExists(_))));
    let taken = Link::bind(arb.addr(), fast());
    assert!(matches!(taken, Err(tierce_link::LinkError::Bind { .. })));
    let own = tierce_link::PeerSpec { identity: arb.id.clone(), addresses: vec!["a:1".into()] };
    assert!(matches!(arb.link.add_peer(own), Err(tierce_link::LinkError::Peer { .. })));
}
