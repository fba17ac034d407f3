//! Who is let in, what they see, and whose forms are taken.

use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};
use webhook_core::{EndpointState, NewEndpoint, Tenant};

use crate::app::{Answer, App};
use crate::page::browse;

/// Lets in everybody as this one.
struct Everybody(Identity);

#[async_trait::async_trait]
impl Authorizer for Everybody {
    async fn authorize(&self, _: &http::request::Parts) -> Result<Identity, AuthRejection> {
        Ok(self.0.clone())
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

#[tokio::test]
async fn a_token_signs_in_and_out() {
    let app = App::with(Auth::bearer("s3cret").unwrap()).await;
    browse(async |page| {
        page.goto(&app.screen("")).await;
        page.fill("token", "wrong").await;
        page.press("Sign in").await;
        page.see("This is not the token").await;
        page.fill("token", "s3cret").await;
        page.press("Sign in").await;
        page.see("Most failed attempts").await;
        assert_eq!(page.url().await, app.screen(""));
        page.press("Sign out").await;
        page.field("token").await;
        page.goto(&app.screen("deliveries")).await;
        assert_eq!(page.url().await, app.screen("login"));
    })
    .await;
}

#[tokio::test]
async fn a_viewer_is_offered_nothing_and_a_form_of_theirs_is_refused() {
    let mut app = App::open().await;
    let endpoint = app.endpoint("/").await;
    app.receiver.answers("/", 400, "no");
    app.send("order.paid").await;
    app.settled().await;
    let viewer = Auth::custom(Everybody(Identity::viewer("vera")));
    let door = app.door(viewer).await;
    let (event, delivery) = {
        let newest = app.delivery().await;
        (newest.event_id, newest.id)
    };
    let own = format!("{door}/dashboard/endpoints/{}", endpoint.id);
    browse(async |page| {
        for screen in [
            "endpoints".to_owned(),
            format!("endpoints/{}", endpoint.id),
            format!("deliveries/{delivery}"),
            format!("events/{event}"),
            "dead-letters".to_owned(),
            "replays/new?status=failed".to_owned(),
            "event-types".to_owned(),
        ] {
            page.goto(&format!("{door}/dashboard/{screen}")).await;
            page.see("vera").await;
            let offers = page.count("//main//form[@method='post']").await;
            let links = "//main//a[contains(@href, '/new') or contains(@href, '/edit')]";
            assert_eq!(offers + page.count(links).await, 0, "{screen}");
        }
        page.goto(&own).await;
        let csrf = page.cookie("webhook_csrf").await;
        let answer = page
            .promised(&format!(
                "fetch('{own}/state', {{method: 'POST', body: new URLSearchParams({{csrf: '{csrf}', state: 'paused'}})}})
                    .then(async it => it.status + ' ' + await it.text())"
            ))
            .await;
        let answer = answer.as_str().unwrap();
        assert!(answer.starts_with("403 "), "{answer}");
        assert!(answer.contains("A viewer may only read"), "{answer}");
    })
    .await;
    let after = app.dispatcher.endpoints().get(endpoint.id).await.unwrap();
    assert_eq!(after.state, EndpointState::Enabled);
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_send_a_form() {
    let app = App::open().await;
    let endpoint = app.endpoint("/").await;
    let target = app.screen(&format!("endpoints/{}/state", endpoint.id));
    browse(async |page| {
        // The browser has the cookie now, and the other page even knows what is in it.
        page.goto(&app.screen("")).await;
        let csrf = page.cookie("webhook_csrf").await;
        let form = format!(
            "<title>A trap</title><form method=post action='{target}'><input name=csrf value={csrf}>\
             <input name=state value=paused><button>Win</button></form>"
        );
        let trap = Answer {
            status: 200,
            headers: vec![("content-type", b"text/html".to_vec())],
            body: form.into_bytes(),
        };
        app.receiver.answers_with("/trap", trap);
        page.goto(&app.receiver.url("/trap")).await;
        page.press("Win").await;
        page.see("This form was sent from another site").await;
    })
    .await;
    let after = app.dispatcher.endpoints().get(endpoint.id).await.unwrap();
    assert_eq!(after.state, EndpointState::Enabled);
}

#[tokio::test]
async fn a_tenants_operator_sees_and_changes_theirs_alone() {
    let mut app = App::open().await;
    let of =
        |name: &'static str| move |new: NewEndpoint| new.tenant(tenant(name)).description(name);
    let own = app.endpoint_with("/own", of("acme")).await;
    let other = app.endpoint_with("/other", of("rival")).await;
    let operator = Identity::operator("olga").within(tenant("acme"));
    let door = app.door(Auth::custom(Everybody(operator))).await;
    browse(async |page| {
        page.goto(&format!("{door}/dashboard/endpoints")).await;
        page.see("olga · acme").await;
        assert!(!page.text().await.contains("rival"));
        page.follow(&app.receiver.url("/own")).await;
        page.press("Pause").await;
        page.see("paused").await;
        page.goto(&format!("{door}/dashboard/endpoints/{}", other.id))
            .await;
        page.see("404").await;
        for screen in ["", "deliveries", "events", "audit", "event-types"] {
            page.goto(&format!("{door}/dashboard/{screen}")).await;
            assert_eq!(page.count("//main//*[@name='tenant']").await, 0, "{screen}");
            assert!(!page.text().await.contains("rival"), "{screen}");
        }
        page.goto(&format!("{door}/dashboard/deliveries?tenant=rival"))
            .await;
        page.see("403").await;
    })
    .await;
    let state = async |id| app.dispatcher.endpoints().get(id).await.unwrap().state;
    assert_eq!(state(own.id).await, EndpointState::Paused);
    assert_eq!(state(other.id).await, EndpointState::Enabled);
}
