//! Connections, and how long they may keep a place without asking for anything.

use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
use std::time::Duration;

use axum::Router;
use hyper::rt::Timer;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a request's head may take, and a connection may rest between two requests. Longer than the minute for which
/// balancers keep one to use it again: a request that crosses its end is lost.
const HEAD: Duration = Duration::from_secs(75);
/// The pause after nothing could be accepted: most often there are no file descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until it is stopped, and then what is under way. The timer tells when a head has taken too long.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    timer: impl Timer + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let mut server = http1::Builder::new();
                server.timer(timer.clone()).header_read_timeout(HEAD);
                connections.spawn(answer(server, stream, app.clone(), stop.clone()));
            }
            // It was given up before it was taken.
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection. One that breaks, or is too slow, is the client's affair.
async fn answer(server: http1::Builder, stream: TcpStream, app: Router, stop: CancellationToken) {
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.ok();
}
