//! What hosts ask of endpoints and deliveries.

use std::time::Duration;

use webhook_core::testing::ScriptedTransport;
use webhook_core::{
    Clock as _, EndpointChange, EndpointSettings, ManageError, NewEndpoint, Secret, Tenant,
};
#[cfg(feature = "ed25519")]
use webhook_core::{Scheme, Verifier};

use crate::World;

#[tokio::test]
async fn a_secret_that_is_brought_along_takes_over_and_is_kept_once() {
    let world = World::new(ScriptedTransport::default());
    let endpoint = world.endpoint(EndpointSettings::default()).await;
    let old = endpoint.secret().unwrap();
    let hour = Duration::from_secs(3_600);
    let given = Secret::from_bytes(&[7; 32]).unwrap();
    let endpoints = world.dispatcher.endpoints();
    for secret in [&given, old, &given] {
        let rotated = endpoints
            .rotate_secret_to(endpoint.id, secret.clone(), hour)
            .await
            .unwrap();
        assert_eq!(rotated.secret(), Some(secret));
        assert_eq!(rotated.secrets.len(), 2);
        let ends: Vec<_> = rotated.secrets.iter().map(|it| it.expires_at).collect();
        assert_eq!(ends, [None, Some(world.clock.now() + hour)]);
    }
}

#[cfg(feature = "ed25519")]
#[tokio::test]
async fn a_rotated_secret_signs_as_the_one_before() {
    let world = World::new(ScriptedTransport::default());
    let id = world.endpoint(EndpointSettings::default()).await.id;
    let endpoints = world.dispatcher.endpoints();
    let pair = Secret::random_ed25519();
    endpoints
        .rotate_secret_to(id, pair.clone(), Duration::ZERO)
        .await
        .unwrap();
    let rotated = endpoints.rotate_secret(id, Duration::ZERO).await.unwrap();
    let newest = rotated.secret().unwrap();
    assert_ne!(newest, &pair);
    assert_eq!(newest.scheme(), Scheme::Ed25519);

    world.enqueue().await;
    world.dispatcher.step().await.unwrap();
    let sent = world.receiver.requests().pop().unwrap();
    let verified = Verifier::new(newest).verify(&sent.headers, &sent.body, world.clock.now());
    assert!(verified.is_ok());
}

#[tokio::test]
async fn an_unknown_delivery_has_no_list_of_attempts() {
    let world = World::new(ScriptedTransport::default());
    world.endpoint(EndpointSettings::default()).await;
    world.enqueue().await;
    let waiting = world.deliveries().await[0].id;
    let deliveries = world.dispatcher.deliveries();
    assert!(deliveries.attempts(waiting).await.unwrap().is_empty());
    let elsewhere = deliveries.clone().within(Tenant::new("acme").unwrap());
    for unknown in [
        deliveries.attempts(uuid::Uuid::nil()).await,
        elsewhere.attempts(waiting).await,
    ] {
        assert!(matches!(unknown, Err(ManageError::NotFound("delivery"))));
    }
}

#[tokio::test]
async fn an_endpoint_answers_with_the_times_that_are_stored() {
    let world = World::new(ScriptedTransport::default());
    let micros = Duration::from_micros;
    let endpoints = world.dispatcher.endpoints();
    let new = NewEndpoint::new("https://hooks.example.com/in".parse().unwrap())
        .max_in_flight(3)
        .timeout(micros(1_000_500))
        .retry_schedule([micros(7_499)]);
    let made = endpoints.create(new).await.unwrap();
    assert_eq!(made.settings.max_in_flight, Some(3));
    assert_eq!(made.settings.timeout, Some(micros(1_001_000)));
    assert_eq!(made.settings.retry_schedule, Some(vec![micros(7_000)]));

    let same = |wanted: &mut EndpointChange| wanted.settings.timeout = Some(micros(1_000_600));
    let left = endpoints.update(made.id, same).await.unwrap();
    assert_eq!((left.version, left.settings), (made.version, made.settings));
    let other = |wanted: &mut EndpointChange| wanted.settings.timeout = Some(micros(2_000_400));
    let changed = endpoints.update(made.id, other).await.unwrap();
    assert_eq!(changed.settings.timeout, Some(micros(2_000_000)));
}
