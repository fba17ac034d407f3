//! An engine about which every screen has something to say, and the list of the screens.

use webhook_axum::Auth;
use webhook_core::{
    CustomHeaders, DeliveryFilter, DeliveryStatus, NewCatalogueEntry, NewEndpoint, NewEvent,
    NewReplay, ReplaySelection,
};

use crate::app::{Answer, App};

/// What is written into everything that takes it.
pub(crate) struct Words {
    /// Of descriptions, examples and data.
    pub(crate) text: String,
    /// Of headers, which cannot carry everything.
    pub(crate) header: String,
    /// What a receiver answers.
    pub(crate) body: Vec<u8>,
    /// Below the receiver's URL.
    pub(crate) path: String,
}

/// The engine, and the screens by their paths below `/dashboard/`.
pub(crate) struct Screens {
    pub(crate) app: App,
    pub(crate) endpoint: String,
    pub(crate) event: String,
    pub(crate) delivery: String,
    pub(crate) replay: String,
}

impl Screens {
    /// One endpoint that refuses everything, one event, its dead letter, and a replay of that.
    pub(crate) async fn of(words: &Words, auth: Auth) -> Self {
        let app = App::with(auth).await;
        let name = "order.paid".parse().unwrap();
        let entry = NewCatalogueEntry::new(name)
            .description(&words.text)
            .schema(serde_json::json!({"description": words.text}).to_string())
            .example(serde_json::json!({"text": words.text}).to_string());
        app.dispatcher.event_types().put(entry).await.unwrap();
        let url = app.receiver.url(&words.path).parse::<url::Url>().unwrap();
        let answer = Answer {
            status: 400,
            headers: vec![
                ("x-words", words.header.clone().into_bytes()),
                ("content-type", b"text/html".to_vec()),
            ],
            body: words.body.clone(),
        };
        app.receiver.answers_with(url.path(), answer);
        let headers = CustomHeaders::new([("x-lane", &*words.header)], []).unwrap();
        let new = NewEndpoint::new(url.as_str().parse().unwrap())
            .description(&words.text)
            .headers(headers);
        let endpoint = app.dispatcher.endpoints().create(new).await.unwrap();
        let data = serde_json::json!({"text": words.text, words.text.clone(): 1});
        let event = NewEvent::json("order.paid", &data).unwrap();
        let event = app.dispatcher.enqueue(event).await.unwrap();
        app.settled().await;
        let delivery = app.delivery().await.id;
        let all = ReplaySelection::Deliveries(DeliveryFilter {
            status: Some(DeliveryStatus::Failed),
            ..DeliveryFilter::default()
        });
        let replays = app.dispatcher.replays();
        let replay = replays.start(NewReplay::new(all).created_by(&words.text));
        let replay = replay.await.unwrap().id;
        Self {
            app,
            endpoint: endpoint.id.to_string(),
            event: event.to_string(),
            delivery: delivery.to_string(),
            replay: replay.to_string(),
        }
    }

    /// All that a reader can come to by links and forms that only read.
    pub(crate) fn paths(&self) -> Vec<String> {
        let Self {
            endpoint,
            event,
            delivery,
            replay,
            ..
        } = self;
        let fixed = [
            "",
            "endpoints",
            "endpoints/new",
            "deliveries",
            "events",
            "dead-letters",
            "replays",
            "replays/new?status=failed",
            "event-types",
            "audit",
            "deliveries?status=none",
        ];
        let mut paths = fixed.map(str::to_owned).to_vec();
        paths.extend([
            format!("endpoints/{endpoint}"),
            format!("endpoints/{endpoint}/edit"),
            format!("deliveries/{delivery}"),
            format!("events/{event}"),
            format!("replays/{replay}"),
        ]);
        paths
    }
}
