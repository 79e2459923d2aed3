//! Why a text is not read.

/// A text that is not read, and where it went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct ParseError {
    /// Line of the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The text is longer than we read.
    #[error("the text is {0} bytes long, more than the {max} that are read", max = super::limits::MAX_BYTES)]
    TooLong(usize),
    /// Elements are nested too deep.
    #[error("elements are nested more than {max} deep", max = super::limits::MAX_DEPTH)]
    TooDeep,
    /// One element has too many attributes.
    #[error("<{0}> has more than {max} attributes", max = super::limits::MAX_ATTRIBUTES)]
    TooManyAttributes(String),
    /// A document type declaration.
    #[error("a DOCTYPE is not allowed: remove it (entities are not followed in a CIB)")]
    Doctype,
    /// An entity that is not one of XML's own.
    #[error("unknown entity &{0}; (only lt, gt, amp, quot, apos and character numbers are known)")]
    UnknownEntity(String),
    /// An ampersand that begins no reference.
    #[error("'&' begins no reference: write &amp;")]
    BareAmpersand,
    /// A character reference to what is no character.
    #[error("&#{0}; is no character of XML")]
    BadCharacterReference(String),
    /// A character that may not stand in XML.
    #[error("character U+{0:04X} may not stand in XML: remove it")]
    BadCharacter(u32),
    /// An encoding that is not read.
    #[error("encoding {0} is not read: convert the file to UTF-8 (iconv -t UTF-8)")]
    Encoding(String),
    /// The text ends before the document.
    #[error("the text ends inside {0}: it may have been cut off")]
    Ended(String),
    /// Something else stands where this was expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// An attribute is given twice.
    #[error("attribute {0} is given twice: remove one")]
    DuplicateAttribute(String),
    /// An end tag for another element.
    #[error("</{found}> where </{open}> is needed (it was opened on line {line})")]
    WrongEndTag {
        /// The element that is open.
        open: String,
        /// Where it was opened.
        line: u32,
        /// The name in the end tag.
        found: String,
    },
    /// Something after the root element.
    #[error("only comments may stand outside of the root element")]
    OutsideRoot,
    /// No element at all.
    #[error("there is no element in the text")]
    Empty,
}
