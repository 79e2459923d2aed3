//! One zone in memory: answers, and updates whose check and change are one step.
//!
//! The point of this file is [`Zone::update`]. A name server that checks an update's
//! prerequisites, lets go of its lock and then applies the change lets two racing writers both
//! pass the check; the fence would then protect nothing. Here check and change happen inside one
//! `&mut self` call with no way out between them, and everything that can refuse the change is
//! decided before the first record is touched: an update is applied whole or not at all.
//!
//! The order of checks is that of RFC 2136 section 3; each cited step has its place below.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordData, RecordType};

use crate::error::DnsError;
use crate::limits::MAX_ZONE_RECORDS;

/// Zone data. Names are kept in lower case; TTL is per set, as RFC 2181 section 5.2 demands.
#[derive(Debug, Clone)]
pub struct Zone {
    origin: Name,
    soa: SOA,
    soa_ttl: u32,
    names: BTreeMap<Name, BTreeMap<u16, RrSet>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RrSet {
    ttl: u32,
    data: Vec<RData>,
}

/// What a question finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The records asked for.
    Records(Vec<Record>),
    /// The name exists, the type does not; carries the SOA for the authority section.
    NoData(Box<Record>),
    /// The name does not exist; carries the SOA for the authority section.
    NoName(Box<Record>),
    /// The question is not for this zone or not of a kind answered here.
    Not(ResponseCode),
}

/// Types that the zone keeps. SOA is kept apart.
const KEPT: [RecordType; 4] = [RecordType::A, RecordType::AAAA, RecordType::NS, RecordType::TXT];

/// Negative answers are cached this long; short, since a drill looks again at once.
const NEGATIVE_TTL: u32 = 1;

impl Zone {
    /// A zone from its records. SOA and NS of the apex are made up where they are missing.
    pub fn new(origin: &Name, records: &[Record]) -> Result<Self, DnsError> {
        let origin = canonical(origin);
        let server = child(&origin, "ns")?;
        let soa = SOA::new(server.clone(), child(&origin, "hostmaster")?, 1, 60, 60, 3_600, 1);
        let names = BTreeMap::new();
        let mut zone = Self { origin: origin.clone(), soa, soa_ttl: NEGATIVE_TTL, names };
        for record in records {
            zone.load(record)?;
        }
        let apex = zone.names.entry(origin).or_default();
        let ns = || RrSet { ttl: 60, data: vec![RData::NS(NS(server))] };
        apex.entry(RecordType::NS.into()).or_insert_with(ns);
        Ok(zone)
    }

    fn load(&mut self, record: &Record) -> Result<(), DnsError> {
        let name = canonical(&record.name);
        let bad = |why: &str| DnsError::Invalid { what: format!("record {record}: {why}") };
        if !self.origin.zone_of(&name) || record.dns_class != DNSClass::IN {
            return Err(bad("is outside the zone"));
        }
        if self.record_count() >= MAX_ZONE_RECORDS {
            return Err(bad("is one too many for the zone"));
        }
        match &record.data {
            RData::SOA(soa) if name == self.origin => {
                self.soa = soa.clone();
                self.soa_ttl = record.ttl;
            }
            RData::Update0(_) => return Err(bad("has no data")),
            data if KEPT.contains(&data.record_type()) => {
                self.insert(&name, record.ttl, data.clone());
            }
            _ => return Err(bad("is of a type that this authority does not keep")),
        }
        Ok(())
    }

    /// The zone's name.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The zone's serial; it grows with each update that changed something.
    pub fn serial(&self) -> u32 {
        self.soa.serial
    }

    /// All records, SOA first, in canonical order.
    pub fn records(&self) -> Vec<Record> {
        let mut all = vec![self.soa_record()];
        for (name, sets) in &self.names {
            for set in sets.values() {
                all.extend(set.records(name));
            }
        }
        all
    }

    fn record_count(&self) -> usize {
        self.names.values().flat_map(BTreeMap::values).map(|set| set.data.len()).sum()
    }

    fn soa_record(&self) -> Record {
        Record::from_rdata(self.origin.clone(), self.soa_ttl, RData::SOA(self.soa.clone()))
    }

    fn set(&self, name: &Name, kind: RecordType) -> Option<RrSet> {
        if kind == RecordType::SOA {
            let soa = || RrSet { ttl: self.soa_ttl, data: vec![RData::SOA(self.soa.clone())] };
            return (*name == self.origin).then(soa);
        }
        self.names.get(name)?.get(&kind.into()).cloned()
    }

    /// Whether a name owns records (RFC 2136 "name is in use").
    fn in_use(&self, name: &Name) -> bool {
        *name == self.origin || self.names.contains_key(name)
    }

    /// Whether a name exists for questions: it or something beneath it owns records (RFC 8020).
    fn exists(&self, name: &Name) -> bool {
        // Canonical order puts everything beneath a name right behind it.
        let next = self.names.range(name.clone()..).next();
        *name == self.origin || next.is_some_and(|(found, _)| name.zone_of(found))
    }

    // ---- Questions -------------------------------------------------------------------------

    /// Answers one question.
    pub fn find(&self, name: &Name, class: DNSClass, kind: RecordType) -> Found {
        let name = canonical(name);
        if class != DNSClass::IN || !self.origin.zone_of(&name) {
            return Found::Not(ResponseCode::Refused);
        }
        if matches!(kind, RecordType::ANY | RecordType::AXFR | RecordType::IXFR) {
            return Found::Not(ResponseCode::NotImp);
        }
        if let Some(set) = self.set(&name, kind) {
            return Found::Records(set.records(&name).collect());
        }
        // RFC 2308 section 3: the SOA of a negative answer carries the negative TTL.
        let mut soa = self.soa_record();
        soa.ttl = soa.ttl.min(self.soa.minimum);
        if self.exists(&name) { Found::NoData(Box::new(soa)) } else { Found::NoName(Box::new(soa)) }
    }

    // ---- Updates (RFC 2136 section 3) ------------------------------------------------------

    /// Checks prerequisites and applies changes in one step. `Err` means that nothing changed.
    pub fn update(&mut self, prereqs: &[Record], changes: &[Record]) -> Result<(), ResponseCode> {
        self.check_prerequisites(prereqs)?;
        self.check_changes(changes)?;
        // Nothing below this line can refuse.
        let before = self.names.clone();
        for change in changes {
            self.change(change);
        }
        if self.names != before {
            // RFC 1982 arithmetic; zero is skipped, since some tools read it as "unset".
            self.soa.serial = self.soa.serial.wrapping_add(1).max(1);
        }
        Ok(())
    }

    /// Section 3.2: all prerequisites against the zone as it stands now.
    fn check_prerequisites(&self, prereqs: &[Record]) -> Result<(), ResponseCode> {
        let mut wanted: BTreeMap<(Name, u16), Vec<RData>> = BTreeMap::new();
        for prereq in prereqs {
            let (name, kind) = (canonical(&prereq.name), prereq.record_type());
            if prereq.ttl != 0 {
                return Err(ResponseCode::FormErr);
            }
            if !self.origin.zone_of(&name) {
                return Err(ResponseCode::NotZone);
            }
            match prereq.dns_class {
                DNSClass::ANY | DNSClass::NONE if !prereq.data.is_update() => {
                    return Err(ResponseCode::FormErr);
                }
                DNSClass::ANY if kind == RecordType::ANY => {
                    require(self.in_use(&name), ResponseCode::NXDomain)?;
                }
                DNSClass::ANY => require(self.set(&name, kind).is_some(), ResponseCode::NXRRSet)?,
                DNSClass::NONE if kind == RecordType::ANY => {
                    require(!self.in_use(&name), ResponseCode::YXDomain)?;
                }
                DNSClass::NONE => require(self.set(&name, kind).is_none(), ResponseCode::YXRRSet)?,
                DNSClass::IN if !prereq.data.is_update() => {
                    let set = wanted.entry((name, kind.into())).or_default();
                    if !set.contains(&prereq.data) {
                        set.push(prereq.data.clone());
                    }
                }
                _ => return Err(ResponseCode::FormErr),
            }
        }
        // Section 3.2.3: sets must be equal as sets; TTL does not count.
        for ((name, kind), data) in wanted {
            let found = self.set(&name, kind.into()).ok_or(ResponseCode::NXRRSet)?;
            let same = found.data.len() == data.len();
            require(same && data.iter().all(|d| found.data.contains(d)), ResponseCode::NXRRSet)?;
        }
        Ok(())
    }

    /// Section 3.4.1: everything that could refuse a change, before the first one is made.
    fn check_changes(&self, changes: &[Record]) -> Result<(), ResponseCode> {
        let mut added = 0;
        for change in changes {
            let kind = change.record_type();
            require(self.origin.zone_of(&change.name), ResponseCode::NotZone)?;
            let meta = matches!(kind, RecordType::AXFR | RecordType::IXFR | RecordType::OPT);
            let any = kind == RecordType::ANY;
            let empty = change.data.is_update();
            let well_formed = match change.dns_class {
                DNSClass::IN => !meta && !any && !empty,
                DNSClass::ANY => !meta && empty && change.ttl == 0,
                DNSClass::NONE => !meta && !any && !empty && change.ttl == 0,
                _ => false,
            };
            require(well_formed, ResponseCode::FormErr)?;
            if change.dns_class == DNSClass::IN {
                // Policy of this authority: SOA is its own, and other types are not kept.
                require(KEPT.contains(&kind), ResponseCode::Refused)?;
                added += 1;
            }
        }
        require(self.record_count() + added <= MAX_ZONE_RECORDS, ResponseCode::Refused)
    }

    /// Section 3.4.2, one change. Apex SOA and NS survive every deletion.
    fn change(&mut self, change: &Record) {
        let name = canonical(&change.name);
        let apex = name == self.origin;
        let kind = change.record_type();
        match change.dns_class {
            DNSClass::IN => self.insert(&name, change.ttl, change.data.clone()),
            DNSClass::ANY => {
                let Some(sets) = self.names.get_mut(&name) else { return };
                let ns = u16::from(RecordType::NS);
                let all = kind == RecordType::ANY;
                sets.retain(|of, _| (apex && *of == ns) || !(all || *of == u16::from(kind)));
            }
            _ => {
                let Some(sets) = self.names.get_mut(&name) else { return };
                let Some(set) = sets.get_mut(&kind.into()) else { return };
                if apex && kind == RecordType::NS && set.data.len() == 1 {
                    return;
                }
                set.data.retain(|data| *data != change.data);
                sets.retain(|_, set| !set.data.is_empty());
            }
        }
        if self.names.get(&name).is_some_and(BTreeMap::is_empty) {
            self.names.remove(&name);
        }
    }

    fn insert(&mut self, name: &Name, ttl: u32, data: RData) {
        let sets = self.names.entry(name.clone()).or_default();
        let empty = || RrSet { ttl, data: Vec::new() };
        let set = sets.entry(data.record_type().into()).or_insert_with(empty);
        set.ttl = ttl;
        if !set.data.contains(&data) {
            set.data.push(data);
        }
    }
}

impl RrSet {
    fn records<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = Record> + 'a {
        self.data.iter().map(|data| Record::from_rdata(name.clone(), self.ttl, data.clone()))
    }
}

fn require(holds: bool, code: ResponseCode) -> Result<(), ResponseCode> {
    if holds { Ok(()) } else { Err(code) }
}

/// Lower case and absolute, so that equal names are equal keys.
pub(crate) fn canonical(name: &Name) -> Name {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name
}

fn child(origin: &Name, label: &str) -> Result<Name, DnsError> {
    origin
        .prepend_label(label)
        .map_err(|_| DnsError::Invalid { what: format!("the zone name {origin} is too long") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, TXT};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn txt(owner: &str, text: &str) -> Record {
        Record::from_rdata(name(owner), 5, RData::TXT(TXT::new(vec![text.into()])))
    }

    fn address(owner: &str, last: u8) -> Record {
        Record::from_rdata(name(owner), 5, RData::A(A::new(192, 0, 2, last)))
    }

    fn with(mut record: Record, class: DNSClass, ttl: u32) -> Record {
        record.dns_class = class;
        record.ttl = ttl;
        record
    }

    fn bare(owner: &str, class: DNSClass, kind: RecordType) -> Record {
        with(Record::update0(name(owner), 0, kind), class, 0)
    }

    fn zone() -> Zone {
        let records = vec![txt("f.demo.test.", "one"), address("deep.down.demo.test.", 1)];
        Zone::new(&name("demo.test."), &records).unwrap()
    }

    #[test]
    fn questions_tell_no_data_from_no_name_and_refuse_other_zones() {
        let zone = zone();
        let ask = |owner: &str, kind| zone.find(&name(owner), DNSClass::IN, kind);
        assert!(matches!(ask("F.Demo.Test.", RecordType::TXT), Found::Records(r) if r.len() == 1));
        assert!(matches!(ask("f.demo.test.", RecordType::A), Found::NoData(_)));
        assert!(matches!(ask("down.demo.test.", RecordType::A), Found::NoData(_)));
        assert!(matches!(ask("x.demo.test.", RecordType::A), Found::NoName(_)));
        assert!(matches!(ask("demo.test.", RecordType::SOA), Found::Records(_)));
        assert!(matches!(ask("demo.test.", RecordType::NS), Found::Records(_)));
        assert_eq!(ask("example.org.", RecordType::A), Found::Not(ResponseCode::Refused));
        assert_eq!(ask("demo.test.", RecordType::AXFR), Found::Not(ResponseCode::NotImp));
    }

    #[test]
    fn each_prerequisite_of_rfc_2136_is_refused_with_its_own_code() {
        let cases = [
            (bare("f.demo.test.", DNSClass::ANY, RecordType::ANY), Ok(())),
            (bare("x.demo.test.", DNSClass::ANY, RecordType::ANY), Err(ResponseCode::NXDomain)),
            (bare("f.demo.test.", DNSClass::ANY, RecordType::TXT), Ok(())),
            (bare("f.demo.test.", DNSClass::ANY, RecordType::A), Err(ResponseCode::NXRRSet)),
            (bare("x.demo.test.", DNSClass::NONE, RecordType::ANY), Ok(())),
            (bare("f.demo.test.", DNSClass::NONE, RecordType::ANY), Err(ResponseCode::YXDomain)),
            (bare("f.demo.test.", DNSClass::NONE, RecordType::A), Ok(())),
            (bare("f.demo.test.", DNSClass::NONE, RecordType::TXT), Err(ResponseCode::YXRRSet)),
            (with(txt("f.demo.test.", "one"), DNSClass::IN, 0), Ok(())),
            (with(txt("f.demo.test.", "two"), DNSClass::IN, 0), Err(ResponseCode::NXRRSet)),
            (with(txt("x.demo.test.", "one"), DNSClass::IN, 0), Err(ResponseCode::NXRRSet)),
            (with(txt("f.demo.test.", "one"), DNSClass::IN, 9), Err(ResponseCode::FormErr)),
            (with(txt("f.demo.test.", "one"), DNSClass::CH, 0), Err(ResponseCode::FormErr)),
            (with(txt("f.demo.test.", "one"), DNSClass::ANY, 0), Err(ResponseCode::FormErr)),
            (bare("f.example.org.", DNSClass::ANY, RecordType::A), Err(ResponseCode::NotZone)),
        ];
        for (prereq, expected) in cases {
            assert_eq!(zone().update(std::slice::from_ref(&prereq), &[]), expected, "{prereq:?}");
        }
    }

    #[test]
    fn an_update_with_one_bad_change_changes_nothing() {
        let mut zone = zone();
        let before = zone.records();
        let good = address("www.demo.test.", 7);
        let elsewhere = address("www.example.org.", 7);
        let none = bare("www.demo.test.", DNSClass::IN, RecordType::A);
        assert_eq!(zone.update(&[], &[good.clone(), elsewhere]), Err(ResponseCode::NotZone));
        assert_eq!(zone.update(&[], &[good.clone(), none]), Err(ResponseCode::FormErr));
        assert_eq!(zone.records(), before);
        assert_eq!(zone.update(&[], &[good]), Ok(()));
        assert_eq!(zone.serial(), 2);
    }

    #[test]
    fn replacing_a_set_leaves_the_new_records_only() {
        let mut zone = zone();
        let clear = bare("f.demo.test.", DNSClass::ANY, RecordType::TXT);
        let prereq = with(txt("f.demo.test.", "one"), DNSClass::IN, 0);
        zone.update(&[prereq], &[clear, txt("f.demo.test.", "two")]).unwrap();
        let found = zone.find(&name("f.demo.test."), DNSClass::IN, RecordType::TXT);
        assert_eq!(found, Found::Records(vec![txt("f.demo.test.", "two")]));
    }

    #[test]
    fn the_apex_keeps_its_name_servers_whatever_is_deleted() {
        let mut zone = zone();
        let all = bare("demo.test.", DNSClass::ANY, RecordType::ANY);
        zone.update(&[], &[all]).unwrap();
        let ns = zone.find(&name("demo.test."), DNSClass::IN, RecordType::NS);
        assert!(matches!(ns, Found::Records(r) if r.len() == 1));
    }
}
