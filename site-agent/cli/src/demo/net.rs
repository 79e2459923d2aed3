//! The world around the members, on a thread of its own: lines, name server, route collector.
//!
//! A thread of its own, because a conductor that prints or waits must not delay a datagram.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tierce_bgp::{Asn, Collector, CollectorConfig, CollectorHandle, IpNet};
use tierce_dns::{Authority, Name};
use tokio::sync::{broadcast, oneshot};

use super::lab::{COLLECTOR_AS, PREFIX, SERVICE_NAME, SITES, Trouble, ZONE, trouble};
use super::relay::{MEMBERS, Relay};
use crate::evidence::timeline::{Kind, Timeline};

/// Everything that is reached over loopback and is no member.
pub(super) struct Net {
    pub(super) relay: Relay,
    pub(super) dns: SocketAddr,
    pub(super) collector: CollectorHandle,
    _keep: oneshot::Sender<()>,
}

impl Net {
    /// Starts it; it ends when the value is dropped.
    pub(super) async fn start(members: [SocketAddr; MEMBERS]) -> Result<Self, Trouble> {
        let (ready, started) = oneshot::channel();
        let (keep, ended) = oneshot::channel::<()>();
        let build = std::thread::Builder::new().name("demo-net".to_owned());
        let thread = build.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(e) => return drop(ready.send(Err(trouble("a runtime")(e)))),
            };
            runtime.block_on(async {
                let parts = parts(members).await;
                let whole = parts.map(|(relay, dns, collector)| Self {
                    relay,
                    dns,
                    collector,
                    _keep: keep,
                });
                if ready.send(whole).is_ok() {
                    let _ = ended.await;
                }
            });
        });
        thread.map_err(trouble("a thread"))?;
        started.await.map_err(trouble("the thread of the network"))?
    }
}

async fn parts(
    members: [SocketAddr; MEMBERS],
) -> Result<(Relay, SocketAddr, CollectorHandle), Trouble> {
    let relay = Relay::start(members).await.map_err(trouble("the lines"))?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let zone = Name::from_ascii(ZONE).map_err(trouble("the zone"))?;
    let authority = Authority::bind(any, &zone, &[]).await.map_err(trouble("the name server"))?;
    let dns = authority.local_addr();
    tokio::spawn(authority.serve(std::future::pending()));
    let config = CollectorConfig::loopback(Asn(COLLECTOR_AS), Duration::from_secs(3));
    let collector = Collector::bind(config).await.map_err(trouble("the route collector"))?;
    Ok((relay, dns, collector.spawn()))
}

/// Says on the timeline where the route goes, until it is dropped.
pub(super) async fn watch_routes(
    mut events: broadcast::Receiver<tierce_bgp::RouteEvent>,
    services: [SocketAddr; 2],
    timeline: Timeline,
) {
    let ours: Option<IpNet> = PREFIX.parse().ok();
    loop {
        match events.recv().await {
            Ok(event) if Some(event.prefix) == ours => {
                let text = match event.best {
                    Some(best) => {
                        let site = services.iter().position(|s| s.ip() == best.next_hop);
                        let site = site.map_or("nowhere known", |s| SITES[s]);
                        format!("{PREFIX} goes to {site}, MED {}", best.med.0)
                    }
                    None => format!("{PREFIX} has no route"),
                };
                timeline.say(Kind::Bgp, text);
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The client and the witness, on a thread of their own.
pub(super) fn start_client(
    ways: super::client::Ways,
    shared: super::client::Shared,
    timeline: Timeline,
) -> Result<oneshot::Sender<()>, Trouble> {
    let (keep, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(trouble("a runtime"))?;
    let build = std::thread::Builder::new().name("demo-client".to_owned());
    let thread = build.spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                done = super::client::run(ways, shared, timeline.clone()) => {
                    if let Err(e) = done {
                        let text = format!("{SERVICE_NAME} is written no more: {e}");
                        timeline.say(Kind::Client, text);
                    }
                }
                _ = ended => {}
            }
        });
    });
    thread.map_err(trouble("a thread"))?;
    Ok(keep)
}
