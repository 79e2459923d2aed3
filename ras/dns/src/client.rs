//! The fenced update: read the fence, decide, compare-and-set, read back when in doubt.
//!
//! ```text
//! read fence ──► newer term?  ──► Superseded / TermTaken
//!      ▲          ours? ────────► Applied (the answer of an earlier attempt was lost)
//!      │          older, absent
//!      │               │ one message: "fence is still exactly this" + new fence + new addresses
//!      │               ▼
//!      ├── race lost (NXRRSET, YXRRSET)       NOERROR ──► Applied
//!      └── answer lost
//! ```
//! All attempts of one [`FencedUpdate::apply`] carry one nonce, so a message that was delayed on
//! the way and lands late is our own success and nothing else. A message delayed for longer than
//! that finds another fence and is refused by the server: exact fence values never come back.
//! (The first creation is guarded by "does not exist", which would come back if somebody deleted
//! the fence by hand. Nothing in this crate deletes one.)

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::time::Instant;

use crate::error::DnsError;
use crate::fence::{Decision, FenceRecord, Nonce, SiteName, Term, decide, fence_name};
use crate::key::Key;
use crate::limits::{MAX_ADDRESSES, UPDATE_ATTEMPTS};
use crate::transport::{Failed, Stream};
use crate::zone::canonical;

/// One site's claim on a name: fence and addresses, written together or not at all.
#[derive(Debug, Clone)]
pub struct FencedUpdate {
    /// The zone's primary.
    pub server: SocketAddr,
    /// The zone, for example `example.org.`
    pub zone: Name,
    /// The service's name within the zone.
    pub name: Name,
    /// Addresses of the service at this site; at least one, a name is never emptied.
    pub addrs: Vec<IpAddr>,
    /// Time to live of the written records, seconds.
    pub ttl: u32,
    /// Term of the grant.
    pub term: Term,
    /// This site.
    pub site: SiteName,
    /// Mark of this update; see [`Nonce::random`].
    pub nonce: Nonce,
    /// Key that signs requests and proves answers.
    pub tsig: Option<Key>,
}

/// The update is in place at the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The fence that was replaced; none at the first creation, or when the answer was lost and
    /// the record was found in place.
    pub prior: Option<FenceRecord>,
    /// Attempts needed.
    pub attempts: u8,
    /// The success was seen by reading the fence back, not from the server's answer.
    pub read_back: bool,
    /// Time from start to success.
    pub took: Duration,
}

/// What one attempt came to.
enum Step {
    Written(Option<FenceRecord>),
    FoundInPlace,
    RaceLost,
    AnswerLost,
    ReadLost,
}

/// Checked and canonical names, and the fence to write.
struct Plan {
    zone: Name,
    name: Name,
    fence_name: Name,
    fence: FenceRecord,
}

/// The fence as found: its exact value (for the prerequisite) and its meaning.
struct FoundFence {
    data: RData,
    record: FenceRecord,
}

impl Nonce {
    /// A fresh random nonce.
    pub fn random() -> Result<Self, DnsError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DnsError::Invalid {
            what: "the system gives no random numbers for a nonce".into(),
        })?;
        Ok(Self(bytes))
    }
}

impl FencedUpdate {
    /// Brings the update in place before `deadline`, or says why not.
    ///
    /// Repeating a call after [`DnsError::Ambiguous`] is safe with the same or another nonce.
    pub async fn apply(&self, deadline: Instant) -> Result<Applied, DnsError> {
        let plan = self.plan()?;
        let started = Instant::now();
        let mut in_doubt = false;
        for attempts in 1..=UPDATE_ATTEMPTS {
            let applied = |prior, read_back| {
                Ok(Applied { prior, attempts, read_back, took: started.elapsed() })
            };
            let step = self.attempt(&plan, deadline).await;
            tracing::debug!(name = %plan.name, term = %self.term, attempts, in_doubt, "dns update");
            match step {
                Ok(Step::Written(prior)) => return applied(prior, false),
                Ok(Step::FoundInPlace) => return applied(None, true),
                Ok(Step::RaceLost) => {}
                Ok(Step::AnswerLost) => in_doubt = true,
                Ok(Step::ReadLost) if Instant::now() < deadline => {}
                // A server that vanished with our message in hand has not answered it.
                Ok(Step::ReadLost) | Err(DnsError::Unreachable { .. }) if in_doubt => break,
                Ok(Step::ReadLost) => return Err(DnsError::NoAnswer { server: self.server }),
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        let server = self.server;
        match in_doubt {
            true => Err(DnsError::Ambiguous { server }),
            false if Instant::now() >= deadline => Err(DnsError::NoAnswer { server }),
            false => Err(DnsError::Contended { attempts: UPDATE_ATTEMPTS }),
        }
    }

    fn plan(&self) -> Result<Plan, DnsError> {
        let invalid = |what: String| Err(DnsError::Invalid { what });
        let (zone, name) = (canonical(&self.zone), canonical(&self.name));
        if self.addrs.is_empty() {
            return invalid(format!("no address for {name}; a name is never emptied"));
        }
        if self.addrs.len() > MAX_ADDRESSES {
            return invalid(format!("more than {MAX_ADDRESSES} addresses for {name}"));
        }
        if !zone.zone_of(&name) || zone == name {
            return invalid(format!("{name} is not a name within {zone}"));
        }
        let fence = FenceRecord { term: self.term, site: self.site.clone(), nonce: self.nonce };
        Ok(Plan { fence_name: fence_name(&name)?, zone, name, fence })
    }

    async fn attempt(&self, plan: &Plan, deadline: Instant) -> Result<Step, DnsError> {
        let mut stream = Stream::open(self.server, self.tsig.clone(), deadline).await?;
        let found = match self.read_fence(&mut stream, plan, deadline).await {
            Ok(found) => found,
            Err(Failed::Lost) => return Ok(Step::ReadLost),
            Err(Failed::Answer(error)) => return Err(error),
        };
        if let Some(FoundFence { record, .. }) = &found {
            let (term, site) = (record.term, record.site.clone());
            match decide(Some(record), &plan.fence) {
                Decision::Write => {}
                Decision::AlreadyMine => return Ok(Step::FoundInPlace),
                Decision::Superseded => return Err(DnsError::Superseded { term, site }),
                Decision::TermTaken => return Err(DnsError::TermTaken { term, site }),
            }
        }
        let request = self.update_message(plan, found.as_ref());
        match stream.exchange(request, deadline).await {
            Ok(answer) => match answer.response_code {
                ResponseCode::NoError => Ok(Step::Written(found.map(|fence| fence.record))),
                ResponseCode::NXRRSet | ResponseCode::YXRRSet => Ok(Step::RaceLost),
                code => Err(DnsError::Refused { server: self.server, code }),
            },
            // An answer that makes no sense says as little about the update as none.
            Err(Failed::Lost | Failed::Answer(DnsError::BadAnswer { .. })) => Ok(Step::AnswerLost),
            Err(Failed::Answer(error)) => Err(error),
        }
    }

    async fn read_fence(
        &self,
        stream: &mut Stream,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<Option<FoundFence>, Failed> {
        let mut request = Message::query();
        request.add_query(Query::query(plan.fence_name.clone(), RecordType::TXT));
        let answer = stream.exchange(request, deadline).await?;
        self.fence_in(plan, &answer).map_err(Failed::Answer)
    }

    fn fence_in(&self, plan: &Plan, answer: &Message) -> Result<Option<FoundFence>, DnsError> {
        let server = self.server;
        match answer.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(DnsError::Refused { server, code }),
        }
        if !answer.authoritative {
            // A cache may say "absent" long after the fence was written.
            let why = "not from the zone's authority".into();
            return Err(DnsError::BadAnswer { server, why });
        }
        let ours = |record: &&Record| {
            record.name == plan.fence_name && record.record_type() == RecordType::TXT
        };
        let mut records = answer.answers.iter().filter(ours);
        let Some(first) = records.next() else { return Ok(None) };
        let unreadable =
            |why: String| DnsError::FenceUnreadable { name: plan.fence_name.to_string(), why };
        if records.next().is_some() {
            return Err(unreadable("more than one record".into()));
        }
        let RData::TXT(txt) = &first.data else { return Err(unreadable("empty".into())) };
        let [text] = &*txt.txt_data else { return Err(unreadable("several strings".into())) };
        let text = std::str::from_utf8(text).map_err(|_| unreadable("not text".into()))?;
        let record = text.parse().map_err(|why| unreadable(format!("{why}: {text:?}")))?;
        Ok(Some(FoundFence { data: first.data.clone(), record }))
    }

    /// One message: the fence is still exactly what was read, then the new fence and addresses.
    fn update_message(&self, plan: &Plan, found: Option<&FoundFence>) -> Message {
        let mut message = Message::new(Message::query().id, MessageType::Query, OpCode::Update);
        message.add_query(Query::query(plan.zone.clone(), RecordType::SOA));

        let prerequisite = match found {
            // RFC 2136 section 2.4.2, RRset exists (value dependent).
            Some(fence) => Record::from_rdata(plan.fence_name.clone(), 0, fence.data.clone()),
            // Section 2.4.3, RRset does not exist.
            None => bare(&plan.fence_name, RecordType::TXT, DNSClass::NONE),
        };
        message.add_answer(prerequisite);

        // Section 2.5.2, delete an RRset; section 2.5.1, add to an RRset.
        message.add_authority(bare(&plan.fence_name, RecordType::TXT, DNSClass::ANY));
        let text = RData::TXT(TXT::new(vec![plan.fence.to_string()]));
        message.add_authority(Record::from_rdata(plan.fence_name.clone(), self.ttl, text));
        message.add_authority(bare(&plan.name, RecordType::A, DNSClass::ANY));
        message.add_authority(bare(&plan.name, RecordType::AAAA, DNSClass::ANY));
        for addr in &self.addrs {
            let data = match addr {
                IpAddr::V4(v4) => RData::A(A(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
            };
            message.add_authority(Record::from_rdata(plan.name.clone(), self.ttl, data));
        }
        message
    }
}

/// A record without data, as RFC 2136 uses it for "this set" in prerequisites and deletions.
fn bare(name: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}
