//! From a request's bytes to an answer's bytes: the authority without its sockets.
//!
//! Everything here is a function of the bytes, the clock reading passed in and the zone, so that
//! a test can throw millions of hostile packets at it without a socket. The zone is behind one
//! lock, taken once per request; an update holds it from its first check to its last change.

use std::sync::{Mutex, PoisonError};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Record, RecordType, TSigResponseContext};

use crate::key::Key;
use crate::limits::{MAX_MESSAGE, MAX_UDP_ANSWER, PLAIN_UDP_ANSWER};
use crate::zone::{Found, Zone, canonical};

/// How a request came in; it decides how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram: long answers are cut and marked (TC).
    Udp,
    /// A stream: answers up to 65,535 octets.
    Tcp,
}

/// What a request was, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A question, answered or refused.
    Query,
    /// An update that was carried out.
    Updated,
    /// An update that was refused.
    UpdateRefused,
    /// Anything else that got an error for an answer.
    Malformed,
    /// Not worth an answer: too short, or itself an answer.
    Dropped,
}

/// The authority's state.
#[derive(Debug)]
pub struct Server {
    zone: Mutex<Zone>,
    key: Option<Key>,
}

/// A reply on its way, with what signs it.
struct Reply {
    message: Message,
    kind: Kind,
    signer: Option<TSigResponseContext>,
}

impl Server {
    /// A server for one zone. With a key, updates must be signed with it.
    pub fn new(zone: Zone, key: Option<Key>) -> Self {
        Self { zone: Mutex::new(zone), key }
    }

    /// Runs `f` on the zone under its lock.
    pub fn with_zone<T>(&self, f: impl FnOnce(&mut Zone) -> T) -> T {
        // A panic inside `f` would leave a whole zone behind (update decides before it changes),
        // so a poisoned lock is still good.
        f(&mut self.zone.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers one request. `unix_secs` is the wall clock, which TSIG compares.
    pub fn respond(
        &self,
        request: &[u8],
        transport: Transport,
        unix_secs: u64,
    ) -> (Kind, Option<Vec<u8>>) {
        let Some(header) = request.get(..12) else { return (Kind::Dropped, None) };
        if header[2] & 0x80 != 0 {
            return (Kind::Dropped, None); // An answer: replying could start a loop.
        }
        let id = u16::from_be_bytes([header[0], header[1]]);
        let opcode = OpCode::from_u8((header[2] >> 3) & 0x0f);
        let Ok(message) = Message::from_vec(request) else {
            let error = Message::error_msg(id, opcode, ResponseCode::FormErr);
            return (Kind::Malformed, error.to_vec().ok());
        };
        let mut reply = self.reply(request, &message, unix_secs);
        let limit = match transport {
            Transport::Tcp => MAX_MESSAGE,
            Transport::Udp => usize::from(message.edns.as_ref().map_or(PLAIN_UDP_ANSWER, |edns| {
                edns.max_payload().clamp(PLAIN_UDP_ANSWER, MAX_UDP_ANSWER)
            })),
        };
        let kind = reply.kind;
        let mut bytes = reply.message.to_vec().ok();
        if bytes.as_ref().is_none_or(|bytes| bytes.len() > limit) {
            reply.message = reply.message.truncate();
            bytes = reply.message.to_vec().ok();
        }
        if let (Some(signer), Some(unsigned)) = (reply.signer, &bytes) {
            bytes = signer.sign(unsigned).ok().and_then(|signature| {
                reply.message.set_signature(signature);
                reply.message.to_vec().ok()
            });
        }
        (kind, bytes)
    }

    fn reply(&self, bytes: &[u8], request: &Message, unix_secs: u64) -> Reply {
        let mut message = Message::response(request.id, request.op_code);
        message.metadata.recursion_desired = request.recursion_desired;
        message.add_queries(request.queries.iter().cloned());
        if let Some(edns) = &request.edns {
            let mut ours = Edns::new();
            ours.set_max_payload(MAX_UDP_ANSWER);
            message.set_edns(ours);
            if edns.version() > 0 {
                message.metadata.response_code = ResponseCode::BADVERS;
                return Reply { message, kind: Kind::Malformed, signer: None };
            }
        }
        let (signed, signer) = match self.check_signature(bytes, request, unix_secs) {
            Ok(Some(signer)) => (true, Some(signer)),
            Ok(None) => (false, None),
            Err(signer) => {
                message.metadata.response_code = ResponseCode::NotAuth;
                return Reply { message, kind: Kind::Malformed, signer };
            }
        };
        let kind = match request.op_code {
            OpCode::Query => self.answer(request, &mut message),
            OpCode::Update => {
                let code = self.update(request, signed).err();
                message.metadata.response_code = code.unwrap_or(ResponseCode::NoError);
                if code.is_none() { Kind::Updated } else { Kind::UpdateRefused }
            }
            _ => {
                message.metadata.response_code = ResponseCode::NotImp;
                Kind::Malformed
            }
        };
        debug_assert_eq!(message.message_type, MessageType::Response);
        Reply { message, kind, signer }
    }

    fn answer(&self, request: &Message, message: &mut Message) -> Kind {
        let [question] = request.queries.as_slice() else {
            message.metadata.response_code = ResponseCode::FormErr;
            return Kind::Malformed;
        };
        let (class, kind) = (question.query_class(), question.query_type());
        let found = self.with_zone(|zone| zone.find(question.name(), class, kind));
        message.metadata.authoritative = !matches!(found, Found::Not(_));
        match found {
            Found::Records(records) => {
                // The owner is echoed as asked, case included, as resolvers with 0x20 expect.
                let echo = |mut record: Record| {
                    record.name = question.name().clone();
                    record
                };
                message.add_answers(records.into_iter().map(echo));
            }
            Found::NoData(soa) => {
                message.add_authority(*soa);
            }
            Found::NoName(soa) => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.add_authority(*soa);
            }
            Found::Not(code) => message.metadata.response_code = code,
        }
        Kind::Query
    }

    /// RFC 2136 section 3.1 and 3.3, then the zone's own atomic step.
    fn update(&self, request: &Message, signed: bool) -> Result<(), ResponseCode> {
        let [zone_section] = request.queries.as_slice() else { return Err(ResponseCode::FormErr) };
        if zone_section.query_type() != RecordType::SOA {
            return Err(ResponseCode::FormErr);
        }
        let named = canonical(zone_section.name());
        self.with_zone(|zone| {
            if zone_section.query_class() != DNSClass::IN || named != *zone.origin() {
                return Err(ResponseCode::NotAuth);
            }
            if self.key.is_some() && !signed {
                return Err(ResponseCode::Refused);
            }
            zone.update(&request.answers, &request.authorities)
        })
    }

    /// RFC 8945 section 5.2: key, then MAC, then time. `Ok(None)` is an unsigned request;
    /// `Err` is a bad signature, with what goes into the refusal.
    fn check_signature(
        &self,
        bytes: &[u8],
        request: &Message,
        now: u64,
    ) -> Result<Option<TSigResponseContext>, Option<TSigResponseContext>> {
        let Some(record) = request.signature() else { return Ok(None) };
        let tsig = &record.data;
        let id = request.id;
        let known = self.key.as_ref().map(Key::signer).filter(|signer| {
            canonical(&record.name) == *signer.signer_name()
                && tsig.algorithm == *signer.algorithm()
        });
        let Some(signer) = known.cloned() else {
            return Err(Some(TSigResponseContext::unknown_key(id, now, record.name.clone())));
        };
        // The library subtracts the fudge from the time: guard it against a hostile pair.
        if tsig.time < u64::from(tsig.fudge) {
            return Err(Some(TSigResponseContext::bad_signature(id, now, signer)));
        }
        let Ok((mac, _, window)) = signer.verify_message_byte(bytes, None, true) else {
            return Err(Some(TSigResponseContext::bad_signature(id, now, signer)));
        };
        if !window.contains(&now) && window.end != now {
            let error = Some(TsigError::BadTime);
            return Err(Some(TSigResponseContext::new(id, now, signer, mac, error)));
        }
        Ok(Some(TSigResponseContext::new(id, now, signer, mac, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    const NOW: u64 = 1_800_000_000;

    fn server(key: Option<Key>) -> Server {
        Server::new(Zone::new(&Name::from_ascii("demo.test.").unwrap(), &[]).unwrap(), key)
    }

    fn key(secret: u8) -> Key {
        Key::new("site-a.", &[secret; 32]).unwrap()
    }

    fn request(opcode: OpCode, owner: &str, kind: RecordType) -> Message {
        let mut message = Message::new(77, MessageType::Query, opcode);
        message.add_query(Query::query(Name::from_ascii(owner).unwrap(), kind));
        message
    }

    fn code(server: &Server, message: &Message) -> ResponseCode {
        let (_, answer) = server.respond(&message.to_vec().unwrap(), Transport::Udp, NOW);
        Message::from_vec(&answer.unwrap()).unwrap().response_code
    }

    #[test]
    fn what_is_not_supported_is_refused_with_the_right_code() {
        let server = server(None);
        let ask = |opcode, owner, kind| code(&server, &request(opcode, owner, kind));
        assert_eq!(ask(OpCode::Notify, "demo.test.", RecordType::SOA), ResponseCode::NotImp);
        assert_eq!(ask(OpCode::Update, "demo.test.", RecordType::A), ResponseCode::FormErr);
        assert_eq!(ask(OpCode::Update, "example.org.", RecordType::SOA), ResponseCode::NotAuth);
        assert_eq!(ask(OpCode::Update, "demo.test.", RecordType::SOA), ResponseCode::NoError);
        assert_eq!(ask(OpCode::Query, "example.org.", RecordType::A), ResponseCode::Refused);
    }

    #[test]
    fn with_a_key_only_an_update_signed_with_it_and_on_time_is_carried_out() {
        let server = server(Some(key(1)));
        let signed = |by: &Key, at: u64| {
            let mut message = request(OpCode::Update, "demo.test.", RecordType::SOA);
            message.finalize(by.signer(), at).unwrap();
            let (_, answer) = server.respond(&message.to_vec().unwrap(), Transport::Tcp, NOW);
            let answer = Message::from_vec(&answer.unwrap()).unwrap();
            (answer.response_code, answer.signature().and_then(|record| record.data.error))
        };
        let unsigned = request(OpCode::Update, "demo.test.", RecordType::SOA);
        assert_eq!(code(&server, &unsigned), ResponseCode::Refused);
        assert_eq!(signed(&key(1), NOW), (ResponseCode::NoError, None));
        let not_auth = |error| (ResponseCode::NotAuth, Some(error));
        assert_eq!(signed(&key(2), NOW), not_auth(TsigError::BadSig));
        assert_eq!(signed(&key(1), NOW - 301), not_auth(TsigError::BadTime));
        assert_eq!(signed(&key(1), 3), not_auth(TsigError::BadSig));
        let stranger = Key::new("site-x.", &[1; 32]).unwrap();
        assert_eq!(signed(&stranger, NOW), not_auth(TsigError::BadKey));
    }
}
