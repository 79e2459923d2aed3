//! A TCP connection under a session: bounded buffers, and a limit on how long a peer may refuse
//! to take data (RFC 9687: a session whose peer reads nothing must not live on its keepalives).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{CONNECT_WAIT, FLUSH_WAIT, MAX_BACKLOG, READ_CHUNK};

pub(crate) struct Link {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: BytesMut,
    stalled_at: Option<Instant>,
    send_hold: Duration,
}

/// What happened on the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many octets are in [`Link::inbox`].
    Received(usize),
    /// The connection ended.
    Closed,
    /// The peer takes nothing.
    Stalled,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, send_hold: Duration) -> Self {
        // An UPDATE is one small segment: it must not wait for more.
        let _ = stream.set_nodelay(true);
        let inbox = vec![0; READ_CHUNK];
        Self { stream, inbox, outbox: BytesMut::new(), stalled_at: None, send_hold }
    }

    pub(crate) async fn connect(
        peer: SocketAddr,
        local: Option<IpAddr>,
        send_hold: Duration,
    ) -> std::io::Result<Self> {
        let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = local {
            socket.bind((local, 0).into())?;
        }
        let stream = timeout(CONNECT_WAIT, socket.connect(peer)).await??;
        Ok(Self::new(stream, send_hold))
    }

    /// Takes octets to send; false means that too many wait already.
    pub(crate) fn queue(&mut self, octets: &Bytes) -> bool {
        self.outbox.extend_from_slice(octets);
        self.stalled_at.get_or_insert_with(|| Instant::now() + self.send_hold);
        self.outbox.len() <= MAX_BACKLOG
    }

    pub(crate) fn inbox(&self, length: usize) -> &[u8] {
        &self.inbox[..length]
    }

    /// Sends what waits until something happens. Nothing is lost when it is dropped half-way.
    pub(crate) async fn turn(&mut self) -> Turn {
        let (mut read, mut write) = self.stream.split();
        loop {
            let stalled = async {
                match self.stalled_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                sent = write.write_buf(&mut self.outbox), if !self.outbox.is_empty() => match sent {
                    Ok(1..) => {
                        let waits = !self.outbox.is_empty();
                        self.stalled_at = waits.then(|| Instant::now() + self.send_hold);
                    }
                    Ok(0) | Err(_) => return Turn::Closed,
                },
                got = read.read(&mut self.inbox) => return match got {
                    Ok(length @ 1..) => Turn::Received(length),
                    Ok(0) | Err(_) => Turn::Closed,
                },
                () = stalled => return Turn::Stalled,
            }
        }
    }

    /// Sends the rest (a NOTIFICATION, mostly) for a short while and closes.
    pub(crate) async fn close(mut self) {
        let rest = async {
            self.stream.write_all(&self.outbox).await?;
            self.stream.shutdown().await
        };
        let _ = timeout(FLUSH_WAIT, rest).await;
    }
}
