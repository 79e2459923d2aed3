//! Bounds on what a text may ask for.

/// The longest text that is read. The largest CIB that we measure is 72 MiB.
pub const MAX_BYTES: usize = 1 << 29;

/// The deepest nesting of elements. A CIB nests about 12 deep; libxml2 stops at 256 as well.
pub const MAX_DEPTH: usize = 256;

/// The most attributes of one element. An operation in a status has about 25. The check for
/// duplicates costs the square of it.
pub const MAX_ATTRIBUTES: usize = 1024;
