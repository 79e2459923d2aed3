//! The service's client and the witness, each with a record every 10 ms.
//!
//! The *client* does what an application does: it asks the name server for the address before
//! every record (so no cache hides the time that a name takes to move), sends the record there,
//! and hears which site answered under which term. Its gaps are the outages.
//!
//! The *witness* does what no client can: it asks both sites directly, always. What it hears shows
//! when the service ran where, and so whether it ever ran twice.
//!
//! Neither waits for an answer before the next question: a dead site does not slow them down.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tierce_dns::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::limits::{MAX_ANSWERS, PERIOD, RESOLVE, SILENT};
use super::service::Answer;
use crate::evidence::clock::{At, ms};
use crate::evidence::judge::Heard;
use crate::evidence::timeline::{Kind, Timeline};

/// Everything heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// By the client.
    pub(super) client: Vec<Heard>,
    /// By the witness.
    pub(super) witness: Vec<Heard>,
    /// Records that the client had to write.
    pub(super) wanted: u64,
    /// Records that it sent: there was an address.
    pub(super) sent: u64,
    /// Answers that were heard and not kept.
    pub(super) beyond: u64,
}

/// The book; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client's last answer.
    pub(super) fn last(&self) -> Option<Heard> {
        self.book().client.last().copied()
    }
}

/// What both need to know.
#[derive(Clone)]
pub(super) struct Ways {
    /// The sites' names.
    pub(super) sites: [String; 2],
    /// Where each serves.
    pub(super) services: [SocketAddr; 2],
    /// The name server.
    pub(super) dns: SocketAddr,
    /// The service's name.
    pub(super) name: String,
    /// Where the client logs its records.
    pub(super) log: std::path::PathBuf,
}

impl Ways {
    fn heard(&self, bytes: &[u8]) -> Option<Heard> {
        let got = At::now();
        let a = Answer::read(bytes)?;
        let site = self.sites.iter().position(|s| *s == a.site)?;
        Some(Heard { n: a.n, site, term: a.term, began: a.began, at: a.at, got })
    }
}

/// Runs client and witness until it is dropped.
pub(super) async fn run(ways: Ways, shared: Shared, timeline: Timeline) -> std::io::Result<()> {
    let client = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    let witness = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    let log = std::fs::File::create(&ways.log)?;
    tokio::try_join!(
        write(&client, &ways, &shared, &timeline),
        hear_client(&client, &ways, &shared, &timeline, log),
        ask_both(&witness, &ways, &shared, &timeline),
        hear_witness(&witness, &ways, &shared, &timeline),
    )?;
    Ok(())
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(PERIOD);
    // A late tick is not made up for: a burst would look like a service that ran all the time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn write(
    socket: &UdpSocket,
    ways: &Ways,
    shared: &Shared,
    timeline: &Timeline,
) -> std::io::Result<()> {
    let name = Name::from_ascii(&ways.name).map_err(std::io::Error::other)?;
    let mut ticks = ticks();
    let mut address: Option<IpAddr> = None;
    for n in 1.. {
        ticks.tick().await;
        shared.book().wanted = n;
        let asked = tierce_dns::query(ways.dns, &name, RecordType::A, Instant::now() + RESOLVE);
        let found = asked.await.ok().and_then(|answer| answer.addresses().first().copied());
        let Some(to) = found else { continue };
        let Some(site) = ways.services.iter().position(|s| s.ip() == to) else { continue };
        if address.replace(to) != Some(to) {
            let text = format!("{} is {to} ({})", ways.name, ways.sites[site]);
            timeline.say(Kind::Dns, text);
        }
        if socket.send_to(format!("put {n}").as_bytes(), ways.services[site]).await.is_ok() {
            shared.book().sent += 1;
        }
    }
    Ok(())
}

async fn hear_client(
    socket: &UdpSocket,
    ways: &Ways,
    shared: &Shared,
    timeline: &Timeline,
    log: std::fs::File,
) -> std::io::Result<()> {
    let mut log = std::io::BufWriter::new(log);
    let mut buffer = [0; 512];
    let mut last: Option<Heard> = None;
    loop {
        // An error is the echo of a record to a site where nothing listens.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(heard) = ways.heard(&buffer[..length]) else { continue };
        let site = &ways.sites[heard.site];
        writeln!(log, "{:.3} {} {site} {}", timeline.at(heard.got), heard.n, heard.term)?;
        let gap = last.map(|l| heard.got.since(l.got));
        let moved = last.is_none_or(|l| (l.site, l.term) != (heard.site, heard.term));
        if moved || gap.is_some_and(|g| g >= SILENT) {
            let gap = gap.map_or(String::new(), |g| format!(" after {:.0} ms without", ms(g)));
            let text = format!("record {} answered by {site}, term {}{gap}", heard.n, heard.term);
            timeline.say(Kind::Client, text);
        }
        last = Some(heard);
        keep(&mut shared.book(), heard, |book| &mut book.client);
    }
}

fn keep(book: &mut Book, heard: Heard, to: fn(&mut Book) -> &mut Vec<Heard>) {
    if to(book).len() < MAX_ANSWERS {
        to(book).push(heard);
    } else {
        book.beyond += 1;
    }
}

/// Asks both sites, and says when one that served has become silent.
async fn ask_both(
    socket: &UdpSocket,
    ways: &Ways,
    shared: &Shared,
    timeline: &Timeline,
) -> std::io::Result<()> {
    let mut ticks = ticks();
    let mut serving: [Option<Heard>; 2] = [None; 2];
    let mut read = 0;
    for n in 1_u64.. {
        ticks.tick().await;
        for to in ways.services {
            let _ = socket.send_to(format!("put {n}").as_bytes(), to).await; // refused: it is down
        }
        let fresh = {
            let book = shared.book();
            let fresh = book.witness.get(read..).map(<[Heard]>::to_vec).unwrap_or_default();
            read = book.witness.len();
            fresh
        };
        for heard in fresh {
            serving[heard.site] = Some(heard);
        }
        for (site, place) in serving.iter_mut().enumerate() {
            if let Some(last) = place
                && At::now().since(last.got) >= SILENT
            {
                let (name, at) = (&ways.sites[site], timeline.at(last.at) / 1e3);
                let text = format!("{name} serves no more; its last answer was at {at:.3} s");
                timeline.say(Kind::Service, text);
                *place = None;
            }
        }
    }
    Ok(())
}

async fn hear_witness(
    socket: &UdpSocket,
    ways: &Ways,
    shared: &Shared,
    timeline: &Timeline,
) -> std::io::Result<()> {
    let mut buffer = [0; 512];
    let mut began: [At; 2] = [At::default(); 2];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(heard) = ways.heard(&buffer[..length]) else { continue };
        if began[heard.site] != heard.began {
            began[heard.site] = heard.began;
            let text = format!("{} serves under term {}", ways.sites[heard.site], heard.term);
            timeline.say(Kind::Service, text);
        }
        keep(&mut shared.book(), heard, |book| &mut book.witness);
    }
}
