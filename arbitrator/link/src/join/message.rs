//! What travels on a join connection: one request and one answer, postcard, each on its half of one
//! stream. The decoders are total; the reader bounds the bytes.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::string::Secret;
use crate::identity::Identity;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRequest {
    /// A certificate for an invitation.
    Join {
        /// Who the client believes to be.
        identity: Identity,
        /// The invitation's secret.
        secret: Secret,
        /// Signing request, DER.
        csr: Vec<u8>,
    },
    /// A new certificate for the one shown in the handshake.
    Renew {
        /// Signing request, DER.
        csr: Vec<u8>,
    },
    /// The revocation list; a certificate must be shown.
    Crl,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinResponse {
    /// Here is the certificate.
    Granted {
        /// DER.
        cert: Vec<u8>,
        /// The authority's certificate, DER.
        ca: Vec<u8>,
        /// The revocation list, DER.
        crl: Option<Vec<u8>>,
    },
    /// Here is the revocation list, if anything was ever revoked.
    Crl(Option<Vec<u8>>),
    /// No, and why.
    Refused(JoinRefusal),
}

/// Why a join or a renewal was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum JoinRefusal {
    /// No invitation has this secret.
    #[error("no invitation of this authority has this secret; ask for a new join string")]
    UnknownSecret,
    /// The invitation was used before.
    #[error(
        "this join string was used already; if it was not you, revoke that member; \
         ask for a new join string"
    )]
    Used,
    /// The invitation's time is over.
    #[error("this join string has expired; ask for a new one")]
    Expired,
    /// The invitation is for somebody else.
    #[error("this join string invites {invited}; join under that name or ask for another string")]
    WrongName {
        /// Who was invited.
        invited: Box<Identity>,
    },
    /// The request names another tenant.
    #[error("this authority is another tenant's; use an address of your own tenant's members")]
    WrongTenant,
    /// The signing request is not one.
    #[error("the signing request is malformed; update the joining member's software")]
    BadRequest,
    /// The certificate shown is revoked.
    #[error("the certificate is revoked; ask the tenant's operator for a new join string")]
    Revoked,
    /// A renewal without a certificate.
    #[error("a renewal needs the member's present certificate; use a join string instead")]
    NoCertificate,
    /// The authority's folder cannot be used now.
    #[error("the authority cannot sign now; its operator finds the reason in the trace there")]
    Internal,
}

impl JoinRequest {
    /// The bytes that travel.
    pub fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    /// Reads what came; `None` is garbage.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        whole(bytes)
    }
}

impl JoinResponse {
    /// The bytes that travel.
    pub fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    /// Reads what came; `None` is garbage.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        whole(bytes)
    }
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use tierce_tests::fuzz;

    #[test]
    fn messages_survive_the_wire_and_nothing_may_follow_them() {
        let identity = Identity::new("t", Role::Site, "a").unwrap();
        let request = JoinRequest::Join { identity, secret: Secret([1; 32]), csr: vec![1, 2, 3] };
        let mut bytes = request.encode().unwrap();
        assert_eq!(JoinRequest::decode(&bytes), Some(request));
        bytes.push(0);
        assert_eq!(JoinRequest::decode(&bytes), None);
        let response = JoinResponse::Refused(JoinRefusal::Used);
        assert_eq!(JoinResponse::decode(&response.encode().unwrap()), Some(response));
    }

    #[test]
    fn any_bytes_are_a_join_message_or_an_error() {
        let identity = Identity::new("t", Role::Site, "a").unwrap();
        let secret = Secret([1; 32]);
        let invited = Box::new(identity.clone());
        let samples = vec![
            JoinRequest::Join { identity, secret, csr: vec![1, 2, 3] }.encode().unwrap(),
            JoinRequest::Renew { csr: vec![7; 40] }.encode().unwrap(),
            JoinResponse::Granted { cert: vec![1], ca: vec![2], crl: Some(vec![3]) }
                .encode()
                .unwrap(),
            JoinResponse::Refused(JoinRefusal::WrongName { invited }).encode().unwrap(),
        ];
        bolero::check!().for_each(|bytes: &[u8]| {
            for input in fuzz::inputs(&samples, bytes) {
                if let Some(request) = JoinRequest::decode(&input) {
                    assert_eq!(JoinRequest::decode(&request.encode().unwrap()), Some(request));
                }
                if let Some(response) = JoinResponse::decode(&input) {
                    assert_eq!(JoinResponse::decode(&response.encode().unwrap()), Some(response));
                }
            }
        });
    }
}
