//! A browser, and what people do with it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use webhook_core::Timestamp;

/// Far longer than a page takes on a busy machine. What is waited for comes in milliseconds, or with the next look of
/// a page that follows what happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const OFTEN: Duration = Duration::from_millis(30);

pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';

/// How a browser is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    On,
    Off,
}

/// Opens a browser for as long as `work` takes. Whatever it shows, nothing may have been logged as an error or a
/// breach of the pages' policy.
pub(crate) async fn browse(work: impl AsyncFnOnce(&Page)) {
    browse_with(Script::On, work).await;
}

pub(crate) async fn browse_with(script: Script, work: impl AsyncFnOnce(&Page)) {
    let page = Page::open_browser(script).await;
    let done = AssertUnwindSafe(async {
        work(&page).await;
        page.expect_no_complaint().await;
    });
    let done = done.catch_unwind().await;
    if done.is_err() {
        page.tell().await;
    }
    page.client.close().await.unwrap();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) struct Page {
    client: Client,
}

impl Page {
    async fn open_browser(script: Script) -> Self {
        let driver = std::env::var("WEBDRIVER_URL");
        let driver = driver
            .unwrap_or_else(|_| panic!("WEBDRIVER_URL is not set: run `cargo xtask browser`"));
        let mut options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--window-size=1280,800", "--force-device-scale-factor=1", "--hide-scrollbars",
                "--lang=en-US", "--no-first-run", "--disable-background-networking",
            ],
        });
        if script == Script::Off {
            options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&driver)
            .await
            .unwrap();
        Self { client }
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub(crate) async fn url(&self) -> String {
        self.client.current_url().await.unwrap().to_string()
    }

    /// Waits until there is one, by XPath.
    pub(crate) async fn find(&self, xpath: &str) -> Element {
        let wait = self.client.wait().at_most(PATIENCE).every(OFTEN);
        let found = wait.for_element(Locator::XPath(xpath)).await;
        found.unwrap_or_else(|error| panic!("{xpath}: {error}"))
    }

    /// How many there are now.
    pub(crate) async fn count(&self, xpath: &str) -> usize {
        let found = self.client.find_all(Locator::XPath(xpath)).await;
        found.unwrap().len()
    }

    /// Waits until this stands on the page, where it can be seen.
    pub(crate) async fn see(&self, text: &str) {
        let innermost = innermost(text);
        self.find(&innermost).await;
        let found = self.client.find_all(Locator::XPath(&innermost)).await;
        for element in found.unwrap() {
            // One that a live page has just replaced is not seen, its successor is.
            if element.is_displayed().await.unwrap_or(true) {
                return;
            }
        }
        panic!("{text:?} is there, but hidden");
    }

    /// What stands on the page now, as it can be seen.
    pub(crate) async fn text(&self) -> String {
        let body = self.client.find(Locator::Css("body")).await.unwrap();
        body.text().await.unwrap()
    }

    /// Clicks the button that says so.
    pub(crate) async fn press(&self, text: &str) {
        let button = format!("//button[normalize-space()={}]", quoted(text));
        self.find(&button).await.click().await.unwrap();
    }

    /// Clicks the link that says so.
    pub(crate) async fn follow(&self, text: &str) {
        let link = format!("//a[normalize-space()={}]", quoted(text));
        self.find(&link).await.click().await.unwrap();
    }

    /// Clicks the link whose title this is: that of an id which is shown shortened.
    pub(crate) async fn follow_titled(&self, title: &str) {
        let link = format!("//a[@title={}]", quoted(title));
        self.find(&link).await.click().await.unwrap();
    }

    /// Opens what is folded under these words.
    pub(crate) async fn unfold(&self, text: &str) {
        let summary = format!("//summary[contains(normalize-space(), {})]", quoted(text));
        self.find(&summary).await.click().await.unwrap();
    }

    /// The field of this name that can be typed into.
    pub(crate) async fn field(&self, name: &str) -> Element {
        self.find(&format!(
            "//main//*[@name='{name}' and not(@type='hidden')]"
        ))
        .await
    }

    /// Types in a field what is to stand there.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        let field = self.field(name).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub(crate) async fn choose(&self, name: &str, option: &str) {
        self.field(name)
            .await
            .select_by_label(option)
            .await
            .unwrap();
    }

    /// What stands in a field.
    pub(crate) async fn value(&self, name: &str) -> String {
        let value = self.field(name).await.prop("value").await.unwrap();
        value.unwrap_or_default()
    }

    /// Presses a key, wherever the focus is.
    pub(crate) async fn key(&self, key: char) {
        let keys = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key });
        self.client.perform_actions(keys).await.unwrap();
    }

    pub(crate) async fn keys(&self, text: &str) {
        for key in text.chars() {
            self.key(key).await;
        }
    }

    /// What this function of the page's answers.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// What this promise of the page's becomes.
    pub(crate) async fn promised(&self, promise: &str) -> Value {
        let script =
            format!("const done = arguments[0]; ({promise}).then(done, it => done(String(it)))");
        self.client
            .execute_async(&script, Vec::new())
            .await
            .unwrap()
    }

    pub(crate) async fn cookie(&self, name: &str) -> String {
        let cookie = self.client.get_named_cookie(name).await.unwrap();
        cookie.value().to_owned()
    }

    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.client.screenshot().await.unwrap()
    }

    /// A command of the DevTools.
    pub(crate) async fn devtools(&self, command: &'static str, params: Value) {
        let body = json!({"cmd": command, "params": params});
        self.command("goog/cdp/execute", body).await;
    }

    /// The page has so many pixels, whatever the window takes for itself.
    pub(crate) async fn be_sized(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// The page is as wide as on a phone.
    pub(crate) async fn be_a_phone(&self) {
        self.be_sized(390, 844).await;
    }

    /// The reader likes it dark, or light.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Every page that is opened from now on takes this for the time.
    pub(crate) async fn believe(&self, now: Timestamp) {
        let script = format!(
            "{{ const now = {};
                Date.now = () => now;
                Date = new Proxy(Date, {{ construct: (of, args) => Reflect.construct(of, args.length ? args : [now]) }}); }}",
            now.as_micros() / 1_000
        );
        self.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": script}),
        )
        .await;
    }

    /// What the browser complained of since it was last asked, but for pages that were to be refused.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        let entries = log.as_array().unwrap().iter();
        // Advice for developers comes at a lower level.
        let faults =
            entries.filter(|it| ["SEVERE", "WARNING"].contains(&it["level"].as_str().unwrap()));
        let messages = faults.filter_map(|it| it["message"].as_str());
        messages
            .filter(|it| !it.contains("Failed to load resource: the server responded"))
            .map(str::to_owned)
            .collect()
    }

    async fn expect_no_complaint(&self) {
        let complaints = self.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let command = Vendor { path, body };
        self.client.issue_cmd(command).await.unwrap()
    }

    /// Where it stands, for people who look for what went wrong.
    async fn tell(&self) {
        let url = self.client.current_url().await;
        eprintln!("at {}", url.map_or_else(|it| it.to_string(), String::from));
        if let Ok(body) = self.client.find(Locator::Css("body")).await {
            eprintln!("{}", body.text().await.unwrap_or_default());
        }
    }
}

/// A command that is no part of the standard.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

/// The innermost elements with this text.
fn innermost(text: &str) -> String {
    let holds = format!("contains(normalize-space(.), {})", quoted(text));
    format!("//body//*[{holds}][not(.//*[{holds}])]")
}

/// A text in XPath, which knows no escapes.
pub(crate) fn quoted(text: &str) -> String {
    let parts: Vec<_> = text.split('"').map(|it| format!("\"{it}\"")).collect();
    match parts.len() {
        1 => parts[0].clone(),
        _ => format!("concat({})", parts.join(", '\"', ")),
    }
}
