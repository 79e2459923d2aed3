//! The node daemon of a site: voter, session and runner of its resources.
//!
//! The protocol (`tierce-ticket`) decides; the member driver (`tierce-member`) carries its messages
//! and keeps its journal; this crate does what is left at a site: it reads the site's file, lets
//! the runner start and stop what depends on the tickets, answers the operator on the control
//! socket, and leaves in order when asked to.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | the file: read, checked, its digest |

pub mod config;
