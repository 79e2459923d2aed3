//! The binary of `tierce-arbitrator`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierce_arbitrator::run(std::env::args_os())
}
