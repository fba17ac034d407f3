//! The last look before anything is sent: who is at the other end of a new connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Extensions;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::network::NetworkPolicy;

/// A layer of the client's connector that gives out no connection to a peer the policy forbids.
///
/// Whom the client dials was judged before. This would catch one that dials something else.
#[derive(Clone)]
pub(super) struct PeerCheck(Arc<NetworkPolicy>);

impl PeerCheck {
    pub(super) fn new(policy: Arc<NetworkPolicy>) -> Self {
        Self(policy)
    }

    fn check(&self, connection: &impl Connection) -> Result<(), BoxError> {
        let mut known = Extensions::new();
        connection.connected().get_extras(&mut known);
        // A peer that has reset the connection by now has no address any more.
        let peer = known
            .get::<HttpInfo>()
            .ok_or(io::ErrorKind::NotConnected)
            .map_err(io::Error::from)?;
        Ok(self.0.check_address(peer.remote_addr().ip())?)
    }
}

impl<S> Layer<S> for PeerCheck {
    type Service = Checked<S>;

    fn layer(&self, connector: S) -> Checked<S> {
        Checked {
            connector,
            peers: self.clone(),
        }
    }
}

/// A connector whose connections have been checked.
#[derive(Clone)]
pub(super) struct Checked<S> {
    connector: S,
    peers: PeerCheck,
}

impl<S, T> Service<T> for Checked<S>
where
    S: Service<T, Error = BoxError>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> Self::Future {
        let (connecting, peers) = (self.connector.call(target), self.peers.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            peers.check(&connection)?;
            Ok(connection)
        })
    }
}
