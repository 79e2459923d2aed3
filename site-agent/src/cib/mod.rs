//! The CIB on disk.
//!
//! The folder looks as Pacemaker's does: `cib.xml` without status, beside it `cib.xml.sig` with its
//! digest, and the versions before as `cib-N.raw`, each with its own digest. So tools that read such
//! a folder read this one, and the other way round.

mod store;

pub use store::{KEPT, Kept, Rule, Store, StoreError, peek};
