//! The catalogue's form: it begins with what is there, and a refusal keeps what was typed.

use axum::Router;
use webhook_axum::{Auth, router};
use webhook_core::{CatalogueEntry, Dispatcher, NewCatalogueEntry};

use super::{CSRF, Named, dispatcher, form, get, send};

const PATH: &str = "/dashboard/event-types";
const SCHEMA: &str = r#"{"type":"object","required":["order"]}"#;
const EXAMPLE: &str = r#"{"order":7}"#;

async fn put(dispatcher: &Dispatcher) {
    let entry = NewCatalogueEntry::new("order.paid".parse().unwrap());
    let entry = entry.description("An ordr is paid");
    let entry = entry.schema(SCHEMA).example(EXAMPLE);
    dispatcher.event_types().put(entry).await.unwrap();
}

async fn kept(dispatcher: &Dispatcher) -> CatalogueEntry {
    let name = "order.paid".parse().unwrap();
    dispatcher.event_types().get(&name).await.unwrap()
}

/// What a browser sends of the page's form that saves, with some of its fields typed over.
fn filled(page: &str, typed: &[(&str, &str)]) -> String {
    let (_, form) = page.split_once("name=\"name\"").expect(page);
    let value = |name: &str| {
        let (_, rest) = form.split_once(&format!("name=\"{name}\"")).unwrap();
        let (start, end) = match name {
            "description" => (" value=\"", "\">"),
            _ => (">\n", "</textarea>"),
        };
        let (_, rest) = rest.split_once(start).unwrap();
        let text = rest.split_once(end).unwrap().0;
        text.replace("&#34;", "\"")
    };
    let mut body = url::form_urlencoded::Serializer::new(format!("csrf={CSRF}"));
    body.append_pair("name", "order.paid");
    for name in ["description", "schema", "example"] {
        let given = typed.iter().find(|(field, _)| *field == name);
        body.append_pair(name, given.map_or(&value(name), |it| it.1));
    }
    body.finish()
}

#[tokio::test]
async fn who_corrects_a_description_keeps_the_schema_and_the_example() {
    let dispatcher = dispatcher();
    put(&dispatcher).await;
    let app: Router = router(dispatcher.clone(), Auth::none());
    let list = get(&app, PATH).await.text;
    assert!(list.contains("href=\"?edit=order.paid\""), "{list}");
    let asked = get(&app, &format!("{PATH}?edit=order.paid")).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    assert!(asked.text.contains("value=\"order.paid\""));
    let body = filled(&asked.text, &[("description", "An order is paid")]);
    assert_eq!(send(&app, form(PATH), &body).await.status, 303);
    let kept = kept(&dispatcher).await;
    assert_eq!(kept.description, "An order is paid");
    assert_eq!(kept.schema.as_deref(), Some(SCHEMA));
    assert_eq!(kept.example.as_deref(), Some(EXAMPLE));
}

#[tokio::test]
async fn what_is_refused_comes_back_as_it_was_typed_with_the_reason() {
    let dispatcher = dispatcher();
    put(&dispatcher).await;
    let app: Router = router(dispatcher.clone(), Auth::none());
    let asked = get(&app, &format!("{PATH}?edit=order.paid")).await.text;
    for (field, typed, reason) in [
        ("schema", r#"{"type": 7}"#, "schema: "),
        ("schema", r#"{"type":1,"type":2}"#, "schema: "),
        ("example", r#"{"order""#, "example: "),
        ("example", r#"{"item":1}"#, "example: "),
    ] {
        let body = filled(&asked, &[("description", "New words"), (field, typed)]);
        let refused = send(&app, form(PATH), &body).await;
        assert_eq!(refused.status, 400, "{typed}: {}", refused.text);
        let said = format!("role=\"alert\">{reason}");
        assert!(refused.text.contains(&said), "{typed}: {}", refused.text);
        assert_eq!(filled(&refused.text, &[]), body, "{typed}");
    }
    assert_eq!(kept(&dispatcher).await.description, "An ordr is paid");
}

#[tokio::test]
async fn the_form_of_a_type_is_for_those_who_may_save_it() {
    let dispatcher = dispatcher();
    put(&dispatcher).await;
    let app: Router = router(dispatcher, Auth::custom(Named));
    let page = |path: &str, who: &str| {
        let request = http::Request::builder().uri(path.to_owned());
        request.header("x-who", who)
    };
    let edit = format!("{PATH}?edit=order.paid");
    let list = send(&app, page(PATH, "ann@acme"), "").await;
    assert!(!list.text.contains("?edit="), "{}", list.text);
    assert_eq!(send(&app, page(&edit, "ann@acme"), "").await.status, 403);
    assert_eq!(send(&app, page(&edit, "ann"), "").await.status, 200);
    for (name, status) in [("order.sent", 404), ("a/b", 400), ("", 400)] {
        let path = format!("{PATH}?edit={name}");
        let answer = send(&app, page(&path, "ann"), "").await;
        assert_eq!(answer.status, status, "{name}");
    }
}
