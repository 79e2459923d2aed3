//! The status of a member, and of the cluster as that member sees it. It begins with one sentence:
//! verdict, reason, next command.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tierce_ticket::configuration::Role;
use tierce_ticket::docket::Docket;
use tierce_ticket::entry::SiteState;
use tierce_ticket::holder::VoterView;
use tierce_ticket::ids::MemberName;
use tierce_ticket::member::Standing;
use tierce_ticket::message::Refused;
use tierce_ticket::timing::show;
use tierce_wire::control::{API_VERSION, MemberView, StatusView, TicketView};

use super::Scene;
use super::words::ms;

impl Scene {
    /// The whole status.
    pub(crate) fn status_view(&self) -> StatusView {
        let f = &self.facts;
        let tickets: Vec<TicketView> =
            f.docket.iter().flat_map(Docket::tickets).map(|t| self.ticket_view(t)).collect();
        let (verdict, summary, next) = self.verdict(&tickets);
        StatusView {
            api_version: API_VERSION.to_owned(),
            verdict: verdict.to_owned(),
            summary,
            next,
            tenant: self.config.tenant.clone(),
            member: f.me.to_string(),
            role: Role::Site.to_string(),
            standing: standing_word(&f.standing).to_owned(),
            leader: f.leader.as_ref().map(ToString::to_string),
            quorate: f.quorate(),
            applied: f.docket.as_ref().map_or(0, |d| d.applied().0),
            cluster: f.identity.map(|(c, _)| c.to_string()).unwrap_or_default(),
            digest: hex(&f.digest),
            timing: self.timing_words(),
            worst_takeover_ms: ms(self.worst_takeover()),
            members: self.members(),
            tickets,
            alarms: self.local.alarms.clone(),
            certificate_days: self.local.certificate_left.map(|d| d.as_secs_f64() / 86_400.0),
            distrusted: f.distrusted.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// T + 2 RTT + 2 fsync with what was measured; RTT_max where nothing was.
    pub(crate) fn worst_takeover(&self) -> std::time::Duration {
        let timing = self.facts.timing().unwrap_or_else(|| self.config.timing());
        let rtt = self.facts.majority_rtt().unwrap_or(timing.rtt_max);
        timing.worst_takeover(rtt, self.local.fsync)
    }

    /// Verdict, sentence, next command.
    fn verdict(&self, tickets: &[TicketView]) -> (&'static str, String, String) {
        let f = &self.facts;
        let named = |state: &str| {
            let of: Vec<&str> =
                tickets.iter().filter(|t| t.state == state).map(|t| t.name.as_str()).collect();
            (of.len(), of.into_iter().take(3).collect::<Vec<_>>().join(", "))
        };
        if !f.quorate() {
            let summary = format!("unknown: no majority is reached: {}", f.why_not_quorate());
            return ("unknown", summary, next_alone(&f.standing));
        }
        if let Some(why) = &f.distrusted {
            let summary = format!("critical: this site's clock is not to be trusted: {why}");
            return ("critical", summary, "tierce trace show".to_owned());
        }
        for (state, words) in
            [("blocked", "cannot run where it is"), ("waiting-proof", "waits for proof")]
        {
            if let (n @ 1.., names) = named(state) {
                let first = names.split(',').next().unwrap_or_default();
                let summary =
                    format!("critical: {n} of {} tickets {words}: {names}", tickets.len());
                return ("critical", summary, format!("tierce tickets show {first}"));
            }
        }
        if let (n @ 1.., names) = named("suspect") {
            let summary = format!("degraded: the holder of {n} tickets does not renew: {names}");
            return ("degraded", summary, "tierce status".to_owned());
        }
        let missing = f.missing();
        if !missing.is_empty() {
            let summary = format!(
                "degraded: {} cannot be reached; another loss may stop decisions",
                missing.join(", ")
            );
            return ("degraded", summary, "tierce sites list".to_owned());
        }
        if self.members().iter().any(|m| m.same_config == Some(false)) {
            let summary = "degraded: the sites' files differ in what must be equal".to_owned();
            return ("degraded", summary, "tierce config diff".to_owned());
        }
        let moving = tickets.iter().filter(|t| matches!(t.state.as_str(), "handover" | "stopping"));
        let (moving, held) = (moving.count(), tickets.iter().filter(|t| t.site.is_some()).count());
        let mut summary = format!(
            "ok: {} members agree, {held} of {} tickets are held",
            self.members().len(),
            tickets.len()
        );
        if moving > 0 {
            let _ = write!(summary, ", {moving} of them moving");
        }
        let next = if tickets.is_empty() { "tierce tickets set NAME" } else { "nothing to do" };
        ("ok", summary, next.to_owned())
    }

    fn timing_words(&self) -> BTreeMap<String, String> {
        let t = self.facts.timing().unwrap_or_else(|| self.config.timing());
        let percent = f64::from(t.rho_ppm) / 10_000.0;
        [
            ("T", show(t.promise)),
            ("H", show(t.holder_time())),
            ("W", show(t.watchdog)),
            ("B", show(t.stop_budget)),
            ("P", show(t.renew_every)),
            ("rho", format!("{percent} %")),
            ("g", show(t.slack)),
            ("k", t.losses.to_string()),
            ("rtt-max", show(t.rtt_max)),
            ("election", show(t.election)),
            ("blip-budget", show(t.blip_budget(t.stop_budget))),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
    }

    /// All members: those of the ledger, and those of the file that are not in it yet.
    pub(crate) fn members(&self) -> Vec<MemberView> {
        let f = &self.facts;
        let mut all: BTreeMap<MemberName, MemberView> = BTreeMap::new();
        for m in self.config.plan().members {
            let view = MemberView {
                role: m.role.to_string(),
                standing: "planned".to_owned(),
                addresses: m.addresses,
                ..MemberView::default()
            };
            all.insert(m.name, view);
        }
        if let Some(c) = &f.configuration {
            all.clear();
            for (id, m) in c.members() {
                let voter = c.is_voter(id);
                let view = MemberView {
                    role: m.role.to_string(),
                    number: id.0,
                    standing: if voter { "voter" } else { "learner" }.to_owned(),
                    addresses: m.addresses.clone(),
                    ..MemberView::default()
                };
                all.insert(m.name.clone(), view);
            }
        }
        all.into_iter().map(|(name, view)| self.member_view(&name, view)).collect()
    }

    fn member_view(&self, name: &MemberName, view: MemberView) -> MemberView {
        let f = &self.facts;
        let site = view.role == "site";
        let peer = f.peers.get(name);
        let voter = f.voter(name);
        let docket = f.docket.as_ref().filter(|_| site);
        let own = *name == f.me;
        let promised = |v: &VoterView| v.until.map(|u| ms(u.since(f.now.holder)));
        MemberView {
            name: name.to_string(),
            connected: own || peer.is_some(),
            rtt_ms: self.local.rtts.get(name).map(|d| d.as_secs_f64() * 1_000.0),
            session: docket.and_then(|d| d.session_of(name)).map(|s| s.0),
            declared: docket.map(|d| declared_word(d.site(name).map(|s| s.state)).to_owned()),
            promise_left_ms: voter.and_then(promised),
            refused: voter.and_then(|v| v.refused).map(|r| refused_words(r).to_owned()),
            same_config: peer.filter(|_| site).map(|p| p.digest == f.digest),
            ..view
        }
    }
}

fn next_alone(standing: &Standing) -> String {
    match standing {
        Standing::Unformed => "start the other members; tierce sites list shows which are missing",
        Standing::Out(_) => "tierce sites list at another member",
        _ => "tierce status at another member",
    }
    .to_owned()
}

pub(crate) fn standing_word(s: &Standing) -> &'static str {
    match s {
        Standing::Unformed => "unformed",
        Standing::Confirming => "confirming",
        Standing::TakingPart => "taking-part",
        Standing::Out(_) => "out",
    }
}

fn declared_word(s: Option<SiteState>) -> &'static str {
    match s.unwrap_or_default() {
        SiteState::Normal => "normal",
        SiteState::Outage => "outage",
        SiteState::Disaster => "disaster",
        SiteState::Disconnect => "disconnect",
    }
}

fn refused_words(r: Refused) -> &'static str {
    match r {
        Refused::UnknownSession => "it has not seen this session opened; it may be behind",
        Refused::Fenced => "it has fenced this session",
        Refused::Ended => "this session has ended",
        Refused::NotReady => "it may not promise yet",
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
