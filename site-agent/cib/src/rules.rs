//! Whether a `rule` holds: at a moment, on a node, for a resource, for an operation.
//!
//! Everything that a rule may ask about is in a [`Situation`]; what is not in it can not hold: a
//! condition on node attributes is false where no node is meant (cluster options), even "ne". The
//! same goes for conditions that are malformed, because a rule must not come into effect by mistake;
//! the checks name them ([`crate::lint`]).
//!
//! Comparison: without a `type`, eq and ne compare strings, the others integers, or numbers if
//! one of the values has a decimal point. Strings are compared without regard to case. If a value is no
//! integer, number or version, both are compared as strings. If one side is missing, only "ne" holds;
//! if both are, "eq" does.

use crate::ids::Ids;
use crate::time::{Fields, Moment, Span};
use crate::values;
use crate::xml::Element;
use std::cell::Cell;
use std::cmp::Ordering;

/// How values are looked up by name.
pub type Lookup<'s> = &'s dyn Fn(&str) -> Option<&'s str>;

/// The agent of the resource that a rule is evaluated for.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'s> {
    /// Its class: ocf, systemd, stonith…
    pub class: &'s str,
    /// Its provider, if its class has providers.
    pub provider: Option<&'s str>,
    /// Its type.
    pub kind: &'s str,
}

/// The operation that a rule is evaluated for.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'s> {
    /// Its name: start, monitor…
    pub name: &'s str,
    /// Its interval in milliseconds.
    pub interval_ms: u64,
}

/// What a rule is evaluated for. What is absent can not be asked about.
#[derive(Clone, Default)]
pub struct Situation<'s> {
    /// The moment, with the offset of the cluster's local time.
    pub now: Option<Moment>,
    /// The node's attributes, `#uname` and its like among them.
    pub node: Option<Lookup<'s>>,
    /// The resource's parameters, for `value-source="param"`.
    pub parameter: Option<Lookup<'s>>,
    /// The resource's meta-attributes, for `value-source="meta"`.
    pub meta: Option<Lookup<'s>>,
    /// What a `rsc-pattern` matched: the whole, then its groups; they replace %0 to %9.
    pub captures: &'s [&'s str],
    /// The resource's agent.
    pub agent: Option<Agent<'s>>,
    /// The operation.
    pub operation: Option<Operation<'s>>,
    /// Where it is noted when the answer of a date that was asked may change next: seconds since 1970,
    /// the earliest of all. Dates given as a `date_spec` are not foreseen; the cluster's recheck
    /// interval is for them.
    pub next_change: Option<&'s Cell<Option<i64>>>,
}

impl Situation<'_> {
    /// Whether a rule, given itself or by reference, holds.
    pub fn holds<'a>(&self, rule: Element<'a>, ids: &Ids<'a>) -> bool {
        let Some(rule) = ids.resolve(rule) else {
            return false;
        };
        let any = rule.attr("boolean-op").is_some_and(|op| op.eq_ignore_ascii_case("or"));
        let mut conditions = rule.children();
        if any {
            conditions.any(|condition| self.condition(condition, ids))
        } else {
            conditions.all(|condition| self.condition(condition, ids))
        }
    }

    /// The text with %0 to %9 replaced by what the pattern matched.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('%').filter(|_| !self.captures.is_empty()) {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let Some(digit) = rest.chars().next().and_then(|c| c.to_digit(10)) else {
                out.push('%');
                continue;
            };
            rest = &rest[1..];
            out.push_str(self.captures.get(digit as usize).copied().unwrap_or(""));
        }
        out.push_str(rest);
        out
    }

    fn condition<'a>(&self, condition: Element<'a>, ids: &Ids<'a>) -> bool {
        match condition.name() {
            "rule" => self.holds(condition, ids),
            "expression" => self.expression(condition).unwrap_or(false),
            "date_expression" => self.date(condition).unwrap_or(false),
            "op_expression" => self.operation(condition).unwrap_or(false),
            "rsc_expression" => self.resource(condition).unwrap_or(false),
            _ => false,
        }
    }

    /// An `expression`; none if it is malformed or there is no node.
    fn expression(&self, expression: Element<'_>) -> Option<bool> {
        let node = self.node?;
        let name = expression.attr("attribute")?;
        let here = if name.contains('%') { node(&self.expand(name)) } else { node(name) };
        let written = expression.attr("value");
        let there = match expression.attr("value-source") {
            Some("param") => self.parameter.and_then(|look| look(written?)),
            Some("meta") => self.meta.and_then(|look| look(written?)),
            _ => written,
        };
        let operation = expression.attr("operation")?;
        match operation {
            "defined" => return Some(here.is_some()),
            "not_defined" => return Some(here.is_none()),
            _ => {}
        }
        let (Some(left), Some(right)) = (here, there) else {
            return match operation {
                "eq" => Some(here.is_none() && there.is_none()),
                "ne" => Some(here.is_some() || there.is_some()),
                _ => Some(false),
            };
        };
        let order = compare(left, right, kind(expression, operation, left, right));
        match operation {
            "eq" => Some(order.is_eq()),
            "ne" => Some(order.is_ne()),
            "lt" => Some(order.is_lt()),
            "lte" => Some(order.is_le()),
            "gt" => Some(order.is_gt()),
            "gte" => Some(order.is_ge()),
            _ => None,
        }
    }

    /// A `date_expression`; none if it is malformed or there is no clock.
    fn date(&self, expression: Element<'_>) -> Option<bool> {
        let now = self.now?;
        let moment = |name: &str| match expression.attr(name) {
            None => Some(None),
            Some(text) => Moment::parse(text, now).map(Some),
        };
        match expression.attr("operation").unwrap_or("in_range") {
            "gt" => {
                let start = moment("start")??;
                if now <= start {
                    self.changes_at(start.epoch().saturating_add(1));
                }
                Some(now > start)
            }
            "lt" => {
                let end = moment("end")??;
                if now < end {
                    self.changes_at(end.epoch());
                }
                Some(now < end)
            }
            "in_range" => {
                let start = moment("start")?;
                let end = match (moment("end")?, start, expression.child("duration")) {
                    (None, Some(start), Some(duration)) => Some(start.plus(&span(duration)?)?),
                    (end, ..) => end,
                };
                self.in_range(now, start, end)
            }
            "date_spec" => {
                let spec = expression.child("date_spec");
                spec.map_or(Some(true), |spec| matches_spec(spec, now.fields()))
            }
            _ => None,
        }
    }

    fn in_range(&self, now: Moment, start: Option<Moment>, end: Option<Moment>) -> Option<bool> {
        if start.is_none() && end.is_none() {
            return None;
        }
        if let Some(start) = start.filter(|start| now < *start) {
            self.changes_at(start.epoch());
            return Some(false);
        }
        if let Some(end) = end {
            if now <= end {
                self.changes_at(end.epoch().saturating_add(1));
            }
            return Some(now <= end);
        }
        Some(true)
    }

    fn changes_at(&self, epoch: i64) {
        if let Some(next) = self.next_change {
            next.set(Some(next.get().map_or(epoch, |known| known.min(epoch))));
        }
    }

    fn operation(&self, expression: Element<'_>) -> Option<bool> {
        let operation = self.operation?;
        let named = expression.attr("name")? == operation.name;
        let interval = match expression.attr("interval") {
            None => true,
            Some(text) => values::duration_ms(text)? == operation.interval_ms,
        };
        Some(named && interval)
    }

    fn resource(&self, expression: Element<'_>) -> Option<bool> {
        let agent = self.agent?;
        let same = |name: &str, value: Option<&str>| {
            expression.attr(name).is_none_or(|wanted| Some(wanted) == value)
        };
        Some(
            same("class", Some(agent.class))
                && same("provider", agent.provider)
                && same("type", Some(agent.kind)),
        )
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Number,
    Version,
}

fn kind(expression: Element<'_>, operation: &str, left: &str, right: &str) -> Kind {
    match expression.attr("type") {
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("version") => Kind::Version,
        _ if matches!(operation, "eq" | "ne") => Kind::String,
        _ if left.contains('.') || right.contains('.') => Kind::Number,
        _ => Kind::Integer,
    }
}

fn compare(left: &str, right: &str, kind: Kind) -> Ordering {
    let typed = match kind {
        Kind::String => None,
        Kind::Integer => values::leading_integer(left)
            .zip(values::leading_integer(right))
            .map(|(left, right)| left.cmp(&right)),
        Kind::Number => values::leading_number(left)
            .zip(values::leading_number(right))
            .and_then(|(left, right)| left.partial_cmp(&right)),
        Kind::Version => Some(compare_versions(left, right)),
    };
    typed.unwrap_or_else(|| {
        let lower = |text: &str| text.to_ascii_lowercase();
        lower(left).cmp(&lower(right))
    })
}

/// Versions are numbers between points; what is missing or no number counts as zero.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| -> Vec<i64> {
        text.split('.').map(|part| part.trim().parse().unwrap_or(0)).collect()
    };
    let (mut left, mut right) = (parts(left), parts(right));
    let length = left.len().max(right.len());
    left.resize(length, 0);
    right.resize(length, 0);
    left.cmp(&right)
}

/// The span of a `duration` element; none if an attribute is no number.
pub fn span(duration: Element<'_>) -> Option<Span> {
    let mut span = Span::default();
    for (name, value) in duration.attrs() {
        let (field, factor) = match name {
            "years" => (&mut span.years, 1),
            "months" => (&mut span.months, 1),
            "weeks" => (&mut span.days, 7),
            "days" => (&mut span.days, 1),
            "hours" => (&mut span.seconds, 3600),
            "minutes" => (&mut span.seconds, 60),
            "seconds" => (&mut span.seconds, 1),
            _ => continue,
        };
        let value: i64 = value.trim().parse().ok()?;
        *field = field.checked_add(value.checked_mul(factor)?)?;
    }
    Some(span)
}

/// Whether calendar fields are as a `date_spec` wants them; none if a range is malformed.
fn matches_spec(spec: Element<'_>, now: Fields) -> Option<bool> {
    for (name, range) in spec.attrs() {
        let value = match name {
            "years" => now.year,
            "months" => now.month,
            "monthdays" => now.month_day,
            "yeardays" => now.year_day,
            "weekdays" => now.week_day,
            "weekyears" => now.week_year,
            "weeks" => now.week,
            "hours" => now.hour,
            "minutes" => now.minute,
            "seconds" => now.second,
            _ => continue,
        };
        if !in_number_range(range, value)? {
            return Some(false);
        }
    }
    Some(true)
}

/// "12", "9-17", "9-" or "-17".
pub(crate) fn in_number_range(range: &str, value: i64) -> Option<bool> {
    let (low, high) = match range.split_once('-') {
        None => {
            let only = range.trim().parse().ok()?;
            (Some(only), Some(only))
        }
        Some((low, high)) => {
            let bound = |text: &str| match text.trim() {
                "" => Some(None),
                text => text.parse::<i64>().ok().map(Some),
            };
            (bound(low)?, bound(high)?)
        }
    };
    if low.is_none() && high.is_none() {
        return None;
    }
    Some(low.is_none_or(|low| low <= value) && high.is_none_or(|high| value <= high))
}

#[cfg(test)]
mod tests;
