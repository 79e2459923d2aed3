//! The join string: what an operator copies from one screen to another.
//!
//! `tierce1-` and then base64url of a small record with a checksum, so that a string cut short by
//! the clipboard is told from one that is wrong. The decoder is total and bounded. The secret is
//! never shown by `Debug`.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::Identity;
use crate::limits::{MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_JOIN_STRING_BYTES};
use crate::pki::Fingerprint;

const PREFIX: &str = "tierce1-";
const CHECKSUM_BYTES: usize = 4;
/// The year 9999: beyond it, times do not fit what X.509 and people can write.
const LAST_UNIX_SECOND: u64 = 253_402_300_799;

/// The secret of an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub(crate) [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An invitation, as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinString {
    /// Who is invited.
    pub identity: Identity,
    /// Where joins are served: `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate.
    pub ca: Fingerprint,
    /// Works once.
    pub secret: Secret,
    /// Works until then.
    pub expires: SystemTime,
}

/// Why a text is not a join string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinStringError {
    /// It does not begin as one.
    #[error("not a join string: it begins with `tierce1-`; copy it again from `pki invite`")]
    Prefix,
    /// It is cut short, or a character changed.
    #[error("the join string is damaged or incomplete; copy it again from `pki invite`")]
    Damaged,
    /// It says something that cannot be.
    #[error("the join string is not usable: {0}; make a new one with `pki invite`")]
    Content(String),
}

#[derive(Serialize, Deserialize)]
struct Record {
    identity: Identity,
    addresses: Vec<String>,
    ca: Fingerprint,
    secret: Secret,
    expires: u64,
}

impl JoinString {
    /// Whether its time is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.expires
    }
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = Record {
            identity: self.identity.clone(),
            addresses: self.addresses.clone(),
            ca: self.ca,
            secret: self.secret.clone(),
            expires: self.expires.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        };
        let mut bytes = postcard::to_stdvec(&record).map_err(|_| fmt::Error)?;
        let sum = Fingerprint::of(&bytes);
        bytes.extend_from_slice(&sum.0[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for JoinString {
    type Err = JoinStringError;

    fn from_str(text: &str) -> Result<Self, JoinStringError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(JoinStringError::Prefix)?;
        if text.len() > MAX_JOIN_STRING_BYTES {
            return Err(JoinStringError::Damaged);
        }
        let bytes =
            BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| JoinStringError::Damaged)?;
        let (record, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(JoinStringError::Damaged)?;
        if Fingerprint::of(record).0[..CHECKSUM_BYTES] != sum[..] {
            return Err(JoinStringError::Damaged);
        }
        let (record, rest) = postcard::take_from_bytes::<Record>(record)
            .map_err(|e| JoinStringError::Content(e.to_string()))?;
        if !rest.is_empty() {
            return Err(JoinStringError::Content("bytes after its end".into()));
        }
        check_addresses(&record.addresses).map_err(JoinStringError::Content)?;
        if record.expires > LAST_UNIX_SECOND {
            return Err(JoinStringError::Content("it ends after the year 9999".into()));
        }
        Ok(Self {
            identity: record.identity,
            addresses: record.addresses,
            ca: record.ca,
            secret: record.secret,
            expires: UNIX_EPOCH + Duration::from_secs(record.expires),
        })
    }
}

/// `host:port`, a few of them, each of a sane length.
pub(crate) fn check_addresses(addresses: &[String]) -> Result<(), String> {
    if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
        return Err(format!("1 to {MAX_ADDRESSES} addresses are needed, not {}", addresses.len()));
    }
    for address in addresses {
        let well_formed = address.len() <= MAX_ADDRESS_BYTES
            && address.chars().all(|c| c.is_ascii_graphic())
            && address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0)
            });
        if !well_formed {
            let shown: String = address.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(format!("`{shown}` is not an address; use HOST:PORT"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use tierce_tests::fuzz;

    fn sample() -> JoinString {
        JoinString {
            identity: Identity::new("acme", Role::Site, "berlin").unwrap(),
            addresses: vec!["arb.example.net:7400".into(), "[2001:db8::1]:7400".into()],
            ca: Fingerprint([7; 32]),
            secret: Secret([9; 32]),
            expires: UNIX_EPOCH + Duration::from_hours(500_000),
        }
    }

    #[test]
    fn a_join_string_survives_its_text_and_hides_its_secret() {
        let join = sample();
        let text = join.to_string();
        assert!(text.starts_with("tierce1-"));
        assert_eq!(format!("  {text}\n").parse::<JoinString>().unwrap(), join);
        assert!(!format!("{join:?}").contains('9'), "Debug shows the secret");
    }

    #[test]
    fn a_string_cut_anywhere_is_called_damaged() {
        let text = sample().to_string();
        for end in PREFIX.len()..text.len() {
            assert_eq!(text[..end].parse::<JoinString>(), Err(JoinStringError::Damaged), "{end}");
        }
        assert_eq!("hello".parse::<JoinString>(), Err(JoinStringError::Prefix));
    }

    #[test]
    fn a_good_checksum_does_not_make_bad_content_good() {
        let mut join = sample();
        join.addresses = vec!["no-port".into()];
        assert!(matches!(join.to_string().parse::<JoinString>(), Err(JoinStringError::Content(_))));
        join.addresses = vec!["a:1".into(); MAX_ADDRESSES + 1];
        assert!(join.to_string().parse::<JoinString>().is_err());
    }

    /// What is under the checksum of a text, damaged, and the text itself.
    #[test]
    fn any_text_is_a_join_string_or_an_error() {
        let text = sample().to_string();
        let whole = BASE64URL_NOPAD.decode(&text.as_bytes()[PREFIX.len()..]).unwrap();
        let records = vec![whole[..whole.len() - CHECKSUM_BYTES].to_vec()];
        let texts = vec![text.into_bytes()];
        bolero::check!().for_each(|bytes: &[u8]| {
            for mut record in fuzz::inputs(&records, bytes) {
                let sum = Fingerprint::of(&record);
                record.extend_from_slice(&sum.0[..CHECKSUM_BYTES]);
                read(&format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&record)));
            }
            for text in fuzz::inputs(&texts, bytes) {
                read(&String::from_utf8_lossy(&text));
            }
        });
    }

    fn read(text: &str) {
        if let Ok(join) = text.parse::<JoinString>() {
            assert!(!join.addresses.is_empty() && join.addresses.len() <= MAX_ADDRESSES);
            assert_eq!(join.to_string().parse::<JoinString>(), Ok(join));
        }
    }
}
