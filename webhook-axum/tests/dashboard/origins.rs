//! Where a form may come from, and what it must know.

use axum::Router;
use http::{Method, Request, StatusCode, header};
use webhook_axum::{Auth, router};

use super::{CSRF, dispatcher, form, get, send};

const PATH: &str = "/dashboard/event-types";

/// What a browser says of where a form comes from.
type Said<'a> = &'a [(&'a str, &'a str)];

async fn status(app: &Router, said: Said<'_>, cookie: &str, field: &str) -> StatusCode {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::COOKIE, cookie);
    for (name, value) in said {
        request = request.header(*name, *value);
    }
    let body = format!("csrf={field}&name=a");
    send(app, request, &body).await.status
}

#[tokio::test]
async fn a_browser_must_say_that_a_form_is_of_this_origin() {
    let app: Router = router(dispatcher(), Auth::none());
    let cookie = format!("webhook_csrf={CSRF}");
    let cases: [(Said<'_>, u16); 10] = [
        (&[("sec-fetch-site", "same-origin")], 303),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "none")], 403),
        // Browsers leave it out on plain http; then the origin decides.
        (
            &[
                ("origin", "http://hooks.test:8000"),
                ("host", "hooks.test:8000"),
            ],
            303,
        ),
        (
            &[("origin", "http://hooks.test"), ("host", "hooks.test:8000")],
            403,
        ),
        (
            &[("origin", "http://evil.test"), ("host", "hooks.test")],
            403,
        ),
        // So it would be under a policy of no-referrer.
        (&[("origin", "null"), ("host", "hooks.test")], 403),
        (&[("host", "hooks.test")], 403),
        // What the browser adds cannot be outvoted by what a page may choose.
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://hooks.test"),
                ("host", "hooks.test"),
            ],
            403,
        ),
    ];
    for (said, expected) in cases {
        let found = status(&app, said, &cookie, CSRF).await;
        assert_eq!(found, expected, "{said:?}");
    }
}

#[tokio::test]
async fn a_form_must_repeat_what_is_in_the_cookie() {
    let app: Router = router(dispatcher(), Auth::none());
    let ours: Said<'_> = &[("sec-fetch-site", "same-origin")];
    let cookie = format!("webhook_csrf={CSRF}");
    let other = CSRF.replace('0', "1");
    assert_eq!(status(&app, ours, &cookie, CSRF).await, 303);
    assert_eq!(status(&app, ours, &cookie, &other).await, 403);
    assert_eq!(status(&app, ours, &cookie, "").await, 403);
    assert_eq!(status(&app, ours, "webhook_csrf=", "").await, 403);
    assert_eq!(status(&app, ours, "other=1", CSRF).await, 403);
}

#[tokio::test]
async fn pages_let_browsers_say_where_their_forms_come_from() {
    let app: Router = router(dispatcher(), Auth::none());
    let page = get(&app, PATH).await;
    assert_eq!(page.headers[header::REFERRER_POLICY], "same-origin");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str();
    let policy = policy.unwrap();
    for part in [
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{part}");
    }
}

#[tokio::test]
async fn a_form_is_read_no_further_than_it_may_be_long() {
    let app: Router = router(dispatcher(), Auth::bearer("s3cret").unwrap());
    let open: Router = router(dispatcher(), Auth::none());
    for (app, path, most) in [
        (&app, "/dashboard/login", 8 * 1_024),
        (&app, "/dashboard/logout", 8 * 1_024),
        (&open, "/dashboard/endpoints", 3 * 128 * 1_024),
        (&open, "/dashboard/event-types", 1_280 * 1_024),
        (&open, "/dashboard/event-types/send", 1_280 * 1_024),
    ] {
        let start = format!("csrf={CSRF}&token=");
        for (length, is_too_long) in [(most, false), (most + 1, true)] {
            let body = format!("{start}{}", "x".repeat(length - start.len()));
            let status = send(app, form(path), &body).await.status;
            let refused = status == StatusCode::PAYLOAD_TOO_LARGE;
            assert_eq!(refused, is_too_long, "{path} {length}: {status}");
        }
    }
}
