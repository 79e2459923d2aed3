//! The lease times in words: what each inequality protects, with its numbers, and what follows for
//! the operator (how long a cut may last, how long a takeover takes).

use std::fmt::Write as _;
use std::time::Duration;

use tierce_ticket::timing::{Timing, show};

/// Each inequality with its numbers, then what follows from the times.
pub fn explain_timing(t: &Timing) -> String {
    let h = t.holder_time();
    let w = t.watchdog_stretched();
    let end = t.stop_budget + w + t.wake_up;
    let need = t.renew_every * t.losses + t.rtt_max;
    let budget = h.saturating_sub(t.watchdog).saturating_sub(t.stop_budget);
    let idle = t.renew_every * t.losses;
    let mut out = String::new();
    let mut say = |ok: bool, rule: &str, words: &str, sum: String| {
        let mark = if ok { "holds" } else { "FAILS" };
        let _ = writeln!(out, "{rule}  {mark}  {words}\n            {sum}");
    };
    say(
        t.slack >= Timing::MIN_SLACK,
        "I1",
        "a holder's lease ends before any voter lets it go, whatever the clocks do within rho",
        format!(
            "H = T(1-rho)/(1+rho) - g = {} for T = {}, rho = {}, g = {} (at least {})",
            show(h),
            show(t.promise),
            percent(t.rho_ppm),
            show(t.slack),
            show(Timing::MIN_SLACK)
        ),
    );
    say(
        end <= h,
        "I2",
        "dependents are stopped, or the node is reset, before the lease ends",
        format!(
            "B + W(1+rho) + wake-up = {} + {} + {} = {}, at most H = {}",
            show(t.stop_budget),
            show(w),
            show(t.wake_up),
            show(end),
            show(h)
        ),
    );
    say(
        need <= budget && t.losses >= 3,
        "I3",
        &format!("{} renewals lost in a row stop nothing", t.losses),
        format!(
            "k*P + RTT_max = {} x {} + {} = {}, at most H - W - B = {}",
            t.losses,
            show(t.renew_every),
            show(t.rtt_max),
            show(need),
            show(budget)
        ),
    );
    say(
        true,
        "I4",
        "a dead connection is dropped and dialled anew before renewals are missed for long",
        format!("QUIC idle time = k*P = {}, set by the link itself", show(idle)),
    );
    say(
        t.election + 2 * t.rtt_max < t.promise && t.election > 2 * t.rtt_max,
        "I5",
        "the ledger has a leader again before a dead site's promises end",
        format!(
            "2 RTT_max = {} below election = {}; election + 2 RTT_max = {} below T = {}",
            show(2 * t.rtt_max),
            show(t.election),
            show(t.election + 2 * t.rtt_max),
            show(t.promise)
        ),
    );
    let blip = t.blip_budget(t.stop_budget);
    let worst = t.worst_takeover(t.rtt_max, Duration::ZERO);
    let stops = h.saturating_sub(w).saturating_sub(t.stop_budget);
    let _ = write!(
        out,
        "\nA site renews every {}. A cut shorter than {} never moves a ticket (blip budget).\n\
         Without renewals a site stops its dependents after {} (H - W - B), counted from the last \
         one answered; deadline D comes after {} (H).\n\
         After a crash another site takes over within {} and two syncs of a disk (T + 2 RTT_max).\n",
        show(t.renew_every),
        show(blip),
        show(stops),
        show(h),
        show(worst)
    );
    out
}

fn percent(ppm: u32) -> String {
    let percent = f64::from(ppm) / 10_000.0;
    format!("{percent} %")
}

#[cfg(test)]
mod tests {
    use tierce_ticket::timing::Profile;

    use super::*;

    #[test]
    fn every_inequality_is_named_and_holds_for_every_profile() {
        for p in Profile::ALL {
            let text = explain_timing(&p.timing());
            for rule in ["I1", "I2", "I3", "I4", "I5", "blip budget", "takes over within"] {
                assert!(text.contains(rule), "{p}: {rule} is missing in\n{text}");
            }
            assert!(!text.contains("FAILS"), "{p}:\n{text}");
        }
    }

    #[test]
    fn a_failing_inequality_is_marked_with_its_numbers() {
        let good = Profile::MetroFast.timing();
        let text = explain_timing(&Timing { stop_budget: Duration::from_millis(900), ..good });
        let line = text.lines().find(|l| l.starts_with("I2")).expect("I2");
        assert!(line.contains("FAILS"), "{text}");
        assert!(text.contains("900 ms"), "{text}");
    }

    #[test]
    fn the_words_agree_with_the_check() {
        // A dumb sweep: the marks of I2, I3 and I5 are those of Timing::check.
        let good = Profile::MetroFast.timing();
        for ms in (50..1_000).step_by(50) {
            for t in [
                Timing { stop_budget: Duration::from_millis(ms), ..good },
                Timing { renew_every: Duration::from_millis(ms), ..good },
                Timing { election: Duration::from_millis(ms), ..good },
            ] {
                let found = t.check().err().unwrap_or_default();
                let text = explain_timing(&t);
                for rule in ["I2", "I3", "I5"] {
                    let fails = found.iter().any(|u| u.rule == rule);
                    let line = text.lines().find(|l| l.starts_with(rule)).unwrap();
                    assert_eq!(line.contains("FAILS"), fails, "{rule} at {ms} ms: {line}");
                }
            }
        }
    }
}
