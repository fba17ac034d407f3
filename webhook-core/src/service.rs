//! `tower` both ways: a service as a transport, and a transport as a service.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use crate::error::BoxError;
use crate::transport::{Transport, TransportError, TransportErrorKind};

/// A [`Service`] as a [`Transport`].
///
/// Errors that are a [`TransportError`], or have one among their sources, keep its kind through any
/// number of layers that box errors; all others are [`TransportErrorKind::Internal`].
///
/// A service that is not the [guarded transport](crate::HttpTransport) wrapped in layers guards nothing.
pub struct ServiceTransport<S> {
    /// Behind a lock because a service need not be `Sync` (`BoxCloneService` is not). It is held only
    /// while cloning.
    service: Mutex<S>,
}

impl<S> ServiceTransport<S> {
    /// Sends with a clone of `service` for each request.
    pub fn new(service: S) -> Self {
        Self {
            service: Mutex::new(service),
        }
    }
}

#[async_trait]
impl<S> Transport for ServiceTransport<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let mut service = {
            let shared = self.service.lock();
            shared.unwrap_or_else(PoisonError::into_inner).clone()
        };
        std::future::poll_fn(|cx| service.poll_ready(cx))
            .await
            .map_err(transport_error)?;
        service.call(request).await.map_err(transport_error)
    }
}

impl<S> fmt::Debug for ServiceTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTransport").finish_non_exhaustive()
    }
}

/// A [`Transport`] as a [`Service`]: the innermost of a host's layers, so that the guard stays closest
/// to the network.
#[derive(Clone)]
pub struct TransportService {
    transport: Arc<dyn Transport>,
}

impl TransportService {
    /// A service that sends with `transport`. It is always ready.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }
}

impl Service<Request<Bytes>> for TransportService {
    type Response = Response<Bytes>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let transport = Arc::clone(&self.transport);
        Box::pin(async move { transport.send(request).await })
    }
}

impl fmt::Debug for TransportService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportService").finish_non_exhaustive()
    }
}

/// Our own error, out of whatever boxes the layers put it in.
fn transport_error(error: impl Into<BoxError>) -> TransportError {
    match error.into().downcast::<TransportError>() {
        Ok(ours) => *ours,
        Err(other) => {
            let kind = kind_within(other.as_ref()).unwrap_or(TransportErrorKind::Internal);
            TransportError::new(kind).with_source(other)
        }
    }
}

fn kind_within(error: &(dyn StdError + 'static)) -> Option<TransportErrorKind> {
    match error.downcast_ref::<TransportError>() {
        Some(ours) => Some(ours.kind()),
        None => kind_within(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with `kind`, or answers 204.
    struct Scripted(Option<TransportErrorKind>);

    #[async_trait]
    impl Transport for Scripted {
        async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
            match self.0 {
                Some(kind) => Err(TransportError::new(kind)),
                None => Ok(Response::builder().status(204).body(Bytes::new()).unwrap()),
            }
        }
    }

    /// A layer's error: the cause is in a box, below.
    #[derive(Debug, thiserror::Error)]
    #[error("layered")]
    struct Layered(#[source] BoxError);

    /// A layer that boxes errors as `wrap` says; `Cell` makes it `!Sync` on purpose.
    #[derive(Clone)]
    struct Layer {
        inner: TransportService,
        wrap: fn(TransportError) -> BoxError,
        _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
    }

    impl Service<Request<Bytes>> for Layer {
        type Response = Response<Bytes>;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.inner.poll_ready(cx).map_err(self.wrap)
        }

        fn call(&mut self, request: Request<Bytes>) -> Self::Future {
            let (answer, wrap) = (self.inner.call(request), self.wrap);
            Box::pin(async move { answer.await.map_err(wrap) })
        }
    }

    async fn through_layers(
        kind: Option<TransportErrorKind>,
        wrap: fn(TransportError) -> BoxError,
    ) -> Result<u16, TransportErrorKind> {
        let transport: Arc<dyn Transport> = Arc::new(ServiceTransport::new(Layer {
            inner: TransportService::new(Arc::new(Scripted(kind))),
            wrap,
            _not_sync: std::marker::PhantomData,
        }));
        let answer = transport.send(Request::new(Bytes::new())).await;
        answer
            .map(|response| response.status().as_u16())
            .map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn an_answer_passes_both_ways() {
        let answer = through_layers(None, Into::into).await;
        assert_eq!(answer, Ok(204));
    }

    #[tokio::test]
    async fn a_kind_survives_layers_that_box_and_wrap_errors() {
        let kind = TransportErrorKind::Blocked;
        let wraps: [fn(TransportError) -> BoxError; 3] = [
            Into::into,
            |error| Layered(error.into()).into(),
            |error| Layered(Layered(error.into()).into()).into(),
        ];
        for wrap in wraps {
            assert_eq!(through_layers(Some(kind), wrap).await, Err(kind));
        }
    }

    #[tokio::test]
    async fn a_foreign_error_is_an_internal_one() {
        let answer = through_layers(Some(TransportErrorKind::Dns), |_| "rate limited".into()).await;
        assert_eq!(answer, Err(TransportErrorKind::Internal));
    }
}
