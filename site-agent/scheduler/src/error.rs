//! What can go wrong before anything is decided.

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no XML.
    #[error("the CIB can not be read: {0}; look at the line that it names")]
    Xml(String),
    /// The root is something else.
    #[error(
        "the root element is <{0}>, not <cib>; give a whole CIB, as `cibadmin --query` prints it"
    )]
    NotACib(String),
    /// Something that this scheduler does not do yet.
    #[error(
        "unsupported: {what} ({place}); take it out of the configuration or keep Pacemaker's own scheduler for this cluster"
    )]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// Which element has it.
        place: String,
    },
    /// Orderings contradict each other without end: a mistake of the scheduler.
    #[error(
        "the orderings around {action} do not come to rest, so there is no plan and nothing is changed; this is a mistake in \
         tierce: report it with this CIB"
    )]
    Unsettled {
        /// One of the actions.
        action: String,
    },
    /// A configuration of an old schema that does not mean the same by a newer one.
    #[error(
        "schema {schema} is older than 3.0, and this configuration means something else by 3.0: {problem}; raise it with \
         cibadmin --upgrade on a cluster of Pacemaker 2.1"
    )]
    TooOld {
        /// The schema that it declares.
        schema: String,
        /// What schema 3.0 says of it.
        problem: String,
    },
    /// Something that can not be understood.
    #[error("{what} ({place}); correct it and try again")]
    Invalid {
        /// What is wrong.
        what: String,
        /// Which element has it.
        place: String,
    },
}
