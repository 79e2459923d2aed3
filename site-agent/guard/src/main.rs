//! The binary of `tierce-guard`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierce_guard::main_with_args(std::env::args_os().skip(1))
}
