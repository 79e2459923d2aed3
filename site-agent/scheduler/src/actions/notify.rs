//! Notifications of clones: not made yet, so clones that ask for them are refused.

use crate::Error;
use crate::arena::{ActIx, RscIx};
use crate::cluster::Cluster;
use crate::model::Kind;

impl Cluster<'_> {
    /// Refuses what would need notifications.
    pub(crate) fn check_notifications(&self) -> Result<(), Error> {
        for r in self.rscs.iter() {
            if r.kind == Kind::Clone && r.notify {
                return Err(Error::Unsupported { what: "clone notifications", place: format!("clone id={}", r.id) });
            }
        }
        Ok(())
    }

    pub(super) fn create_clone_notifications(&mut self, _clone: RscIx) {}

    pub(super) fn notify_of_fenced_stop(&mut self, _rsc: RscIx, _stop: ActIx, _fence: ActIx) {}
}
