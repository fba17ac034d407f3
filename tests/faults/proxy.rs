//! A TCP proxy in our hands, between nodes and a server.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
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
    open: Vec<Arc<Link>>,
    /// How many times something waited for the end of a stall.
    held: u64,
    unanswered: u64,
    given_up: u64,
}

/// A connection: its two ends.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// Nothing comes through any more, and neither end hears of that.
    is_dead: AtomicBool,
    /// Its client has asked something since, and waits for the answer.
    is_unanswered: AtomicBool,
}

/// What it does with what it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forwards it.
    #[default]
    Pass,
    /// Keeps it: connections stay open, and nothing comes through before it passes again.
    Stall,
    /// Takes no connection.
    Refuse,
    /// Loses it: connections stay open, and nothing will ever come through.
    Lose,
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
        let mut state = self.wire.lock();
        state.mode = mode;
        if mode == Mode::Lose {
            for link in std::mem::take(&mut state.open) {
                link.is_dead.store(true, Ordering::Relaxed);
            }
        }
        drop(state);
        self.wire.changed.notify_all();
    }

    /// Closes what is open, and says how many connections that were.
    pub(crate) fn cut(&self) -> u64 {
        let open = std::mem::take(&mut self.wire.lock().open);
        open.iter().filter(|link| link.close()).count() as u64
    }

    /// How many times something was held back in a stall.
    pub(crate) fn held(&self) -> u64 {
        self.wire.lock().held
    }

    /// The connections that died without a word, and on which something was asked since; and those of them that
    /// their clients have closed. (One that only listens could hear of it from the operating system alone, which
    /// asks ours, and that answers.)
    pub(crate) fn unanswered_and_given_up(&self) -> (u64, u64) {
        let state = self.wire.lock();
        (state.unanswered, state.given_up)
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
        let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
        let link = Arc::new(Link {
            client,
            server,
            is_dead: AtomicBool::new(false),
            is_unanswered: AtomicBool::new(false),
        });
        let mut state = self.lock();
        match state.mode {
            Mode::Lose => link.is_dead.store(true, Ordering::Relaxed),
            _ => state.open.push(Arc::clone(&link)),
        }
        drop(state);
        let (wire, other) = (Arc::clone(self), Arc::clone(&link));
        thread::spawn(move || wire.carry_requests(from_client, &other));
        let wire = Arc::clone(self);
        thread::spawn(move || wire.carry_answers(from_server, &link));
        Ok(())
    }

    fn carry_requests(&self, from: TcpStream, link: &Link) {
        self.pump(from, &link.server, link, |link| {
            let is_first = !link.is_unanswered.swap(true, Ordering::Relaxed);
            self.lock().unanswered += u64::from(is_first);
        });
        self.lock().given_up += u64::from(link.is_unanswered.load(Ordering::Relaxed));
        link.close();
    }

    fn carry_answers(&self, from: TcpStream, link: &Link) {
        self.pump(from, &link.client, link, |_| {});
        // The client of a dead connection does not hear that the server has closed it.
        if !link.is_dead.load(Ordering::Relaxed) {
            link.close();
        }
    }

    /// Until the sender closes it. What a dead connection gets is `lost`.
    fn pump(&self, mut from: TcpStream, mut to: &TcpStream, link: &Link, lost: impl Fn(&Link)) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.wait_while_stalled();
            if link.is_dead.load(Ordering::Relaxed) {
                lost(link);
            } else if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    }

    fn wait_while_stalled(&self) {
        let mut state = self.lock();
        state.held += u64::from(state.mode == Mode::Stall);
        let stalled = |state: &mut State| state.mode == Mode::Stall;
        let waited = self.changed.wait_while(state, stalled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Link {
    /// Whether it was open.
    fn close(&self) -> bool {
        let [client, server] = [&self.client, &self.server].map(|end| end.shutdown(Shutdown::Both));
        client.is_ok() && server.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy to a server that sends back what it gets.
    fn proxied() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &client, &mut &client));
            }
        });
        Proxy::start(port).unwrap()
    }

    fn echo(mut client: &TcpStream) -> [u8; 2] {
        client.write_all(b"hi").unwrap();
        let mut answer = [0; 2];
        client.read_exact(&mut answer).unwrap();
        answer
    }

    /// Looks until `reached`; the proxy's threads get there.
    fn wait_for(reached: impl Fn() -> bool) {
        while !reached() {
            thread::yield_now();
        }
    }

    #[test]
    fn what_a_stall_held_back_comes_through_in_the_end() {
        let proxy = proxied();
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        assert_eq!((echo(&client), proxy.held()), (*b"hi", 0));
        proxy.set(Mode::Stall);
        (&client).write_all(b"on").unwrap();
        wait_for(|| proxy.held() == 1);
        proxy.set(Mode::Pass);
        let mut answer = [0; 2];
        (&client).read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"on");
    }

    #[test]
    fn a_connection_that_was_lost_stays_so_until_its_client_gives_it_up() {
        let proxy = proxied();
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        let lost = connect();
        echo(&lost);
        proxy.set(Mode::Lose);
        let (late, silent) = (connect(), connect());
        for client in [&lost, &late] {
            (&*client).write_all(b"hi").unwrap();
        }
        wait_for(|| proxy.unanswered_and_given_up() == (2, 0));
        proxy.set(Mode::Pass);
        echo(&connect());
        lost.set_nonblocking(true).unwrap();
        let nothing = (&lost).read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop((lost, late));
        wait_for(|| proxy.unanswered_and_given_up() == (2, 2));
        drop(silent);
    }
}
