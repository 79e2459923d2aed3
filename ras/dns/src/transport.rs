//! One TCP connection to a name server: framed exchanges with a deadline, signed where a key is.
//!
//! What matters here is the difference between *was not sent* and *was sent, and the answer was
//! lost*: only the first lets a caller say that nothing was written.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::tsig::TsigError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::error::{DnsError, TsigFault};
use crate::key::Key;
use crate::limits::EXCHANGE_TIMEOUT;

/// Seconds since 1970, for TSIG only.
pub(crate) fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How an exchange failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The connection broke or the time ran out after sending began.
    Lost,
    /// A refusal or an unusable answer.
    Answer(DnsError),
}

pub(crate) struct Stream {
    server: SocketAddr,
    tcp: TcpStream,
    key: Option<Key>,
}

impl Stream {
    pub(crate) async fn open(
        server: SocketAddr,
        key: Option<Key>,
        deadline: Instant,
    ) -> Result<Self, DnsError> {
        let unreachable = |why: String| DnsError::Unreachable { server, why };
        let by = deadline.min(Instant::now() + EXCHANGE_TIMEOUT);
        let tcp = timeout_at(by, TcpStream::connect(server))
            .await
            .map_err(|_| unreachable("no connection in time".into()))?
            .map_err(|error| unreachable(error.to_string()))?;
        // One small request per round trip: waiting for more to send only costs time.
        tcp.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        Ok(Self { server, tcp, key })
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn exchange(
        &mut self,
        mut request: Message,
        deadline: Instant,
    ) -> Result<Message, Failed> {
        let invalid = |what: String| Failed::Answer(DnsError::Invalid { what });
        if let Some(key) = &self.key {
            request
                .finalize(key.signer(), unix_secs())
                .map_err(|error| invalid(format!("the request cannot be signed ({error})")))?;
        }
        let bytes = request
            .to_vec()
            .map_err(|error| invalid(format!("the request cannot be encoded ({error})")))?;
        let length = u16::try_from(bytes.len())
            .map_err(|_| invalid("the request is longer than a DNS message".into()))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);

        let by = deadline.min(Instant::now() + EXCHANGE_TIMEOUT);
        let Ok(Ok(answer)) = timeout_at(by, self.send_and_read(&framed)).await else {
            return Err(Failed::Lost);
        };
        self.check(&request, &answer).map_err(Failed::Answer)
    }

    async fn send_and_read(&mut self, framed: &[u8]) -> std::io::Result<Vec<u8>> {
        self.tcp.write_all(framed).await?;
        let length = self.tcp.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        self.tcp.read_exact(&mut answer).await?;
        Ok(answer)
    }

    fn check(&self, request: &Message, bytes: &[u8]) -> Result<Message, DnsError> {
        let server = self.server;
        let bad = |why: &str| DnsError::BadAnswer { server, why: why.into() };
        let answer = Message::from_vec(bytes).map_err(|_| bad("not a DNS message"))?;
        if answer.id != request.id
            || answer.message_type != MessageType::Response
            || answer.op_code != request.op_code
        {
            return Err(bad("an answer to another request"));
        }
        if let (Some(key), Some(sent)) = (&self.key, request.signature()) {
            check_signature(server, key, &sent.data.mac, &answer, bytes)?;
        }
        Ok(answer)
    }
}

/// RFC 8945 section 5.3: the answer is bound to the request through the request's MAC.
fn check_signature(
    server: SocketAddr,
    key: &Key,
    request_mac: &[u8],
    answer: &Message,
    bytes: &[u8],
) -> Result<(), DnsError> {
    let unsigned = |why: &str| DnsError::AnswerUnsigned { server, why: why.into() };
    let tsig = &answer.signature().ok_or_else(|| unsigned("no signature"))?.data;
    // BADKEY and BADSIG come unsigned by definition; either way the caller gets an error.
    let fault = match tsig.error {
        None => None,
        Some(TsigError::BadKey) => Some(TsigFault::UnknownKey),
        Some(TsigError::BadSig) => Some(TsigFault::WrongSecret),
        Some(TsigError::BadTime) => Some(TsigFault::ClockOutOfFudge),
        Some(_) => Some(TsigFault::Other),
    };
    if let Some(fault) = fault {
        return Err(DnsError::Signature { server, fault });
    }
    // The library subtracts the fudge from the time: guard it against a hostile pair.
    if tsig.time < u64::from(tsig.fudge) {
        return Err(unsigned("its time is impossible"));
    }
    let (_, _, window) = key
        .signer()
        .verify_message_byte(bytes, Some(request_mac), true)
        .map_err(|_| unsigned("wrong signature"))?;
    let now = unix_secs();
    if window.contains(&now) || window.end == now {
        Ok(())
    } else {
        Err(unsigned("signed at another time"))
    }
}
