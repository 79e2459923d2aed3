//! The real command with the real daemons.

use super::support::{tierce, tierce_at};
use super::world::{Cluster, text};

#[test]
fn a_ticket_is_granted_moved_and_revoked_in_a_real_cluster_that_a_member_joins() {
    let ticket = "[[ticket]]\nname = \"web\"\nmode = \"manual\"\nstop-budget = \"300ms\"\n";
    let mut cluster = Cluster::form(ticket, |_| ());
    let (ca, paris, ports) = (cluster.at("ca"), cluster.paris.clone(), cluster.ports);
    let at = |name: &str| cluster.at(name);
    let json = |args: &[&str]| cluster.json(args);
    let first = json(&["tickets", "grant", "web", "--to", "paris"])["term"].as_u64().unwrap();
    let moved = json(&["tickets", "move", "web", "--to", "rome"])["term"].as_u64().unwrap();
    assert!(moved > first, "terms only grow: {first}, {moved}");
    let ticket = json(&["tickets", "show", "web"]);
    assert_eq!((&ticket["site"], ticket["term"].as_u64()), (&"rome".into(), Some(moved)));
    let plan = json(&["tickets", "plan", "web", "--to", "paris"]);
    assert_eq!((&plan["from"], &plan["to"]), (&"rome".into(), &"paris".into()));
    tierce_at(&paris, &["tickets", "grant", "web", "--to", "oslo"]).failed(105);
    let history = json(&["tickets", "history", "web"]);
    assert!(history["decisions"].as_array().unwrap().len() >= 3, "{history}");

    // Over the network: a new member's certificate, once, and a renewal.
    let address = format!("127.0.0.1:{}", ports[0]);
    let invite = ["pki", "invite", "--ca", text(&ca), "--role", "site", "--name", "oslo"];
    let string = tierce(&[&invite[..], &["--address", &address]].concat()).ok().out;
    let (oslo, again) = (at("oslo"), at("again"));
    tierce(&["pki", "join", string.trim(), "--dir", text(&oslo)]).ok();
    tierce(&["pki", "join", string.trim(), "--dir", text(&again)]).failed(1);
    tierce(&["pki", "rotate", "--dir", text(&oslo), "--address", &address]).ok();

    tierce_at(&paris, &["tickets", "revoke", "web"]).ok();
    (cluster.sites, cluster.arbitrator) = ([None, None], None);
    tierce_at(&paris, &["status"]).failed(102);
}
