//! TSIG keys (RFC 8945), hmac-sha256 only: what every primary in use speaks.

use std::fmt;

use data_encoding::BASE64;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};

use crate::error::DnsError;
use crate::limits::TSIG_FUDGE_SECS;

/// A shared secret with its name. Printing it shows the name only.
#[derive(Clone)]
pub struct Key {
    signer: TSigner,
}

impl Key {
    /// A key from its name and raw secret.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, DnsError> {
        let mut name = Name::from_ascii(name)
            .map_err(|_| DnsError::Invalid { what: format!("{name} is not a key name") })?;
        name.set_fqdn(true);
        if secret.len() < 16 {
            // RFC 8945 section 7 wants at least as many bits as the MAC; 128 is the floor here.
            return Err(DnsError::Invalid { what: format!("key {name} is under 128 bits") });
        }
        let signer = TSigner::new(
            secret.to_vec(),
            TsigAlgorithm::HmacSha256,
            name.to_lowercase(),
            TSIG_FUDGE_SECS,
        )
        .map_err(|error| DnsError::Invalid { what: format!("key {name}: {error}") })?;
        Ok(Self { signer })
    }

    /// A key from its name and base64 secret, as key files hold it.
    pub fn from_base64(name: &str, secret: &str) -> Result<Self, DnsError> {
        let raw = BASE64.decode(secret.trim().as_bytes()).map_err(|_| DnsError::Invalid {
            what: format!("the secret of key {name} is not base64"),
        })?;
        Self::new(name, &raw)
    }

    /// The key's name.
    pub fn name(&self) -> &Name {
        self.signer.signer_name()
    }

    pub(crate) fn signer(&self) -> &TSigner {
        &self.signer
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name().to_string()).finish_non_exhaustive()
    }
}
