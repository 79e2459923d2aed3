//! What goes over the wire between members ([`codec`]), and over the control socket between a
//! daemon and its local clients ([`control`]).
#![forbid(unsafe_code)]

pub mod codec;
pub mod control;
mod v1;

pub use codec::{ALPN_V1, ALPN_V2, Decoded, MAX_MESSAGE_BYTES, Version, WireError, decode, encode};
