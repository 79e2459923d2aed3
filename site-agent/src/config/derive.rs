//! What the rest of the agent works with, made from the file.
//!
//! The *digest* covers exactly what must be equal at all sites: tenant, lease times as they result
//! (not how they were written), members and the tickets' names and policies. Members compare it in
//! their hello, so that a file edited at one site only is found before it matters. Order in the
//! file does not count; defaults written out do not either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tierce_ticket::configuration::Role;
use tierce_ticket::entry::{LossPolicy, Mode, Policy, Regrant};
use tierce_ticket::ids::{AttributeName, MemberName, TicketName};
use tierce_ticket::member::{FoundingPlan, PlannedMember};
use tierce_ticket::timing::{Profile, Timing};

use super::types::{Config, MemberConfig, TicketConfig};

/// The profile of a file that names none: wide area, which is slow rather than sorry.
pub(super) const DEFAULT_PROFILE: Profile = Profile::Wan;
/// Default of one-move-per.
const ONE_MOVE_PER: Duration = Duration::from_hours(1);

/// A word of the file as the protocol's value, or the words that are allowed.
pub(crate) fn mode(word: Option<&str>) -> Result<Mode, &'static [&'static str]> {
    match word {
        None | Some("manual") => Ok(Mode::Manual),
        Some("observe") => Ok(Mode::Observe),
        Some("confirm") => Ok(Mode::Confirm),
        Some("auto") => Ok(Mode::Auto),
        Some(_) => Err(&["manual", "observe", "confirm", "auto"]),
    }
}

/// The same for `regrant`.
pub(crate) fn regrant(word: Option<&str>) -> Result<Regrant, &'static [&'static str]> {
    match word {
        None | Some("lapse") => Ok(Regrant::Lapse),
        Some("fenced") => Ok(Regrant::Fenced),
        Some("operator") => Ok(Regrant::Operator),
        Some(_) => Err(&["lapse", "fenced", "operator"]),
    }
}

/// The same for `loss-policy`.
pub(crate) fn loss(word: Option<&str>) -> Result<LossPolicy, &'static [&'static str]> {
    match word {
        None | Some("stop") => Ok(LossPolicy::Stop),
        Some("fence") => Ok(LossPolicy::Fence),
        Some("freeze") => Ok(LossPolicy::Freeze),
        Some(_) => Err(&["stop", "fence", "freeze"]),
    }
}

/// The same for a member's role.
pub(super) fn role(word: &str) -> Result<Role, &'static [&'static str]> {
    match word {
        "site" => Ok(Role::Site),
        "arbitrator" => Ok(Role::Arbitrator),
        _ => Err(&["site", "arbitrator"]),
    }
}

impl MemberConfig {
    /// Its role, if the word is one.
    pub fn role(&self) -> Option<Role> {
        role(&self.role).ok()
    }
}

impl TicketConfig {
    /// The policy, in the cluster's terms; words that are none take their default (a checked file
    /// has no such words).
    pub fn policy(&self, timing: &Timing) -> Policy {
        let attribute = |(k, v): (&String, &String)| {
            k.parse::<AttributeName>().ok().map(|name| (name, v.clone()))
        };
        Policy {
            mode: mode(self.mode.as_deref()).unwrap_or_default(),
            regrant: regrant(self.regrant.as_deref()).unwrap_or_default(),
            loss: loss(self.loss_policy.as_deref()).unwrap_or_default(),
            prefer: self.prefer.iter().filter_map(|s| s.parse::<MemberName>().ok()).collect(),
            one_move_per: self.one_move_per.map_or(ONE_MOVE_PER, Duration::from),
            require: self.require.iter().filter_map(attribute).collect::<BTreeMap<_, _>>(),
            max_lag: self.max_lag.map(Duration::from),
            stop_budget: self.stop_budget.map_or(timing.stop_budget, Duration::from),
        }
    }
}

/// The profile of this word.
pub(super) fn profile(word: &str) -> Option<Profile> {
    Profile::ALL.into_iter().find(|p| p.word() == word)
}

impl Config {
    /// Lease times: those of the profile with what the file says otherwise.
    pub fn timing(&self) -> Timing {
        let named = self.profile.as_deref().and_then(profile);
        let base = named.unwrap_or(DEFAULT_PROFILE).timing();
        let t = &self.timing;
        let span = |s: Option<super::types::Span>, d: Duration| s.map_or(d, Duration::from);
        Timing {
            promise: span(t.promise, base.promise),
            watchdog: span(t.watchdog, base.watchdog),
            stop_budget: span(t.stop_budget, base.stop_budget),
            renew_every: span(t.renew_every, base.renew_every),
            rho_ppm: t.rho_ppm.unwrap_or(base.rho_ppm),
            slack: span(t.slack, base.slack),
            wake_up: span(t.wake_up, base.wake_up),
            rtt_max: span(t.rtt_max, base.rtt_max),
            losses: t.losses.unwrap_or(base.losses),
            election: span(t.election, base.election),
        }
    }

    /// How the cluster begins. Members are ordered by name, so that all sites plan the same.
    pub fn plan(&self) -> FoundingPlan {
        let mut members: Vec<PlannedMember> = self
            .members
            .iter()
            .filter_map(|m| {
                let name = m.name.parse().ok()?;
                Some(PlannedMember { name, role: m.role()?, addresses: m.addresses.clone() })
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        FoundingPlan { members, timing: self.timing() }
    }

    /// All tickets with their policies, in the order of the file.
    pub fn policies(&self) -> Vec<(TicketName, Policy)> {
        let timing = self.timing();
        let policy =
            |t: &TicketConfig| t.name.parse::<TicketName>().ok().map(|n| (n, t.policy(&timing)));
        self.tickets.iter().filter_map(policy).collect()
    }

    /// The ticket of this name.
    pub fn ticket(&self, name: &str) -> Option<&TicketConfig> {
        self.tickets.iter().find(|t| t.name == name)
    }

    /// SHA-256, first 16 bytes, over what must be equal at all sites.
    pub fn digest(&self) -> [u8; 16] {
        let mut c = Canonical::default();
        c.text("tierce/config/1").text(&self.tenant);
        let timing = self.timing();
        for d in [
            timing.promise,
            timing.watchdog,
            timing.stop_budget,
            timing.renew_every,
            timing.slack,
            timing.wake_up,
            timing.rtt_max,
            timing.election,
        ] {
            c.number(d.as_nanos() as u64);
        }
        c.number(timing.rho_ppm.into()).number(timing.losses.into());
        let plan = self.plan();
        c.number(plan.members.len() as u64);
        for m in &plan.members {
            c.text(m.name.as_str()).text(&m.role.to_string());
            c.number(m.addresses.len() as u64);
            for a in &m.addresses {
                c.text(a);
            }
        }
        let mut policies = self.policies();
        policies.sort_by(|a, b| a.0.cmp(&b.0));
        c.number(policies.len() as u64);
        for (name, p) in &policies {
            c.text(name.as_str()).policy(p);
        }
        c.finish()
    }
}

/// The form that is hashed: every text with its length before it, so that nothing can be read in
/// two ways.
#[derive(Default)]
struct Canonical(Sha256);

impl Canonical {
    fn number(&mut self, n: u64) -> &mut Self {
        self.0.update(n.to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
        self
    }

    fn policy(&mut self, p: &Policy) {
        self.text(&format!("{:?} {:?} {:?}", p.mode, p.regrant, p.loss));
        self.number(p.prefer.len() as u64);
        for site in &p.prefer {
            self.text(site.as_str());
        }
        self.number(p.one_move_per.as_nanos() as u64);
        self.number(p.require.len() as u64);
        for (name, value) in &p.require {
            self.text(name.as_str()).text(value);
        }
        self.number(p.max_lag.map_or(u64::MAX, |d| d.as_nanos() as u64));
        self.number(p.stop_budget.as_nanos() as u64);
    }

    fn finish(self) -> [u8; 16] {
        let full = self.0.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }
}

// ----- paths ---------------------------------------------------------------------------------

impl Config {
    /// Relative paths become relative to the file's directory: a daemon's own is `/`.
    pub(super) fn resolve_paths(&mut self, file: &Path) {
        let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let fix = |p: &mut PathBuf| {
            if p.is_relative() {
                *p = base.join(&*p);
            }
        };
        fix(&mut self.data);
        for p in [
            &mut self.pki,
            &mut self.ca,
            &mut self.control,
            &mut self.recorder,
            &mut self.guard.socket,
        ] {
            p.iter_mut().for_each(fix);
        }
    }

    /// Directory of this member's certificate.
    pub fn pki_dir(&self) -> PathBuf {
        self.pki.clone().unwrap_or_else(|| self.data.join("pki"))
    }

    /// The control socket.
    pub fn control_path(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| self.data.join("control.sock"))
    }

    /// The guard's socket.
    pub fn guard_socket(&self) -> PathBuf {
        self.guard.socket.clone().unwrap_or_else(|| self.data.join("guard.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::SOUND;
    use super::super::tests::{changed, sound};
    use super::*;

    #[test]
    fn what_the_file_says_replaces_the_profile_and_the_rest_stays() {
        let c = changed(
            "profile = \"metro-fast\"\n",
            "profile = \"lan\"\ntiming = { promise = \"8s\", losses = 4 }\n",
        );
        let lan = Profile::Lan.timing();
        let expected = Timing { promise: Duration::from_secs(8), losses: 4, ..lan };
        assert_eq!(c.timing(), expected);
        let none = changed("profile = \"metro-fast\"\n", "");
        assert_eq!(none.timing(), Profile::Wan.timing());
    }

    #[test]
    fn policies_carry_the_words_of_the_file_and_the_defaults() {
        let c = sound();
        let (name, p) = &c.policies()[0];
        assert_eq!(name.as_str(), "web");
        assert_eq!((p.mode, p.regrant, p.loss), (Mode::Auto, Regrant::Lapse, LossPolicy::Stop));
        assert_eq!(p.stop_budget, Duration::from_millis(300));
        assert_eq!(p.one_move_per, ONE_MOVE_PER);
        assert_eq!(p.prefer.iter().map(MemberName::as_str).collect::<Vec<_>>(), ["paris", "rome"]);
        let bare = changed("stop-budget = \"300ms\"\n", "");
        assert_eq!(bare.policies()[0].1.stop_budget, Duration::from_millis(350));
    }

    #[test]
    fn the_plan_is_the_same_at_all_sites() {
        let names: Vec<_> = sound().plan().members.iter().map(|m| m.name.to_string()).collect();
        assert_eq!(names, ["paris", "rome", "zurich"]);
    }

    #[test]
    fn the_digest_covers_what_must_be_equal() {
        let d = sound().digest();
        for (from, to) in [
            ("tenant = \"shop\"", "tenant = \"shoq\""),
            ("profile = \"metro-fast\"", "profile = \"lan\""),
            ("paris.example", "paris2.example"),
            ("role = \"arbitrator\"", "role = \"site\""),
            ("name = \"zurich\"", "name = \"bern\""),
            ("mode = \"auto\"", "mode = \"manual\""),
            ("prefer = [\"paris\", \"rome\"]", "prefer = [\"rome\", \"paris\"]"),
            ("stop-budget = \"300ms\"", "stop-budget = \"301ms\""),
            ("name = \"web\"", "name = \"wob\""),
        ] {
            assert_ne!(changed(from, to).digest(), d, "{to} did not change the digest");
        }
    }

    #[test]
    fn the_digest_leaves_out_what_is_each_sites_own() {
        let d = sound().digest();
        for (from, to) in [
            ("site = \"paris\"", "site = \"rome\""),
            ("data = \"/var/lib/tierce\"", "data = \"/srv\""),
            ("listen = \"0.0.0.0:7800\"", "listen = \"0.0.0.0:7801\""),
            ("id = \"dummy\"", "id = \"other\""),
            ("profile = \"metro-fast\"", "profile = \"metro-fast\"\ntiming = { promise = \"1s\" }"),
            ("mode = \"auto\"", "mode = \"auto\"\none-move-per = \"60m\""),
        ] {
            assert_eq!(changed(from, to).digest(), d, "{to} changed the digest");
        }
        let member = "[[member]]\nname = \"rome\"\nrole = \"site\"\naddresses = \
                      [\"rome.example:7800\", \"[2001:db8::1]:7800\"]\n\n";
        assert!(SOUND.contains(member));
        let moved = SOUND.replace(member, "").replace("[[ticket]]", &format!("{member}[[ticket]]"));
        let moved = Config::parse(&moved, Path::new("x.toml")).unwrap();
        assert_eq!(moved.digest(), d, "the order of members changed the digest");
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let text = SOUND.replace("\"/var/lib/tierce\"", "\"state\"");
        let c = Config::parse(&text, Path::new("/etc/tierce/a.toml")).unwrap();
        assert_eq!(c.data, Path::new("/etc/tierce/state"));
        assert_eq!(c.control_path(), Path::new("/etc/tierce/state/control.sock"));
        assert_eq!(c.pki_dir(), Path::new("/etc/tierce/state/pki"));
    }
}
