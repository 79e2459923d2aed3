//! Network namespaces of a test's own: a holder with the service address and a client, joined by a
//! veth pair. Removed at the end, also when the test fails.
#![allow(clippy::unwrap_used, unreachable_pub)] // all of it is test code

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tierce_gate::Deadline;

/// The service addresses.
pub const V4: &str = "10.99.0.100";
pub const V6: &str = "fd99::100";
/// Another address of the holder, never guarded.
pub const OTHER: &str = "10.99.0.1";

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Now, by `CLOCK_BOOTTIME`, in nanoseconds.
pub fn now() -> u64 {
    Deadline::after(Duration::ZERO).0
}

/// True where namespaces can be made; else says so, or fails where skipping is forbidden.
pub fn may_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var("TIERCE_TESTS_STRICT").as_deref() != Ok("1"), "root is needed");
    eprintln!("SKIPPED: network namespaces need root");
    false
}

pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-e", "-c", line]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two namespaces.
pub struct Lab {
    pub holder: String,
    pub client: String,
}

impl Lab {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tgate-{}-{number}", std::process::id());
        let lab = Self { holder: format!("{name}-h"), client: format!("{name}-c") };
        let (h, c) = (&lab.holder, &lab.client);
        sh(&format!(
            "ip netns add {h} && ip netns add {c}
             ip -n {h} link add veth0 type veth peer name veth0 netns {c}
             ip -n {h} link set lo up && ip -n {h} link set veth0 up
             ip -n {c} link set lo up && ip -n {c} link set veth0 up
             ip -n {h} addr add {OTHER}/24 dev veth0 && ip -n {h} addr add {V4}/24 dev veth0
             ip -n {h} addr add {V6}/64 dev veth0 nodad
             ip -n {c} addr add 10.99.0.2/24 dev veth0 && ip -n {c} addr add fd99::2/64 dev veth0 nodad"
        ));
        lab
    }

    /// Runs in the holder's namespace.
    pub fn at_holder<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.holder, work)
    }

    pub fn nft(&self, line: &str) -> String {
        sh(&format!("ip netns exec {} nft '{line}'", self.holder))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.holder, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One probe: when it was sent, and when its answer came.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub sent: u64,
    pub answered: Option<u64>,
}

/// A client that asks an echo service at the holder every millisecond.
pub struct Prober {
    end: Arc<AtomicBool>,
    echo: JoinHandle<()>,
    client: JoinHandle<Vec<Probe>>,
}

impl Prober {
    pub fn start(lab: &Lab, address: &str) -> Self {
        Self::between(&lab.holder, &lab.client, address)
    }

    pub fn between(holder: &str, client: &str, address: &str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let target = SocketAddr::new(addr(address), 4000);
        let (holder, done) = (holder.to_owned(), end.clone());
        let echo = std::thread::spawn(move || {
            enter(&holder);
            let socket = UdpSocket::bind(target).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut bytes = [0u8; 4];
            while !done.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut bytes) {
                    let _ = socket.send_to(&bytes[..len], from); // refused while shut
                }
            }
        });
        let (client, done) = (client.to_owned(), end.clone());
        let client = std::thread::spawn(move || {
            enter(&client);
            probe(target, &done)
        });
        Self { end, echo, client }
    }

    pub fn stop(self) -> Vec<Probe> {
        self.end.store(true, Ordering::Relaxed);
        self.echo.join().unwrap();
        self.client.join().unwrap()
    }
}

fn probe(target: SocketAddr, done: &AtomicBool) -> Vec<Probe> {
    let local: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut probes: Vec<Probe> = vec![];
    let mut bytes = [0u8; 4];
    let mut next = Instant::now();
    let mut last: Option<Instant> = None;
    loop {
        while let Ok((4, _)) = socket.recv_from(&mut bytes) {
            probes[u32::from_ne_bytes(bytes) as usize].answered = Some(now());
        }
        // Answers of the last probes are awaited for a while.
        match (done.load(Ordering::Relaxed), last) {
            (true, None) => last = Some(Instant::now()),
            (true, Some(since)) if since.elapsed() > Duration::from_millis(100) => return probes,
            _ => {}
        }
        if last.is_none() && Instant::now() >= next {
            next += Duration::from_millis(1);
            let number = probes.len() as u32;
            let sent = now();
            if socket.send_to(&number.to_ne_bytes(), target).is_ok() {
                probes.push(Probe { sent, answered: None });
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// When the last answer came.
pub fn last_answer(probes: &[Probe]) -> u64 {
    probes.iter().filter_map(|probe| probe.answered).max().expect("some were answered")
}

/// Waits until a probe was surely answered: neighbours are resolved, sockets are bound.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}
