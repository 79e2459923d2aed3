//! What stands in the kernel: two tables, their sets, chains and rules, as nf_tables messages.
//!
//! ```text
//! table inet tierce {                        table arp tierce {
//!   set guarded4, guarded6                     set guarded4
//!   set open4, open6 { flags timeout }         set open4 { flags timeout }
//!   chain ... { A @guarded A != @open drop }   chain input, output { likewise }
//! }                                          }
//! ```
//! A is the destination where packets come in and the source where they go out. The first hook is
//! before connection tracking and address translation, the last one behind them, so translated
//! flows are gated by the address that is on the wire. Attribute numbers are those of
//! `linux/netfilter/nf_tables.h`.

use crate::gate::Scope;
use crate::nl::{ACK, CREATE, DUMP, Messages, REQUEST, attr, attrs};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Name of the tables.
pub(crate) const TABLE: &str = "tierce";
/// A set that exists to be tried out.
pub(crate) const PROBE: &str = "probe";

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Requests, by their number within the subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Op {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    GetSet = 10,
    NewElements = 12,
    GetElements = 13,
    DelElements = 14,
}

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    Inet = 1,
    Arp = 3,
}

/// Which end of a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// The set that holds guarded or open addresses of this family.
pub(crate) fn set_name(open: bool, v6: bool) -> &'static str {
    match (open, v6) {
        (false, false) => "guarded4",
        (false, true) => "guarded6",
        (true, false) => "open4",
        (true, true) => "open6",
    }
}

/// The name of the set whose presence says that this layout stands, complete.
pub(crate) fn marker(scope: Scope) -> &'static str {
    match scope {
        Scope::Everything => "layout1-everything",
        Scope::HostOnly => "layout1-host",
    }
}

/// Writes batches and counts their operations.
pub(crate) struct Batch<'a> {
    out: &'a mut Messages,
    /// Of the envelope; operations follow from the next number on.
    pub(crate) outer: u32,
    /// Of the last operation so far.
    pub(crate) last: u32,
}

impl<'a> Batch<'a> {
    pub(crate) fn begin(out: &'a mut Messages, seq: u32) -> Self {
        out.clear();
        out.begin(BATCH_BEGIN, REQUEST, seq, &[0, 0, 0, 10]);
        Self { out, outer: seq, last: seq }
    }

    /// Ends the batch; returns the sequence numbers of envelope, first and last operation.
    pub(crate) fn end(self) -> (u32, u32, u32) {
        let end = self.last.wrapping_add(1);
        self.out.begin(BATCH_END, REQUEST, end, &[0, 0, 0, 10]);
        (self.outer, self.outer.wrapping_add(1), self.last)
    }

    fn op(&mut self, op: Op, flags: u16, table: Table) {
        self.last = self.last.wrapping_add(1);
        let head = [table as u8, 0, 0, 0];
        self.out.begin(SUBSYSTEM | op as u16, REQUEST | ACK | flags, self.last, &head);
    }

    pub(crate) fn delete_table(&mut self, table: Table) {
        self.op(Op::DelTable, 0, table);
        self.out.text(1, TABLE);
    }

    /// Everything of one table. Existing parts are left alone, except rules, which would double:
    /// only for a table that does not exist or was deleted in the same batch.
    pub(crate) fn create(&mut self, table: Table, scope: Scope) {
        self.op(Op::NewTable, CREATE, table);
        self.out.text(1, TABLE);
        let families: &[bool] = if table == Table::Inet { &[false, true] } else { &[false] };
        let mut id = 0;
        for v6 in families {
            for open in [false, true] {
                id += 1;
                self.set(table, set_name(open, *v6), id, *v6, open);
            }
        }
        if table == Table::Inet {
            self.set(table, PROBE, id + 1, false, true);
        }
        for (name, hook, priority, end) in chains(table, scope) {
            self.chain(table, name, *hook, *priority);
            for v6 in families {
                self.rule(table, name, *v6, *end);
            }
        }
        self.set(table, marker(scope), id + 2, false, false);
    }

    fn set(&mut self, table: Table, name: &str, id: u32, v6: bool, timeout: bool) {
        let (key_type, len) = if v6 { (8, 16) } else { (7, 4) }; // as the nft tool shows them
        self.op(Op::NewSet, CREATE, table);
        self.out.text(1, TABLE);
        self.out.text(2, name);
        self.out.be32(3, if timeout { 0x10 } else { 0 });
        self.out.be32(4, key_type);
        self.out.be32(5, len);
        self.out.be32(10, id);
        if timeout {
            // An element added by hand without a timeout must not stay for ever either.
            self.out.be64(11, 1000);
        }
    }

    fn chain(&mut self, table: Table, name: &str, hook: u32, priority: i32) {
        self.op(Op::NewChain, CREATE, table);
        self.out.text(1, TABLE);
        self.out.text(3, name);
        self.out.nest(4, |out| {
            out.be32(1, hook);
            out.attr(2, &priority.to_be_bytes());
        });
        self.out.be32(5, 1); // accept: only what the rules name is dropped
        self.out.text(7, "filter");
    }

    /// `A @guarded A != @open counter drop`, for one family.
    fn rule(&mut self, table: Table, chain: &str, v6: bool, end: End) {
        self.op(Op::NewRule, CREATE | 0x800, table); // 0x800: append
        self.out.text(1, TABLE);
        self.out.text(2, chain);
        self.out.nest(4, |out| {
            if table == Table::Inet {
                expression(out, "meta", |out| {
                    out.be32(1, 1);
                    out.be32(2, 15); // nfproto
                });
                expression(out, "cmp", |out| {
                    out.be32(1, 1);
                    out.be32(2, 0); // equal
                    out.nest(3, |out| out.attr(1, &[if v6 { 10 } else { 2 }]));
                });
            }
            let (offset, len) = field(table, v6, end);
            expression(out, "payload", |out| {
                out.be32(1, 1);
                out.be32(2, 1); // network header
                out.be32(3, offset);
                out.be32(4, len);
            });
            for (open, inverted) in [(false, 0), (true, 1)] {
                expression(out, "lookup", |out| {
                    out.text(1, set_name(open, v6));
                    out.be32(2, 1);
                    out.be32(5, inverted);
                });
            }
            expression(out, "counter", |_| {});
            expression(out, "immediate", |out| {
                out.be32(1, 0); // the verdict
                out.nest(2, |out| out.nest(2, |out| out.be32(1, 0))); // drop
            });
        });
    }

    /// Adds or renews elements; `timeout` for sets that have one.
    pub(crate) fn add(
        &mut self,
        table: Table,
        set: &str,
        addresses: &[IpAddr],
        timeout: Option<Duration>,
    ) {
        self.elements(Op::NewElements, CREATE, table, set, addresses, timeout);
    }

    pub(crate) fn delete(&mut self, table: Table, set: &str, addresses: &[IpAddr]) {
        self.elements(Op::DelElements, 0, table, set, addresses, None);
    }

    fn elements(
        &mut self,
        op: Op,
        flags: u16,
        table: Table,
        set: &str,
        addresses: &[IpAddr],
        timeout: Option<Duration>,
    ) {
        self.op(op, flags, table);
        self.out.text(1, TABLE);
        self.out.text(2, set);
        self.out.nest(3, |out| {
            for address in addresses {
                out.nest(1, |out| {
                    out.nest(1, |out| key(out, *address));
                    if let Some(timeout) = timeout {
                        let ms = timeout.as_millis() as u64;
                        assert!(ms > 0, "a timeout of zero would be one without end");
                        out.be64(4, ms);
                        out.be64(5, ms);
                    }
                });
            }
        });
    }
}

fn key(out: &mut Messages, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.attr(1, &address.octets()),
        IpAddr::V6(address) => out.attr(1, &address.octets()),
    }
}

fn expression(out: &mut Messages, name: &str, fill: impl FnOnce(&mut Messages)) {
    out.nest(1, |out| {
        out.text(1, name);
        out.nest(2, fill);
    });
}

type Chain = (&'static str, u32, i32, End);

fn chains(table: Table, scope: Scope) -> &'static [Chain] {
    match (table, scope) {
        // What comes in or through, before translation; what leaves, before and behind it.
        (Table::Inet, Scope::Everything) => &[
            ("prerouting", 0, -300, End::Destination),
            ("output", 3, -300, End::Source),
            ("postrouting", 4, 300, End::Source),
        ],
        (Table::Inet, Scope::HostOnly) => {
            &[("input", 1, -300, End::Destination), ("output", 3, -300, End::Source)]
        }
        (Table::Arp, _) => {
            &[("input", 0, -300, End::Destination), ("output", 1, -300, End::Source)]
        }
    }
}

/// Offset and length of an address in its header.
fn field(table: Table, v6: bool, end: End) -> (u32, u32) {
    match (table, v6, end) {
        (Table::Inet, false, End::Source) => (12, 4),
        (Table::Inet, false, End::Destination) => (16, 4),
        (Table::Inet, true, End::Source) => (8, 16),
        (Table::Inet, true, End::Destination) => (24, 16),
        (Table::Arp, _, End::Source) => (14, 4), // sender address of Ethernet and IPv4
        (Table::Arp, _, End::Destination) => (24, 4),
    }
}

/// How many rules a complete table has.
pub(crate) fn rule_count(table: Table, scope: Scope) -> usize {
    chains(table, scope).len() * if table == Table::Inet { 2 } else { 1 }
}

// ---- asking -----------------------------------------------------------------------------------

/// Writes a request for everything of a kind in one table, or in one set of it.
pub(crate) fn ask(out: &mut Messages, seq: u32, op: Op, table: Table, set: Option<&str>) {
    out.clear();
    out.begin(SUBSYSTEM | op as u16, REQUEST | DUMP, seq, &[table as u8, 0, 0, 0]);
    out.text(1, TABLE);
    if let Some(set) = set {
        out.text(2, set);
    }
}

/// The name in an answer to [`Op::GetSet`].
pub(crate) fn set_in(body: &[u8]) -> Option<&str> {
    let name = attr(body.get(4..)?, 2)?;
    std::str::from_utf8(name.strip_suffix(&[0])?).ok()
}

/// Addresses in an answer to [`Op::GetElements`], each with the time until it expires.
pub(crate) fn elements_in(body: &[u8]) -> impl Iterator<Item = (IpAddr, Option<Duration>)> + '_ {
    let list = body.get(4..).and_then(|body| attr(body, 3)).unwrap_or(&[]);
    attrs(list).filter_map(|(_, element)| {
        let key = attr(attr(element, 1)?, 1)?;
        let address = match key.len() {
            4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(key).ok()?)),
            16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?)),
            _ => return None,
        };
        let left =
            attr(element, 5).and_then(|left| Some(u64::from_be_bytes(left.try_into().ok()?)));
        Some((address, left.map(Duration::from_millis)))
    })
}
