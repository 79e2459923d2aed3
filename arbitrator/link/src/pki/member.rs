//! A member's own folder: `ca.pem`, `cert.pem`, `key.pem`, and `crl.pem` if anything was revoked.
//!
//! Key and certificate are two files, and no rename replaces two files at once. So a change writes
//! the new key *and* the old one into `key.pem`, then the certificate, then the new key alone; and
//! the reader takes whichever key of `key.pem` belongs to the certificate. At every moment of a
//! change, and after a power cut at any of them, the folder holds a pair that works.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::crl::{certificate_pem, to_pem};
use super::{CA_FILE, CERT_FILE, CRL_FILE, CertInfo, Crl, KEY_FILE, PkiError};
use crate::error::at;
use crate::files;
use crate::tls;

/// A member's credentials, read and checked against each other.
#[derive(Debug, Clone)]
pub struct MemberDir {
    /// What the certificate says.
    pub info: CertInfo,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) crl: Option<Crl>,
}

impl MemberDir {
    /// Reads a folder. Expiry is not checked here: the peers check it, and an operator must be
    /// able to read an ended certificate.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let ca = load_certificate(&dir.join(CA_FILE))?;
        let cert_path = dir.join(CERT_FILE);
        let cert = load_certificate(&cert_path)?;
        let info = CertInfo::from_der(&cert).ok_or_else(|| PkiError::Damaged {
            path: cert_path,
            what: "not the certificate of a member".into(),
        })?;
        let key = load_key(&dir.join(KEY_FILE), &cert, &tls::provider())?;
        let crl = Crl::load(&dir.join(CRL_FILE), &ca)?;
        Ok(Self { info, ca, key: Arc::new(key), crl })
    }
}

fn load_certificate(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    let pem = files::read_small(path).map_err(at(path))?;
    CertificateDer::from_pem_slice(&pem)
        .map_err(|_| PkiError::Damaged { path: path.into(), what: "not a certificate".into() })
}

fn load_key(
    path: &Path,
    cert: &CertificateDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, PkiError> {
    let pem = files::read_small(path).map_err(at(path))?;
    PrivateKeyDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .filter_map(|der| provider.key_provider.load_private_key(der).ok())
        .map(|key| CertifiedKey::new(vec![cert.clone()], key))
        .find(|pair| pair.keys_match().is_ok())
        .ok_or_else(|| PkiError::Damaged {
            path: path.into(),
            what: "holds no key of cert.pem".into(),
        })
}

/// Writes or replaces a member's credentials so that the folder works at every moment.
pub(crate) fn write_member(
    dir: &Path,
    ca_der: &[u8],
    cert_pem: &str,
    key_pem: &str,
    crl_der: Option<&[u8]>,
) -> Result<(), PkiError> {
    files::private_dir(dir).map_err(at(dir))?;
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        files::write_private(&path, text.as_bytes()).map_err(at(&path))
    };
    put(CA_FILE, &certificate_pem(ca_der))?;
    let old_key = files::read_small(&dir.join(KEY_FILE)).unwrap_or_default();
    let both = format!("{}\n{}", key_pem.trim_end(), String::from_utf8_lossy(&old_key));
    put(KEY_FILE, &both)?;
    put(CERT_FILE, cert_pem)?;
    put(KEY_FILE, key_pem)?;
    if let Some(der) = crl_der {
        write_crl(dir, ca_der, der)?;
    }
    Ok(())
}

/// Replaces the list if the new one is signed by the authority and newer. Gives whether it did.
pub(crate) fn write_crl(dir: &Path, ca_der: &[u8], der: &[u8]) -> Result<bool, PkiError> {
    let path = dir.join(CRL_FILE);
    let damaged = |what: &str| PkiError::Damaged { path: path.clone(), what: what.to_owned() };
    let new = Crl::verify(der, ca_der).map_err(damaged)?;
    // A damaged old list is replaced: the new one is signed, the old one serves nobody.
    if let Ok(Some(old)) = Crl::load(&path, ca_der)
        && !new.is_newer_than(&old)
    {
        return Ok(false);
    }
    files::write_private(&path, to_pem(der).as_bytes()).map_err(at(&path))?;
    Ok(true)
}
