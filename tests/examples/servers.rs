//! The examples on Postgres and Redis: the servers that `DATABASE_URL` and `REDIS_URL` name.

use axum::http::StatusCode;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use url::Url;
use webhook_delivery::Timestamp;
use webhook_delivery::testing::event_for;

use super::{
    EVENT, Inbox, KEY, Program, TOKEN, client, example, holds_together, json_of, output,
    platform_on, within,
};

#[tokio::test]
async fn an_order_and_its_webhook_are_one_transaction_on_postgres() {
    let database = Database::create().await;
    let output = output(example("transactional").env("DATABASE_URL", database.url.as_str())).await;
    holds_together(&output);
    database.remove().await;
}

#[tokio::test]
async fn processes_on_one_postgres_share_the_work_and_outlive_each_other() {
    let (database, mut inbox) = (Database::create().await, Inbox::open().await);
    let start = async |role| {
        let mut command = platform_on(database.url.as_str());
        Program::start(command.envs([("ENCRYPTION_KEY", KEY), ("ROLE", role)])).await
    };
    let api = start("api").await;
    let accepted = api.accept_event_for(&inbox).await;
    api.kill().await;
    let (api, worker) = (start("api").await, start("worker").await);
    inbox.takes(&accepted).await;
    inbox.takes(&api.post("/events", EVENT).await).await;
    for program in [api, worker] {
        program.terminate().await;
        let (code, log) = program.end().await;
        assert_eq!(code, Some(0), "{log}");
    }
    database.remove().await;
}

#[tokio::test]
async fn without_redis_events_are_accepted_and_without_postgres_none_is() {
    let (database, mut inbox) = (Database::create().await, Inbox::open().await);
    let postgres = Link::to(&database.url, 5432).await;
    let redis = Link::to(&server("REDIS_URL"), 6379).await;
    let platform = Program::start(&mut beside_redis(&postgres.url, &redis.url)).await;
    let accepted = platform.accept_event_for(&inbox).await;
    inbox.takes(&accepted).await;

    redis.set_up(false);
    within(async { while platform.queue_state().await != "degraded" {} }).await;
    let accepted = platform.post("/events", EVENT).await;
    redis.set_up(true);
    inbox.takes(&accepted).await;

    postgres.set_up(false);
    assert_eq!(platform.get("/ready").await.0, 503);
    let (status, answer) = platform.try_post("/events", EVENT).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &Value::from("unavailable"))
    );
    postgres.set_up(true);
    within(async { while platform.get("/ready").await.0 != 200 {} }).await;
    // Another connection may hear only now that it was cut.
    let accepted = within(async {
        loop {
            let (status, answer) = platform.try_post("/events", EVENT).await;
            if status == 202 {
                return answer;
            }
            assert_eq!(status, 503, "{answer}");
        }
    });
    let accepted = accepted.await;
    inbox.takes(&accepted).await;

    platform.kill().await;
    database.remove().await;
}

/// The platform on both. No other test uses this server's queue of the platform.
fn beside_redis(postgres: &Url, redis: &Url) -> Command {
    let mut command = platform_on(postgres.as_str());
    command.envs([
        ("ENCRYPTION_KEY", "plaintext"),
        ("REDIS_URL", redis.as_str()),
    ]);
    command
}

fn server(name: &str) -> Url {
    let url = std::env::var(name);
    let url =
        url.unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`, or set it"));
    url.parse().unwrap()
}

/// A new database on the tests' server.
struct Database {
    name: String,
    url: Url,
}

impl Database {
    async fn create() -> Self {
        let id = event_for("t", "t", "1", Timestamp::EPOCH).id;
        let name = format!("examples_{}", id.simple());
        run_sql(format!("CREATE DATABASE {name}")).await;
        let mut url = server("DATABASE_URL");
        url.set_path(&name);
        Self { name, url }
    }

    async fn remove(self) {
        run_sql(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn run_sql(text: String) {
    let url = server("DATABASE_URL");
    let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
    connection.execute(AssertSqlSafe(text)).await.unwrap();
}

/// A way to a server that can be cut.
struct Link {
    url: Url,
    is_up: watch::Sender<bool>,
}

impl Link {
    async fn to(server: &Url, default_port: u16) -> Self {
        let host = server.host_str().unwrap().to_owned();
        let port = server.port().unwrap_or(default_port);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        let (sender, is_up) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, (host.clone(), port), is_up.clone()));
            }
        });
        Self { url, is_up: sender }
    }

    fn set_up(&self, is_up: bool) {
        self.is_up.send(is_up).unwrap();
    }
}

/// Until the link is cut.
async fn forward(mut client: TcpStream, server: (String, u16), mut is_up: watch::Receiver<bool>) {
    if !*is_up.borrow_and_update() {
        return;
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = is_up.wait_for(|is_up| !is_up) => {}
    }
}

impl Inbox {
    /// The next webhook is that of an accepted event.
    async fn takes(&mut self, accepted: &Value) {
        let (webhook, answer) = self.next().await;
        answer.send(StatusCode::OK).unwrap();
        assert_eq!(webhook.id, accepted["event_id"]);
    }
}

impl Program {
    async fn get(&self, path: &str) -> (u16, Value) {
        let request = client()
            .get(format!("{}{path}", self.url))
            .bearer_auth(TOKEN);
        let answer = within(request.send()).await.unwrap();
        json_of(answer).await
    }

    async fn queue_state(&self) -> Value {
        let (status, ready) = self.get("/ready").await;
        assert_eq!(status, 200, "{ready}");
        ready["queue"].clone()
    }
}
