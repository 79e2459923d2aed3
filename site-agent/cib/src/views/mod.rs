//! A configuration by what it means instead of how it is written.
//!
//! Views borrow from the document and copy nothing but short lists. They take a valid configuration;
//! of one that is not they show what can be shown.

pub mod constraints;
pub mod options;
pub mod resources;
