//! Types of attribute values: XML Schema's simple types, lists of words, and all but some words.

/// What the value of an attribute must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A name that no other element has: letters, digits, `_`, `-`, `.`, not beginning with a digit.
    Id,
    /// A name of the same shape.
    IdRef,
    Count,
    Integer,
    Positive,
    Boolean,
    Score,
    /// Digits and hyphens.
    PortRange,
    /// Names of fencing devices between commas.
    Devices,
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
}

impl Kind {
    /// The type of a built-in name.
    pub(super) fn built_in(name: &str) -> Option<Kind> {
        Some(match name {
            "text" => Kind::Text,
            "id" => Kind::Id,
            "idref" => Kind::IdRef,
            "count" => Kind::Count,
            "integer" => Kind::Integer,
            "positive" => Kind::Positive,
            "boolean" => Kind::Boolean,
            "score" => Kind::Score,
            "port-range" => Kind::PortRange,
            "devices" => Kind::Devices,
            _ => return None,
        })
    }

    /// Whether a value is of the type.
    pub(super) fn allows(&self, value: &str) -> bool {
        // Of a typed value, blanks at both ends do not count.
        let trimmed = value.trim_matches([' ', '\t', '\n', '\r']);
        match self {
            Kind::Text => true,
            Kind::Id | Kind::IdRef => is_ncname(trimmed),
            Kind::Count => integer(trimmed).is_some_and(|(negative, zero)| !negative || zero),
            Kind::Integer => integer(trimmed).is_some(),
            Kind::Positive => integer(trimmed).is_some_and(|(negative, zero)| !negative && !zero),
            Kind::Boolean => matches!(trimmed, "true" | "false" | "1" | "0"),
            Kind::Score => {
                matches!(trimmed, "INFINITY" | "+INFINITY" | "-INFINITY")
                    || integer(trimmed).is_some()
            }
            Kind::PortRange => {
                !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit() || b == b'-')
            }
            Kind::Devices => value.split(',').all(|device| {
                let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
                !device.is_empty() && device.bytes().all(name)
            }),
            Kind::OneOf(words) => words.iter().any(|word| word == trimmed),
            Kind::NoneOf(words) => !words.iter().any(|word| word == value),
        }
    }

    /// What an operator reads about the type.
    pub(super) fn describe(&self) -> String {
        match self {
            Kind::Text => "any text".to_owned(),
            Kind::Id | Kind::IdRef => {
                "a name (letters, digits, '_', '-' and '.', not beginning with a digit, '-' or '.')"
                    .to_owned()
            }
            Kind::Count => "a whole number from 0".to_owned(),
            Kind::Integer => "a whole number".to_owned(),
            Kind::Positive => "a whole number from 1".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Score => "a whole number, INFINITY or -INFINITY".to_owned(),
            Kind::PortRange => "ports as 80-90".to_owned(),
            Kind::Devices => "names of devices between commas".to_owned(),
            Kind::OneOf(words) => words.join(", "),
            Kind::NoneOf(words) => {
                format!("none of the names that are no longer used ({})", words.join(", "))
            }
        }
    }
}

/// Whether a number is negative and whether it is zero; nothing if it is none.
fn integer(text: &str) -> Option<(bool, bool)> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| (text.starts_with('-'), digits.bytes().all(|byte| byte == b'0')))
}

/// A name without colon.
pub(super) fn is_ncname(text: &str) -> bool {
    crate::xml::is_name(text) && !text.contains(':')
}
