//! An engine that delivers, its dashboard on a port, and a receiver that answers as told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;
use webhook_axum::{Auth, router};
use webhook_core::{
    Delivery, DeliveryFilter, DeliveryStatus, Dispatcher, Endpoint, MemoryStore, NetworkPolicy,
    NewEndpoint, NewEvent, Notice, PageRequest,
};

use crate::page::PATIENCE;

/// All of it ends with this.
pub(crate) struct App {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) receiver: Receiver,
    /// Where the dashboard is.
    url: String,
    /// Changes with everything that is recorded.
    recorded: watch::Receiver<u64>,
    tasks: JoinSet<()>,
}

impl App {
    /// One that lets in everybody.
    pub(crate) async fn open() -> Self {
        Self::with(Auth::none()).await
    }

    pub(crate) async fn with(auth: Auth) -> Self {
        let policy = NetworkPolicy::builder()
            .allow_http(true)
            .allow_private(true);
        let (record, recorded) = watch::channel(0);
        let dispatcher = Dispatcher::builder(MemoryStore::new())
            .network_policy(policy.build())
            .observer(move |_: &Notice<'_>| record.send_modify(|it| *it += 1))
            .build()
            .unwrap()
            .erase();
        let mut app = Self::of(dispatcher.clone(), auth).await;
        app.recorded = recorded;
        app.tasks
            .spawn(async move { dispatcher.run(std::future::pending()).await });
        app
    }

    /// The dashboard of an engine that delivers nothing by itself.
    pub(crate) async fn of(dispatcher: Dispatcher, auth: Auth) -> Self {
        let mut tasks = JoinSet::new();
        let receiver = Receiver::start(&mut tasks).await;
        let url = serve(&mut tasks, router(dispatcher.clone(), auth)).await;
        Self {
            dispatcher,
            receiver,
            url,
            recorded: watch::channel(0).1,
            tasks,
        }
    }

    /// The same engine's dashboard for others, at another port.
    pub(crate) async fn door(&mut self, auth: Auth) -> String {
        serve(&mut self.tasks, router(self.dispatcher.clone(), auth)).await
    }

    /// The URL of a screen, named as below `/dashboard/`.
    pub(crate) fn screen(&self, path: &str) -> String {
        format!("{}/dashboard/{path}", self.url)
    }

    /// An endpoint at this path of the receiver.
    pub(crate) async fn endpoint(&self, path: &str) -> Endpoint {
        self.endpoint_with(path, |new| new).await
    }

    pub(crate) async fn endpoint_with(
        &self,
        path: &str,
        with: impl FnOnce(NewEndpoint) -> NewEndpoint,
    ) -> Endpoint {
        let url = self.receiver.url(path).parse().unwrap();
        let new = with(NewEndpoint::new(url));
        self.dispatcher.endpoints().create(new).await.unwrap()
    }

    pub(crate) async fn send(&self, event_type: &str) -> Uuid {
        let event = NewEvent::json(event_type, &serde_json::json!({"order": 7})).unwrap();
        self.dispatcher.enqueue(event).await.unwrap()
    }

    /// Waits until nothing is under way.
    pub(crate) async fn settled(&self) {
        let mut recorded = self.recorded.clone();
        let under_way = async || {
            let live = [DeliveryStatus::Pending, DeliveryStatus::InProgress];
            let all = self.deliveries(100).await;
            all.iter().any(|it| live.contains(&it.status))
        };
        let until = async {
            while under_way().await {
                recorded.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, until).await.unwrap();
    }

    /// The newest delivery.
    pub(crate) async fn delivery(&self) -> Delivery {
        self.deliveries(1).await.remove(0)
    }

    pub(crate) async fn deliveries(&self, newest: usize) -> Vec<Delivery> {
        let deliveries = self.dispatcher.deliveries();
        let page = PageRequest::first(newest);
        let list = deliveries.list(&DeliveryFilter::default(), page).await;
        list.unwrap().items
    }
}

async fn serve(tasks: &mut JoinSet<()>, router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Answers 200 to everything that it was not told otherwise.
pub(crate) struct Receiver {
    url: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
}

/// What a path is answered.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Receiver {
    async fn start(tasks: &mut JoinSet<()>) -> Self {
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let known = answers.clone();
        let answer = async move |uri: http::Uri| {
            let told = known.lock().unwrap().get(uri.path()).cloned();
            told.map_or_else(|| "thank you".into_response(), Answer::response)
        };
        let url = serve(tasks, Router::new().fallback(answer)).await;
        Self { url, answers }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, path: &str, status: u16, body: &str) {
        let answer = Answer {
            status,
            body: body.into(),
            ..Answer::default()
        };
        self.answers_with(path, answer);
    }

    pub(crate) fn answers_with(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }
}

impl Answer {
    fn response(self) -> Response {
        let mut response = self.body.into_response();
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in self.headers {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_bytes(&value).unwrap();
            response.headers_mut().insert(name, value);
        }
        response
    }
}
