//! The standalone service made of the library: the HTTP API and the worker in one process, set by
//! environment variables.
//!
//! `cargo run --release --example platform` keeps events in `./webhook.db`. For Postgres and Redis, build it
//! with `--features postgres,redis`. `--help` lists every variable.
//!
//! - `settings.rs`: the variables; `value.rs`: what their texts mean.
//! - `encryption.rs`: the keys that seal secrets.
//! - `store.rs`: the engine, on the store that was asked for.
//! - `serve.rs`: the server, and the way down; `connections.rs`: what it accepts; `host.rs`: whom it answers without a token; `health.rs`: whether it does.
//! - `logging.rs`: what is logged, and how; `traces.rs`: where traces go.

mod connections;
mod encryption;
mod health;
mod host;
mod logging;
mod serve;
mod settings;
mod store;
mod traces;
mod value;

use std::process::ExitCode;

use settings::{Asked, Settings};

fn main() -> ExitCode {
    let done = match Settings::read() {
        Ok(Asked::Help(text)) => {
            print!("{text}");
            Ok(())
        }
        Ok(Asked::Health(address)) => health::ask(address),
        Ok(Asked::Migrate(database)) => serve::migrate(&database),
        Ok(Asked::Rekey(settings)) => serve::rekey(&settings),
        Ok(Asked::Serve(settings)) => serve::run(*settings),
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
