//! The standalone service made of the library: the HTTP API and the worker in one process, set by
//! environment variables.
//!
//! `DATABASE_URL=memory: cargo run --release --example platform`; `--help` lists every variable.
//!
//! - `settings.rs`: the variables; `value.rs`: what their texts mean.
//! - `serve.rs`: the engine, the server, and the way down.
//! - `logging.rs`: what is logged, and how.

mod logging;
mod serve;
mod settings;
mod value;

use std::process::ExitCode;

use settings::{Asked, Settings};

fn main() -> ExitCode {
    let done = match Settings::read() {
        Ok(Asked::Help(text)) => {
            print!("{text}");
            Ok(())
        }
        Ok(Asked::Migrate) => {
            println!("memory: there is nothing to migrate");
            Ok(())
        }
        Ok(Asked::Serve(settings)) => serve::run(settings),
        Err(wrong) => Err(wrong.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("platform: {error}");
            ExitCode::FAILURE
        }
    }
}
