//! The engine as a standalone service: the HTTP API and the worker in one process, configured by environment variables.
//!
//! `cargo run --release --example platform` keeps events in `./webhook.db`. For Postgres and Redis, build it
//! with `--features postgres,redis`. `--help` lists every variable.
//!
//! - `settings.rs` has the variables, and `value.rs` parses their values.
//! - `encryption.rs` finds or makes the keys that seal secrets.
//! - `store.rs` builds the engine on the store that the settings name.
//! - `serve.rs` runs and stops the server. `connections.rs` accepts connections. `host.rs` says which hosts are answered without
//!   a token. `health.rs` asks a running platform whether it is alive.
//! - `logging.rs` writes the log, and `traces.rs` sends traces.

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
