//! report.html: one file without anything from outside, readable in light and dark.

use super::report::Report;

/// The page.
pub(super) fn page(r: &Report) -> String {
    format!("<!doctype html><title>tierce demo</title><p>{}</p>", r.summary)
}
