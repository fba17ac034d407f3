//! A host's own layers around the guarded transport: they change what is sent, and not where it may go.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request};
use tower_service::Service;
use webhook_core::{
    DeliveryStatus, EndpointUrl, HttpTransportBuilder, NetworkPolicy, RequestOptions,
    ServiceTransport, TransportErrorKind, TransportService,
};

use super::dispatcher::{World, failed_with};
use super::transport::{LOOPBACK, Panics, Scripted, loopback, server, tripwire, untouched};
use super::{Guards, network};

/// Adds a header, and sends elsewhere if told to.
#[derive(Clone)]
struct Meddling<S> {
    inner: S,
    elsewhere: Option<EndpointUrl>,
}

impl<S: Service<Request<Bytes>>> Service<Request<Bytes>> for Meddling<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Bytes>) -> S::Future {
        let region = HeaderValue::from_static("eu-1");
        request.headers_mut().insert("x-region", region);
        if let Some(url) = &self.elsewhere {
            request
                .extensions_mut()
                .insert(RequestOptions::new(url.clone()));
        }
        self.inner.call(request)
    }
}

/// A dispatcher that sends through the layer.
fn world(guarded: HttpTransportBuilder, elsewhere: Option<&str>) -> World {
    let policy = NetworkPolicy::builder()
        .allow_http(true)
        .allow_networks([network("127.0.0.0/8")])
        .build();
    let layered = Meddling {
        inner: TransportService::new(Arc::new(guarded.guarded().unwrap())),
        elsewhere: elsewhere.map(|url| url.parse().unwrap()),
    };
    World::new(policy, ServiceTransport::new(layered))
}

#[tokio::test]
async fn a_layer_adds_a_header_to_what_is_sent() {
    let (port, requests) = server("HTTP/1.1 200 OK").await;
    let world = world(loopback().resolver(Scripted::new([vec![LOOPBACK]])), None);
    let url = format!("http://hooks.example.com:{port}/");
    world.smuggle(url.parse().unwrap()).await;
    let (delivery, _) = world.deliver(std::time::Duration::ZERO).await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    let request = requests.lock().unwrap().remove(0);
    assert!(request.contains("\r\nx-region: eu-1\r\n"), "{request}");
    assert!(request.contains("\r\nwebhook-signature: v1,"), "{request}");
}

#[tokio::test]
async fn behind_a_layer_a_name_that_leads_inside_is_blocked() {
    let private = vec!["10.0.0.1".parse().unwrap(), LOOPBACK];
    let world = world(loopback().resolver(Scripted::new([private])), None);
    world
        .smuggle("http://hooks.example.com:8080/".parse().unwrap())
        .await;
    let (_, attempts) = world.deliver(std::time::Duration::ZERO).await;
    assert_eq!(failed_with(&attempts[0]), Some(TransportErrorKind::Blocked));
}

#[tokio::test]
async fn a_layer_that_sends_elsewhere_gets_no_further_than_the_policy() {
    let (listener, port) = tripwire();
    for elsewhere in [
        "http://169.254.169.254/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{}/", 22),
    ] {
        let world = world(loopback().resolver(Panics), Some(&elsewhere));
        world
            .smuggle("http://127.0.0.1:8080/".parse().unwrap())
            .await;
        let (_, attempts) = world.deliver(std::time::Duration::ZERO).await;
        assert_eq!(
            failed_with(&attempts[0]),
            Some(TransportErrorKind::Blocked),
            "{elsewhere}"
        );
    }
    assert!(untouched(&listener));
}
