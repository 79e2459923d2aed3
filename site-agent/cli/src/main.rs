//! The binary of `tierce`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierce::run(std::env::args_os())
}
