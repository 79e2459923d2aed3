//! A cluster that was read once and is planned again whenever a ticket changes.
//!
//! Reading a CIB is most of a pass: its text, its resources, the history of each on each node. Nothing of that depends on tickets, which
//! are the first thing that constraints ask for. So what was read is kept, and a change of a ticket begins there. The plan is the same,
//! byte for byte, as of the CIB with that ticket changed.
//!
//! What was read holds for one moment: it is read anew when the CIB changes, and when [`Plan::look_again`] says so.

use std::borrow::Cow;

use tierce_cib::time::Moment;
use tierce_cib::xml::Document;

use crate::Error;
use crate::cluster::Cluster;
use crate::model::Ticket;
use crate::plan::{Plan, decide, make_ready};
use crate::unpack;

/// See the module.
pub struct Prepared<'a> {
    cluster: Cluster<'a>,
}

impl<'a> Prepared<'a> {
    /// Reads a CIB at a moment. What the configuration only implies is written into the document.
    pub fn read(doc: &'a mut Document, now: Moment) -> Result<Self, Error> {
        make_ready(doc)?;
        Ok(Self { cluster: unpack::unpack(doc, now)? })
    }

    /// Changes a ticket: whether this site has it, and whether it is put aside.
    pub fn set_ticket(&mut self, name: &str, granted: bool, standby: bool) {
        self.cluster.tickets.insert(Cow::Owned(name.to_owned()), Ticket { granted, standby });
    }

    /// The plan for the tickets as they are now.
    pub fn plan(&self) -> Result<Plan<'a>, Error> {
        decide(self.cluster.clone())
    }
}
