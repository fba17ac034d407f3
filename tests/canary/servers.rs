//! The same on Postgres, and with Redis beside it: the servers that `DATABASE_URL` and `REDIS_URL` name.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use url::Url;
use webhook_delivery::testing::event_for;
use webhook_delivery::{Dispatcher, EncryptionKey, PgStore, RedisQueue, StaticKeys, Timestamp};

use super::{assert_clean, assert_nothing_shown, finds, life, without_key};

#[tokio::test]
async fn postgres_shows_no_secret() {
    let schema = Schema::new();
    let keys = StaticKeys::new(EncryptionKey::random());
    let builder = PgStore::builder().schema(&schema.0).encryption(keys);
    let builder = builder.listen_url(server("DATABASE_URL").as_str()).unwrap();
    let mut shown = vec![format!("{builder:?}")];
    let store = builder
        .connect(server("DATABASE_URL").as_str())
        .await
        .unwrap();
    shown.push(format!("{store:?}"));
    shown.extend(life(Dispatcher::builder(store)).await);
    let store = schema.with_other_key().await;
    shown.extend(without_key(Dispatcher::builder(store)).await);
    assert_clean("the database", &schema.dump().await);
    assert_nothing_shown(&shown);
}

#[tokio::test]
async fn redis_beside_postgres_shows_no_secret() {
    let schema = Schema::new();
    let keys = StaticKeys::new(EncryptionKey::random());
    let builder = PgStore::builder().schema(&schema.0).encryption(keys);
    let store = builder
        .connect(server("DATABASE_URL").as_str())
        .await
        .unwrap();
    let queue = RedisQueue::builder(server("REDIS_URL").as_str()).key_prefix(&schema.0);
    let queue = queue.connect().await.unwrap();
    let mut shown = life(Dispatcher::builder(store).queue(queue)).await;
    let redis = Redis::connect().await.dump(&schema.0).await;
    assert!(
        finds(&redis, b"default"),
        "jobs wait there, with their tenant"
    );
    assert_clean("Redis", &redis);
    let store = schema.with_other_key().await;
    shown.extend(without_key(Dispatcher::builder(store)).await);
    assert_clean("the database", &schema.dump().await);
    assert_nothing_shown(&shown);
}

fn server(name: &str) -> Url {
    let url = std::env::var(name);
    let url =
        url.unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`, or set it"));
    url.parse().unwrap()
}

/// A schema on the tests' server, which is a throwaway, and so is the schema.
struct Schema(String);

impl Schema {
    fn new() -> Self {
        let id = event_for("t", "t", "1", Timestamp::EPOCH).id;
        Self(format!("c_{}", id.simple()))
    }

    async fn with_other_key(&self) -> PgStore {
        let other = StaticKeys::new(EncryptionKey::random());
        let builder = PgStore::builder().schema(&self.0).encryption(other);
        builder
            .connect(server("DATABASE_URL").as_str())
            .await
            .unwrap()
    }

    /// Every row of every table as text, bytes as far as they are text too.
    async fn dump(&self) -> Vec<u8> {
        let url = server("DATABASE_URL");
        let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
        let escape = sqlx::query("SET bytea_output = 'escape'");
        escape.execute(&mut connection).await.unwrap();
        let tables =
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1";
        let tables = sqlx::query_scalar(tables).bind(&self.0);
        let tables: Vec<String> = tables.fetch_all(&mut connection).await.unwrap();
        assert!(tables.iter().any(|table| table == "endpoints"));
        let mut dump = String::new();
        for table in tables {
            let rows = format!("SELECT row::text FROM {}.{table} AS row", self.0);
            let rows = sqlx::query_scalar(AssertSqlSafe(rows));
            let rows: Vec<String> = rows.fetch_all(&mut connection).await.unwrap();
            dump.extend(rows);
        }
        assert!(dump.contains("order.paid"), "rows are dumped");
        dump.into()
    }
}

/// As little of a client as it takes to read keys.
struct Redis(BufReader<TcpStream>);

impl Redis {
    async fn connect() -> Self {
        let url = server("REDIS_URL");
        let address = (url.host_str().unwrap(), url.port().unwrap_or(6379));
        let mut redis = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        if let Some(password) = url.password() {
            redis.call(&[b"AUTH", password.as_bytes()]).await;
        }
        redis
    }

    /// Names and contents of the keys with this prefix.
    async fn dump(&mut self, prefix: &str) -> Vec<u8> {
        let pattern = format!("*{prefix}*");
        let keys = self.call(&[b"KEYS", pattern.as_bytes()]).await;
        assert!(!keys.is_empty());
        let mut dump = keys.concat();
        for key in keys {
            let kind = self.call(&[b"TYPE", &key]).await.concat();
            let command: &[&[u8]] = match &kind[..] {
                b"string" => &[b"GET", &key],
                b"hash" => &[b"HGETALL", &key],
                b"list" => &[b"LRANGE", &key, b"0", b"-1"],
                b"set" => &[b"SMEMBERS", &key],
                b"zset" => &[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"],
                kind => panic!("a key of type {}", String::from_utf8_lossy(kind)),
            };
            dump.extend(self.call(command).await.concat());
        }
        dump
    }

    /// The strings of the answer.
    async fn call(&mut self, command: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            let length = format!("${}\r\n", part.len());
            request.extend([length.as_bytes(), part, b"\r\n"].concat());
        }
        self.0.get_mut().write_all(&request).await.unwrap();
        let mut left = 1;
        let mut strings = Vec::new();
        while left > 0 {
            left -= 1;
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let (kind, rest) = line.trim_end().split_at(1);
            match kind {
                "*" => left += rest.parse::<usize>().unwrap(),
                "$" => {
                    let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                    self.0.read_exact(&mut bytes).await.unwrap();
                    bytes.truncate(bytes.len() - 2);
                    strings.push(bytes);
                }
                "+" | ":" => strings.push(rest.into()),
                _ => panic!("{line}"),
            }
        }
        strings
    }
}
