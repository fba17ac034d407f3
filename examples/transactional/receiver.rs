//! Whom the webhooks go to: it verifies each, and notes its order.

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use webhook_delivery::{Secret, Verified, Verifier, VerifyingKey};

use crate::Result;

const SECRET: &str = "whsec_dGhpcyBzZWNyZXQgaXMgZm9yIHRyaWFscyBvbmx5";

pub(crate) struct Receiver {
    url: String,
    orders: mpsc::UnboundedReceiver<i64>,
}

#[derive(Clone)]
struct Desk {
    receiver: webhook_delivery::Receiver,
    orders: mpsc::UnboundedSender<i64>,
}

/// Where [`Verified`] finds the receiver that verifies.
impl FromRef<Desk> for webhook_delivery::Receiver {
    fn from_ref(desk: &Desk) -> Self {
        desk.receiver.clone()
    }
}

#[derive(Deserialize)]
struct Webhook {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    order: i64,
}

impl Receiver {
    pub(crate) async fn open() -> Result<Self> {
        let key: VerifyingKey = SECRET.parse()?;
        let (sender, orders) = mpsc::unbounded_channel();
        let desk = Desk {
            receiver: webhook_delivery::Receiver::builder(Verifier::new(key)).build(),
            orders: sender,
        };
        let app = Router::new().route("/", post(take)).with_state(desk);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(axum::serve(listener, app).into_future());
        Ok(Self { url, orders })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn secret(&self) -> Result<Secret> {
        Ok(SECRET.parse()?)
    }

    /// The next orders that it hears of, so many of them.
    pub(crate) async fn orders(&mut self, count: usize) -> Result<Vec<i64>> {
        let mut orders = Vec::new();
        while orders.len() < count {
            orders.push(self.orders.recv().await.ok_or("the receiver has ended")?);
        }
        Ok(orders)
    }

    /// Those that it has heard of beside these.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = i64> {
        std::iter::from_fn(|| self.orders.try_recv().ok())
    }
}

/// Runs only for what is rightly signed.
async fn take(State(desk): State<Desk>, webhook: Verified<Webhook>) -> StatusCode {
    desk.orders.send(webhook.event.data.order).ok();
    StatusCode::NO_CONTENT
}
