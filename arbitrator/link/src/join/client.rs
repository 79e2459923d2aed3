//! Joining and renewing, from the member's side. No daemon is needed: a socket is made for the call.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{JOIN_ALPN, JoinRefusal, JoinRequest, JoinResponse, JoinString, check_addresses};
use crate::error::{LinkError, Refusal, refusal_of};
use crate::identity::Tenant;
use crate::limits::{JOIN_TIMEOUT, MAX_JOIN_MESSAGE_BYTES, TenantQuota};
use crate::pki::{CERT_FILE, CertInfo, Fingerprint, MemberDir, PkiError, write_member};
use crate::tls::{self, TenantTls, Trust};

/// Addresses that one name may stand for here.
const MAX_RESOLVED: usize = 4;

/// Why a join or a renewal failed. The member's folder is as it was.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The folder has a certificate already.
    #[error(
        "{} holds a member's certificate already; it was not touched; \
         renew it, or choose another folder", .0.display()
    )]
    Occupied(PathBuf),
    /// Nobody answered.
    #[error(
        "no address answered ({tried}); nothing was changed; check that a member that serves \
         joins is running and that UDP passes, then try again: the string is still good"
    )]
    Unreachable {
        /// Each address and what happened there.
        tried: String,
    },
    /// Whoever answered does not belong to the authority that the string pins.
    #[error(
        "{address} showed a certificate that the tenant's authority did not sign; \
         the secret was not sent; check the address, or ask for a new join string"
    )]
    WrongCa {
        /// Where.
        address: String,
    },
    /// The other side refused the connection.
    #[error("{address} refused: {refusal}")]
    Link {
        /// Where.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// The authority said no.
    #[error("{0}")]
    Refused(JoinRefusal),
    /// The answer makes no sense.
    #[error(
        "{address} gave an answer that does not fit: {what}; nothing was changed; \
         check the versions on both sides"
    )]
    Answer {
        /// Where.
        address: String,
        /// What does not fit.
        what: &'static str,
    },
    /// The addresses cannot be used.
    #[error("addresses refused: {0}; nothing was tried")]
    Addresses(String),
    /// A file or a certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS or the socket.
    #[error(transparent)]
    Local(#[from] LinkError),
}

/// Joins a tenant: makes a key, redeems the string, writes the member's folder.
pub async fn join(invitation: &JoinString, dir: &Path) -> Result<CertInfo, JoinError> {
    if dir.join(CERT_FILE).exists() {
        return Err(JoinError::Occupied(dir.into()));
    }
    let tenant = &invitation.identity.tenant;
    let (key, csr) = new_key()?;
    let request = JoinRequest::Join {
        identity: invitation.identity.clone(),
        secret: invitation.secret.clone(),
        csr,
    };
    let trust = || Trust::Pinned { tenant: tenant.clone(), ca: invitation.ca };
    let (response, address) =
        ask_any(&invitation.addresses, tenant, &trust, None, &request).await?;
    let grant = Grant::read(response, &address)?;
    if Fingerprint::of(&grant.ca) != invitation.ca {
        return Err(JoinError::Answer { address, what: "it names another authority" });
    }
    if grant.info.identity != invitation.identity {
        return Err(JoinError::Answer { address, what: "the certificate is somebody else's" });
    }
    grant.store(dir, &key, &address)
}

/// Renews a member's certificate with a new key, in place. A running daemon takes it up with
/// `Link::reload_tenant`.
pub async fn renew(dir: &Path, addresses: &[String]) -> Result<CertInfo, JoinError> {
    let tls = Arc::new(TenantTls::load(dir, TenantQuota::default())?);
    let (key, csr) = new_key()?;
    let (response, address) = ask_as_member(&tls, addresses, &JoinRequest::Renew { csr }).await?;
    let grant = Grant::read(response, &address)?;
    let member = MemberDir::load(dir)?;
    if grant.ca != *member.ca {
        return Err(JoinError::Answer { address, what: "it names another authority" });
    }
    if grant.info.identity != member.info.identity {
        return Err(JoinError::Answer { address, what: "the certificate is somebody else's" });
    }
    grant.store(dir, &key, &address)
}

/// Fetches the revocation list; gives whether a newer one was written.
pub async fn fetch_crl(dir: &Path, addresses: &[String]) -> Result<bool, JoinError> {
    let tls = Arc::new(TenantTls::load(dir, TenantQuota::default())?);
    let (response, address) = ask_as_member(&tls, addresses, &JoinRequest::Crl).await?;
    match response {
        JoinResponse::Crl(None) => Ok(false),
        JoinResponse::Crl(Some(der)) => {
            Ok(crate::pki::write_crl(dir, &MemberDir::load(dir)?.ca, &der)?)
        }
        JoinResponse::Refused(refusal) => Err(JoinError::Refused(refusal)),
        JoinResponse::Granted { .. } => {
            Err(JoinError::Answer { address, what: "a certificate nobody asked for" })
        }
    }
}

// --- what was granted -----------------------------------------------------------------------

struct Grant {
    cert: Vec<u8>,
    ca: Vec<u8>,
    crl: Option<Vec<u8>>,
    info: CertInfo,
}

impl Grant {
    fn read(response: JoinResponse, address: &str) -> Result<Self, JoinError> {
        let bad = |what| JoinError::Answer { address: address.to_owned(), what };
        let (cert, ca, crl) = match response {
            JoinResponse::Granted { cert, ca, crl } => (cert, ca, crl),
            JoinResponse::Refused(refusal) => return Err(JoinError::Refused(refusal)),
            JoinResponse::Crl(_) => return Err(bad("a list nobody asked for")),
        };
        let info = CertInfo::from_der(&cert).ok_or_else(|| bad("not a member's certificate"))?;
        let signed = x509_parser::parse_x509_certificate(&ca).is_ok_and(|(_, ca)| {
            x509_parser::parse_x509_certificate(&cert)
                .is_ok_and(|(_, cert)| cert.verify_signature(Some(ca.public_key())).is_ok())
        });
        if !signed {
            return Err(bad("the authority did not sign the certificate"));
        }
        Ok(Self { cert, ca, crl, info })
    }

    fn store(self, dir: &Path, key: &KeyPair, address: &str) -> Result<CertInfo, JoinError> {
        let key_pem = key.serialize_pem();
        if !fits(&self.cert, &key_pem) {
            let address = address.to_owned();
            return Err(JoinError::Answer { address, what: "the certificate has another key" });
        }
        let cert_pem = crate::pki::certificate_pem(&self.cert);
        write_member(dir, &self.ca, &cert_pem, &key_pem, self.crl.as_deref())?;
        Ok(self.info)
    }
}

fn fits(cert: &[u8], key_pem: &str) -> bool {
    PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .ok()
        .and_then(|der| tls::provider().key_provider.load_private_key(der).ok())
        .map(|key| CertifiedKey::new(vec![CertificateDer::from(cert.to_vec())], key))
        .is_some_and(|pair| pair.keys_match().is_ok())
}

fn new_key() -> Result<(KeyPair, Vec<u8>), PkiError> {
    let key = KeyPair::generate().map_err(PkiError::crypto("making a key"))?;
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .map_err(PkiError::crypto("making a signing request"))?;
    Ok((key, csr.der().to_vec()))
}

// --- asking ---------------------------------------------------------------------------------

async fn ask_as_member(
    tls: &Arc<TenantTls>,
    addresses: &[String],
    request: &JoinRequest,
) -> Result<(JoinResponse, String), JoinError> {
    let trust = || Trust::Tenant { tls: tls.clone(), peer: None };
    ask_any(addresses, &tls.info.identity.tenant, &trust, Some(tls), request).await
}

/// Asks the addresses in turn until one answers the request. What an answer says is final: a
/// secret that was refused at one address is not offered to the next.
async fn ask_any(
    addresses: &[String],
    tenant: &Tenant,
    trust: &(dyn Fn() -> Trust + Sync),
    show: Option<&Arc<TenantTls>>,
    request: &JoinRequest,
) -> Result<(JoinResponse, String), JoinError> {
    check_addresses(addresses).map_err(JoinError::Addresses)?;
    let bytes =
        request.encode().ok_or_else(|| LinkError::Tls("a request cannot be encoded".into()))?;
    let mut refused = None;
    let mut tried = Vec::new();
    for address in addresses {
        let targets: Vec<SocketAddr> = match timeout(JOIN_TIMEOUT, lookup_host(address)).await {
            Ok(Ok(found)) => found.take(MAX_RESOLVED).collect(),
            Ok(Err(e)) => {
                tried.push(format!("{address}: {e}"));
                continue;
            }
            Err(_) => {
                tried.push(format!("{address}: its name was not resolved in time"));
                continue;
            }
        };
        for target in targets {
            let (config, verdict) =
                tls::client_config(trust(), show.map(AsRef::as_ref), vec![JOIN_ALPN.to_vec()])?;
            let asked = timeout(JOIN_TIMEOUT, ask(target, tenant, config, &bytes)).await;
            let failure = match asked {
                Ok(Ok(response)) => return Ok((response, address.clone())),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Unreachable("no answer in time".into()),
            };
            let address = address.clone();
            match (verdict.get(), failure) {
                (Some(Refusal::WrongCa), _) => refused = Some(JoinError::WrongCa { address }),
                (Some(refusal), _) | (None, Failure::Refused(refusal)) => {
                    refused = Some(JoinError::Link { address, refusal });
                }
                (None, Failure::Answer(what)) => {
                    return Err(JoinError::Answer { address, what });
                }
                (None, Failure::Unreachable(why)) => tried.push(format!("{address}: {why}")),
            }
        }
    }
    Err(refused.unwrap_or(JoinError::Unreachable { tried: tried.join("; ") }))
}

enum Failure {
    Unreachable(String),
    Refused(Refusal),
    Answer(&'static str),
}

impl From<quinn::ConnectionError> for Failure {
    fn from(error: quinn::ConnectionError) -> Self {
        match refusal_of(&error).0 {
            Refusal::Other | Refusal::Timeout => Self::Unreachable(error.to_string()),
            refusal => Self::Refused(refusal),
        }
    }
}

async fn ask(
    target: SocketAddr,
    tenant: &Tenant,
    config: rustls::ClientConfig,
    request: &[u8],
) -> Result<JoinResponse, Failure> {
    let local: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let unreachable = |e: &dyn std::fmt::Display| Failure::Unreachable(e.to_string());
    let endpoint = quinn::Endpoint::client(local).map_err(|e| unreachable(&e))?;
    let crypto = QuicClientConfig::try_from(config).map_err(|e| unreachable(&e))?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let conn =
        endpoint.connect_with(config, target, &tenant.sni()).map_err(|e| unreachable(&e))?.await?;
    let answer = exchange(&conn, request).await;
    // Read before we close, which would overwrite it.
    let ended = conn.close_reason();
    conn.close(0u32.into(), b"done");
    // So that the server hears of it; bounded by the timeout around us.
    endpoint.wait_idle().await;
    // A connection that ended says why better than the stream that ended with it.
    match (answer, ended) {
        (Some(bytes), _) => {
            JoinResponse::decode(&bytes).ok_or(Failure::Answer("it cannot be read"))
        }
        (None, None) => Err(Failure::Answer("it ended too early")),
        (None, Some(error)) => Err(error.into()),
    }
}

async fn exchange(conn: &quinn::Connection, request: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut recv) = conn.open_bi().await.ok()?;
    send.write_all(request).await.ok()?;
    send.finish().ok()?;
    recv.read_to_end(MAX_JOIN_MESSAGE_BYTES).await.ok()
}
