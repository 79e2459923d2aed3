//! The list of certificates that an authority has taken back.
//!
//! A list is believed only after its signature has been checked against the tenant's authority, and
//! only a higher number replaces it: whoever can copy files about must not be able to bring back a
//! list from before a revocation. An old list goes on being enforced: that it is old is a reason to
//! fetch a new one, not a reason to stop a cluster.

use std::collections::BTreeSet;
use std::path::Path;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::PkiError;
use super::cert::Serial;
use crate::error::at;
use crate::files;

/// A revocation list whose signature has been checked.
#[derive(Debug, Clone)]
pub(crate) struct Crl {
    pub(crate) der: CertificateRevocationListDer<'static>,
    /// The list's number, big endian without leading zeros.
    number: Vec<u8>,
    revoked: BTreeSet<Serial>,
}

impl Crl {
    /// Checks and reads a list. The error says what is wrong with it.
    pub(crate) fn verify(der: &[u8], ca_der: &[u8]) -> Result<Self, &'static str> {
        let (_, ca) = X509Certificate::from_der(ca_der).map_err(|_| "not a certificate")?;
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| "not a revocation list")?;
        if !rest.is_empty() {
            return Err("bytes after the revocation list");
        }
        if list.issuer().as_raw() != ca.subject().as_raw() {
            return Err("a revocation list of another authority");
        }
        list.verify_signature(ca.public_key())
            .map_err(|_| "a revocation list that this authority did not sign")?;
        let number = list.crl_number().ok_or("a revocation list without a number")?.to_bytes_be();
        let revoked = list
            .iter_revoked_certificates()
            .map(|entry| Serial::from_bytes(entry.raw_serial()).ok_or("a bad serial number"))
            .collect::<Result<_, _>>()?;
        Ok(Self { der: der.to_vec().into(), number, revoked })
    }

    /// Reads the list in a folder; no file means that nothing is revoked.
    pub(crate) fn load(path: &Path, ca_der: &[u8]) -> Result<Option<Self>, PkiError> {
        let pem = match files::read_small(path) {
            Ok(pem) => pem,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(path)(e)),
        };
        let damaged = |what: &str| PkiError::Damaged { path: path.into(), what: what.to_owned() };
        let der = CertificateRevocationListDer::from_pem_slice(&pem)
            .map_err(|_| damaged("not a revocation list"))?;
        Self::verify(&der, ca_der).map(Some).map_err(damaged)
    }

    pub(crate) fn revokes(&self, serial: &Serial) -> bool {
        self.revoked.contains(serial)
    }

    /// Whether this list is to replace the other.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        (self.number.len(), &self.number) > (other.number.len(), &other.number)
    }
}

/// A list as PEM.
pub(crate) fn to_pem(der: &[u8]) -> String {
    pem("X509 CRL", der)
}

/// A certificate as PEM.
pub(crate) fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        // Base64 is ASCII, so no chunk cuts a character.
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}
