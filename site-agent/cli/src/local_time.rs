//! The moment that it is, with the offset of this machine's local time: dates of a CIB that have no offset of their
//! own are in it.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;
use tierce_cib::time::Moment;

/// Now. A clock before 1970, or beyond what a calendar can say, is nothing to decide by.
pub(crate) fn now() -> Option<Moment> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let seconds = i64::try_from(seconds).ok()?;
    Moment::from_epoch(seconds, offset(seconds))
}

/// Seconds east of UTC at a moment; none where the system does not know.
fn offset(seconds: i64) -> i32 {
    let mut fields = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of this frame, and all fields of a `tm` may be zero.
    let fields = unsafe {
        if libc::localtime_r(&raw const seconds, fields.as_mut_ptr()).is_null() {
            return 0;
        }
        fields.assume_init()
    };
    i32::try_from(fields.tm_gmtoff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_after_this_was_written_and_no_place_is_a_day_off() {
        let now = now().expect("the clock works");
        assert!(now.epoch() > 1_700_000_000);
        assert!(offset(now.epoch()).abs() < 24 * 3600);
    }
}
