//! An allocator that counts: how much memory something held at most.
//!
//! A decoder of what strangers send must not be made to allocate by a few bytes of theirs. A test
//! program makes this its global allocator and asks for the peak of one call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Without destructors and without lazy initialisation, so that the allocator may use them.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what its thread holds. Make it `#[global_allocator]`.
pub struct Counting;

fn changed(by: isize) {
    // A thread that is ending has no counters any more; nobody asks it for its peak either.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + by);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        changed(layout.size().cast_signed());
        // SAFETY: the caller's own promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        changed(-layout.size().cast_signed());
        // SAFETY: the caller's own promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        changed(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's own promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The result of a call, and the most bytes that it held at once beyond what was held before. Only
/// what this thread allocates counts; 0 when [`Counting`] is not the allocator.
pub fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = call();
    (result, (PEAK.get() - before).max(0).cast_unsigned())
}
