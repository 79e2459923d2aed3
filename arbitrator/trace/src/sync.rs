//! What threads meet at, from one place: std's in every program; in the unit tests of this crate
//! shuttle's, which tries the orders in which threads can get there (`recorder/orders.rs`).
//!
//! A unit test that touches a lock or an atomic of this crate therefore runs in `tried::orders` or
//! `tried::alone`. The tests under `tests/` see what programs see.

#[cfg(not(test))]
pub(crate) use real::{AtomicU64, Mutex, MutexGuard, between, thread_local, yield_now};
#[cfg(test)]
pub(crate) use tried::{AtomicU64, Mutex, MutexGuard, between, thread_local, yield_now};

#[cfg(not(test))]
mod real {
    pub(crate) use std::sync::atomic::AtomicU64;
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    /// A place where a reader in another process may come in between; nothing to do here.
    #[inline(always)]
    #[allow(clippy::inline_always)] // it stands between two copies of every record
    pub(crate) fn between() {}
}

#[cfg(test)]
pub(crate) mod tried {
    use std::cell::Cell;

    pub(crate) use shuttle::sync::atomic::AtomicU64;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;

    use shuttle::scheduler::{PctScheduler, RandomScheduler, RoundRobinScheduler, Scheduler};
    use shuttle::{Config, Runner};

    /// Deeper than any order that a failure of two or three threads needs.
    const DEPTH: usize = 3;
    /// A thread's stack: records are built on it.
    const STACK_BYTES: usize = 256 << 10;

    std::thread_local! {
        static TRYING: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn between() {
        if TRYING.get() {
            yield_now();
        }
    }

    /// Runs the scenario in `times` orders, half of them at random, half with few switches at
    /// unlucky places. On a failure the order is printed, for `shuttle::replay`.
    pub(crate) fn orders(times: usize, scenario: impl Fn() + Clone + Send + Sync + 'static) {
        run(RandomScheduler::new(times.div_ceil(2)), scenario.clone());
        run(PctScheduler::new(DEPTH, times / 2), scenario);
    }

    /// Runs a scenario of one thread, in which there is nothing to order.
    pub(crate) fn alone(scenario: impl Fn() + Send + Sync + 'static) {
        run(RoundRobinScheduler::new(1), scenario);
    }

    fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        // Orders of atomics weaker than sequential are not tried; that is known.
        config.silence_warnings = true;
        TRYING.set(true);
        Runner::new(scheduler, config).run(scenario);
        TRYING.set(false);
    }
}
