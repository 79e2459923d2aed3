//! Every bound of the protocol in one place, each with the reason for its number.

use core::time::Duration;

/// Voters in all: three to seven by design; one and two only while members are being replaced.
pub const MAX_VOTERS: usize = 7;
/// Tickets of one tenant. One grant is about ten bytes, so a batch of all fits into one entry.
pub const MAX_TICKETS: usize = 16_384;
/// Operations in one batch: the death of a site with every ticket, expire and grants, in one entry.
pub const MAX_BATCH_OPS: usize = 2 * MAX_TICKETS + 64;
/// Longest member name: a DNS label with room for a prefix.
pub const MEMBER_NAME_BYTES: usize = 32;
/// Longest ticket name: booth's bound.
pub const TICKET_NAME_BYTES: usize = 63;
/// Longest attribute name and value: booth's bounds, the value doubled.
pub const ATTRIBUTE_NAME_BYTES: usize = 63;
/// Longest attribute value in bytes.
pub const ATTRIBUTE_VALUE_BYTES: usize = 255;
/// Attributes of one ticket or one site.
pub const MAX_ATTRIBUTES: usize = 64;
/// Addresses of one member.
pub const MAX_ADDRESSES: usize = 8;
/// Longest address (host name and port) in bytes.
pub const ADDRESS_BYTES: usize = 262;
/// Reasons, causes and operator notes that go into the ledger.
pub const NOTE_BYTES: usize = 255;
/// Tickets being taken back from one session, and those that were: they are named in every answer,
/// which must fit one datagram of 1,200 bytes.
pub const MAX_REVOKING: usize = 200;
/// Tickets that were taken back from one session, after which its site opens a new one.
pub const MAX_TAKEN: usize = 50;
/// Fence requests that a voter keeps waiting for its timers.
pub const MAX_PENDING_FENCES: usize = 64;
/// Client commands waiting for their outcome at one member.
pub const MAX_PENDING_COMMANDS: usize = 4_096;
/// Entries behind the applied index that are kept for followers before a snapshot replaces them.
pub const LOG_KEEP_ENTRIES: u64 = 1_024;
/// Entries applied since the last snapshot that make the next one due.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 4_096;
/// Entries in one append message.
pub const MAX_APPEND_ENTRIES: usize = 64;
/// Append messages on their way to one follower.
pub const MAX_INFLIGHT_APPENDS: usize = 16;
/// Bytes of one snapshot part.
pub const SNAPSHOT_PART_BYTES: usize = 256 * 1024;
/// Bytes of a whole snapshot: 16,384 tickets with attributes stay well below.
pub const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// How long a command rests after a refusal by one that does not lead (yet): a leader is in charge
/// some round trips and one write after its election.
pub const COMMAND_AGAIN: Duration = Duration::from_millis(20);
/// How long a command waits for its outcome before it is reported as unknown.
pub const COMMAND_WAIT: Duration = Duration::from_secs(10);
/// Renewals whose answers are still awaited, per voter.
pub const MAX_OPEN_RENEWALS: usize = 32;
/// Decisions kept in the docket for `history` when no index is at hand, per ticket.
pub const HISTORY_PER_TICKET: usize = 8;
/// Tickets that an alarm about many of them names; the history has all.
pub const TICKETS_NAMED_IN_ALARMS: usize = 8;
