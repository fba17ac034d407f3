//! A TCP proxy in our hands, between nodes and a server.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Result;

/// Forwards to a port of this machine, as long as it is let.
pub(crate) struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mode: Mode,
    /// Both ends of each connection.
    open: Vec<[TcpStream; 2]>,
}

/// What it does with what it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forwards it.
    #[default]
    Pass,
    /// Keeps it: connections stay open, and nothing comes through.
    Stall,
    /// Takes no connection.
    Refuse,
}

impl Proxy {
    pub(crate) fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let wire = Arc::new(Wire::default());
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that fails is one that was cut.
                let _ = accepting.connect(client, target);
            }
        });
        Ok(Self { port, wire })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.wire.lock().mode = mode;
        self.wire.changed.notify_all();
    }

    /// Closes what is open, and says how many connections that were.
    pub(crate) fn cut(&self) -> u64 {
        let open = std::mem::take(&mut self.wire.lock().open);
        let is_cut = |ends: &[TcpStream; 2]| {
            let [client, server] = ends.each_ref().map(|end| end.shutdown(Shutdown::Both));
            client.is_ok() && server.is_ok()
        };
        open.iter().filter(|ends| is_cut(ends)).count() as u64
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream, target: u16) -> io::Result<()> {
        if self.lock().mode == Mode::Refuse {
            return Ok(());
        }
        let server = TcpStream::connect(("127.0.0.1", target))?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
        }
        let ends = [client.try_clone()?, server.try_clone()?];
        self.lock().open.push(ends);
        self.pump(client.try_clone()?, server.try_clone()?);
        self.pump(server, client);
        Ok(())
    }

    fn pump(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream) {
        let wire = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                wire.wait_while_stalled();
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn wait_while_stalled(&self) {
        let stalled = |state: &mut State| state.mode == Mode::Stall;
        let waited = self.changed.wait_while(self.lock(), stalled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
