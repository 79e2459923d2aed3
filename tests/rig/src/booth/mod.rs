//! booth.
