//! report.html: one file without anything from outside, readable in light and dark.
//!
//! The picture is drawn to time: a lane per site with a bar for as long as the service certainly
//! ran there (one bar per term), what was seen from outside below with every gap in numbers, faults
//! as lines through all of it, phases as shades behind. Two bars side by side at one moment would
//! be the overlap that must not be.

use std::fmt::Write as _;

use tierce_cib::xml::escaped;

use super::report::{Check, DEMO, Report};
use super::timeline::{Event, Kind};
use crate::words::ms;

const WIDTH: f64 = 1_160.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 46.0;
const LANE: f64 = 34.0;
const GAP: f64 = 12.0;
/// The row below the client's lane.
const NUMBERS: f64 = 22.0;
/// Answers within this of each other are drawn as one bar, or within so many periods.
const JOINED_MS: f64 = 60.0;
const JOINED_PERIODS: f64 = 2.5;
/// A gap this long gets its number.
const NUMBERED_MS: f64 = 100.0;
/// Narrowest shade that carries its phase's number.
const LABEL_WIDTH: f64 = 14.0;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667080;--line:#d5dae1;--shade:#f3f5f8;
--s0:#2f6fd0;--s1:#b3591a;--s2:#7a4bbf;--client:#2b8a4b;--bad:#c62828;--fault:#8a6d00}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e8ee;--dim:#96a0ae;--line:#343b45;
--shade:#1c2127;--s0:#6ea3f5;--s1:#e69a5c;--s2:#b692f0;
--client:#5cc482;--bad:#ff7b72;--fault:#d8b94a}}
body{margin:2rem auto;max-width:1200px;padding:0 1rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0 0 .3rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{margin:.3rem 0}.dim{color:var(--dim)}.ok{color:var(--client);font-weight:600}
.bad{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top;white-space:nowrap}td.w{white-space:normal;min-width:22rem}
th{color:var(--dim);font-weight:500}td.n,th.n{text-align:right}
svg{display:block;min-width:900px;width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--fg)}svg .t{fill:var(--dim)}
svg .inner{fill:var(--bg);font-weight:600}svg .shade{fill:var(--shade)}
svg .grid{stroke:var(--line)}svg .fault{stroke:var(--fault);stroke-dasharray:3 3}
svg .s0{fill:var(--s0)}svg .s1{fill:var(--s1)}
svg .s2{fill:var(--s2)}svg .client{fill:var(--client)}
svg .gap{fill:var(--bad)}svg .failed{stroke:var(--bad);stroke-width:2}
details{margin-top:1rem}summary{cursor:pointer}
";

/// The page.
pub(crate) fn page(r: &Report) -> String {
    let class = if r.passed() { "ok" } else { "bad" };
    let title = if r.kind == DEMO { "demo".to_owned() } else { format!("drill {}", r.drill) };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>tierce {title}: \
         {verdict}</title>\
         <style>{STYLE}</style></head><body>\n<h1>tierce {title}: <span class=\"{class}\">\
         {verdict}</span></h1>\n<p>{summary}.</p>\n<p class=\"dim\">{about}</p>\n",
        title = escaped(&title),
        verdict = r.verdict.word(),
        summary = escaped(&r.summary),
        about = escaped(&about(r)),
    );
    if let Some(s) = &r.scope {
        let _ = writeln!(out, "<p>{}</p>", escaped(&s.hypothesis));
    }
    for (word, text) in [("Ended early", &r.stopped_early), ("Left behind", &r.left)] {
        if let Some(text) = text {
            let _ = writeln!(out, "<p class=\"bad\">{word}: {}</p>", escaped(text));
        }
    }
    if !r.lanes.is_empty() || !r.answers_ms.is_empty() {
        out += "<h2>What ran where</h2>\n<div class=\"scroll\">";
        picture(&mut out, r);
        let _ = writeln!(
            out,
            "</div>\n<p class=\"dim\">A bar in a site's lane: the service certainly ran there, \
             from its start to the last time that it was seen; the number is the grant's term. \
             Dashed: something was broken, repaired or moved on purpose. {}</p>",
            escaped(&r.answers_are)
        );
    }
    checks(&mut out, "Preflight", &r.preflight);
    phases(&mut out, r);
    checks(&mut out, "Validation", &r.validation);
    score(&mut out, r);
    losses(&mut out, r);
    facts(&mut out, r);
    events(&mut out, &r.events);
    out + "</body></html>\n"
}

fn about(r: &Report) -> String {
    let version = |name: &str| r.versions.get(name).map_or("?", String::as_str);
    let mut parts = vec![r.finished.clone(), format!("{:.1} s", r.took_ms / 1e3)];
    parts.extend(r.profile.as_ref().map(|p| format!("profile {p}")));
    parts.extend(r.seed.map(|s| format!("seed {s}")));
    parts.extend([r.operator.clone(), format!("tierce {}", version("tierce"))]);
    parts.push(format!("Linux {}", version("kernel")));
    parts.extend(r.digest.as_ref().map(|d| format!("configuration {d}")));
    parts.join("; ")
}

// ---- the picture ------------------------------------------------------------------------------

fn picture(out: &mut String, r: &Report) {
    let scale = (WIDTH - LEFT - 10.0) / r.took_ms.max(1.0);
    let x = |ms: f64| LEFT + ms * scale;
    let client_y = TOP + r.sites.len() as f64 * (LANE + GAP);
    let bottom = client_y + LANE + NUMBERS;
    let height = bottom + 24.0;
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"lanes of the service\">"
    );
    for (i, p) in r.phases.iter().enumerate() {
        let (from, width) = (x(p.start_ms), (p.end_ms - p.start_ms) * scale);
        let class = match (p.passed, i % 2) {
            (false, _) => "shade failed",
            (true, 0) => "shade",
            (true, _) => "none",
        };
        let fill = if class == "none" { " fill=\"none\"" } else { "" };
        let height = bottom - 16.0;
        let _ = writeln!(
            out,
            "<rect class=\"{class}\"{fill} x=\"{from:.1}\" y=\"16\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{}: {:.0} ms without service, predicted {:.0} ms\
             </title></rect>",
            escaped(&p.name),
            p.rto_ms,
            p.predicted_ms
        );
        // The name where it fits, else its number, which the table explains.
        let fits = width > p.name.len() as f64 * 6.2 + 22.0;
        let number = i + 1;
        let label =
            if fits { format!("{number} {}", escaped(&p.name)) } else { number.to_string() };
        if width > LABEL_WIDTH {
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"12\">{label}</text>", from + 3.0);
        }
    }
    axis(out, r.took_ms, bottom, &x);
    for (row, site) in r.sites.iter().enumerate() {
        let y = TOP + row as f64 * (LANE + GAP);
        let (name, class) = (escaped(site), format!("s{}", row % 3));
        let _ = writeln!(out, "<text x=\"0\" y=\"{:.1}\">{name}</text>", y + LANE * 0.6);
        for lane in r.lanes.iter().filter(|l| l.site == *site) {
            bar(out, &class, y, (x(lane.from_ms), x(lane.to_ms)), &format!("{}", lane.term));
        }
    }
    let outside = if r.kind == DEMO { "client" } else { "outside" };
    let _ = writeln!(out, "<text x=\"0\" y=\"{:.1}\">{outside}</text>", client_y + LANE * 0.6);
    let joined = JOINED_MS.max(r.period_ms * JOINED_PERIODS);
    answers(out, &r.answers_ms, joined, client_y, &x);
    for e in r.events.iter().filter(|e| e.kind == Kind::Fault) {
        let at = x(e.t_ms);
        let _ = writeln!(
            out,
            "<line class=\"fault\" x1=\"{at:.1}\" y1=\"20\" x2=\"{at:.1}\" y2=\"{bottom:.1}\">\
             <title>{}</title></line>",
            escaped(&e.text)
        );
    }
    *out += "</svg>";
}

fn axis(out: &mut String, took_ms: f64, bottom: f64, x: &impl Fn(f64) -> f64) {
    // As many marks as can be read: at most 30.
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0];
    let seconds = took_ms / 1e3;
    let step = steps.into_iter().find(|s| seconds / s <= 30.0).unwrap_or(300.0);
    let mut mark = 0.0;
    while mark <= seconds {
        let at = x(mark * 1e3);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{bottom:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
             <text class=\"t\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark:.0} s</text>",
            bottom + 5.0,
            bottom + 18.0
        );
        mark += step;
    }
}

fn bar(out: &mut String, class: &str, y: f64, (from, to): (f64, f64), label: &str) {
    let width = (to - from).max(0.5);
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{from:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" \
         height=\"{LANE}\" rx=\"2\"/>"
    );
    if width > label.len() as f64 * 7.0 + 6.0 {
        let middle = y + LANE * 0.62;
        let _ = write!(
            out,
            "<text class=\"inner\" x=\"{:.1}\" y=\"{middle:.1}\">{label}</text>",
            from + 4.0
        );
    }
    out.push('\n');
}

fn answers(out: &mut String, answers: &[f64], joined: f64, y: f64, x: &impl Fn(f64) -> f64) {
    let mut run: Option<(f64, f64)> = None;
    for at in answers {
        match &mut run {
            Some((_, to)) if at - *to <= joined => *to = *at,
            _ => {
                if let Some((from, to)) = run.replace((*at, *at)) {
                    bar(out, "client", y, (x(from), x(to)), "");
                    gap(out, y, (to, *at), x);
                }
            }
        }
    }
    if let Some((from, to)) = run {
        bar(out, "client", y, (x(from), x(to)), "");
    }
}

fn gap(out: &mut String, y: f64, (from, to): (f64, f64), x: &impl Fn(f64) -> f64) {
    let (left, width) = (x(from), x(to) - x(from));
    let (thin, ms) = (LANE * 0.25, to - from);
    let _ = writeln!(
        out,
        "<rect class=\"gap\" x=\"{left:.2}\" y=\"{:.1}\" width=\"{width:.2}\" height=\"{thin:.1}\">\
         <title>{ms:.0} ms without an answer</title></rect>",
        y + (LANE - thin) / 2.0
    );
    if ms >= NUMBERED_MS {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{ms:.0} ms</text>",
            left + width / 2.0,
            y + LANE + 14.0
        );
    }
}

// ---- tables -----------------------------------------------------------------------------------

fn checks(out: &mut String, title: &str, checks: &[Check]) {
    if checks.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>{title}</h2>\n<div class=\"scroll\"><table>");
    for c in checks {
        let (class, word) = if c.passed { ("ok", "ok") } else { ("bad", "FAILED") };
        let (name, reason) = (escaped(&c.name), escaped(&c.reason));
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td class=\"{class}\">{word}</td>\
             <td class=\"w\">{reason}</td></tr>"
        );
    }
    *out += "</table></div>\n";
}

fn score(out: &mut String, r: &Report) {
    let Some(score) = &r.score else { return };
    let total = score.total;
    let _ = writeln!(out, "<h2>Score: {total} of 100</h2>\n<div class=\"scroll\"><table>");
    for p in &score.parts {
        let points = match p.of {
            of if of > 0.0 => format!("{} of {of}", p.points),
            _ => "n/a".to_owned(),
        };
        let (name, why) = (escaped(&p.name), escaped(&p.why));
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{points}</td><td class=\"w\">{why}</td></tr>"
        );
    }
    *out += "</table></div>\n";
}

fn losses(out: &mut String, r: &Report) {
    if r.losses.is_empty() {
        return;
    }
    *out += "<h2>What a loss would do</h2>\n<div class=\"scroll\"><table><tr><th>without</th>\
             <th>ticket</th><th>goes to</th><th>by itself</th><th class=\"n\">outage</th>\
             <th>because</th></tr>\n";
    for l in &r.losses {
        let (class, word) = if l.unattended { ("ok", "yes") } else { ("bad", "no") };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td>\
             <td class=\"n\">{}</td><td class=\"w\">{}</td></tr>",
            escaped(&l.site),
            escaped(&l.ticket),
            escaped(l.to.as_deref().unwrap_or("nobody")),
            l.predicted_ms.map_or_else(|| "open".to_owned(), ms),
            escaped(&l.why)
        );
    }
    *out += "</table></div>\n";
}

fn phases(out: &mut String, r: &Report) {
    if r.phases.is_empty() {
        return;
    }
    *out += "<h2>Phases</h2>\n<div class=\"scroll\"><table><tr><th class=\"n\">#</th><th>phase</th>\
             <th>served by</th><th class=\"n\">without service</th><th class=\"n\">predicted</th>\
             <th class=\"n\">allowance</th><th>result</th><th>the prediction is</th></tr>\n";
    for (i, p) in r.phases.iter().enumerate() {
        let (class, word) = if p.passed { ("ok", "ok") } else { ("bad", "FAILED") };
        let why = if p.wrong.is_empty() { String::new() } else { p.wrong.join("; ") };
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}, term {}</td><td class=\"n\">{:.0} ms\
             </td><td class=\"n\">{:.0} ms</td><td class=\"n\">{:.0} ms</td>\
             <td class=\"{class}\">{word} {}</td><td class=\"dim w\">{}</td></tr>",
            i + 1,
            escaped(&p.name),
            escaped(&p.site),
            p.term,
            p.rto_ms,
            p.predicted_ms,
            p.allowance_ms,
            escaped(&why),
            escaped(&p.prediction)
        );
    }
    *out += "</table></div>\n";
}

fn facts(out: &mut String, r: &Report) {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut say = |name: &str, value: String| rows.push((name.to_owned(), value));
    if !r.phases.is_empty() {
        say("overlap", format!("{} ms", r.overlap_ms));
        say("answers under an overruled term", r.stale_answers.to_string());
    }
    if let Some(n) = r.records {
        say("records", format!("{} due, {} sent, {} answered", n.wanted, n.sent, n.answered));
        say("answers to the witness", n.witnessed.to_string());
        let (carried, cut) = (r.datagrams_carried, r.datagrams_cut);
        say("datagrams between the members", format!("{carried} carried, {cut} lost to cuts"));
    }
    for p in &r.probes {
        let site = p.site.as_ref().map_or_else(String::new, |s| format!(" (for {s})"));
        let error = p.last_error.as_ref();
        let error = error.map_or_else(String::new, |e| format!("; last error: {e}"));
        let text = format!(
            "{} of {} answered; {:.0} ms without an answer at the most{error}",
            p.answered, p.sent, p.longest_gap_ms
        );
        say(&format!("{}{site}", p.target), text);
    }
    for (name, value) in &r.timing {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        say(name, text);
    }
    for (name, value) in &r.versions {
        say(name, value.clone());
    }
    *out += "<h2>Figures</h2>\n<table>";
    for (name, value) in rows {
        let (name, value) = (escaped(&name), escaped(&value));
        let _ = writeln!(out, "<tr><th>{name}</th><td class=\"w\">{value}</td></tr>");
    }
    *out += "</table>\n";
}

fn events(out: &mut String, events: &[Event]) {
    *out += "<details><summary>All events</summary><div class=\"scroll\"><table>\n";
    for e in events {
        let (kind, text) = (e.kind.word(), escaped(&e.text));
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{:.3} s</td><td class=\"dim\">{kind}</td><td>{text}</td></tr>",
            e.t_ms / 1e3
        );
    }
    *out += "</table></div></details>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_text() {
        let page = page(&super::super::report::tests::sample());
        for bad in ["<moves>", "<b>", "<script>", "\u{1b}", "\u{0}"] {
            assert!(!page.contains(bad), "{bad}");
        }
        assert!(page.contains("web &lt;moves&gt; &amp; &quot;returns&quot;"), "{page}");
        assert!(page.contains(">rome</text>") && page.contains("class=\"s1\""), "{page}");
    }

    #[test]
    fn answers_become_bars_and_gaps_with_their_numbers() {
        let mut out = String::new();
        answers(&mut out, &[0.0, 10.0, 20.0, 600.0, 610.0], JOINED_MS, 0.0, &|ms| ms);
        assert_eq!(out.matches("class=\"client\"").count(), 2);
        assert!(out.contains(">580 ms</text>"), "{out}");
    }
}
