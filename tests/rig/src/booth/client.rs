//! The client's protocol of booth, without authentication: one TCP connection per request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::clock::Mono;
use crate::error::{Result, RigError};
use crate::net::Namespace;

pub(super) const MAGIC: u32 = 0x5F1B_A08C;
pub(super) const VERSION: u32 = 0x0001_0003;
pub(super) const HEADER: usize = 48;
pub(super) const NAME: usize = 64;
pub(super) const BODY: usize = NAME + 12;
/// Longest answer: a list of a thousand tickets is below 200 kB.
const MAX_ANSWER: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_mins(1);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Grant a ticket to the site asked.
    Grant,
    /// Revoke it there.
    Revoke,
    /// List all tickets.
    List,
}

impl Op {
    fn word(self) -> [u8; 4] {
        match self {
            Op::Grant => *b"CGnt",
            Op::Revoke => *b"CRvk",
            Op::List => *b"CLst",
        }
    }
}

/// The final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came.
    pub at: Mono,
    /// "ok", or booth's four letters.
    pub result: String,
    /// Of a list: what it says.
    pub text: String,
}

/// A request that was sent. The connection ends when it is dropped.
#[derive(Debug)]
pub struct Asked {
    stream: TcpStream,
    op: Op,
    to: Ipv4Addr,
}

impl Asked {
    pub(super) fn new(
        space: &Namespace,
        to: (Ipv4Addr, u16),
        op: Op,
        ticket: &str,
    ) -> Result<Self> {
        let what = || RigError::system(format!("asking boothd at {}", to.0));
        let mut stream = space.with(|| TcpStream::connect(to))?.map_err(what())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(what())?;
        stream.write_all(&packet(op, ticket)).map_err(what())?;
        Ok(Self { stream, op, to: to.0 })
    }

    /// The next answer, final or not.
    pub fn next_answer(&mut self) -> Result<Answer> {
        let what = RigError::system(format!("asking boothd at {}", self.to));
        let answer = read(&mut self.stream).map_err(what)?;
        let at = Mono::now();
        let word: [u8; 4] = answer[HEADER - 4..HEADER].try_into().unwrap_or_default();
        let result = match word {
            [0, 0, 0, 0] => "ok".to_owned(),
            letters => String::from_utf8_lossy(&letters).into_owned(),
        };
        let text = match self.op {
            Op::List => String::from_utf8_lossy(&answer[HEADER..]).into_owned(),
            Op::Grant | Op::Revoke => String::new(),
        };
        Ok(Answer { at, result, text })
    }
}

pub(super) fn request(
    space: &Namespace,
    to: (Ipv4Addr, u16),
    op: Op,
    ticket: &str,
) -> Result<Answer> {
    let mut asked = Asked::new(space, to, op, ticket)?;
    loop {
        let answer = asked.next_answer()?;
        // "More" and "Pending" are followed by the final answer.
        if op == Op::List || !matches!(&*answer.result, "More" | "Pend") {
            return Ok(answer);
        }
    }
}

fn packet(op: Op, ticket: &str) -> Vec<u8> {
    let length = (HEADER + BODY) as u32;
    let command = u32::from_be_bytes(op.word());
    let header = [0, 0, 0, MAGIC, VERSION, 1, length, command, 0, 0, 0, 0];
    let mut bytes: Vec<u8> = header.iter().flat_map(|n: &u32| n.to_be_bytes()).collect();
    let mut body = [0; BODY];
    for (to, from) in body.iter_mut().zip(ticket.bytes().take(NAME - 1)) {
        *to = from;
    }
    bytes.extend_from_slice(&body);
    bytes
}

fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes(bytes[24..28].try_into().unwrap_or_default()) as usize;
    if !(HEADER..=MAX_ANSWER).contains(&length) {
        return Err(std::io::Error::other(format!("an answer of {length} bytes")));
    }
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[HEADER..])?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_words_where_booth_looks_for_them() {
        let bytes = packet(Op::Grant, "t1");
        assert_eq!(bytes.len(), 124);
        assert_eq!(&bytes[12..16], &[0x5f, 0x1b, 0xa0, 0x8c]);
        assert_eq!((&bytes[28..32], bytes[27]), (&b"CGnt"[..], 124));
        assert_eq!(&bytes[48..51], b"t1\0");
    }
}
