//! What a member's certificate says. The bytes come from strangers: everything here is total.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of these bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The serial number of a certificate, as its bytes stand in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Vec<u8>);

impl Serial {
    /// Longest serial number that RFC 5280 allows, in bytes.
    const MAX_BYTES: usize = 20;

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MAX_BYTES).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a serial number; use the hexadecimal digits that pki list shows")]
pub struct BadSerial;

impl FromStr for Serial {
    type Err = BadSerial;
    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        bytes.ok().and_then(|b| Self::from_bytes(&b)).ok_or(BadSerial)
    }
}

impl TryFrom<String> for Serial {
    type Error = BadSerial;
    fn try_from(text: String) -> Result<Self, BadSerial> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// What a member's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Whose it is.
    pub identity: Identity,
    /// Valid from here.
    pub not_before: SystemTime,
    /// Valid until here.
    pub not_after: SystemTime,
    /// Its number at its authority.
    pub serial: Serial,
    /// SHA-256 of the whole.
    pub fingerprint: Fingerprint,
}

impl CertInfo {
    /// Reads a certificate. `None` when it is not one of ours in form; whether it may be believed
    /// is another question, which the chain answers.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, cert) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let validity = cert.validity();
        Some(Self {
            identity: identity_in(&cert)?,
            not_before: system_time(validity.not_before.timestamp())?,
            not_after: system_time(validity.not_after.timestamp())?,
            serial: Serial::from_bytes(cert.raw_serial())?,
            fingerprint: Fingerprint::of(der),
        })
    }

    /// When the operator should hear that the certificate ends: with a third of its life left.
    pub fn warn_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        self.not_after.checked_sub(life / 3).unwrap_or(self.not_before)
    }

    /// Whether that moment has come.
    pub fn is_expiring(&self, now: SystemTime) -> bool {
        now >= self.warn_at()
    }

    /// The time left; zero when it has ended.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or(Duration::ZERO)
    }
}

/// The one identity that a certificate names. Two identities are none: which of them was meant
/// would depend on who reads it.
pub(crate) fn identity_of(der: &[u8]) -> Option<Identity> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    identity_in(&cert)
}

fn identity_in(cert: &X509Certificate<'_>) -> Option<Identity> {
    let names = cert.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().ok(),
        _ => None,
    }
}

fn system_time(unix_seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(unix_seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use tierce_tests::fuzz;

    #[test]
    fn the_warning_comes_with_a_third_of_the_life_left() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let info = CertInfo {
            identity: Identity::new("t", crate::Role::Site, "a").unwrap(),
            not_before: at(1_000),
            not_after: at(1_900),
            serial: Serial(vec![1]),
            fingerprint: Fingerprint([0; 32]),
        };
        assert_eq!(info.warn_at(), at(1_600));
        assert!(!info.is_expiring(at(1_599)));
        assert!(info.is_expiring(at(1_600)));
        assert_eq!(info.left(at(1_890)), Duration::from_secs(10));
        assert_eq!(info.left(at(2_000)), Duration::ZERO);
    }

    /// The parser that looks at what a stranger shows, with the list that may come beside it.
    #[test]
    fn any_bytes_are_a_certificate_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = crate::Tenant::new("acme").unwrap();
        let ca = crate::Ca::init(&dir.path().join("ca"), &tenant).unwrap();
        let name = crate::Name::new("berlin").unwrap();
        ca.issue_to(crate::Role::Site, &name, &dir.path().join("site")).unwrap();
        ca.revoke(&crate::pki::Revoke::Member(crate::Role::Site, name)).unwrap();
        let ders = |path: &str| CertificateDer::from_pem_file(dir.path().join(path)).unwrap();
        let samples = vec![ders("site/cert.pem").to_vec(), ders("ca/ca.pem").to_vec()];
        assert!(identity_of(&samples[0]).is_some());
        bolero::check!().for_each(|bytes: &[u8]| {
            for input in fuzz::inputs(&samples, bytes) {
                let info = CertInfo::from_der(&input);
                assert!(info.is_none() || identity_of(&input).is_some());
            }
        });
    }

    proptest! {
        #[test]
        fn serials_survive_their_text(bytes in prop::collection::vec(any::<u8>(), 1..=20)) {
            let serial = Serial::from_bytes(&bytes).unwrap();
            prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        }

        #[test]
        fn any_text_as_a_serial_is_refused_or_read(text in ".{0,60}") {
            let _ = text.parse::<Serial>();
        }
    }
}
