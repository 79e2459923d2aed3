//! What must be so before a ticket is moved for practice. Pure: views in, checks out.
//!
//! A drill adds a risk of its own on top of the day's; it is only begun on a good day. Each check
//! says what it found, also when it is well.

use std::path::{Path, PathBuf};

use tierce_wire::control::{MemberView, PlanView, StatusView, TicketView};

use super::limits::CERTIFICATE_DAYS;
use crate::evidence::phase::known_start;
use crate::evidence::report::Check;

/// A member that was asked.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) socket: PathBuf,
    pub(super) status: StatusView,
    pub(super) ticket: TicketView,
}

/// Everything that is known before.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// The member that is asked for everything, then the observers.
    pub(super) seen: Vec<Seen>,
    /// Observers that did not answer, with why.
    pub(super) blind: Vec<(PathBuf, String)>,
    /// Why the first member's word is not as new as the ledger, if so.
    pub(super) linear: Option<String>,
    pub(super) to: Option<String>,
    pub(super) plan: Option<PlanView>,
}

impl Scene {
    /// The member that is asked for everything.
    pub(super) fn first(&self) -> &Seen {
        &self.seen[0] // it is made with one
    }

    pub(super) fn holder(&self) -> Option<&str> {
        self.first().ticket.site.as_deref()
    }

    /// A site's own word, if its socket was named.
    pub(super) fn own(&self, site: &str) -> Option<&Seen> {
        self.seen.iter().find(|s| s.status.member == site)
    }

    /// The socket to ask for plans: the holder knows best how long its stop takes.
    pub(super) fn best_socket(&self, holder: &str) -> &Path {
        &self.own(holder).unwrap_or(self.first()).socket
    }

    /// All sites, in one order.
    pub(super) fn sites(&self) -> Vec<String> {
        let members = self.first().status.members.iter();
        members.filter(|m| m.role == "site").map(|m| m.name.clone()).collect()
    }

    /// Where the ticket could go: the most wanted site that may hold it.
    pub(super) fn successor(&self) -> Option<String> {
        successor(&self.first().ticket, &self.sites(), self.holder())
    }
}

/// The most wanted site but `not` that nothing stands against.
pub(super) fn successor(t: &TicketView, sites: &[String], not: Option<&str>) -> Option<String> {
    let prefer = t.policy.prefer.clone().unwrap_or_default();
    let order = if prefer.is_empty() { sites.to_vec() } else { prefer };
    order
        .into_iter()
        .find(|s| Some(s.as_str()) != not && t.sites.get(s).is_some_and(String::is_empty))
}

/// All checks.
pub(super) fn checks(scene: &Scene) -> Vec<Check> {
    let mut checks = vec![quorum(scene), members(scene), promises(scene), alike(scene)];
    checks.extend([clock(scene), certificate(scene), held(scene), in_place(scene)]);
    checks.extend([successor_ready(scene), allowed(scene), vantage(scene)]);
    checks
}

/// Whether all are well.
pub(super) fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|c| c.passed)
}

fn verdict(name: &str, bad: &[String], good: impl Into<String>) -> Check {
    if bad.is_empty() {
        Check::new(name, true, good)
    } else {
        Check::new(name, false, bad.join("; "))
    }
}

fn quorum(scene: &Scene) -> Check {
    let s = &scene.first().status;
    let leader = s.leader.as_deref().unwrap_or("nobody");
    let well = s.quorate && s.standing == "taking-part" && scene.linear.is_none();
    let reason = match &scene.linear {
        Some(why) => why.clone(),
        None if well => format!("a majority answers; {leader} leads"),
        None => format!("{} ({})", s.summary, s.standing),
    };
    Check::new("quorum", well, reason)
}

fn members(scene: &Scene) -> Check {
    let s = &scene.first().status;
    let away = |m: &&MemberView| !m.connected || m.standing != "voter";
    let bad: Vec<String> = s
        .members
        .iter()
        .filter(away)
        .map(|m| {
            let name = &m.name;
            if m.connected {
                format!("{name} is a {}", m.standing)
            } else {
                format!("{name} cannot be reached")
            }
        })
        .collect();
    verdict("members", &bad, format!("all {} members are connected and vote", s.members.len()))
}

fn promises(scene: &Scene) -> Check {
    let mut bad = Vec::new();
    for seen in &scene.seen {
        let own = &seen.status.member;
        for m in seen.status.members.iter().filter(|m| m.name != *own) {
            if let Some(why) = &m.refused {
                bad.push(format!("{} refuses {own} its promise: {why}", m.name));
            } else if m.promise_left_ms.unwrap_or(0) == 0 {
                bad.push(format!(
                    "no promise of {} to {own} runs: a blip may be under way",
                    m.name
                ));
            }
        }
        if seen.ticket.state == "suspect" {
            bad.push(format!("{own} suspects the holder: {}", seen.ticket.because));
        }
    }
    bad.dedup();
    verdict("promises", &bad, "every voter promises; no blip is under way")
}

fn alike(scene: &Scene) -> Check {
    let mut bad = Vec::new();
    for seen in &scene.seen {
        let differ = seen.status.members.iter().filter(|m| m.same_config == Some(false));
        bad.extend(
            differ.map(|m| format!("{}'s file differs from {}'s", m.name, seen.status.member)),
        );
    }
    verdict(
        "configuration",
        &bad,
        format!("the same at all sites: {}", scene.first().status.digest),
    )
}

fn clock(scene: &Scene) -> Check {
    let told = |s: &Seen| s.status.distrusted.as_ref().map(|w| format!("{}: {w}", s.status.member));
    let bad: Vec<String> = scene.seen.iter().filter_map(told).collect();
    let names: Vec<&str> = scene.seen.iter().map(|s| s.status.member.as_str()).collect();
    verdict("clocks", &bad, format!("audited within rho at {}", names.join(", ")))
}

fn certificate(scene: &Scene) -> Check {
    let mut least = f64::INFINITY;
    let mut bad = Vec::new();
    for s in &scene.seen {
        match s.status.certificate_days {
            Some(days) if days >= CERTIFICATE_DAYS => least = least.min(days),
            Some(days) => bad.push(format!("{}'s ends in {days:.1} days", s.status.member)),
            None => bad.push(format!("{} knows of none", s.status.member)),
        }
    }
    verdict("certificates", &bad, format!("none ends within {} days", least.floor()))
}

fn held(scene: &Scene) -> Check {
    let t = &scene.first().ticket;
    let site = t.site.as_deref().unwrap_or("nobody");
    let bad = (t.state != "held").then(|| format!("it is {}: {}", t.state, t.because));
    let mut bad: Vec<String> = bad.into_iter().collect();
    let own = scene.own(site).map(|s| s.ticket.resources.as_slice()).unwrap_or_default();
    let ill = own.iter().filter(|r| r.state != "running");
    bad.extend(ill.map(|r| format!("{} is {} at {site}: {}", r.id, r.state, r.last)));
    let term = t.term.unwrap_or(0);
    verdict("ticket", &bad, format!("{} is held by {site} under term {term}", t.name))
}

fn in_place(scene: &Scene) -> Check {
    let bad = scene.first().ticket.hold.as_deref().map(|h| match h {
        "one-move" => {
            "it moved by itself lately, and its one move per window is used up".to_owned()
        }
        _ => format!("it is held in place: {}", scene.first().ticket.because),
    });
    let bad: Vec<String> = bad.into_iter().collect();
    verdict("free to move", &bad, "nothing holds it in place, no one-move window runs")
}

fn successor_ready(scene: &Scene) -> Check {
    let t = &scene.first().ticket;
    let mut bad = Vec::new();
    let Some(to) = &scene.to else {
        let against = t.sites.iter().filter(|(s, w)| !w.is_empty() && t.site.as_ref() != Some(*s));
        bad.extend(against.map(|(s, why)| format!("{s}: {why}")));
        if t.site.is_none() {
            bad = vec!["nobody holds it, so it cannot be moved".to_owned()];
        } else if bad.is_empty() {
            bad.push("there is no other site".to_owned());
        }
        return verdict("successor", &bad, "");
    };
    match t.sites.get(to).map(String::as_str) {
        Some("") => {}
        Some(why) => bad.push(format!("{to}: {why}")),
        None => bad.push(format!("{to} is not a site of this ticket")),
    }
    if t.site.as_ref() == Some(to) {
        bad.push(format!("{to} holds it already"));
    }
    // Both ways: what cannot come back is no drill.
    for site in [Some(to), t.site.as_ref()].into_iter().flatten() {
        let member = scene.first().status.members.iter().find(|m| m.name == *site);
        if let Some(state) = member.and_then(|m| m.declared.as_deref()).filter(|d| *d != "normal") {
            bad.push(format!("{site} is declared {state}"));
        }
        if member.is_some_and(|m| m.session.is_none()) {
            bad.push(format!("{site} has no session"));
        }
    }
    if let Some(home) = t.site.as_ref()
        && let Some(why) = t.sites.get(home).filter(|w| !w.is_empty())
    {
        bad.push(format!("it could not come back to {home}: {why}"));
    }
    verdict("successor", &bad, format!("nothing stands against {to}"))
}

fn allowed(scene: &Scene) -> Check {
    let bad: Vec<String> = match &scene.plan {
        Some(plan) => plan.refused.clone().into_iter().collect(),
        None => vec!["there is no plan without a successor".to_owned()],
    };
    let outage = scene.plan.as_ref().map_or(0, |p| p.outage_ms);
    let known = scene.plan.as_ref().is_some_and(|p| known_start(p).is_some());
    let start = if known { "" } else { " without the start, which was not told there yet" };
    verdict("plan", &bad, format!("it would be accepted; outage {outage} ms{start}"))
}

/// An observer that was named and does not answer would be missed afterwards.
fn vantage(scene: &Scene) -> Check {
    let bad = scene.blind.iter().map(|(s, why)| format!("{}: {why}", s.display()));
    let bad: Vec<String> = bad.collect();
    let names: Vec<&str> = scene.seen.iter().map(|s| s.status.member.as_str()).collect();
    verdict("observers", &bad, format!("looked from {}", names.join(", ")))
}

#[cfg(test)]
pub(super) mod tests {
    use tierce_wire::control::{PolicyView, ResourceView};

    use super::*;

    fn member(name: &str, role: &str) -> MemberView {
        MemberView {
            name: name.to_owned(),
            role: role.to_owned(),
            standing: "voter".to_owned(),
            connected: true,
            session: (role == "site").then_some(3),
            declared: (role == "site").then(|| "normal".to_owned()),
            promise_left_ms: Some(700),
            same_config: (role == "site").then_some(true),
            ..MemberView::default()
        }
    }

    /// A good day: paris holds web, rome may have it.
    pub(in super::super) fn good() -> Scene {
        let status = StatusView {
            member: "paris".to_owned(),
            standing: "taking-part".to_owned(),
            quorate: true,
            leader: Some("zurich".to_owned()),
            members: [("paris", "site"), ("rome", "site"), ("zurich", "arbitrator")]
                .map(|(n, r)| member(n, r))
                .into(),
            certificate_days: Some(80.0),
            worst_takeover_ms: 1_002,
            ..StatusView::default()
        };
        let ticket = TicketView {
            name: "web".to_owned(),
            state: "held".to_owned(),
            site: Some("paris".to_owned()),
            term: Some(7),
            policy: PolicyView { mode: Some("auto".to_owned()), ..PolicyView::default() },
            sites: ["paris", "rome"].map(|s| (s.to_owned(), String::new())).into(),
            ..TicketView::default()
        };
        let seen = vec![Seen { socket: "/p".into(), status, ticket }];
        let plan = Some(PlanView { outage_ms: 30, ..PlanView::default() });
        Scene { seen, blind: Vec::new(), linear: None, to: Some("rome".to_owned()), plan }
    }

    fn failing(scene: &Scene) -> Vec<String> {
        let bad = checks(scene).into_iter().filter(|c| !c.passed);
        bad.map(|c| {
            assert!(!c.reason.is_empty(), "{c:?}");
            c.name
        })
        .collect()
    }

    #[test]
    fn on_a_good_day_every_check_passes_and_says_what_it_found() {
        let all = checks(&good());
        assert!(passed(&all) && all.len() == 11, "{all:?}");
        assert!(all.iter().all(|c| !c.reason.is_empty()), "{all:?}");
        assert_eq!(good().successor().as_deref(), Some("rome"));
    }

    #[test]
    fn each_thing_that_speaks_against_a_drill_is_found_by_its_own_check() {
        type Spoil = fn(&mut Seen);
        let spoils: [(&str, Spoil); 13] = [
            ("quorum", |s| s.status.quorate = false),
            ("quorum", |s| s.status.standing = "confirming".to_owned()),
            ("members", |s| s.status.members[2].connected = false),
            ("members", |s| s.status.members[1].standing = "learner".to_owned()),
            ("promises", |s| s.status.members[1].promise_left_ms = Some(0)),
            ("promises", |s| s.status.members[2].refused = Some("fenced".to_owned())),
            ("configuration", |s| s.status.members[1].same_config = Some(false)),
            ("clocks", |s| s.status.distrusted = Some("it was paused".to_owned())),
            ("certificates", |s| s.status.certificate_days = Some(2.0)),
            ("ticket", |s| s.ticket.state = "handover".to_owned()),
            ("free to move", |s| s.ticket.hold = Some("operator".to_owned())),
            ("free to move", |s| s.ticket.hold = Some("one-move".to_owned())),
            ("successor", |s| {
                s.ticket.sites.insert("rome".to_owned(), "replication lag".to_owned());
            }),
        ];
        for (name, spoil) in spoils {
            let mut scene = good();
            spoil(&mut scene.seen[0]);
            assert_eq!(failing(&scene), [name]);
        }
    }

    #[test]
    fn a_way_back_that_is_closed_a_refused_plan_and_a_blind_observer_are_found() {
        let mut scene = good();
        scene.seen[0].status.members[0].declared = Some("outage".to_owned());
        assert_eq!(failing(&scene), ["successor"]);
        let mut scene = good();
        scene.plan.as_mut().unwrap().refused = Some("no".to_owned());
        assert_eq!(failing(&scene), ["plan"]);
        let mut scene = good();
        scene.blind.push(("/r".into(), "no daemon".to_owned()));
        assert_eq!(failing(&scene), ["observers"]);
        let mut scene = good();
        (scene.to, scene.plan) = (None, None);
        assert_eq!(failing(&scene), ["successor", "plan"]);
    }

    #[test]
    fn a_resource_that_does_not_run_at_its_holder_is_found_where_it_can_be_seen() {
        let mut scene = good();
        let r = ResourceView {
            id: "db".to_owned(),
            state: "failed".to_owned(),
            ..ResourceView::default()
        };
        scene.seen[0].ticket.resources = vec![r];
        assert_eq!(failing(&scene), ["ticket"]);
    }

    #[test]
    fn the_successor_is_the_most_wanted_site_that_nothing_stands_against() {
        let mut t = good().seen[0].ticket.clone();
        let sites = ["paris", "rome", "oslo"].map(str::to_owned);
        t.sites.insert("oslo".to_owned(), String::new());
        t.policy.prefer = Some(vec!["paris".to_owned(), "oslo".to_owned(), "rome".to_owned()]);
        assert_eq!(successor(&t, &sites, Some("paris")).as_deref(), Some("oslo"));
        t.sites.insert("oslo".to_owned(), "lag".to_owned());
        assert_eq!(successor(&t, &sites, Some("paris")).as_deref(), Some("rome"));
        t.sites.insert("rome".to_owned(), "lag".to_owned());
        assert_eq!(successor(&t, &sites, Some("paris")), None);
    }
}
