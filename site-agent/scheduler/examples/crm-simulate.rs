//! `crm_simulate` alone, without the rest of the product: for working on the scheduler. Local time is UTC.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use tierce_cib::time::Moment;
use tierce_scheduler::simulate::{self, Request, Usage};

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(Usage::Help) => {
            println!("{}", Usage::Help);
            return ExitCode::SUCCESS;
        }
        Err(usage) => {
            eprintln!("error: {usage}");
            return ExitCode::from(64);
        }
    };
    match work(&request) {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(1)
        }
    }
}

fn work(request: &Request) -> Result<bool, String> {
    let input = request.input.as_deref().unwrap_or("-");
    let mut text = String::new();
    if input == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string())?;
    } else {
        text = std::fs::read_to_string(input).map_err(|e| format!("{input}: {e}"))?;
    }
    let seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
    let clock = Moment::from_epoch(seconds, 0).ok_or("the clock is out of range")?;
    let outcome = simulate::run(text, request, clock).map_err(|e| e.to_string())?;
    let write = |path: &Option<String>, text: &str| match path {
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{path}: {e}")),
        None => Ok(()),
    };
    write(&request.graph_file, &outcome.graph)?;
    write(&request.dot_file, &outcome.dot)?;
    write(&request.input_file, &outcome.input)?;
    write(&request.output_file, &outcome.output)?;
    if request.in_place {
        std::fs::write(input, &outcome.output).map_err(|e| format!("{input}: {e}"))?;
    }
    print!("{}", outcome.text);
    Ok(outcome.failed)
}
