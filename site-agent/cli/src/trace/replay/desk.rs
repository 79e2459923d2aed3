//! Who sits before a replay: what is shown, where it stops, what can be asked there.

use std::io::Write as _;

use serde_json::json;
use tierce_ticket::replay::{Event, Played, Stage};

use super::ReplayArgs;
use super::words::{effect_words, input_words, state_words};
use crate::Ctx;
use crate::failure::Failure;
use crate::words::plain;

const HELP: &str = "\
n [COUNT]   the next event, or so many        c        on to the next breakpoint
b TEXT      stop where a line has this text   b        lists the breakpoints; b! removes them
s [MEMBER]  the member's state                S [MEMBER]  all of it, field by field
m           members that run                  e        the whole event
q           leave";

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next event.
    GoOn,
    /// Not at all.
    Leave,
}

/// The reader's side of a replay.
pub(super) struct Desk {
    args: ReplayArgs,
    asks: bool,
    /// Events until it stops by itself; `None`: at breakpoints only.
    steps: Option<u64>,
    /// `--break-at` has not come yet.
    waits: bool,
}

impl Desk {
    /// `asks`: somebody is there to answer.
    pub(super) fn new(args: ReplayArgs, asks: bool) -> Self {
        let aimless = args.breaks.is_empty() && args.break_at.is_none();
        // Without a breakpoint somebody at a terminal begins at the first event.
        let steps = (asks && aimless).then_some(1);
        Self { waits: args.break_at.is_some(), args, asks, steps }
    }

    /// Whether the event is after the end that was asked for.
    pub(super) fn is_past(&self, event: &Event) -> bool {
        self.args.until.is_some_and(|until| seconds(event) > until)
    }

    fn shows(&self, event: &Event) -> bool {
        let named = self.args.members.is_empty()
            || self.args.members.iter().any(|m| m == event.member.as_str());
        named && seconds(event) >= self.args.from
    }

    /// Before it happens.
    pub(super) fn announce(&self, ctx: &Ctx, event: &Event) -> Result<(), Failure> {
        if ctx.out.is_json() || !self.shows(event) || (is_tick(event) && !self.args.all) {
            return Ok(());
        }
        ctx.out.text(&format!("{} <- {}\n", head(event), plain(&input_words(&event.what))))
    }

    /// After it.
    pub(super) fn show(
        &mut self,
        ctx: &Ctx,
        stage: &Stage,
        event: &Event,
        played: &Played,
    ) -> Result<Next, Failure> {
        let mut lines: Vec<String> = played.effects.iter().map(effect_words).collect();
        if !played.as_recorded {
            lines.push("(not the recorded effects)".to_owned());
        }
        let visible = self.shows(event);
        if ctx.out.is_json() && visible {
            let effects: Vec<String> = played.effects.iter().map(|e| format!("{e:?}")).collect();
            ctx.out.json_line(&json!({
                "at_s": seconds(event), "member": event.member.as_str(),
                "what": event.what, "effects": effects, "as_recorded": played.as_recorded,
            }))?;
            return Ok(Next::GoOn);
        }
        if visible {
            if is_tick(event) && !self.args.all && !lines.is_empty() {
                ctx.out.text(&format!("{} <- time passes\n", head(event)))?;
            }
            for l in &lines {
                ctx.out.text(&format!("{:>10} {:<12} -> {}\n", "", "", plain(l)))?;
            }
        }
        if !visible || !self.stops(event, &lines) {
            return Ok(Next::GoOn);
        }
        ctx.out.text(&format!(
            "*** {}\n",
            plain(&state_words(stage.member(&event.member), event.now))
        ))?;
        if self.asks { self.ask(ctx, stage, event) } else { Ok(Next::GoOn) }
    }

    fn stops(&mut self, event: &Event, lines: &[String]) -> bool {
        if self.waits && self.args.break_at.is_some_and(|at| seconds(event) >= at) {
            self.waits = false;
            return true;
        }
        if let Some(left) = &mut self.steps {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return true;
            }
        }
        let input = format!("{} {}", event.member, input_words(&event.what));
        let has = |text: &String| input.contains(text) || lines.iter().any(|l| l.contains(text));
        self.args.breaks.iter().any(has)
    }

    /// Asks until an answer lets the replay go on.
    fn ask(&mut self, ctx: &Ctx, stage: &Stage, event: &Event) -> Result<Next, Failure> {
        loop {
            ctx.out.text("(n, c, b, s, q, h) ")?;
            let _ = std::io::stdout().flush();
            let mut answer = String::new();
            if !matches!(std::io::stdin().read_line(&mut answer), Ok(n) if n > 0) {
                return Ok(Next::Leave);
            }
            let (word, rest) = answer.trim().split_once(' ').unwrap_or((answer.trim(), ""));
            let member = if rest.is_empty() {
                event.member.clone()
            } else {
                match rest.parse() {
                    Ok(name) => name,
                    Err(_) => event.member.clone(),
                }
            };
            match word {
                "n" | "" => {
                    self.steps = Some(rest.parse().unwrap_or(1));
                    return Ok(Next::GoOn);
                }
                "c" => {
                    self.steps = None;
                    return Ok(Next::GoOn);
                }
                "b" if rest.is_empty() => ctx.out.text(&format!("{:?}\n", self.args.breaks))?,
                "b" => self.args.breaks.push(rest.to_owned()),
                "b!" => self.args.breaks.clear(),
                "s" => {
                    let words = state_words(stage.member(&member), event.now);
                    ctx.out.text(&format!("{member}: {}\n", plain(&words)))?;
                }
                "S" => ctx.out.text(&format!("{:#?}\n", stage.member(&member)))?,
                "m" => {
                    for (name, m) in stage.members() {
                        let words = state_words(Some(m), event.now);
                        ctx.out.text(&format!("{name:<12} {}\n", plain(&words)))?;
                    }
                }
                "e" => ctx.out.text(&format!("{event:#?}\n"))?,
                "q" => return Ok(Next::Leave),
                _ => ctx.out.text(&format!("{HELP}\n"))?,
            }
        }
    }
}

fn is_tick(event: &Event) -> bool {
    use tierce_ticket::member::Input;
    use tierce_ticket::replay::What;
    matches!(event.what, What::Input(Input::Tick | Input::Able(_) | Input::Persisted(_)))
}

fn seconds(event: &Event) -> f64 {
    event.at_ns as f64 / 1e9
}

fn head(event: &Event) -> String {
    format!("{:>10.3} {:<12}", seconds(event), event.member)
}
