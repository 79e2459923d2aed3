//! After start the guard allocates nothing: not on renewal, not on stop, not on the last resort.
//!
//! An allocation can wait for memory that a sick node does not have, just when the deadline comes.

#![allow(clippy::unwrap_used)] // all of it is test code

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use tierce_guard::{
    ArmEntry, Daemon, GuardClient, Lease, Options, ResortSpec, Role, Term, Ticket, boot_now,
};

struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

// SAFETY: every call is handed on unchanged to the system's allocator; counting touches only a
// constant-initialised thread local, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get().map(|n| n + 1)));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(daemon: &mut Daemon) -> u64 {
    COUNT.set(Some(0));
    let turn = daemon.turn(Some(Duration::from_millis(5)));
    let count = COUNT.replace(None).unwrap_or(0);
    turn.expect("a turn");
    count
}

#[test]
fn nothing_is_allocated_after_start() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let socket = dir.path().join("socket");
    let mut options = Options::new(socket.clone(), ResortSpec::Record(record.clone()));
    options.lock_memory = tierce_guard::options::LockMemory::No;
    options.realtime = false;
    options.events = Some(dir.path().join("events"));
    let mut daemon = Daemon::open(&options).unwrap();
    let mut client = GuardClient::connect(&socket).unwrap();
    let margin = Duration::from_millis(100);
    client.hello(Role::Agent, margin).unwrap();
    let scripts = ["exit 0", "exit 1", "exec sleep 100"];
    for (ticket, script) in (0u32..).zip(scripts) {
        client.set_stop(Ticket(ticket), &[b"/bin/sh", b"-c", script.as_bytes()]).unwrap();
    }
    let now = boot_now();
    let lease = Lease {
        stop_at: now.after(Duration::from_millis(300)),
        deadline: now.after(Duration::from_millis(1200)),
    };
    let entry = |ticket| ArmEntry { ticket: Ticket(ticket), term: Term(1), lease };
    client.arm(&[entry(0), entry(1), entry(2)]).unwrap();
    client.arm_all(lease).unwrap();
    client.status().unwrap();
    client.list(Ticket(0)).unwrap();
    let mut allocations = 0;
    let done = lease.deadline.after(margin);
    while boot_now() < done {
        allocations += counted(&mut daemon);
        while client.recv().unwrap().is_some() {}
    }
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("ticket=1") && text.contains("ticket=2"), "{text}");
    let events = std::fs::read_to_string(dir.path().join("events")).unwrap();
    assert!(events.contains("stopped ticket=0"), "{events}");
    drop(client);
    allocations += counted(&mut daemon);
    assert_eq!(allocations, 0);
}
