//! The doors of a ticket: what makes the service reachable here, and nowhere else.
//!
//! Gate and address come first and last, because they are this node's own data plane and decide
//! whatever stale routes and caches say (switchover.md, rule 1). The route and the names follow;
//! both carry the term, so that a newer holder overrules an older one by itself (rule 2). Names are
//! never emptied (rule 4): leaving changes no record.
//!
//! Sockets are opened and BGP sessions brought up when the settings are read, long before a grant:
//! opening the doors is a few system calls, without a fork.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tierce_bgp::{Asn, IpNet, MedBase, Speaker, SpeakerConfig, SpeakerHandle};
use tierce_dns::{FencedUpdate, Name, Nonce, SiteName};
use tierce_gate::vip::{ANNOUNCE_AT, Link, Vip, VipError};
use tierce_gate::{Deadline, Gate, GateError, Options};
use tierce_ticket::ids::Term;
use tierce_ticket::time::HolderTime;

use super::limits;
use super::settings::{Loss, Setting};
use crate::config::{AddressConfig, BgpConfig, DnsConfig};

/// An address without a lifetime: for `freeze`, which outlives its lease on purpose.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

enum Kernel<T> {
    Unused,
    Ready(T),
    Missing(String),
}

/// Everything behind the doors of this node.
pub(crate) struct Doors {
    site: String,
    gate: Kernel<Gate>,
    vip: Kernel<Vip>,
    speakers: BTreeMap<String, SpeakerHandle>,
    /// What went wrong with the gate last, if it did: it is said in every status line.
    trouble: Option<String>,
}

impl Doors {
    pub(crate) fn new(site: &str) -> Self {
        Self {
            site: site.to_owned(),
            gate: Kernel::Unused,
            vip: Kernel::Unused,
            speakers: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Makes ready what the setting needs. Returns why nothing may start under it, if so.
    pub(crate) fn prepare(&mut self, setting: &Setting) -> Option<String> {
        let mut forbidden = None;
        if let Some(address) = &setting.address {
            if gated(setting, address) {
                let ready = self.protect(address.ip);
                if let Err(why) = ready
                    && address.gate.as_deref() == Some("required")
                {
                    forbidden = Some(format!("gate = \"required\" for {}: {why}", address.ip));
                }
            }
            if address.interface.is_some() && matches!(self.vip, Kernel::Unused) {
                self.vip = match Vip::open() {
                    Ok(vip) => Kernel::Ready(vip),
                    Err(error) => Kernel::Missing(error.to_string()),
                };
            }
        }
        if let Some(bgp) = &setting.bgp
            && let Err(why) = self.speaker(bgp)
        {
            forbidden = forbidden.or(Some(format!("bgp: {why}")));
        }
        if let Some(dns) = &setting.dns
            && let Err(why) = update(dns, &self.site, Term(0))
        {
            forbidden = forbidden.or(Some(format!("dns: {why}")));
        }
        forbidden
    }

    fn protect(&mut self, ip: IpAddr) -> Result<(), String> {
        if matches!(self.gate, Kernel::Unused) {
            self.gate = match Gate::open(Options::default()) {
                Ok(gate) => Kernel::Ready(gate),
                Err(error) => Kernel::Missing(error.to_string()),
            };
        }
        match &mut self.gate {
            Kernel::Ready(gate) => gate.protect(ip).map_err(|e| e.to_string()),
            Kernel::Missing(why) => Err(why.clone()),
            Kernel::Unused => Ok(()),
        }
    }

    /// Gate, address and route; `until`: when the kernel shuts by itself.
    pub(crate) fn open(
        &mut self,
        setting: &Setting,
        term: Term,
        until: Option<HolderTime>,
    ) -> Result<(), String> {
        if let Some(address) = &setting.address {
            let until = if setting.loss == Loss::Freeze {
                None
            } else {
                Some(until.ok_or("no lease is known yet")?)
            };
            self.open_gate(setting, address, until)?;
            self.set_address(address, until)?;
            self.announce(setting);
        }
        if let Some(bgp) = &setting.bgp {
            let prefix = prefix(bgp)?;
            let speaker = self.speaker(bgp)?;
            speaker.announce(prefix, tierce_bgp::Term(term.0)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn open_gate(
        &mut self,
        setting: &Setting,
        address: &AddressConfig,
        until: Option<HolderTime>,
    ) -> Result<(), String> {
        let required = address.gate.as_deref() == Some("required");
        let (true, Some(until)) = (gated(setting, address), until) else { return Ok(()) };
        let Kernel::Ready(gate) = &mut self.gate else {
            // `prepare` has forbidden the start where it is required.
            return if required { Err("the kernel gate is missing".to_owned()) } else { Ok(()) };
        };
        let opened = match gate.renew(address.ip, Deadline(until.as_nanos())) {
            // Somebody flushed the rules: they are laid out anew, once.
            Err(GateError::TableGone) => {
                self.gate = Kernel::Unused;
                self.protect(address.ip)?;
                match &mut self.gate {
                    Kernel::Ready(gate) => gate.renew(address.ip, Deadline(until.as_nanos())),
                    _ => Err(GateError::TableGone),
                }
            }
            other => other,
        };
        self.trouble = None;
        opened.map_err(|error| error.to_string())
    }

    fn set_address(&mut self, a: &AddressConfig, until: Option<HolderTime>) -> Result<(), String> {
        let Some(name) = &a.interface else { return Ok(()) };
        let lifetime = until.map_or(FOR_EVER, |until| until.since(super::clock::now()));
        let vip = self.vip()?;
        let link = vip.link(name).map_err(|e| e.to_string())?;
        vip.add(link, a.ip, prefix_length(a), lifetime).map_err(|e| e.to_string())
    }

    fn vip(&mut self) -> Result<&mut Vip, String> {
        match &mut self.vip {
            Kernel::Ready(vip) => Ok(vip),
            Kernel::Missing(why) => Err(why.clone()),
            Kernel::Unused => Err("the address sockets are not open".to_owned()),
        }
    }

    /// When to announce the address again, after an opening.
    pub(crate) fn announce_times(setting: &Setting, now: HolderTime) -> Vec<HolderTime> {
        let set = setting.address.as_ref().is_some_and(|a| a.interface.is_some());
        if set { ANNOUNCE_AT.iter().skip(1).map(|d| now + *d).collect() } else { Vec::new() }
    }

    /// Tells the neighbours. What is lost is repeated; what is not permitted is said in status.
    pub(crate) fn announce(&mut self, setting: &Setting) {
        let Some(address) = &setting.address else { return };
        let Some(name) = &address.interface else { return };
        let ip = address.ip;
        let told = self.vip().map_err(|why| why.clone()).and_then(|vip| {
            let link: Result<Link, VipError> = vip.link(name);
            link.and_then(|link| vip.announce(link, ip)).map_err(|e| e.to_string())
        });
        if let Err(why) = told {
            tracing::warn!(%ip, %why, "the address was not announced to its neighbours");
        }
    }

    /// Gate and address away, now. Both are tried; the first failure is returned.
    pub(crate) fn shut(&mut self, setting: &Setting) -> Result<(), String> {
        let Some(address) = &setting.address else { return Ok(()) };
        let mut result = Ok(());
        if gated(setting, address)
            && let Kernel::Ready(gate) = &mut self.gate
        {
            result = match gate.shut(address.ip) {
                Ok(()) | Err(GateError::NotGuarded(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
        }
        if let Some(name) = &address.interface
            && let Ok(vip) = self.vip()
        {
            let removed = match vip.link(name) {
                Ok(link) => vip.delete(link, address.ip, prefix_length(address)),
                Err(VipError::NoInterface(_)) => Ok(()), // and so no address on it
                Err(error) => Err(error),
            };
            result = result.and(removed.map_err(|e| e.to_string()));
        }
        result
    }

    /// The route away. Safety does not need it: a newer term overrules.
    pub(crate) fn withdraw(&mut self, setting: &Setting) {
        let Some(bgp) = &setting.bgp else { return };
        if let (Ok(prefix), Ok(speaker)) = (prefix(bgp), self.speaker(bgp))
            && let Err(error) = speaker.withdraw(prefix)
        {
            tracing::warn!(%prefix, %error, "the route was not withdrawn");
        }
    }

    /// Keeps open doors open: those of the session's lease in one transaction, the others alone.
    pub(crate) fn renew(&mut self, open: &[(&Setting, HolderTime)]) {
        let mut by_time: BTreeMap<u64, Vec<IpAddr>> = BTreeMap::new();
        for (setting, until) in open {
            let Some(address) = &setting.address else { continue };
            if setting.loss == Loss::Freeze {
                continue;
            }
            if gated(setting, address) {
                by_time.entry(until.as_nanos()).or_default().push(address.ip);
            }
            if let Err(why) = self.set_address(address, Some(*until)) {
                tracing::warn!(ip = %address.ip, %why, "the address was not renewed");
            }
        }
        for (until, addresses) in by_time {
            self.renew_gate(&addresses, Deadline(until));
        }
    }

    fn renew_gate(&mut self, addresses: &[IpAddr], until: Deadline) {
        let Kernel::Ready(gate) = &mut self.gate else { return };
        let result = match gate.renew_many(addresses, until) {
            Err(GateError::TableGone) => {
                tracing::error!("the gate's rules were removed by somebody: laid out anew");
                self.gate = Kernel::Unused;
                let ready = addresses.iter().try_for_each(|ip| self.protect(*ip));
                match (&mut self.gate, ready) {
                    (Kernel::Ready(gate), Ok(())) => {
                        gate.renew_many(addresses, until).map_err(|e| e.to_string())
                    }
                    (_, Err(why)) => Err(why),
                    _ => Err("it cannot be opened again".to_owned()),
                }
            }
            other => other.map_err(|e| e.to_string()),
        };
        if let Err(why) = &result {
            tracing::error!(%why, "the gate was not renewed");
        }
        self.trouble = result.err();
    }

    /// The layers that really protect an address at this moment.
    pub(crate) fn lines(&self, setting: &Setting, open: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(address) = &setting.address {
            match (&self.gate, &self.trouble) {
                _ if setting.loss == Loss::Freeze => {}
                _ if !gated(setting, address) => lines.push("no L1 kernel gate: it is off".into()),
                (Kernel::Ready(_), Some(why)) | (Kernel::Missing(why), _) => {
                    lines.push(format!("no L1 kernel gate: {why}"));
                }
                (Kernel::Ready(_), None) if open => lines.push("L1 kernel gate".into()),
                _ => {}
            }
            if address.interface.is_some() && setting.loss != Loss::Freeze && open {
                lines.push("L1 address lifetime".into());
            }
        }
        if let Some(bgp) = setting.bgp.as_ref().filter(|_| open) {
            lines.push(format!("L3 router hold time ({:?})", hold_time(bgp)));
            lines.push("L4 newer term wins (BGP)".into());
        }
        if setting.dns.is_some() && open {
            lines.push("L4 newer term wins (DNS)".into());
        }
        lines
    }

    /// The update that brings this site's records in place, if the ticket has a name.
    pub(crate) fn dns(
        &self,
        setting: &Setting,
        term: Term,
    ) -> Result<Option<FencedUpdate>, String> {
        setting.dns.as_ref().map(|dns| update(dns, &self.site, term)).transpose()
    }

    fn speaker(&mut self, bgp: &BgpConfig) -> Result<&SpeakerHandle, String> {
        // One session serves all tickets with the same settings beside the prefix.
        let key = format!("{:?}", BgpConfig { prefix: String::new(), ..bgp.clone() });
        if !self.speakers.contains_key(&key) {
            let mut config =
                SpeakerConfig::new(bgp.peer, Asn(bgp.peer_as), Asn(bgp.local_as), bgp.router_id);
            config.hold_time = hold_time(bgp);
            config.med_base = MedBase(tierce_bgp::Term(bgp.base_term.unwrap_or(0)));
            match bgp.next_hop {
                IpAddr::V4(hop) => config.next_hop_v4 = Some(hop),
                IpAddr::V6(hop) => config.next_hop_v6 = Some(hop),
            }
            let speaker = Speaker::spawn(config).map_err(|e| e.to_string())?;
            self.speakers.insert(key.clone(), speaker);
        }
        self.speakers.get(&key).ok_or_else(|| "no speaker".to_owned())
    }

    /// Ends the BGP sessions in order.
    pub(crate) async fn shut_down(&mut self) {
        for (_, speaker) in std::mem::take(&mut self.speakers) {
            speaker.shutdown("tierce: the agent ends").await;
        }
    }
}

fn gated(setting: &Setting, address: &AddressConfig) -> bool {
    // A gate that ends with the lease would contradict freeze, which is to outlive it.
    address.gate.as_deref() != Some("off") && setting.loss != Loss::Freeze
}

fn prefix_length(address: &AddressConfig) -> u8 {
    address.prefix.unwrap_or(if address.ip.is_ipv4() { 32 } else { 128 })
}

fn hold_time(bgp: &BgpConfig) -> Duration {
    bgp.hold_time.map_or(limits::BGP_HOLD, Duration::from)
}

fn prefix(bgp: &BgpConfig) -> Result<IpNet, String> {
    bgp.prefix.parse().map_err(|_| format!("{:?} is no prefix such as 192.0.2.10/32", bgp.prefix))
}

fn update(dns: &DnsConfig, site: &str, term: Term) -> Result<FencedUpdate, String> {
    let name = |text: &str| {
        let mut name = Name::from_ascii(text).map_err(|_| format!("{text:?} is no DNS name"))?;
        name.set_fqdn(true);
        Ok::<Name, String>(name)
    };
    Ok(FencedUpdate {
        server: dns.server,
        zone: name(&dns.zone)?,
        name: name(&dns.name)?,
        addrs: dns.addresses.clone(),
        ttl: dns.ttl.unwrap_or(limits::DNS_TTL),
        term: tierce_dns::Term(term.0),
        site: SiteName::new(site).map_err(|e| e.to_string())?,
        nonce: Nonce::random().map_err(|e| e.to_string())?,
        tsig: None,
    })
}
