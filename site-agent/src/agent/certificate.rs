//! The member's certificate: renewed with a third of its life left, and an alarm when that fails.

use std::time::{Duration, SystemTime};

use tierce_link::Ca;
use tokio::time::Instant;

use super::Agent;
use super::tickets::tenant;
use crate::view::words::about;

/// How often the certificate is looked at.
const EVERY: Duration = Duration::from_hours(1);

impl Agent {
    /// Looks at the certificate now and then; a renewal runs in a task of its own.
    pub(super) fn look_at_certificate(&mut self) {
        if self.certificate_looked.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.certificate_looked = Some(Instant::now());
        let (shared, config) = (self.shared.clone(), self.shared.config());
        let Ok(tenant) = tenant(&config) else { return };
        let now = SystemTime::now();
        let shown = shared.host.link().tenants();
        let Some(info) = shown.into_iter().find(|c| c.identity.tenant == tenant) else { return };
        if !info.is_expiring(now) {
            return;
        }
        let left = about(info.left(now));
        tokio::spawn(async move {
            let link = shared.host.link();
            let renewed = if let Some(dir) = config.ca.clone() {
                let pki = config.pki_dir();
                let rotated = tokio::task::spawn_blocking(move || {
                    Ca::open(&dir).and_then(|ca| ca.rotate(&pki)).map_err(|e| e.to_string())
                });
                let rotated = rotated.await.unwrap_or_else(|e| Err(e.to_string()));
                rotated.and_then(|_| link.reload_tenant(&tenant).map_err(|e| e.to_string()))
            } else {
                let others = config.members.iter().filter(|m| m.name != config.site);
                let addresses: Vec<String> =
                    others.flat_map(|m| m.addresses.clone()).take(8).collect();
                link.renew_tenant(&tenant, &addresses).await.map_err(|e| e.to_string())
            };
            match renewed {
                Ok(_) => tracing::info!("the certificate was renewed"),
                Err(why) => shared.alarm(format!(
                    "the certificate ends in {left} and was not renewed: {why}; next: tierce pki rotate"
                )),
            }
        });
    }
}
