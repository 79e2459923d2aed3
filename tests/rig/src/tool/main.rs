//! The rig's own program on its machines: first process of a machine, and witness.
//!
//! `tierce-rig-tool init` is the first process of a machine. Under any other name than its own it is
//! the witness: an OCF resource agent (`start`, `stop`, `monitor`, ...) and the service that it
//! starts, see `witness.rs`.

mod init;
mod witness;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let own = words.next().unwrap_or_default();
    let action = words.next().unwrap_or_default();
    if own.ends_with("tierce-rig-tool") && action == "init" {
        return init::run();
    }
    witness::run(&action)
}
