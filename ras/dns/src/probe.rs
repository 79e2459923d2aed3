//! One question to one name server, as a client of the service would ask it.
//!
//! Probes decide whether a drill passed, so an answer must really come from the server asked:
//! the socket is connected (the kernel drops other senders), the id is random, the case of the
//! name's letters is random and must come back as sent (draft-vixie-dnsext-dns0x20), and the
//! question must be repeated. What does not match is skipped, up to a bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::error::DnsError;
use crate::limits::{MAX_FORGED_ANSWERS, MAX_UDP_ANSWER, UDP_BUFFER};
use crate::transport::{Failed, Stream};

/// An answer that passed the checks.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The response code; [`ResponseCode::NXDomain`] is an answer, not an error.
    pub code: ResponseCode,
    /// Whether the server claims authority for the name (AA).
    pub authoritative: bool,
    /// Records of the answer section.
    pub records: Vec<Record>,
    /// Whether the answer had to be fetched over TCP.
    pub over_tcp: bool,
    /// Time from the question to the answer.
    pub took: Duration,
}

impl Answer {
    /// The addresses in the answer, in the order given.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |record: &Record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        self.records.iter().filter_map(address).collect()
    }

    /// The texts in the answer; strings of one record are joined.
    pub fn texts(&self) -> Vec<String> {
        let text = |record: &Record| match &record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        };
        self.records.iter().filter_map(text).collect()
    }
}

/// Asks `server` once for `name`; over UDP, and over TCP when the answer was cut.
pub async fn query(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    deadline: Instant,
) -> Result<Answer, DnsError> {
    let started = Instant::now();
    let mut asked = name.clone();
    asked.set_fqdn(true);
    asked.randomize_label_case();
    let mut request = Message::query();
    request.add_query(Query::query(asked, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP_ANSWER);
    request.set_edns(edns);

    let mut answer = ask_udp(server, &request, deadline).await?;
    let over_tcp = answer.truncation;
    if over_tcp {
        answer = ask_tcp(server, &request, deadline).await?;
    }
    Ok(Answer {
        code: answer.response_code,
        authoritative: answer.authoritative,
        records: answer.answers,
        over_tcp,
        took: started.elapsed(),
    })
}

async fn ask_udp(
    server: SocketAddr,
    request: &Message,
    deadline: Instant,
) -> Result<Message, DnsError> {
    let unreachable =
        |error: std::io::Error| DnsError::Unreachable { server, why: error.to_string() };
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    let bytes = request.to_vec().map_err(|error| DnsError::Invalid {
        what: format!("the question cannot be encoded ({error})"),
    })?;
    socket.send(&bytes).await.map_err(unreachable)?;
    let mut buffer = vec![0; UDP_BUFFER];
    for _ in 0..MAX_FORGED_ANSWERS {
        let received = timeout_at(deadline, socket.recv(&mut buffer))
            .await
            .map_err(|_| DnsError::NoAnswer { server })?
            .map_err(unreachable)?;
        if let Ok(answer) = Message::from_vec(&buffer[..received])
            && answers(&answer, request)
        {
            return Ok(answer);
        }
    }
    Err(DnsError::BadAnswer { server, why: "a flood of answers to other questions".into() })
}

async fn ask_tcp(
    server: SocketAddr,
    request: &Message,
    deadline: Instant,
) -> Result<Message, DnsError> {
    let mut stream = Stream::open(server, None, deadline).await?;
    let answer = match stream.exchange(request.clone(), deadline).await {
        Ok(answer) => answer,
        Err(Failed::Lost) => return Err(DnsError::NoAnswer { server }),
        Err(Failed::Answer(error)) => return Err(error),
    };
    if answers(&answer, request) {
        Ok(answer)
    } else {
        Err(DnsError::BadAnswer { server, why: "an answer to another question".into() })
    }
}

fn answers(answer: &Message, request: &Message) -> bool {
    let same_question = match (answer.queries.as_slice(), request.queries.as_slice()) {
        ([theirs], [ours]) => {
            theirs.name().eq_case(ours.name())
                && theirs.query_type() == ours.query_type()
                && theirs.query_class() == ours.query_class()
        }
        _ => false,
    };
    same_question
        && answer.id == request.id
        && answer.op_code == request.op_code
        && answer.message_type == MessageType::Response
}
