//! quinn, configured: small windows, no migration, no 0-RTT, one stream each way.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::LinkError;
use crate::limits::{
    CONNECTION_RECEIVE_WINDOW, DATAGRAM_BUFFER_BYTES, INCOMING_BUFFER_BYTES,
    INCOMING_BUFFER_TOTAL_BYTES, MAX_OPEN_HANDSHAKES, SEND_WINDOW, SOCKET_BUFFER_BYTES,
    STREAM_RECEIVE_WINDOW, Settings,
};

/// Transport of the side that dials (which keeps the connection alive) or accepts.
pub(super) fn transport(settings: &Settings, dials: bool) -> Arc<TransportConfig> {
    let mut t = TransportConfig::default();
    t.max_concurrent_uni_streams(VarInt::from_u32(1))
        // One, for joins; a member that opens it is never read and holds one stream window.
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(!dials)))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .initial_rtt(settings.initial_rtt)
        // Beyond what the wire can say there is no idle time at all; settings never come near.
        .max_idle_timeout(IdleTimeout::try_from(settings.idle_timeout).ok())
        // The side that accepts only answers: 2,000 timers fewer on an arbitrator.
        .keep_alive_interval(dials.then_some(settings.keep_alive));
    Arc::new(t)
}

/// The accepting side.
pub(super) fn server(
    tls: rustls::ServerConfig,
    settings: &Settings,
) -> Result<quinn::ServerConfig, LinkError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| LinkError::Tls(e.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(transport(settings, false))
        .migration(false)
        .max_incoming(MAX_OPEN_HANDSHAKES)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
    Ok(config)
}

/// The dialling side.
pub(super) fn client(
    tls: rustls::ClientConfig,
    transport: Arc<TransportConfig>,
) -> Result<quinn::ClientConfig, LinkError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| LinkError::Tls(e.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

/// Opens the one socket. A wildcard IPv6 address takes IPv4 too.
pub(super) fn endpoint(
    addr: SocketAddr,
    server: quinn::ServerConfig,
) -> Result<quinn::Endpoint, LinkError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        // Best effort: the system caps them, and smaller buffers still work.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&addr.into())?;
        let runtime = Arc::new(TokioRuntime);
        quinn::Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), runtime)
    };
    open().map_err(|source| LinkError::Bind { addr, source })
}
