//! The command line, as `crm_simulate` has it.

/// What a simulation is asked for.
#[derive(Debug, Default, Clone)]
pub struct Request {
    /// Where the CIB is read from; `-` is standard input.
    pub input: Option<String>,
    /// Show what would be done.
    pub run: bool,
    /// Show it and what would be then.
    pub simulate: bool,
    /// Write the result back to the input.
    pub in_place: bool,
    /// Only what was asked for.
    pub quiet: bool,
    /// Show scores.
    pub scores: bool,
    /// Show fail counts.
    pub fail_counts: bool,
    /// Show node attributes.
    pub attributes: bool,
    /// Show utilization.
    pub utilization: bool,
    /// Optional actions in the dot file as well.
    pub all_actions: bool,
    /// The moment that counts as now.
    pub date: Option<String>,
    /// Where the graph is written.
    pub graph_file: Option<String>,
    /// Where the dot text is written.
    pub dot_file: Option<String>,
    /// Where the modified input is written.
    pub input_file: Option<String>,
    /// Where the result is written.
    pub output_file: Option<String>,
    /// Keep the modified input.
    pub save_input: bool,
    /// Keep the result.
    pub save_output: bool,
    /// Give the plan as data as well: steps, changes, what is where. No option asks for it: it is for programs.
    pub details: bool,
    /// Draw the graph as SVG.
    pub svg: bool,
    /// Nodes to bring up.
    pub up: Vec<String>,
    /// Nodes to take down.
    pub down: Vec<String>,
    /// Nodes to let fail.
    pub fail: Vec<String>,
    /// Results to inject.
    pub inject: Vec<String>,
    /// Operations that fail when they run.
    pub op_fail: Vec<String>,
    /// Quorum.
    pub quorum: Option<String>,
    /// Watchdog.
    pub watchdog: Option<String>,
    /// Tickets to grant.
    pub grant: Vec<String>,
    /// Tickets to revoke.
    pub revoke: Vec<String>,
    /// Tickets to put aside.
    pub standby: Vec<String>,
    /// Tickets to take back into use.
    pub activate: Vec<String>,
}

/// Why a command line was not understood.
#[derive(Debug, thiserror::Error)]
pub enum Usage {
    /// Help was asked for.
    #[error("{HELP}")]
    Help,
    /// Not an option.
    #[error("unknown option {0}; see --help")]
    Unknown(String),
    /// An option without its value.
    #[error("option {0} needs a value; see --help")]
    Value(String),
    /// An option that this program does not do.
    #[error(
        "{0} is not supported here; read the CIB from a file with --xml-file, or from standard input with --xml-pipe"
    )]
    Refused(&'static str),
    /// Nothing to read.
    #[error("no input; give --xml-file FILE or --xml-pipe")]
    NoInput,
}

/// What `--help` prints.
pub const HELP: &str = "\
Simulate what a cluster would do, from its CIB.

Operations:
  -R, --run                  Show what would be done
  -S, --simulate             Show it, play it, and show the result
  -X, --in-place             As --simulate, and write the result to the input
  -A, --show-attrs           Show node attributes
  -c, --show-failcounts      Show fail counts
  -s, --show-scores          Show scores
  -U, --show-utilization     Show utilization

Synthetic events:
  -u, --node-up=NODE         Bring a node up
  -d, --node-down=NODE       Take a node down
  -f, --node-fail=NODE       Let a node fail
  -i, --op-inject=OPSPEC     Inject a result: RSC_TASK_INTERVAL@NODE=RC
  -F, --op-fail=OPSPEC       Let an operation fail when it runs
  -t, --set-datetime=TIME    The moment that counts as now
  -q, --quorum=BOOL          Quorum
  -w, --watchdog=BOOL        A watchdog
  -g, --ticket-grant=TICKET  Grant a ticket
  -r, --ticket-revoke=TICKET Revoke a ticket
  -b, --ticket-standby=TICKET
                             Put a ticket aside
  -e, --ticket-activate=TICKET
                             Take a ticket back into use

Artifacts:
  -I, --save-input=FILE      Write the modified input
  -O, --save-output=FILE     Write the result
  -G, --save-graph=FILE      Write the graph as XML
  -D, --save-dotfile=FILE    Write the graph as dot
  -a, --all-actions          Optional actions in the dot file as well

Source:
  -x, --xml-file=FILE        Read the CIB from a file (- is standard input)
  -p, --xml-pipe             Read the CIB from standard input

  -Q, --quiet                Only what was asked for
  -h, --help                 This text";

const NAMES: &[(char, &str)] = &[
    ('h', "help"),
    ('R', "run"),
    ('S', "simulate"),
    ('X', "in-place"),
    ('A', "show-attrs"),
    ('c', "show-failcounts"),
    ('s', "show-scores"),
    ('U', "show-utilization"),
    ('Q', "quiet"),
    ('V', "verbose"),
    ('a', "all-actions"),
    ('p', "xml-pipe"),
    ('L', "live-check"),
    ('x', "xml-file"),
    ('u', "node-up"),
    ('d', "node-down"),
    ('f', "node-fail"),
    ('i', "op-inject"),
    ('F', "op-fail"),
    ('t', "set-datetime"),
    ('q', "quorum"),
    ('w', "watchdog"),
    ('g', "ticket-grant"),
    ('r', "ticket-revoke"),
    ('b', "ticket-standby"),
    ('e', "ticket-activate"),
    ('I', "save-input"),
    ('O', "save-output"),
    ('G', "save-graph"),
    ('D', "save-dotfile"),
    ('P', "profile"),
    ('N', "repeat"),
];

/// Options without a value.
const FLAGS: &str = "hRSXAcsUQVapL";

impl Request {
    /// Reads a command line, without the program's name.
    pub fn parse<I: IntoIterator<Item = String>>(args: I) -> Result<Self, Usage> {
        let mut request = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let Some((short, _)) = NAMES.iter().find(|(_, n)| *n == name) else {
                    return Err(Usage::Unknown(arg));
                };
                request.option(*short, value, &mut args)?;
            } else if let Some(shorts) = arg.strip_prefix('-').filter(|s| !s.is_empty()) {
                request.shorts(shorts, &mut args)?;
            }
            // A word that belongs to no option is left out, as `crm_simulate` does.
        }
        if request.input.is_none() {
            return Err(Usage::NoInput);
        }
        request.simulate |= request.in_place;
        request.save_input = request.input_file.is_some();
        request.save_output = request.output_file.is_some() || request.in_place;
        Ok(request)
    }

    fn shorts(
        &mut self,
        shorts: &str,
        args: &mut dyn Iterator<Item = String>,
    ) -> Result<(), Usage> {
        let mut rest = shorts;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if !NAMES.iter().any(|(s, _)| *s == c) {
                return Err(Usage::Unknown(format!("-{c}")));
            }
            if FLAGS.contains(c) {
                self.option(c, None, args)?;
            } else {
                let value = (!rest.is_empty()).then(|| rest.to_owned());
                return self.option(c, value, args);
            }
        }
        Ok(())
    }

    fn option(
        &mut self,
        short: char,
        value: Option<String>,
        args: &mut dyn Iterator<Item = String>,
    ) -> Result<(), Usage> {
        match short {
            'h' => return Err(Usage::Help),
            'R' => self.run = true,
            'S' => self.simulate = true,
            'X' => self.in_place = true,
            'A' => self.attributes = true,
            'c' => self.fail_counts = true,
            's' => self.scores = true,
            'U' => self.utilization = true,
            'Q' => self.quiet = true,
            'a' => self.all_actions = true,
            'p' => self.input = Some("-".to_owned()),
            'V' => {}
            'L' => return Err(Usage::Refused("--live-check")),
            'P' => return Err(Usage::Refused("--profile")),
            'N' => return Err(Usage::Refused("--repeat")),
            _ => {
                let value = value
                    .or_else(|| args.next())
                    .ok_or_else(|| Usage::Value(format!("-{short}")))?;
                self.valued(short, value);
            }
        }
        Ok(())
    }

    fn valued(&mut self, short: char, value: String) {
        match short {
            'x' => self.input = Some(value),
            'u' => self.up.push(value),
            'd' => self.down.push(value),
            'f' => self.fail.push(value),
            'i' => self.inject.push(value),
            'F' => self.op_fail.push(value),
            't' => self.date = Some(value),
            'q' => self.quorum = Some(value),
            'w' => self.watchdog = Some(value),
            'g' => self.grant.push(value),
            'r' => self.revoke.push(value),
            'b' => self.standby.push(value),
            'e' => self.activate.push(value),
            'I' => self.input_file = Some(value),
            'O' => self.output_file = Some(value),
            'G' => self.graph_file = Some(value),
            _ => self.dot_file = Some(value),
        }
    }
}
