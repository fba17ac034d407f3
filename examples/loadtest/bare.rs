//! The bare loop: what the machine can send when nothing is kept, claimed or recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use webhook_delivery::{Clock, Secret, SignRequest, Signer, StandardWebhooks, SystemClock};

use crate::report::Round;
use crate::sink::Sink;
use crate::{Options, Result, engine};

/// Sends the events with one default client, one HMAC each.
pub(crate) async fn run(options: &Options, sink: &Sink) -> Result<Round> {
    let client = reqwest::Client::new();
    let url: reqwest::Url = sink.url().parse()?;
    let body = Bytes::from(engine::data(options, 0));
    let secrets = Arc::new([Secret::from_bytes(&[7; 32])?]);
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..options.concurrency)
        .map(|_| {
            let (client, url, body) = (client.clone(), url.clone(), body.clone());
            let (secrets, next, events) = (Arc::clone(&secrets), Arc::clone(&next), options.events);
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < events {
                    send(&client, &url, &body, &secrets[..]).await?;
                }
                Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let elapsed = began.elapsed();
    let seen = sink.take_seen().await?;
    Ok(Round {
        sent: options.events,
        received: seen.requests,
        repeated: 0,
        seconds: elapsed.as_secs_f64(),
        enqueue_seconds: None,
        spent: None,
    })
}

async fn send(
    client: &reqwest::Client,
    url: &reqwest::Url,
    body: &Bytes,
    secrets: &[Secret],
) -> Result<()> {
    let mut request = client.post(url.clone()).body(body.clone()).build()?;
    let id = uuid::Uuid::now_v7().to_string();
    let to_sign = SignRequest::new(&id, SystemClock.now(), body, secrets);
    StandardWebhooks::new().sign(&to_sign, request.headers_mut())?;
    let response = client.execute(request).await?.error_for_status()?;
    response.bytes().await?;
    Ok(())
}
