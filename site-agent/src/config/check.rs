//! Everything that can be said about a file without running it.
//!
//! An *error* keeps the agent from starting: the file contradicts itself or is unsafe. A *warning*
//! is allowed and costs something, which it names. An *info* says what was taken for granted. Every
//! finding says where it stands and what to do next; all of them come at once.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_ticket::configuration::Role;
use tierce_ticket::entry::{LossPolicy, Mode, Regrant};
use tierce_ticket::ids::{AttributeName, MemberName, TicketName};
use tierce_ticket::limits;
use tierce_ticket::timing::{Profile, Timing, show};

use super::derive::{self, DEFAULT_PROFILE};
use super::faults::{address_fault, agent_fault};
use super::place::nearest;
use super::types::{Config, Span, TicketConfig};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file is refused.
    Error,
    /// Allowed, and it costs something.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What, with its effect.
    pub what: String,
    /// Where in the file: a key, or a table with its name.
    #[serde(rename = "where")]
    pub place: String,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.level, self.place, self.what, self.next)
    }
}

/// Checks a file; errors first, then in the order of the file.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut c = Checker { found: Vec::new(), timing: config.timing() };
    c.names(config);
    c.members(config);
    c.times(config);
    c.sockets(config);
    c.guard(config);
    c.tickets(config);
    c.found.sort_by_key(|f| f.level);
    c.found
}

struct Checker {
    found: Vec<Finding>,
    timing: Timing,
}

impl Checker {
    fn say(
        &mut self,
        level: Level,
        place: impl Into<String>,
        what: impl Into<String>,
        next: impl Into<String>,
    ) {
        let (place, what, next) = (place.into(), what.into(), next.into());
        self.found.push(Finding { level, what, place, next });
    }

    fn error(&mut self, place: &str, what: impl Into<String>, next: impl Into<String>) {
        self.say(Level::Error, place, what, next);
    }

    fn warn(&mut self, place: &str, what: impl Into<String>, next: impl Into<String>) {
        self.say(Level::Warning, place, what, next);
    }

    /// A word out of a closed set.
    fn word(&mut self, place: &str, written: &str, allowed: &[&str]) {
        let next = match nearest(written, allowed) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("allowed: {}", allowed.join(", ")),
        };
        self.error(place, format!("`{written}` is none of the words that go here"), next);
    }

    // ----- the cluster ---------------------------------------------------------------------

    fn names(&mut self, c: &Config) {
        for (key, value) in [("tenant", &c.tenant), ("site", &c.site)] {
            // Both become DNS labels in certificates, so one rule serves both.
            if let Err(e) = value.parse::<MemberName>() {
                self.error(
                    key,
                    format!("{value:?} is refused: {}", e.why),
                    format!("use {}", e.allowed),
                );
            }
        }
    }

    fn members(&mut self, c: &Config) {
        let mut seen = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for m in &c.members {
            let place = format!("[[member]] {}", m.name);
            if let Err(e) = m.name.parse::<MemberName>() {
                self.error(
                    &place,
                    format!("the name is refused: {}", e.why),
                    format!("use {}", e.allowed),
                );
            }
            if !seen.insert(&m.name) {
                self.error(&place, "the name appears twice", "names are unique in a tenant");
            }
            if let Err(allowed) = derive::role(&m.role) {
                self.word(&format!("{place}, role"), &m.role, allowed);
            }
            if m.addresses.len() > limits::MAX_ADDRESSES {
                let most = limits::MAX_ADDRESSES;
                self.error(&place, "too many addresses", format!("name {most} at the most"));
            }
            if m.addresses.is_empty() && m.name != c.site {
                self.warn(
                    &place,
                    "it has no address: nobody can dial it, it must dial all others",
                    "add its address",
                );
            }
            for a in &m.addresses {
                if let Some(why) = address_fault(a) {
                    let next = "write host:port or [IPv6]:port";
                    self.error(&place, format!("the address {a:?} {why}"), next);
                } else if !addresses.insert(a.clone()) {
                    self.error(
                        &place,
                        format!("the address {a} appears twice"),
                        "each is one member's",
                    );
                }
            }
        }
        match c.members.iter().find(|m| m.name == c.site) {
            None => {
                let next = format!("add a [[member]] with name = \"{}\"", c.site);
                self.error("site", format!("`{}` is not among the members", c.site), next);
            }
            Some(m) if m.role() == Some(Role::Arbitrator) => {
                let next = "an arbitrator is run by tierce-arbitrator";
                self.error("site", format!("`{}` is an arbitrator, not a site", c.site), next);
            }
            Some(_) => {}
        }
        self.voters(c);
    }

    fn voters(&mut self, c: &Config) {
        let (n, place) = (c.members.len(), "[[member]]");
        let sites = c.members.iter().filter(|m| m.role() == Some(Role::Site)).count();
        match n {
            0 => {}
            1 => self.warn(
                place,
                "one voter: nothing can take over when this member is lost",
                "add a second site and an arbitrator",
            ),
            2 => self.warn(
                place,
                "two voters: when either is lost or cut off, no ticket can move and, once its \
                 lease ends, none can be held",
                "add an arbitrator at a third place",
            ),
            _ if n > limits::MAX_VOTERS => {
                let most = limits::MAX_VOTERS;
                self.error(place, format!("{n} voters"), format!("{most} at the most"));
            }
            _ if n.is_multiple_of(2) => self.warn(
                place,
                format!(
                    "{n} voters are an even count: they survive the loss of {} members, as {} would",
                    (n - 1) / 2,
                    n - 1
                ),
                "add one voter, or leave one out",
            ),
            _ => {}
        }
        if n > 1 && sites < 2 {
            self.warn(place, "there is one site: tickets have nowhere to go", "add a second site");
        }
    }

    fn times(&mut self, c: &Config) {
        match c.profile.as_deref() {
            Some(word) if derive::profile(word).is_none() => {
                self.word("profile", word, &Profile::ALL.map(Profile::word));
            }
            None => {
                let what = format!(
                    "none is named: {DEFAULT_PROFILE} (T = {}) is taken",
                    show(self.timing.promise)
                );
                self.say(Level::Info, "profile", what, "name one: metro-fast, lan, wan, cautious");
            }
            Some(_) => {}
        }
        for u in self.timing.check().err().unwrap_or_default() {
            let what = format!(
                "{}: {}: {} = {} is not {} {} = {}",
                u.rule, u.words, u.left, u.left_value, u.relation, u.right, u.right_value
            );
            self.error("timing", what, u.hint);
        }
    }

    fn sockets(&mut self, c: &Config) {
        if c.listen.port() == 0 {
            self.error("listen", "port 0 is another one after each start", "name a port");
        }
        if let Some(m) = c.metrics
            && !m.ip().is_loopback()
        {
            self.error(
                "metrics",
                format!("{m} is not a local address: metrics and health have no authentication"),
                "use 127.0.0.1 or [::1] and let a local collector read them",
            );
        }
        if c.metrics.is_some_and(|m| m == c.listen) {
            self.error("metrics", "it is the address of `listen` too", "give it a port of its own");
        }
        // The kernel's bound for the name of a unix socket.
        for (key, path) in [("control", c.control_path()), ("guard.socket", c.guard_socket())] {
            if path.as_os_str().len() > 107 {
                let next = "choose a shorter path, under /run for example";
                self.error(key, "a socket's path has 107 bytes at the most", next);
            }
        }
    }

    fn guard(&mut self, c: &Config) {
        let place = "[guard] last-resort";
        let Some(word) = c.guard.last_resort.as_deref() else {
            return;
        };
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        let known = ["watchdog", "sysrq", "kill", "record", "off"];
        if !known.contains(&kind) || (kind == "record" && rest.is_empty()) {
            self.word(place, word, &["watchdog", "sysrq", "kill", "record:PATH", "off"]);
        }
        if kind == "off" {
            self.warn(
                place,
                "there is no guard: when the agent is killed or frozen, what it runs goes on \
                 beyond the lease",
                "use watchdog or sysrq",
            );
        }
    }

    // ----- tickets -------------------------------------------------------------------------

    fn tickets(&mut self, c: &Config) {
        if c.tickets.is_empty() {
            let next = "add a [[ticket]], or make one with tierce tickets set";
            self.say(Level::Info, "[[ticket]]", "this file names no ticket", next);
        }
        if c.tickets.len() > limits::MAX_TICKETS {
            let most = limits::MAX_TICKETS;
            self.error("[[ticket]]", "too many tickets", format!("{most} at the most"));
        }
        let mut names = BTreeSet::new();
        let mut resources = BTreeSet::new();
        for t in &c.tickets {
            let place = format!("[[ticket]] {}", t.name);
            if let Err(e) = t.name.parse::<TicketName>() {
                self.error(
                    &place,
                    format!("the name is refused: {}", e.why),
                    format!("use {}", e.allowed),
                );
            }
            if !names.insert(t.name.clone()) {
                self.error(&place, "the name appears twice", "names are unique in a tenant");
            }
            self.policy(c, t, &place);
            self.resources(t, &place, &mut resources);
            self.side(t, &place);
        }
    }

    fn policy(&mut self, c: &Config, t: &TicketConfig, place: &str) {
        let at = |key: &str| format!("{place}, {key}");
        if let Err(allowed) = derive::mode(t.mode.as_deref()) {
            self.word(&at("mode"), t.mode.as_deref().unwrap_or_default(), allowed);
        }
        if let Err(allowed) = derive::regrant(t.regrant.as_deref()) {
            self.word(&at("regrant"), t.regrant.as_deref().unwrap_or_default(), allowed);
        }
        if let Err(allowed) = derive::loss(t.loss_policy.as_deref()) {
            self.word(&at("loss-policy"), t.loss_policy.as_deref().unwrap_or_default(), allowed);
        }
        let p = t.policy(&self.timing);
        if p.loss == LossPolicy::Freeze && p.mode != Mode::Manual {
            self.error(
                &at("loss-policy"),
                "freeze keeps resources running without a ticket: with an automatic mode two sites \
                 would run them",
                "freeze goes with mode = \"manual\" only",
            );
        } else if p.loss == LossPolicy::Freeze {
            let next = "use stop, unless a second copy running elsewhere does no harm";
            self.warn(&at("loss-policy"), "freeze: resources go on without a ticket", next);
        }
        if p.regrant != Regrant::Lapse && p.mode == Mode::Auto {
            self.say(
                Level::Info,
                at("regrant"),
                "after a lost site the ticket waits for proof that its nodes are down, so a \
                 takeover may need a person",
                "tierce fence confirm SITE gives it",
            );
        }
        let sites: Vec<&str> = c
            .members
            .iter()
            .filter(|m| m.role() == Some(Role::Site))
            .map(|m| m.name.as_str())
            .collect();
        let mut seen = BTreeSet::new();
        for site in &t.prefer {
            if !sites.contains(&site.as_str()) {
                let next = match nearest(site, &sites) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the sites are: {}", sites.join(", ")),
                };
                self.error(&at("prefer"), format!("`{site}` is not a site"), next);
            }
            if !seen.insert(site) {
                self.error(&at("prefer"), format!("`{site}` appears twice"), "name it once");
            }
        }
        if t.prefer.len() == 1 && p.mode == Mode::Auto {
            let what = "one site only: in mode auto it has nowhere to go";
            self.warn(&at("prefer"), what, "name a second site, or use mode manual");
        }
        let most = self.timing.stop_budget;
        if p.stop_budget.is_zero() || p.stop_budget > most {
            let what = format!(
                "{} is not above 0 and at most the cluster's B = {}",
                Span(p.stop_budget),
                Span(most)
            );
            self.error(&at("stop-budget"), what, "lower it, or choose a slower profile");
        }
        self.attributes(t, &at("require"));
    }

    fn attributes(&mut self, t: &TicketConfig, place: &str) {
        if t.require.len() > limits::MAX_ATTRIBUTES {
            let most = limits::MAX_ATTRIBUTES;
            self.error(place, "too many attributes", format!("{most} at the most"));
        }
        for (name, value) in &t.require {
            if let Err(e) = name.parse::<AttributeName>() {
                self.error(
                    place,
                    format!("`{name}` is refused: {}", e.why),
                    format!("use {}", e.allowed),
                );
            }
            if value.len() > limits::ATTRIBUTE_VALUE_BYTES {
                let most = limits::ATTRIBUTE_VALUE_BYTES;
                self.error(
                    place,
                    format!("the value of `{name}` is too long"),
                    format!("{most} bytes at the most"),
                );
            }
        }
    }

    fn resources(&mut self, t: &TicketConfig, place: &str, seen: &mut BTreeSet<String>) {
        let budget = t.stop_budget.map_or(self.timing.stop_budget, Duration::from);
        for r in &t.resources {
            let place = format!("{place}, resource {}", r.id);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if r.id.is_empty() || r.id.len() > 64 || !r.id.chars().all(plain) {
                let next = "use 1 to 64 of A-Z, a-z, 0-9 and - _ .";
                self.error(&place, format!("the id {:?} is refused", r.id), next);
            }
            if !seen.insert(r.id.clone()) {
                self.error(&place, "the id appears twice", "ids are unique at a site");
            }
            if let Some(why) = agent_fault(&r.agent) {
                let next = "write ocf:PROVIDER:NAME, lsb:NAME, systemd:UNIT or service:NAME";
                self.error(&place, format!("the agent `{}` {why}", r.agent), next);
            }
            for (key, span) in [
                ("start-timeout", r.start_timeout),
                ("stop-timeout", r.stop_timeout),
                ("monitor-timeout", r.monitor_timeout),
            ] {
                if span.is_some_and(|s| s.0.is_zero()) {
                    self.error(&place, format!("{key} is zero"), "give it time to answer");
                }
            }
            if let Some(stop) = r.stop_timeout
                && stop.0 > budget
            {
                let what = format!(
                    "stop-timeout {stop} is longer than the stop budget {}: at the end of a lease \
                     the guard steps in before the agent has given up",
                    Span(budget)
                );
                self.warn(&place, what, "lower it, or choose a slower profile");
            }
        }
        if t.resources.is_empty() && t.address.is_none() && t.dns.is_none() && t.bgp.is_none() {
            self.say(
                Level::Info,
                place,
                "nothing runs under it at this site",
                "add a [[ticket.resource]]",
            );
        }
    }

    /// Gates, address, DNS and route.
    fn side(&mut self, t: &TicketConfig, place: &str) {
        for g in &t.gates {
            if g.handler.first().is_none_or(String::is_empty) {
                self.error(&format!("{place}, gate"), "the handler is empty", "name a program");
            }
        }
        if t.lag_command.as_ref().is_some_and(|c| c.first().is_none_or(String::is_empty)) {
            self.error(&format!("{place}, lag-command"), "the command is empty", "name a program");
        }
        if t.max_lag.is_some() && t.lag_command.is_none() {
            let what =
                "there is no lag-command here: this site can never show that it may take over";
            self.warn(&format!("{place}, max-lag"), what, "add a lag-command");
        }
        if let Some(a) = &t.address {
            let at = format!("{place}, address");
            let most = if a.ip.is_ipv4() { 32 } else { 128 };
            if a.prefix.is_some_and(|p| p > most) {
                self.error(&at, format!("the prefix is longer than {most}"), "lower it");
            }
            if let Some(gate) = a.gate.as_deref()
                && !["required", "preferred", "off"].contains(&gate)
            {
                self.word(&format!("{at}, gate"), gate, &["required", "preferred", "off"]);
            }
        }
        if let Some(d) = &t.dns
            && (d.zone.is_empty() || d.name.is_empty() || d.addresses.is_empty())
        {
            let next = "name the zone, the name and at least one address";
            self.error(&format!("{place}, dns"), "it is incomplete", next);
        }
        if let Some(b) = &t.bgp {
            let at = format!("{place}, bgp");
            let parts = b.prefix.split_once('/');
            let ip = parts.and_then(|(ip, _)| ip.parse::<std::net::IpAddr>().ok());
            let len = parts.and_then(|(_, len)| len.parse::<u8>().ok());
            let good = matches!((ip, len), (Some(ip), Some(len)) if len <= if ip.is_ipv4() { 32 } else { 128 });
            if !good {
                self.error(&at, format!("{:?} is not a prefix", b.prefix), "write 192.0.2.10/32");
            }
            if b.local_as == 0 || b.peer_as == 0 {
                self.error(&at, "AS 0 is reserved", "name the AS numbers of both sides");
            }
            if b.hold_time.is_some_and(|h| !h.0.is_zero() && h.0 < Duration::from_secs(3)) {
                self.error(&at, "a hold time is 0 or at least 3 s (RFC 4271)", "raise it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SOUND;
    use super::super::tests::{changed, sound};
    use super::*;

    fn levels(c: &Config, level: Level) -> Vec<String> {
        check(c).into_iter().filter(|f| f.level == level).map(|f| f.to_string()).collect()
    }

    #[test]
    fn the_sound_file_has_no_finding() {
        assert_eq!(check(&sound()), []);
    }

    #[test]
    fn each_fault_is_an_error_that_names_it() {
        let member = "addresses = [\"zurich.example:7801\"]\n";
        for (from, to, word) in [
            ("tenant = \"shop\"", "tenant = \"a shop\"", "tenant"),
            ("site = \"paris\"", "site = \"lyon\"", "not among the members"),
            ("site = \"paris\"", "site = \"zurich\"", "is an arbitrator"),
            ("name = \"rome\"", "name = \"paris\"", "appears twice"),
            ("role = \"arbitrator\"", "role = \"arbiter\"", "did you mean `arbitrator`"),
            ("paris.example:7800", "paris.example", "has no port"),
            ("[2001:db8::1]:7800", "2001:db8::1:7800", "without brackets"),
            ("rome.example:7800", "paris.example:7800", "appears twice"),
            ("profile = \"metro-fast\"", "profile = \"metro\"", "did you mean `metro-fast`"),
            ("profile = \"metro-fast\"", "timing = { promise = \"1s\" }", "I2"),
            ("profile = \"metro-fast\"", "metrics = \"192.0.2.1:9\"", "not a local address"),
            (
                "profile = \"metro-fast\"",
                "guard = { last-resort = \"reboot\" }",
                "none of the words",
            ),
            ("mode = \"auto\"", "mode = \"automatic\"", "did you mean `auto`"),
            ("mode = \"auto\"", "mode = \"auto\"\nloss-policy = \"freeze\"", "manual"),
            ("mode = \"auto\"", "regrant = \"fence\"", "did you mean `fenced`"),
            ("prefer = [\"paris\", \"rome\"]", "prefer = [\"roma\"]", "did you mean `rome`"),
            ("prefer = [\"paris\", \"rome\"]", "prefer = [\"zurich\"]", "not a site"),
            ("stop-budget = \"300ms\"", "stop-budget = \"2s\"", "B = 350ms"),
            ("stop-budget = \"300ms\"", "require = { \"a b\" = \"1\" }", "is refused"),
            ("ocf:heartbeat:Dummy", "ocf:Dummy", "wrong number of parts"),
            ("ocf:heartbeat:Dummy", "ocf:..:Dummy", "leave its directory"),
            ("ocf:heartbeat:Dummy", "lsb:../../bin/sh", "leave its directory"),
            ("ocf:heartbeat:Dummy", "upstart:x", "no known class"),
            ("id = \"dummy\"", "id = \"\"", "is refused"),
            (member, "addresses = [\"z:0\"]\n", "no port from 1"),
        ] {
            let errors = levels(&changed(from, to), Level::Error);
            assert!(errors.iter().any(|e| e.contains(word)), "{to}: {errors:?}");
        }
    }

    #[test]
    fn doubles_of_tickets_and_resources_are_errors() {
        let two = format!("{SOUND}\n{}", &SOUND[SOUND.find("[[ticket]]").unwrap()..]);
        let c: Config = toml::from_str(&two).unwrap();
        let errors = levels(&c, Level::Error);
        assert!(errors.iter().any(|e| e.contains("[[ticket]] web: the name appears twice")));
        assert!(errors.iter().any(|e| e.contains("resource dummy: the id appears twice")));
    }

    #[test]
    fn what_is_allowed_and_costs_something_is_a_warning_with_its_effect() {
        let zurich = "[[member]]\nname = \"zurich\"\nrole = \"arbitrator\"\naddresses = [\"zurich.example:7801\"]\n";
        let fourth = format!(
            "{zurich}\n[[member]]\nname = \"oslo\"\nrole = \"site\"\naddresses = [\"o:1\"]\n"
        );
        for (from, to, word) in [
            (zurich, "", "two voters"),
            (zurich, fourth.as_str(), "even count"),
            ("params =", "stop-timeout = \"20s\"\nparams =", "guard steps in before"),
            ("mode = \"auto\"", "loss-policy = \"freeze\"", "go on without a ticket"),
            ("mode = \"auto\"", "max-lag = \"5s\"", "lag-command"),
            ("prefer = [\"paris\", \"rome\"]", "prefer = [\"rome\"]", "nowhere to go"),
            (
                "profile = \"metro-fast\"",
                "profile = \"metro-fast\"\nguard = { last-resort = \"off\" }",
                "no guard",
            ),
        ] {
            let c = changed(from, to);
            let warnings = levels(&c, Level::Warning);
            assert!(warnings.iter().any(|e| e.contains(word)), "{to}: {warnings:?}");
            assert_eq!(levels(&c, Level::Error), [] as [&str; 0], "{to}");
        }
    }

    #[test]
    fn what_was_taken_for_granted_is_said() {
        let c = changed("profile = \"metro-fast\"\n", "");
        let infos = levels(&c, Level::Info);
        assert!(infos.iter().any(|e| e.contains("wan") && e.contains("20 s")), "{infos:?}");
    }
}
