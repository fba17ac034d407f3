//! What the platform does with connections, with the time in the test's hands.

#[path = "../../examples/platform/connections.rs"]
mod platform;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::within;

const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// For which all time has passed as soon as anybody waits for it.
#[derive(Clone)]
struct Impatient;

/// For which none does.
#[derive(Clone)]
struct Patient;

struct Over;

struct Never;

impl Timer for Impatient {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Over)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Over)
    }
}

impl Timer for Patient {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Never)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Never)
    }
}

impl Sleep for Over {}

impl Sleep for Never {}

impl Future for Over {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

struct Served {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(app: Router, timer: impl Timer + Clone + Send + Sync + 'static) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(platform::serve(listener, app, timer, stop.clone()));
    Served {
        address,
        stop,
        task,
    }
}

/// All that comes until the connection is closed.
async fn read(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // One that is reset is closed, too.
    within(stream.read_to_end(&mut said)).await.ok();
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_connection_that_does_not_ask_in_time_is_closed() {
    let served = serve(Router::new(), Impatient).await;
    for start in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let said = read(&mut stream).await;
        assert!(!said.contains(" 200 ") && !said.contains(" 404 "), "{said}");
    }
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_it_stops() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (go_on, may_go_on) = mpsc::unbounded_channel::<()>();
    let may_go_on = std::sync::Arc::new(tokio::sync::Mutex::new(may_go_on));
    let slow = async move || {
        asked.send(()).unwrap();
        may_go_on.lock().await.recv().await;
        "done"
    };
    let served = serve(Router::new().route("/", get(slow)), Patient).await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let mut busy = TcpStream::connect(served.address).await.unwrap();
    busy.write_all(WHOLE).await.unwrap();
    was_asked.recv().await.unwrap();
    served.stop.cancel();
    assert_eq!(read(&mut idle).await, "");
    assert!(!served.task.is_finished());
    go_on.send(()).unwrap();
    assert!(read(&mut busy).await.ends_with("done"));
    within(served.task).await.unwrap();
}
