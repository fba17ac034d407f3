//! Receivers that misbehave, on threads of their own: the runtime under test has no part in them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::url::EndpointUrl;

/// How a request that these receivers get ends: its body is `ping`.
const END: &[u8] = b"\r\n\r\nping";
/// Between two writes of a slow receiver.
const PACE: Duration = Duration::from_millis(5);

/// A receiver that does as `answer` says on each connection, and then closes it.
pub(super) fn receiver(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> EndpointUrl {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || answer(&mut stream));
        }
    });
    format!("http://{address}/in?token=s3cret")
        .parse()
        .expect("a URL")
}

/// Reads the whole request, or what there is of it.
pub(super) fn read_request(stream: &mut TcpStream) {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.ends_with(END) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => received.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Sends `head`, and `again` for as long as somebody takes it. Returns how many bytes of that were taken.
pub(super) fn pour(stream: &mut TcpStream, head: &str, again: &[u8]) -> usize {
    let (mut taken, mut alive) = (0, stream.write_all(head.as_bytes()).is_ok());
    while alive {
        alive = stream.write_all(again).is_ok();
        taken += again.len();
    }
    taken
}

/// Sends `head`, and then `again` from time to time until the other side has had enough.
pub(super) fn drip(stream: &mut TcpStream, head: &str, again: &[u8]) {
    let mut alive = stream.write_all(head.as_bytes()).is_ok();
    alive &= stream.set_read_timeout(Some(PACE)).is_ok();
    while alive {
        let ended = match stream.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        alive = !ended && stream.write_all(again).is_ok();
    }
}

/// Says nothing until the other side has had enough.
pub(super) fn wait_for_the_end(stream: &mut TcpStream) {
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
}

/// Sends `head` and resets the connection: that is how one ends on which something was not read.
pub(super) fn reset(stream: &mut TcpStream, head: &str) {
    stream.peek(&mut [0]).ok();
    stream.write_all(head.as_bytes()).ok();
}
