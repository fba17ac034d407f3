//! What the shop has to tell, whom, and what is expected to come of it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use webhook_delivery::{
    Dispatcher, Endpoint, EndpointSettings, Event, NewEndpoint, NewEvent, PayloadFilter,
};

use crate::Result;

/// What should come of the deliveries to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Deliveries, replays included.
    pub(crate) deliveries: usize,
    /// Requests.
    pub(crate) attempts: usize,
    /// Deliveries that were tried more than once.
    pub(crate) retried: usize,
    /// Deliveries given up.
    pub(crate) dead: usize,
    /// Deliveries that the payload filter did not let out.
    pub(crate) filtered: usize,
}

/// The endpoints' names, which are also their paths, and what is expected of each.
pub(crate) const ENDPOINTS: [(&str, Expected); 3] = [
    // Down for the first try of one event, and for two of another.
    (
        "everything",
        Expected {
            deliveries: 6,
            attempts: 9,
            retried: 2,
            dead: 0,
            filtered: 0,
        },
    ),
    // Cannot read one currency until it is fixed; then that event comes twice.
    (
        "payments",
        Expected {
            deliveries: 4,
            attempts: 4,
            retried: 0,
            dead: 1,
            filtered: 0,
        },
    ),
    // Wants orders from 100 on.
    (
        "large-orders",
        Expected {
            deliveries: 3,
            attempts: 2,
            retried: 0,
            dead: 0,
            filtered: 1,
        },
    ),
];

/// An endpoint chooses events by type, and by what is in them.
pub(crate) async fn create_endpoints(
    dispatcher: &Dispatcher,
    address: SocketAddr,
) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for (name, _) in ENDPOINTS {
        let settings = EndpointSettings {
            description: name.to_owned(),
            event_types: match name {
                "payments" => vec!["invoice.paid".parse()?],
                "large-orders" => vec!["order.*".parse()?],
                _ => vec![],
            },
            filter: match name {
                "large-orders" => Some(PayloadFilter::new(&json!({"data.total": {"gte": 100}}))?),
                _ => None,
            },
            ..Default::default()
        };
        let url = format!("http://{address}/{name}").parse()?;
        let new = NewEndpoint::with_settings(url, settings);
        let endpoint = dispatcher.endpoints().create(new).await?;
        println!("  endpoint /{name:<13} {}", wants(&endpoint));
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn wants(endpoint: &Endpoint) -> String {
    let settings = &endpoint.settings;
    let types: Vec<_> = settings
        .event_types
        .iter()
        .map(ToString::to_string)
        .collect();
    let types = match types.as_slice() {
        [] => "every event".to_owned(),
        types => types.join(", "),
    };
    match &settings.filter {
        Some(filter) => format!("{types} where {}", filter.to_json()),
        None => types,
    }
}

/// Six events. Once `enqueue` returns, an event and all its deliveries are stored.
pub(crate) async fn enqueue(dispatcher: &Dispatcher) -> Result<Vec<Event>> {
    let happened: [(&str, Value); 6] = [
        ("order.placed", json!({"name": "order 1", "total": 19})),
        ("order.placed", json!({"name": "order 2", "total": 250})),
        ("order.placed", json!({"name": "order 3", "total": 480})),
        (
            "invoice.paid",
            json!({"name": "invoice 1", "currency": "EUR"}),
        ),
        (
            "invoice.paid",
            json!({"name": "invoice 2", "currency": "CHF"}),
        ),
        ("customer.created", json!({"name": "Zoë"})),
    ];
    let mut events = Vec::new();
    for (event_type, data) in happened {
        let id = dispatcher
            .enqueue(NewEvent::json(event_type, &data)?)
            .await?;
        events.push(dispatcher.events().get(id).await?);
    }
    println!("  {} events accepted", events.len());
    Ok(events)
}

/// How often `/everything` answers 503 before it takes an event of this name.
pub(crate) fn failing_tries(name: &str) -> usize {
    match name {
        "order 2" => 1,
        "Zoë" => 2,
        _ => 0,
    }
}
