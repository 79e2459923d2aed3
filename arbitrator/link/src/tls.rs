//! TLS 1.3 for many tenants on one socket: who is shown which certificate, and whose word counts.
//!
//! The failure that this file prevents is a member of tenant A speaking as a member of tenant B on
//! a shared arbitrator. Three locks, each enough by itself against an honest mistake:
//! - the server's certificate is chosen by the tenant in the server name, and by nothing else;
//! - a client's certificate is checked against the authority of the tenant that *it* names;
//! - after the handshake (`link::accept`) the two tenants must be the same.
//!
//! There is no resumption and no 0-RTT: a resumed session would skip the check of certificates,
//! and with it expiry, revocation and the third lock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider_of, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use crate::counters::TenantCounters;
use crate::error::{LinkError, Refusal};
use crate::identity::{Identity, Tenant};
use crate::join::JOIN_ALPN;
use crate::limits::TenantQuota;
use crate::pki::{CertInfo, Crl, Fingerprint, MemberDir, PkiError, identity_of};
use crate::sync::{lock, read, write};

/// The cryptography of every handshake: hybrid post-quantum key exchange first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let kx_groups = vec![
            provider_of::kx_group::X25519MLKEM768,
            provider_of::kx_group::X25519,
            provider_of::kx_group::SECP256R1,
        ];
        Arc::new(CryptoProvider { kx_groups, ..provider_of::default_provider() })
    };
    PROVIDER.get_or_init(make).clone()
}

// --- one tenant -----------------------------------------------------------------------------

/// What one tenant's handshakes need, made anew whenever its folder is read.
#[derive(Debug)]
pub(crate) struct TenantTls {
    pub(crate) info: CertInfo,
    pub(crate) dir: PathBuf,
    pub(crate) quota: TenantQuota,
    /// Kept across reloads.
    pub(crate) counters: Arc<TenantCounters>,
    member_key: Arc<CertifiedKey>,
    /// With the authority's certificate behind ours: a joiner knows only its fingerprint.
    join_key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
    crl: Option<Crl>,
}

impl TenantTls {
    pub(crate) fn load(dir: &Path, quota: TenantQuota) -> Result<Self, PkiError> {
        Self::load_counting(dir, quota, Arc::default())
    }

    /// The same tenant as its folder has it now.
    pub(crate) fn reload(&self) -> Result<Self, PkiError> {
        Self::load_counting(&self.dir, self.quota, self.counters.clone())
    }

    fn load_counting(
        dir: &Path,
        quota: TenantQuota,
        counters: Arc<TenantCounters>,
    ) -> Result<Self, PkiError> {
        let member = MemberDir::load(dir)?;
        let damaged = |what: &'static str| PkiError::Damaged {
            path: dir.join(crate::pki::CA_FILE),
            what: what.into(),
        };
        let mut roots = RootCertStore::empty();
        roots.add(member.ca.clone()).map_err(|_| damaged("not an authority's certificate"))?;
        let roots = Arc::new(roots);
        let crls: Vec<_> = member.crl.iter().map(|crl| crl.der.clone()).collect();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .with_crls(crls.clone())
            .only_check_end_entity_revocation()
            .build()
            .map_err(|_| damaged("unusable for checking clients"))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .with_crls(crls)
            .only_check_end_entity_revocation()
            .build()
            .map_err(|_| damaged("unusable for checking servers"))?;
        let mut chain = member.key.cert.clone();
        chain.push(member.ca);
        let join_key = Arc::new(CertifiedKey::new(chain, member.key.key.clone()));
        Ok(Self {
            info: member.info,
            dir: dir.into(),
            quota,
            counters,
            member_key: member.key,
            join_key,
            clients,
            servers,
            crl: member.crl,
        })
    }

    pub(crate) fn revokes(&self, info: &CertInfo) -> bool {
        self.crl.as_ref().is_some_and(|crl| crl.revokes(&info.serial))
    }
}

/// The tenants of a socket. Handshakes read it; adding and reloading write it.
#[derive(Debug, Default)]
pub(crate) struct TenantTable {
    tenants: RwLock<HashMap<Tenant, Arc<TenantTls>>>,
}

impl TenantTable {
    pub(crate) fn get(&self, tenant: &Tenant) -> Option<Arc<TenantTls>> {
        read(&self.tenants).get(tenant).cloned()
    }

    pub(crate) fn insert(&self, tls: Arc<TenantTls>) {
        write(&self.tenants).insert(tls.info.identity.tenant.clone(), tls);
    }

    pub(crate) fn remove(&self, tenant: &Tenant) -> Option<Arc<TenantTls>> {
        write(&self.tenants).remove(tenant)
    }

    pub(crate) fn all(&self) -> Vec<Arc<TenantTls>> {
        read(&self.tenants).values().cloned().collect()
    }
}

// --- server side ----------------------------------------------------------------------------

/// The TLS side of accepting, for all tenants.
pub(crate) fn server_config(
    table: &Arc<TenantTable>,
    alpns: &[Vec<u8>],
) -> Result<rustls::ServerConfig, LinkError> {
    let verifier = TenantClients { table: table.clone() };
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| LinkError::Tls(e.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(BySni { table: table.clone() }));
    config.alpn_protocols = alpns.iter().cloned().chain([JOIN_ALPN.to_vec()]).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

#[derive(Debug)]
struct BySni {
    table: Arc<TenantTable>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let tls = self.table.get(&Tenant::from_sni(hello.server_name()?)?)?;
        let joins = hello.alpn().is_some_and(|mut offered| offered.any(|p| p == JOIN_ALPN));
        Some(if joins { tls.join_key.clone() } else { tls.member_key.clone() })
    }
}

#[derive(Debug)]
struct TenantClients {
    table: Arc<TenantTable>,
}

impl ClientCertVerifier for TenantClients {
    /// A joining member has no certificate yet; member protocols demand one after the handshake.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Empty: the list of authorities would tell a stranger who is here.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let identity = identity_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        let tls = self.table.get(&identity.tenant).ok_or(CertificateError::UnknownIssuer)?;
        tls.clients.verify_client_cert(end_entity, &[], now).map_err(other_authority)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// All authorities of one tenant have one name, so a certificate of another of them shows as a bad
/// signature. Both sides are told what it means.
fn other_authority(error: TlsError) -> TlsError {
    match error {
        TlsError::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}

fn no_tls12() -> TlsError {
    TlsError::General("TLS 1.2 is not spoken here".into())
}

fn verify_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

// --- client side ----------------------------------------------------------------------------

/// Why our own check of the server failed, for whoever dialled: the error that quinn hands up is
/// only an alert number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Refusal>>>);

impl Verdict {
    pub(crate) fn get(&self) -> Option<Refusal> {
        *lock(&self.0)
    }

    fn note(&self, error: TlsError) -> TlsError {
        let refusal = match &error {
            TlsError::InvalidCertificate(e) => match e {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Refusal::Expired,
                CertificateError::Revoked => Refusal::Revoked,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Refusal::NameMismatch,
                CertificateError::UnknownIssuer => Refusal::WrongCa,
                _ => Refusal::BadCertificate,
            },
            _ => Refusal::BadCertificate,
        };
        *lock(&self.0) = Some(refusal);
        error
    }
}

/// How the server's chain is checked.
#[derive(Debug)]
pub(crate) enum Trust {
    /// By the tenant's authority; and if a peer is named, it must be that one.
    Tenant { tls: Arc<TenantTls>, peer: Option<Identity> },
    /// By an authority of which only the fingerprint is known: it must be in the chain.
    Pinned { tenant: Tenant, ca: Fingerprint },
}

/// The TLS side of dialling.
pub(crate) fn client_config(
    trust: Trust,
    show: Option<&TenantTls>,
    alpns: Vec<Vec<u8>>,
) -> Result<(rustls::ClientConfig, Verdict), LinkError> {
    let verdict = Verdict::default();
    let verifier = PeerCheck { trust, verdict: verdict.clone() };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| LinkError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match show {
        Some(tls) => builder.with_client_cert_resolver(Arc::new(Show(tls.member_key.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpns;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok((config, verdict))
}

#[derive(Debug)]
struct Show(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Show {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct PeerCheck {
    trust: Trust,
    verdict: Verdict,
}

impl PeerCheck {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let (tenant, peer) = match &self.trust {
            Trust::Tenant { tls, peer } => {
                tls.servers.verify_server_cert(end_entity, &[], server_name, &[], now)?;
                (&tls.info.identity.tenant, peer.as_ref())
            }
            Trust::Pinned { tenant, ca } => {
                pinned(*ca, chain)?.verify_server_cert(end_entity, &[], server_name, &[], now)?;
                (tenant, None)
            }
        };
        let shown = identity_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        if shown.tenant != *tenant || peer.is_some_and(|expected| *expected != shown) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(())
    }
}

/// A verifier that trusts the one certificate of the chain that has the fingerprint.
fn pinned(
    ca: Fingerprint,
    chain: &[CertificateDer<'_>],
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let found = chain.iter().find(|der| Fingerprint::of(der) == ca);
    let root = found.ok_or(CertificateError::UnknownIssuer)?.clone().into_owned();
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| TlsError::General(e.to_string()))
}

impl ServerCertVerifier for PeerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check(end_entity, intermediates, server_name, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|e| self.verdict.note(other_authority(e)))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
