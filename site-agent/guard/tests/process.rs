//! Real processes: a guard, agents that are killed and frozen, dependents that must not survive.
//!
//! The agent is this test binary started again in a role. Times: H 2 s, B 800 ms, W 400 ms, so an
//! unrenewed ticket is stopped 800 ms after its last renewal and the last resort is taken at 1.6 s.

#![allow(clippy::unwrap_used)] // all of it is test code

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tierce_guard::{
    Ack, ArmEntry, BootTime, Code, EventKind, GuardClient, Lease, Reply, Role, Status, Term,
    Ticket, boot_now,
};

const H: Duration = Duration::from_secs(2);
const B: Duration = Duration::from_millis(800);
const W: Duration = Duration::from_millis(400);
const PERIOD: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(20);
const ROLE: &str = "TIERCE_GUARD_TEST_ROLE";

fn lease_from(sent: BootTime) -> Lease {
    let deadline = sent.after(H);
    Lease { stop_at: deadline.before(W + B), deadline }
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill touches no memory; the pid is that of a child not yet waited for.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "waited {LONG:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that dies with the test.
struct Owned(Child);

impl Owned {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Rig {
    dir: TempDir,
    guard: Owned,
}

impl Rig {
    fn new(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let record = format!("record:{}", dir.path().join("record").display());
        Self::with_resort(dir, &record, extra)
    }

    fn with_resort(dir: TempDir, resort: &str, extra: &[&str]) -> Self {
        let guard = spawn_guard(dir.path(), resort, extra);
        let mut rig = Self { dir, guard };
        until("the guard's socket", || {
            assert!(rig.guard.alive(), "the guard ended early");
            GuardClient::connect(&rig.path("socket")).is_ok()
        });
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Stamps of the events that contain this text.
    fn events(&self, text: &str) -> Vec<u64> {
        let stamp = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        self.text("events").lines().filter(|line| line.contains(text)).map(stamp).collect()
    }

    fn client(&self, role: Role) -> Agent {
        let mut client = GuardClient::connect(&self.path("socket")).unwrap();
        let seq = client.hello(role, W).unwrap();
        let mut agent = Agent { client, events: vec![] };
        assert_eq!(agent.ack(seq).code, Code::Done);
        agent
    }

    /// Stops by ending `victim` and noting it in the file `stopped`.
    fn kill_script(&self, victim: u32) -> String {
        let note = self.path("stopped");
        format!("kill -9 {victim}; echo $TIERCE_TICKET_ID $TIERCE_TERM >> {}", note.display())
    }

    /// An agent process that arms ticket 1 in term 7 and renews until something ends it.
    fn agent(&self, script: &str) -> Owned {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "role_of_an_agent", "--nocapture"]);
        command.env(ROLE, "agent").env("DIR", self.dir.path()).env("SCRIPT", script);
        let agent = Owned(command.stdout(Stdio::null()).spawn().unwrap());
        until("the agent's first renewals", || self.path("lease").exists());
        agent
    }

    /// The last lease that the agent has sent.
    fn last_lease(&self) -> Lease {
        let text = self.text("lease");
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
        let mut next = || BootTime(numbers.next().unwrap());
        Lease { stop_at: next(), deadline: next() }
    }
}

fn spawn_guard(dir: &Path, resort: &str, extra: &[&str]) -> Owned {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierce-guard"));
    command.arg("--socket").arg(dir.join("socket")).args(["--last-resort", resort]);
    command.arg("--events").arg(dir.join("events")).args(extra);
    Owned(command.spawn().unwrap())
}

fn dependent() -> Owned {
    Owned(Command::new("sleep").arg("1000").process_group(0).spawn().unwrap())
}

/// A client with its answers sorted from its events.
struct Agent {
    client: GuardClient,
    events: Vec<(EventKind, Ticket, Term)>,
}

impl Agent {
    fn reply(&mut self, want: impl Fn(&Reply) -> bool) -> Reply {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < LONG, "no answer");
            match self.client.wait(Duration::from_millis(100)).unwrap() {
                Some(Reply::Event { kind, ticket, term }) => {
                    self.events.push((kind, ticket, term));
                }
                Some(reply) if want(&reply) => return reply,
                _ => {}
            }
        }
    }

    fn ack(&mut self, seq: u32) -> Ack {
        let reply = self.reply(|reply| matches!(reply, Reply::Ack(ack) if ack.seq == seq));
        let Reply::Ack(ack) = reply else { unreachable!("filtered") };
        ack
    }

    fn status(&mut self) -> Status {
        self.client.status().unwrap();
        let Reply::Status(status) = self.reply(|reply| matches!(reply, Reply::Status(_))) else {
            unreachable!("filtered")
        };
        status
    }

    fn event(&mut self, kind: EventKind) {
        let start = Instant::now();
        while !self.events.iter().any(|event| event.0 == kind) {
            assert!(start.elapsed() < LONG, "no {kind:?}, but {:?}", self.events);
            let reply = self.client.wait(Duration::from_millis(100)).unwrap();
            if let Some(Reply::Event { kind, ticket, term }) = reply {
                self.events.push((kind, ticket, term));
            }
        }
    }

    fn stop_command(&mut self, ticket: u32, script: &str) {
        let words: [&[u8]; 3] = [b"/bin/sh", b"-c", script.as_bytes()];
        let seq = self.client.set_stop(Ticket(ticket), &words).unwrap();
        assert_eq!(self.ack(seq).code, Code::Done);
    }

    fn arm(&mut self, ticket: u32, term: u64, lease: Lease) -> Ack {
        let entry = ArmEntry { ticket: Ticket(ticket), term: Term(term), lease };
        let seq = self.client.arm(&[entry]).unwrap();
        self.ack(seq)
    }
}

/// Not a test by itself: what the agent process of the other tests runs.
#[test]
fn role_of_an_agent() {
    if std::env::var(ROLE).as_deref() != Ok("agent") {
        return;
    }
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let mut client = GuardClient::connect(&dir.join("socket")).unwrap();
    client.hello(Role::Agent, W).unwrap();
    let script = std::env::var("SCRIPT").unwrap();
    let words: [&[u8]; 3] = [b"/bin/sh", b"-c", script.as_bytes()];
    client.set_stop(Ticket(1), &words).unwrap();
    let lease = lease_from(boot_now());
    client.arm(&[ArmEntry { ticket: Ticket(1), term: Term(7), lease }]).unwrap();
    loop {
        let lease = lease_from(boot_now());
        client.arm_all(lease).unwrap();
        while client.recv().unwrap().is_some() {}
        let line = format!("{} {}", lease.stop_at.0, lease.deadline.0);
        fs::write(dir.join("lease.new"), line).unwrap();
        fs::rename(dir.join("lease.new"), dir.join("lease")).unwrap();
        std::thread::sleep(PERIOD);
    }
}

fn dependents_end_in_time_when_the_agent_gets(number: i32) {
    let rig = Rig::new(&[]);
    let mut victim = dependent();
    let agent = rig.agent(&rig.kill_script(victim.pid()));
    std::thread::sleep(Duration::from_millis(300));
    signal(agent.pid(), number);
    let begun = Instant::now();
    until("the dependent's end", || !victim.alive());
    let (ended, lease) = (boot_now(), rig.last_lease());
    println!(
        "signal {number}: dependent gone {:?} after it, {} ms before the deadline",
        begun.elapsed(),
        (lease.deadline.0 - ended.0) / 1_000_000
    );
    assert!(ended < lease.deadline.before(W), "stopped before the last resort was due");
    until("the confirmation", || !rig.events("stopped ticket=1 term=7").is_empty());
    assert_eq!(rig.text("stopped"), "1 7\n");
    let begun = rig.events("stop ticket=1 term=7");
    assert_eq!(begun.len(), 1);
    // The file may lag one renewal behind what was sent when the signal came.
    assert!(begun[0] >= lease.stop_at.0, "never while the lease is valid");
    assert_eq!(rig.text("record"), "", "no reset was asked for");
}

#[test]
fn dependents_are_stopped_in_time_when_the_agent_is_killed() {
    dependents_end_in_time_when_the_agent_gets(libc::SIGKILL);
}

#[test]
fn dependents_are_stopped_in_time_when_the_agent_is_frozen() {
    dependents_end_in_time_when_the_agent_gets(libc::SIGSTOP);
}

#[test]
fn renewals_keep_the_guard_quiet_for_many_leases() {
    let rig = Rig::new(&[]);
    let mut victim = dependent();
    let mut agent = rig.agent(&rig.kill_script(victim.pid()));
    std::thread::sleep(H * 3);
    assert!(victim.alive() && agent.alive());
    assert_eq!(rig.events("stop ticket").len() + rig.events("reset").len(), 0);
}

#[test]
fn a_hanging_stop_command_leads_to_the_last_resort_before_the_deadline() {
    let rig = Rig::new(&[]);
    let pid_file = rig.path("hung");
    let agent = rig.agent(&format!("echo $$ > {}; exec sleep 1000", pid_file.display()));
    signal(agent.pid(), libc::SIGKILL);
    until("the record of a reset", || !rig.text("record").is_empty());
    let (record, lease) = (rig.text("record"), rig.last_lease());
    assert!(record.ends_with("reset ticket=1 term=7 reason=stop-hung\n"), "{record}");
    let at: u64 = record.split(' ').next().unwrap().parse().unwrap();
    println!("reset {} us after D - W", (at - lease.deadline.before(W).0) / 1000);
    assert!(at >= lease.deadline.before(W).0 && at < lease.deadline.0);
    let hung = fs::read_to_string(pid_file).unwrap();
    let proc = format!("/proc/{}/stat", hung.trim());
    until("the end of the hung command", || !Path::new(&proc).exists());
}

#[test]
fn a_failing_stop_command_is_repeated_until_it_succeeds() {
    let rig = Rig::new(&[]);
    let tries = rig.path("tries").display().to_string();
    let agent = rig.agent(&format!("echo x >> {tries}; [ $(wc -l < {tries}) -ge 2 ]"));
    signal(agent.pid(), libc::SIGKILL);
    until("the confirmation", || !rig.events("stopped ticket=1").is_empty());
    assert_eq!(rig.events("stop-failed ticket=1").len(), 1);
    assert_eq!(rig.text("record"), "");
}

#[test]
fn a_guard_frozen_past_the_deadline_resets_at_once_when_it_goes_on() {
    let rig = Rig::new(&[]);
    let agent = rig.agent("exit 0");
    signal(rig.guard.pid(), libc::SIGSTOP);
    signal(agent.pid(), libc::SIGKILL);
    let lease = rig.last_lease();
    until("the deadline", || boot_now() > lease.deadline.after(PERIOD * 2));
    assert_eq!(rig.text("record"), "");
    signal(rig.guard.pid(), libc::SIGCONT);
    let continued = Instant::now();
    until("the record of a reset", || !rig.text("record").is_empty());
    println!("reset {:?} after SIGCONT", continued.elapsed());
    assert!(rig.text("record").contains("reason=overslept"));
}

#[test]
fn a_guard_frozen_past_a_deadline_that_was_renewed_meanwhile_does_nothing() {
    let rig = Rig::new(&[]);
    let mut agent = rig.agent("exit 0");
    signal(rig.guard.pid(), libc::SIGSTOP);
    std::thread::sleep(H + PERIOD * 3);
    signal(rig.guard.pid(), libc::SIGCONT);
    std::thread::sleep(PERIOD * 3);
    assert!(agent.alive());
    assert_eq!(rig.events("stop ticket").len() + rig.events("reset").len(), 0);
}

#[test]
fn garbage_and_observers_change_nothing() {
    let rig = Rig::new(&[]);
    let mut agent = rig.client(Role::Agent);
    agent.stop_command(1, "exit 0");
    assert_eq!(agent.arm(1, 7, lease_from(boot_now())).code, Code::Done);
    let mut observer = rig.client(Role::Observer);
    let seq = observer.client.disarm(&[(Ticket(1), Term(7))]).unwrap();
    assert_eq!(observer.ack(seq).code, Code::NotAllowed);
    let before = agent.status().dropped;
    let raw = GuardClient::connect(&rig.path("socket")).unwrap();
    let mut bytes = [0u8; 4000];
    for round in 0..200u32 {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte =
                (at as u32).wrapping_mul(round.wrapping_mul(2_654_435_761) | 1).to_le_bytes()[2];
        }
        if round % 2 == 0 {
            bytes[..8].copy_from_slice(b"TGRD\x01\0\x02\xff"); // ours by head, wrong by length
        }
        send_raw(&raw, &bytes[..=(round as usize * 19 % 4000)]);
    }
    let deadline = Instant::now() + LONG;
    let dropped = loop {
        let status = agent.status();
        if status.dropped >= before + 200 || Instant::now() > deadline {
            break status.dropped - before;
        }
    };
    assert_eq!(dropped, 200);
    assert_eq!(agent.status().armed, 1);
}

fn send_raw(client: &GuardClient, bytes: &[u8]) {
    use std::os::fd::{AsFd, AsRawFd};
    let fd = client.as_fd().as_raw_fd();
    // SAFETY: the slice is valid for its length and send only reads it.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) };
    assert_eq!(sent, bytes.len().cast_signed());
}

#[test]
fn a_second_guard_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let rig = Rig::new(&[]);
    let mut second = spawn_guard(rig.dir.path(), "kill", &[]);
    assert_eq!(second.0.wait().unwrap().code(), Some(69));
    rig.client(Role::Agent);
}

#[test]
fn an_agent_that_reconnects_registers_again_and_goes_on() {
    let rig = Rig::new(&[]);
    let mut agent = rig.client(Role::Agent);
    agent.stop_command(1, "exit 0");
    let first = lease_from(boot_now());
    agent.arm(1, 7, first);
    drop(agent);
    until("the guard's notice", || rig.events("agent-gone guarded=1").len() == 1);
    let mut agent = rig.client(Role::Agent);
    agent.client.list(Ticket(0)).unwrap();
    let reply = agent.reply(|reply| matches!(reply, Reply::List { .. }));
    let Reply::List { entries, .. } = reply else { unreachable!("filtered") };
    assert_eq!((entries.len(), entries[0].term, entries[0].lease), (1, Term(7), first));
    agent.stop_command(1, "exit 0");
    assert_eq!(agent.arm(1, 7, lease_from(boot_now())).code, Code::Done);
    until("the first deadline", || {
        let seq = agent.client.arm_all(lease_from(boot_now())).unwrap();
        assert_eq!(agent.ack(seq).code, Code::Done);
        boot_now() > first.deadline
    });
    assert_eq!(agent.status().armed, 1);
    assert_eq!(rig.events("stop ticket").len(), 0);
    // A newer agent takes over from an older one that still hangs on.
    let mut newer = rig.client(Role::Agent);
    assert_eq!(newer.status().armed, 1);
    let start = Instant::now();
    while agent.client.wait(Duration::from_millis(50)).is_ok() {
        assert!(start.elapsed() < LONG, "the older agent is let go");
    }
}

#[test]
fn a_lower_term_and_an_unregistered_ticket_are_refused() {
    let rig = Rig::new(&[]);
    let mut agent = rig.client(Role::Agent);
    assert_eq!(agent.arm(1, 7, lease_from(boot_now())).code, Code::NoStopCommand);
    agent.stop_command(1, "exit 0");
    assert_eq!(agent.arm(1, 7, lease_from(boot_now())).code, Code::Done);
    assert_eq!(agent.arm(1, 6, lease_from(boot_now())).code, Code::StaleTerm);
    let seq = agent.client.disarm(&[(Ticket(1), Term(6))]).unwrap();
    let ack = agent.ack(seq);
    assert_eq!((ack.code, ack.armed), (Code::StaleTerm, 1));
    agent.event(EventKind::Stopped);
    let stopped = (EventKind::Stopped, Ticket(1), Term(7));
    assert_eq!(agent.events, [(EventKind::StopBegun, Ticket(1), Term(7)), stopped]);
}

#[test]
fn sigterm_is_refused_while_a_ticket_is_guarded_and_obeyed_afterwards() {
    let mut rig = Rig::new(&[]);
    let mut agent = rig.client(Role::Agent);
    agent.stop_command(1, "exit 0");
    agent.arm(1, 7, lease_from(boot_now()));
    signal(rig.guard.pid(), libc::SIGTERM);
    until("the refusal", || rig.events("end-refused guarded=1").len() == 1);
    assert!(rig.guard.alive());
    let seq = agent.client.disarm(&[(Ticket(1), Term(7))]).unwrap();
    assert_eq!(agent.ack(seq).code, Code::Done);
    signal(rig.guard.pid(), libc::SIGTERM);
    assert_eq!(rig.guard.0.wait().unwrap().code(), Some(0));
    assert!(!rig.path("socket").exists(), "the socket is cleared away");

    let mut rig = Rig::new(&["--force"]);
    let mut agent = rig.client(Role::Agent);
    agent.stop_command(1, "exit 0");
    agent.arm(1, 7, lease_from(boot_now()));
    signal(rig.guard.pid(), libc::SIGTERM);
    assert_eq!(rig.guard.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_last_resort_kill_ends_registered_groups_when_a_stop_hangs() {
    let rig = Rig::with_resort(tempfile::tempdir().unwrap(), "kill", &[]);
    let (mut victim, mut bystander) = (dependent(), dependent());
    let mut agent = rig.client(Role::Agent);
    agent.stop_command(1, "exec sleep 1000");
    let group = [victim.pid().cast_signed()];
    let seq = agent.client.set_groups(Ticket(1), &group).unwrap();
    assert_eq!(agent.ack(seq).code, Code::Done);
    let lease = lease_from(boot_now());
    agent.arm(1, 7, lease);
    until("the dependent's end", || !victim.alive());
    let ended = boot_now();
    assert!(ended >= lease.deadline.before(W) && ended < lease.deadline);
    assert!(bystander.alive());
    agent.event(EventKind::Reset);
    let status = agent.status();
    assert_eq!((status.armed, status.stopping, status.reset), (0, 0, 0), "known dead");
}

#[test]
fn a_start_that_cannot_protect_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tierce-guard"));
        let output = command.current_dir(dir.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["--socket", "s"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("--last-resort is missing"), "{text}");
    let (code, text) = run(&["--socket", "s", "--last-resort", "watchdog:/nonexistent"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("/nonexistent"), "{text}");
    let (code, text) = run(&["--socket", "missing/s", "--last-resort", "kill"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("unguarded"), "{text}");
}

#[test]
fn a_full_site_is_renewed_by_one_packet_and_the_guard_stays_small() {
    let rig = Rig::new(&[]);
    let mut agent = rig.client(Role::Agent);
    let status = fs::read_to_string(format!("/proc/{}/status", rig.guard.pid())).unwrap();
    println!("one guard at rest: {}", rss_line(&status));
    let far = Lease { stop_at: boot_now().after(LONG), deadline: boot_now().after(LONG * 2) };
    let mut armed = 0;
    for goal in [1000u32, 16_384] {
        for ticket in armed..goal {
            agent.stop_command(ticket, "exit 0");
        }
        let entries: Vec<_> = (armed..goal)
            .map(|ticket| ArmEntry { ticket: Ticket(ticket), term: Term(1), lease: far })
            .collect();
        for chunk in entries.chunks(tierce_guard::limits::MAX_BATCH) {
            let seq = agent.client.arm(chunk).unwrap();
            assert_eq!(agent.ack(seq).code, Code::Done);
        }
        armed = goal;
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let start = Instant::now();
                let seq = agent.client.arm_all(far).unwrap();
                assert_eq!(agent.ack(seq).armed, goal);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let status = fs::read_to_string(format!("/proc/{}/status", rig.guard.pid())).unwrap();
        println!("{goal} tickets: renewal median {:?}, {}", times[100], rss_line(&status));
    }
    let words: [&[u8]; 1] = [b"/bin/true"];
    let seq = agent.client.set_stop(Ticket(99_999), &words).unwrap();
    assert_eq!(agent.ack(seq).code, Code::Full, "guarded tickets are never displaced");
    std::io::stdout().flush().unwrap();
}

fn rss_line(status: &str) -> String {
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
