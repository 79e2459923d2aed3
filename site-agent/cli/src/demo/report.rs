//! What the demo found, as a report.

use std::collections::BTreeMap;

use super::client::Book;
use super::conduct::Conductor;
use super::lab::SITES;
use super::limits::PERIOD;
use super::program::Program;
use crate::evidence::clock::ms;
use crate::evidence::judge;
use crate::evidence::report::{DEMO, DRILL, Records, Report, Verdict};
use crate::evidence::score::{Grounds, Score};

/// Judges it. `stopped_early`: why not all phases were run.
pub(super) fn judged(c: &Conductor, program: &Program, stopped_early: Option<String>) -> Report {
    let book: Book = c.shared.book().clone();
    let all = || book.client.iter().chain(&book.witness);
    let lanes = judge::lanes(all());
    let at = |at| c.timeline.at(at);
    let (kind, name, level) = if program.drill { (DRILL, "lab", 1) } else { (DEMO, "demo", 1) };
    let mut r = Report::begin(kind, name, level);
    r.overlap_ms = ms(judge::overlap(&lanes));
    r.stale_answers = judge::stale(&lanes, all());
    r.phases.clone_from(&c.phases);
    r.sites = SITES.map(str::to_owned).into();
    r.put_lanes(&lanes, &c.timeline);
    r.records = Some(Records {
        wanted: book.wanted,
        sent: book.sent,
        answered: book.client.len() as u64,
        witnessed: book.witness.len() as u64 + book.beyond,
    });
    r.answers_ms = book.client.iter().map(|a| at(a.got)).collect();
    "The client asks the name server before every record, every 10 ms; the witness asks both \
     sites all the time."
        .clone_into(&mut r.answers_are);
    r.period_ms = ms(PERIOD);
    r.seed = Some(program.seed);
    r.profile = Some(c.profile.word().to_owned());
    r.timing = timing(c);
    r.stopped_early = stopped_early;
    (r.datagrams_carried, r.datagrams_cut) = c.net.relay.counts();
    r.again = program.again();
    r.close(&c.timeline);
    r.score = Some(score(&r));
    conclude(&mut r, program.phases());
    r
}

fn timing(c: &Conductor) -> BTreeMap<String, serde_json::Value> {
    let t = c.profile.timing();
    [
        ("promise_ms", ms(t.promise)),
        ("holder_ms", ms(t.holder_time())),
        ("watchdog_ms", ms(t.watchdog)),
        ("stop_budget_ms", ms(t.stop_budget)),
        ("renew_every_ms", ms(t.renew_every)),
        ("blip_budget_ms", ms(t.blip_budget(t.stop_budget))),
        ("election_ms", ms(t.election)),
        ("rho_ppm", f64::from(t.rho_ppm)),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into()
}

fn score(r: &Report) -> Score {
    let records = r.records.unwrap_or_default();
    let back = r.phases.iter().find(|p| p.name == super::conduct::PLANNED).map(|p| p.passed);
    let place = |name: &str| (name.to_owned(), records.witnessed > 0);
    Score::new(&Grounds {
        ran_twice: r.overlap_ms > 0.0 || r.stale_answers > 0,
        answers: records.witnessed,
        phases: &r.phases,
        // The demo's service keeps nothing: an answer is no write that could be lost.
        writes_kept: None,
        switched_back: back,
        places: &[place("paris"), place("rome"), ("client".to_owned(), records.answered > 0)],
    })
}

/// Verdict and sentence.
fn conclude(r: &mut Report, phases: usize) {
    let kept = r.phases.iter().filter(|p| p.passed).count();
    let records = r.records.unwrap_or_default();
    let safe = r.overlap_ms == 0.0 && r.stale_answers == 0 && records.witnessed > 0;
    let all = r.phases.len() == phases && kept == phases && r.stopped_early.is_none();
    r.verdict = if safe && all { Verdict::Passed } else { Verdict::Failed };
    let safety = if safe {
        let answers = records.witnessed + records.answered;
        format!("the service never ran twice (overlap 0 ms, {answers} answers)")
    } else if records.witnessed == 0 {
        "the service was never seen, which proves nothing".to_owned()
    } else {
        let (overlap, stale) = (r.overlap_ms, r.stale_answers);
        format!("the service ran twice: overlap {overlap} ms, {stale} stale answers")
    };
    r.summary = format!("{}: {safety}; {kept} of {phases} phases as predicted", r.verdict.word());
}
