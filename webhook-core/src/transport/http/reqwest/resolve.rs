//! The guard as what the client asks for addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::network::Guard;

/// One look-up for a connection, all answers judged, and the judged addresses are the ones that are dialled.
pub(super) struct ClientResolver {
    guard: Guard,
    /// The name that leads to the host's own proxy.
    exempt: Option<Arc<str>>,
}

impl ClientResolver {
    /// Lets the client dial whatever the name `exempt` leads to. It is still vetted when it is asked for as a target.
    pub(super) fn new(guard: Guard, exempt: Option<&str>) -> Self {
        Self {
            guard,
            exempt: exempt.map(Arc::from),
        }
    }
}

impl Resolve for ClientResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, exempt) = (self.guard.clone(), self.exempt.clone());
        Box::pin(async move {
            let addresses = match exempt.as_deref() {
                Some(exempt) if exempt == name.as_str() => guard.looked_up(exempt).await?,
                _ => guard.vetted(name.as_str()).await?,
            };
            // Port 0: the client puts the URL's in.
            let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}
