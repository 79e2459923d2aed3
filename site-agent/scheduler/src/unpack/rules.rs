//! Rules: whether an element that is guarded by a `rule` counts, here and now.
//!
//! A rule is evaluated against a moment and what is known about a node, an operation or a resource. What is not
//! known makes an expression false. A date in the future is noted, so that the cluster looks again at that time.

use std::cell::Cell;
use std::cmp::Ordering;

use tierce_cib::xml::Element;

use super::time;
use crate::words;

/// Looks up a node attribute.
type Attribute<'s> = &'s dyn Fn(&str) -> Option<&'s str>;

/// Looks up something that the resource has.
type Lookup<'s> = &'s dyn Fn(&str) -> Option<String>;

/// What a rule is evaluated against.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'s> {
    /// The moment.
    pub now: i64,
    /// Looks up a node attribute, if a node is meant.
    pub attribute: Option<Attribute<'s>>,
    /// Looks up a parameter of the resource, for `value-source="param"`.
    pub parameter: Option<Lookup<'s>>,
    /// Looks up a meta-attribute of the resource, for `value-source="meta"`.
    pub meta: Option<Lookup<'s>>,
    /// Class, provider and type of the resource, if one is meant.
    pub agent: Option<(&'s str, &'s str, &'s str)>,
    /// Name and interval of the operation, if one is meant.
    pub operation: Option<(&'s str, u64)>,
    /// The next moment at which a rule may change its mind.
    pub next: &'s Cell<Option<i64>>,
    /// Parts of a `rsc-pattern` that matched, for `%1` in attribute names.
    pub captures: &'s [String],
}

impl<'s> Scene<'s> {
    /// Only a moment is known.
    pub(crate) fn at(now: i64, next: &'s Cell<Option<i64>>) -> Self {
        Self {
            now,
            attribute: None,
            parameter: None,
            meta: None,
            agent: None,
            operation: None,
            next,
            captures: &[],
        }
    }

    fn changes_at(&self, moment: i64) {
        if moment > self.now && self.next.get().is_none_or(|n| moment < n) {
            self.next.set(Some(moment));
        }
    }
}

/// Whether all rules inside an element pass (an element without a rule passes).
pub(crate) fn passes(holder: Element<'_>, scene: &Scene<'_>) -> bool {
    holder.children_named("rule").all(|rule| evaluate(rule, scene))
}

/// Whether a rule passes.
pub(crate) fn evaluate(rule: Element<'_>, scene: &Scene<'_>) -> bool {
    let any = rule.attr("boolean-op").is_some_and(|op| op.eq_ignore_ascii_case("or"));
    let (mut seen, mut one, mut all) = (false, false, true);
    for part in rule.children() {
        let holds = match part.name() {
            "rule" => evaluate(part, scene),
            "expression" => attribute(part, scene),
            "date_expression" => date(part, scene),
            "rsc_expression" => agent(part, scene),
            "op_expression" => operation(part, scene),
            _ => continue,
        };
        seen = true;
        one |= holds;
        all &= holds;
    }
    if !seen {
        true
    } else if any {
        one
    } else {
        all
    }
}

fn agent(part: Element<'_>, scene: &Scene<'_>) -> bool {
    let Some((class, provider, kind)) = scene.agent else { return false };
    let is = |name: &str, have: &str| part.attr(name).is_none_or(|want| want == have);
    is("class", class) && is("provider", provider) && is("type", kind)
}

fn operation(part: Element<'_>, scene: &Scene<'_>) -> bool {
    let Some((name, interval)) = scene.operation else { return false };
    part.attr("name") == Some(name)
        && part.attr("interval").is_none_or(|word| words::milliseconds(word) == Some(interval))
}

fn substitute(text: &str, captures: &[String]) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().and_then(|d| d.to_digit(10))) {
            ('%', Some(digit)) => {
                chars.next();
                out.push_str(captures.get(digit as usize).map_or("", String::as_str));
            }
            _ => out.push(c),
        }
    }
    out
}

fn attribute(part: Element<'_>, scene: &Scene<'_>) -> bool {
    let (Some(name), Some(op)) = (part.attr("attribute"), part.attr("operation")) else {
        return false;
    };
    let Some(lookup) = scene.attribute else { return false };
    let name =
        if scene.captures.is_empty() { name.to_owned() } else { substitute(name, scene.captures) };
    let have = lookup(&name);
    let written = part.attr("value");
    let reference = match (part.attr("value-source"), written) {
        (Some("param"), Some(key)) => scene.parameter.and_then(|f| f(key)),
        (Some("meta"), Some(key)) => scene.meta.and_then(|f| f(key)),
        _ => written.map(str::to_owned),
    };
    let reference = reference.as_deref();
    match op {
        "defined" => return have.is_some(),
        "not_defined" => return have.is_none(),
        _ => {}
    }
    let order = match (have, reference) {
        (None, None) => Ordering::Equal,
        (None, _) | (_, None) => {
            return op == "ne";
        }
        (Some(a), Some(b)) => compare(a, b, part.attr("type"), op),
    };
    match op {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "lt" => have.is_some() && order.is_lt(),
        "lte" => have.is_some() && order.is_le(),
        "gt" => have.is_some() && order.is_gt(),
        "gte" => have.is_some() && order.is_ge(),
        _ => false,
    }
}

fn compare(a: &str, b: &str, kind: Option<&str>, op: &str) -> Ordering {
    let ordered = matches!(op, "lt" | "lte" | "gt" | "gte");
    let kind = match kind {
        Some(kind) => kind,
        None if ordered && (a.contains('.') || b.contains('.')) => "number",
        None if ordered => "integer",
        None => "string",
    };
    let text = || a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase());
    match kind {
        "integer" => match (integer(a), integer(b)) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => text(),
        },
        "number" => match (a.trim().parse::<f64>(), b.trim().parse::<f64>()) {
            (Ok(x), Ok(y)) => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
            _ => text(),
        },
        "version" => version(a, b),
        _ => text(),
    }
}

/// An integer; a number with a fraction counts by its integral part.
fn integer(word: &str) -> Option<i64> {
    let word = word.trim();
    word.parse::<i64>().ok().or_else(|| word.parse::<f64>().ok().map(|f| f as i64))
}

fn version(left: &str, right: &str) -> Ordering {
    let parts = |word: &str| {
        word.split(['.', '-']).map(|p| words::leading_integer(p).unwrap_or(0)).collect::<Vec<_>>()
    };
    let (mut left, mut right) = (parts(left), parts(right));
    let length = left.len().max(right.len());
    left.resize(length, 0);
    right.resize(length, 0);
    left.cmp(&right)
}

fn date(part: Element<'_>, scene: &Scene<'_>) -> bool {
    let start = part.attr("start").and_then(time::parse);
    let mut end = part.attr("end").and_then(time::parse);
    if let (None, Some(from), Some(span)) = (end, start, part.child("duration")) {
        end = Some(add_duration(from, span));
    }
    match part.attr("operation").unwrap_or("in_range") {
        "gt" => {
            let Some(start) = start else { return false };
            scene.changes_at(start + 1);
            scene.now > start
        }
        "lt" => {
            let Some(end) = end else { return false };
            scene.changes_at(end);
            scene.now < end
        }
        "date_spec" => part.child("date_spec").is_some_and(|spec| date_spec(spec, scene.now)),
        _ => {
            if start.is_none() && end.is_none() {
                return false;
            }
            if let Some(start) = start.filter(|s| scene.now < *s) {
                scene.changes_at(start);
                return false;
            }
            if let Some(end) = end {
                scene.changes_at(end + 1);
                return scene.now <= end;
            }
            true
        }
    }
}

fn add_duration(from: i64, span: Element<'_>) -> i64 {
    let get = |name: &str| span.attr(name).and_then(words::leading_integer).unwrap_or(0);
    let seconds = get("weeks") * 604_800
        + get("days") * 86_400
        + get("hours") * 3600
        + get("minutes") * 60
        + get("seconds");
    time::add_calendar(from, get("years"), get("months"), seconds)
}

fn date_spec(spec: Element<'_>, now: i64) -> bool {
    let c = time::civil(now);
    let fields = [
        ("seconds", c.second),
        ("minutes", c.minute),
        ("hours", c.hour),
        ("monthdays", c.day),
        ("weekdays", c.weekday),
        ("yeardays", c.yearday),
        ("months", c.month),
        ("weeks", c.week),
        ("years", c.year),
        ("weekyears", c.weekyear),
    ];
    fields.iter().all(|(name, value)| spec.attr(name).is_none_or(|range| in_range(range, *value)))
}

fn in_range(range: &str, value: i64) -> bool {
    match range.split_once('-') {
        None => range.trim().parse() == Ok(value),
        Some((low, high)) => {
            let ok = |word: &str, test: &dyn Fn(i64) -> bool| {
                word.trim().is_empty() || word.trim().parse().is_ok_and(test)
            };
            ok(low, &|l| l <= value) && ok(high, &|h| value <= h)
        }
    }
}
