//! Whatever others send is text on every screen: nothing of it is run, fetched or followed.

use serde_json::{Value, json};
use webhook_axum::{Auth, AuthRejection, Authorizer, Identity};

use crate::app::App;
use crate::page::{Page, browse};
use crate::screens::{Screens, Words};

/// What would run, break out, or mislead.
const HOSTILE: [&str; 16] = [
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<a href=javascript:window.pwned=1>here</a>",
    "\" autofocus onfocus=window.pwned=1 x=\"",
    "' autofocus onfocus=window.pwned=1 x='",
    "javascript:window.pwned=1",
    "</script><script>window.pwned=1</script>",
    "</textarea><script>window.pwned=1</script>",
    "</pre></td></title><script>window.pwned=1</script>",
    "<!--",
    "{{7*7}}${7*7}{%raw%}#{7*7}",
    "&lt;b&gt;&amp;&#x3c;",
    "\u{202e}desrever\u{202c}",
    "\u{1b}[31mred\u{1b}[0m",
];

/// Who reads is called so, too.
struct Mallory;

#[async_trait::async_trait]
impl Authorizer for Mallory {
    async fn authorize(&self, _: &http::request::Parts) -> Result<Identity, AuthRejection> {
        Ok(Identity::operator(HOSTILE.join(" ")))
    }
}

fn hostile() -> Words {
    let text = HOSTILE.join(" ");
    let header = HOSTILE.into_iter().filter(|it| it.is_ascii());
    let header: Vec<_> = header.filter(|it| !it.contains('\u{1b}')).collect();
    let mut body = text.clone().into_bytes();
    body.extend(b"\0\xff\xfe\xc3\x28");
    Words {
        text,
        header: header.join(" "),
        body,
        path: format!("/{}", HOSTILE[..12].join("/")),
    }
}

/// What a page must not have, whatever it shows.
const HARM: &str = r"
    const of = (query) => [...document.querySelectorAll(query)];
    const ours = (url) => url.startsWith(location.origin + '/dashboard/');
    return {
        ran: window.pwned ?? null,
        scripts: of('script').filter(it => !ours(it.src) || it.text).map(it => it.outerHTML),
        others: of('iframe, object, embed, base, img, form:not([action]):not([role=search]), math, style')
            .map(it => it.outerHTML),
        handlers: of('*').filter(it => [...it.attributes].some(one => /^on/i.test(one.name))).map(it => it.outerHTML),
        links: of('a[href]').map(it => it.href).filter(it => !ours(it)),
        forms: of('form').map(it => new URL(it.getAttribute('action') ?? '', location).href).filter(it => !ours(it)),
    };
";

/// All that can be read of a page, also in its fields.
const READ: &str = r"
    for (const it of document.querySelectorAll('details')) it.open = true;
    const fields = [...document.querySelectorAll('input, textarea')].map(it => it.value);
    return document.body.innerText + '\n' + fields.join('\n');
";

async fn expect_no_harm(page: &Page, place: &str) {
    let harm = page.ask(HARM).await;
    let none =
        json!({"ran": null, "scripts": [], "others": [], "handlers": [], "links": [], "forms": []});
    assert_eq!(harm, none, "{place}");
    let complaints = page.complaints().await;
    assert!(complaints.is_empty(), "{place}: {complaints:#?}");
}

/// Each of them as it was sent.
async fn expect_text(page: &Page, place: &str) {
    let read = page.ask(READ).await;
    for one in HOSTILE {
        assert!(
            read.as_str().unwrap().contains(one),
            "{place} lacks {one:?}:\n{read}"
        );
    }
}

#[tokio::test]
async fn whatever_others_send_is_text_on_every_screen() {
    let screens = Screens::of(&hostile(), Auth::custom(Mallory)).await;
    browse(async |page| {
        for path in screens.paths() {
            page.goto(&screens.app.screen(&path)).await;
            expect_no_harm(page, &path).await;
            // Each says who reads.
            expect_text(page, &path).await;
        }
        // Of the other places of these words, those that show nothing else of that kind.
        let shown = async |path: &str, place: &str| {
            page.goto(&screens.app.screen(path)).await;
            page.ask(READ).await;
            let xpath = format!("//{place}[contains(., 'window.pwned')]");
            assert!(page.count(&xpath).await > 0, "{path}: no {place}");
        };
        let Screens {
            endpoint,
            event,
            delivery,
            ..
        } = &screens;
        shown("endpoints", "td").await;
        shown(&format!("endpoints/{endpoint}"), "main//p").await;
        shown(&format!("endpoints/{endpoint}"), "dd").await;
        shown(&format!("endpoints/{endpoint}/edit"), "textarea").await;
        shown(&format!("events/{event}"), "pre").await;
        shown(&format!("deliveries/{delivery}"), "dd").await;
        shown(&format!("deliveries/{delivery}"), "pre").await;
        shown("event-types", "main//pre").await;
        shown("replays", "td").await;
    })
    .await;
}

#[tokio::test]
async fn whatever_is_typed_comes_back_as_text() {
    let screens = Screens::of(&hostile(), Auth::none()).await;
    let all = HOSTILE.join(" ");
    browse(async |page| {
        for path in ["deliveries", "events", "audit"] {
            for field in ["event_type", "q", "actor", "endpoint_id", "tenant", "status", "cursor"] {
                let url = url::Url::parse_with_params(&screens.app.screen(path), [(field, &*all)]);
                page.goto(url.unwrap().as_str()).await;
                expect_no_harm(page, &format!("{path}?{field}")).await;
            }
        }
        page.goto(&screens.app.screen(&format!("endpoints/{}", HOSTILE[0])))
            .await;
        expect_no_harm(page, "no such endpoint").await;

        page.goto(&screens.app.screen("endpoints/new")).await;
        // As it would come from a form without the checks of a browser.
        let fill = format!(
            "for (const it of document.querySelectorAll('main input:not([type=hidden]):not([type=checkbox]), main textarea')) {{
                 it.type === 'url' && (it.type = 'text');
                 it.value = {};
             }}",
            Value::from(all.clone())
        );
        page.ask(&fill).await;
        page.press("Create").await;
        page.find("//*[@role='alert']").await;
        expect_no_harm(page, "a refused endpoint").await;
        expect_text(page, "a refused endpoint").await;

        page.goto(&screens.app.screen("event-types")).await;
        page.fill("name", "<b>x").await;
        page.press("Save").await;
        page.find("//*[@role='alert']").await;
        expect_no_harm(page, "a refused event type").await;

        let endpoint = format!("endpoints/{}", screens.endpoint);
        page.goto(&screens.app.screen(&endpoint)).await;
        page.press("Send a test").await;
        page.see("HTTP 400").await;
        expect_no_harm(page, "a test").await;
        expect_text(page, "a test").await;
    })
    .await;
}

#[tokio::test]
async fn what_is_injected_all_the_same_is_not_run() {
    let screens = Screens::of(&hostile(), Auth::none()).await;
    browse(async |page| {
        page.goto(&screens.app.screen("")).await;
        let inject = "
            const script = document.createElement('script');
            script.textContent = 'window.pwned = 1';
            document.body.append(script);
            const image = document.createElement('div');
            image.innerHTML = '<img src=\"data:,\" onerror=\"window.pwned = 2\">';
            const frame = document.createElement('iframe');
            frame.srcdoc = '<script>parent.pwned = 3</script>';
            document.body.append(image, frame);
            return new Promise(done => image.firstChild.addEventListener('error', () => done(window.pwned ?? null)))";
        assert_eq!(page.ask(inject).await, Value::Null);
        let complaints = page.complaints().await.join("\n");
        assert!(complaints.contains("Content Security Policy"), "{complaints}");
    })
    .await;
}

#[tokio::test]
async fn long_names_leave_room_for_what_is_beside_them_and_a_phone_shows_where_it_is() {
    let app = App::open().await;
    app.endpoint("/in").await;
    app.send(&"a".repeat(128)).await;
    app.settled().await;
    browse(async |page| {
        page.be_sized(1_280, 900).await;
        page.goto(&app.screen("deliveries")).await;
        page.see("Deliveries, newest first").await;
        let fits = "const it = document.querySelector('.scroll'); return it.scrollWidth <= it.clientWidth";
        assert_eq!(page.ask(fits).await, true);

        page.be_a_phone().await;
        page.goto(&app.screen("audit")).await;
        page.see("Entries, newest first").await;
        let is_seen = "return document.querySelector('nav [aria-current]').getBoundingClientRect().right <= innerWidth";
        assert_eq!(page.ask(is_seen).await, true);
    })
    .await;
}
