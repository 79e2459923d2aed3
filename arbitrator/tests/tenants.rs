//! A real arbitrator with real tenants: coming, being served, going.

#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{
    Daemon, Sites, World, aside, eventually, eventually_blocking, list, place, tenant_fails,
    tenant_ok,
};
use nix::sys::signal::Signal;
use tierce_link::{Ca, Link, LinkEvent, PeerSpec, Refusal, Role, Settings, TenantQuota};
use tierce_ticket::command::{Command, Outcome};
use tierce_ticket::ids::StoreId;

#[tokio::test]
async fn a_tenant_forms_its_cluster_and_goes_on_after_a_restart() {
    let place = place();
    let data = place.path().join("arb");
    let world = World::new("acme");
    let said = world.add_to(&data);
    assert!(said.contains("no daemon runs here"), "{said}");
    assert_eq!(list(&data)[0]["state"], "stopped: the daemon is not running");

    let daemon = Daemon::start(&data);
    let (listen, metrics) = (daemon.listen, daemon.metrics);
    assert_ne!(listen, metrics);
    assert!(daemon.state("acme").starts_with("waiting: no member has connected yet"));
    let sites = Sites::form(&world, listen).await;
    let outcome = sites.set_ticket("web", "").await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");

    let daemon = aside(move || {
        eventually_blocking("the tenant is served", || {
            let t = daemon.tenant("acme");
            t["state"] == "serving"
                && t["connected"] == 2
                && t["tickets"] == 1
                && t["renewals"].as_u64() > Some(3)
        });
        assert!(daemon.metric(r#"tierce_renewals_total{tenant="acme"}"#) > 3.0);
        assert!(daemon.metric(r#"tierce_tenant_ledger_applied{tenant="acme"}"#) > 3.0);
        assert!(daemon.metric("tierce_process_resident_memory_bytes") > 1e6);
        let days = daemon.tenant("acme")["certificate"]["days_left"].as_f64().unwrap();
        assert!((89.0..=90.0).contains(&days), "{days}");
        let table = tenant_ok(&daemon.data, &["list"]);
        assert!(table.contains("acme") && table.contains("serving"), "{table}");

        let data = daemon.data.clone();
        let (status, took) = daemon.terminate();
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(2), "SIGTERM took {took:?}");
        Daemon::start_with(&data, &listen.to_string(), &[], &[])
    })
    .await;
    let daemon = aside(move || {
        eventually_blocking("the tenant is served again from its store", || {
            let t = daemon.tenant("acme");
            t["state"] == "serving" && t["tickets"] == 1 && t["renewals"].as_u64() > Some(0)
        });
        daemon
    })
    .await;
    sites.stop().await;
    aside(move || drop(daemon)).await;
}

#[tokio::test]
async fn tenants_come_and_go_while_others_are_served() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let data = daemon.data.clone();
    let (one, two) = (World::new("one"), World::new("two"));
    let said = one.add_to(&data);
    assert!(said.contains("it is served now"), "{said}");
    let sites = Sites::form(&one, daemon.listen).await;

    let said = two.add_to(&data);
    assert!(said.contains("it is served now"), "{said}");
    let twos = Sites::form(&two, daemon.listen).await;
    let dir = two.path("arb").display().to_string();
    let err = tenant_fails(&data, &["add", "two", "--member-dir", &dir], 113);
    assert!(err.contains("tenant two is here already"), "{err}");

    // Without a terminal, a removal needs --yes.
    tenant_fails(&data, &["remove", "two"], 107);
    let data_ = data.clone();
    let said = aside(move || tenant_ok(&data_, &["remove", "two", "--yes"])).await;
    assert!(said.contains("its data is kept in"), "{said}");
    tenant_fails(&data, &["remove", "two", "--yes"], 105);
    assert_eq!(daemon.list().len(), 1);
    assert!(!data.join("tenants/two").exists());
    eventually("the removed tenant's sites have lost the arbitrator", async || {
        twos.0.iter().all(|s| s.host.peers("two").iter().all(|p| p.identity.role == Role::Site))
    })
    .await;

    // It may come back, with a new store, as a stranger to its cluster (R5), until it is admitted
    // anew: under a new number, by a word at one of the others.
    let said = two.add_to(&data);
    assert!(said.contains("it is served now"), "{said}");
    eventually("it is told that it is a stranger", async || {
        let state = daemon.state("two");
        state.starts_with("waiting: ") && state.contains("does not know this store")
    })
    .await;
    assert!(daemon.state("two").contains("next: tierce sites admit"), "{}", daemon.state("two"));
    let admit = Command::Admit {
        name: "arb".parse().unwrap(),
        role: tierce_ticket::configuration::Role::Arbitrator,
        store: StoreId::default(),
        addresses: vec![daemon.listen.to_string()],
    };
    let outcome = twos.0[0].handle.command(admit).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    eventually("it votes again", async || daemon.state("two") == "serving").await;

    // --purge leaves nothing.
    let data_ = data.clone();
    aside(move || tenant_ok(&data_, &["remove", "two", "--purge", "--yes"])).await;
    assert_eq!(daemon.state("one"), "serving");
    sites.have_sessions().await;
    twos.stop().await;
    sites.stop().await;
    let (status, took) = aside(move || daemon.terminate()).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_unknown_tenant_is_refused_and_counted() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let known = World::new("known");
    known.add_to(&daemon.data);
    let world = World::new("nobody");
    let dir = world.member(Role::Site, "east");
    assert_eq!(refusal_of(&dir, "nobody", daemon.listen).await, Refusal::UnknownTenant);
    let refused =
        aside(move || daemon.metric(r#"tierce_link_refusals_total{reason="unknown-tenant"}"#))
            .await;
    assert!(refused >= 1.0);
}

#[tokio::test]
async fn a_site_of_another_authority_is_refused_and_counted() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let (ours, theirs) = (World::new("acme"), World::new("acme"));
    ours.add_to(&daemon.data);
    // It trusts the arbitrator's authority, and was not issued by it.
    let dir = theirs.member(Role::Site, "east");
    std::fs::copy(ours.path("ca").join("ca.pem"), dir.join("ca.pem")).unwrap();
    assert_eq!(refusal_of(&dir, "acme", daemon.listen).await, Refusal::WrongCa);
    let refused =
        aside(move || daemon.metric(r#"tierce_link_refusals_total{reason="wrong-ca"}"#)).await;
    assert!(refused >= 1.0);
}

/// What the arbitrator says to the member of this folder, which is not to be let in.
async fn refusal_of(dir: &Path, tenant: &str, to: SocketAddr) -> Refusal {
    let (link, mut events) =
        Link::bind("127.0.0.1:0".parse().unwrap(), Settings::default()).unwrap();
    link.add_tenant(dir, TenantQuota::default()).unwrap();
    let identity = format!("tierce://{tenant}/arbitrator/arb").parse().unwrap();
    link.add_peer(PeerSpec { identity, addresses: vec![to.to_string()] }).unwrap();
    loop {
        match events.recv().await.unwrap() {
            LinkEvent::Refused { reason, .. } => return reason,
            LinkEvent::Up { .. } => panic!("a stranger was let in"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_arbitrator_joins_by_a_join_string_once() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let world = World::new("acme");
    let (link, _events) = Link::bind("127.0.0.1:0".parse().unwrap(), Settings::default()).unwrap();
    link.add_tenant(&world.member(Role::Site, "east"), TenantQuota::default()).unwrap();
    link.serve_joins(Ca::open(&world.path("ca")).unwrap()).unwrap();
    let at = [link.local_addr().unwrap().to_string()];
    let invite = |name: &str, role, life| {
        let name = tierce_link::Name::new(name).unwrap();
        world.ca.invite(role, &name, &at, life).unwrap().to_string()
    };
    let string = invite("arb", Role::Arbitrator, Duration::from_mins(10));
    let for_a_site = invite("west", Role::Site, Duration::from_mins(10));
    let brief = invite("late", Role::Arbitrator, Duration::from_secs(1));

    let data = daemon.data.clone();
    aside(move || {
        let err = tenant_fails(&data, &["add", "acme", "--join", "tierce1-abc"], 64);
        assert!(err.contains("damaged or incomplete"), "{err}");
        let err = tenant_fails(&data, &["add", "acme", "--join", &for_a_site], 78);
        assert!(err.contains("it must be an arbitrator's"), "{err}");
        std::thread::sleep(Duration::from_millis(2_100));
        let err = tenant_fails(&data, &["add", "acme", "--join", &brief], 110);
        assert!(err.contains("expired"), "{err}");
        let err = tenant_fails(&data, &["add", "other", "--join", &string], 78);
        assert!(err.contains("of tenant other"), "{err}");
        let said = tenant_ok(&data, &["add", "acme", "--join", &string, "--max-tickets", "9"]);
        assert!(said.contains("acme/arbitrator/arb") && said.contains("served now"), "{said}");
        assert_eq!(list(&data)[0]["quota"]["max_tickets"], 9);
        // The string is spent: somebody who found it gets nothing.
        let elsewhere = data.with_extension("elsewhere");
        let err = tenant_fails(&elsewhere, &["add", "acme", "--join", &string], 1);
        assert!(err.contains("this join string was used already"), "{err}");
        assert!(list(&elsewhere).is_empty());
    })
    .await;
    daemon.signal(Signal::SIGTERM);
}

#[tokio::test]
async fn certificates_roll_without_a_restart_by_hand_and_by_themselves() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    // Backdated by 70 minutes, so ten minutes of life are the last third already.
    let world = World::with_life("acme", Duration::from_mins(10));
    world.add_to(&daemon.data);
    let ends = |d: &Daemon| d.metric(r#"tierce_cert_expiry_timestamp_seconds{tenant="acme"}"#);
    let first = ends(&daemon);
    assert_eq!(daemon.tenant("acme")["certificate"]["state"], "renew");
    assert!(daemon.state("acme").contains("certificate ends in"), "{}", daemon.state("acme"));

    // By hand: an operator replaces the files.
    std::thread::sleep(Duration::from_millis(1_100));
    world.ca.rotate(&daemon.data.join("tenants/acme/pki")).unwrap();
    let daemon = aside(move || {
        eventually_blocking("the new certificate is shown", || ends(&daemon) > first);
        daemon
    })
    .await;

    // By itself: a site that serves the authority answers the renewal.
    let sites = Sites::start(&world, daemon.listen);
    let ca = Ca::open(&world.path("ca")).unwrap(); // with the usual life of 90 days
    sites.0[0].host.link().serve_joins(ca).unwrap();
    sites.have_sessions().await;
    let daemon = aside(move || {
        eventually_blocking("the certificate was renewed", || {
            daemon.tenant("acme")["certificate"]["days_left"].as_f64() > Some(80.0)
                && ends(&daemon) > first + 80.0 * 86_400.0
        });
        eventually_blocking("it is served", || daemon.state("acme") == "serving");
        daemon
    })
    .await;
    sites.stop().await;
    aside(move || drop(daemon)).await;
}

#[tokio::test]
async fn a_tenant_over_its_tickets_is_reported_and_goes_on() {
    let place = place();
    let daemon = Daemon::start(&place.path().join("arb"));
    let world = World::new("acme");
    let dir = world.arbitrator();
    tenant_ok(&daemon.data, &["add", "acme", "--member-dir", &dir, "--max-tickets", "1"]);
    let sites = Sites::form(&world, daemon.listen).await;
    for name in ["a", "b"] {
        assert!(matches!(sites.set_ticket(name, "").await, Outcome::Done { .. }));
    }
    let daemon = aside(move || {
        eventually_blocking("it is reported", || {
            daemon.state("acme") == "serving: over quota: 2 tickets of 1"
        });
        assert!(daemon.metric(r#"tierce_tenant_over_quota{tenant="acme"}"#) > 0.0);
        daemon
    })
    .await;
    sites.have_sessions().await;
    assert!(matches!(sites.set_ticket("c", "").await, Outcome::Done { .. }));
    let daemon = aside(move || {
        tenant_ok(&daemon.data, &["quota", "acme", "--max-tickets", "5"]);
        eventually_blocking("it is within its quota", || daemon.state("acme") == "serving");
        daemon
    })
    .await;
    sites.stop().await;
    aside(move || drop(daemon)).await;
}
