//! The authority of one tenant: a folder with a key, a certificate, a ledger and a revocation list.
//!
//! Every call opens and locks the ledger, so that the command line and a daemon that serves joins
//! may use one folder. All calls block on the disk; a daemon calls them off its main thread.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, rand};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;

use super::cert::{Fingerprint, Serial, sha256};
use super::crl::{certificate_pem, to_pem};
use super::ledger::{Entry, Ledger};
use super::{CA_FILE, CRL_FILE, CertInfo, Crl, MemberDir, PkiError, write_member};
use crate::error::at;
use crate::files;
use crate::identity::{Identity, Role, Tenant};
use crate::join::{JoinRefusal, JoinString, Secret, check_addresses};
use crate::limits::{CA_CERTIFICATE_LIFE, CERTIFICATE_BACKDATE, MEMBER_CERTIFICATE_LIFE};

const CA_KEY_FILE: &str = "ca-key.pem";
/// A list says when the next one comes; nobody enforces it (see `crl`), so it is generous.
const CRL_LIFE: Duration = Duration::from_hours(3_650 * 24);

/// A certificate authority, opened.
pub struct Ca {
    dir: PathBuf,
    tenant: Tenant,
    der: CertificateDer<'static>,
    key: KeyPair,
    life: Duration,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("dir", &self.dir)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// A certificate with the key that was made for it.
pub struct Issued {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// What the certificate says.
    pub info: CertInfo,
}

/// What a member gets for its signing request.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The certificate, DER.
    pub cert: Vec<u8>,
    /// The authority's certificate, DER.
    pub ca: Vec<u8>,
    /// The revocation list, DER, if anything was ever revoked.
    pub crl: Option<Vec<u8>>,
}

/// What to take back.
#[derive(Debug, Clone)]
pub enum Revoke {
    /// One certificate.
    Serial(Serial),
    /// All certificates of this member that have not ended.
    Member(Role, crate::identity::Name),
}

/// One certificate of the ledger.
#[derive(Debug, Clone)]
pub struct IssuedInfo {
    /// Whose it is.
    pub identity: Identity,
    /// Its number.
    pub serial: Serial,
    /// Valid until.
    pub not_after: SystemTime,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// What has become of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteState {
    /// Can be used.
    Open,
    /// Has been used.
    Used,
    /// Was not used in time.
    Expired,
}

/// One invitation of the ledger.
#[derive(Debug, Clone)]
pub struct InviteInfo {
    /// For whom.
    pub identity: Identity,
    /// Until when.
    pub expires: SystemTime,
    /// What has become of it.
    pub state: InviteState,
}

/// All that the authority remembers.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Certificates, oldest first.
    pub certificates: Vec<IssuedInfo>,
    /// Invitations, oldest first.
    pub invites: Vec<InviteInfo>,
}

// --- making and opening ---------------------------------------------------------------------

impl Ca {
    /// Makes a new authority in a folder that has none.
    pub fn init(dir: &Path, tenant: &Tenant) -> Result<Self, PkiError> {
        files::private_dir(dir).map_err(at(dir))?;
        if dir.join(CA_FILE).exists() {
            return Err(PkiError::CaExists(dir.into()));
        }
        let key = KeyPair::generate().map_err(PkiError::crypto("making a key"))?;
        let der = ca_params(tenant)?
            .self_signed(&key)
            .map_err(PkiError::crypto("signing the authority's certificate"))?;
        // The certificate last: an authority exists when its certificate does.
        let key_path = dir.join(CA_KEY_FILE);
        files::write_private(&key_path, key.serialize_pem().as_bytes()).map_err(at(&key_path))?;
        let path = dir.join(CA_FILE);
        files::write_private(&path, der.pem().as_bytes()).map_err(at(&path))?;
        Self::open(dir)
    }

    /// Opens an authority.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(CA_FILE);
        let damaged = |path: &Path, what: &str| PkiError::Damaged {
            path: path.into(),
            what: what.to_owned(),
        };
        let pem = files::read_small(&path).map_err(at(&path))?;
        let der = CertificateDer::from_pem_slice(&pem)
            .map_err(|_| damaged(&path, "not a certificate"))?;
        let tenant = tenant_of_ca(&der).ok_or_else(|| damaged(&path, "names no tenant"))?;
        let key_path = dir.join(CA_KEY_FILE);
        let key_pem = files::read_small(&key_path).map_err(at(&key_path))?;
        let key = std::str::from_utf8(&key_pem)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok())
            .ok_or_else(|| damaged(&key_path, "not a private key"))?;
        if !is_key_of(&der, &key) {
            return Err(damaged(&key_path, "not the key of ca.pem"));
        }
        Ok(Self { dir: dir.into(), tenant, der, key, life: MEMBER_CERTIFICATE_LIFE })
    }

    /// Sets how long the certificates to come will live (90 days unless set).
    #[must_use]
    pub fn with_certificate_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Whose authority this is.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// SHA-256 of its certificate: what join strings pin.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// Its certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.der)
    }
}

// --- issuing --------------------------------------------------------------------------------

impl Ca {
    /// Makes a key and a certificate for a member.
    pub fn issue(&self, role: Role, name: &crate::Name) -> Result<Issued, PkiError> {
        let identity = Identity { tenant: self.tenant.clone(), role, name: name.clone() };
        let mut ledger = Ledger::open(&self.dir)?;
        if let Some(taken) = ledger.holder_of(&identity, unix_now()) {
            return Err(PkiError::NameTaken { taken: taken.clone() });
        }
        let key = KeyPair::generate().map_err(PkiError::crypto("making a key"))?;
        let (der, info) = self.sign(&mut ledger, identity, &key)?;
        Ok(Issued { cert_pem: certificate_pem(&der), key_pem: key.serialize_pem(), info })
    }

    /// Makes a member's whole folder.
    pub fn issue_to(
        &self,
        role: Role,
        name: &crate::Name,
        member_dir: &Path,
    ) -> Result<CertInfo, PkiError> {
        let issued = self.issue(role, name)?;
        let crl = self.crl()?;
        write_member(member_dir, &self.der, &issued.cert_pem, &issued.key_pem, crl.as_deref())?;
        Ok(issued.info)
    }

    /// Gives the member of this folder a new key and certificate in place.
    pub fn rotate(&self, member_dir: &Path) -> Result<CertInfo, PkiError> {
        let old = MemberDir::load(member_dir)?.info;
        if old.identity.tenant != self.tenant {
            let (tenant, found) = (self.tenant.clone(), old.identity);
            return Err(PkiError::OtherTenant { tenant, found });
        }
        self.issue_to(old.identity.role, &old.identity.name, member_dir)
    }

    fn sign(
        &self,
        ledger: &mut Ledger,
        identity: Identity,
        public_key: &impl PublicKeyData,
    ) -> Result<(Vec<u8>, CertInfo), PkiError> {
        let now = SystemTime::now();
        let serial = new_serial()?;
        let not_before = now.checked_sub(CERTIFICATE_BACKDATE).unwrap_or(UNIX_EPOCH);
        let params = member_params(&identity, &serial, not_before, now + self.life)?;
        let der = params
            .signed_by(public_key, &self.issuer()?)
            .map_err(PkiError::crypto("signing a certificate"))?
            .der()
            .to_vec();
        let info = CertInfo::from_der(&der).ok_or_else(|| PkiError::Crypto {
            what: "reading back a certificate",
            why: "it does not say what it was made to say".into(),
        })?;
        // In the ledger before anyone has it: what is not in the ledger cannot be revoked by name.
        ledger.append(&[Entry::Issued {
            at: unix_now(),
            identity,
            serial,
            not_before: unix(info.not_before),
            not_after: unix(info.not_after),
        }])?;
        Ok((der, info))
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, PkiError> {
        Issuer::from_ca_cert_der(&self.der, &self.key)
            .map_err(PkiError::crypto("reading the authority's certificate"))
    }
}

// --- inviting and joining -------------------------------------------------------------------

impl Ca {
    /// Invites a member. The string that is returned is the only copy of the secret.
    pub fn invite(
        &self,
        role: Role,
        name: &crate::Name,
        addresses: &[String],
        ttl: Duration,
    ) -> Result<JoinString, PkiError> {
        check_addresses(addresses).map_err(PkiError::BadInvite)?;
        let identity = Identity { tenant: self.tenant.clone(), role, name: name.clone() };
        let now = unix_now();
        let mut ledger = Ledger::open(&self.dir)?;
        if let Some(taken) = ledger.holder_of(&identity, now) {
            return Err(PkiError::NameTaken { taken: taken.clone() });
        }
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(PkiError::crypto("making a secret"))?;
        let expires = now.saturating_add(ttl.as_secs());
        ledger.append(&[Entry::Invited {
            at: now,
            identity: identity.clone(),
            hash: hash_text(&secret),
            expires,
            addresses: addresses.to_vec(),
        }])?;
        Ok(JoinString {
            identity,
            addresses: addresses.to_vec(),
            ca: self.fingerprint(),
            secret: Secret(secret),
            expires: UNIX_EPOCH + Duration::from_secs(expires),
        })
    }

    /// Turns an invitation into a certificate, once.
    pub fn redeem(
        &self,
        secret: &Secret,
        claimed: &Identity,
        csr: &[u8],
    ) -> Result<Granted, JoinRefusal> {
        if claimed.tenant != self.tenant {
            return Err(JoinRefusal::WrongTenant);
        }
        let request = parse_csr(csr)?;
        let mut ledger = Ledger::open(&self.dir).map_err(internal)?;
        let hash = hash_text(&secret.0);
        let (invited, expires) = find_invite(&ledger, &hash).ok_or(JoinRefusal::UnknownSecret)?;
        let now = unix_now();
        if ledger.is_used(&hash) {
            return Err(JoinRefusal::Used);
        }
        if now >= expires {
            return Err(JoinRefusal::Expired);
        }
        if invited != *claimed {
            return Err(JoinRefusal::WrongName { invited: Box::new(invited) });
        }
        // Spent before the certificate exists: a crash between costs an invitation, never two
        // certificates.
        ledger.append(&[Entry::Used { at: now, hash }]).map_err(internal)?;
        let (cert, _) = self.sign(&mut ledger, invited, &request.public_key).map_err(internal)?;
        drop(ledger);
        self.grant(cert)
    }

    /// Signs a new key for a member that has shown a certificate that is still good.
    pub fn renew(&self, shown: &CertInfo, csr: &[u8]) -> Result<Granted, JoinRefusal> {
        if shown.identity.tenant != self.tenant {
            return Err(JoinRefusal::WrongTenant);
        }
        let request = parse_csr(csr)?;
        let mut ledger = Ledger::open(&self.dir).map_err(internal)?;
        if ledger.is_revoked(&shown.serial) {
            return Err(JoinRefusal::Revoked);
        }
        let (cert, _) = self
            .sign(&mut ledger, shown.identity.clone(), &request.public_key)
            .map_err(internal)?;
        drop(ledger);
        self.grant(cert)
    }

    fn grant(&self, cert: Vec<u8>) -> Result<Granted, JoinRefusal> {
        let crl = self.crl().map_err(internal)?;
        Ok(Granted { cert, ca: self.der.to_vec(), crl })
    }
}

/// Looks at every invitation, and at every byte of its hash, whatever matches first.
fn find_invite(ledger: &Ledger, hash: &str) -> Option<(Identity, u64)> {
    let mut found = None;
    for entry in &ledger.entries {
        let Entry::Invited { identity, hash: kept, expires, .. } = entry else { continue };
        let same = constant_time::verify_slices_are_equal(kept.as_bytes(), hash.as_bytes());
        if same.is_ok() {
            found = Some((identity.clone(), *expires));
        }
    }
    found
}

fn parse_csr(csr: &[u8]) -> Result<CertificateSigningRequestParams, JoinRefusal> {
    // The signature proves that the sender has the key; the rest of the request is not used.
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|_| JoinRefusal::BadRequest)
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn internal(error: PkiError) -> JoinRefusal {
    tracing::error!(%error, "the certificate authority cannot serve a join");
    JoinRefusal::Internal
}

// --- revoking and listing -------------------------------------------------------------------

impl Ca {
    /// Takes certificates back and writes the new list. Gives the number of certificates taken
    /// back now. Members enforce it when they have the new `crl.pem` and reload.
    pub fn revoke(&self, what: &Revoke) -> Result<usize, PkiError> {
        let now = unix_now();
        let mut ledger = Ledger::open(&self.dir)?;
        let hits: Vec<Entry> = ledger
            .entries
            .iter()
            .filter_map(|entry| match (entry, what) {
                (Entry::Issued { serial, .. }, Revoke::Serial(wanted)) if serial == wanted => {
                    Some(serial)
                }
                (Entry::Issued { serial, identity, not_after, .. }, Revoke::Member(role, name))
                    if identity.role == *role && identity.name == *name && *not_after > now =>
                {
                    Some(serial)
                }
                _ => None,
            })
            .filter(|serial| !ledger.is_revoked(serial))
            .map(|serial| Entry::Revoked { at: now, serial: serial.clone() })
            .collect();
        if hits.is_empty() {
            let text = match what {
                Revoke::Serial(serial) => serial.to_string(),
                Revoke::Member(role, name) => format!("{role}/{name}"),
            };
            return Err(PkiError::NothingToRevoke(text));
        }
        ledger.append(&hits)?;
        self.write_crl(&ledger)?;
        Ok(hits.len())
    }

    /// Writes the list anew from the ledger (a crash may have come between the two).
    pub fn export_crl(&self) -> Result<PathBuf, PkiError> {
        self.write_crl(&Ledger::open(&self.dir)?)?;
        Ok(self.dir.join(CRL_FILE))
    }

    /// The list as it stands, DER; none if nothing was ever revoked.
    pub fn crl(&self) -> Result<Option<Vec<u8>>, PkiError> {
        Ok(Crl::load(&self.dir.join(CRL_FILE), &self.der)?.map(|crl| crl.der.to_vec()))
    }

    fn write_crl(&self, ledger: &Ledger) -> Result<(), PkiError> {
        let now = SystemTime::now();
        let revoked_certs: Vec<RevokedCertParams> = ledger
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Revoked { at, serial } => Some(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial.as_bytes()),
                    revocation_time: offset(UNIX_EPOCH + Duration::from_secs(*at)),
                    reason_code: None,
                    invalidity_date: None,
                }),
                _ => None,
            })
            .collect();
        // Entries are never removed, so their number is the list's number. The leading 1 keeps it
        // positive and of one width.
        let mut number = vec![1];
        number.extend_from_slice(&(revoked_certs.len() as u64).to_be_bytes());
        let list = CertificateRevocationListParams {
            this_update: offset(now.checked_sub(CERTIFICATE_BACKDATE).unwrap_or(now)),
            next_update: offset(now + CRL_LIFE),
            crl_number: SerialNumber::from_slice(&number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer()?)
        .map_err(PkiError::crypto("signing the revocation list"))?;
        let path = self.dir.join(CRL_FILE);
        files::write_private(&path, to_pem(list.der()).as_bytes()).map_err(at(&path))
    }

    /// What the authority remembers.
    pub fn list(&self) -> Result<Listing, PkiError> {
        let ledger = Ledger::open(&self.dir)?;
        let now = unix_now();
        let mut listing = Listing::default();
        for entry in &ledger.entries {
            match entry {
                Entry::Issued { identity, serial, not_after, .. } => {
                    listing.certificates.push(IssuedInfo {
                        identity: identity.clone(),
                        serial: serial.clone(),
                        not_after: UNIX_EPOCH + Duration::from_secs(*not_after),
                        revoked: ledger.is_revoked(serial),
                    });
                }
                Entry::Invited { identity, hash, expires, .. } => {
                    let state = if ledger.is_used(hash) {
                        InviteState::Used
                    } else if now >= *expires {
                        InviteState::Expired
                    } else {
                        InviteState::Open
                    };
                    let expires = UNIX_EPOCH + Duration::from_secs(*expires);
                    listing.invites.push(InviteInfo { identity: identity.clone(), expires, state });
                }
                Entry::Used { .. } | Entry::Revoked { .. } => {}
            }
        }
        Ok(listing)
    }
}

// --- what the certificates say --------------------------------------------------------------

const CA_NAME_PREFIX: &str = "Tierce CA of ";

fn ca_params(tenant: &Tenant) -> Result<CertificateParams, PkiError> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{CA_NAME_PREFIX}{tenant}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(new_serial()?.as_bytes()));
    params.not_before = offset(now.checked_sub(CERTIFICATE_BACKDATE).unwrap_or(now));
    params.not_after = offset(now + CA_CERTIFICATE_LIFE);
    Ok(params)
}

fn member_params(
    identity: &Identity,
    serial: &Serial,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let text = |text: String| {
        rcgen::string::Ia5String::try_from(text).map_err(PkiError::crypto("writing a name"))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&identity.to_string());
    params.subject_alt_names =
        vec![SanType::URI(text(identity.uri())?), SanType::DnsName(text(identity.tenant.sni())?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = offset(not_before);
    params.not_after = offset(not_after);
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn tenant_of_ca(der: &[u8]) -> Option<Tenant> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?;
    Tenant::new(name.strip_prefix(CA_NAME_PREFIX)?).ok()
}

fn is_key_of(der: &[u8], key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(der)
        .is_ok_and(|(_, cert)| cert.public_key().raw == key.subject_public_key_info())
}

/// 16 random bytes; the first is 0x40..=0x7f, so that DER keeps all of them as they are.
fn new_serial() -> Result<Serial, PkiError> {
    let mut bytes = [0u8; 16];
    rand::fill(&mut bytes).map_err(PkiError::crypto("making a serial number"))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Serial::from_bytes(&bytes).ok_or(PkiError::Crypto {
        what: "making a serial number",
        why: "it has a bad length".into(),
    })
}

fn hash_text(secret: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(&sha256(secret))
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn unix_now() -> u64 {
    unix(SystemTime::now())
}

/// To whole seconds: X.509 has no finer time.
fn offset(time: SystemTime) -> OffsetDateTime {
    let seconds = i64::try_from(unix(time)).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
