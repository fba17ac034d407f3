//! Endpoints: their list, and what a saved form changes.

use std::time::Duration;

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::{
    AuditFilter, CustomHeaders, Dispatcher, Endpoint, EndpointSettings, EndpointState, NewEndpoint,
    PageRequest, RateLimit,
};

use super::{Answer, CSRF, dispatcher, form, get, send};

/// An endpoint, and its form.
struct Desk {
    dispatcher: Dispatcher,
    app: Router,
    made: Endpoint,
}

impl Desk {
    async fn with(new: NewEndpoint) -> Self {
        let dispatcher = dispatcher();
        Self {
            app: router(dispatcher.clone(), Auth::none()),
            made: dispatcher.endpoints().create(new).await.unwrap(),
            dispatcher,
        }
    }

    async fn save(&self, fields: &str) -> Answer {
        let path = format!("/dashboard/endpoints/{}/edit", self.made.id);
        send(&self.app, form(&path), &format!("csrf={CSRF}&{fields}")).await
    }

    async fn stored(&self) -> Endpoint {
        let endpoints = self.dispatcher.endpoints();
        endpoints.get(self.made.id).await.unwrap()
    }

    /// How many changes the audit log tells of.
    async fn told(&self) -> usize {
        let all = AuditFilter::default();
        let log = self.dispatcher.audit();
        log.list(&all, PageRequest::first(9))
            .await
            .unwrap()
            .items
            .len()
    }
}

fn new_endpoint() -> NewEndpoint {
    NewEndpoint::new("https://example.com/in".parse().unwrap())
}

#[tokio::test]
async fn the_form_of_a_new_endpoint_says_nothing_of_what_is_there() {
    let app: Router = router(super::dispatcher(), Auth::none());
    let page = get(&app, "/dashboard/endpoints/new").await.text;
    assert!(!page.contains("keeps what is there"), "{page}");
    assert!(page.contains("placeholder=\"default\""), "{page}");
    assert!(page.contains("<span>Headers, <code>"), "{page}");
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let dispatcher = dispatcher();
    let app: Router = router(dispatcher.clone(), Auth::none());
    for number in 0..51 {
        let url = format!("https://example.com/{number}");
        let new = NewEndpoint::new(url.parse().unwrap());
        dispatcher.endpoints().create(new).await.unwrap();
    }
    let first = get(&app, "/dashboard/endpoints").await.text;
    assert_eq!(first.matches(">https://example.com/").count(), 50);
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap();
    let second = get(&app, &format!("/dashboard/endpoints{next}")).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_eq!(second.text.matches(">https://example.com/").count(), 1);
    assert!(second.text.contains(">https://example.com/0<"));
    assert!(!second.text.contains("rel=\"next\""));
}

#[tokio::test]
async fn a_form_that_is_refused_or_changes_nothing_leaves_no_trace() {
    let desk = Desk::with(new_endpoint()).await;
    let url = "url=https%3A%2F%2Fexample.com%2Fin";
    let refused = desk.save(&format!("{url}&headers=x+bad%3A+1")).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("is not a header name"));
    assert_eq!(desk.save(url).await.status, 303);
    let stored = desk.stored().await;
    assert_eq!(
        (stored.version, stored.updated_at, desk.told().await),
        (1, desk.made.updated_at, 0)
    );
    let other = desk.save(&format!("{url}&description=x")).await;
    assert_eq!(other.status, 303, "{}", other.text);
    assert_eq!((desk.stored().await.version, desk.told().await), (2, 1));
}

/// Settings that a form shows otherwise than they are stored, and the fields that a browser sends of that form.
fn peculiar() -> (NewEndpoint, &'static str) {
    let settings = EndpointSettings {
        description: " two\nlines ".into(),
        event_types: vec!["order.*".parse().unwrap()],
        headers: CustomHeaders::new([("x-a", "1")], [("x-key", "s3cret")]).unwrap(),
        rate_limit: Some(RateLimit {
            limit: 3,
            per: Duration::from_millis(1_500),
        }),
        retry_schedule: Some(Vec::new()),
        timeout: Some(Duration::from_secs(7)),
        ..EndpointSettings::default()
    };
    let url = "https://example.com/in?token=1".parse().unwrap();
    let fields = "url=https%3A%2F%2Fexample.com%2Fin%3F***&description=+two%0D%0Alines+&event_types=order.*&filter=\
        &headers=x-a%3A+1&secret_headers=x-key%3A+***&rate_limit=3&rate_seconds=1.5&timeout_seconds=7\
        &retry_schedule=none";
    (NewEndpoint::with_settings(url, settings), fields)
}

#[tokio::test]
async fn a_saved_form_changes_what_was_typed_and_nothing_else() {
    let (new, fields) = peculiar();
    let desk = Desk::with(new).await;
    let untouched = desk.save(&format!("{fields}&max_in_flight=")).await;
    assert_eq!(untouched.status, 303, "{}", untouched.text);
    assert_eq!(desk.stored().await.version, 1);

    let saved = desk.save(&format!("{fields}&max_in_flight=5")).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let stored = desk.stored().await;
    let expected = EndpointSettings {
        max_in_flight: Some(5),
        ..desk.made.settings.clone()
    };
    assert_eq!(stored.url, desk.made.url);
    assert_eq!(stored.settings, expected);

    let other = fields.replace("=none", "=").replace("lines", "words");
    let saved = desk.save(&format!("{other}&max_in_flight=5")).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let expected = EndpointSettings {
        retry_schedule: None,
        description: "two\nwords".into(),
        ..expected
    };
    assert_eq!(desk.stored().await.settings, expected);
}

#[tokio::test]
async fn a_form_shows_lines_and_a_schedule_without_retries() {
    let (new, _) = peculiar();
    let desk = Desk::with(new).await;
    let path = format!("/dashboard/endpoints/{}", desk.made.id);
    let detail = get(&desk.app, &path).await.text;
    let schedule = detail.split("<dt>Retries after, seconds</dt>").nth(1);
    assert!(
        schedule.unwrap().trim().starts_with("<dd>none</dd>"),
        "{detail}"
    );
    let edit = get(&desk.app, &format!("{path}/edit")).await.text;
    assert!(
        edit.contains("name=\"retry_schedule\" value=\"none\""),
        "{edit}"
    );
    let lines = "<textarea name=\"description\" rows=\"2\">\n two\nlines </textarea>";
    assert!(edit.contains(lines), "{edit}");
}

#[tokio::test]
async fn a_header_that_is_given_twice_is_refused() {
    let desk = Desk::with(new_endpoint()).await;
    let url = "url=https%3A%2F%2Fexample.com%2Fin";
    for again in ["x-a", "X-A"] {
        let fields = format!("{url}&headers=x-a%3A+1%0D%0A{again}%3A+2");
        let refused = desk.save(&fields).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("is given twice"), "{}", refused.text);
    }
    assert_eq!(desk.stored().await.version, 1);
}

#[tokio::test]
async fn a_form_asks_for_secret_headers_anew_when_the_url_leads_elsewhere() {
    let (new, fields) = peculiar();
    let desk = Desk::with(new).await;
    let elsewhere = fields.replace("example.com%2Fin%3F***", "other.example.com%2Fin");
    let refused = desk.save(&elsewhere).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("anew"), "{}", refused.text);
    assert_eq!(desk.stored().await.version, 1);
    let anew = elsewhere.replace("x-key%3A+***", "x-key%3A+other");
    let saved = desk.save(&anew).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    assert_eq!(desk.stored().await.url.host(), "other.example.com");
}

#[tokio::test]
async fn a_new_secret_is_made_after_a_look_at_how_long_the_old_one_signs() {
    let desk = Desk::with(new_endpoint()).await;
    let path = format!("/dashboard/endpoints/{}", desk.made.id);
    let page = get(&desk.app, &path).await.text;
    let (before, form_of_it) = page.split_once("/rotate\"").unwrap();
    let folded = before.rsplit_once("<details>").unwrap().1;
    assert!(!folded.contains("</details>"), "{folded}");
    assert!(form_of_it.contains("<option value=\"day\">a day</option>"));
    let rotate = async |fields: &str| {
        let body = format!("csrf={CSRF}&{fields}");
        send(&desk.app, form(&format!("{path}/rotate")), &body).await
    };
    let wrong = rotate("overlap=year").await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    assert_eq!(desk.stored().await.secrets.len(), 1);
    for (overlap, told, hours) in [
        ("hour", "signs beside it for an hour", 1),
        ("week", "signs beside it for a week", 168),
        ("", "signs beside it for a day", 24),
    ] {
        let before = desk.dispatcher.now();
        let page = rotate(&format!("overlap={overlap}")).await.text;
        assert!(page.contains(told), "{overlap}: {page}");
        let end = desk.stored().await.secrets[1].expires_at.unwrap();
        let seconds = end.since(before).as_secs();
        assert_eq!(seconds.div_ceil(60) / 60, hours, "{overlap}: {seconds}");
    }
    let page = rotate("overlap=none").await.text;
    assert!(page.contains("the old one signs no more"), "{page}");
}

#[tokio::test]
async fn a_test_may_have_a_type_and_data_of_its_own() {
    let desk = Desk::with(new_endpoint()).await;
    let path = format!("/dashboard/endpoints/{}", desk.made.id);
    let page = get(&desk.app, &path).await.text;
    let (_, test) = page.split_once("<summary>Send a test with").unwrap();
    let (test, _) = test.split_once("</details>").unwrap();
    for field in ["name=\"event_type\"", "name=\"data\"", "/test\""] {
        assert!(test.contains(field), "{field}: {test}");
    }
}

#[tokio::test]
async fn endpoints_are_found_by_state_and_tenant_and_the_search_goes_on() {
    let desk = Desk::with(new_endpoint().tenant("acme".parse().unwrap())).await;
    let paused = |it: &mut webhook_core::EndpointChange| it.state = EndpointState::Paused;
    let endpoints = desk.dispatcher.endpoints();
    endpoints.update(desk.made.id, paused).await.unwrap();
    for _ in 0..51 {
        endpoints.create(new_endpoint()).await.unwrap();
    }
    for (query, rows) in [
        ("", 50),
        ("state=&tenant=", 50),
        ("state=paused", 1),
        ("tenant=acme", 1),
        ("state=enabled&tenant=acme", 0),
        ("state=enabled", 50),
    ] {
        let page = get(&desk.app, &format!("/dashboard/endpoints?{query}")).await;
        let found = page.text.matches(">https://example.com/in</a>").count();
        assert_eq!(found, rows, "{query}: {}", page.text);
        let older = page.text.split("rel=\"next\" href=\"").nth(1);
        assert_eq!(older.is_some(), rows == 50, "{query}");
        if query == "state=enabled" {
            let older = older.unwrap().split('"').next().unwrap();
            assert!(older.starts_with("?state=enabled&#38;cursor="), "{older}");
            let older = older.replace("&#38;", "&");
            let rest = get(&desk.app, &format!("/dashboard/endpoints{older}")).await;
            assert_eq!(rest.text.matches(">https://example.com/in</a>").count(), 1);
        }
    }
    let wrong = get(&desk.app, "/dashboard/endpoints?state=gone").await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}
