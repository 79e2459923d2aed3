//! Who a member is: tenant, role and name, as they stand in its certificate.
//!
//! An identity is written once, as a URI in the certificate (`tierce://TENANT/site/NAME`), and is
//! believed only after the chain to that tenant's own authority has been verified. Names are narrow
//! on purpose: they become part of DNS names, file names, metric labels and log lines, and a name
//! that needs no escaping anywhere cannot be escaped wrongly.
//!
//! Invariant: a [`Tenant`] or [`Name`] that exists is valid; there is no other way to make one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest label, in bytes: `[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?`.
pub const MAX_LABEL_BYTES: usize = 32;

const SCHEME: &str = "tierce://";
const SNI_SUFFIX: &str = ".tierce.internal";

/// Why a text is not an identity, a tenant or a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The label breaks the rule for names.
    #[error(
        "`{0}` is not a valid name; use 1 to 32 of a-z, 0-9 and `-`, \
         beginning and ending with a letter or digit"
    )]
    Label(String),
    /// The role is neither `site` nor `arbitrator`.
    #[error("`{0}` is not a role; use `site` or `arbitrator`")]
    Role(String),
    /// The URI does not have the form `tierce://TENANT/ROLE/NAME`.
    #[error("`{0}` is not an identity; expected tierce://TENANT/site|arbitrator/NAME")]
    Uri(String),
}

fn valid_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            bytes.len() <= MAX_LABEL_BYTES
                && plain(first)
                && plain(last)
                && bytes.iter().all(|&b| plain(b) || b == b'-')
        }
        _ => false,
    }
}

/// Shortens hostile text before it goes into an error message.
fn quoted(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Validates the text and makes the label.
            pub fn new(text: &str) -> Result<Self, IdentityError> {
                if valid_label(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(IdentityError::Label(quoted(text)))
                }
            }

            /// The label as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdentityError;
            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdentityError;
            fn try_from(text: String) -> Result<Self, IdentityError> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(label: $type) -> Self {
                label.0.as_ref().to_owned()
            }
        }
    };
}

label! {
    /// One customer of an arbitrator: a set of members under one certificate authority.
    Tenant
}
label! {
    /// The name of one member within its tenant; unique there, whatever the role.
    Name
}

impl Tenant {
    /// The name that a client asks for in TLS, by which a shared socket picks the certificate.
    pub fn sni(&self) -> String {
        format!("{}{SNI_SUFFIX}", self.0)
    }

    /// Reads a tenant back from the name that a client asked for.
    pub fn from_sni(server_name: &str) -> Option<Self> {
        Self::new(server_name.strip_suffix(SNI_SUFFIX)?).ok()
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May hold tickets; votes.
    Site,
    /// Votes only.
    Arbitrator,
}

impl Role {
    /// The word that stands for the role in the identity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Arbitrator => "arbitrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text {
            "site" => Ok(Self::Site),
            "arbitrator" => Ok(Self::Arbitrator),
            other => Err(IdentityError::Role(quoted(other))),
        }
    }
}

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The tenant that the member belongs to.
    pub tenant: Tenant,
    /// What it may do.
    pub role: Role,
    /// Its name within the tenant.
    pub name: Name,
}

impl Identity {
    /// Validates the parts and makes the identity.
    pub fn new(tenant: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        Ok(Self { tenant: Tenant::new(tenant)?, role, name: Name::new(name)? })
    }

    /// The identity as it stands in the certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.tenant, self.role, self.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Uri(quoted(uri));
        let mut parts = uri.strip_prefix(SCHEME).ok_or_else(bad)?.split('/');
        let (Some(tenant), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        Self::new(tenant, role.parse()?, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_narrow() {
        let longest = "a".repeat(32);
        for good in ["a", "0", "ab", "a-b", "berlin-1", longest.as_str()] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(33);
        for bad in ["", "-", "a-", "-a", "A", "a.b", "a/b", "ä", "a b", "a\0", too_long.as_str()] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_survives_its_uri_and_nothing_else_passes() {
        let id = Identity::new("acme", Role::Site, "berlin").unwrap();
        assert_eq!(id.uri(), "tierce://acme/site/berlin");
        assert_eq!(id.uri().parse::<Identity>().unwrap(), id);
        for bad in [
            "tierce://acme/site/berlin/",
            "tierce://acme/site",
            "tierce:///site/berlin",
            "tierce://acme/Site/berlin",
            "spiffe://acme/site/berlin",
            "tierce://acme/root/berlin",
            "",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_name_names_the_tenant_only_in_its_exact_form() {
        let tenant = Tenant::new("acme").unwrap();
        assert_eq!(Tenant::from_sni(&tenant.sni()), Some(tenant));
        for bad in ["acme", "acme.tierce.internal.", "x.acme.tierce.internal", ".tierce.internal"] {
            assert_eq!(Tenant::from_sni(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in ".{0,80}") {
            if let Ok(id) = text.parse::<Identity>() {
                prop_assert_eq!(id.uri(), text);
            }
        }
    }
}
